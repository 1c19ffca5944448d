/* Settings of queues. */
#include <stdlib.h>

#include "client/call.h"
#include "client/error.h"
#include "fibp/framed_client.h"
#include "fibp/framed_settings.h"

int fila_queue_update(struct fila *client, const char *name,
                      const struct fila_queue_changes *changes, struct fila_error *error)
{
    struct framed_update_queue request = {
        .queue = str_from_c(name),
        .sets_on_enqueue = changes->on_enqueue != NULL,
        .sets_on_failure = changes->on_failure != NULL,
        .sets_visibility_timeout = changes->visibility_timeout_ms != NULL,
        .sets_max_attempts = changes->max_attempts != NULL,
        .sets_dead_letter_headers = changes->dead_letter_headers != NULL,
        .on_enqueue = str_from_c(changes->on_enqueue),
        .on_failure = str_from_c(changes->on_failure),
    };
    struct buf frame;

    if (request.sets_visibility_timeout)
        request.visibility_timeout_ms = *changes->visibility_timeout_ms;
    if (request.sets_max_attempts)
        request.max_attempts = *changes->max_attempts;
    if (request.sets_dead_letter_headers)
        request.dead_letter_headers = *changes->dead_letter_headers;
    if (call_check_text(request.queue, "queue name", error) != 0 ||
        call_check_text(request.on_enqueue, "on_enqueue script", error) != 0 ||
        call_check_text(request.on_failure, "on_failure script", error) != 0)
        return -1;
    buf_init(&frame, 0);
    int encoded = framed_client_update_queue(&frame, 0, &request);
    return call_run(client, OPCODE_UPDATE_QUEUE, &frame, encoded, call_decode_compiled, NULL,
                    error);
}

int fila_queue_pause(struct fila *client, const char *name, bool paused, struct fila_error *error)
{
    struct str queue = str_from_c(name);
    struct buf frame;

    if (call_check_text(queue, "queue name", error) != 0)
        return -1;
    buf_init(&frame, 0);
    int encoded = framed_client_pause_queue(&frame, 0, queue, paused);
    return call_run(client, OPCODE_PAUSE_QUEUE, &frame, encoded, call_decode_code, NULL, error);
}

static int settings_decode(struct wire_reader *reader, void *output, size_t count,
                           struct fila_error *error)
{
    struct fila_queue_settings *settings = output;
    struct framed_queue_settings from;
    (void)count;
    if (call_read_code(reader, error) != 0 || !framed_client_settings(reader, &from))
        return -1;
    settings->on_enqueue = str_dup_c(from.on_enqueue);
    settings->on_failure = str_dup_c(from.on_failure);
    if (!settings->on_enqueue || !settings->on_failure)
        return error_set(error, FILA_NO_MEMORY, "no memory for the answer");
    settings->visibility_timeout_ms = from.visibility_timeout_ms;
    settings->max_attempts = from.max_attempts;
    settings->dead_letter_headers = from.dead_letter_headers;
    settings->paused = from.paused;
    settings->version = from.version;
    settings->created_ms = from.created_ms;
    return 0;
}

struct fila_queue_settings *fila_queue_settings(struct fila *client, const char *name,
                                                struct fila_error *error)
{
    struct str queue = str_from_c(name);
    struct fila_queue_settings *settings;
    struct buf frame;

    if (call_check_text(queue, "queue name", error) != 0)
        return NULL;
    settings = calloc(1, sizeof(*settings));
    if (!settings) {
        error_set(error, FILA_NO_MEMORY, "no memory for the answer");
        return NULL;
    }
    buf_init(&frame, 0);
    int encoded = framed_client_text(&frame, OPCODE_GET_QUEUE_SETTINGS, 0, queue);
    if (call_run(client, OPCODE_GET_QUEUE_SETTINGS, &frame, encoded, settings_decode, settings,
                 error) == 0)
        return settings;
    fila_queue_settings_free(settings);
    return NULL;
}

void fila_queue_settings_free(struct fila_queue_settings *settings)
{
    if (!settings)
        return;
    free(settings->on_enqueue);
    free(settings->on_failure);
    free(settings);
}
