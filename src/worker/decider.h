/*
 * decider - asks the scripts what becomes of nacked messages: operations that come up undecided
 * (broker/decide.h) are decided within the time for hooks (worker/hooking.h) and submitted again.
 * They wait in line through operation->next, so that no lack of memory leaves a lease to nobody.
 */
#ifndef FILAD_WORKER_DECIDER_H
#define FILAD_WORKER_DECIDER_H

#include "broker/operation.h"
#include "worker/hooking.h"

/* The line of a worker, in struct sessions. */
struct decider {
    struct hooking hooking;         /* waits while there is an operation */
    struct operation *first, *last; /* NACKs, through operation->next */
};

void decider_init(struct decider *decider);

/* Takes a NACK that came up. False when nobody decides any more: it has its answer, which the
 * caller gives. */
bool decider_take(struct sessions *sessions, struct operation_settle *settle)
    __attribute__((warn_unused_result));

#endif
