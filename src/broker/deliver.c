/*
 * deliver - picks messages for this worker's consumers and leases them.
 *
 * A pull works on one queue, under its lock: (1) the round robin says which lanes deliver how many;
 * (2) their messages are read in order; (3) one transaction writes the batch of leases, handed to
 * the kernel before anything goes to a socket; (4) the zone changes; then, without the lock, what
 * is stored apart is read into the frames, and these are handed up.
 */
#include <errno.h>
#include <stdlib.h>

#include "broker/apart.h"
#include "broker/dead_letter.h"
#include "broker/pick.h"
#include "fibp/status.h"
#include "os/log.h"
#include "os/time.h"
#include "sched/hold.h"

#define LATER_MS 500
#define BULK_WORTH 4 /* a bulk read copies 32 KiB and more: fewer messages are read one by one */

/* --- (2) reading; (1) is broker/pick --- */

static bool copy_body(struct pull *pull, struct record_message *message)
{
    uint8_t *copy = pool_alloc(pull->broker->scratch, message->body.size ? message->body.size : 1);
    if (!copy)
        return false;
    if (message->body.size)
        memcpy(copy, message->body.data, message->body.size);
    message->body.data = copy;
    if (message->is_dead) {
        message->dead.reason = pool_str(pull->broker->scratch, message->dead.reason);
        message->dead.origin = pool_str(pull->broker->scratch, message->dead.origin);
        message->is_dead = message->dead.reason.data && message->dead.origin.data;
    }
    return true;
}

/* Up fast: a pull of large messages must stay within its bytes. */
static void follow(size_t *mean, size_t size)
{
    *mean = size > *mean ? (*mean + size + 1) / 2 : (*mean * 7 + size) / 8;
}

static void note_size(struct pull *pull, const struct record_message *message, size_t value_size)
{
    follow(&pull->local->record_size, value_size + (size_t)message->apart);
    follow(&pull->local->value_size, value_size);
    pull->bytes += value_size + (size_t)message->apart;
}

/* Takes one record for `lane`; false: it is not to be delivered now. */
static bool take_record(struct pull *pull, struct pull_lane *lane, uint64_t seq, struct str value,
                        struct pull_message *out)
{
    if (!record_message_parse(value, &out->message)) {
        log_write(LOG_ERROR, "store",
                  "queue \"%.*s\": lane %llx seq %llx holds no message; skipped",
                  STR_PRINT(pull->queue->name), (unsigned long long)lane->lane->id,
                  (unsigned long long)seq);
        return false;
    }
    if (seq < lane->lane->leased_below && queue_lease_find(pull->queue, &out->message.id))
        return false;
    out->seq = seq;
    out->lane = lane;
    note_size(pull, &out->message, value.size);
    return true;
}

/* Takes one record that stands behind `from` in key order, if it is of the lane. 1: it is in `out`;
 * 0: it was passed over, or the lane has ended; -1: no memory. */
static int take_next(struct pull *pull, struct pull_lane *lane, const uint8_t *from, struct str key,
                     struct str value, struct pull_message *out)
{
    if (key.size != RECORD_MESSAGE_KEY_SIZE || memcmp(key.data, from, 9) != 0) {
        lane->ended = true;
        return 0;
    }
    uint64_t seq = bytes_get_u64(key.data + 9);
    lane->next = seq + 1;
    if (!take_record(pull, lane, seq, value, out))
        return 0;
    if (!queue_scan_counted(pull->queue, lane->lane->id, seq))
        lane->uncounted++;
    return copy_body(pull, &out->message) ? 1 : -1;
}

static int read_one(struct pull *pull, struct pull_lane *lane, struct pull_message *out,
                    uint32_t *got)
{
    uint8_t from[RECORD_MESSAGE_KEY_SIZE], key[RECORD_KEY_MAX];
    size_t key_size = 0;
    struct buf *value = &pull->broker->value;
    record_message_key(from, lane->lane->id, lane->next);
    int result =
        queue_db_read_first(pull->cursor, str_of(from, sizeof(from)), key, &key_size, value);
    if (result)
        return result;
    int taken = take_next(pull, lane, from, str_of(key, key_size), buf_str(value), out);
    *got += taken > 0;
    return taken < 0 ? ENOMEM : 0;
}

/* Takes records out of a bulk until there are `count` messages; *left tells that there may be more
 * in it. Records that are not new may be followed by others in the store by now: of them only those
 * that belong to the lane mean something. */
static int take_bulk(struct pull *pull, struct pull_lane *lane, struct queue_db_bulk *bulk,
                     bool new, uint32_t count, struct pull_message *out, uint32_t *got, bool *left)
{
    uint8_t from[RECORD_MESSAGE_KEY_SIZE];
    struct str key, value;
    record_message_key(from, lane->lane->id, lane->next);
    *left = true;
    while (*got < count && !lane->ended && pull->bytes < PULL_BYTES) {
        *left = queue_db_bulk_next(bulk, &key, &value);
        if (!*left)
            break;
        if (!new &&str_compare(key, str_of(from, sizeof(from))) < 0)
            continue;
        if (!new && (key.size != sizeof(from) || memcmp(key.data, from, 9) != 0)) {
            *left = false;
            break;
        }
        int taken = take_next(pull, lane, from, key, value, &out[*got]);
        if (taken < 0)
            return ENOMEM;
        *got += (uint32_t)taken;
    }
    return 0;
}

/* Takes what an earlier pull has read of the lane and not needed. */
static int read_kept(struct pull *pull, struct pull_lane *lane, uint32_t count,
                     struct pull_message *out, uint32_t *got)
{
    struct read_ahead_lane *kept =
        read_ahead_find(&pull->broker->ahead, pull->queue, lane->lane->id, lane->next);
    bool left = false;
    if (!kept)
        return 0;
    int result = take_bulk(pull, lane, &kept->bulk, false, count, out, got, &left);
    kept->next = lane->next;
    if (!left || result)
        read_ahead_drop(kept);
    return result;
}

/* Whether what a bulk read finds beyond `count` messages will be used. */
static bool is_worth_keeping(const struct pull *pull, const struct pull_lane *lane, uint32_t count)
{
    return pull->queue->drr.count <= READ_AHEAD_LANES && lane->lane->ready > count;
}

static int read_some(struct pull *pull, struct pull_lane *lane, uint32_t count, bool keep,
                     struct pull_message *out, uint32_t *got)
{
    struct read_ahead_lane *place =
        keep ? read_ahead_place(&pull->broker->ahead, pull->queue, lane->lane->id) : NULL;
    struct queue_db_bulk *bulk = place ? &place->bulk : &pull->broker->bulk;
    uint8_t from[RECORD_MESSAGE_KEY_SIZE];
    size_t wanted = (keep ? PULL_MESSAGES : count - *got) * (pull->local->value_size + 64);
    size_t most = keep ? READ_AHEAD_BYTES : PULL_BYTES;
    bool left = false;
    record_message_key(from, lane->lane->id, lane->next);
    int result = queue_db_bulk_read(pull->cursor, bulk, str_of(from, sizeof(from)),
                                    wanted < most ? wanted : most);
    if (!result)
        result = take_bulk(pull, lane, bulk, true, count, out, got, &left);
    if (place)
        place->next = lane->next;
    if (place && (result || !left || lane->ended))
        read_ahead_drop(place);
    return result;
}

/* Reads up to `count` ready messages of a lane into out[]; *got tells how many. */
static int read_ready(struct pull *pull, struct pull_lane *lane, uint32_t count,
                      struct pull_message *out, uint32_t *got)
{
    int result = 0;
    *got = 0;
    bool keep = is_worth_keeping(pull, lane, count);
    result = read_kept(pull, lane, count, out, got);
    while (!result && *got < count && !lane->ended && pull->bytes < PULL_BYTES)
        result = keep || count - *got >= BULK_WORTH ? read_some(pull, lane, count, keep, out, got)
                                                    : read_one(pull, lane, &out[*got], got);
    if (result == DB_NOTFOUND) {
        lane->ended = true;
        return 0;
    }
    return result;
}

/* A message that was given back and is not in the store any more, or cannot be read. */
static void drop_returned(struct pull *pull, struct lease *lease)
{
    log_write(LOG_ERROR, "store", "queue \"%.*s\": lane %llx seq %llx holds no message; dropped",
              STR_PRINT(pull->queue->name), (unsigned long long)lease->lane->id,
              (unsigned long long)lease->seq);
    queue_ready_add(pull->queue, lease->lane, -1);
    queue_lease_end(pull->queue, lease);
}

/* Reads the messages that were given back, oldest first. */
static int read_returned(struct pull *pull, struct pull_lane *lane, uint32_t count,
                         struct pull_message *out, uint32_t *got)
{
    *got = 0;
    while (*got < count && lane->returned != &lane->lane->returned && pull->bytes < PULL_BYTES) {
        struct lease *lease = CONTAINER_OF(lane->returned, struct lease, wheel.list);
        uint8_t key[RECORD_MESSAGE_KEY_SIZE];
        struct buf *value = &pull->broker->value;
        struct pull_message *message = &out[*got];
        record_message_key(key, lane->lane->id, lease->seq);
        lane->returned = lane->returned->next;
        int result = queue_db_get(pull->local->db, NULL, str_of(key, sizeof(key)), value);
        if (result && result != DB_NOTFOUND)
            return result;
        if (result || !record_message_parse(buf_str(value), &message->message)) {
            drop_returned(pull, lease);
            continue;
        }
        if (!copy_body(pull, &message->message))
            return ENOMEM;
        message->seq = lease->seq;
        message->lane = lane;
        message->lease = lease;
        message->retaken = true;
        note_size(pull, &message->message, value->size);
        (*got)++;
    }
    return 0;
}

/* What encoding needs of the lanes once the lock is gone. */
static int copy_keys(struct pull *pull)
{
    for (uint32_t i = 0; i < pull->lane_count; i++) {
        struct pull_lane *copy = &pull->lanes[i];
        const struct lane *lane = copy->lane;
        copy->fairness_key =
            pool_str(pull->broker->scratch, str_of(lane->key->name, lane->key->name_size));
        copy->throttle_keys =
            pool_str(pull->broker->scratch, str_of(lane->throttle_keys, lane->throttle_size));
        copy->throttle_count = lane->throttle_count;
        if ((lane->key->name_size && !copy->fairness_key.data) ||
            (lane->throttle_size && !copy->throttle_keys.data))
            return ENOMEM;
    }
    return 0;
}

/* Reads each lane's messages and puts all in the order in which they were picked. */
static int read_all(struct pull *pull)
{
    struct pull_message *read = pool_zalloc(pull->broker->scratch, pull->picks * sizeof(*read));
    uint32_t starts[PULL_MESSAGES], at = 0;
    if (!read)
        return ENOMEM;
    for (uint32_t i = 0; i < pull->lane_count; i++) {
        struct pull_lane *lane = &pull->lanes[i];
        uint32_t returned = 0, ready = 0;
        int result = read_returned(pull, lane, lane->wanted, read + at, &returned);
        if (!result && returned < lane->wanted)
            result = read_ready(pull, lane, lane->wanted - returned, read + at + returned, &ready);
        if (result)
            return result;
        starts[i] = at;
        lane->read = returned + ready;
        at += lane->wanted;
    }
    uint32_t used[PULL_MESSAGES] = {0};
    for (uint32_t i = 0; i < pull->picks; i++) {
        uint32_t lane = pull->order[i];
        if (used[lane] < pull->lanes[lane].read)
            pull->messages[pull->count++] = read[starts[lane] + used[lane]++];
        else
            drr_refund(&pull->lanes[lane].lane->key->drr);
    }
    return 0;
}

/* --- (3) leasing --- */

/* Memory for all that step (4) puts into the zone, so that it cannot fail. */
static struct lease_batch *prepare_leases(struct pull *pull)
{
    struct queue *queue = pull->queue;
    struct lease_batch *batch =
        queue_has_lease_room(queue) ? arena_alloc(queue->scheduler->arena, sizeof(*batch)) : NULL;
    if (!batch || !queue_expiry_prepare(queue, pull->monotonic_ms))
        goto full;
    for (uint32_t i = 0; i < pull->count; i++) {
        struct pull_message *message = &pull->messages[i];
        if (!message->lease)
            message->lease = queue_lease_alloc(queue);
        if (!message->lease)
            goto full;
    }
    memset(batch, 0, sizeof(*batch));
    batch->seq = pull->batch_seq = queue->next_seq;
    batch->remaining = pull->count;
    return batch;
full:
    arena_free(queue->scheduler->arena, batch);
    pull->zone_full = true;
    return NULL;
}

static void drop_leases(struct pull *pull)
{
    for (uint32_t i = 0; i < pull->count; i++)
        if (!pull->messages[i].retaken)
            arena_free(pull->queue->scheduler->arena, pull->messages[i].lease);
}

/* Returned messages that are delivered again leave their old batch; its record goes with its last.
 */
static int stage_old_batches(struct pull *pull, DB_TXN *txn)
{
    int result = 0;
    for (uint32_t i = 0; i < pull->count && !result; i++) {
        struct pull_message *message = &pull->messages[i];
        struct lease_batch *batch = message->retaken ? message->lease->batch : NULL;
        uint8_t key[RECORD_LEASES_KEY_SIZE];
        if (!batch || ++batch->staged_removals < batch->remaining)
            continue;
        record_leases_key(key, batch->seq);
        result = queue_db_delete(pull->local->db, txn, str_of(key, sizeof(key)));
        if (result == DB_NOTFOUND)
            result = 0;
    }
    for (uint32_t i = 0; i < pull->count; i++)
        if (pull->messages[i].retaken && pull->messages[i].lease->batch)
            pull->messages[i].lease->batch->staged_removals = 0;
    return result;
}

static int put_batch(struct pull *pull, DB_TXN *txn, uint64_t timeout_ms)
{
    uint8_t key[RECORD_LEASES_KEY_SIZE];
    uint8_t value[RECORD_LEASES_HEADER + PULL_MESSAGES * RECORD_POSITION_SIZE];
    record_leases_key(key, pull->batch_seq);
    record_leases_header(value, (uint16_t)pull->count, pull->wall_ms + timeout_ms);
    for (uint32_t i = 0; i < pull->count; i++) {
        uint8_t *position = value + RECORD_LEASES_HEADER + i * RECORD_POSITION_SIZE;
        bytes_put_u64(position, pull->messages[i].lane->lane->id);
        bytes_put_u64(position + 8, pull->messages[i].seq);
    }
    size_t size = RECORD_LEASES_HEADER + pull->count * RECORD_POSITION_SIZE;
    return queue_db_put(pull->local->db, txn, str_of(key, sizeof(key)), str_of(value, size));
}

static int write_leases(struct pull *pull, uint64_t timeout_ms)
{
    DB_TXN *txn = NULL;
    int result = env_begin(pull->broker->env, &txn);
    if (result)
        return result;
    result = put_batch(pull, txn, timeout_ms);
    if (!result)
        result = stage_old_batches(pull, txn);
    if (result) {
        (void)txn->abort(txn);
        return result;
    }
    return env_commit(txn, ENV_COMMIT_KERNEL);
}

/* --- (4) the zone --- */

static void publish_message(struct pull *pull, struct pull_message *message, uint64_t expires_ms,
                            struct lease_batch *batch)
{
    struct queue *queue = pull->queue;
    struct lease *lease = message->lease;
    if (message->retaken) {
        queue_lease_retake(queue, lease);
        if (lease->batch && --lease->batch->remaining == 0)
            arena_free(queue->scheduler->arena, lease->batch);
    }
    lease->id = message->message.id;
    lease->seq = message->seq;
    lease->lane = message->lane->lane;
    lease->apart =
        message->message.apart < UINT32_MAX ? (uint32_t)message->message.apart : UINT32_MAX;
    lease->batch = batch;
    lease->consumer = message->consumer->consumer;
    if (message->consumer->subscription->limit)
        message->consumer->subscription->delivered++;
    queue_lease_start(queue, lease, expires_ms);
    message->lane->leased++;
}

static void count_message(struct pull *pull, const struct pull_message *picked)
{
    const struct record_message *message = &picked->message;
    struct queue_statistics *statistics = pull->queue->statistics;
    statistics->counters.delivered++;
    statistics->counters.delivered_bytes += message->body.size + message->apart;
    /* A message that was given back was counted when it was leased at first. */
    if (message->attempt == 0 && !picked->retaken)
        statistics_waited(statistics, pull->wall_ms > message->enqueued_ms
                                          ? pull->wall_ms - message->enqueued_ms
                                          : 0);
}

static void publish(struct pull *pull, struct lease_batch *batch, uint64_t timeout_ms)
{
    struct queue *queue = pull->queue;
    queue->next_seq++;
    for (uint32_t i = 0; i < pull->count; i++)
        count_message(pull, &pull->messages[i]);
    for (uint32_t i = 0; i < pull->count; i++)
        publish_message(pull, &pull->messages[i], pull->monotonic_ms + timeout_ms, batch);
    for (uint32_t i = 0; i < pull->lane_count; i++) {
        struct pull_lane *lane = &pull->lanes[i];
        uint32_t from_store = 0;
        for (uint32_t j = 0; j < pull->count; j++)
            if (pull->messages[j].lane->lane == lane->lane && !pull->messages[j].retaken)
                from_store++;
        pick_advance(lane);
        queue_ready_add(queue, lane->lane, -(int64_t)(from_store - lane->uncounted));
    }
    queue_timer_update(queue);
}

/* Leaves the ring of active keys as the lanes are, whatever happened before. */
static void settle(struct pull *pull, bool published)
{
    for (uint32_t i = 0; i < pull->lane_count; i++) {
        struct lane *lane = pull->lanes[i].lane;
        if (pull->lanes[i].ended && published)
            pick_lane_ended(pull->queue, lane);
        if (lane->hold)
            hold_give_back(lane, pull->lanes[i].wanted - pull->lanes[i].leased);
        queue_lane_update(pull->queue, lane, pull->monotonic_ms);
    }
}

static int lease_messages(struct pull *pull)
{
    /* Clocks are read in whole milliseconds: one more, so that no lease ends a fraction too early.
     */
    uint64_t timeout_ms = atomic_load(&pull->queue->visibility_timeout_ms) + 1;
    struct lease_batch *batch = prepare_leases(pull);
    if (!batch) {
        drop_leases(pull);
        pick_undo_consumers(pull);
        return 0;
    }
    int result = write_leases(pull, timeout_ms);
    if (result) {
        drop_leases(pull);
        arena_free(pull->queue->scheduler->arena, batch);
        pick_undo_consumers(pull);
        return result;
    }
    publish(pull, batch, timeout_ms);
    return 0;
}

/* What happens under the lock. Berkeley DB's value. */
static int pull_locked(struct pull *pull)
{
    pull->monotonic_ms = time_monotonic_ms();
    pull->wall_ms = time_wall_ms();
    if (atomic_load(&pull->queue->paused)) {
        pull->queue->waiting |= UINT64_C(1) << pull->broker->options.slot;
        return 0;
    }
    pick_find_room(pull);
    if (!pull->room) {
        queue_wake_waiters(pull->queue);
        return 0;
    }
    int result = pick_lanes(pull);
    if (!result && pull->picks && !pull->cursor)
        result = queue_db_cursor(pull->local->db, &pull->cursor);
    if (!result && pull->picks)
        result = read_all(pull);
    queue_db_cursor_close(pull->cursor);
    if (!result && pull->picks)
        result = copy_keys(pull);
    if (result)
        pull->count = 0;
    if (pull->count) {
        pick_consumers(pull);
        result = lease_messages(pull);
    }
    settle(pull, !result && !pull->zone_full);
    if (!pull->queue->drr.count || pull->zone_full || result)
        pull->queue->waiting |= UINT64_C(1) << pull->broker->options.slot;
    else
        queue_wake_waiters(pull->queue);
    return result;
}

/* --- handing up --- */

static bool begin_frame(struct pull *pull, struct local_subscription *sub)
{
    struct operation_delivery *delivery =
        calloc(1, sizeof(*delivery) + pull->count * sizeof(struct delivery_lease));
    if (!delivery)
        return false;
    delivery->operation.kind = OPERATION_DELIVERY;
    delivery->subscription = sub->subscription;
    delivery->queue_id = pull->queue->id;
    delivery->queue_index = pull->queue->index;
    delivery->generation = pull->broker->options.generation;
    sub->delivery = delivery;
    return true;
}

/* The reading of what is apart of one message. */
struct apart_reading {
    const struct pull *pull;
    const struct record_message *message;
    int result; /* Berkeley DB's */
};

static bool read_apart(const struct delivery_message *message, uint8_t *to)
{
    struct apart_reading *reading = message->context;
    reading->result = chunks_read(reading->pull->local->db, &reading->message->id,
                                  reading->message->chunks, to, (size_t)message->rest);
    return reading->result == 0;
}

/* Its lease may have ended, and somebody else may have acked it meanwhile: then it is gone.
 * Otherwise it waits for its timeout. */
static int note_unread(struct pull *pull, struct local_subscription *sub,
                       const struct pull_message *message, int result)
{
    struct queue *queue = pull->queue;
    if (broker_is_fatal(result))
        return broker_fail(pull->broker, result, "read a large message");
    if (sub->subscription->limit)
        sub->subscription->delivered--;
    if (broker_lock(pull->broker, &queue->lock) != 0)
        return -1;
    const struct lease *lease =
        atomic_load(&queue->dead) ? NULL : queue_lease_find(queue, &message->message.id);
    bool ours =
        lease && lease->state == LEASE_HELD && lease->batch && lease->batch->seq == pull->batch_seq;
    lock_release(&queue->lock);
    if (ours) {
        uint8_t text[UUID_TEXT_SIZE];
        uuid_format(&message->message.id, text);
        log_write(LOG_ERROR, "store", "queue \"%.*s\": read the payload of message %.*s: %s",
                  STR_PRINT(queue->name), UUID_TEXT_SIZE, (const char *)text, db_strerror(result));
    }
    return 0;
}

/* Puts what is known of a dead-lettering among the headers; false when they are stored apart and
 * gone. */
static bool add_dead_headers(const struct pull *pull, const struct record_message *from,
                             struct delivery_message *message)
{
    struct str record = message->record;
    uint8_t *whole = NULL;
    if (!record.size) { /* headers that are large are apart, with all else */
        whole = malloc((size_t)message->rest);
        if (!whole)
            return true; /* as it is */
        if (!read_apart(message, whole)) {
            free(whole);
            return false;
        }
        record = str_of(whole, (size_t)message->rest);
    }
    struct str merged = dead_letter_headers(pull->broker->scratch, record, &from->dead);
    if (merged.data && merged.data != whole) {
        message->record = merged;
        message->rest = whole ? 0 : message->rest;
    }
    free(whole);
    return true;
}

/* Consumers see it when the queue that delivers, or the one that it came from, says so. */
static int shows_dead(struct pull *pull, const struct record_message *message, bool *shows)
{
    struct local_queue *origin = NULL;
    *shows = message->is_dead && atomic_load(&pull->queue->dead_letter_headers);
    if (!message->is_dead || *shows)
        return 0;
    if (broker_find_queue(pull->broker, message->dead.origin, &origin) != 0)
        return -1;
    *shows = origin && atomic_load(&origin->queue->dead_letter_headers);
    return 0;
}

/* Encodes one message into the frame being built for `sub`; it is left out when it is gone. */
static int add_message(struct pull *pull, struct local_subscription *sub,
                       const struct pull_message *from, struct buf *frame)
{
    const struct pull_lane *lane = from->lane;
    struct str throttle_keys[RECORD_THROTTLE_KEYS_MAX];
    struct str packed = lane->throttle_keys;
    for (unsigned i = 0; i < lane->throttle_count; i++)
        throttle_keys[i] = record_throttle_next(&packed);
    struct apart_reading reading = {.pull = pull, .message = &from->message};
    struct delivery_message message = {
        .id = from->message.id,
        .queue = pull->queue->name,
        .record = from->message.body,
        .rest = from->message.apart,
        .read_rest = read_apart,
        .context = &reading,
        .fairness_key = lane->fairness_key,
        .throttle_keys = throttle_keys,
        .throttle_count = lane->throttle_count,
        .weight = from->message.weight,
        .attempt = from->message.attempt,
        .enqueued_ms = from->message.enqueued_ms,
        .leased_ms = pull->wall_ms,
    };
    bool dead = false;
    if (shows_dead(pull, &from->message, &dead) != 0)
        return -1;
    if ((dead && !add_dead_headers(pull, &from->message, &message)) ||
        !sub->subscription->encoder->add(sub->subscription, frame, &message))
        return note_unread(pull, sub, from, reading.result);
    struct delivery_lease *lease = &sub->delivery->leases[sub->delivery->count++];
    lease->id = from->message.id;
    lease->token = pull->batch_seq;
    return 0;
}

static void end_frame(struct pull *pull, struct local_subscription *sub, struct buf *frame)
{
    struct operation_delivery *delivery = sub->delivery;
    struct delivery_window *window = sub->subscription->window;
    sub->delivery = NULL;
    if (delivery->count)
        sub->subscription->encoder->end(sub->subscription, frame, delivery->count);
    delivery->frame = frame->data;
    delivery->size = frame->size;
    if (frame->failed) /* no memory: they come back when their leases expire */
        log_write(LOG_ERROR, "broker", "no memory for a delivery of %zu bytes", pull->bytes);
    if (frame->failed || !delivery->count) {
        operation_free(&delivery->operation);
        return;
    }
    atomic_fetch_add(&window->queued, delivery->size);
    if (window->worker)
        atomic_fetch_add(&window->worker->queued, delivery->size);
    pull->broker->options.emit(pull->broker->options.context, &delivery->operation);
}

/* A message that is as large as a pull gets a frame of its own. */
static bool is_alone(const struct pull_message *message)
{
    return message->message.apart >= PULL_BYTES;
}

/* A frame for the consumer of message `first`, with those of its messages that follow. */
static int hand_up_frame(struct pull *pull, uint32_t first)
{
    struct local_subscription *sub = pull->messages[first].consumer;
    struct buf frame;
    int status = 0;
    buf_init(&frame, 0);
    sub->subscription->encoder->begin(sub->subscription, &frame);
    for (uint32_t i = first; i < pull->count && status == 0; i++) {
        struct pull_message *message = &pull->messages[i];
        if (message->consumer != sub)
            continue;
        if (i > first && is_alone(message))
            break;
        status = add_message(pull, sub, message, &frame);
        message->consumer = NULL;
        if (is_alone(message))
            break;
    }
    end_frame(pull, sub, &frame);
    return status;
}

/* Frames for each consumer, with its messages in the order in which they were picked. */
static int hand_up(struct pull *pull)
{
    for (uint32_t i = 0; i < pull->count; i++)
        if (pull->messages[i].consumer && begin_frame(pull, pull->messages[i].consumer) &&
            hand_up_frame(pull, i) != 0)
            return -1;
    return 0;
}

/* 1: the queue may have more for this worker; 0: not now; -1: the end. */
static int pull_queue(struct broker *broker, struct local_queue *local)
{
    struct pull pull = {.broker = broker, .local = local, .queue = local->queue};
    int result = 0;
    if (list_empty(&local->open) && list_empty(&local->paused))
        return 0;
    /* A queue that nobody has written to yet gets its file now: there is one way from here on. */
    result = broker_open_db(broker, local, true);
    if (broker_is_fatal(result))
        return broker_fail(broker, result, "open a queue");
    if (broker_lock(broker, &local->queue->lock) != 0)
        return -1;
    if (!result && !atomic_load(&local->queue->dead))
        result = pull_locked(&pull);
    if (broker_make_room(broker, result))
        result = DB_LOCK_DEADLOCK; /* tried again at once, as after a conflict */
    bool more = !result && !pull.zone_full && (pull.picks || pull.cut_short) &&
                local->queue->drr.count && !list_empty(&local->open);
    lock_release(&local->queue->lock);
    if (result && !env_is_conflict(result)) {
        log_write(LOG_ERROR, "store", "deliver from queue \"%.*s\": %s",
                  STR_PRINT(local->queue->name), db_strerror(result));
        if (broker_is_fatal(result))
            return broker_fail(broker, result, "deliver");
    }
    if (pull.zone_full || (result && !env_is_conflict(result)))
        broker_want_pull_later(broker, local);
    if (pull.zone_full && !local->starved && !scheduler_is_over(broker->scheduler))
        log_write(LOG_WARN, "broker", "shared memory is full: delivery from \"%.*s\" waits",
                  STR_PRINT(local->queue->name));
    local->starved = pull.zone_full;
    if (hand_up(&pull) != 0)
        return -1;
    return more || env_is_conflict(result);
}

int broker_deliver(struct broker *broker, unsigned pulls)
{
    for (int index = scheduler_next_ready(broker->scheduler, broker->options.slot); index >= 0;
         index = scheduler_next_ready(broker->scheduler, broker->options.slot))
        if (broker->by_index[index])
            broker_want_pull(broker, broker->by_index[index]);
    uint64_t now_ms = time_monotonic_ms();
    if (now_ms >= broker->later_ms) {
        broker->later_ms = now_ms + LATER_MS;
        list_splice(&broker->pulls, &broker->later);
    }
    while (pulls-- > 0 && !list_empty(&broker->pulls)) {
        struct local_queue *local = CONTAINER_OF(broker->pulls.next, struct local_queue, pulls);
        list_remove(&local->pulls);
        int more = pull_queue(broker, local);
        pool_reset(broker->scratch);
        if (more < 0)
            return -1;
        if (more)
            broker_want_pull(broker, local);
    }
    return !list_empty(&broker->pulls);
}
