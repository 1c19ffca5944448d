/*
 * lua - hooks in Lua 5.4: a queue's on_enqueue and on_failure scripts. filad-lua(7) describes what
 * scripts see; the other files of this folder are what is used here.
 */
#include <errno.h>
#include <stdlib.h>

#include "hook/hook.h"
#include "lua/breaker.h"
#include "lua/budget.h"
#include "lua/report.h"
#include "lua/script.h"
#include "lua/scripts.h"
#include "os/log.h"
#include "os/time.h"

/* --- configuration --- */

struct module_conf {
    struct budget_limits limits;
    struct breaker_limits breaker;
};

static const struct schema_key module_breaker_keys[] = {
    {.name = "threshold",
     .type = SCHEMA_INT,
     .offset = offsetof(struct module_conf, breaker.threshold),
     .initial = "3",
     .min = 1,
     .max = 1000000,
     .doc = "failures in a row after which scripts of the queue rest"},
    {.name = "cooldown",
     .type = SCHEMA_TIME,
     .offset = offsetof(struct module_conf, breaker.cooldown_ms),
     .initial = "10s",
     .min = 1,
     .max = 86400000,
     .doc = "how long they rest"},
    {.type = SCHEMA_END},
};

static const struct schema_key module_keys[] = {
    {.name = "timeout",
     .type = SCHEMA_TIME,
     .offset = offsetof(struct module_conf, limits.timeout_ms),
     .initial = "10ms",
     .min = 1,
     .max = 10000,
     .doc = "time that one call of a script may take"},
    {.name = "memory_limit",
     .type = SCHEMA_SIZE,
     .offset = offsetof(struct module_conf, limits.memory),
     .initial = "1m",
     .min = 64u << 10,
     .max = 1u << 30,
     .doc = "memory that one call may take, and what a script may keep"},
    {.name = "circuit_breaker",
     .type = SCHEMA_MAPPING,
     .keys = module_breaker_keys,
     .doc = "when scripts that fail are left alone"},
    {.type = SCHEMA_END},
};

/* --- statistics --- */

enum { MODULE_CALLS, MODULE_FAILURES, MODULE_OPENINGS, MODULE_LEFT_OUT, MODULE_BYTES };

static const struct hook_statistic module_statistics[] = {
    [MODULE_CALLS] = {"calls", "calls of scripts", HOOK_COUNTER},
    [MODULE_FAILURES] = {"failures", "calls that failed", HOOK_COUNTER},
    [MODULE_OPENINGS] = {"breaker_openings", "times that scripts of a queue were stopped",
                         HOOK_COUNTER},
    [MODULE_LEFT_OUT] = {"calls_left_out", "messages whose scripts were stopped", HOOK_COUNTER},
    [MODULE_BYTES] = {"memory_bytes", "memory of all scripts", HOOK_GAUGE},
    {NULL, NULL, HOOK_COUNTER},
};

static void module_count_one(const struct hook_services *services, int row)
{
    atomic_fetch_add_explicit(&services->statistics[row], 1, memory_order_relaxed);
}

/* --- life --- */

struct module {
    const struct module_conf *conf;
    const struct hook_services *services;
    struct scripts scripts;
    struct report failures; /* lines about failures of all scripts */
};

/* Lines about failures: of one script, and of all scripts of a worker. */
static const struct report_rate module_failure_rate = {.interval_ms = 10000, .burst = 5};
static const struct report_rate module_all_failures_rate = {.interval_ms = 100, .burst = 50};

static int module_init(const void *conf, const struct conf *all,
                       const struct hook_services *services, void **state, struct err *err)
{
    struct module *module = calloc(1, sizeof(*module));

    (void)all;
    if (!module)
        return err_set(err, ENOMEM, "out of memory");
    module->conf = conf;
    module->services = services;
    if (scripts_init(&module->scripts, &module->conf->limits, services) < 0) {
        free(module);
        return err_set(err, ENOMEM, "out of memory");
    }
    *state = module;
    return 0;
}

static void module_exit(void *state)
{
    struct module *module = state;

    scripts_free(&module->scripts);
    free(module);
}

static void module_count_bytes(const struct module *module)
{
    atomic_store_explicit(&module->services->statistics[MODULE_BYTES], module->scripts.bytes,
                          memory_order_relaxed);
}

static void module_queue_gone(void *state, uint64_t queue_id)
{
    struct module *module = state;

    scripts_forget(&module->scripts, queue_id);
    module_count_bytes(module);
}

static void module_tick(void *state, uint64_t now_ms)
{
    struct module *module = state;

    scripts_tick(&module->scripts, now_ms);
    module_count_bytes(module);
}

static int module_check_script(void *state, enum hook_script which, struct str source,
                               struct err *err)
{
    const struct module *module = state;
    struct script script;

    script_init(&script, which, &module->conf->limits, module->services, NULL, NULL);
    int result = script_load(&script, source, err);
    script_close(&script);
    return result;
}

/* --- calls --- */

static void module_report(struct module *module, struct scripts_entry *entry, const char *text,
                          uint64_t now_ms)
{
    uint64_t left_out, left_out_of_all;

    if (!report_allows(&entry->failures, &module_failure_rate, now_ms, &left_out) ||
        !report_allows(&module->failures, &module_all_failures_rate, now_ms, &left_out_of_all))
        return;
    if (left_out > 0)
        log_write(LOG_WARN, "lua", "queue %.*s: %s (%llu failures before it were left out)",
                  STR_PRINT(entry->queue->name), text, (unsigned long long)left_out);
    else
        log_write(LOG_WARN, "lua", "queue %.*s: %s", STR_PRINT(entry->queue->name), text);
}

/* The entry to call, NULL when the breaker keeps the queue's scripts from running (*failed stays)
 * or there is no memory (*failed becomes true). */
static struct scripts_entry *module_begin(struct module *module, const struct hook_queue *queue,
                                          enum hook_script which, uint64_t now_ms, bool *failed)
{
    struct scripts_entry *entry = scripts_get(&module->scripts, queue, which, now_ms);

    if (!entry) {
        *failed = true;
        return NULL;
    }
    if (breaker_allows(scripts_breaker(&module->scripts, entry), now_ms))
        return entry;
    module_count_one(module->services, MODULE_LEFT_OUT);
    return NULL;
}

static int module_load(struct scripts_entry *entry, struct err *err)
{
    struct script *script = &entry->script;

    return script->lua ? 0 : script_load(script, entry->queue->scripts[script->which], err);
}

/* What follows a call that returned `result`. */
static void module_end(struct module *module, struct scripts_entry *entry, int result,
                       const struct err *err, bool *failed)
{
    struct hook_breaker *breaker = scripts_breaker(&module->scripts, entry);

    module_count_one(module->services, MODULE_CALLS);
    if (result == 0) {
        breaker_succeeded(breaker);
        if (script_keeps_too_much(&entry->script))
            module_report(module, entry, "its globals hold too much memory and were given up",
                          entry->used_ms);
    } else {
        *failed = true;
        module_count_one(module->services, MODULE_FAILURES);
        module_report(module, entry, err->text, entry->used_ms);
        if (breaker_failed(breaker, &module->conf->breaker, entry->used_ms)) {
            module_count_one(module->services, MODULE_OPENINGS);
            log_write(LOG_WARN, "lua", "queue %.*s: scripts rest for %llu ms after %u failure%s",
                      STR_PRINT(entry->queue->name),
                      (unsigned long long)module->conf->breaker.cooldown_ms,
                      module->conf->breaker.threshold,
                      module->conf->breaker.threshold == 1 ? "" : "s");
        }
    }
    scripts_count(&module->scripts, entry);
    module_count_bytes(module);
}

static void module_on_enqueue(void *state, const struct hook_message *message,
                              struct hook_memory *memory, struct hook_verdict *verdict)
{
    struct module *module = state;
    const struct hook_queue *queue = message->settings;
    struct scripts_entry *entry;
    struct err err;

    if (!queue || queue->scripts[HOOK_ON_ENQUEUE].size == 0)
        return;
    entry = module_begin(module, queue, HOOK_ON_ENQUEUE, time_monotonic_ms(), &verdict->failed);
    if (!entry)
        return;

    int result = module_load(entry, &err);
    if (result == 0)
        result = script_on_enqueue(&entry->script, message, memory, verdict, &err);
    module_end(module, entry, result, &err, &verdict->failed);
}

static void module_on_failure(void *state, const struct hook_failure *failure,
                              struct hook_decision *decision)
{
    struct module *module = state;
    const struct hook_queue *queue = failure->settings;
    struct scripts_entry *entry;
    struct err err;

    if (!queue || queue->scripts[HOOK_ON_FAILURE].size == 0)
        return;
    entry = module_begin(module, queue, HOOK_ON_FAILURE, time_monotonic_ms(), &decision->failed);
    if (!entry)
        return;

    int result = module_load(entry, &err);
    if (result == 0)
        result = script_on_failure(&entry->script, failure, decision, &err);
    module_end(module, entry, result, &err, &decision->failed);
}

HOOK_MODULE(lua, 3, .section = "lua", .keys = module_keys, .conf_size = sizeof(struct module_conf),
            .init = module_init, .on_enqueue = module_on_enqueue, .on_failure = module_on_failure,
            .statistics = module_statistics, .check_script = module_check_script,
            .queue_gone = module_queue_gone, .tick = module_tick, .exit = module_exit);
