/*
 * acceptor - takes new connections from the listeners that all workers share, and its fair share of
 * them: a worker with clearly more connections than the mean leaves accepting to the others for a
 * while. When every worker is full, new connections are taken only to be told so.
 */
#ifndef FILAD_WORKER_ACCEPTOR_H
#define FILAD_WORKER_ACCEPTOR_H

#include <stddef.h>

#include "core/err.h"
#include "event/loop.h"
#include "sched/zone.h"
#include "worker/sessions.h"

struct acceptor;

/* Starts to accept from `count` listening descriptors, in the order of sessions->conf->listen,
 * which belong to the acceptor from then on.
 * NULL on failure; the descriptors are still the caller's then. */
struct acceptor *acceptor_create(struct loop *loop, struct sessions *sessions, struct zone *zone,
                                 unsigned slot, const int *listeners, size_t count, struct err *err)
    __attribute__((warn_unused_result));
/* Accepts no more and closes its descriptors. */
void acceptor_stop(struct acceptor *acceptor);
void acceptor_destroy(struct acceptor *acceptor); /* stops first; NULL is fine */

#endif
