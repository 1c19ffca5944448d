#include "broker/delayed.h"

#include <errno.h>

#include "broker/apart.h"
#include "os/log.h"
#include "os/time.h"

#define READ_BYTES (1u << 20)
#define CONFLICTS_MAX 100
#define TRY_AGAIN_MS 1000 /* after a failure, or while the zone is full */

/* One that leaves the D records. */
struct delayed_message {
    uint64_t due_ms, seq;
    bool counted;      /* queue->delayed knows of it */
    struct lane *lane; /* due: where it goes */
    uint64_t to_seq;
    struct uuid id; /* purge: of one with a large part */
    bool large;
};

/* A batch of them, under the queue's lock. */
struct delayed_batch {
    struct write write;
    struct delayed_message messages[DELAYED_BATCH];
    uint32_t count;
    uint64_t next_due_ms; /* of the first that stays */
    uint64_t to_due_ms;   /* the next batch of this pass begins here ... */
    uint64_t to_seq;      /* ... and not at the first one, which waits for a lane */
    bool more;            /* another batch may be due */
    bool blocked;         /* the zone has no room for a lane, in this pass */
};

/* --- writing --- */

uint64_t delayed_due_ms(const struct write *write, uint64_t delay_ms)
{
    /* Clocks are read in whole milliseconds: one more, so that nothing comes early. */
    return write->now_ns / 1000000 + 1 + (delay_ms < DELAYED_MAX_MS ? delay_ms : DELAYED_MAX_MS);
}

int delayed_put(struct write *write, uint64_t due_ms, uint64_t seq, const struct buf *value)
{
    uint8_t key[RECORD_DELAYED_KEY_SIZE];
    if (value->failed)
        return ENOMEM;
    record_delayed_key(key, due_ms, seq);
    return queue_db_put(write->local->db, write->txn, str_of(key, sizeof(key)), buf_str(value));
}

void delayed_publish(struct write *write, uint64_t due_ms)
{
    queue_delayed_add(write->queue, due_ms);
    write->queue->counters->delayed++;
}

/* --- reading --- */

/* Fills the bulk buffer from the first one on that stands at a position or behind it. DB_NOTFOUND:
 * nothing is there. */
static int read_from(struct broker *broker, struct local_queue *local, uint64_t due_ms,
                     uint64_t seq)
{
    uint8_t from[RECORD_DELAYED_KEY_SIZE];
    DBC *cursor = NULL;
    record_delayed_key(from, due_ms, seq);
    int result = queue_db_cursor(local->db, &cursor);
    if (!result)
        result = queue_db_bulk_read(cursor, &broker->bulk, str_of(from, sizeof(from)), READ_BYTES);
    queue_db_cursor_close(cursor); /* before anything is written: it would wait for itself */
    return result;
}

/* The next one of the bulk buffer. False: the buffer has no more; *ended: nor has the store. */
static bool next_delayed(struct delayed_batch *batch, struct delayed_message *message,
                         struct str *value, bool *ended)
{
    struct str key;
    if (!queue_db_bulk_next(&batch->write.broker->bulk, &key, value))
        return false;
    *ended = key.size != RECORD_DELAYED_KEY_SIZE || key.data[0] != RECORD_TAG_DELAYED ||
             bytes_get_u64(key.data + 1) == RECORD_DELAYED_NEVER;
    if (*ended)
        return false;
    *message = (struct delayed_message){.due_ms = bytes_get_u64(key.data + 1),
                                        .seq = bytes_get_u64(key.data + 9)};
    message->counted =
        queue_scan_counted_delayed(batch->write.queue, message->due_ms, message->seq);
    return true;
}

static int delete_record(struct delayed_batch *batch, const struct delayed_message *message)
{
    uint8_t key[RECORD_DELAYED_KEY_SIZE];
    record_delayed_key(key, message->due_ms, message->seq);
    return queue_db_delete(batch->write.local->db, batch->write.txn, str_of(key, sizeof(key)));
}

/* --- becoming due --- */

/* One that cannot be read is kept where it is never due. */
static int put_aside(struct delayed_batch *batch, const struct delayed_message *message,
                     struct str value)
{
    struct write *write = &batch->write;
    uint8_t key[RECORD_DELAYED_KEY_SIZE];
    log_write(LOG_ERROR, "store", "queue \"%.*s\": delayed message %llx cannot be read; skipped",
              STR_PRINT(write->queue->name), (unsigned long long)message->seq);
    record_delayed_key(key, RECORD_DELAYED_NEVER, message->seq);
    return queue_db_put(write->local->db, write->txn, str_of(key, sizeof(key)), value);
}

/* The lane it goes to; NULL when the zone has no room. From then on no lane is made in this pass,
 * so that none of its messages overtakes another. */
static struct lane *find_lane(struct delayed_batch *batch, const struct record_delayed *delayed)
{
    const struct record_lane *lane = &delayed->lane;
    if (batch->blocked &&
        !queue_lane_find(batch->write.queue, lane->fairness_key, lane->throttle_keys))
        return NULL;
    return write_stage_lane(&batch->write, lane->fairness_key, lane->weight, lane->throttle_count,
                            lane->throttle_keys);
}

static int stage_due(struct delayed_batch *batch, struct delayed_message *message, struct str value)
{
    struct write *write = &batch->write;
    uint8_t key[RECORD_MESSAGE_KEY_SIZE];
    struct record_delayed delayed;
    int result;
    if (record_delayed_parse(value, &delayed)) {
        message->lane = find_lane(batch, &delayed);
        if (!message->lane) {
            batch->blocked = true;
            batch->next_due_ms =
                message->due_ms < batch->next_due_ms ? message->due_ms : batch->next_due_ms;
            return 0;
        }
        message->to_seq = write->next_seq++;
        record_message_key(key, message->lane->id, message->to_seq);
        result =
            queue_db_put(write->local->db, write->txn, str_of(key, sizeof(key)), delayed.value);
    } else {
        result = put_aside(batch, message, value);
    }
    if (!result)
        result = delete_record(batch, message);
    if (!result)
        batch->messages[batch->count++] = *message;
    return result;
}

/* The next batch begins at this position when it must not begin at the first one. */
static void go_on_at(struct delayed_batch *batch, uint64_t due_ms, uint64_t seq)
{
    batch->more = true;
    batch->next_due_ms = due_ms < batch->next_due_ms ? due_ms : batch->next_due_ms;
    if (batch->blocked) {
        batch->to_due_ms = due_ms;
        batch->to_seq = seq;
    }
}

static int stage_all_due(struct delayed_batch *batch, uint64_t wall_ms)
{
    const struct queue *queue = batch->write.queue;
    struct delayed_message message = {.due_ms = 0};
    struct str value;
    bool ended = false;
    int result = read_from(batch->write.broker, batch->write.local, queue->blocked_due_ms,
                           queue->blocked_seq);
    if (result)
        return result == DB_NOTFOUND ? 0 : result;
    while (!result && next_delayed(batch, &message, &value, &ended)) {
        if (message.due_ms > wall_ms) {
            batch->next_due_ms =
                message.due_ms < batch->next_due_ms ? message.due_ms : batch->next_due_ms;
            return 0;
        }
        if (batch->count == DELAYED_BATCH) {
            go_on_at(batch, message.due_ms, message.seq);
            return 0;
        }
        result = stage_due(batch, &message, value);
    }
    if (!result && !ended) /* the buffer was too small: what follows is no earlier */
        go_on_at(batch, message.due_ms, message.seq + 1);
    return result;
}

static void forget_counted(struct delayed_batch *batch)
{
    struct queue *queue = batch->write.queue;
    for (uint32_t i = 0; i < batch->count; i++)
        queue->delayed -= batch->messages[i].counted;
}

static void publish_due(struct delayed_batch *batch)
{
    struct queue *queue = batch->write.queue;
    write_publish(&batch->write);
    forget_counted(batch);
    queue->next_due_ms = batch->next_due_ms;
    queue->blocked_due_ms = batch->to_due_ms;
    queue->blocked_seq = batch->to_seq;
    for (uint32_t i = 0; i < batch->count; i++) {
        struct lane *lane = batch->messages[i].lane;
        if (!lane)
            continue;
        queue_lane_append(queue, lane, batch->messages[i].to_seq);
        queue_lane_update(queue, lane, batch->write.monotonic_ms);
    }
    queue_wake_waiters(queue);
}

static void begin_batch(struct delayed_batch *batch, DB_TXN *txn)
{
    write_begin(&batch->write, txn);
    batch->count = 0;
    batch->next_due_ms = UINT64_MAX;
    batch->to_due_ms = batch->to_seq = 0;
    batch->more = batch->blocked = false;
}

/* What stands before this batch waits for a lane: it is due and stays. */
static void go_on_behind(struct delayed_batch *batch)
{
    const struct queue *queue = batch->write.queue;
    if (!queue->blocked_due_ms && !queue->blocked_seq)
        return;
    batch->blocked = true;
    batch->next_due_ms = queue->next_due_ms;
}

static int run_due(struct delayed_batch *batch, uint64_t wall_ms)
{
    DB_TXN *txn = NULL;
    int result = env_begin(batch->write.broker->env, &txn);
    if (result)
        return result;
    begin_batch(batch, txn);
    go_on_behind(batch);
    result = stage_all_due(batch, wall_ms);
    if (!result)
        result = write_consequences(&batch->write);
    if (result)
        (void)txn->abort(txn);
    else
        result = env_commit(txn, batch->write.broker->options.commit);
    if (result)
        write_undo(&batch->write);
    else
        publish_due(batch);
    return result;
}

/* Under the lock. `result`: of opening the database. */
static int move_due(struct delayed_batch *batch, uint64_t wall_ms, int result)
{
    struct queue *queue = batch->write.queue;
    int tries = 0;
    queue->due_again_ms = 0;
    if (queue->next_due_ms > wall_ms)
        return 0;
    if (!result)
        do {
            result = run_due(batch, wall_ms);
        } while ((env_is_conflict(result) || broker_make_room(batch->write.broker, result)) &&
                 ++tries < CONFLICTS_MAX);
    /* Neither a full zone nor a full disk is over at once: no busy wait. */
    if (result || (batch->blocked && !batch->more)) {
        queue->due_again_ms = batch->write.monotonic_ms + TRY_AGAIN_MS;
        queue_timer_update(queue);
    }
    return result;
}

static int open_batch(struct delayed_batch *batch, struct broker *broker, struct local_queue *local,
                      int *result)
{
    memset(batch, 0, sizeof(*batch));
    batch->write = (struct write){.broker = broker, .local = local, .queue = local->queue};
    *result = broker_open_db(broker, local, false);
    if (broker_is_fatal(*result))
        return broker_fail(broker, *result, "open a queue");
    if (broker_lock(broker, &local->queue->lock) != 0)
        return -1;
    batch->write.now_ns = time_wall_ns();
    batch->write.monotonic_ms = time_monotonic_ms();
    return 0;
}

int broker_due(struct broker *broker, struct queue *queue, uint64_t wall_ms, bool *more)
{
    struct local_queue *local = NULL;
    struct delayed_batch batch;
    bool full = false;
    int result = 0;
    *more = false;
    if (broker_local(broker, queue, &local) != 0 || open_batch(&batch, broker, local, &result) != 0)
        return -1;
    if (!atomic_load(&queue->dead) && !queue->quarantined) {
        result = move_due(&batch, wall_ms, result);
        *more = !result && batch.more && !queue->due_again_ms;
        full = batch.blocked && !*more;
        if (!*more)
            queue_due_update(queue);
    }
    lock_release(&queue->lock);
    broker_note_lock(broker, queue, batch.write.monotonic_ms);
    if (broker_is_fatal(result))
        return broker_fail(broker, result, "deliver delayed messages");
    if (full && !scheduler_is_over(broker->scheduler))
        log_write(LOG_WARN, "broker", "shared memory is full: delayed messages of \"%.*s\" wait",
                  STR_PRINT(queue->name));
    if (result && !queue->quarantined)
        log_write(LOG_ERROR, "store", "delayed messages of queue \"%.*s\": %s",
                  STR_PRINT(queue->name), db_strerror(result));
    return 0;
}

/* --- purging --- */

static int stage_purge(struct delayed_batch *batch, struct delayed_message *message,
                       struct str value)
{
    struct write *write = &batch->write;
    struct queue_db *db = write->local->db;
    struct record_delayed delayed;
    uint32_t chunks = 0;
    bool done = false;
    int result = 0;
    if (record_delayed_parse(value, &delayed) && delayed.message.apart) {
        message->id = delayed.message.id;
        message->large = apart_is_large(delayed.message.apart) ||
                         write->small_removed + delayed.message.apart > APART_SMALL_BATCH;
        struct record_marker marker = apart_marker(write->broker);
        if (message->large)
            result = chunks_mark(db, write->txn, &message->id, &marker);
        else
            result = chunks_delete(db, write->txn, &message->id, UINT32_MAX, &chunks, &done);
        write->small_removed += message->large ? 0 : delayed.message.apart;
        write->chunks_removed += chunks;
    }
    if (!result)
        result = delete_record(batch, message);
    batch->messages[batch->count++] = *message;
    return result;
}

/* Notes in `walk` how far it has come. */
static int stage_all_purged(struct delayed_batch *batch, struct delayed_walk *walk)
{
    struct delayed_message message;
    struct str value;
    bool ended = false;
    int result = read_from(batch->write.broker, batch->write.local, walk->due_ms, walk->seq);
    if (result == DB_NOTFOUND)
        ended = true;
    else if (result)
        return result;
    while (!ended && batch->count < DELAYED_BATCH &&
           next_delayed(batch, &message, &value, &ended)) {
        if (message.seq < walk->before)
            result = stage_purge(batch, &message, value);
        if (result)
            return result;
        walk->due_ms = message.due_ms;
        walk->seq = message.seq + 1;
    }
    walk->ended = ended;
    return 0;
}

static int run_purge(struct delayed_batch *batch, struct delayed_walk *walk)
{
    struct delayed_walk next = *walk;
    struct queue *queue = batch->write.queue;
    DB_TXN *txn = NULL;
    int result = env_begin(batch->write.broker->env, &txn);
    if (result)
        return result;
    begin_batch(batch, txn);
    result = stage_all_purged(batch, &next);
    if (result)
        (void)txn->abort(txn);
    else
        result = env_commit(txn, batch->write.broker->options.commit);
    if (result) {
        batch->count = 0;
        return result;
    }
    *walk = next;
    forget_counted(batch);
    queue->counters->purged += batch->count;
    atomic_fetch_add(&queue->chunks_removed, batch->write.chunks_removed);
    return 0;
}

int delayed_purge(struct broker *broker, struct local_queue *local, struct delayed_walk *walk,
                  uint32_t *purged, int *result)
{
    struct delayed_batch batch;
    int status = 0, tries = 0;
    *purged = 0;
    if (open_batch(&batch, broker, local, result) != 0)
        return -1;
    if (*result == ENOENT) { /* nothing was ever written to it */
        walk->ended = true;
        *result = 0;
    } else if (!*result && !atomic_load(&local->queue->dead)) {
        do {
            *result = run_purge(&batch, walk);
        } while ((env_is_conflict(*result) || broker_make_room(broker, *result)) &&
                 ++tries < CONFLICTS_MAX);
    }
    lock_release(&local->queue->lock);
    broker_note_lock(broker, local->queue, batch.write.monotonic_ms);
    if (broker_is_fatal(*result))
        return broker_fail(broker, *result, "delete delayed messages");
    for (uint32_t i = 0; i < batch.count && status == 0; i++)
        if (batch.messages[i].large)
            status = apart_discard(broker, local, &batch.messages[i].id);
    if (status == 0)
        apart_finish(broker);
    *purged = batch.count;
    return status;
}
