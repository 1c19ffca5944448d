/* settle - how an ack ends a message and how a nack or an expiry sends it to the end of its lane;
 * see broker/write.h */
#include <errno.h>

#include "broker/apart.h"
#include "broker/dead_letter.h"
#include "broker/delayed.h"
#include "broker/write.h"
#include "fibp/status.h"
#include "os/log.h"
#include "store/record.h"

static void set_status(struct write_entry *entry, uint8_t status)
{
    if (entry->item.settle)
        entry->item.settle->status = status;
}

/* True when the lease is the one that the entry is about. */
static bool is_meant(const struct write *write, const struct write_entry *entry,
                     struct lease *lease)
{
    const struct operation_decision *decision = entry->decision;
    if (!lease || lease->state == LEASE_RETURNED ||
        (entry->kept && queue_lease_token(lease) != entry->kept->token))
        return false;
    if (!decision)
        return !queue_lease_deciding(write->queue, lease);
    return queue_lease_token(lease) == decision->token &&
           queue_lease_decided_by(write->queue, lease, write->broker->options.slot);
}

/* The lease that an entry is about; NULL with the item's status set when there is none. */
static struct lease *find_lease(struct write *write, struct write_entry *entry)
{
    if (!entry->item.settle && !entry->kept)
        return entry->lease; /* given by the keeper */
    const struct uuid *id = entry->kept ? &entry->kept->id : &entry->item.settle->id;
    struct lease *lease = queue_lease_find(write->queue, id);
    if (is_meant(write, entry, lease))
        return lease;
    set_status(entry, FIBP_MESSAGE_NOT_FOUND);
    return NULL;
}

static void position_key(uint8_t key[RECORD_MESSAGE_KEY_SIZE], const struct lease *lease)
{
    record_message_key(key, lease->lane->id, lease->seq);
}

static void log_missing(const struct write *write, const struct lease *lease)
{
    uint8_t text[UUID_TEXT_SIZE];
    uuid_format(&lease->id, text);
    log_write(LOG_ERROR, "store", "queue \"%.*s\": leased message %.*s is not in the store",
              STR_PRINT(write->queue->name), UUID_TEXT_SIZE, (const char *)text);
}

/* --- ack --- */

int write_remove_apart(struct write *write, struct write_entry *entry, const struct uuid *id,
                       uint64_t apart)
{
    struct queue_db *db = write->local->db;
    uint32_t count = 0;
    bool done = false;
    if (!apart_is_large(apart) && write->small_removed < APART_SMALL_BATCH) {
        write->small_removed += apart;
        int result = chunks_delete(db, write->txn, id, UINT32_MAX, &count, &done);
        write->chunks_removed += count;
        return result;
    }
    struct record_marker marker = apart_marker(write->broker);
    entry->leftover = true;
    return chunks_mark(db, write->txn, id, &marker);
}

static int ack_stage(struct write *write, struct write_entry *entry)
{
    uint8_t key[RECORD_MESSAGE_KEY_SIZE];
    entry->lease = NULL;
    entry->leftover = false;
    struct lease *lease = find_lease(write, entry);
    if (!lease)
        return 0;
    if (lease->staged) { /* named twice in one frame: one ack. Otherwise somebody was faster */
        entry->staged = lease->staged == WRITE_ACK + 1 && lease->staged_by == write->ordinal;
        set_status(entry, entry->staged ? FIBP_OK : FIBP_MESSAGE_NOT_FOUND);
        return 0;
    }
    write_stage_removal(write, lease);
    lease->staged = WRITE_ACK + 1;
    lease->staged_by = write->ordinal;
    entry->lease = lease;
    entry->staged = true;
    position_key(key, lease);
    int result = queue_db_delete(write->local->db, write->txn, str_of(key, sizeof(key)));
    if (result == DB_NOTFOUND) {
        log_missing(write, lease);
        result = 0;
    }
    return result || !lease->apart ? result
                                   : write_remove_apart(write, entry, &lease->id, lease->apart);
}

static void undo_lease(struct write *write, struct write_entry *entry)
{
    entry->leftover = false;
    if (entry->lease)
        write_undo_removal(write, entry->lease);
}

static void ack_publish(struct write *write, struct write_entry *entry)
{
    set_status(entry, FIBP_OK);
    if (!entry->lease)
        return;
    struct lane *lane = entry->lease->lane;
    queue_lease_end(write->queue, entry->lease);
    queue_lane_update(write->queue, lane, write->monotonic_ms);
    write->queue->counters->acked++;
}

const struct write_method write_ack = {ack_stage, undo_lease, ack_publish, set_status};

/* --- nack and expiry --- */

/* Reads a leased message into broker->value. DB_NOTFOUND when there is none, which is logged. */
static int read_message(struct write *write, const struct lease *lease,
                        struct record_message *message)
{
    struct buf *value = &write->broker->value;
    uint8_t key[RECORD_MESSAGE_KEY_SIZE];
    position_key(key, lease);
    int result = queue_db_get(write->local->db, write->txn, str_of(key, sizeof(key)), value);
    if (!result && !record_message_parse(buf_str(value), message))
        result = DB_NOTFOUND;
    if (result == DB_NOTFOUND)
        log_missing(write, lease);
    return result;
}

/* Whether this failure is the last that the message may have. */
static bool is_last(const struct write *write, const struct write_entry *entry,
                    const struct record_message *message)
{
    uint32_t most = atomic_load(&write->queue->max_attempts);
    if (entry->kept)
        return false;
    return (entry->decision && entry->decision->dead_letter) ||
           (most && record_message_next_attempt(message) >= most);
}

/* A delayed one has its lane with it. */
static int put_delayed(struct write *write, const struct write_entry *entry, struct str message)
{
    const struct lane *lane = entry->lease->lane;
    struct record_lane record = {
        .weight = lane->stored_weight,
        .fairness_key = str_of(lane->key->name, lane->key->name_size),
        .throttle_count = lane->throttle_count,
        .throttle_keys = str_of(lane->throttle_keys, lane->throttle_size),
    };
    struct buf *value = &write->broker->rewritten;
    buf_clear(value);
    record_delayed_begin(value, &record);
    buf_append_str(value, message);
    return delayed_put(write, entry->due_ms, entry->seq, value);
}

/* Rewrites the message, which broker->value holds, at the end of its lane, or as a delayed one,
 * with one attempt more. */
static int move_message(struct write *write, struct write_entry *entry,
                        const struct record_message *message)
{
    struct lease *lease = entry->lease;
    struct queue_db *db = write->local->db;
    struct buf *value = &write->broker->value;
    uint8_t key[RECORD_MESSAGE_KEY_SIZE];
    record_message_set_attempt(value->data, record_message_next_attempt(message));
    position_key(key, lease);
    int result = queue_db_delete(db, write->txn, str_of(key, sizeof(key)));
    if (result)
        return result;
    if (entry->due_ms)
        return put_delayed(write, entry, buf_str(value));
    record_message_key(key, lease->lane->id, entry->seq);
    return queue_db_put(db, write->txn, str_of(key, sizeof(key)), buf_str(value));
}

static int retry_stage(struct write *write, struct write_entry *entry)
{
    struct record_message message;
    struct lease *lease = find_lease(write, entry);
    entry->dead = false;
    if (entry->item.settle || entry->kept)
        entry->lease = NULL;
    if (!lease)
        return 0;
    if (lease->staged) {
        set_status(entry, FIBP_MESSAGE_NOT_FOUND);
        return 0;
    }
    int result = read_message(write, lease, &message);
    if (result && result != DB_NOTFOUND)
        return result;
    entry->id = lease->id;
    entry->token = queue_lease_token(lease);
    entry->dead = !result && is_last(write, entry, &message);
    if (entry->dead)
        return 0;
    write_stage_removal(write, lease);
    lease->staged = WRITE_RETRY + 1;
    entry->lease = lease;
    entry->staged = true;
    entry->seq = result ? 0 : write->next_seq++; /* 0: the lease ends, nothing becomes ready */
    entry->due_ms = !result && entry->decision && entry->decision->delay_ms
                        ? delayed_due_ms(write, entry->decision->delay_ms)
                        : 0;
    return result ? 0 : move_message(write, entry, &message);
}

static void retry_publish(struct write *write, struct write_entry *entry)
{
    struct lane *lane = entry->lease->lane;
    set_status(entry, FIBP_OK);
    queue_lease_end(write->queue, entry->lease);
    if (entry->due_ms) {
        delayed_publish(write, entry->due_ms);
    } else if (entry->seq) {
        queue_lane_append(write->queue, lane, entry->seq);
    }
    queue_lane_update(write->queue, lane, write->monotonic_ms);
    if (entry->item.settle)
        write->queue->counters->nacked++;
    else
        write->queue->counters->expired++;
}

static void retry_set_status(struct write_entry *entry, uint8_t status)
{
    set_status(entry, status);
}

const struct write_method write_retry = {retry_stage, undo_lease, retry_publish, retry_set_status};
