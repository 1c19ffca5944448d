/*
 * large - messages of any size whose payload tells their number at every byte, and a look at what a
 * queue's database holds of them. Behind fixture.h.
 */
#ifndef FILAD_TESTS_BROKER_LARGE_H
#define FILAD_TESTS_BROKER_LARGE_H

#include "unit/broker/fixture.h"

#include "broker/apart.h"

/* --- messages --- */

static inline uint8_t large_byte(uint32_t number, size_t at)
{
    return (uint8_t)((number * 2654435761u + (uint32_t)at * 40503u + (uint32_t)(at >> 16)) >> 8);
}

/* A record without headers; its payload begins with `number` as u32. free() it. */
static inline uint8_t *large_record(uint32_t number, size_t size)
{
    uint8_t *record = malloc(6 + size);
    bytes_put_u16(record, 0);
    bytes_put_u32(record + 2, (uint32_t)size);
    bytes_put_u32(record + 6, number);
    for (size_t i = 4; i < size; i++)
        record[6 + i] = large_byte(number, i);
    return record;
}

/* An ENQUEUE of one message; for fixture_frame_free. */
static inline struct operation_enqueue *large_frame(const char *queue, const char *key,
                                                    uint32_t number, size_t size)
{
    struct operation_enqueue *enqueue = calloc(1, sizeof(*enqueue) + sizeof(enqueue->items[0]));
    uint8_t *record = large_record(number, size);
    enqueue->operation.kind = OPERATION_ENQUEUE;
    enqueue->operation.owner = record;
    enqueue->count = 1;
    enqueue->items[0].queue = str_from_c(queue);
    enqueue->items[0].record = str_of(record, 6 + size);
    enqueue->items[0].fairness_key = str_from_c(key);
    enqueue->items[0].weight = 1;
    return enqueue;
}

static inline uint8_t large_enqueue(struct fixture *fixture, const char *queue, uint32_t number,
                                    size_t size)
{
    struct operation_enqueue *enqueue = large_frame(queue, "k", number, size);
    fixture_execute(fixture, &enqueue->operation);
    uint8_t status = enqueue->items[0].status;
    fixture_frame_free(enqueue);
    return status;
}

/* As fixture_add, for messages that were made here: each byte must be right. */
static inline bool large_add(const struct subscription *subscription, struct buf *out,
                             const struct delivery_message *message)
{
    uint8_t *record = fixture_record(message);
    if (!record)
        return false;
    uint32_t size = bytes_get_u32(record + 2), number = bytes_get_u32(record + 6);
    assert_int_equal(message->record.size + message->rest, 6 + size);
    for (size_t i = 4; i < size; i++)
        if (record[6 + i] != large_byte(number, i))
            fail_msg("byte %zu of message %u (%u bytes) is wrong", i, number, size);
    free(record);
    return fixture_add(subscription, out, message);
}

static const struct delivery_encoder large_encoder = {fixture_begin, large_add, fixture_end};

static inline void large_subscribe(struct fixture *fixture, const char *queue,
                                   struct subscription *subscription)
{
    fixture_subscribe(fixture, queue, subscription);
    subscription->encoder = &large_encoder;
}

/* --- what is stored --- */

struct large_stored {
    unsigned messages, apart, chunks, markers;
    unsigned orphans; /* chunks that no message refers to */
};

static inline unsigned large_count_chunks(struct queue_db *db, const struct uuid *id,
                                          uint64_t *bytes)
{
    uint8_t key[RECORD_CHUNK_KEY_SIZE];
    struct buf value;
    unsigned count = 0;
    buf_init(&value, 0);
    *bytes = 0;
    for (;; count++) {
        record_chunk_key(key, id, count);
        if (queue_db_get(db, NULL, str_of(key, sizeof(key)), &value) != 0)
            break;
        *bytes += value.size;
    }
    buf_free(&value);
    return count;
}

/* Walks the whole database. Every message must have all that it refers to. */
static inline struct large_stored large_look(struct fixture *fixture, const char *queue)
{
    struct large_stored stored = {0};
    struct local_queue *local = NULL;
    struct queue_db_bulk bulk;
    struct str key, value;
    struct record_message message;
    uint8_t from[RECORD_KEY_MAX + 1] = {0};
    size_t from_size = 1;
    DBC *cursor = NULL;
    assert_int_equal(broker_find_queue(fixture->broker, str_from_c(queue), &local), 0);
    assert_non_null(local);
    assert_int_equal(queue_db_open(&fixture->broker->cache, &local->db, local->queue->id, true), 0);
    queue_db_bulk_init(&bulk);
    assert_int_equal(queue_db_cursor(local->db, &cursor), 0);
    while (queue_db_bulk_read(cursor, &bulk, str_of(from, from_size), 1u << 20) == 0) {
        while (queue_db_bulk_next(&bulk, &key, &value)) {
            uint64_t bytes = 0;
            memcpy(from, key.data, key.size);
            from[key.size] = 0;
            from_size = key.size + (key.size < RECORD_KEY_MAX);
            if (key.size == RECORD_KEY_MAX) /* a chunk: the next one is greater by one */
                bytes_put_u32(from + 17, bytes_get_u32(from + 17) + 1);
            stored.chunks += key.data[0] == RECORD_TAG_CHUNK;
            stored.markers += key.data[0] == RECORD_TAG_MARKER;
            if (key.data[0] != RECORD_TAG_MESSAGE)
                continue;
            stored.messages++;
            assert_true(record_message_parse(value, &message));
            if (!message.apart)
                continue;
            stored.apart++;
            stored.orphans -= message.chunks;
            assert_int_equal(large_count_chunks(local->db, &message.id, &bytes), message.chunks);
            assert_int_equal(bytes, message.apart);
        }
    }
    stored.orphans += stored.chunks;
    queue_db_cursor_close(cursor);
    queue_db_bulk_free(&bulk);
    return stored;
}

#endif
