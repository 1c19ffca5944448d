/*
 * framed_request - what the handlers of the framed dialect's requests share. A handler decodes the
 * body of a request into an operation and submits it; when that is back it encodes the answer.
 */
#ifndef FILAD_WORKER_FRAMED_REQUEST_H
#define FILAD_WORKER_FRAMED_REQUEST_H

#include "broker/operation.h"
#include "fibp/wire.h"
#include "worker/session.h"

#define FRAMED_QUEUE_NAME_MAX 255u /* bytes; ".dlq" comes on top */

struct framed_handler;

/* A request as it is being handled. */
struct framed_request {
    const struct framed_handler *handler;
    struct session *session;
    uint32_t id;
    struct wire_reader reader; /* over the body */
};

struct framed_handler {
    /* False: the body is malformed (the reader says why). Otherwise the request is answered or
     * submitted. */
    bool (*decode)(struct framed_request *request);
    /* Encodes the outcome of the operation that `decode` submitted. */
    void (*answer)(struct session *session, struct operation *operation);
    uint8_t kind; /* enum operation_kind of that operation */
};

/* An Error frame with the outcome's status. */
void framed_answer_error(struct session *session, const struct operation *operation);
/* As framed_answer_error, and a queue that is not there is named. */
void framed_answer_queue_error(struct session *session, const struct operation *operation,
                               struct str queue);
/* An Error frame for a request that became no operation. */
void framed_refuse(struct framed_request *request, enum fibp_status status, struct str text);

/* The operation of a request, filled in as request_create does, or NULL after an answer that says
 * why there is none. */
void *framed_operation(struct framed_request *request, size_t size)
    __attribute__((warn_unused_result));
/* Submits an operation whose slices point into the frame. */
void framed_submit_pinned(struct operation *operation);

/* The longest frame that may be sent. */
uint32_t framed_frame_max(const struct session *session);

#endif
