#include "unit/modules/scripted.h"

#include "unit/page.h"

/* The scripts that filad-lua(7) shows are those that run here, in its order. */

#define EXAMPLES_MAX 16

struct manual {
    char *page;
    char *examples[EXAMPLES_MAX];
    size_t count, next;
    struct scripted scripted;
};

static void take_examples(struct manual *manual)
{
    static const char begin[] = ".Bd -literal -offset indent\n", end[] = ".Ed\n";
    char *at = strstr(manual->page, ".Sh EXAMPLES\n");

    assert_non_null(at);
    while ((at = strstr(at, begin)) != NULL) {
        char *last = strstr(at, end);

        assert_non_null(last);
        assert_in_range(manual->count, 0, EXAMPLES_MAX - 1);
        at += sizeof(begin) - 1;
        *last = 0;
        assert_null(strchr(at, '\\')); /* nothing that mandoc would show in another way */
        manual->examples[manual->count++] = at;
        at = last + 1;
    }
}

static int set_up(void **state)
{
    struct manual *manual = calloc(1, sizeof(*manual));

    assert_non_null(manual);
    manual->page = page_read("man/filad-lua.7");
    take_examples(manual);
    scripted_start(&manual->scripted, "");
    *state = manual;
    return 0;
}

static int tear_down(void **state)
{
    struct manual *manual = *state;

    scripted_stop(&manual->scripted);
    free(manual->page);
    free(manual);
    return 0;
}

/* Makes the next example the queue's script, after the check that CreateQueue makes. */
static struct scripted *next_example(struct manual *manual, enum hook_script which)
{
    struct err err;

    assert_in_range(manual->next, 0, manual->count - 1);
    const char *source = manual->examples[manual->next++];
    if (hook_set_check_script(manual->scripted.set, which, str_from_c(source), &err) < 0)
        fail_msg("%s:\n%s", err.text, source);
    scripted_script(&manual->scripted, which, source);
    return &manual->scripted;
}

/* Enqueues a message with headers "name", "value", ..., NULL and expects a key. */
static struct hook_verdict enqueue(struct scripted *scripted, const char *const *headers,
                                   const char *key)
{
    scripted_headers(scripted, headers);
    struct hook_verdict verdict = scripted_enqueue(scripted);
    assert_false(verdict.failed);
    if (!str_equal(verdict.fairness_key, str_from_c(key)))
        fail_msg("%.*s and not %s", STR_PRINT(verdict.fairness_key), key);
    return verdict;
}

#define HEADERS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NO_HEADERS ((const char *const[]){NULL})

static void expect_throttle(const struct hook_verdict *verdict, uint16_t index, const char *key)
{
    assert_true(str_equal(verdict->throttle_keys[index], str_from_c(key)));
}

static void check_fairness(struct manual *manual)
{
    struct scripted *scripted = next_example(manual, HOOK_ON_ENQUEUE);
    struct hook_verdict verdict;

    enqueue(scripted, HEADERS("tenant", "acme"), "acme");
    enqueue(scripted, NO_HEADERS, "unknown");

    scripted = next_example(manual, HOOK_ON_ENQUEUE);
    verdict = enqueue(scripted, HEADERS("tenant", "a", "tier", "premium"), "a");
    assert_int_equal(verdict.weight, 10);
    verdict = enqueue(scripted, HEADERS("tenant", "a", "tier", "other"), "a");
    assert_int_equal(verdict.weight, 1);
    assert_int_equal(enqueue(scripted, NO_HEADERS, "default").weight, 1);

    scripted = next_example(manual, HOOK_ON_ENQUEUE);
    assert_int_equal(enqueue(scripted, HEADERS("tenant", "acme"), "acme").weight, 1);
    scripted->config[0][0] = "weight.acme";
    scripted->config[0][1] = "5";
    assert_int_equal(enqueue(scripted, HEADERS("tenant", "acme"), "acme").weight, 5);
    assert_int_equal(enqueue(scripted, NO_HEADERS, "unknown").weight, 1);
}

static void check_throttling(struct manual *manual)
{
    struct scripted *scripted = next_example(manual, HOOK_ON_ENQUEUE);
    struct hook_verdict verdict;

    verdict = enqueue(scripted, HEADERS("tenant", "a", "provider", "stripe"), "a");
    assert_int_equal(verdict.throttle_count, 1);
    expect_throttle(&verdict, 0, "provider:stripe");
    verdict = enqueue(scripted, HEADERS("tenant", "a"), "a");
    assert_int_equal(verdict.throttle_count, 0);

    scripted = next_example(manual, HOOK_ON_ENQUEUE);
    verdict = enqueue(scripted, HEADERS("tenant", "a", "provider", "p", "region", "eu"), "a");
    assert_int_equal(verdict.throttle_count, 3);
    expect_throttle(&verdict, 0, "tenant:a");
    expect_throttle(&verdict, 1, "provider:p");
    expect_throttle(&verdict, 2, "route:eu:p");
    verdict = enqueue(scripted, HEADERS("provider", "p"), "default");
    assert_int_equal(verdict.throttle_count, 1);
    expect_throttle(&verdict, 0, "provider:p");
}

static struct hook_decision fail_with(struct scripted *scripted, uint32_t attempts,
                                      const char *error)
{
    scripted->failure.attempts = attempts;
    scripted->failure.error = str_from_c(error);
    struct hook_decision decision = scripted_fail(scripted);
    assert_false(decision.failed);
    return decision;
}

static void check_failures(struct manual *manual)
{
    struct scripted *scripted = next_example(manual, HOOK_ON_FAILURE);
    struct hook_decision decision;

    decision = fail_with(scripted, 1, "x");
    assert_int_equal(decision.action, HOOK_RETRY);
    assert_in_range(decision.delay_ms, 750, 1250);
    assert_in_range(fail_with(scripted, 4, "x").delay_ms, 6000, 10000);
    assert_in_range(fail_with(scripted, 9, "x").delay_ms, 192000, 320000);
    assert_int_equal(fail_with(scripted, 10, "x").action, HOOK_DEAD_LETTER);

    scripted = next_example(manual, HOOK_ON_FAILURE);
    assert_int_equal(fail_with(scripted, 1, "timeout").action, HOOK_RETRY);
    assert_int_equal(fail_with(scripted, 5, "timeout").action, HOOK_DEAD_LETTER);
    assert_int_equal(fail_with(scripted, 1, "invalid address").action, HOOK_DEAD_LETTER);
    assert_int_equal(fail_with(scripted, 1, "answer: status 404").action, HOOK_DEAD_LETTER);
    assert_int_equal(fail_with(scripted, 1, "answer: status 503").action, HOOK_RETRY);
}

static void check_flags(struct manual *manual)
{
    struct scripted *scripted = next_example(manual, HOOK_ON_ENQUEUE);
    static uint8_t payload[1000001];
    struct hook_verdict verdict;

    memset(scripted->config, 0, sizeof(scripted->config));
    assert_int_equal(enqueue(scripted, HEADERS("kind", "import"), "import").delay_ms, 0);
    scripted->config[0][0] = "flag.hold_imports";
    scripted->config[0][1] = "on";
    assert_int_equal(enqueue(scripted, HEADERS("kind", "import"), "import").delay_ms, 3600000);
    assert_int_equal(enqueue(scripted, HEADERS("kind", "mail"), "mail").delay_ms, 0);
    scripted->message.payload = str_of(payload, sizeof(payload));
    verdict = enqueue(scripted, HEADERS("kind", "import"), "default");
    assert_true(str_equal(verdict.rejected, STR("no large imports at present")));
}

static void test_examples(void **state)
{
    struct manual *manual = *state;

    check_fairness(manual);
    check_throttling(manual);
    check_failures(manual);
    check_flags(manual);
    assert_int_equal(manual->next, manual->count);
}

/* Every function that the page names is there. */
static void test_functions(void **state)
{
    struct manual *manual = *state;
    char *page = page_read("man/filad-lua.7");
    char *end = strstr(page, ".Sh LIMITS"), *at = strstr(page, ".Sh FUNCTIONS");
    struct buf source;
    size_t count = 0;
    struct err err;

    assert_non_null(end);
    assert_non_null(at);
    buf_init(&source, 0);
    *end = 0;
    for (; (at = strstr(at, "\n.It Fn fila.")) != NULL; at++, count++)
        buf_printf(&source, "assert(type(%.*s) == 'function') ",
                   (int)strcspn(at + strlen("\n.It Fn "), " \n"), at + strlen("\n.It Fn "));
    assert_int_equal(count, 7);
    at = strstr(page, ".It base");
    end = strstr(at, ".It Va string");
    assert_non_null(end);
    *end = 0;
    for (count = 0; (at = strstr(at, "\n.Fn ")) != NULL; at++, count++)
        buf_printf(&source, "assert(type(%.*s) == 'function') ",
                   (int)strcspn(at + strlen("\n.Fn "), " \n"), at + strlen("\n.Fn "));
    assert_int_equal(count, 17);
    buf_append_c(&source, "local n = 0 for k, v in pairs(_G) do if type(v) == 'function' then "
                          "n = n + 1 end end assert(n == 17) function on_enqueue() end");
    if (hook_set_check_script(manual->scripted.set, HOOK_ON_ENQUEUE, buf_str(&source), &err) < 0)
        fail_msg("%s", err.text);
    buf_free(&source);
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_examples, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_functions, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
