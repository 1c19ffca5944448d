/* Control frames and the hot path: handshake, errors, enqueue, consume, delivery, ack and nack. */
#include "core/bytes.h"
#include "fibp/framed.h"

/* Smallest items: what bounds a claimed count before anything is done with it. */
#define ENQUEUE_ITEM_MIN 8u
#define ACK_ITEM_MIN 4u
#define NACK_ITEM_MIN 6u

bool framed_handshake(struct wire_reader *reader, struct framed_handshake *request)
{
    return wire_u16(reader, "protocol version", &request->version) &&
           wire_opt_str(reader, "api key", &request->has_api_key, &request->api_key);
}

int framed_handshake_ok(struct buf *buf, uint16_t version, uint64_t node_id,
                        uint32_t max_frame_size)
{
    size_t start = frame_begin(buf, OPCODE_HANDSHAKE_OK, 0);
    buf_append_u16(buf, version);
    buf_append_u64(buf, node_id);
    buf_append_u32(buf, max_frame_size);
    return frame_end(buf, start, FRAME_LENGTH_MAX);
}

int framed_error(struct buf *buf, uint32_t request_id, enum fibp_status status, struct str text,
                 const struct wire_pair *metadata, size_t metadata_count)
{
    size_t start = frame_begin(buf, OPCODE_ERROR, request_id);
    buf_append_u8(buf, (uint8_t)status);
    wire_put_text(buf, text.size ? text : status_text(status));
    wire_put_map(buf, metadata, metadata_count);
    return frame_end(buf, start, FRAME_LENGTH_MAX);
}

bool framed_enqueue_begin(struct wire_reader *reader, uint32_t *count)
{
    return wire_count32(reader, "message count", ENQUEUE_ITEM_MIN, count);
}

bool framed_enqueue_next(struct wire_reader *reader, struct framed_enqueue_item *item)
{
    if (!wire_str(reader, "queue", &item->queue))
        return false;
    const uint8_t *record = reader->at;
    if (!wire_map(reader, "headers", &item->headers, &item->header_count) ||
        !wire_bytes(reader, "payload", &item->payload))
        return false;
    item->record = str_of(record, (size_t)(reader->at - record));
    return true;
}

bool framed_ack_begin(struct wire_reader *reader, uint32_t *count)
{
    return wire_count32(reader, "ack count", ACK_ITEM_MIN, count);
}

bool framed_ack_next(struct wire_reader *reader, struct framed_ack_item *item)
{
    return wire_str(reader, "queue", &item->queue) &&
           wire_str(reader, "message id", &item->message_id);
}

bool framed_nack_begin(struct wire_reader *reader, uint32_t *count)
{
    return wire_count32(reader, "nack count", NACK_ITEM_MIN, count);
}

bool framed_nack_next(struct wire_reader *reader, struct framed_nack_item *item)
{
    return wire_str(reader, "queue", &item->queue) &&
           wire_str(reader, "message id", &item->message_id) &&
           wire_str(reader, "error", &item->error);
}

/* What a _check does once all items passed. */
static bool framed_rewind(struct wire_reader *reader, const uint8_t *first)
{
    reader->at = first;
    reader->trusted = true;
    return true;
}

bool framed_enqueue_check(struct wire_reader *reader, uint32_t *count)
{
    if (!framed_enqueue_begin(reader, count))
        return false;
    const uint8_t *first = reader->at;
    struct framed_enqueue_item item;
    for (uint32_t i = 0; i < *count; i++)
        if (!framed_enqueue_next(reader, &item))
            return false;
    return framed_rewind(reader, first);
}

bool framed_ack_check(struct wire_reader *reader, uint32_t *count)
{
    if (!framed_ack_begin(reader, count))
        return false;
    const uint8_t *first = reader->at;
    struct framed_ack_item item;
    for (uint32_t i = 0; i < *count; i++)
        if (!framed_ack_next(reader, &item))
            return false;
    return framed_rewind(reader, first);
}

bool framed_nack_check(struct wire_reader *reader, uint32_t *count)
{
    if (!framed_nack_begin(reader, count))
        return false;
    const uint8_t *first = reader->at;
    struct framed_nack_item item;
    for (uint32_t i = 0; i < *count; i++)
        if (!framed_nack_next(reader, &item))
            return false;
    return framed_rewind(reader, first);
}

bool framed_headers_find(struct str map, struct str name, struct str *value)
{
    struct wire_reader reader;
    struct wire_pair pair;
    uint16_t count;
    bool found = false;

    *value = (struct str){NULL, 0};
    wire_reader_init(&reader, map);
    reader.trusted = true;
    if (!wire_u16(&reader, "headers", &count))
        return false;
    for (uint16_t i = 0; i < count && wire_pair_next(&reader, "headers", &pair); i++) {
        if (str_equal(pair.key, name)) {
            *value = pair.value;
            found = true;
        }
    }
    return found;
}

bool framed_record_split(struct str record, struct str *headers, struct str *payload)
{
    struct wire_reader reader;
    wire_reader_init(&reader, record);
    reader.trusted = true;
    return wire_map(&reader, "headers", headers, NULL) && wire_bytes(&reader, "payload", payload) &&
           wire_remaining(&reader) == 0;
}

bool framed_consume(struct wire_reader *reader, struct framed_consume *request)
{
    *request = (struct framed_consume){.limit = 0};
    if (!wire_str(reader, "queue", &request->queue))
        return false;
    uint32_t marker = 0;
    if (wire_remaining(reader) != 8)
        return true;
    return wire_u32(reader, "extension", &marker) &&
           (marker != FRAMED_CONSUME_LIMIT || wire_u32(reader, "limit", &request->limit));
}

bool framed_cancel(struct wire_reader *reader, struct framed_cancel *request)
{
    *request = (struct framed_cancel){.consumer_id = STR("")};
    struct wire_reader first = *reader;
    if (!wire_str(&first, "consumer id", &request->consumer_id)) {
        request->consumer_id = STR("");
        return true;
    }
    if (request->consumer_id.size == 0 && wire_remaining(&first) >= 2)
        return wire_fail(reader, "consumer id", "an Ack of another opcode numbering");
    return true;
}

size_t framed_enqueue_result_begin(struct buf *buf, uint32_t request_id, uint32_t count)
{
    size_t start = frame_begin(buf, OPCODE_ENQUEUE_RESULT, request_id);
    buf_append_u32(buf, count);
    return start;
}

void framed_enqueue_result_add(struct buf *buf, enum fibp_status status, const struct uuid *id)
{
    bool with_id = status == FIBP_OK && id;
    uint8_t *at = buf_reserve(buf, 3 + UUID_TEXT_SIZE);
    if (!at)
        return;
    at[0] = (uint8_t)status;
    bytes_put_u16(at + 1, with_id ? UUID_TEXT_SIZE : 0);
    if (with_id)
        uuid_format(id, at + 3);
    buf->size += 3u + (with_id ? UUID_TEXT_SIZE : 0u);
}

void framed_enqueue_result_reject(struct buf *buf, enum fibp_status status, struct str reason)
{
    buf_append_u8(buf, (uint8_t)status);
    wire_put_text(buf, reason);
}

size_t framed_ack_result_begin(struct buf *buf, enum numbering numbering, enum opcode opcode,
                               uint32_t request_id, uint32_t count)
{
    size_t start = frame_begin(buf, numbering_byte(numbering, opcode), request_id);
    buf_append_u32(buf, count);
    return start;
}

void framed_ack_result_add(struct buf *buf, enum fibp_status status)
{
    buf_append_u8(buf, (uint8_t)status);
}

int framed_consume_ok(struct buf *buf, enum numbering numbering, uint32_t request_id,
                      const struct uuid *consumer_id)
{
    uint8_t opcode = numbering_byte(numbering, OPCODE_CONSUME_OK);
    uint8_t text[UUID_TEXT_SIZE];
    if (opcode == 0)
        return 0;
    uuid_format(consumer_id, text);
    size_t start = frame_begin(buf, opcode, request_id);
    wire_put_str(buf, str_of(text, sizeof(text)));
    return frame_end(buf, start, FRAME_LENGTH_MAX);
}

size_t framed_delivery_item_head(const struct framed_delivery_item *item)
{
    return 2 + UUID_TEXT_SIZE + 2 + item->queue.size + item->record.size;
}

size_t framed_delivery_item_size(const struct framed_delivery_item *item)
{
    size_t size = framed_delivery_item_head(item) + (size_t)item->rest;
    size += 2 + item->fairness_key.size + 4 + 2;
    for (uint16_t i = 0; i < item->throttle_key_count; i++)
        size += 2 + item->throttle_keys[i].size;
    return size + 4 + 8 + 8;
}

size_t framed_delivery_begin(struct buf *buf, enum numbering numbering, uint32_t request_id)
{
    size_t start = frame_begin(buf, numbering_byte(numbering, OPCODE_DELIVERY), request_id);
    buf_append_u32(buf, 0);
    return start;
}

int framed_delivery_add(struct buf *buf, const struct framed_delivery_item *item)
{
    size_t before = buf->size;
    uint8_t id[UUID_TEXT_SIZE];

    if (buf->failed)
        return -1;
    if (!buf_reserve(buf, framed_delivery_item_size(item))) {
        buf->failed = false;
        return -1;
    }
    uuid_format(&item->id, id);
    wire_put_str(buf, str_of(id, sizeof(id)));
    wire_put_str(buf, item->queue);
    buf_append_str(buf, item->record);
    buf->size += (size_t)item->rest; /* there is room: it was reserved */
    wire_put_str(buf, item->fairness_key);
    buf_append_u32(buf, item->weight);
    wire_put_strs(buf, item->throttle_keys, item->throttle_key_count);
    buf_append_u32(buf, item->attempt);
    buf_append_u64(buf, item->enqueued_ms);
    buf_append_u64(buf, item->leased_ms);
    if (!buf->failed)
        return 0;
    buf->failed = false;
    buf->size = before;
    return -1;
}

int framed_delivery_end(struct buf *buf, size_t start, uint32_t count, uint32_t max_length)
{
    if (!buf->failed)
        bytes_put_u32(buf->data + start + FRAME_OVERHEAD, count);
    return frame_end(buf, start, max_length);
}
