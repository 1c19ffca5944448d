#include "worker/framed_request.h"

#include <stdio.h>
#include <string.h>

#include "core/utf8.h"
#include "worker/framed_stream.h"
#include "worker/request.h"

void framed_answer_error(struct session *session, const struct operation *operation)
{
    framed_stream_error(session, operation->request_id, operation->status,
                        str_from_c(operation->reason));
}

void framed_answer_queue_error(struct session *session, const struct operation *operation,
                               struct str queue)
{
    char text[sizeof("queue not found: ") + FRAMED_QUEUE_NAME_MAX];

    if (operation->status != FIBP_QUEUE_NOT_FOUND) {
        framed_answer_error(session, operation);
        return;
    }
    /* Longer names than any queue can have are asked for too. */
    queue.size = utf8_truncate(queue, FRAMED_QUEUE_NAME_MAX);
    size_t size = (size_t)snprintf(text, sizeof(text), "queue not found: ");
    if (queue.size > 0)
        memcpy(text + size, queue.data, queue.size);
    framed_stream_error(session, operation->request_id, FIBP_QUEUE_NOT_FOUND,
                        str_of(text, size + queue.size));
}

void framed_refuse(struct framed_request *request, enum fibp_status status, struct str text)
{
    framed_stream_error(request->session, request->id, status, text);
}

void *framed_operation(struct framed_request *request, size_t size)
{
    void *operation = request_create(request->session, request->handler->kind, size, request->id,
                                     request->handler->answer);

    if (!operation)
        framed_refuse(request, FIBP_INTERNAL_ERROR, STR("out of memory"));
    return operation;
}

void framed_submit_pinned(struct operation *operation)
{
    request_pin_input(operation);
    request_submit(operation);
}

uint32_t framed_frame_max(const struct session *session)
{
    return (uint32_t)session->sessions->conf->fibp.max_frame_size;
}
