/*
 * breaker - the breakers of queues (hook.h) in the zone's header, where all workers share them and
 * a recovery leaves them alone.
 */
#ifndef FILAD_HOOK_BREAKER_H
#define FILAD_HOOK_BREAKER_H

#include "hook/hook.h"
#include "sched/zone.h"

/* The breaker of a queue; it is taken when there is none yet. NULL when there is no room. */
struct hook_breaker *breaker_of(struct zone *zone, uint64_t queue_id);
/* The queue is gone for good. Whoever still writes to its breaker may hit that of another queue,
 * once. */
void breaker_free(struct zone *zone, uint64_t queue_id);

#endif
