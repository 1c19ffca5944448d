/* enqueue - how a new message is written; see broker/write.h */
#include <errno.h>

#include "broker/apart.h"
#include "broker/delayed.h"
#include "broker/write.h"
#include "fibp/status.h"
#include "os/log.h"
#include "os/time.h"
#include "store/record.h"

/* The stored form of an item's throttle keys, in scratch memory. */
static bool pack_throttle_keys(struct write *write, const struct operation_enqueue_item *item,
                               struct str *packed)
{
    size_t size = 0, at = 0;
    *packed = str_of(NULL, 0);
    if (item->throttle_count == 0)
        return true;
    for (unsigned i = 0; i < item->throttle_count; i++)
        size += 2 + item->throttle_keys[i].size;
    uint8_t *bytes = pool_alloc(write->broker->scratch, size);
    if (!bytes)
        return false;
    for (unsigned i = 0; i < item->throttle_count; i++) {
        bytes_put_u16(bytes + at, (uint16_t)item->throttle_keys[i].size);
        memcpy(bytes + at + 2, item->throttle_keys[i].data, item->throttle_keys[i].size);
        at += 2 + item->throttle_keys[i].size;
    }
    *packed = str_of(bytes, size);
    return true;
}

/* Appends what stands in front of the message when it is delayed. */
static void append_lane(struct buf *value, const struct operation_enqueue_item *item,
                        struct str throttle_keys)
{
    struct record_lane lane = {.weight = item->weight,
                               .fairness_key = item->fairness_key,
                               .throttle_count = item->throttle_count,
                               .throttle_keys = throttle_keys};
    record_delayed_begin(value, &lane);
}

static int put_value(struct write *write, const struct write_entry *entry, const struct buf *value)
{
    uint8_t key[RECORD_MESSAGE_KEY_SIZE];
    if (value->failed)
        return ENOMEM;
    if (entry->due_ms)
        return delayed_put(write, entry->due_ms, entry->seq, value);
    record_message_key(key, entry->lane->id, entry->seq);
    return queue_db_put(write->local->db, write->txn, str_of(key, sizeof(key)), buf_str(value));
}

static int put_message(struct write *write, const struct write_entry *entry,
                       const struct apart_split *split, struct str throttle_keys)
{
    const struct operation_enqueue_item *item = entry->item.enqueue;
    uint8_t header[RECORD_MESSAGE_HEADER + RECORD_MESSAGE_REFERENCE];
    struct queue_db *db = write->local->db;
    struct record_message message = {.id = item->id,
                                     .weight = item->weight,
                                     .enqueued_ms = write->now_ns / 1000000,
                                     .apart = split->apart.size,
                                     .chunks = chunks_for(split->apart.size)};
    struct buf *value = &write->broker->value;
    uint32_t chunk = 0;
    size_t header_size = record_message_header(header, &message);
    buf_clear(value);
    if (entry->due_ms)
        append_lane(value, item, throttle_keys);
    buf_append(value, header, header_size);
    buf_append_str(value, split->inside);
    int result = put_value(write, entry, value);
    if (result || !split->apart.size)
        return result;
    if (apart_is_large(split->apart.size))
        return chunks_unmark(db, write->txn, &item->id);
    return chunks_put(db, write->txn, &item->id, split->apart, &chunk, message.chunks);
}

/* At most once a minute. The queue that is refused is the one that has so many. */
static void warn_of_keys(struct broker *broker, const struct queue *queue)
{
    uint64_t now_ms = time_monotonic_ms();
    if (now_ms < broker->next_key_warning_ms)
        return;
    broker->next_key_warning_ms = now_ms + BROKER_WARN_EVERY_MS;
    log_write(LOG_WARN, "broker",
              "queue \"%.*s\" has messages of %llu fairness and throttle keys: shared_memory has "
              "no room for more, their messages are refused",
              STR_PRINT(queue->name), (unsigned long long)queue->lane_count);
}

static int stage(struct write *write, struct write_entry *entry)
{
    struct operation_enqueue_item *item = entry->item.enqueue;
    struct str throttle_keys;
    struct apart_split split;
    apart_split(item->record, &split);
    bool large = apart_is_large(split.apart.size);
    entry->due_ms = item->delay_ms ? delayed_due_ms(write, item->delay_ms) : 0;
    if (atomic_load(&write->queue->scheduler->space_low) ||
        (large && item->stored_in != write->queue->id)) {
        item->status = FIBP_STORAGE_ERROR;
        return 0;
    }
    if (!pack_throttle_keys(write, item, &throttle_keys))
        return ENOMEM;
    if (!entry->due_ms) /* otherwise its lane is made when it is due */
        entry->lane = write_stage_lane(write, item->fairness_key, item->weight,
                                       item->throttle_count, throttle_keys);
    if (!entry->due_ms && !entry->lane) {
        warn_of_keys(write->broker, write->queue);
        item->status = FIBP_CHANNEL_FULL;
        return 0;
    }
    if (!large)
        item->id = uuid_next(&write->broker->ids, write->now_ns);
    entry->seq = write->next_seq++;
    entry->staged = true;
    return put_message(write, entry, &split, throttle_keys);
}

static void undo(struct write *write, struct write_entry *entry)
{
    (void)write;
    entry->lane = NULL; /* a lane that was made for it goes with the others of the transaction */
}

static void publish(struct write *write, struct write_entry *entry)
{
    struct lane *lane = entry->lane;
    struct queue_counters *counters = write->queue->counters;
    counters->enqueued++;
    counters->enqueued_bytes += entry->item.enqueue->record.size;
    counters->hook_errors += entry->item.enqueue->hook_failed;
    entry->item.enqueue->status = FIBP_OK;
    if (entry->due_ms) {
        delayed_publish(write, entry->due_ms);
        return;
    }
    drr_set_weight(&write->queue->drr, &lane->key->drr, entry->item.enqueue->weight);
    queue_lane_append(write->queue, lane, entry->seq);
    queue_lane_update(write->queue, lane, write->monotonic_ms);
}

static void set_status(struct write_entry *entry, uint8_t status)
{
    entry->item.enqueue->status = status;
}

const struct write_method write_enqueue = {stage, undo, publish, set_status};
