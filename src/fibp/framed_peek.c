#include "fibp/framed_peek.h"

#include "fibp/frame.h"

#define FLAG_HEADERS_CUT 0x01
#define FLAG_DEAD 0x02
#define ITEM_MIN 46u /* bytes of an item with nothing in it */

bool framed_peek(struct wire_reader *reader, struct framed_peek *request)
{
    return wire_str(reader, "queue", &request->queue) &&
           wire_opt_str(reader, "fairness key", &request->has_key, &request->fairness_key) &&
           wire_u32(reader, "count", &request->limit) &&
           wire_u32(reader, "payload limit", &request->payload_max) &&
           wire_bytes(reader, "cursor", &request->cursor);
}

int framed_client_peek(struct buf *buf, uint32_t request_id, const struct framed_peek *request)
{
    size_t start = frame_begin(buf, OPCODE_PEEK_QUEUE, request_id);
    wire_put_str(buf, request->queue);
    wire_put_opt_str(buf, request->has_key, request->fairness_key);
    buf_append_u32(buf, request->limit);
    buf_append_u32(buf, request->payload_max);
    wire_put_bytes(buf, request->cursor);
    return frame_end(buf, start, FRAME_LENGTH_MAX);
}

void framed_peek_begin(struct buf *buf, uint32_t request_id, enum fibp_status status,
                       struct str cursor, struct framed_list *list)
{
    list->start = frame_begin(buf, OPCODE_PEEK_QUEUE_RESULT, request_id);
    buf_append_u8(buf, (uint8_t)status);
    wire_put_bytes(buf, cursor);
    list->count_at = buf->size;
    list->count = 0;
    buf_append_u16(buf, 0);
}

void framed_peek_add(struct buf *buf, struct framed_list *list, const struct framed_peek_item *item)
{
    if (list->count == UINT16_MAX)
        return;
    list->count++;
    wire_put_str(buf, item->message_id);
    buf_append_u8(buf, item->state);
    buf_append_u8(buf, (uint8_t)((item->headers_cut ? FLAG_HEADERS_CUT : 0) |
                                 (item->is_dead ? FLAG_DEAD : 0)));
    buf_append_u64(buf, item->when_ms);
    if (item->headers.size)
        buf_append_str(buf, item->headers);
    else
        buf_append_u16(buf, 0);
    buf_append_u64(buf, item->payload_size);
    wire_put_bytes(buf, item->payload);
    wire_put_str(buf, item->fairness_key);
    buf_append_u16(buf, item->throttle_count);
    buf_append_str(buf, item->throttle_keys);
    buf_append_u32(buf, item->weight);
    buf_append_u32(buf, item->attempt);
    buf_append_u64(buf, item->enqueued_ms);
    if (!item->is_dead)
        return;
    buf_append_u64(buf, item->dead_ms);
    wire_put_str(buf, item->reason);
    wire_put_str(buf, item->origin);
}

bool framed_client_peek_begin(struct wire_reader *reader, struct str *cursor, uint16_t *count)
{
    return wire_bytes(reader, "cursor", cursor) &&
           wire_count16(reader, "message count", ITEM_MIN, count);
}

bool framed_client_peek_next(struct wire_reader *reader, struct framed_peek_item *item)
{
    uint8_t flags = 0;
    *item = (struct framed_peek_item){.state = 0};
    if (!wire_str(reader, "message id", &item->message_id) ||
        !wire_u8(reader, "state", &item->state) || !wire_u8(reader, "flags", &flags) ||
        !wire_u64(reader, "time", &item->when_ms) ||
        !wire_map(reader, "headers", &item->headers, &item->header_count) ||
        !wire_u64(reader, "payload size", &item->payload_size) ||
        !wire_bytes(reader, "payload", &item->payload) ||
        !wire_str(reader, "fairness key", &item->fairness_key) ||
        !wire_strs(reader, "throttle keys", &item->throttle_keys, &item->throttle_count) ||
        !wire_u32(reader, "weight", &item->weight) ||
        !wire_u32(reader, "attempt", &item->attempt) ||
        !wire_u64(reader, "enqueue time", &item->enqueued_ms))
        return false;
    item->headers_cut = flags & FLAG_HEADERS_CUT;
    item->is_dead = flags & FLAG_DEAD;
    return !item->is_dead ||
           (wire_u64(reader, "dead-letter time", &item->dead_ms) &&
            wire_str(reader, "reason", &item->reason) && wire_str(reader, "origin", &item->origin));
}
