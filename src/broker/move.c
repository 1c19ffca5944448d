#include "broker/move.h"

#include <errno.h>

#include "broker/write.h"
#include "fibp/status.h"
#include "os/log.h"
#include "os/time.h"

#define MOVE_MAX 100
#define CONFLICTS_MAX 100

/* One message on its way. */
struct moving {
    struct lane *lane;   /* in the queue it leaves */
    struct lease *lease; /* that ends with it; NULL for a ready message never given back */
    uint64_t seq;        /* there */
    bool counted;        /* lane->ready knows of it */
    struct lane *to_lane;
    uint64_t to_seq;
};

struct move {
    struct broker *broker;
    struct write from, to;
    struct moving *messages; /* MOVE_MAX in scratch memory */
    uint32_t count;
    struct lane *lane; /* ready messages: the lane they come from */
    uint64_t next;     /* and its `next` after them */
    bool ended;
    bool full; /* the zone has no room for the lane there */
};

/* --- both queues --- */

static int lock_both(struct broker *broker, struct queue *a, struct queue *b)
{
    if (a == b)
        return err_set(&broker->failure, 0, "a move from a queue to itself");
    struct queue *first = a->id < b->id ? a : b, *second = first == a ? b : a;
    if (broker_lock(broker, &first->lock) != 0)
        return -1;
    if (broker_lock(broker, &second->lock) == 0)
        return 0;
    lock_release(&first->lock);
    return -1;
}

static int prepare(struct move *move, struct broker *broker, struct local_queue *from,
                   struct local_queue *to, int *result)
{
    memset(move, 0, sizeof(*move));
    move->broker = broker;
    move->from = (struct write){.broker = broker, .local = from, .queue = from->queue};
    move->to = (struct write){.broker = broker, .local = to, .queue = to->queue};
    move->messages = pool_zalloc(broker->scratch, MOVE_MAX * sizeof(*move->messages));
    *result = move->messages ? broker_open_db(broker, from, true) : ENOMEM;
    if (!*result)
        *result = broker_open_db(broker, to, true);
    if (broker_is_fatal(*result))
        return broker_fail(broker, *result, "open a queue");
    if (lock_both(broker, from->queue, to->queue) != 0)
        return -1;
    move->from.now_ns = move->to.now_ns = time_wall_ns();
    move->from.monotonic_ms = move->to.monotonic_ms = time_monotonic_ms();
    return 0;
}

static int finish(struct move *move, int result, uint8_t *status)
{
    lock_release(&move->from.queue->lock);
    lock_release(&move->to.queue->lock);
    if (!result)
        return 0;
    *status = FIBP_STORAGE_ERROR;
    log_write(LOG_ERROR, "store", "move from queue \"%.*s\" to \"%.*s\": %s",
              STR_PRINT(move->from.queue->name), STR_PRINT(move->to.queue->name),
              db_strerror(result));
    return broker_is_fatal(result) ? broker_fail(move->broker, result, "move messages") : 0;
}

/* --- one message --- */

/* Writes one to its new place and takes it from the old one. `attempt_add` 1, or 0 to set it to 0.
 */
static int stage_message(struct move *move, struct moving *moving, uint32_t attempt_add)
{
    struct buf *value = &move->broker->value;
    const struct lane *lane = moving->lane;
    uint8_t key[RECORD_MESSAGE_KEY_SIZE];
    struct record_message message;
    DB_TXN *txn = move->from.txn;
    moving->to_lane = write_stage_lane(&move->to, str_of(lane->key->name, lane->key->name_size),
                                       lane->stored_weight, lane->throttle_count,
                                       str_of(lane->throttle_keys, lane->throttle_size));
    if (!moving->to_lane) {
        move->full = true;
        return ENOSPC;
    }
    moving->to_seq = move->to.next_seq++;
    if (moving->lease)
        write_stage_removal(&move->from, moving->lease);
    record_message_key(key, lane->id, moving->seq);
    int result = queue_db_get(move->from.local->db, txn, str_of(key, sizeof(key)), value);
    if (result)
        return result;
    if (!record_message_parse(buf_str(value), &message))
        return EINVAL;
    record_message_set_attempt(value->data, attempt_add ? message.attempt + attempt_add : 0);
    result = queue_db_delete(move->from.local->db, txn, str_of(key, sizeof(key)));
    if (result)
        return result;
    record_message_key(key, moving->to_lane->id, moving->to_seq);
    /* The value was read before write_stage_lane's record of the lane is written: consequences come
     * after all messages. */
    return queue_db_put(move->to.local->db, txn, str_of(key, sizeof(key)), buf_str(value));
}

static void publish_message(struct move *move, struct moving *moving)
{
    struct lane *lane = moving->lane, *to_lane = moving->to_lane;
    if (!moving->lease) {
        if (moving->counted)
            queue_ready_add(move->from.queue, lane, -1);
    } else {
        if (moving->lease->state == LEASE_RETURNED)
            queue_ready_add(move->from.queue, lane, -1);
        queue_lease_end(move->from.queue, moving->lease);
    }
    queue_lane_update(move->from.queue, lane, move->from.monotonic_ms);
    if (!queue_lane_runnable(to_lane) && !to_lane->unscanned)
        to_lane->next = moving->to_seq;
    queue_ready_add(move->to.queue, to_lane, 1);
    queue_lane_update(move->to.queue, to_lane, move->to.monotonic_ms);
}

static void undo(struct move *move)
{
    for (uint32_t i = 0; i < move->count; i++)
        if (move->messages[i].lease)
            write_undo_removal(&move->from, move->messages[i].lease);
    write_undo(&move->from);
    write_undo(&move->to);
}

static void publish(struct move *move)
{
    write_publish(&move->from);
    write_publish(&move->to);
    for (uint32_t i = 0; i < move->count; i++)
        publish_message(move, &move->messages[i]);
    queue_wake_waiters(move->from.queue);
    queue_wake_waiters(move->to.queue);
}

/* The transaction over move->messages. Berkeley DB's value. */
static int run_once(struct move *move, uint32_t attempt_add)
{
    DB_TXN *txn = NULL;
    int result = env_begin(move->broker->env, &txn);
    if (result)
        return result;
    write_begin(&move->from, txn);
    write_begin(&move->to, txn);
    for (uint32_t i = 0; i < move->count && !result; i++)
        result = stage_message(move, &move->messages[i], attempt_add);
    if (!result)
        result = write_consequences(&move->from);
    if (!result)
        result = write_consequences(&move->to);
    if (result)
        (void)txn->abort(txn);
    else
        result = env_commit(txn, move->broker->options.commit);
    if (result)
        undo(move);
    else
        publish(move);
    return result;
}

static int run(struct move *move, uint32_t attempt_add, uint8_t *status)
{
    int result = 0, tries = 0;
    do {
        result = run_once(move, attempt_add);
    } while (env_is_conflict(result) && ++tries < CONFLICTS_MAX);
    if (!result)
        *status = FIBP_OK;
    if (!move->full)
        return result;
    *status = FIBP_CHANNEL_FULL;
    return 0;
}

/* --- leased --- */

int move_leased(struct broker *broker, struct local_queue *from, struct local_queue *to,
                const struct uuid *id, uint8_t *status)
{
    struct move move;
    int result = 0;
    if (prepare(&move, broker, from, to, &result) != 0)
        return -1;
    if (result)
        return finish(&move, result, status);
    struct lease *lease = queue_lease_find(from->queue, id);
    if (atomic_load(&from->queue->dead) || atomic_load(&to->queue->dead)) {
        *status = FIBP_QUEUE_NOT_FOUND;
    } else if (!lease || lease->state != LEASE_HELD) {
        *status = FIBP_MESSAGE_NOT_FOUND;
    } else {
        move.messages[move.count++] =
            (struct moving){.lane = lease->lane, .lease = lease, .seq = lease->seq};
        result = run(&move, 1, status);
    }
    return finish(&move, result, status);
}

/* --- ready --- */

static void look_at_ring(const struct list *ring, struct lane **oldest)
{
    LIST_EACH(ring, entry)
    {
        struct drr_key *drr = CONTAINER_OF(entry, struct drr_key, ring);
        struct fairness_key *key = CONTAINER_OF(drr, struct fairness_key, drr);
        struct lane *lane = queue_key_first(key);
        if (lane && (!*oldest || queue_lane_head(lane) < queue_lane_head(*oldest)))
            *oldest = lane;
    }
}

static void collect_returned(struct move *move, uint32_t limit)
{
    LIST_EACH(&move->lane->returned, entry)
    {
        struct lease *lease = CONTAINER_OF(entry, struct lease, wheel.list);
        if (move->count == limit)
            break;
        move->messages[move->count++] =
            (struct moving){.lane = move->lane, .lease = lease, .seq = lease->seq};
    }
}

static int collect_ready(struct move *move, uint32_t limit)
{
    struct queue_db_bulk *bulk = &move->broker->bulk;
    struct record_message message;
    struct str key, value;
    uint8_t from[RECORD_MESSAGE_KEY_SIZE];
    DBC *cursor = NULL;
    record_message_key(from, move->lane->id, move->next);
    int result = queue_db_cursor(move->from.local->db, &cursor);
    if (!result)
        result = queue_db_bulk_read(cursor, bulk, str_of(from, sizeof(from)), 0);
    queue_db_cursor_close(cursor);
    while (!result && move->count < limit && queue_db_bulk_next(bulk, &key, &value)) {
        if (key.size != sizeof(from) || memcmp(key.data, from, 9) != 0) {
            move->ended = true;
            break;
        }
        uint64_t seq = bytes_get_u64(key.data + 9);
        move->next = seq + 1;
        if (!record_message_parse(value, &message) ||
            (seq < move->lane->leased_below && queue_lease_find(move->from.queue, &message.id)))
            continue;
        move->messages[move->count++] =
            (struct moving){.lane = move->lane,
                            .seq = seq,
                            .counted = queue_scan_counted(move->from.queue, move->lane->id, seq)};
    }
    if (result == DB_NOTFOUND) {
        move->ended = true;
        result = 0;
    }
    return result;
}

/* What was looked at is moved, or leased and passed over. */
static void leave_lane(struct move *move)
{
    struct lane *lane = move->lane;
    lane->next = move->next;
    if (move->ended && lane->unscanned)
        lane->drained = true;
    else if (move->ended && lane->ready && list_empty(&lane->returned))
        queue_ready_add(move->from.queue, lane, -(int64_t)lane->ready);
    queue_lane_update(move->from.queue, lane, move->from.monotonic_ms);
}

/* One batch from the lane whose head came first. */
static int move_batch(struct move *move, uint32_t limit, uint32_t *moved, uint8_t *status)
{
    struct queue *queue = move->from.queue;
    int result = 0;
    while (!result && !move->count && *status == FIBP_OK) {
        move->lane = NULL;
        move->ended = false;
        look_at_ring(&queue->drr.active, &move->lane);
        if (!move->lane)
            return 0;
        move->next = move->lane->next;
        collect_returned(move, limit);
        if (!move->count)
            result = collect_ready(move, limit);
        if (!result && move->count)
            result = run(move, 0, status);
        if (!result && *status == FIBP_OK)
            leave_lane(move);
    }
    *moved = *status == FIBP_OK && !result ? move->count : 0;
    return result;
}

int move_ready(struct broker *broker, struct local_queue *from, struct local_queue *to,
               uint32_t limit, uint32_t *moved, uint8_t *status)
{
    struct move move;
    int result = 0;
    *moved = 0;
    *status = FIBP_OK;
    if (prepare(&move, broker, from, to, &result) != 0)
        return -1;
    if (result)
        return finish(&move, result, status);
    if (atomic_load(&from->queue->dead) || atomic_load(&to->queue->dead))
        *status = FIBP_QUEUE_NOT_FOUND;
    else
        result = move_batch(&move, limit < MOVE_MAX ? limit : MOVE_MAX, moved, status);
    return finish(&move, result, status);
}
