#include "hook/hook.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

struct settings {
    char *word;
};

static const struct schema_key keys[] = {
    {.name = "word", .type = SCHEMA_STRING, .offset = offsetof(struct settings, word)},
    {.type = SCHEMA_END},
};

static char journal[64];

static int alpha_init(const void *conf, void **state, struct err *err)
{
    (void)err;
    strcat(journal, "+a");
    *state = ((const struct settings *)conf)->word;
    return 0;
}

static void alpha_on_enqueue(void *state, const struct hook_message *message,
                             struct hook_memory *memory, struct hook_verdict *verdict)
{
    struct str *throttles = hook_alloc(memory, 2 * sizeof(*throttles));

    assert_non_null(throttles);
    assert_true(str_equal(message->queue, STR("orders")));
    assert_true(str_equal(verdict->fairness_key, STR("default")));
    assert_int_equal(verdict->weight, 1);
    throttles[0] = STR("one");
    throttles[1] = STR("two");
    verdict->fairness_key = str_from_c(state);
    verdict->weight = 5;
    verdict->throttle_keys = throttles;
    verdict->throttle_count = 2;
}

static void alpha_exit(void *state)
{
    (void)state;
    strcat(journal, "-a");
}

static struct str beta_key;
static uint16_t beta_throttles;

static void beta_on_enqueue(void *state, const struct hook_message *message,
                            struct hook_memory *memory, struct hook_verdict *verdict)
{
    (void)message;
    (void)memory;
    assert_null(state);
    assert_int_equal(verdict->weight, 5); /* what alpha said */
    if (beta_key.data)
        verdict->fairness_key = beta_key;
    if (beta_throttles)
        verdict->throttle_count = beta_throttles;
}

static int failing_init(const void *conf, void **state, struct err *err)
{
    (void)state;
    assert_null(conf);
    return err_set(err, 0, "no");
}

static const struct hook_module alpha = {
    .version = HOOK_VERSION,
    .name = "alpha",
    .section = "alpha",
    .keys = keys,
    .conf_size = sizeof(struct settings),
    .init = alpha_init,
    .on_enqueue = alpha_on_enqueue,
    .exit = alpha_exit,
};
static const struct hook_module beta = {
    .version = HOOK_VERSION, .name = "beta", .on_enqueue = beta_on_enqueue};
static const struct hook_module failing = {
    .version = HOOK_VERSION, .name = "failing", .init = failing_init};
static const struct hook_module old = {.version = HOOK_VERSION + 1, .name = "old"};

static char word[] = "acme";
static struct settings settings = {.word = word};
static void *filled[] = {&settings};
static const struct conf conf = {.modules = filled};

static int setup(void **state)
{
    (void)state;
    journal[0] = '\0';
    beta_key = (struct str){NULL, 0};
    beta_throttles = 0;
    return 0;
}

static void test_sections(void **state)
{
    const struct hook_module *const modules[] = {&beta, &alpha, NULL};
    struct conf_section section;

    (void)state;
    assert_int_equal(hook_sections(modules, NULL, 0), 1);
    assert_int_equal(hook_sections(modules, &section, 1), 1);
    assert_string_equal(section.name, "alpha");
    assert_ptr_equal(section.keys, keys);
    assert_int_equal(section.struct_size, sizeof(struct settings));
}

static struct hook_verdict ask(struct hook_memory *memory)
{
    const struct hook_module *const modules[] = {&alpha, &beta, NULL};
    struct hook_message message = {.queue = STR("orders")};
    struct hook_verdict verdict;
    struct err err;
    struct hook_set *set = hook_set_create(modules, &conf, &err);

    assert_non_null(set);
    hook_set_on_enqueue(set, &message, memory, &verdict);
    hook_set_destroy(set);
    return verdict;
}

static void test_modules_are_asked_in_order(void **state)
{
    struct hook_memory memory = {NULL};
    struct hook_verdict verdict = ask(&memory);

    (void)state;
    assert_true(str_equal(verdict.fairness_key, STR("acme")));
    assert_int_equal(verdict.weight, 5);
    assert_int_equal(verdict.throttle_count, 2);
    assert_true(str_equal(verdict.throttle_keys[1], STR("two")));
    hook_memory_free(&memory);
    assert_string_equal(journal, "+a-a");
}

static void test_limits(void **state)
{
    static uint8_t long_key[HOOK_KEY_MAX + 1];
    struct hook_memory memory = {NULL};

    (void)state;
    memset(long_key, 'k', sizeof(long_key));
    beta_key = str_of(long_key, sizeof(long_key));
    assert_true(str_equal(ask(&memory).fairness_key, STR("default")));
    beta_key = str_of(long_key, HOOK_KEY_MAX);
    assert_int_equal(ask(&memory).fairness_key.size, HOOK_KEY_MAX);
    beta_key = STR("\xff");
    assert_true(str_equal(ask(&memory).fairness_key, STR("default")));
    beta_key = STR("");
    assert_int_equal(ask(&memory).fairness_key.size, 0);
    beta_throttles = HOOK_THROTTLES_MAX + 1;
    assert_int_equal(ask(&memory).throttle_count, 0);
    hook_memory_free(&memory);
}

static void test_failures(void **state)
{
    const struct hook_module *const broken[] = {&alpha, &failing, NULL};
    const struct hook_module *const outdated[] = {&alpha, &old, NULL};
    struct err err;

    (void)state;
    assert_null(hook_set_create(broken, &conf, &err));
    assert_string_equal(err.text, "module failing: no");
    assert_string_equal(journal, "+a-a");
    assert_null(hook_set_create(outdated, &conf, &err));
    assert_non_null(strstr(err.text, "old"));
    hook_set_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_sections, setup),
        cmocka_unit_test_setup(test_modules_are_asked_in_order, setup),
        cmocka_unit_test_setup(test_limits, setup),
        cmocka_unit_test_setup(test_failures, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
