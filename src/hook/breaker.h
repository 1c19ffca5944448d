/*
 * breaker - the breakers of queues (hook.h) in the zone's header, where all workers share them and
 * a recovery leaves them alone.
 */
#ifndef FILAD_HOOK_BREAKER_H
#define FILAD_HOOK_BREAKER_H

#include "hook/hook.h"
#include "sched/scheduler.h"

/* The breaker of a queue; it is taken when there is none yet. NULL when there is no room. */
struct hook_breaker *breaker_of(struct zone *zone, uint64_t queue_id);
/* The queue is gone for good and no process runs its scripts any more. Whoever still writes to its
 * breaker may hit that of another queue, once. */
void breaker_free(struct zone *zone, uint64_t queue_id);
/* Frees those of all queues that the scheduler, just built anew, does not have. */
void breaker_sweep(struct zone *zone, const struct scheduler *scheduler);

#endif
