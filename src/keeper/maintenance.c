#include "keeper/maintenance.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "os/log.h"
#include "os/time.h"
#include "store/space.h"

#define MIB (1u << 20)
#define TICK_MS 100 /* a fast writer fills a disk, or the log, in less than a second */
#define SECOND_MS 1000
#define CHECKPOINT_FILES 5000 /* opened since the last one: recovery opens them again */
#define CLEAN_PERCENT 20      /* of the cache, so that puts need not write pages themselves */

int maintenance_init(struct maintenance *maintenance, struct broker *broker,
                     const struct conf *conf, struct err *err)
{
    memset(maintenance, 0, sizeof(*maintenance));
    maintenance->broker = broker;
    maintenance->conf = conf;
    maintenance->reserve = space_reserve(conf->store.reserve, conf->store.checkpoint.bytes);
    maintenance->last_checkpoint_ms = time_monotonic_ms();
    maintenance->files_at_checkpoint = atomic_load(&broker->options.zone->files_opened);
    maintenance->compact_index = maintenance->sweep_index = ZONE_QUEUES;
    /* A keeper before may have died on its walk. */
    atomic_store(&broker->scheduler->sweep, true);
    list_init(&maintenance->doomed);
    buf_init(&maintenance->compact_position, 0);
    maintenance->compactions = calloc(ZONE_QUEUES, sizeof(*maintenance->compactions));
    return maintenance->compactions ? 0 : err_set_errno(err, ENOMEM, "start maintenance");
}

void maintenance_free(struct maintenance *maintenance)
{
    count_abandon(maintenance);
    purge_abandon(maintenance);
    buf_free(&maintenance->compact_position);
    free(maintenance->compactions);
}

static void watch_space(struct maintenance *maintenance)
{
    struct scheduler *scheduler = maintenance->broker->scheduler;
    const char *path = maintenance->conf->store.path;
    bool was_low = atomic_load(&scheduler->space_low) != 0;
    bool low = !space_restore(path, maintenance->reserve) ||
               space_is_low(path, maintenance->reserve, was_low);
    /* Acks still write log. A commit that finds no room gives up the reserve and is done again; a
     * flush that does ends in a recovery. */
    if (low && space_is_scarce(path, maintenance->reserve) && space_release(path))
        log_write(LOG_ERROR, "store", "the disk under %s is full: its reserve is used now", path);
    if (low == was_low)
        return;
    atomic_store(&scheduler->space_low, low);
    uint64_t free_bytes, wanted = space_wanted(path, maintenance->reserve, &free_bytes);
    if (low)
        log_write(
            LOG_ERROR, "store",
            "the disk under %s is nearly full: new messages and queues are refused until %" PRIu64
            " MiB are free (now %" PRIu64 "), which `store.reserve` decides",
            path, (wanted + MIB - 1) / MIB, free_bytes / MIB);
    else
        log_write(LOG_NOTICE, "store", "the disk under %s has room again: new messages are taken",
                  path);
}

/* A page that finds no room on the disk stays in the cache: no harm, once there is room. Anything
 * else may be a sync that failed, and then the log behind it cannot be trusted. */
static int checkpoint_failed(struct maintenance *maintenance, int result)
{
    if (result != ENOSPC)
        return broker_fail(maintenance->broker, result, "write a checkpoint");
    (void)broker_make_room(maintenance->broker, result);
    if (!maintenance->disk_full)
        log_write(LOG_ERROR, "store", "write a checkpoint: %s", db_strerror(result));
    maintenance->disk_full = true;
    return 0;
}

static int checkpoint(struct maintenance *maintenance, uint64_t now_ms)
{
    const struct conf *conf = maintenance->conf;
    struct env *env = maintenance->broker->env;
    uint64_t opened = atomic_load(&maintenance->broker->options.zone->files_opened);
    bool due = now_ms - maintenance->last_checkpoint_ms >= conf->store.checkpoint.interval_ms ||
               opened - maintenance->files_at_checkpoint >= CHECKPOINT_FILES;
    int result = env_checkpoint(env, due ? 0 : conf->store.checkpoint.bytes, false);
    if (due) {
        maintenance->last_checkpoint_ms = now_ms;
        maintenance->files_at_checkpoint = opened;
    }
    if (result)
        return checkpoint_failed(maintenance, result);
    maintenance->disk_full = false;
    int written = 0;
    result = env->db->memp_trickle(env->db, CLEAN_PERCENT, &written);
    if (result && broker_is_fatal(result))
        return broker_fail(maintenance->broker, result, "clean pages of the cache");
    return 0;
}

/* A worker that died after it was woken leaves messages that nobody else was told of. */
static int wake_forgotten(struct maintenance *maintenance)
{
    struct broker *broker = maintenance->broker;
    for (uint32_t i = 0; i < ZONE_QUEUES; i++) {
        struct queue *queue =
            atomic_load_explicit(&broker->scheduler->queues[i], memory_order_relaxed);
        if (!queue || !queue->waiting || !queue->drr.count) /* a guess; looked at again below */
            continue;
        if (broker_lock(broker, &queue->lock) != 0)
            return -1;
        queue_wake_waiters(queue);
        lock_release(&queue->lock);
    }
    return 0;
}

/* Where room is scarce, lanes that are empty go sooner than their timers say. */
static int hurry_idle_lanes(struct maintenance *maintenance)
{
    struct broker *broker = maintenance->broker;
    for (uint32_t i = 0; i < ZONE_QUEUES; i++) {
        struct queue *queue =
            atomic_load_explicit(&broker->scheduler->queues[i], memory_order_relaxed);
        if (!queue || list_empty(&queue->idle_lanes) || !queue_is_tight(queue)) /* a guess */
            continue;
        if (broker_lock(broker, &queue->lock) != 0)
            return -1;
        queue_timer_update(queue);
        lock_release(&queue->lock);
    }
    return 0;
}

int maintenance_step(struct maintenance *maintenance, uint64_t now_ms, uint64_t *wait_ms)
{
    int counting = count_step(maintenance), purging = 0, sweeping = 0, compacting = 0;
    bool second = now_ms >= maintenance->next_second_ms;
    if (counting < 0 || (purging = purge_file_step(maintenance)) < 0)
        return -1;
    if (!counting)
        sweeping = sweep_step(maintenance, now_ms);
    if (sweeping < 0)
        return -1;
    if (now_ms >= maintenance->next_tick_ms) {
        maintenance->next_tick_ms = now_ms + TICK_MS;
        watch_space(maintenance);
        if (checkpoint(maintenance, now_ms) != 0)
            return -1;
    }
    if (second) {
        maintenance->next_second_ms = now_ms + SECOND_MS;
        if (broker_refresh(maintenance->broker) != 0 || purge_step(maintenance) != 0 ||
            wake_forgotten(maintenance) != 0 || hurry_idle_lanes(maintenance) != 0)
            return -1;
    }
    /* Looking for a queue that is worth it means looking at all of them. */
    if (!counting && !sweeping && (second || maintenance->compact_index < ZONE_QUEUES))
        compacting = compact_step(maintenance);
    if (compacting < 0)
        return -1;
    *wait_ms = maintenance->next_tick_ms > now_ms ? maintenance->next_tick_ms - now_ms : 0;
    return counting || purging || sweeping || compacting;
}
