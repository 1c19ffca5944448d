#include "fibp/framed_settings.h"

#include "fibp/frame.h"
#include "fibp/framed_client.h"

#define CREATE_OPTIONS_SIZE 9u

void framed_create_options(struct wire_reader *reader, struct framed_create_options *options)
{
    struct wire_reader extension = *reader;
    uint32_t mark = 0;
    if (wire_remaining(reader) < CREATE_OPTIONS_SIZE || !wire_u32(&extension, "options", &mark) ||
        mark != FRAMED_MARK || !wire_u32(&extension, "max_attempts", &options->max_attempts) ||
        !wire_bool(&extension, "dead_letter_headers", &options->dead_letter_headers))
        *options = (struct framed_create_options){0};
}

int framed_client_create_with(struct buf *buf, uint32_t request_id,
                              const struct framed_create_queue *request,
                              const struct framed_create_options *options)
{
    size_t start = frame_begin(buf, OPCODE_CREATE_QUEUE, request_id);
    wire_put_str(buf, request->name);
    wire_put_opt_str(buf, request->has_on_enqueue, request->on_enqueue);
    wire_put_opt_str(buf, request->has_on_failure, request->on_failure);
    buf_append_u64(buf, request->visibility_timeout_ms);
    buf_append_u32(buf, FRAMED_MARK);
    buf_append_u32(buf, options->max_attempts);
    wire_put_bool(buf, options->dead_letter_headers);
    return frame_end(buf, start, FRAME_LENGTH_MAX);
}

bool framed_update_queue(struct wire_reader *reader, struct framed_update_queue *request)
{
    *request = (struct framed_update_queue){.visibility_timeout_ms = 0};
    return wire_str(reader, "queue", &request->queue) &&
           wire_opt_str(reader, "on_enqueue script", &request->sets_on_enqueue,
                        &request->on_enqueue) &&
           wire_opt_str(reader, "on_failure script", &request->sets_on_failure,
                        &request->on_failure) &&
           wire_bool(reader, "visibility timeout", &request->sets_visibility_timeout) &&
           (!request->sets_visibility_timeout ||
            wire_u64(reader, "visibility timeout", &request->visibility_timeout_ms)) &&
           wire_bool(reader, "max_attempts", &request->sets_max_attempts) &&
           (!request->sets_max_attempts ||
            wire_u32(reader, "max_attempts", &request->max_attempts)) &&
           wire_bool(reader, "dead_letter_headers", &request->sets_dead_letter_headers) &&
           (!request->sets_dead_letter_headers ||
            wire_bool(reader, "dead_letter_headers", &request->dead_letter_headers));
}

int framed_client_update_queue(struct buf *buf, uint32_t request_id,
                               const struct framed_update_queue *request)
{
    size_t start = frame_begin(buf, OPCODE_UPDATE_QUEUE, request_id);
    wire_put_str(buf, request->queue);
    wire_put_opt_str(buf, request->sets_on_enqueue, request->on_enqueue);
    wire_put_opt_str(buf, request->sets_on_failure, request->on_failure);
    wire_put_bool(buf, request->sets_visibility_timeout);
    if (request->sets_visibility_timeout)
        buf_append_u64(buf, request->visibility_timeout_ms);
    wire_put_bool(buf, request->sets_max_attempts);
    if (request->sets_max_attempts)
        buf_append_u32(buf, request->max_attempts);
    wire_put_bool(buf, request->sets_dead_letter_headers);
    if (request->sets_dead_letter_headers)
        wire_put_bool(buf, request->dead_letter_headers);
    return frame_end(buf, start, FRAME_LENGTH_MAX);
}

int framed_update_queue_result(struct buf *buf, uint32_t request_id, enum fibp_status status,
                               struct str text)
{
    size_t start = frame_begin(buf, OPCODE_UPDATE_QUEUE_RESULT, request_id);
    buf_append_u8(buf, (uint8_t)status);
    wire_put_text(buf, text);
    return frame_end(buf, start, FRAME_LENGTH_MAX);
}

bool framed_pause_queue(struct wire_reader *reader, struct str *queue, bool *paused)
{
    return wire_str(reader, "queue", queue) && wire_bool(reader, "paused", paused);
}

int framed_client_pause_queue(struct buf *buf, uint32_t request_id, struct str queue, bool paused)
{
    size_t start = frame_begin(buf, OPCODE_PAUSE_QUEUE, request_id);
    wire_put_str(buf, queue);
    wire_put_bool(buf, paused);
    return frame_end(buf, start, FRAME_LENGTH_MAX);
}

bool framed_get_settings(struct wire_reader *reader, struct str *queue)
{
    return wire_str(reader, "queue", queue);
}

int framed_settings_result(struct buf *buf, uint32_t request_id, enum fibp_status status,
                           const struct framed_queue_settings *settings)
{
    size_t start = frame_begin(buf, OPCODE_GET_QUEUE_SETTINGS_RESULT, request_id);
    buf_append_u8(buf, (uint8_t)status);
    wire_put_str(buf, settings->on_enqueue);
    wire_put_str(buf, settings->on_failure);
    buf_append_u64(buf, settings->visibility_timeout_ms);
    buf_append_u32(buf, settings->max_attempts);
    wire_put_bool(buf, settings->dead_letter_headers);
    wire_put_bool(buf, settings->paused);
    buf_append_u64(buf, settings->version);
    buf_append_u64(buf, settings->created_ms);
    return frame_end(buf, start, FRAME_LENGTH_MAX);
}

bool framed_client_settings(struct wire_reader *reader, struct framed_queue_settings *settings)
{
    return wire_str(reader, "on_enqueue script", &settings->on_enqueue) &&
           wire_str(reader, "on_failure script", &settings->on_failure) &&
           wire_u64(reader, "visibility timeout", &settings->visibility_timeout_ms) &&
           wire_u32(reader, "max_attempts", &settings->max_attempts) &&
           wire_bool(reader, "dead_letter_headers", &settings->dead_letter_headers) &&
           wire_bool(reader, "paused", &settings->paused) &&
           wire_u64(reader, "version", &settings->version) &&
           wire_u64(reader, "created at", &settings->created_ms);
}
