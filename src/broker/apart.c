#include "broker/apart.h"

#include <errno.h>
#include <stdlib.h>

#include "fibp/framed.h"
#include "os/log.h"
#include "os/time.h"

void apart_split(struct str record, struct apart_split *split)
{
    struct str headers, payload;
    size_t inside = 0;
    *split = (struct apart_split){.inside = record};
    if (record.size <= APART_PAYLOAD)
        return;
    if (framed_record_split(record, &headers, &payload)) {
        if (payload.size <= APART_PAYLOAD && headers.size <= APART_PAYLOAD)
            return;
        if (headers.size <= APART_PAYLOAD)
            inside = record.size - payload.size;
    }
    split->inside.size = inside;
    split->apart = str_of(record.data + inside, record.size - inside);
}

uint64_t apart_large_bytes(const struct operation *operation)
{
    const struct operation_enqueue *enqueue = (const struct operation_enqueue *)operation;
    uint64_t bytes = 0;
    if (operation->kind != OPERATION_ENQUEUE)
        return 0;
    for (uint32_t i = 0; i < enqueue->count; i++) {
        struct apart_split split;
        if (enqueue->items[i].record.size <= APART_SMALL || enqueue->items[i].rejected.data)
            continue;
        apart_split(enqueue->items[i].record, &split);
        bytes += apart_is_large(split.apart.size) ? split.apart.size : 0;
    }
    return bytes;
}

/* --- works and markers --- */

static _Atomic uint64_t *working(const struct broker *broker)
{
    return &broker->options.zone->slots[broker->options.slot].working[broker->options.thread];
}

struct record_marker apart_marker(struct broker *broker)
{
    if (!broker->apart.work) {
        broker->apart.work = atomic_fetch_add(&broker->scheduler->works, 1) + 1;
        atomic_store(working(broker), broker->apart.work);
    }
    return (struct record_marker){.work = broker->apart.work,
                                  .epoch = broker->scheduler->epoch,
                                  .slot = (uint16_t)broker->options.slot,
                                  .thread = (uint8_t)broker->options.thread};
}

void apart_finish(struct broker *broker)
{
    if (!broker->apart.work)
        return;
    broker->apart.work = 0;
    atomic_store(working(broker), 0);
}

static bool is_mine(const struct broker *broker, const struct record_marker *marker)
{
    return broker->apart.work && marker->work == broker->apart.work &&
           marker->epoch == broker->scheduler->epoch && marker->slot == broker->options.slot &&
           marker->thread == broker->options.thread;
}

/* True when a step that failed is worth another try. */
static bool again(struct broker *broker, int result, unsigned *tries)
{
    return (env_is_conflict(result) || broker_make_room(broker, result)) &&
           ++*tries < CHUNKS_CONFLICTS_MAX;
}

/* Ends the transaction of a step. */
static int end_step(DB_TXN *txn, int result)
{
    if (!result)
        return env_commit(txn, ENV_COMMIT_MEMORY);
    (void)txn->abort(txn);
    return result;
}

static void log_failure(const struct local_queue *local, const char *what, int result)
{
    log_write(LOG_ERROR, "store", "%s of queue \"%.*s\": %s", what, STR_PRINT(local->queue->name),
              db_strerror(result));
}

/* --- removing --- */

/* *done: there is nothing more that is ours. */
static int discard_step(struct broker *broker, struct local_queue *local, const struct uuid *id,
                        bool *done)
{
    struct record_marker marker;
    DB_TXN *txn = NULL;
    uint32_t count = 0;
    bool mine = false;
    int result = env_begin(broker->env, &txn);
    if (result)
        return result;
    result = chunks_marker(local->db, txn, id, &marker);
    if (!result && is_mine(broker, &marker)) {
        mine = true;
        result = chunks_delete(local->db, txn, id, CHUNKS_STEP_COUNT, &count, done);
        if (!result && *done)
            result = chunks_unmark(local->db, txn, id);
    }
    result = end_step(txn, result == DB_NOTFOUND ? 0 : result);
    if (result || !mine)
        *done = !result;
    else
        atomic_fetch_add(&local->queue->chunks_removed, count);
    return result;
}

int apart_discard(struct broker *broker, struct local_queue *local, const struct uuid *id)
{
    unsigned tries = 0;
    bool done = false;
    int result = 0;
    if (atomic_load(&local->queue->dead)) /* all of it goes with the file */
        return 0;
    result = broker_open_db(broker, local, true);
    while (!done && (!result || again(broker, result, &tries))) {
        result = discard_step(broker, local, id, &done);
        tries = result ? tries : 0;
    }
    if (!result)
        return 0;
    if (broker_is_fatal(result))
        return broker_fail(broker, result, "remove a large message");
    log_failure(local, "remove a large message", result);
    scheduler_want_sweep(broker->scheduler, local->queue);
    return 0;
}

/* --- writing --- */

static int store_step(struct broker *broker, struct local_queue *local,
                      const struct operation_enqueue_item *item, struct str data, uint32_t *chunk)
{
    struct record_marker marker = apart_marker(broker);
    uint32_t next = *chunk;
    DB_TXN *txn = NULL;
    int result = env_begin(broker->env, &txn);
    if (result)
        return result;
    if (next == 0)
        result = chunks_mark(local->db, txn, &item->id, &marker);
    if (!result)
        result = chunks_put(local->db, txn, &item->id, data, &next, CHUNKS_STEP_COUNT);
    result = end_step(txn, result);
    if (!result)
        *chunk = next;
    return result;
}

/* The queue that an item is for, opened; NULL when nothing can be written to it now. */
static int find_target(struct broker *broker, struct operation_enqueue_item *item,
                       struct local_queue **local)
{
    if (broker_find_queue(broker, item->queue, local) != 0)
        return -1;
    if (!*local)
        return 0;
    uint64_t id = (*local)->queue->id;
    bool other = item->stored_in && item->stored_in != id; /* deleted and made anew meanwhile */
    if (other || (!item->stored_in && atomic_load(&broker->scheduler->space_low))) {
        *local = NULL;
        return 0;
    }
    int result = broker_open_db(broker, *local, true);
    if (!result) {
        item->stored_in = id;
        return 0;
    }
    if (broker_is_fatal(result))
        return broker_fail(broker, result, "open a queue");
    *local = NULL;
    return 0;
}

/* Writes an item's chunks, as far as *budget allows. *done: it is there, or will not be. */
static int store_item(struct broker *broker, struct operation_enqueue_item *item, uint64_t *budget,
                      bool *done)
{
    uint32_t *chunk = &broker->apart.chunk;
    struct local_queue *local = NULL;
    struct apart_split split;
    unsigned tries = 0;
    int result = 0;
    *done = true;
    apart_split(item->record, &split);
    if (!apart_is_large(split.apart.size) || item->rejected.data)
        return 0;
    if (find_target(broker, item, &local) != 0)
        return -1;
    if (!local) {
        item->stored_in = 0;
        return 0;
    }
    if (*chunk == 0)
        item->id = uuid_next(&broker->ids, time_wall_ns());
    uint32_t count = chunks_for(split.apart.size);
    while (*chunk<count && * budget> 0 && (!result || again(broker, result, &tries))) {
        result = store_step(broker, local, item, split.apart, chunk);
        if (result)
            continue;
        tries = 0;
        *budget = *budget > CHUNKS_STEP ? *budget - CHUNKS_STEP : 0;
    }
    if (broker_is_fatal(result))
        return broker_fail(broker, result, "write a large message");
    if (result) {
        log_failure(local, "write a large message", result);
        item->stored_in = 0;
        return apart_discard(broker, local, &item->id);
    }
    *done = *chunk == count;
    if (!*done) /* this process may die before it comes back to it, and leave no other trace */
        scheduler_want_sweep(broker->scheduler, local->queue);
    return 0;
}

static int store_operation(struct broker *broker, struct operation_enqueue *enqueue,
                           uint64_t *budget, bool *done)
{
    struct apart_progress *progress = &broker->apart;
    if (progress->operation != &enqueue->operation) {
        progress->operation = &enqueue->operation;
        progress->item = progress->chunk = 0;
        for (uint32_t i = 0; i < enqueue->count; i++)
            enqueue->items[i].stored_in = 0;
    }
    for (; progress->item < enqueue->count; progress->item++, progress->chunk = 0) {
        if (store_item(broker, &enqueue->items[progress->item], budget, done) != 0)
            return -1;
        if (!*done)
            return 0;
    }
    progress->operation = NULL;
    return 0;
}

int apart_store(struct broker *broker, struct operation *first, struct operation *end, bool *done)
{
    uint64_t budget = APART_SLICE;
    *done = true;
    for (struct operation *operation = first; operation != end && *done;
         operation = operation->next)
        if (operation->kind == OPERATION_ENQUEUE &&
            store_operation(broker, (struct operation_enqueue *)operation, &budget, done) != 0)
            return -1;
    return 0;
}

/* --- copying --- */

/* Chunks on their way between two databases: read without, written with a transaction, since one
 * that is open must not wait for what its own thread reads beside it. */
struct parcel {
    uint8_t *data; /* CHUNKS_STEP + RECORD_CHUNK_MAX bytes of scratch memory */
    uint32_t sizes[CHUNKS_STEP_COUNT];
    uint32_t first, count;
    size_t size;
};

static int fill_parcel(struct broker *broker, struct local_queue *from, struct parcel *parcel,
                       const struct record_message *message)
{
    int result = 0;
    parcel->count = 0;
    parcel->size = 0;
    while (!result && parcel->count < CHUNKS_STEP_COUNT && parcel->size < CHUNKS_STEP &&
           parcel->first + parcel->count < message->chunks) {
        uint8_t key[RECORD_CHUNK_KEY_SIZE];
        struct buf *value = &broker->value;
        unsigned tries = 0;
        record_chunk_key(key, &message->id, parcel->first + parcel->count);
        do {
            result = queue_db_get(from->db, NULL, str_of(key, sizeof(key)), value);
        } while (env_is_conflict(result) && ++tries < CHUNKS_CONFLICTS_MAX);
        if (!result && value->size > RECORD_CHUNK_MAX)
            result = DB_NOTFOUND;
        if (result)
            break;
        memcpy(parcel->data + parcel->size, value->data, value->size);
        parcel->sizes[parcel->count++] = (uint32_t)value->size;
        parcel->size += value->size;
    }
    return result;
}

/* Takes the id in `to` for this thread, when nobody has it. */
static int claim(struct broker *broker, struct local_queue *to, DB_TXN *txn, const struct uuid *id,
                 enum apart_copied *outcome)
{
    struct record_marker found, mine = apart_marker(broker);
    bool exists = false;
    int result = chunks_marker(to->db, txn, id, &found);
    if (!result && !is_mine(broker, &found) && scheduler_marker_holds(broker->scheduler, &found)) {
        *outcome = APART_BUSY;
        return 0;
    }
    if (result == DB_NOTFOUND)
        result = chunks_exists(to->db, txn, id, &exists);
    if (!result && exists) /* without a marker: the message itself is there already */
        *outcome = APART_GONE;
    return result || exists ? result : chunks_mark(to->db, txn, id, &mine);
}

static int put_parcel(struct broker *broker, struct local_queue *to, const struct uuid *id,
                      const struct parcel *parcel, enum apart_copied *outcome)
{
    const uint8_t *data = parcel->data;
    DB_TXN *txn = NULL;
    int result = env_begin(broker->env, &txn);
    if (result)
        return result;
    *outcome = APART_COPIED;
    if (parcel->first == 0)
        result = claim(broker, to, txn, id, outcome);
    for (uint32_t i = 0; i < parcel->count && !result && *outcome == APART_COPIED; i++) {
        uint8_t key[RECORD_CHUNK_KEY_SIZE];
        record_chunk_key(key, id, parcel->first + i);
        result =
            queue_db_put(to->db, txn, str_of(key, sizeof(key)), str_of(data, parcel->sizes[i]));
        data += parcel->sizes[i];
    }
    return end_step(txn, result);
}

static int copy_all(struct broker *broker, struct local_queue *from, struct local_queue *to,
                    const struct record_message *message, struct parcel *parcel,
                    enum apart_copied *outcome)
{
    uint64_t bytes = 0;
    int result = 0;
    *outcome = APART_COPIED;
    while (!result && *outcome == APART_COPIED && parcel->first < message->chunks) {
        unsigned tries = 0;
        result = fill_parcel(broker, from, parcel, message);
        if (result)
            break;
        do {
            result = put_parcel(broker, to, &message->id, parcel, outcome);
        } while (again(broker, result, &tries));
        bytes += parcel->size;
        parcel->first += parcel->count;
    }
    if (result == DB_NOTFOUND || (!result && *outcome == APART_COPIED && bytes != message->apart)) {
        *outcome = APART_GONE;
        return 0;
    }
    return result;
}

int apart_copy(struct broker *broker, struct local_queue *from, struct local_queue *to,
               const struct record_message *message, enum apart_copied *outcome, int *result)
{
    struct parcel parcel = {.data = malloc(CHUNKS_STEP + RECORD_CHUNK_MAX)};
    *outcome = APART_FAILED;
    *result = parcel.data ? copy_all(broker, from, to, message, &parcel, outcome) : ENOMEM;
    free(parcel.data);
    if (broker_is_fatal(*result))
        return broker_fail(broker, *result, "copy a large message");
    if (*result)
        *outcome = APART_FAILED;
    return *outcome == APART_COPIED || *outcome == APART_BUSY
               ? 0
               : apart_discard(broker, to, &message->id);
}

/* --- sweeping --- */

/* False when there is no greater one. */
static bool next_id(struct uuid *id)
{
    for (unsigned i = UUID_SIZE; i-- > 0;)
        if (++id->bytes[i] != 0)
            return true;
    return false;
}

/* Removes a step of one message, if nobody is at it. */
static int sweep_step(struct broker *broker, struct local_queue *local, const struct uuid *id,
                      bool *done, bool *held)
{
    struct record_marker marker;
    DB_TXN *txn = NULL;
    uint32_t count = 0;
    int result = env_begin(broker->env, &txn);
    if (result)
        return result;
    *done = true;
    result = chunks_marker(local->db, txn, id, &marker);
    if (!result && scheduler_marker_holds(broker->scheduler, &marker)) {
        *held = true;
    } else if (!result) {
        result = chunks_delete(local->db, txn, id, CHUNKS_STEP_COUNT, &count, done);
        if (!result && *done)
            result = chunks_unmark(local->db, txn, id);
    }
    result = end_step(txn, result == DB_NOTFOUND ? 0 : result);
    if (!result)
        atomic_fetch_add(&local->queue->chunks_removed, count);
    return result;
}

int apart_sweep(struct broker *broker, struct local_queue *local, struct uuid *position, bool *more,
                bool *held)
{
    bool done = false;
    *more = false;
    int result = chunks_next_marker(local->db, position);
    if (!result)
        result = sweep_step(broker, local, position, &done, held);
    if (result == DB_NOTFOUND)
        return 0;
    if (broker_is_fatal(result))
        return broker_fail(broker, result, "remove what a crash left");
    if (!result || env_is_conflict(result)) {
        *more = true;
        if (!result && done)
            *more = next_id(position);
        return 0;
    }
    *held = true; /* to be tried again later */
    if (!broker_make_room(broker, result))
        log_failure(local, "remove what a crash left", result);
    return 0;
}
