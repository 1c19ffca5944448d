/*
 * decider - asks the scripts what becomes of nacked messages: operations that come up undecided
 * (broker/decide.h) are decided within the time for hooks (worker/hooking.h) and submitted again.
 */
#ifndef FILAD_WORKER_DECIDER_H
#define FILAD_WORKER_DECIDER_H

#include "worker/sessions.h"

/* Takes a NACK that came up. False when nobody decides any more: it has its answer, which the
 * caller gives. */
bool decider_take(struct sessions *sessions, struct operation_settle *settle)
    __attribute__((warn_unused_result));

#endif
