#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/buf.h"
#include "fibp/wire.h"
#include "hook/hook.h"

extern const struct hook_module header_key_module;

static const struct hook_module *const modules[] = {&header_key_module, NULL};

static const struct hook_services no_services;

struct fixture {
    struct conf *conf;
    struct hook_set *set;
};

/* With the configuration as an operator writes it. */
static void start(struct fixture *fixture, const char *yaml)
{
    struct conf_section section;
    struct conf_errors errors;
    struct err err;

    conf_errors_init(&errors);
    assert_int_equal(hook_sections(modules, &section, 1), 1);
    fixture->conf = conf_load("/dev/null", NULL, yaml, &section, 1, &errors);
    if (!fixture->conf)
        fail_msg("%s", conf_errors_text(&errors));
    fixture->set = hook_set_create(modules, fixture->conf, &no_services, &err);
    assert_non_null(fixture->set);
    conf_errors_free(&errors);
}

static void stop(struct fixture *fixture)
{
    hook_set_destroy(fixture->set);
    conf_free(fixture->conf);
}

/* The verdict on a message with these headers. */
static struct hook_verdict ask(const struct fixture *fixture, const struct wire_pair *pairs,
                               size_t count)
{
    static struct buf map;
    struct hook_memory memory = {NULL};
    struct hook_verdict verdict;

    buf_free(&map);
    wire_put_map(&map, pairs, count);
    struct hook_message message = {
        .queue = STR("orders"), .headers = buf_str(&map), .header_count = (uint16_t)count};
    hook_set_on_enqueue(fixture->set, &message, &memory, &verdict);
    assert_int_equal(verdict.throttle_count, 0);
    assert_null(memory.pool);
    return verdict;
}

static void test_key_and_weight(void **state)
{
    const struct wire_pair headers[] = {
        {STR("other"), STR("x")}, {STR("tenant"), STR("acme")}, {STR("weight"), STR("3")}};
    struct fixture fixture;

    (void)state;
    start(&fixture, "header_key: {fairness: tenant, weight: weight}");
    struct hook_verdict verdict = ask(&fixture, headers, 3);
    assert_true(str_equal(verdict.fairness_key, STR("acme")));
    assert_int_equal(verdict.weight, 3);
    verdict = ask(&fixture, NULL, 0);
    assert_true(str_equal(verdict.fairness_key, STR("default")));
    assert_int_equal(verdict.weight, 1);
    stop(&fixture);
}

static void test_weights(void **state)
{
    static const struct {
        const char *text;
        uint32_t weight;
    } cases[] = {
        {"0", 0},           {"1", 1},   {"007", 7}, {"4294967295", 4294967295u},
        {"4294967296", 1},  {"", 1},    {"-1", 1},  {"+1", 1},
        {" 2", 1},          {"2 ", 1},  {"2.5", 1}, {"0x10", 1},
        {"99999999999", 1}, {"two", 1},
    };
    struct fixture fixture;

    (void)state;
    start(&fixture, "header_key: {weight: w}");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct wire_pair header = {STR("w"), str_from_c(cases[i].text)};
        assert_int_equal(ask(&fixture, &header, 1).weight, cases[i].weight);
    }
    stop(&fixture);
}

static void test_key_lengths(void **state)
{
    static uint8_t key[HOOK_KEY_MAX + 1];
    struct fixture fixture;

    (void)state;
    memset(key, 'k', sizeof(key));
    start(&fixture, "header_key: {fairness: tenant}");
    struct wire_pair header = {STR("tenant"), str_of(key, HOOK_KEY_MAX)};
    assert_int_equal(ask(&fixture, &header, 1).fairness_key.size, HOOK_KEY_MAX);
    header.value = str_of(key, HOOK_KEY_MAX + 1);
    assert_true(str_equal(ask(&fixture, &header, 1).fairness_key, STR("default")));
    header.value = STR("");
    assert_int_equal(ask(&fixture, &header, 1).fairness_key.size, 0);
    stop(&fixture);
}

static void test_without_configuration(void **state)
{
    const struct wire_pair headers[] = {{STR("tenant"), STR("acme")}, {STR("weight"), STR("3")}};
    struct fixture fixture;

    (void)state;
    start(&fixture, "daemon: false");
    struct hook_verdict verdict = ask(&fixture, headers, 2);
    assert_true(str_equal(verdict.fairness_key, STR("default")));
    assert_int_equal(verdict.weight, 1);
    stop(&fixture);
}

/* The last of duplicates counts. */
static void test_duplicate_header(void **state)
{
    const struct wire_pair headers[] = {{STR("tenant"), STR("a")}, {STR("tenant"), STR("b")}};
    struct fixture fixture;

    (void)state;
    start(&fixture, "header_key: {fairness: tenant}");
    assert_true(str_equal(ask(&fixture, headers, 2).fairness_key, STR("b")));
    stop(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_and_weight),   cmocka_unit_test(test_weights),
        cmocka_unit_test(test_key_lengths),      cmocka_unit_test(test_without_configuration),
        cmocka_unit_test(test_duplicate_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
