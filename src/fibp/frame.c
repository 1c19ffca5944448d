#include "fibp/frame.h"

#include "core/bytes.h"

#define FRAME_LENGTH_FIELD 4u
#define FRAME_FLAGS_AT 5u
#define FRAME_ID_AT 6u

enum frame_result frame_parse(struct str bytes, uint32_t max_length, struct frame *frame)
{
    *frame = (struct frame){.size = FRAME_LENGTH_FIELD};
    if (bytes.size < FRAME_LENGTH_FIELD)
        return FRAME_MORE;

    uint32_t length = bytes_get_u32(bytes.data);
    if (length > max_length)
        return FRAME_TOO_LONG;
    if (length < FRAME_LENGTH_MIN)
        return FRAME_TOO_SHORT;
    frame->size = FRAME_LENGTH_FIELD + (size_t)length;
    if (bytes.size < FRAME_OVERHEAD)
        return FRAME_MORE;

    frame->opcode = bytes.data[FRAME_LENGTH_FIELD];
    frame->flags = bytes.data[FRAME_FLAGS_AT];
    frame->request_id = bytes_get_u32(bytes.data + FRAME_ID_AT);
    if (bytes.size < frame->size)
        return FRAME_MORE;
    frame->body = str_of(bytes.data + FRAME_OVERHEAD, frame->size - FRAME_OVERHEAD);
    return FRAME_READY;
}

const char *frame_result_text(enum frame_result result)
{
    static const char *const texts[] = {
        [FRAME_READY] = "frame is complete",
        [FRAME_MORE] = "frame is incomplete",
        [FRAME_TOO_LONG] = "frame too large",
        [FRAME_TOO_SHORT] = "frame length is below 6",
    };
    return texts[result];
}

size_t frame_begin(struct buf *buf, uint8_t opcode, uint32_t request_id)
{
    size_t start = buf->size;
    uint8_t *header = buf_reserve(buf, FRAME_OVERHEAD);
    if (!header)
        return start;
    bytes_put_u32(header, FRAME_LENGTH_MIN);
    header[FRAME_LENGTH_FIELD] = opcode;
    header[FRAME_FLAGS_AT] = 0;
    bytes_put_u32(header + FRAME_ID_AT, request_id);
    buf->size += FRAME_OVERHEAD;
    return start;
}

void frame_abort(struct buf *buf, size_t start)
{
    if (start < buf->size)
        buf->size = start;
    buf->failed = false;
}

/* Cuts the frame at `start` with `payload` bytes into pieces of `chunk` bytes, last piece first so
 * that no byte is overwritten before it has moved. */
static int frame_split(struct buf *buf, size_t start, size_t payload, size_t chunk)
{
    size_t count = (payload + chunk - 1) / chunk;
    size_t growth = (count - 1) * FRAME_OVERHEAD;
    if (!buf_reserve(buf, growth)) {
        frame_abort(buf, start);
        return -1;
    }
    uint8_t first[FRAME_OVERHEAD];
    memcpy(first, buf->data + start, sizeof(first));
    buf->size += growth;

    for (size_t i = count; i-- > 0;) {
        uint8_t *header = buf->data + start + i * (chunk + FRAME_OVERHEAD);
        size_t size = i + 1 == count ? payload - i * chunk : chunk;
        memmove(header + FRAME_OVERHEAD, buf->data + start + FRAME_OVERHEAD + i * chunk, size);
        memcpy(header, first, sizeof(first));
        bytes_put_u32(header, (uint32_t)(size + FRAME_LENGTH_MIN));
        if (i + 1 < count)
            header[FRAME_FLAGS_AT] = FRAME_FLAG_CONTINUATION;
    }
    return 0;
}

int frame_end(struct buf *buf, size_t start, uint32_t max_length)
{
    if (buf->failed || max_length <= FRAME_LENGTH_MIN) {
        frame_abort(buf, start);
        return -1;
    }
    size_t length = buf->size - start - FRAME_LENGTH_FIELD;
    if (length > max_length)
        return frame_split(buf, start, length - FRAME_LENGTH_MIN, max_length - FRAME_LENGTH_MIN);
    bytes_put_u32(buf->data + start, (uint32_t)length);
    return 0;
}

int frame_empty(struct buf *buf, uint8_t opcode, uint32_t request_id)
{
    return frame_end(buf, frame_begin(buf, opcode, request_id), FRAME_LENGTH_MAX);
}
