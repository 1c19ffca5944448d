/* peek - browses a queue without leasing: the messages in R by their numbers, oldest first across
 * lanes, then the delayed ones by their due times. It reads under the queue's lock, a step at a
 * time; what changes between two steps may be seen as before or as after. */
#include <errno.h>
#include <stdlib.h>

#include "broker/order.h"
#include "broker/task.h"
#include "core/pool.h"
#include "fibp/status.h"
#include "fibp/wire.h"
#include "os/log.h"
#include "os/time.h"
#include "sched/hold.h"
#include "store/chunks.h"

#define SEEKS 500u            /* under one holding of the lock */
#define ROWS 50u              /* the same */
#define ANSWER_MAX (1u << 20) /* bytes of rows from which on an answer is full */
#define WHOLE_MAX (1u << 20)  /* bytes apart up to which headers are put together */
#define STEP_BYTES (1u << 20) /* put together under one holding of the lock, and one message */
#define CONFLICTS_MAX 100
#define POOL_CHUNK (64u << 10)
#define ROW_OVERHEAD 128u

enum stage { PEEK_BEGIN, PEEK_SELECT, PEEK_READ, PEEK_DELAYED_ONES };

struct peek {
    struct task task;
    enum stage stage;
    uint64_t id;
    uint64_t lane, seq; /* selecting: where it goes on */
    uint64_t checked;   /* lane of which the fairness key is known to be wanted */
    struct order_head
        *chosen; /* owned: a heap by seq, greatest first; sorted after the selection */
    uint32_t count, next;
    /* What the operation gets at the end: when the store fails before, it begins anew. */
    struct peek_position position;
    struct pool *memory;
    struct peek_row *rows, **last;
    uint32_t row_count;
    bool ended, no_memory;
    size_t bytes;
    uint64_t wall_ms, monotonic_ms; /* of the step */
    size_t step_bytes;              /* put together in it */
};

static struct operation_peek *operation_of(struct peek *peek)
{
    return (struct operation_peek *)peek->task.operation;
}

static bool is_full(struct peek *peek)
{
    return peek->row_count == operation_of(peek)->limit || peek->bytes >= ANSWER_MAX;
}

/* --- choosing --- */

static void sift_down(struct order_head *heads, uint32_t count, uint32_t at)
{
    struct order_head moving = heads[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child + 1 < count && heads[child + 1].seq > heads[child].seq)
            child++;
        if (child >= count || heads[child].seq <= moving.seq)
            break;
        heads[at] = heads[child];
        at = child;
    }
    heads[at] = moving;
}

/* False when the lane has nothing more that could be among the oldest. */
static bool choose(struct peek *peek, struct order_head head)
{
    uint32_t limit = operation_of(peek)->limit;
    if (peek->count == limit && head.seq > peek->chosen[0].seq)
        return false;
    if (peek->count == limit) {
        peek->chosen[0] = head;
        sift_down(peek->chosen, peek->count, 0);
        return true;
    }
    uint32_t at = peek->count++;
    for (; at > 0 && peek->chosen[(at - 1) / 2].seq < head.seq; at = (at - 1) / 2)
        peek->chosen[at] = peek->chosen[(at - 1) / 2];
    peek->chosen[at] = head;
    return true;
}

static void sort_chosen(struct peek *peek)
{
    for (uint32_t count = peek->count; count > 1; count--) {
        struct order_head last = peek->chosen[0];
        peek->chosen[0] = peek->chosen[count - 1];
        peek->chosen[count - 1] = last;
        sift_down(peek->chosen, count - 1, 0);
    }
}

static bool is_wanted(const struct operation_peek *operation, struct str fairness_key)
{
    return !operation->has_key || str_equal(operation->fairness_key, fairness_key);
}

/* One position that was found; decides where to look next. */
static int select_found(struct peek *peek, struct broker *broker, struct local_queue *local,
                        struct order_head head)
{
    struct operation_peek *operation = operation_of(peek);
    uint64_t after = peek->position.seq;
    int result = 0;
    if (operation->has_key && peek->checked != head.lane) {
        struct lane *lane = order_lane(broker, local, head.lane, &result);
        if (result)
            return result;
        if (!lane || !is_wanted(operation, str_of(lane->key->name, lane->key->name_size))) {
            peek->lane = head.lane + 1;
            peek->seq = after + 1;
            return 0;
        }
        peek->checked = head.lane;
    }
    if (head.seq <= after) { /* the lane's beginning, which was shown before */
        peek->lane = head.lane;
        peek->seq = after + 1;
    } else if (choose(peek, head)) {
        peek->lane = head.lane;
        peek->seq = head.seq + 1;
    } else {
        peek->lane = head.lane + 1;
        peek->seq = after + 1;
    }
    return 0;
}

static int seek(struct local_queue *local, const struct peek *peek, uint8_t *key)
{
    uint8_t from[RECORD_MESSAGE_KEY_SIZE];
    DBC *cursor = NULL;
    unsigned tries = 0;
    int result;
    record_message_key(from, peek->lane, peek->seq);
    do {
        result = queue_db_cursor(local->db, &cursor);
        if (!result)
            result = queue_db_seek(cursor, str_of(from, sizeof(from)), key);
        queue_db_cursor_close(cursor);
    } while (env_is_conflict(result) && ++tries < CONFLICTS_MAX);
    return result;
}

static int select_step(struct peek *peek, struct broker *broker, struct local_queue *local)
{
    uint8_t key[RECORD_MESSAGE_KEY_SIZE];
    int result = 0;
    for (unsigned i = 0; i < SEEKS && !result; i++) {
        result = seek(local, peek, key);
        if (result == DB_NOTFOUND || (!result && key[0] != RECORD_TAG_MESSAGE)) {
            sort_chosen(peek);
            peek->stage = PEEK_READ;
            return 0;
        }
        if (!result)
            result = select_found(
                peek, broker, local,
                (struct order_head){.lane = bytes_get_u64(key + 1), .seq = bytes_get_u64(key + 9)});
    }
    return result;
}

/* --- one row --- */

/* A copy that lives as long as the answer. */
static struct str keep(struct peek *peek, struct str text)
{
    struct str kept = pool_str(peek->memory, text);
    if (!kept.data)
        peek->no_memory = true;
    return kept;
}

/* Headers as far as they are whole, and what stands behind them. */
static void split_body(struct peek *peek, struct peek_row *row, struct str body)
{
    struct wire_reader reader;
    struct wire_pair pair;
    struct str payload;
    uint16_t count = 0, whole = 0;
    wire_reader_init(&reader, body);
    row->headers_cut = !wire_u16(&reader, "headers", &count);
    if (row->headers_cut) /* all of them are apart */
        return;
    const uint8_t *end = reader.at;
    while (whole < count && wire_pair_next(&reader, "header", &pair)) {
        whole++;
        end = reader.at;
    }
    row->headers = keep(peek, str_of(body.data, (size_t)(end - body.data)));
    if (row->headers.data && whole < count)
        bytes_put_u16((uint8_t *)(uintptr_t)row->headers.data, whole);
    row->headers_cut = whole < count;
    uint32_t size = 0;
    if (row->headers_cut || !wire_u32(&reader, "payload", &size))
        return;
    row->payload_size = size;
    payload = str_of(reader.at, wire_remaining(&reader));
    if (payload.size > operation_of(peek)->payload_max)
        payload.size = operation_of(peek)->payload_max;
    row->payload = keep(peek, payload);
}

/* The first bytes of what is apart, when all of the headers are in R; else all of it. */
static int add_apart(struct peek *peek, struct broker *broker, struct local_queue *local,
                     struct peek_row *row, const struct record_message *message)
{
    uint8_t key[RECORD_CHUNK_KEY_SIZE];
    unsigned tries = 0;
    int result;
    if (row->headers_cut) {
        size_t size = message->body.size + (size_t)message->apart;
        uint8_t *whole = message->apart <= WHOLE_MAX ? pool_alloc(broker->scratch, size) : NULL;
        if (!whole)
            return 0;
        peek->step_bytes += size;
        if (message->body.size)
            memcpy(whole, message->body.data, message->body.size);
        result = chunks_read(local->db, &message->id, message->chunks, whole + message->body.size,
                             (size_t)message->apart);
        if (!result)
            split_body(peek, row, str_of(whole, size));
        return result;
    }
    if (!operation_of(peek)->payload_max || row->payload.size)
        return 0;
    record_chunk_key(key, &message->id, 0);
    do {
        result = queue_db_get(local->db, NULL, str_of(key, sizeof(key)), &broker->rewritten);
    } while (env_is_conflict(result) && ++tries < CONFLICTS_MAX);
    if (result)
        return result;
    struct str payload = buf_str(&broker->rewritten);
    if (payload.size > operation_of(peek)->payload_max)
        payload.size = operation_of(peek)->payload_max;
    row->payload = keep(peek, payload);
    return 0;
}

static int add_row(struct peek *peek, struct broker *broker, struct local_queue *local,
                   const struct record_message *message, const struct peek_row *known)
{
    struct peek_row *row = pool_alloc(peek->memory, sizeof(*row));
    if (!row)
        return ENOMEM;
    *row = *known;
    row->id = message->id;
    row->fairness_key = keep(peek, known->fairness_key);
    row->throttle_keys = keep(peek, known->throttle_keys);
    row->weight = message->weight;
    row->attempt = message->attempt;
    row->enqueued_ms = message->enqueued_ms;
    row->is_dead = message->is_dead;
    if (message->is_dead) {
        row->dead_ms = message->dead.dead_ms;
        row->reason = keep(peek, message->dead.reason);
        row->origin = keep(peek, message->dead.origin);
    }
    split_body(peek, row, message->body);
    int result = message->apart ? add_apart(peek, broker, local, row, message) : 0;
    if (result == DB_NOTFOUND) /* it is being removed */
        result = 0;
    if (peek->no_memory) /* half a row says what is not true */
        return ENOMEM;
    *peek->last = row;
    peek->last = &row->next;
    peek->row_count++;
    peek->bytes += ROW_OVERHEAD + row->headers.size + row->payload.size + row->fairness_key.size +
                   row->throttle_keys.size + row->reason.size;
    return result;
}

/* --- reading --- */

static int read_one(struct peek *peek, struct broker *broker, struct local_queue *local,
                    const struct order_head *head)
{
    struct record_message message;
    struct peek_row known = {.state = PEEK_READY};
    uint8_t key[RECORD_MESSAGE_KEY_SIZE];
    unsigned tries = 0;
    int result = 0;
    struct lane *lane = order_lane(broker, local, head->lane, &result);
    if (!lane)
        return result;
    record_message_key(key, head->lane, head->seq);
    do {
        result = queue_db_get(local->db, NULL, str_of(key, sizeof(key)), &broker->value);
    } while (env_is_conflict(result) && ++tries < CONFLICTS_MAX);
    if (result == DB_NOTFOUND ||
        (!result && !record_message_parse(buf_str(&broker->value), &message)))
        return 0;
    if (result)
        return result;
    const struct lease *lease = queue_lease_find(local->queue, &message.id);
    if (lease && lease->state != LEASE_RETURNED) {
        uint64_t left =
            lease->wheel.when > peek->monotonic_ms ? lease->wheel.when - peek->monotonic_ms : 0;
        known.state = PEEK_LEASED;
        known.when_ms = peek->wall_ms + left;
    } else if (hold_is_held(lane)) {
        known.state = PEEK_HELD;
    }
    known.fairness_key = str_of(lane->key->name, lane->key->name_size);
    known.throttle_keys = str_of(lane->throttle_keys, lane->throttle_size);
    known.throttle_count = lane->throttle_count;
    return add_row(peek, broker, local, &message, &known);
}

/* *done: the answer is full. */
static int read_step(struct peek *peek, struct broker *broker, struct local_queue *local,
                     bool *done)
{
    struct operation_peek *operation = operation_of(peek);
    int result = 0;
    for (unsigned i = 0; i < ROWS && !result && peek->next < peek->count && !is_full(peek) &&
                         peek->step_bytes < STEP_BYTES;
         i++) {
        peek->position.seq = peek->chosen[peek->next].seq;
        result = read_one(peek, broker, local, &peek->chosen[peek->next++]);
    }
    if (peek->next == peek->count && peek->count < operation->limit && !is_full(peek)) {
        peek->position = (struct peek_position){.delayed = true};
        peek->stage = PEEK_DELAYED_ONES;
    } else {
        *done = peek->next == peek->count || is_full(peek);
    }
    return result;
}

static int delayed_one(struct peek *peek, struct broker *broker, struct local_queue *local,
                       struct str key, struct str value)
{
    struct operation_peek *operation = operation_of(peek);
    struct record_delayed delayed;
    peek->position.due_ms = bytes_get_u64(key.data + 1);
    peek->position.seq = bytes_get_u64(key.data + 9);
    if (!record_delayed_parse(value, &delayed) || !is_wanted(operation, delayed.lane.fairness_key))
        return 0;
    struct peek_row known = {.state = PEEK_DELAYED,
                             .when_ms = peek->position.due_ms,
                             .fairness_key = delayed.lane.fairness_key,
                             .throttle_keys = delayed.lane.throttle_keys,
                             .throttle_count = delayed.lane.throttle_count};
    return add_row(peek, broker, local, &delayed.message, &known);
}

static int delayed_step(struct peek *peek, struct broker *broker, struct local_queue *local,
                        bool *done)
{
    uint8_t from[RECORD_DELAYED_KEY_SIZE];
    struct str key, value;
    DBC *cursor = NULL;
    unsigned tries = 0;
    int result;
    record_delayed_key(from, peek->position.due_ms,
                       peek->position.seq ? peek->position.seq + 1 : 0);
    do {
        result = queue_db_cursor(local->db, &cursor);
        if (!result)
            result = queue_db_bulk_read(cursor, &broker->bulk, str_of(from, sizeof(from)), 0);
        queue_db_cursor_close(cursor);
    } while (env_is_conflict(result) && ++tries < CONFLICTS_MAX);
    if (result == DB_NOTFOUND) {
        peek->ended = *done = true;
        return 0;
    }
    while (!result && !is_full(peek) && peek->step_bytes < STEP_BYTES &&
           queue_db_bulk_next(&broker->bulk, &key, &value)) {
        if (key.size != sizeof(from) || key.data[0] != RECORD_TAG_DELAYED) {
            peek->ended = *done = true;
            return 0;
        }
        result = delayed_one(peek, broker, local, key, value);
    }
    *done = is_full(peek);
    return result;
}

/* --- the task --- */

static int begin(struct broker *broker, struct peek *peek, bool *done)
{
    struct operation_peek *operation = operation_of(peek);
    struct local_queue *local = NULL;
    if (broker_find_queue(broker, operation->name, &local) != 0)
        return -1;
    *done = !local;
    operation->operation.status = local ? FIBP_OK : FIBP_QUEUE_NOT_FOUND;
    if (!local)
        return 0;
    peek->memory = pool_create(POOL_CHUNK);
    peek->chosen = calloc(operation->limit, sizeof(*peek->chosen));
    if (!peek->memory || !peek->chosen) {
        *done = true;
        operation->operation.status = FIBP_STORAGE_ERROR;
        return 0;
    }
    peek->id = local->queue->id;
    peek->last = &peek->rows;
    peek->position = operation->position;
    peek->seq = peek->position.seq + 1;
    peek->stage = peek->position.delayed ? PEEK_DELAYED_ONES : PEEK_SELECT;
    return 0;
}

static int step_locked(struct peek *peek, struct broker *broker, struct local_queue *local,
                       bool *done)
{
    switch (peek->stage) {
    case PEEK_SELECT:
        return select_step(peek, broker, local);
    case PEEK_READ:
        return read_step(peek, broker, local, done);
    default:
        return delayed_step(peek, broker, local, done);
    }
}

static int advance(struct broker *broker, struct peek *peek, bool *done)
{
    struct operation_peek *operation = operation_of(peek);
    struct local_queue *local = NULL;
    if (peek->stage == PEEK_BEGIN)
        return begin(broker, peek, done);
    if (task_queue(broker, operation->name, peek->id, &local) != 0)
        return -1;
    if (!local) {
        *done = true;
        operation->operation.status = FIBP_QUEUE_NOT_FOUND;
        return 0;
    }
    int result = broker_open_db(broker, local, false);
    if (!result) {
        if (broker_lock(broker, &local->queue->lock) != 0)
            return -1;
        peek->wall_ms = time_wall_ms();
        peek->monotonic_ms = time_monotonic_ms();
        peek->step_bytes = 0;
        result = step_locked(peek, broker, local, done);
        lock_release(&local->queue->lock);
        broker_note_lock(broker, local->queue, peek->monotonic_ms);
    } else if (result == ENOENT) { /* nothing was ever written to it */
        peek->ended = *done = true;
        return 0;
    }
    if (broker_is_fatal(result))
        return broker_fail(broker, result, "look at messages");
    if (!result)
        return 0;
    *done = true;
    operation->operation.status = FIBP_STORAGE_ERROR;
    if (!local->queue->quarantined)
        log_write(LOG_ERROR, "store", "look at messages of queue \"%.*s\": %s",
                  STR_PRINT(local->queue->name), db_strerror(result));
    return 0;
}

static int step(struct broker *broker, struct task *task, bool *done)
{
    struct peek *peek = CONTAINER_OF(task, struct peek, task);
    struct operation_peek *operation = operation_of(peek);
    if (advance(broker, peek, done) != 0)
        return -1;
    if (!*done)
        return 0;
    operation->position = peek->position;
    operation->ended = peek->ended;
    operation->rows = peek->rows;
    operation->count = peek->row_count;
    operation->memory = peek->memory;
    peek->memory = NULL;
    return 0;
}

static void release(struct task *task)
{
    struct peek *peek = CONTAINER_OF(task, struct peek, task);
    pool_destroy(peek->memory);
    free(peek->chosen);
}

static const struct task_method method = {sizeof(struct peek), step, release};

int broker_peek(struct broker *broker, struct operation *operation)
{
    task_begin(broker, operation, &method);
    return 0;
}
