#include "broker/move.h"

#include <errno.h>

#include "broker/apart.h"
#include "broker/dead_letter.h"
#include "broker/write.h"
#include "fibp/status.h"
#include "os/futex.h"
#include "os/log.h"
#include "os/time.h"

#define CONFLICTS_MAX 100
#define BUSY_TRIES 1000  /* of a millisecond, for a message that another thread is moving */
#define VISITS_MAX 300   /* looks at lanes under one holding of the locks */
#define SKIPPED_NAMED 10 /* messages that a redrive names in the log; then it says how many */
#define BULK_RUN 4 /* messages that a lane gave at a time, from which on many are read at once */

/* One message on its way. */
struct moving {
    struct uuid id;
    struct lane *lane;          /* in the queue it leaves */
    struct lease *lease;        /* that ends with it; NULL for a ready message never given back */
    uint64_t seq;               /* there */
    bool counted;               /* lane->ready knows of it */
    struct dead_letter *letter; /* that is dead-lettered; NULL for a ready message */
    struct lane *to_lane;
    uint64_t to_seq;
};

/* A message of which a part was copied to the other queue's database. */
struct copy {
    struct record_message message; /* its body is not valid */
    bool moved;
};

struct move {
    struct broker *broker;
    struct write from, to;
    struct moving *messages; /* MOVE_MAX in scratch memory */
    uint32_t count;
    struct order *order; /* ready messages: those of `from` */
    bool full;           /* the zone has no room for the lane there */
    struct copy *copies; /* MOVE_MAX in scratch memory */
    uint32_t copy_count;
    struct record_message *wanted; /* MOVE_MAX in scratch memory: to be copied first */
    uint32_t wanted_count;
    uint64_t wanted_bytes;
    struct uuid *gone; /* MOVE_MAX in scratch memory: what was apart of them was not there */
    uint32_t gone_count;
    bool blocked; /* by one that must be copied first */
    bool within;  /* a work of this thread that goes on after: its markers must stay in force */
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
    move->within = broker->apart.work != 0;
    move->from = (struct write){.broker = broker, .local = from, .queue = from->queue};
    move->to = (struct write){.broker = broker, .local = to, .queue = to->queue};
    move->messages = pool_zalloc(broker->scratch, MOVE_MAX * sizeof(*move->messages));
    move->copies = pool_zalloc(broker->scratch, MOVE_MAX * sizeof(*move->copies));
    move->wanted = pool_zalloc(broker->scratch, MOVE_MAX * sizeof(*move->wanted));
    move->gone = pool_zalloc(broker->scratch, MOVE_MAX * sizeof(*move->gone));
    *result = move->messages && move->copies && move->wanted && move->gone
                  ? broker_open_db(broker, from, true)
                  : ENOMEM;
    if (!*result)
        *result = broker_open_db(broker, to, true);
    return broker_is_fatal(*result) ? broker_fail(broker, *result, "open a queue") : 0;
}

static int begin_locked(struct move *move)
{
    if (lock_both(move->broker, move->from.queue, move->to.queue) != 0)
        return -1;
    move->from.now_ns = move->to.now_ns = time_wall_ns();
    move->from.monotonic_ms = move->to.monotonic_ms = time_monotonic_ms();
    move->count = move->wanted_count = 0;
    move->wanted_bytes = 0;
    move->blocked = move->full = false;
    return 0;
}

static void end_locked(struct move *move)
{
    lock_release(&move->from.queue->lock);
    lock_release(&move->to.queue->lock);
}

/* Removes the copies that are not needed: of what has moved the old, of the rest the new ones. */
static int remove_copies(struct move *move)
{
    int status = 0;
    for (uint32_t i = 0; i < move->copy_count && status == 0; i++)
        status =
            apart_discard(move->broker, move->copies[i].moved ? move->from.local : move->to.local,
                          &move->copies[i].message.id);
    if (status == 0 && !move->within)
        apart_finish(move->broker);
    return status;
}

/* Without the locks. */
static int finish(struct move *move, int result, uint8_t *status)
{
    if (!broker_is_fatal(result) && remove_copies(move) != 0)
        return -1;
    if (!result)
        return 0;
    *status = FIBP_STORAGE_ERROR;
    log_write(LOG_ERROR, "store", "move from queue \"%.*s\" to \"%.*s\": %s",
              STR_PRINT(move->from.queue->name), STR_PRINT(move->to.queue->name),
              db_strerror(result));
    return broker_is_fatal(result) ? broker_fail(move->broker, result, "move messages") : 0;
}

/* --- what is apart --- */

static struct copy *find_copy(const struct move *move, const struct uuid *id)
{
    for (uint32_t i = 0; i < move->copy_count; i++)
        if (uuid_equal(&move->copies[i].message.id, id))
            return &move->copies[i];
    return NULL;
}

/* The place in move->gone of one whose part was not there when it was to be copied. If the message
 * is, that part is lost: its record goes first whenever it is removed or moved. */
static struct uuid *find_gone(const struct move *move, const struct record_message *message)
{
    for (uint32_t i = 0; message->apart && i < move->gone_count; i++)
        if (uuid_equal(&move->gone[i], &message->id))
            return &move->gone[i];
    return NULL;
}

static void note_gone(struct move *move, const struct uuid *id)
{
    if (move->gone_count == MOVE_MAX) /* those have left the queue, or are found again */
        move->gone_count = 0;
    move->gone[move->gone_count++] = *id;
}

/* True when a message can be moved now; otherwise it is noted, as far as there is room, as one to
 * be copied first. */
static bool is_movable(struct move *move, const struct record_message *message)
{
    if (!message->apart || find_copy(move, &message->id))
        return true;
    if (move->copy_count + move->wanted_count < MOVE_MAX &&
        (!move->wanted_count || move->wanted_bytes + message->apart <= APART_SLICE)) {
        move->wanted[move->wanted_count++] = *message;
        move->wanted_bytes += message->apart;
    }
    move->blocked = true;
    return false;
}

/* Without the locks: copies what is wanted. *status changes when one of them cannot be moved. */
static int copy_wanted(struct move *move, unsigned *tries, int *result, uint8_t *status)
{
    _Atomic uint32_t never = 0;
    enum apart_copied outcome;
    if (move->blocked && !move->wanted_count) /* others took all that was copied */
        *status = FIBP_STORAGE_ERROR;
    for (uint32_t i = 0; i < move->wanted_count && !*result; i++) {
        if (apart_copy(move->broker, move->from.local, move->to.local, &move->wanted[i], &outcome,
                       result) != 0)
            return -1;
        if (outcome == APART_COPIED)
            move->copies[move->copy_count++].message = move->wanted[i];
        if (outcome == APART_GONE)
            note_gone(move, &move->wanted[i].id);
        if (outcome != APART_BUSY)
            continue;
        if (++*tries > BUSY_TRIES) {
            *status = FIBP_STORAGE_ERROR;
            return 0;
        }
        futex_wait(&never, 0, 1);
    }
    return 0;
}

/* Reads what the store says of a leased message. */
static int read_leased(struct move *move, const struct lease *lease, struct record_message *message)
{
    uint8_t key[RECORD_MESSAGE_KEY_SIZE];
    struct buf *value = &move->broker->value;
    unsigned tries = 0;
    int result;
    record_message_key(key, lease->lane->id, lease->seq);
    do {
        result = queue_db_get(move->from.local->db, NULL, str_of(key, sizeof(key)), value);
    } while (env_is_conflict(result) && ++tries < CONFLICTS_MAX);
    if (!result && !record_message_parse(buf_str(value), message))
        result = EINVAL;
    return result;
}

/* --- one message --- */

/* The copy is the message's now, and the old one nobody's. */
static int exchange_markers(struct move *move, const struct record_message *message)
{
    if (!find_copy(move, &message->id))
        return EINVAL;
    struct record_marker marker = apart_marker(move->broker);
    int result = chunks_unmark(move->to.local->db, move->from.txn, &message->id);
    return result ? result
                  : chunks_mark(move->from.local->db, move->from.txn, &message->id, &marker);
}

/* The message as it goes to its new place, in broker->rewritten. */
static int make_value(struct move *move, const struct moving *moving,
                      const struct record_message *message)
{
    struct buf *value = &move->broker->value, *moved = &move->broker->rewritten;
    struct record_dead dead = {.dead_ms = move->from.now_ns / 1000000,
                               .origin = move->from.queue->name};
    record_message_set_attempt(value->data,
                               moving->letter ? record_message_next_attempt(message) : 0);
    if (moving->letter)
        dead.reason = moving->letter->reason;
    buf_clear(moved);
    record_message_append(moved, buf_str(value), message, moving->letter ? &dead : NULL);
    return moved->failed ? ENOMEM : 0;
}

/* Writes one to its new place and takes it from the old one. */
static int stage_message(struct move *move, struct moving *moving)
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
    result = make_value(move, moving, &message);
    if (!result)
        result = queue_db_delete(move->from.local->db, txn, str_of(key, sizeof(key)));
    if (!result && message.apart)
        result = exchange_markers(move, &message);
    if (result)
        return result;
    record_message_key(key, moving->to_lane->id, moving->to_seq);
    return queue_db_put(move->to.local->db, txn, str_of(key, sizeof(key)),
                        buf_str(&move->broker->rewritten));
}

static void count_letter(struct queue_counters *counters, struct dead_letter *letter)
{
    letter->status = FIBP_OK;
    counters->dead_lettered++;
    if (letter->item)
        counters->nacked++;
    else
        counters->expired++;
}

static void publish_message(struct move *move, struct moving *moving)
{
    struct lane *lane = moving->lane, *to_lane = moving->to_lane;
    struct copy *copy = find_copy(move, &moving->id);
    if (copy)
        copy->moved = true;
    if (!moving->lease) {
        /* What stood before it was moved, too, or is leased. */
        if (moving->seq >= lane->next) {
            lane->next = moving->seq + 1;
            lane->next_is_known = false;
        }
        move->from.queue->ready_removed++;
        if (moving->counted)
            queue_ready_add(move->from.queue, lane, -1);
    } else {
        if (moving->lease->state == LEASE_RETURNED)
            queue_ready_add(move->from.queue, lane, -1);
        queue_lease_end(move->from.queue, moving->lease);
    }
    if (moving->letter)
        count_letter(move->from.queue->counters, moving->letter);
    else
        move->to.queue->counters->redriven++;
    queue_lane_update(move->from.queue, lane, move->from.monotonic_ms);
    queue_lane_append(move->to.queue, to_lane, moving->to_seq);
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
static int run_once(struct move *move)
{
    DB_TXN *txn = NULL;
    int result = env_begin(move->broker->env, &txn);
    if (result)
        return result;
    write_begin(&move->from, txn);
    write_begin(&move->to, txn);
    for (uint32_t i = 0; i < move->count && !result; i++)
        result = stage_message(move, &move->messages[i]);
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

static int run(struct move *move, uint8_t *status)
{
    int result = 0, tries = 0;
    do {
        result = run_once(move);
    } while ((env_is_conflict(result) || (!move->full && broker_make_room(move->broker, result))) &&
             ++tries < CONFLICTS_MAX);
    if (!result)
        *status = FIBP_OK;
    if (!move->full)
        return result;
    *status = FIBP_CHANNEL_FULL;
    return 0;
}

/* --- leased --- */

#define PENDING UINT8_MAX /* status of a letter that nothing is known of yet */

static void set_pending(struct dead_letter *letters, uint32_t count, uint8_t status)
{
    for (uint32_t i = 0; i < count; i++)
        if (letters[i].status == PENDING)
            letters[i].status = status;
}

static bool is_pending(const struct dead_letter *letters, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (letters[i].status == PENDING)
            return true;
    return false;
}

/* The lease that a letter is about; NULL when it has ended, or is in other hands. */
static struct lease *find_lease(const struct move *move, const struct dead_letter *letter)
{
    struct queue *queue = move->from.queue;
    struct lease *lease = queue_lease_find(queue, &letter->id);
    if (!lease || lease->state == LEASE_RETURNED || queue_lease_token(lease) != letter->token)
        return NULL;
    for (uint32_t i = 0; i < move->count; i++) /* named twice in one frame */
        if (move->messages[i].lease == lease)
            return NULL;
    bool meant = letter->decision ? queue_lease_decided_by(queue, lease, move->broker->options.slot)
                                  : !queue_lease_deciding(queue, lease);
    return meant ? lease : NULL;
}

/* Notes one to be moved; one that must be copied first stays pending. */
static int collect_leased(struct move *move, struct dead_letter *letter)
{
    struct record_message message = {.apart = 0};
    struct lease *lease = find_lease(move, letter);
    if (!lease) {
        letter->status = FIBP_MESSAGE_NOT_FOUND;
        return 0;
    }
    int result = lease->apart ? read_leased(move, lease, &message) : 0;
    if (result && !broker_is_fatal(result))
        letter->status = FIBP_STORAGE_ERROR;
    if (result)
        return broker_is_fatal(result) ? result : 0;
    if (find_gone(move, &message))
        letter->status = FIBP_STORAGE_ERROR;
    else if (is_movable(move, &message))
        move->messages[move->count++] = (struct moving){.id = letter->id,
                                                        .lane = lease->lane,
                                                        .lease = lease,
                                                        .seq = lease->seq,
                                                        .letter = letter};
    return 0;
}

static void note_refusal(struct move *move, uint8_t status, int result)
{
    for (uint32_t i = 0; i < move->count; i++)
        move->messages[i].letter->status = result ? FIBP_STORAGE_ERROR : status;
}

/* All that were collected; when that fails each alone. The last failure. */
static int run_leased(struct move *move)
{
    struct moving *all = move->messages;
    uint32_t count = move->count;
    uint8_t status = FIBP_OK;
    int result = run(move, &status);
    if ((!result && status == FIBP_OK) || broker_is_fatal(result))
        return result;
    note_refusal(move, status, result);
    for (uint32_t i = 0; count > 1 && i < count && !broker_is_fatal(result); i++) {
        move->messages = &all[i];
        move->count = 1;
        move->full = false;
        int alone = run(move, &status);
        note_refusal(move, status, alone);
        result = alone ? alone : result;
    }
    move->messages = all;
    return result;
}

/* Under the locks: moves those that can be, and notes what has to be copied before. */
static int try_leased(struct move *move, struct dead_letter *letters, uint32_t count)
{
    int result = 0;
    if (atomic_load(&move->from.queue->dead) || atomic_load(&move->to.queue->dead)) {
        set_pending(letters, count, FIBP_QUEUE_NOT_FOUND);
        return 0;
    }
    for (uint32_t i = 0; i < count && !result; i++)
        if (letters[i].status == PENDING)
            result = collect_leased(move, &letters[i]);
    return result || !move->count ? result : run_leased(move);
}

int move_leased(struct broker *broker, struct local_queue *from, struct local_queue *to,
                struct dead_letter *letters, uint32_t count)
{
    struct move move;
    unsigned tries = 0;
    int result = 0, failure = 0;
    for (uint32_t i = 0; i < count; i++)
        letters[i].status = PENDING;
    if (prepare(&move, broker, from, to, &result) != 0)
        return -1;
    failure = result;
    while (!result && is_pending(letters, count)) {
        uint8_t status = FIBP_OK;
        if (begin_locked(&move) != 0)
            return -1;
        failure = try_leased(&move, letters, count);
        end_locked(&move);
        result = broker_is_fatal(failure) ? failure : 0;
        if (!result && copy_wanted(&move, &tries, &result, &status) != 0)
            return -1;
        if (status != FIBP_OK)
            set_pending(letters, count, status);
    }
    set_pending(letters, count, FIBP_STORAGE_ERROR);
    uint8_t ignored = FIBP_OK;
    return finish(&move, result ? result : failure, &ignored);
}

/* --- ready --- */

/* The records of a lane from a position on: many at once where a lane goes on for long, one where
 * lanes take turns, which is cheaper. */
struct lane_reader {
    struct broker *broker;
    uint8_t key[RECORD_KEY_MAX];
    size_t key_size;
    bool single, given;
};

static int read_lane(struct move *move, struct lane_reader *reader, const struct order_head *head)
{
    struct broker *broker = move->broker;
    uint8_t from[RECORD_MESSAGE_KEY_SIZE];
    DBC *cursor = NULL;
    unsigned tries = 0;
    int result;
    *reader = (struct lane_reader){.broker = broker, .single = move->order->run < BULK_RUN};
    record_message_key(from, head->lane, head->seq);
    do {
        result = queue_db_cursor(move->from.local->db, &cursor);
        if (!result && reader->single)
            result = queue_db_read_first(cursor, str_of(from, sizeof(from)), reader->key,
                                         &reader->key_size, &broker->value);
        else if (!result)
            result = queue_db_bulk_read(cursor, &broker->bulk, str_of(from, sizeof(from)), 0);
        queue_db_cursor_close(cursor);
    } while (env_is_conflict(result) && ++tries < CONFLICTS_MAX);
    return result;
}

static bool read_next(struct lane_reader *reader, struct str *key, struct str *value)
{
    if (!reader->single)
        return queue_db_bulk_next(&reader->broker->bulk, key, value);
    if (reader->given)
        return false;
    reader->given = true;
    *key = str_of(reader->key, reader->key_size);
    *value = buf_str(&reader->broker->value);
    return true;
}

/* Passes over a message whose part is lost, which nothing can be done with but to delete it. */
static void skip_damaged(struct move *move, struct uuid *gone)
{
    uint8_t id[UUID_TEXT_SIZE];
    uuid_format(gone, id);
    *gone = move->gone[--move->gone_count];
    if (move->order->skipped++ < SKIPPED_NAMED)
        log_write(LOG_ERROR, "store",
                  "queue \"%.*s\": message %.*s is not whole and cannot be moved; skipped",
                  STR_PRINT(move->from.queue->name), UUID_TEXT_SIZE, id);
}

/* Collects a message when it is ready; false when it must be copied first. */
static bool collect(struct move *move, struct lane *lane, uint64_t seq, struct str value)
{
    struct record_message message;
    struct lease *lease = NULL;
    if (!record_message_parse(value, &message))
        return true;
    if (seq < lane->next || seq < lane->leased_below)
        lease = queue_lease_find(move->from.queue, &message.id);
    if (lease && lease->state != LEASE_RETURNED)
        return true;
    struct uuid *gone = find_gone(move, &message);
    if (gone && !move->blocked) {
        skip_damaged(move, gone);
        return true;
    }
    if (gone || !is_movable(move, &message))
        return false;
    if (move->blocked) /* what stands behind one that must be copied is copied with it */
        return false;
    move->messages[move->count++] =
        (struct moving){.id = message.id,
                        .lane = lane,
                        .lease = lease,
                        .seq = seq,
                        .counted = queue_scan_counted(move->from.queue, lane->id, seq)};
    return true;
}

/* Collects from the lane whose turn it is, until it is another one's. */
static int collect_lane(struct move *move, uint32_t limit)
{
    struct order *order = move->order;
    struct order_head head = *order_first(order);
    uint64_t turn = order_turn(order), next = head.seq;
    uint32_t count = move->count;
    struct lane_reader reader;
    struct str key, value;
    uint8_t prefix[RECORD_MESSAGE_KEY_SIZE];
    bool ended = false;
    int result = 0;
    struct lane *lane = order_lane(move->broker, move->from.local, head.lane, &result);
    if (!result && lane)
        result = read_lane(move, &reader, &head);
    if (result == DB_NOTFOUND || (!result && !lane)) {
        order_drop(order);
        return 0;
    }
    record_message_key(prefix, head.lane, 0);
    while (!result && !ended && move->count < limit && read_next(&reader, &key, &value)) {
        bool other = key.size != sizeof(prefix) || memcmp(key.data, prefix, 9) != 0;
        uint64_t seq = other ? order->before : bytes_get_u64(key.data + 9);
        ended = seq >= order->before;
        if (!ended && !move->blocked)
            next = seq;
        if (ended || seq >= turn)
            break;
        if (collect(move, lane, seq, value) && !move->blocked)
            next = seq + 1;
    }
    order->run = move->count - count + (order->count == 1 ? BULK_RUN : 0);
    if (ended && !move->blocked)
        order_drop(order);
    else if (!result)
        order_advance(order, next);
    return result;
}

/* Under the locks: one batch, oldest first. What stands before one that has to be copied is moved
 * first. */
static int move_batch(struct move *move, uint32_t limit, uint32_t *moved, uint8_t *status)
{
    int result = 0;
    for (unsigned i = 0; i < VISITS_MAX && !result && move->count < limit && !move->blocked &&
                         order_first(move->order);
         i++)
        result = collect_lane(move, limit);
    if (!result && move->count)
        result = run(move, status);
    *moved = *status == FIBP_OK && !result ? move->count : 0;
    return result;
}

static int build_order(struct move *move, int *result)
{
    while (!*result && !move->order->built)
        if (order_build(move->order, move->broker, move->from.local, result) != 0)
            return -1;
    return 0;
}

int move_ready(struct broker *broker, struct local_queue *from, struct local_queue *to,
               struct order *order, uint32_t limit, uint32_t *moved, uint8_t *status)
{
    struct move move;
    unsigned tries = 0;
    int result = 0;
    *moved = 0;
    *status = FIBP_OK;
    limit = limit < MOVE_MAX ? limit : MOVE_MAX;
    if (prepare(&move, broker, from, to, &result) != 0)
        return -1;
    move.order = order;
    if (build_order(&move, &result) != 0)
        return -1;
    do {
        if (result)
            break;
        if (begin_locked(&move) != 0)
            return -1;
        if (atomic_load(&from->queue->dead) || atomic_load(&to->queue->dead))
            *status = FIBP_QUEUE_NOT_FOUND;
        else
            result = move_batch(&move, limit, moved, status);
        end_locked(&move);
        if (!result && !*moved && *status == FIBP_OK &&
            copy_wanted(&move, &tries, &result, status) != 0)
            return -1;
    } while (!*moved && move.blocked && *status == FIBP_OK);
    return finish(&move, result, status);
}
