/* purge - deletes what a queue holds, but for messages that are leased: first the delayed ones,
 * then the others lane by lane, a batch at a time. What came after it began stays. */
#include "broker/apart.h"
#include "broker/delayed.h"
#include "broker/order.h"
#include "broker/task.h"
#include "fibp/status.h"
#include "os/log.h"
#include "os/time.h"

#define BATCH 100u
#define CONFLICTS_MAX 100

struct purge {
    struct task task;
    uint64_t id;
    uint64_t before;    /* messages from this number on stay */
    uint64_t lane, seq; /* where it goes on */
    struct delayed_walk delayed;
    bool begun, ended;
    struct write_entry entries[BATCH];
    uint32_t count;
};

/* --- one message --- */

static int stage(struct write *write, struct write_entry *entry)
{
    uint8_t key[RECORD_MESSAGE_KEY_SIZE];
    entry->leftover = false;
    entry->staged = true;
    if (entry->lease)
        write_stage_removal(write, entry->lease);
    record_message_key(key, entry->lane->id, entry->seq);
    int result = queue_db_delete(write->local->db, write->txn, str_of(key, sizeof(key)));
    return result || !entry->apart ? result
                                   : write_remove_apart(write, entry, &entry->id, entry->apart);
}

static void undo(struct write *write, struct write_entry *entry)
{
    entry->leftover = false;
    if (entry->lease)
        write_undo_removal(write, entry->lease);
}

static void publish(struct write *write, struct write_entry *entry)
{
    struct lane *lane = entry->lane;
    if (entry->lease || entry->counted)
        queue_ready_add(write->queue, lane, -1);
    if (entry->lease)
        queue_lease_end(write->queue, entry->lease);
    else if (entry->seq >= lane->next) { /* what stood before it went, too, or is leased */
        lane->next = entry->seq + 1;
        lane->next_is_known = false;
    }
    queue_lane_update(write->queue, lane, write->monotonic_ms);
    write->queue->counters->purged++;
}

static void set_status(struct write_entry *entry, uint8_t status)
{
    (void)entry;
    (void)status;
}

const struct write_method write_purge = {stage, undo, publish, set_status};

/* --- a batch --- */

static void collect(struct purge *purge, struct queue *queue, struct lane *lane, uint64_t seq,
                    struct str value)
{
    struct write_entry *entry = &purge->entries[purge->count];
    struct record_message message;
    struct lease *lease = NULL;
    if (!record_message_parse(value, &message))
        return;
    if (seq < lane->next || seq < lane->leased_below)
        lease = queue_lease_find(queue, &message.id);
    if (lease && lease->state != LEASE_RETURNED)
        return;
    *entry = (struct write_entry){.kind = WRITE_PURGE,
                                  .id = message.id,
                                  .lane = lane,
                                  .lease = lease,
                                  .seq = seq,
                                  .apart = message.apart,
                                  .counted = queue_scan_counted(queue, lane->id, seq)};
    if (purge->count++)
        entry[-1].next = entry;
}

static int read_batch(struct purge *purge, struct broker *broker, struct local_queue *local)
{
    uint8_t from[RECORD_MESSAGE_KEY_SIZE];
    DBC *cursor = NULL;
    record_message_key(from, purge->lane, purge->seq);
    int result = queue_db_cursor(local->db, &cursor);
    if (!result)
        result = queue_db_bulk_read(cursor, &broker->bulk, str_of(from, sizeof(from)), 0);
    queue_db_cursor_close(cursor);
    return result;
}

/* Under the lock: the next ones that are to go, as far as one read shows them. */
static int collect_batch(struct purge *purge, struct broker *broker, struct local_queue *local)
{
    struct lane *lane = NULL;
    struct str key, value;
    uint64_t from_lane = purge->lane, from_seq = purge->seq;
    purge->count = 0;
    int result = read_batch(purge, broker, local);
    if (result == DB_NOTFOUND) {
        purge->ended = true;
        return 0;
    }
    while (!result && purge->count < BATCH && queue_db_bulk_next(&broker->bulk, &key, &value)) {
        if (key.size != RECORD_MESSAGE_KEY_SIZE || key.data[0] != RECORD_TAG_MESSAGE) {
            purge->ended = true;
            break;
        }
        uint64_t lane_id = bytes_get_u64(key.data + 1), seq = bytes_get_u64(key.data + 9);
        if (!lane || lane->id != lane_id)
            lane = order_lane(broker, local, lane_id, &result);
        purge->lane = lane_id;
        purge->seq = seq + 1;
        if (lane && seq < purge->before)
            collect(purge, local->queue, lane, seq, value);
        if (!lane || seq >= purge->before) { /* nothing more of this lane */
            purge->lane = lane_id + 1;
            purge->seq = 0;
            break;
        }
    }
    if (result) { /* what was passed is still to be done */
        purge->lane = from_lane;
        purge->seq = from_seq;
    }
    return result;
}

static int run(struct purge *purge, struct broker *broker, struct local_queue *local)
{
    struct write write = {.broker = broker,
                          .local = local,
                          .queue = local->queue,
                          .now_ns = time_wall_ns(),
                          .monotonic_ms = time_monotonic_ms()};
    int result, tries = 0;
    do {
        result = collect_batch(purge, broker, local);
    } while (env_is_conflict(result) && ++tries < CONFLICTS_MAX);
    if (result || !purge->count)
        return result;
    do {
        result = write_run(&write, purge->entries, NULL);
    } while ((env_is_conflict(result) || broker_make_room(broker, result)) &&
             ++tries < CONFLICTS_MAX);
    return result;
}

/* Without the lock. */
static int remove_leftovers(struct purge *purge, struct broker *broker, struct local_queue *local)
{
    int status = 0;
    for (uint32_t i = 0; i < purge->count && status == 0; i++)
        if (purge->entries[i].leftover)
            status = apart_discard(broker, local, &purge->entries[i].id);
    if (status == 0)
        apart_finish(broker);
    return status;
}

static int purge_batch(struct purge *purge, struct broker *broker, struct local_queue *local,
                       int *result)
{
    *result = broker_open_db(broker, local, true);
    if (*result)
        return broker_is_fatal(*result) ? broker_fail(broker, *result, "open a queue") : 0;
    if (broker_lock(broker, &local->queue->lock) != 0)
        return -1;
    uint64_t began_ms = time_monotonic_ms();
    purge->count = 0;
    *result = run(purge, broker, local);
    lock_release(&local->queue->lock);
    broker_note_lock(broker, local->queue, began_ms);
    if (broker_is_fatal(*result))
        return broker_fail(broker, *result, "purge a queue");
    if (*result)
        return 0;
    purge->task.progress += purge->count;
    return remove_leftovers(purge, broker, local);
}

/* --- the task --- */

static int begin(struct broker *broker, struct purge *purge, bool *done)
{
    struct operation_purge *operation = (struct operation_purge *)purge->task.operation;
    struct local_queue *local = NULL;
    if (broker_find_queue(broker, operation->name, &local) != 0)
        return -1;
    *done = !local;
    if (!local) {
        operation->operation.status = FIBP_QUEUE_NOT_FOUND;
        return 0;
    }
    if (broker_lock(broker, &local->queue->lock) != 0)
        return -1;
    purge->before = purge->delayed.before = local->queue->next_seq;
    lock_release(&local->queue->lock);
    purge->id = local->queue->id;
    purge->begun = true;
    return 0;
}

static int step(struct broker *broker, struct task *task, bool *done)
{
    struct purge *purge = CONTAINER_OF(task, struct purge, task);
    struct operation_purge *operation = (struct operation_purge *)task->operation;
    struct local_queue *local = NULL;
    uint32_t purged = 0;
    int result = 0;
    if (!purge->begun)
        return begin(broker, purge, done);
    if (task_queue(broker, operation->name, purge->id, &local) != 0)
        return -1;
    *done = true;
    if (!local) {
        task_stop(task, FIBP_QUEUE_NOT_FOUND, NULL);
        return 0;
    }
    int status = purge->delayed.ended
                     ? purge_batch(purge, broker, local, &result)
                     : delayed_purge(broker, local, &purge->delayed, &purged, &result);
    if (status != 0)
        return -1;
    task->progress += purged;
    operation->purged = task->progress;
    *done = result || purge->ended;
    if (!result)
        return 0;
    task_stop(task, FIBP_STORAGE_ERROR, NULL);
    if (!local->queue->quarantined)
        log_write(LOG_ERROR, "store", "purge of queue \"%.*s\": %s", STR_PRINT(local->queue->name),
                  db_strerror(result));
    return 0;
}

static const struct task_method method = {sizeof(struct purge), step, NULL};

int broker_purge(struct broker *broker, struct operation *operation)
{
    operation->wrote = true;
    ((struct operation_purge *)operation)->purged = 0;
    task_begin(broker, operation, &method);
    return 0;
}
