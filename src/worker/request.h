/*
 * request - what the worker keeps about an operation of a session while the pipeline has it. It
 * lies behind the operation in the same allocation; operation->owner points to it.
 */
#ifndef FILAD_WORKER_REQUEST_H
#define FILAD_WORKER_REQUEST_H

#include <stddef.h>
#include <stdint.h>

#include "broker/operation.h"
#include "core/list.h"
#include "event/chunk.h"
#include "hook/hook.h"
#include "worker/session.h"

struct request {
    struct session *session;
    struct chunk *chunk; /* pinned: slices of the operation point into it; or NULL */
    struct hook_memory memory;
    size_t size;       /* bytes charged for the operation itself */
    struct list list;  /* in session->writes; only while `sequence` is set */
    uint64_t sequence; /* which Enqueue or Nack of its session it is, from 1; 0: another request */
    /* Encodes the outcome; NULL when there is nothing to say. Called only while the peer can hear
     * it. */
    void (*answer)(struct session *session, struct operation *operation);
};

/* An operation of `size` bytes with its struct operation filled in; the rest is not set. It is
 * charged to the session. NULL without memory. */
void *request_create(struct session *session, enum operation_kind kind, size_t size,
                     uint32_t request_id, void (*answer)(struct session *, struct operation *))
    __attribute__((warn_unused_result));

static inline struct request *request_of(const struct operation *operation)
{
    return operation->owner;
}

/* Charges the session for `size` bytes more, until the operation is back. */
void request_charge(struct operation *operation, size_t size);

/* Charges the session for an answer whose size is not known yet and may be large, so that few of
 * them are under way at a time. */
void request_charge_answer(struct operation *operation);

/* Keeps what the session's present request lies in alive until the operation is back. */
void request_pin_input(struct operation *operation);

/* Submits with this tick's chain. */
void request_submit(struct operation *operation);

/* One that is back: answers it and frees it. */
void request_back(struct operation *operation);

/* One that was never submitted. */
void request_free(struct operation *operation);

#endif
