/* expire - leases whose visibility timeout has passed, and lanes that were empty for long */
#include <errno.h>

#include "broker/dead_letter.h"
#include "broker/write.h"
#include "os/log.h"
#include "os/time.h"

#define BATCH 100        /* leases or lanes under one holding of the lock */
#define TRY_AGAIN_MS 500 /* after a failure */
#define DECIDING_AGAIN_MS 20

static int retry_run(struct write *write, struct write_entry *first, struct write_entry *end)
{
    int result = 0, tries = 0;
    do {
        result = write_run(write, first, end);
    } while ((env_is_conflict(result) || broker_make_room(write->broker, result)) &&
             ++tries < BATCH);
    return result;
}

/* Makes a chain of entries of the leases that are due; those that a living worker decides about are
 * left out, and looked at again soon. How many there are. */
static uint32_t make_entries(struct write *write, struct list *due, struct write_entry *entries)
{
    struct write_entry **last = NULL;
    uint32_t filled = 0;
    /* They are off the wheel: back on it, so that the end of a lease is always the same step. */
    LIST_EACH_SAFE(due, entry)
    {
        struct lease *lease = CONTAINER_OF(entry, struct lease, wheel.list);
        bool deciding = queue_lease_deciding(write->queue, lease);
        list_remove(entry);
        queue_expiry_restore(write->queue, lease,
                             write->monotonic_ms + (deciding ? DECIDING_AGAIN_MS : TRY_AGAIN_MS));
        if (deciding)
            continue;
        struct write_entry *next = &entries[filled++];
        next->kind = WRITE_RETRY;
        next->lease = lease;
        if (last)
            *last = next;
        last = &next->next;
    }
    return filled;
}

/* What is known under the lock of those that failed for the last time. */
static uint32_t note_dead(const struct write_entry *entries, uint32_t count,
                          struct dead_letter *letters)
{
    uint32_t filled = 0;
    for (uint32_t i = 0; i < count; i++)
        if (entries[i].dead)
            letters[filled++] = (struct dead_letter){
                .id = entries[i].id, .token = entries[i].token, .reason = DEAD_LETTER_EXPIRED};
    return filled;
}

/* *dead: how many are to be dead-lettered; their leases are on the wheel still. */
static int retry_leases(struct write *write, struct list *due, struct dead_letter *letters,
                        uint32_t *dead)
{
    struct write_entry entries[BATCH] = {{0}};
    uint32_t count = make_entries(write, due, entries);
    if (!count)
        return 0;
    int result = retry_run(write, entries, NULL);
    if (result && count > 1 && !broker_is_fatal(result)) {
        /* One that fails must not hold back the others. */
        result = 0;
        for (uint32_t i = 0; i < count && !broker_is_fatal(result); i++) {
            int alone = retry_run(write, &entries[i], entries[i].next);
            result = alone ? alone : result;
        }
    }
    *dead = note_dead(entries, count, letters);
    return result;
}

/* Removes the K records of lanes that were empty for long, then the lanes. */
static int free_lanes(struct write *write, bool *more)
{
    struct queue *queue = write->queue;
    uint8_t key[RECORD_LANE_KEY_SIZE];
    DB_TXN *txn = NULL;
    uint64_t idle_ms = queue_lane_idle_ms(queue);
    uint32_t count = 0;
    int result = 0;
    LIST_EACH(&queue->idle_lanes, entry)
    {
        struct lane *lane = CONTAINER_OF(entry, struct lane, idle);
        if (lane->idle_since_ms + idle_ms > write->monotonic_ms || count == BATCH)
            break;
        if (!txn && (result = env_begin(write->broker->env, &txn)) != 0)
            return result;
        record_lane_key(key, lane->id);
        result = queue_db_delete(write->local->db, txn, str_of(key, sizeof(key)));
        if (result && result != DB_NOTFOUND) {
            (void)txn->abort(txn);
            return result;
        }
        count++;
    }
    if (!txn)
        return 0;
    result = env_commit(txn, ENV_COMMIT_MEMORY);
    for (uint32_t i = 0; i < count && !result; i++)
        queue_lane_free(queue, CONTAINER_OF(queue->idle_lanes.next, struct lane, idle));
    if (!result)
        queue->counters->lanes_freed += count;
    *more = *more || count == BATCH;
    return result;
}

static void postpone_lanes(struct queue *queue, uint64_t now_ms)
{
    if (!list_empty(&queue->idle_lanes))
        CONTAINER_OF(queue->idle_lanes.next, struct lane, idle)->idle_since_ms = now_ms;
}

/* What was due and could not be moved is tried again by broker_due. */
static void resume_due(struct queue *queue, uint64_t now_ms)
{
    if (!queue->due_again_ms || queue->due_again_ms > now_ms)
        return;
    queue->due_again_ms = 0;
    queue_due_update(queue);
}

/* Under the lock. `result`: of opening the database. */
static int expire_locked(struct write *write, int result, struct dead_letter *letters,
                         uint32_t *dead, bool *more)
{
    struct queue *queue = write->queue;
    uint64_t now_ms = write->monotonic_ms;
    struct list due;
    list_init(&due);
    resume_due(queue, now_ms);
    if (result) {
        scheduler_timer_set(queue->scheduler, &queue->scheduler->timers, &queue->timer,
                            now_ms + TRY_AGAIN_MS);
        return result;
    }
    uint32_t count = queue_expired(queue, now_ms, &due, BATCH);
    *more = count == BATCH;
    if (count)
        result = retry_leases(write, &due, letters, dead);
    if (!result)
        result = free_lanes(write, more);
    if (!queue->lane_count) /* nothing was here for long */
        queue_expiry_release(queue);
    if (result) /* the lanes' time must not stay in the past: that would be a busy wait */
        postpone_lanes(queue, now_ms);
    queue_timer_update(queue);
    return result;
}

int broker_expire(struct broker *broker, struct queue *queue, uint64_t now_ms, bool *more)
{
    struct local_queue *local = NULL;
    struct dead_letter letters[BATCH];
    uint32_t dead = 0;
    *more = false;
    if (queue->quarantined) /* it has nothing; a rebuild that was broken off set its timer */
        return 0;
    if (broker_local(broker, queue, &local) != 0)
        return -1;
    int result = broker_open_db(broker, local, true);
    if (broker_is_fatal(result))
        return broker_fail(broker, result, "open a queue");
    if (broker_lock(broker, &queue->lock) != 0)
        return -1;
    struct write write = {.broker = broker,
                          .local = local,
                          .queue = queue,
                          .now_ns = time_wall_ns(),
                          .monotonic_ms = now_ms};
    result = atomic_load(&queue->dead) ? 0 : expire_locked(&write, result, letters, &dead, more);
    lock_release(&queue->lock);
    if (result && broker_is_fatal(result))
        return broker_fail(broker, result, "expire leases");
    if (dead && dead_letter_run(broker, local, letters, dead) != 0)
        return -1;
    pool_reset(broker->scratch);
    if (result)
        log_write(LOG_ERROR, "store", "expire leases of queue \"%.*s\": %s", STR_PRINT(queue->name),
                  db_strerror(result));
    return 0;
}
