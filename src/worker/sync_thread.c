#include "os/futex.h"
#include "os/log.h"
#include "worker/store_thread.h"

#define NOT_DURABLE "the store failed before this was on disk"

/* Flushes the log. False when nothing may be confirmed: the flush failed, or the environment was
 * given up by somebody else meanwhile. A failure is final for everybody, since the next flush would
 * report success over the same lost pages. */
static bool flush(struct pipeline *pipeline, enum zone_thread thread)
{
    struct zone *zone = pipeline->options.zone;
    if (atomic_load(&pipeline->sync_failed) ||
        !zone_enter(zone, pipeline->options.slot, thread, pipeline->generation))
        return false;
    int result = env_flush(pipeline->env);
    if (result) {
        uint32_t up = ZONE_UP;
        atomic_compare_exchange_strong(&zone->state, &up, ZONE_DEAD);
        atomic_store(&pipeline->sync_failed, true);
        log_write(LOG_ERROR, "store", "flush the log: %s; nothing more is confirmed until recovery",
                  db_strerror(result));
    }
    bool confirmed = !result && atomic_load(&zone->state) == ZONE_UP &&
                     atomic_load(&zone->generation) == pipeline->generation;
    zone_leave(zone, pipeline->options.slot, thread);
    return confirmed;
}

/* The store thread looks at sync_failed and at the zone's state, and tells the master. */
static void wake_store_thread(struct pipeline *pipeline)
{
    zone_wake(&pipeline->options.zone->slots[pipeline->options.slot]);
}

void sync_thread_confirm(struct pipeline *pipeline, enum zone_thread thread,
                         struct operation *first)
{
    bool durable = flush(pipeline, thread);
    while (first) {
        struct operation *next = first->next;
        if (!durable) {
            first->status = FIBP_STORAGE_ERROR;
            first->reason = NOT_DURABLE;
        }
        pipeline_post_result(pipeline, first);
        first = next;
    }
    if (!durable)
        wake_store_thread(pipeline);
}

void sync_thread_run(void *argument)
{
    struct pipeline *pipeline = argument;
    const struct conf *conf = pipeline->options.conf;
    bool interval = conf->store.durability == CONF_DURABILITY_INTERVAL;
    for (;;) {
        uint32_t seen = atomic_load(&pipeline->sync_wake);
        struct operation *first = pipeline_take_flushes(pipeline);
        if (first) {
            sync_thread_confirm(pipeline, ZONE_SYNC_THREAD, first);
            continue;
        }
        if (atomic_load(&pipeline->sync_stop))
            break;
        atomic_store(&pipeline->sync_idle, 1);
        futex_wait(&pipeline->sync_wake, seen,
                   interval ? conf->store.sync_interval_ms : UINT64_MAX);
        atomic_store(&pipeline->sync_idle, 0);
        if (interval && mailbox_empty(&pipeline->flushes) && !flush(pipeline, ZONE_SYNC_THREAD)) {
            wake_store_thread(pipeline);
            break;
        }
    }
}
