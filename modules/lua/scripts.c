#include "lua/scripts.h"

#include <stdlib.h>

#include "os/log.h"
#include "os/time.h"

/* Lines of fila.log: of one script, and of all scripts of a worker. */
static const struct report_rate scripts_line_rate = {.interval_ms = 1000, .burst = 10};
static const struct report_rate scripts_all_lines_rate = {.interval_ms = 50, .burst = 100};
#define SCRIPTS_LINE_MAX 1000 /* bytes */

int scripts_init(struct scripts *scripts, const struct budget_limits *limits,
                 const struct hook_services *services)
{
    *scripts = (struct scripts){.limits = limits, .services = services};
    list_init(&scripts->recent);
    return hash_init(&scripts->by_queue, &hash_malloc);
}

static void scripts_remove(struct scripts *scripts, struct scripts_entry *entry)
{
    script_close(&entry->script);
    scripts->bytes -= entry->bytes;
    hash_remove(&scripts->by_queue, &entry->link);
    list_remove(&entry->recent);
    free(entry);
}

void scripts_free(struct scripts *scripts)
{
    LIST_EACH_SAFE(&scripts->recent, at)
    scripts_remove(scripts, CONTAINER_OF(at, struct scripts_entry, recent));
    hash_free(&scripts->by_queue, &hash_malloc);
}

/* --- entries --- */

static void scripts_log(void *owner, struct str text)
{
    struct scripts_entry *entry = owner;
    uint64_t now_ms = time_monotonic_ms(), left_out, left_out_of_all;

    if (!report_allows(&entry->lines, &scripts_line_rate, now_ms, &left_out))
        return;
    if (!report_allows(&entry->scripts->lines, &scripts_all_lines_rate, now_ms, &left_out_of_all))
        return;
    if (text.size > SCRIPTS_LINE_MAX)
        text.size = SCRIPTS_LINE_MAX;
    if (left_out > 0)
        log_write(LOG_NOTICE, "lua", "queue %.*s: %.*s (%llu lines before it were left out)",
                  STR_PRINT(entry->queue->name), STR_PRINT(text), (unsigned long long)left_out);
    else
        log_write(LOG_NOTICE, "lua", "queue %.*s: %.*s", STR_PRINT(entry->queue->name),
                  STR_PRINT(text));
}

static uint64_t scripts_hash(uint64_t queue_id, enum hook_script which)
{
    uint64_t value = (queue_id * HOOK_SCRIPTS + (uint64_t)which) * UINT64_C(0x9e3779b97f4a7c15);

    return value ^ (value >> 32);
}

static struct scripts_entry *scripts_find(struct scripts *scripts, uint64_t queue_id,
                                          enum hook_script which)
{
    struct hash_link *link = hash_find(&scripts->by_queue, scripts_hash(queue_id, which));

    for (; link; link = hash_find_next(link)) {
        struct scripts_entry *entry = CONTAINER_OF(link, struct scripts_entry, link);

        if (entry->queue_id == queue_id && entry->script.which == which)
            return entry;
    }
    return NULL;
}

static struct scripts_entry *scripts_add(struct scripts *scripts, uint64_t queue_id,
                                         enum hook_script which)
{
    struct scripts_entry *entry = calloc(1, sizeof(*entry));

    if (!entry)
        return NULL;
    entry->queue_id = queue_id;
    entry->scripts = scripts;
    script_init(&entry->script, which, scripts->limits, scripts->services, scripts_log, entry);
    hash_insert(&scripts->by_queue, &hash_malloc, scripts_hash(queue_id, which), &entry->link);
    list_insert(&scripts->recent, &entry->recent);
    return entry;
}

struct scripts_entry *scripts_get(struct scripts *scripts, const struct hook_queue *queue,
                                  enum hook_script which, uint64_t now_ms)
{
    struct scripts_entry *entry = scripts_find(scripts, queue->id, which);

    if (!entry)
        entry = scripts_add(scripts, queue->id, which);
    if (!entry)
        return NULL;
    if (entry->version != queue->version)
        script_close(&entry->script);
    entry->version = queue->version;
    entry->queue = queue;
    entry->used_ms = now_ms;
    if (scripts->recent.next != &entry->recent) {
        list_remove(&entry->recent);
        list_insert(&scripts->recent, &entry->recent);
    }
    return entry;
}

void scripts_count(struct scripts *scripts, struct scripts_entry *entry)
{
    size_t bytes = entry->script.lua ? entry->script.budget.used : 0;

    scripts->bytes += bytes - entry->bytes;
    entry->bytes = bytes;
    entry->queue = NULL;
    while (scripts->bytes > SCRIPTS_BYTES_MAX && scripts->recent.prev != &entry->recent)
        scripts_remove(scripts, CONTAINER_OF(scripts->recent.prev, struct scripts_entry, recent));
}

void scripts_forget(struct scripts *scripts, uint64_t queue_id)
{
    for (int which = 0; which < HOOK_SCRIPTS; which++) {
        struct scripts_entry *entry = scripts_find(scripts, queue_id, (enum hook_script)which);

        if (entry)
            scripts_remove(scripts, entry);
    }
}

void scripts_tick(struct scripts *scripts, uint64_t now_ms)
{
    while (!list_empty(&scripts->recent)) {
        struct scripts_entry *last =
            CONTAINER_OF(scripts->recent.prev, struct scripts_entry, recent);

        if (now_ms < last->used_ms + SCRIPTS_IDLE_MS)
            break;
        scripts_remove(scripts, last);
    }
}

/* --- breakers --- */

struct hook_breaker *scripts_breaker(const struct scripts *scripts, struct scripts_entry *entry)
{
    const struct hook_services *services = scripts->services;

    /* Its place in the shared table may have gone to another queue since. */
    if (entry->shared &&
        atomic_load_explicit(&entry->shared->queue_id, memory_order_relaxed) == entry->queue_id)
        return entry->shared;
    entry->shared =
        services->breaker ? services->breaker(services->context, entry->queue_id) : NULL;
    return entry->shared ? entry->shared : &entry->own;
}
