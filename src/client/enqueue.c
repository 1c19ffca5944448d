#include "client/bulk.h"
#include "client/error.h"
#include "core/utf8.h"
#include "fibp/framed_client.h"

/* A public header is laid out as the codec's pair, so that arrays need no copying. */
_Static_assert(sizeof(struct fila_header) == sizeof(struct wire_pair) &&
                   offsetof(struct fila_header, name) == offsetof(struct wire_pair, key) &&
                   offsetof(struct fila_header, value) == offsetof(struct wire_pair, value) &&
                   sizeof(struct fila_slice) == sizeof(struct str) &&
                   offsetof(struct fila_slice, size) == offsetof(struct str, size),
               "struct fila_header and struct wire_pair differ");

static struct framed_client_message enqueue_message(const void *items, size_t index)
{
    const struct fila_message *message = (const struct fila_message *)items + index;
    return (struct framed_client_message){
        .queue = call_str(message->queue),
        .headers = (const void *)message->headers,
        .header_count = message->header_count,
        .payload = call_str(message->payload),
    };
}

static size_t enqueue_size(const void *items, size_t index)
{
    struct framed_client_message message = enqueue_message(items, index);
    return framed_client_message_size(&message);
}

static int enqueue_check(const void *items, size_t index, struct fila_error *error)
{
    struct framed_client_message message = enqueue_message(items, index);
    if (call_check_text(message.queue, "queue name", error) != 0)
        return -1;
    if (message.header_count > WIRE_STR_MAX)
        return error_set(error, FILA_TOO_LARGE, "more than %u headers", WIRE_STR_MAX);
    for (size_t i = 0; i < message.header_count; i++)
        if (call_check_text(message.headers[i].key, "header name", error) != 0 ||
            call_check_text(message.headers[i].value, "header value", error) != 0)
            return -1;
    return 0;
}

static void enqueue_add(struct buf *frame, const void *items, size_t index)
{
    struct framed_client_message message = enqueue_message(items, index);
    framed_client_enqueue_add(frame, &message);
}

static bool enqueue_result(struct wire_reader *reader, void *output)
{
    struct fila_enqueue_result *result = output;
    struct framed_client_result answer;
    if (!framed_client_enqueue_result_next(reader, &answer))
        return false;
    *result = (struct fila_enqueue_result){
        .code = error_code_from_wire(answer.code),
        .server_code = answer.code,
    };
    if (result->code != FILA_OK) {
        size_t size = utf8_truncate(answer.message_id, FILA_REASON_SIZE - 1);
        if (size)
            memcpy(result->reason, answer.message_id.data, size);
        return true;
    }
    if (answer.message_id.size >= FILA_ID_SIZE)
        return wire_fail(reader, "message id", "longer than a UUID");
    memcpy(result->id, answer.message_id.data, answer.message_id.size);
    return true;
}

static void enqueue_fail(void *output, enum fila_code code)
{
    struct fila_enqueue_result *result = output;
    *result = (struct fila_enqueue_result){.code = code, .server_code = -1};
}

static void enqueue_report(void (*callback)(void), void *context, const void *results, size_t count,
                           const struct fila_error *error)
{
    ((fila_enqueue_callback)callback)(context, results, count, error);
}

static const struct bulk_operation enqueue_operation = {
    .opcode = OPCODE_ENQUEUE,
    .noun = "message",
    .result_size = sizeof(struct fila_enqueue_result),
    .size = enqueue_size,
    .check = enqueue_check,
    .add = enqueue_add,
    .result = enqueue_result,
    .fail = enqueue_fail,
    .report = enqueue_report,
};

int fila_enqueue_many(struct fila *client, const struct fila_message *messages, size_t count,
                      struct fila_enqueue_result *results, struct fila_error *error)
{
    return bulk_run(client, &enqueue_operation, messages, count, results, error);
}

int fila_enqueue(struct fila *client, const struct fila_message *message, char id[FILA_ID_SIZE],
                 struct fila_error *error)
{
    struct fila_enqueue_result result;
    if (id)
        id[0] = '\0';
    if (fila_enqueue_many(client, message, 1, &result, error) != 0)
        return -1;
    if (result.code != FILA_OK)
        return error_set_status(error, (uint8_t)result.server_code, str_from_c(result.reason));
    if (id)
        memcpy(id, result.id, FILA_ID_SIZE);
    return 0;
}

int fila_enqueue_many_async(struct fila *client, const struct fila_message *messages, size_t count,
                            fila_enqueue_callback callback, void *context, struct fila_error *error)
{
    return bulk_submit(client, &enqueue_operation, messages, count, (void (*)(void))callback,
                       context, error);
}

int fila_enqueue_async(struct fila *client, const struct fila_message *message,
                       fila_enqueue_callback callback, void *context, struct fila_error *error)
{
    return fila_enqueue_many_async(client, message, 1, callback, context, error);
}
