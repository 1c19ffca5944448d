/*
 * scripted - the Lua module at work on one queue whose scripts a test gives, with services of the
 * test's own.
 */
#ifndef FILAD_TESTS_UNIT_MODULES_SCRIPTED_H
#define FILAD_TESTS_UNIT_MODULES_SCRIPTED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/buf.h"
#include "fibp/wire.h"
#include "hook/hook.h"

extern const struct hook_module lua_module;

#define SCRIPTED_CONFIG_MAX 8

struct scripted {
    const struct hook_module *modules[2];
    struct conf *conf;
    struct hook_set *set;
    struct hook_services services;
    struct hook_queue queue;
    struct hook_breaker breaker;
    bool no_breaker; /* the shared memory has no room */
    const char *config[SCRIPTED_CONFIG_MAX][2];
    struct buf headers;
    struct hook_message message; /* the next to be enqueued; settings are the queue's */
    struct hook_failure failure;
    struct hook_memory memory; /* of the last verdict */
};

static inline bool scripted_config_get(void *context, struct str key, struct str *value)
{
    const struct scripted *scripted = context;

    for (size_t i = 0; i < SCRIPTED_CONFIG_MAX && scripted->config[i][0]; i++) {
        if (str_equal(key, str_from_c(scripted->config[i][0]))) {
            *value = str_from_c(scripted->config[i][1]);
            return true;
        }
    }
    return false;
}

static inline struct hook_breaker *scripted_breaker(void *context, uint64_t queue_id)
{
    struct scripted *scripted = context;

    if (scripted->no_breaker)
        return NULL;
    atomic_store(&scripted->breaker.queue_id, queue_id);
    return &scripted->breaker;
}

/* `yaml`: the `lua:` section as an operator writes it, or "". */
static inline void scripted_start(struct scripted *scripted, const char *yaml)
{
    struct conf_section section;
    struct conf_errors errors;
    struct err err;

    memset(scripted, 0, sizeof(*scripted));
    scripted->modules[0] = &lua_module;
    scripted->services = (struct hook_services){
        .context = scripted, .config_get = scripted_config_get, .breaker = scripted_breaker};
    scripted->queue = (struct hook_queue){.id = 1, .version = 1, .name = STR("orders")};
    conf_errors_init(&errors);
    assert_int_equal(hook_sections(scripted->modules, &section, 1), 1);
    scripted->conf = conf_load("/dev/null", NULL, yaml, &section, 1, &errors);
    if (!scripted->conf)
        fail_msg("%s", conf_errors_text(&errors));
    conf_errors_free(&errors);
    scripted->set = hook_set_create(scripted->modules, scripted->conf, &scripted->services, &err);
    if (!scripted->set)
        fail_msg("%s", err.text);
    buf_init(&scripted->headers, 0);
    wire_put_map(&scripted->headers, NULL, 0);
    scripted->message =
        (struct hook_message){.queue = STR("orders"), .headers = buf_str(&scripted->headers)};
    scripted->failure = (struct hook_failure){.queue = STR("orders"),
                                              .headers = buf_str(&scripted->headers),
                                              .attempts = 1,
                                              .error = STR("it broke")};
}

static inline void scripted_stop(struct scripted *scripted)
{
    hook_memory_free(&scripted->memory);
    hook_set_destroy(scripted->set);
    conf_free(scripted->conf);
    buf_free(&scripted->headers);
}

static inline void scripted_script(struct scripted *scripted, enum hook_script which,
                                   const char *source)
{
    scripted->queue.scripts[which] = str_from_c(source);
    scripted->queue.version++;
}

/* Headers of the messages to come, from texts "name", "value", ..., NULL. */
static inline void scripted_headers(struct scripted *scripted, const char *const *texts)
{
    struct wire_pair pairs[64];
    uint16_t count = 0;

    for (; texts[0]; texts += 2)
        pairs[count++] = (struct wire_pair){str_from_c(texts[0]), str_from_c(texts[1])};
    buf_free(&scripted->headers);
    wire_put_map(&scripted->headers, pairs, count);
    scripted->message.headers = scripted->failure.headers = buf_str(&scripted->headers);
    scripted->message.header_count = scripted->failure.header_count = count;
}

/* The verdict on the message; its memory lives until the next one. */
static inline struct hook_verdict scripted_enqueue(struct scripted *scripted)
{
    struct hook_verdict verdict;

    hook_memory_free(&scripted->memory);
    scripted->message.settings = &scripted->queue;
    hook_set_on_enqueue(scripted->set, &scripted->message, &scripted->memory, &verdict);
    return verdict;
}

static inline struct hook_decision scripted_fail(struct scripted *scripted)
{
    struct hook_decision decision;

    scripted->failure.settings = &scripted->queue;
    hook_set_on_failure(scripted->set, &scripted->failure, &decision);
    return decision;
}

/* The breaker as if nothing had failed. */
static inline void scripted_close_breaker(struct scripted *scripted)
{
    atomic_store(&scripted->breaker.failures, 0);
    atomic_store(&scripted->breaker.open_until_ms, 0);
}

#endif
