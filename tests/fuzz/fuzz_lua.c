/* Scripts and messages of anybody: a script is checked and called, whatever it is, within its
   limits; what it returns is what a verdict may be; the next script finds a module that works. */
#include "core/utf8.h"
#include "fibp/wire.h"
#include "fuzz/fuzz.h"
#include "hook/hook.h"
#include "os/log.h"
#include "os/time.h"

extern const struct hook_module lua_module;

/* A script ends after 1 ms of processor time; the rest is for sanitizers and one last instruction.
   By the clock there is no bound on a busy machine. */
#define CALL_NS UINT64_C(500000000)

static const struct hook_module *const modules[] = {&lua_module, NULL};
static struct hook_set *hooks;
static struct hook_breaker breaker;
static struct hook_queue queue = {.id = 1, .name = {(const uint8_t *)"orders", 6}};

static bool config_get(void *context, struct str key, struct str *value)
{
    (void)context;
    *value = key;
    return key.size % 2 == 0;
}

static struct hook_breaker *shared_breaker(void *context, uint64_t queue_id)
{
    (void)context;
    atomic_store(&breaker.queue_id, queue_id);
    return &breaker;
}

static void start(void)
{
    static const struct hook_services services = {.config_get = config_get,
                                                  .breaker = shared_breaker};
    const char *text = "lua: {timeout: 1ms, memory_limit: 256k, "
                       "circuit_breaker: {threshold: 1000000}}";
    struct conf_section section;
    struct conf_errors errors;
    struct conf *conf;
    struct err err;

    log_set_level(LOG_ERROR);
    REQUIRE(hook_sections(modules, &section, 1) == 1);
    conf_errors_init(&errors);
    conf = conf_load_text("file", str_from_c(text), "/", NULL, &section, 1, &errors);
    REQUIRE(conf != NULL);
    conf_errors_free(&errors);
    hooks = hook_set_create(modules, conf, &services, &err);
    REQUIRE(hooks != NULL);
}

static void require_text(struct str text, size_t most)
{
    REQUIRE(text.size <= most);
    REQUIRE(utf8_valid(text));
}

/* What is left of the input: header names and values, then the payload. */
static void call(struct str input)
{
    struct wire_pair pairs[4];
    struct hook_memory memory = {NULL};
    struct hook_verdict verdict;
    struct hook_decision decision;
    uint16_t count = 0;
    struct buf map;

    for (; count < 4 && input.size > 0; count++) {
        pairs[count].key = fuzz_bytes(&input, fuzz_byte(&input) % 16);
        pairs[count].value = fuzz_bytes(&input, fuzz_byte(&input) % 64);
    }
    buf_init(&map, 0);
    wire_put_map(&map, pairs, count);
    struct hook_message message = {.queue = queue.name,
                                   .settings = &queue,
                                   .headers = buf_str(&map),
                                   .header_count = count,
                                   .payload = input};
    hook_set_on_enqueue(hooks, &message, &memory, &verdict);
    require_text(verdict.fairness_key, HOOK_KEY_MAX);
    REQUIRE(verdict.throttle_count <= HOOK_THROTTLES_MAX);
    for (uint16_t i = 0; i < verdict.throttle_count; i++)
        require_text(verdict.throttle_keys[i], HOOK_KEY_MAX);
    require_text(verdict.rejected, HOOK_REASON_MAX);
    REQUIRE(verdict.delay_ms <= HOOK_DELAY_MAX_MS);
    hook_memory_free(&memory);

    struct hook_failure failure = {.settings = &queue,
                                   .queue = queue.name,
                                   .headers = buf_str(&map),
                                   .header_count = count,
                                   .attempts = count,
                                   .error = input};
    hook_set_on_failure(hooks, &failure, &decision);
    REQUIRE(decision.action == HOOK_RETRY || decision.action == HOOK_DEAD_LETTER);
    REQUIRE(decision.delay_ms <= HOOK_DELAY_MAX_MS);
    buf_free(&map);
}

/* The script is what stands before the first zero, the message what stands behind it. Without a
   function it becomes the body of one, so that the body is what is mutated. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = memchr(data, 0, size);
    struct str source = str_of(data, zero ? (size_t)(zero - data) : size);
    struct str input = zero ? str_of(zero + 1, size - source.size - 1) : str_of(data, 0);
    uint64_t start_ns;
    struct err err;
    struct buf body;

    if (!hooks)
        start();
    buf_init(&body, 0);
    for (int which = 0; which < HOOK_SCRIPTS; which++) {
        static const char *const names[] = {"on_enqueue", "on_failure"};

        start_ns = time_thread_cpu_ns();
        if (hook_set_check_script(hooks, (enum hook_script)which, source, &err) < 0)
            require_text(str_from_c(err.text), ERR_TEXT_SIZE);
        REQUIRE(time_thread_cpu_ns() - start_ns < CALL_NS);
        buf_printf(&body, "function %s(msg) %.*s\nend\n", names[which], STR_PRINT(source));
    }
    queue.scripts[HOOK_ON_ENQUEUE] = queue.scripts[HOOK_ON_FAILURE] = buf_str(&body);
    queue.version++;
    for (int i = 0; i < 2; i++) {
        atomic_store(&breaker.failures, 0);
        start_ns = time_thread_cpu_ns();
        call(input);
        REQUIRE(time_thread_cpu_ns() - start_ns < 2 * CALL_NS);
    }
    hook_set_queue_gone(hooks, queue.id);
    buf_free(&body);
    return 0;
}
