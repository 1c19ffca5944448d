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

static const struct hook_services no_services;
static const struct hook_signature signature = HOOK_SIGNATURE;
static struct hook_signature old_signature; /* one with the version before */
static char journal[64];

static int alpha_init(const void *conf, const struct conf *all,
                      const struct hook_services *services, void **state, struct err *err)
{
    (void)all;
    assert_non_null(services->modules);
    assert_null(services->statistics);
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

static struct str beta_key, beta_reason;
static uint64_t beta_delay_ms;
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
    verdict->rejected = beta_reason;
    verdict->delay_ms = beta_delay_ms;
}

static uint64_t beta_gone, beta_ticks;

static void beta_on_failure(void *state, const struct hook_failure *failure,
                            struct hook_decision *decision)
{
    (void)state;
    assert_int_equal(decision->action, HOOK_RETRY);
    decision->action = failure->attempts > 2 ? HOOK_DEAD_LETTER : HOOK_RETRY;
    decision->delay_ms = beta_delay_ms;
}

static int beta_check_script(void *state, enum hook_script which, struct str source,
                             struct err *err)
{
    (void)state;
    assert_int_equal(which, HOOK_ON_FAILURE);
    return str_equal(source, STR("good")) ? 0 : err_set(err, 0, "line 1: bad");
}

static void beta_queue_gone(void *state, uint64_t queue_id)
{
    (void)state;
    beta_gone = queue_id;
}

static void beta_tick(void *state, uint64_t now_ms)
{
    (void)state;
    beta_ticks += now_ms;
}

static int failing_init(const void *conf, const struct conf *all,
                        const struct hook_services *services, void **state, struct err *err)
{
    (void)all;
    (void)services;
    (void)state;
    assert_null(conf);
    return err_set(err, 0, "no");
}

static const struct hook_module alpha = {
    .signature = &signature,
    .name = "alpha",
    .section = "alpha",
    .keys = keys,
    .conf_size = sizeof(struct settings),
    .init = alpha_init,
    .on_enqueue = alpha_on_enqueue,
    .exit = alpha_exit,
};
static const struct hook_module beta = {
    .signature = &signature,
    .name = "beta",
    .on_enqueue = beta_on_enqueue,
    .on_failure = beta_on_failure,
    .check_script = beta_check_script,
    .queue_gone = beta_queue_gone,
    .tick = beta_tick,
};
static void rejecting_on_enqueue(void *state, const struct hook_message *message,
                                 struct hook_memory *memory, struct hook_verdict *verdict)
{
    (void)state;
    (void)message;
    (void)memory;
    verdict->rejected = STR("no");
}

static const struct hook_module rejecting = {
    .signature = &signature, .name = "rejecting", .on_enqueue = rejecting_on_enqueue};
static const struct hook_module failing = {
    .signature = &signature, .name = "failing", .init = failing_init};
static const struct hook_module old = {.signature = &old_signature, .name = "old"};

static char word[] = "acme";
static struct settings settings = {.word = word};
static void *filled[] = {&settings};
static const struct conf conf = {.modules = filled};

static int setup(void **state)
{
    (void)state;
    journal[0] = '\0';
    beta_key = beta_reason = (struct str){NULL, 0};
    beta_delay_ms = 0;
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
    struct hook_set *set = hook_set_create(modules, &conf, &no_services, &err);

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

/* Nobody after the one that rejects is asked. */
static void test_rejection(void **state)
{
    static uint8_t text[HOOK_REASON_MAX + 10];
    struct hook_memory memory = {NULL};

    (void)state;
    assert_null(ask(&memory).rejected.data);
    memset(text, 'r', sizeof(text));
    beta_reason = str_of(text, sizeof(text));
    assert_int_equal(ask(&memory).rejected.size, HOOK_REASON_MAX);
    beta_reason = STR("\xff");
    assert_true(str_equal(ask(&memory).rejected, STR("rejected")));
    const struct hook_module *const modules[] = {&rejecting, &alpha, NULL};
    struct hook_message message = {.queue = STR("orders")};
    struct hook_verdict verdict;
    struct err err;
    struct hook_set *set = hook_set_create(modules, &conf, &no_services, &err);
    assert_non_null(set);
    hook_set_on_enqueue(set, &message, &memory, &verdict);
    assert_true(str_equal(verdict.rejected, STR("no")));
    assert_int_equal(verdict.weight, 1);
    hook_set_destroy(set);
    hook_memory_free(&memory);
}

static void test_delays_are_bounded(void **state)
{
    const struct hook_module *const modules[] = {&beta, NULL};
    struct hook_memory memory = {NULL};
    struct hook_failure failure = {.attempts = 3};
    struct hook_decision decision;
    struct err err;

    (void)state;
    beta_delay_ms = UINT64_MAX;
    assert_int_equal(ask(&memory).delay_ms, HOOK_DELAY_MAX_MS);
    hook_memory_free(&memory);
    struct hook_set *set = hook_set_create(modules, &conf, &no_services, &err);
    assert_non_null(set);
    hook_set_on_failure(set, &failure, &decision);
    assert_int_equal(decision.action, HOOK_DEAD_LETTER);
    assert_int_equal(decision.delay_ms, HOOK_DELAY_MAX_MS);
    failure.attempts = 1;
    hook_set_on_failure(set, &failure, &decision);
    assert_int_equal(decision.action, HOOK_RETRY);
    hook_set_queue_gone(set, 7);
    assert_int_equal(beta_gone, 7);
    hook_set_tick(set, 5);
    assert_int_equal(beta_ticks, 5);
    hook_set_destroy(set);
}

static void test_scripts_need_somebody_who_knows_them(void **state)
{
    const struct hook_module *const deaf[] = {&alpha, NULL};
    const struct hook_module *const modules[] = {&alpha, &beta, NULL};
    struct err err;

    (void)state;
    struct hook_set *set = hook_set_create(deaf, &conf, &no_services, &err);
    assert_int_equal(hook_set_check_script(set, HOOK_ON_FAILURE, STR("good"), &err), -1);
    assert_string_equal(err.text, "this build has no Lua module");
    hook_set_destroy(set);
    set = hook_set_create(modules, &conf, &no_services, &err);
    assert_int_equal(hook_set_check_script(set, HOOK_ON_FAILURE, STR("good"), &err), 0);
    assert_int_equal(hook_set_check_script(set, HOOK_ON_FAILURE, STR("other"), &err), -1);
    assert_string_equal(err.text, "line 1: bad");
    hook_set_destroy(set);
}

static void test_failures(void **state)
{
    const struct hook_module *const broken[] = {&alpha, &failing, NULL};
    const struct hook_module *const outdated[] = {&alpha, &old, NULL};
    struct err err;

    (void)state;
    assert_null(hook_set_create(broken, &conf, &no_services, &err));
    assert_string_equal(err.text, "module failing: no");
    assert_string_equal(journal, "+a-a");
    old_signature = signature;
    old_signature.version--;
    assert_null(hook_set_create(outdated, &conf, &no_services, &err));
    assert_non_null(strstr(err.text, "old"));
    hook_set_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_sections, setup),
        cmocka_unit_test_setup(test_modules_are_asked_in_order, setup),
        cmocka_unit_test_setup(test_limits, setup),
        cmocka_unit_test_setup(test_rejection, setup),
        cmocka_unit_test_setup(test_delays_are_bounded, setup),
        cmocka_unit_test_setup(test_scripts_need_somebody_who_knows_them, setup),
        cmocka_unit_test_setup(test_failures, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
