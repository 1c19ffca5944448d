/* A stream of frames: what is put together is what a model puts together that keeps every byte of
 * every part. The limits are small. */
#include "fuzz/fuzz.h"

#include <string.h>

#include "fibp/reassembly.h"

#define STREAMS 4
#define MESSAGE_MAX 64
#define TOTAL_MAX 100

struct model_stream {
    bool used;
    uint32_t id;
    uint8_t opcode, bytes[MESSAGE_MAX];
    size_t size;
};

struct model {
    struct model_stream streams[STREAMS];
};

static struct model_stream *model_find(struct model *model, uint32_t id)
{
    for (size_t i = 0; i < STREAMS; i++)
        if (model->streams[i].used && model->streams[i].id == id)
            return &model->streams[i];
    return NULL;
}

static size_t model_total(const struct model *model)
{
    size_t total = 0;
    for (size_t i = 0; i < STREAMS; i++)
        total += model->streams[i].used ? model->streams[i].size : 0;
    return total;
}

/* What is to be expected of a frame; `body` is where a whole one stands. */
static enum reassembly_result model_take(struct model *model, const struct frame *frame,
                                         struct str *body)
{
    struct model_stream *stream = model_find(model, frame->request_id);
    bool more = frame->flags & FRAME_FLAG_CONTINUATION;

    *body = frame->body;
    if (!stream && !more)
        return REASSEMBLY_READY;
    for (size_t i = 0; i < STREAMS && !stream; i++)
        if (!model->streams[i].used) {
            stream = &model->streams[i];
            *stream = (struct model_stream){
                .used = true, .id = frame->request_id, .opcode = frame->opcode};
        }
    if (!stream)
        return REASSEMBLY_TOO_MANY;
    if (stream->opcode != frame->opcode) {
        stream->used = false;
        return REASSEMBLY_MISMATCH;
    }
    if (stream->size + frame->body.size > MESSAGE_MAX ||
        model_total(model) + frame->body.size > TOTAL_MAX) {
        stream->used = false;
        return REASSEMBLY_TOO_LARGE;
    }
    if (frame->body.size)
        memcpy(stream->bytes + stream->size, frame->body.data, frame->body.size);
    stream->size += frame->body.size;
    if (more)
        return REASSEMBLY_HELD;
    stream->used = false;
    *body = str_of(stream->bytes, stream->size);
    return REASSEMBLY_READY;
}

/* Each frame is `u8 flags and opcode`, `u8 id`, `u8 size`, body. */
static bool next_frame(struct str *input, struct frame *frame)
{
    if (input->size < 3)
        return false;
    uint8_t first = fuzz_byte(input);
    *frame = (struct frame){.opcode = first >> 6, .flags = first & 3};
    frame->request_id = fuzz_byte(input) % 8;
    frame->body = fuzz_bytes(input, fuzz_byte(input) % 80);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct model model;
    struct str input = str_of(data, size), body;
    struct reassembly reassembly;
    struct frame frame;

    memset(&model, 0, sizeof(model));
    reassembly_init(&reassembly, STREAMS, MESSAGE_MAX, TOTAL_MAX);
    while (next_frame(&input, &frame)) {
        enum reassembly_result wanted = model_take(&model, &frame, &body);
        enum reassembly_result found = reassembly_take(&reassembly, &frame);
        REQUIRE(found == wanted);
        REQUIRE(reassembly.total == model_total(&model));
        if (found == REASSEMBLY_READY)
            REQUIRE(str_equal(frame.body, body) && !(frame.flags & FRAME_FLAG_CONTINUATION));
        else if (found != REASSEMBLY_HELD)
            REQUIRE(reassembly_result_text(found)[0] != '\0');
    }
    reassembly_free(&reassembly);
    return 0;
}
