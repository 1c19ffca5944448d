#include "fibp/reassembly.h"

#include <stdlib.h>

struct reassembly_stream {
    uint32_t request_id;
    uint8_t opcode;
    uint32_t empty; /* frames without a byte */
    struct buf body;
};

void reassembly_init(struct reassembly *reassembly, size_t streams_max, size_t message_max,
                     size_t total_max)
{
    *reassembly = (struct reassembly){
        .streams_max = streams_max < REASSEMBLY_STREAMS_MAX ? streams_max : REASSEMBLY_STREAMS_MAX,
        .message_max = message_max,
        .total_max = total_max,
    };
    buf_init(&reassembly->complete, 0);
}

void reassembly_free(struct reassembly *reassembly)
{
    for (size_t i = 0; i < reassembly->count; i++)
        buf_free(&reassembly->streams[i].body);
    free(reassembly->streams);
    buf_free(&reassembly->complete);
    reassembly->streams = NULL;
    reassembly->count = 0;
    reassembly->total = 0;
}

static struct reassembly_stream *reassembly_find(struct reassembly *reassembly, uint32_t request_id)
{
    for (size_t i = 0; i < reassembly->count; i++)
        if (reassembly->streams[i].request_id == request_id)
            return &reassembly->streams[i];
    return NULL;
}

/* Takes a stream out of the table; its body is handed over, not freed. */
static struct buf reassembly_detach(struct reassembly *reassembly, struct reassembly_stream *stream)
{
    struct buf body = stream->body;
    reassembly->total -= body.size;
    *stream = reassembly->streams[--reassembly->count];
    return body;
}

static enum reassembly_result reassembly_drop(struct reassembly *reassembly,
                                              struct reassembly_stream *stream,
                                              enum reassembly_result result)
{
    struct buf body = reassembly_detach(reassembly, stream);
    buf_free(&body);
    return result;
}

static struct reassembly_stream *reassembly_start(struct reassembly *reassembly,
                                                  const struct frame *frame)
{
    if (!reassembly->streams)
        reassembly->streams = calloc(reassembly->streams_max, sizeof(*reassembly->streams));
    if (!reassembly->streams)
        return NULL;
    struct reassembly_stream *stream = &reassembly->streams[reassembly->count++];
    stream->request_id = frame->request_id;
    stream->opcode = frame->opcode;
    stream->empty = 0;
    buf_init(&stream->body, 0);
    return stream;
}

enum reassembly_result reassembly_take(struct reassembly *reassembly, struct frame *frame)
{
    bool more = frame->flags & FRAME_FLAG_CONTINUATION;
    struct reassembly_stream *stream = reassembly_find(reassembly, frame->request_id);

    buf_free(&reassembly->complete);
    if (!stream) {
        if (!more)
            return REASSEMBLY_READY;
        if (reassembly->count >= reassembly->streams_max)
            return REASSEMBLY_TOO_MANY;
        stream = reassembly_start(reassembly, frame);
        if (!stream)
            return REASSEMBLY_NO_MEMORY;
    }
    if (stream->opcode != frame->opcode)
        return reassembly_drop(reassembly, stream, REASSEMBLY_MISMATCH);
    if (frame->body.size > reassembly->message_max - stream->body.size ||
        frame->body.size > reassembly->total_max - reassembly->total)
        return reassembly_drop(reassembly, stream, REASSEMBLY_TOO_LARGE);
    if (frame->body.size == 0 && stream->empty++ >= REASSEMBLY_EMPTY_MAX)
        return reassembly_drop(reassembly, stream, REASSEMBLY_TOO_MANY_EMPTY);

    size_t before = stream->body.size;
    buf_append_str(&stream->body, frame->body);
    if (stream->body.failed)
        return reassembly_drop(reassembly, stream, REASSEMBLY_NO_MEMORY);
    reassembly->total += stream->body.size - before;
    if (more)
        return REASSEMBLY_HELD;

    reassembly->complete = reassembly_detach(reassembly, stream);
    frame->body = buf_str(&reassembly->complete);
    frame->flags = 0;
    return REASSEMBLY_READY;
}

const char *reassembly_result_text(enum reassembly_result result)
{
    static const char *const texts[] = {
        [REASSEMBLY_READY] = "complete",
        [REASSEMBLY_HELD] = "more is to come",
        [REASSEMBLY_TOO_MANY] = "too many unfinished continuations",
        [REASSEMBLY_TOO_LARGE] = "reassembled message too large",
        [REASSEMBLY_MISMATCH] = "continuation with another opcode",
        [REASSEMBLY_TOO_MANY_EMPTY] = "too many empty frames in one continuation",
        [REASSEMBLY_NO_MEMORY] = "no memory for a continuation",
    };
    return texts[result];
}
