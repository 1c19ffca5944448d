/* compact - a queue that was drained gives its pages back to the file system */
#include "keeper/maintenance.h"
#include "os/log.h"
#include "os/time.h"

#define STEP_PAGES 8
#define WORTH_RECORDS 1000 /* removed since the last time */
#define CHUNK_WORTH 16     /* records: a chunk has pages of its own */

/* Records that went from it for good. */
static uint64_t removed(const struct queue *queue)
{
    const struct queue_counters *counters = queue->counters;
    return counters->acked + counters->dead_lettered + counters->purged + queue->ready_removed +
           counters->lanes_freed + CHUNK_WORTH * atomic_load(&queue->chunks_removed);
}

/* True when much has gone from an empty queue, and nothing since the last look: one that is filled
 * and drained all the time has use for its pages, and the chunks of its last message may be under
 * removal still. While the disk is nearly full it is enough that more has gone than is left:
 * otherwise a few messages that nobody acks would keep everybody from enqueueing. */
static bool is_worth_it(struct maintenance *maintenance, const struct queue *queue)
{
    struct compaction *state = &maintenance->compactions[queue->index];
    if (queue->quarantined) /* its counters are those of before */
        return false;
    uint64_t gone = removed(queue);
    bool quiet = gone == state->seen;
    state->seen = gone;
    if (gone < state->done)
        state->done = 0; /* another queue has this place now */
    uint64_t left = queue->ready + queue->leased + queue->delayed;
    if (gone - state->done < WORTH_RECORDS)
        return false;
    if (atomic_load(&queue->scheduler->space_low))
        return left < gone - state->done;
    return quiet && left == 0 && queue->scan.done;
}

/* The next such queue; NULL when there is none. */
static struct queue *find_queue(struct maintenance *maintenance)
{
    struct scheduler *scheduler = maintenance->broker->scheduler;
    for (uint32_t i = 0; i < ZONE_QUEUES; i++) {
        struct queue *queue = atomic_load_explicit(&scheduler->queues[i], memory_order_relaxed);
        if (!queue || atomic_load(&queue->dead))
            continue;
        if (is_worth_it(maintenance, queue))
            return queue;
    }
    return NULL;
}

static struct queue *current_queue(struct maintenance *maintenance)
{
    struct scheduler *scheduler = maintenance->broker->scheduler;
    if (maintenance->compact_index < ZONE_QUEUES) {
        struct queue *queue = atomic_load(&scheduler->queues[maintenance->compact_index]);
        if (queue && queue->id == maintenance->compact_id && !atomic_load(&queue->dead))
            return queue;
    }
    buf_clear(&maintenance->compact_position);
    struct queue *queue = find_queue(maintenance);
    maintenance->compact_index = queue ? queue->index : ZONE_QUEUES;
    maintenance->compact_id = queue ? queue->id : 0;
    return queue;
}

static int compact_locked(struct maintenance *maintenance, struct local_queue *local, bool *more)
{
    struct broker *broker = maintenance->broker;
    int result =
        queue_db_compact(local->db, NULL, STEP_PAGES, &maintenance->compact_position, more);
    if (env_is_conflict(result)) {
        *more = true;
        return 0;
    }
    if (result)
        log_write(LOG_WARN, "store", "compact queue \"%.*s\": %s", STR_PRINT(local->queue->name),
                  db_strerror(result));
    return broker_is_fatal(result) ? broker_fail(broker, result, "compact a queue") : 0;
}

/* Its file cannot be opened: others are not to wait for it. It has its turn when as much again has
 * gone from it. */
static int give_up(struct maintenance *maintenance, const struct queue *queue, int result)
{
    if (broker_is_fatal(result))
        return broker_fail(maintenance->broker, result, "compact a queue");
    log_write(LOG_WARN, "store", "compact queue \"%.*s\": %s", STR_PRINT(queue->name),
              db_strerror(result));
    maintenance->compactions[queue->index].done = removed(queue);
    maintenance->compact_index = ZONE_QUEUES;
    return 0;
}

int compact_step(struct maintenance *maintenance)
{
    struct broker *broker = maintenance->broker;
    struct local_queue *local = NULL;
    bool more = false;
    struct queue *queue = current_queue(maintenance);
    if (!queue)
        return 0;
    if (broker_local(broker, queue, &local) != 0)
        return -1;
    int result = broker_open_db(broker, local, false);
    if (result)
        return give_up(maintenance, queue, result);
    if (broker_lock(broker, &queue->lock) != 0)
        return -1;
    uint64_t began_ms = time_monotonic_ms();
    int status = compact_locked(maintenance, local, &more);
    maintenance->compactions[queue->index].done = removed(queue);
    lock_release(&queue->lock);
    broker_note_lock(broker, queue, began_ms);
    if (status != 0)
        return -1;
    if (!more)
        maintenance->compact_index = ZONE_QUEUES;
    return 1;
}
