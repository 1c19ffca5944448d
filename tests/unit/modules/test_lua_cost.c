#include "unit/modules/scripted.h"

#include "os/time.h"

/* What a hook costs. LUA_COST_CALLS=1000000 prints figures; otherwise a few calls only show that
 * the scripts that are measured work. */

#define ENQUEUE(body) "function on_enqueue(msg) " body " end"

static const struct {
    const char *name, *source;
} cases[] = {
    {"no script", NULL},
    {"nothing", ENQUEUE("return {}")},
    {"one header as the key", ENQUEUE("return {fairness_key = msg.headers.tenant}")},
    {"key, weight and two throttle keys",
     ENQUEUE("local h = msg.headers return {fairness_key = h.tenant, weight = tonumber(h.weight), "
             "throttle_keys = {'tenant:' .. h.tenant, 'region:' .. h.region}}")},
    {"a weight from the configuration",
     ENQUEUE("local t = msg.headers.tenant return {fairness_key = t, "
             "weight = fila.get('weight.' .. t)}")},
    {"all headers in turn", ENQUEUE("local n = 0 for k, v in pairs(msg.headers) do n = n + #v end "
                                    "return {fairness_key = msg.headers.tenant, weight = n}")},
    {"a pattern over a payload of 1 KiB",
     ENQUEUE("return {fairness_key = msg.payload:match('\"tenant\":\"(%w+)\"')}")},
};

static uint64_t calls(void)
{
    const char *text = getenv("LUA_COST_CALLS");

    return text ? strtoull(text, NULL, 10) : 10;
}

static void measure(struct scripted *scripted, const char *name, const char *source)
{
    uint64_t count = calls();
    struct hook_verdict verdict;

    scripted_script(scripted, HOOK_ON_ENQUEUE, source);
    verdict = scripted_enqueue(scripted);
    assert_false(verdict.failed);
    uint64_t start = time_thread_cpu_ns();
    for (uint64_t i = 0; i < count; i++)
        verdict = scripted_enqueue(scripted);
    uint64_t spent = time_thread_cpu_ns() - start;
    assert_false(verdict.failed);
    if (getenv("LUA_COST_CALLS"))
        print_message("%6.2f us  %s\n", (double)spent / 1e3 / (double)count, name);
}

static void test_cost(void **state)
{
    static const char *const headers[] = {"content-type",
                                          "application/json",
                                          "trace",
                                          "0123456789abcdef0123456789abcdef",
                                          "tenant",
                                          "acme",
                                          "weight",
                                          "3",
                                          "region",
                                          "eu-west-1",
                                          NULL};
    static uint8_t payload[1024];
    struct scripted scripted;

    (void)state;
    scripted_start(&scripted, "");
    scripted_headers(&scripted, headers);
    scripted.config[0][0] = "weight.acme";
    scripted.config[0][1] = "5";
    memset(payload, ' ', sizeof(payload));
    memcpy(payload + 900, "\"tenant\":\"acme\"", 15);
    scripted.message.payload = str_of(payload, sizeof(payload));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        measure(&scripted, cases[i].name, cases[i].source);
    scripted_stop(&scripted);
}

/* As many queues with a script of their own. */
static void test_cost_of_states(void **state)
{
    struct hook_queue *queues;
    struct scripted scripted;
    struct hook_verdict verdict;
    uint64_t count = getenv("LUA_COST_CALLS") ? 10000 : 10, start, spent;

    (void)state;
    scripted_start(&scripted, "");
    scripted.no_breaker = true;
    queues = calloc(count, sizeof(*queues));
    assert_non_null(queues);
    for (int round = 0; round < 2; round++) {
        start = time_thread_cpu_ns();
        for (uint64_t i = 0; i < count; i++) {
            queues[i] = (struct hook_queue){.id = i + 1, .version = 1, .name = STR("q")};
            queues[i].scripts[HOOK_ON_ENQUEUE] = str_from_c(cases[2].source);
            scripted.message.settings = &queues[i];
            hook_set_on_enqueue(scripted.set, &scripted.message, &scripted.memory, &verdict);
            assert_false(verdict.failed);
        }
        spent = time_thread_cpu_ns() - start;
        if (getenv("LUA_COST_CALLS"))
            print_message("%6.2f us  %s call of each of %llu queues\n",
                          (double)spent / 1e3 / (double)count, round ? "the second" : "the first",
                          (unsigned long long)count);
    }
    free(queues);
    scripted_stop(&scripted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cost),
        cmocka_unit_test(test_cost_of_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
