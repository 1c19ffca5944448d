/* settle - how an ack ends a message and how a nack or an expiry sends it to the end of its lane;
 * see broker/write.h */
#include <errno.h>

#include "broker/apart.h"
#include "broker/write.h"
#include "fibp/status.h"
#include "os/log.h"
#include "store/record.h"

static void set_status(struct write_entry *entry, uint8_t status)
{
    if (entry->item.settle)
        entry->item.settle->status = status;
}

/* The lease that a settle item is about; NULL with the item's status set when there is none. */
static struct lease *find_lease(struct write *write, struct write_entry *entry)
{
    struct lease *lease = entry->lease; /* given by the keeper */
    if (!entry->item.settle)
        return lease;
    lease = queue_lease_find(write->queue, &entry->item.settle->id);
    if (!lease || lease->state != LEASE_HELD) {
        set_status(entry, FIBP_MESSAGE_NOT_FOUND);
        return NULL;
    }
    return lease;
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

/* What is apart goes with its message when it is small; otherwise it is marked for removal. */
static int remove_apart(struct write *write, struct write_entry *entry, const struct lease *lease)
{
    struct queue_db *db = write->local->db;
    uint32_t count = 0;
    bool done = false;
    if (!apart_is_large(lease->apart) && write->small_removed < APART_SMALL_BATCH) {
        write->small_removed += lease->apart;
        int result = chunks_delete(db, write->txn, &lease->id, UINT32_MAX, &count, &done);
        write->chunks_removed += count;
        return result;
    }
    struct record_marker marker = apart_marker(write->broker);
    entry->leftover = true;
    return chunks_mark(db, write->txn, &lease->id, &marker);
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
    return result || !lease->apart ? result : remove_apart(write, entry, lease);
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
    write->queue->counters.acked++;
}

const struct write_method write_ack = {ack_stage, undo_lease, ack_publish, set_status};

/* --- nack and expiry --- */

/* Rewrites the message at the end of its lane with one attempt more. */
static int move_message(struct write *write, struct write_entry *entry)
{
    struct lease *lease = entry->lease;
    struct queue_db *db = write->local->db;
    struct buf *value = &write->broker->value;
    uint8_t key[RECORD_MESSAGE_KEY_SIZE];
    struct record_message message;
    position_key(key, lease);
    int result = queue_db_get(db, write->txn, str_of(key, sizeof(key)), value);
    if (result == DB_NOTFOUND || (!result && !record_message_parse(buf_str(value), &message))) {
        log_missing(write, lease);
        entry->seq = 0; /* the lease ends, nothing becomes ready */
        return 0;
    }
    if (result)
        return result;
    uint32_t attempt = message.attempt < UINT32_MAX ? message.attempt + 1 : UINT32_MAX;
    record_message_set_attempt(value->data, attempt);
    result = queue_db_delete(db, write->txn, str_of(key, sizeof(key)));
    if (result)
        return result;
    record_message_key(key, lease->lane->id, entry->seq);
    return queue_db_put(db, write->txn, str_of(key, sizeof(key)), buf_str(value));
}

static int retry_stage(struct write *write, struct write_entry *entry)
{
    struct lease *lease = find_lease(write, entry);
    if (entry->item.settle)
        entry->lease = NULL;
    if (!lease)
        return 0;
    if (lease->staged) {
        set_status(entry, FIBP_MESSAGE_NOT_FOUND);
        return 0;
    }
    write_stage_removal(write, lease);
    lease->staged = WRITE_RETRY + 1;
    entry->lease = lease;
    entry->staged = true;
    entry->seq = write->next_seq++;
    return move_message(write, entry);
}

static void retry_publish(struct write *write, struct write_entry *entry)
{
    struct lane *lane = entry->lease->lane;
    set_status(entry, FIBP_OK);
    queue_lease_end(write->queue, entry->lease);
    if (entry->seq) {
        if (!queue_lane_runnable(lane) && !lane->unscanned)
            lane->next = entry->seq;
        queue_ready_add(write->queue, lane, 1);
    }
    queue_lane_update(write->queue, lane, write->monotonic_ms);
    if (entry->item.settle)
        write->queue->counters.nacked++;
    else
        write->queue->counters.expired++;
}

static void retry_set_status(struct write_entry *entry, uint8_t status)
{
    set_status(entry, status);
}

const struct write_method write_retry = {retry_stage, undo_lease, retry_publish, retry_set_status};
