/*
 * concurrency - limits to how many messages of a fairness key or throttle key are leased at once,
 * over all queues (`concurrency.KEY`). How they hold lanes: sched/throttle and sched/hold.
 */
#ifndef FILAD_SCHED_CONCURRENCY_H
#define FILAD_SCHED_CONCURRENCY_H

#include "sched/throttle.h"

#define CONCURRENCY_MAX UINT64_C(1000000000)

/* Reads the value of a `concurrency.KEY`: an integer from 0 (nothing is delivered) to
 * CONCURRENCY_MAX, blanks around it ignored. NULL, or what is wrong (static). */
const char *concurrency_parse(struct str value, uint64_t *most) __attribute__((warn_unused_result));

/* Sets the limit of a key, in force at once; what is leased counts. The caller holds no queue's
 * lock and is inside a section, or alone. For a new limit all lanes that have leases are looked at.
 */
enum throttle_result concurrency_configure(struct scheduler *scheduler, struct str key,
                                           uint64_t most, uint64_t now_ns)
    __attribute__((warn_unused_result));
enum throttle_result concurrency_remove(struct scheduler *scheduler, struct str key,
                                        uint64_t now_ns) __attribute__((warn_unused_result));

#endif
