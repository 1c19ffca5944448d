#include "client/call.h"

#include <errno.h>
#include <stdlib.h>

#include "client/error.h"
#include "core/utf8.h"
#include "fibp/framed_client.h"
#include "fibp/opcode.h"
#include "os/time.h"

void call_client_retain(struct fila *client)
{
    atomic_fetch_add(&client->references, 1);
}

void call_client_release(struct fila *client)
{
    if (atomic_fetch_sub(&client->references, 1) != 1)
        return;
    transport_free(client->transport);
    free(client);
}

int call_allowed(struct fila *client, struct fila_error *error)
{
    if (transport_on_reader(client->transport))
        return error_set(error, FILA_USAGE, "a callback must not make a blocking call");
    return 0;
}

int call_check_text(struct str text, const char *what, struct fila_error *error)
{
    if (text.size > WIRE_STR_MAX)
        return error_set(error, FILA_TOO_LARGE, "%s is longer than %u bytes", what, WIRE_STR_MAX);
    if (!utf8_valid(text))
        return error_set(error, FILA_USAGE, "%s is not valid UTF-8", what);
    return 0;
}

static void call_complete(struct transport_request *request, const struct frame *frame,
                          const struct fila_error *error)
{
    struct call *call = CONTAINER_OF(request, struct call, request);
    struct wire_reader reader;

    if (error) {
        error_copy(&call->error, error);
    } else if (frame->opcode != call->expected) {
        error_set(&call->error, FILA_PROTOCOL, "the server answered with %s instead of %s",
                  opcode_name(frame->opcode), opcode_name(call->expected));
    } else if (call->decode) {
        wire_reader_init(&reader, frame->body);
        /* The decoder fills call->error when it fails. */
        if (call->decode(&reader, call->output, call->count, &call->error) != 0 && reader.reason)
            error_set_reader(&call->error, opcode_name(frame->opcode), &reader);
    }
    pthread_mutex_lock(&call->lock);
    call->done = true;
    pthread_cond_signal(&call->finished);
    pthread_mutex_unlock(&call->lock);
}

static void call_destroy(struct call *call)
{
    fila_error_clear(&call->error);
    pthread_cond_destroy(&call->finished);
    pthread_mutex_destroy(&call->lock);
}

int call_start(struct call *call, struct fila *client, uint8_t opcode, const struct buf *frame,
               struct transport_sink *sink, call_decoder decode, void *output, size_t count,
               struct fila_error *error)
{
    const struct opcode_entry *entry = opcode_find(opcode);
    pthread_condattr_t monotonic;

    *call = (struct call){
        .request.complete = call_complete,
        .client = client,
        .expected = entry ? entry->result : 0,
        .decode = decode,
        .output = output,
        .count = count,
        .error = FILA_ERROR_INIT,
    };
    pthread_mutex_init(&call->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&call->finished, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (transport_submit(client->transport, frame, &call->request, sink, client->request_timeout_ms,
                         error) == 0)
        return 0;
    call_destroy(call);
    return -1;
}

uint64_t call_deadline(const struct fila *client)
{
    uint64_t now = time_monotonic_ms();
    return client->request_timeout_ms > UINT64_MAX / 2 ? UINT64_MAX / 2
                                                       : now + client->request_timeout_ms;
}

int call_wait(struct call *call, uint64_t deadline_ms, struct fila_error *error)
{
    struct timespec deadline = {.tv_sec = (time_t)(deadline_ms / 1000),
                                .tv_nsec = (long)(deadline_ms % 1000 * 1000000)};
    int result = 0, waited = 0;

    pthread_mutex_lock(&call->lock);
    while (!call->done && waited != ETIMEDOUT)
        waited = pthread_cond_timedwait(&call->finished, &call->lock, &deadline);
    if (!call->done) {
        pthread_mutex_unlock(&call->lock);
        if (transport_withdraw(call->client->transport, &call->request)) {
            result = error_set(error, FILA_TIMEOUT, "no answer from the server in time");
            goto out;
        }
        /* Its answer is being decoded right now. */
        pthread_mutex_lock(&call->lock);
        while (!call->done)
            pthread_cond_wait(&call->finished, &call->lock);
    }
    pthread_mutex_unlock(&call->lock);
    if (call->error.code != FILA_OK) {
        error_copy(error, &call->error);
        result = -1;
    }
out:
    call_destroy(call);
    return result;
}

int call_run(struct fila *client, uint8_t opcode, struct buf *frame, int encoded,
             call_decoder decode, void *output, struct fila_error *error)
{
    size_t most = transport_max_message_size(client->transport);
    struct call call;
    int result = -1;

    /* The encoders of single requests cut a longer one themselves, which is not meant here. */
    if (most > FRAME_LENGTH_MAX - FRAME_LENGTH_MIN)
        most = FRAME_LENGTH_MAX - FRAME_LENGTH_MIN;
    if (encoded != 0) {
        error_set(error, FILA_NO_MEMORY, "no memory for the request");
    } else if (frame->size - FRAME_OVERHEAD > most) {
        error_set(error, FILA_TOO_LARGE, "the request is longer than %zu bytes", most);
    } else if (call_allowed(client, error) == 0) {
        uint64_t deadline = call_deadline(client);
        if (call_start(&call, client, opcode, frame, NULL, decode, output, 0, error) == 0)
            result = call_wait(&call, deadline, error);
    }
    buf_free(frame);
    return result;
}

int call_read_code(struct wire_reader *reader, struct fila_error *error)
{
    uint8_t code;
    if (!framed_client_code(reader, &code))
        return -1;
    return code == FIBP_OK ? 0 : error_set_status(error, code, str_of(NULL, 0));
}

int call_decode_code(struct wire_reader *reader, void *output, size_t count,
                     struct fila_error *error)
{
    (void)output;
    (void)count;
    return call_read_code(reader, error);
}

int call_decode_compiled(struct wire_reader *reader, void *output, size_t count,
                         struct fila_error *error)
{
    struct str text = {NULL, 0};
    uint8_t code;
    (void)output;
    (void)count;
    if (!framed_client_code(reader, &code))
        return -1;
    if (code == FIBP_OK)
        return 0;
    bool explained = code == FIBP_LUA_COMPILATION_ERROR || code == FIBP_STORAGE_ERROR;
    if (!explained || !framed_client_text_result(reader, &text))
        text = str_of(NULL, 0);
    error_set_status(error, code, text);
    reader->reason = NULL; /* an explanation that is missing is no reason to hide the code */
    return -1;
}
