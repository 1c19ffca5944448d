/*
 * lock - a robust mutex in memory shared by processes.
 *
 * Waiting is bounded: it ends with LOCK_STALE when *generation no longer equals `expected`, which
 * is how a process learns that the memory under the lock is being rebuilt.
 */
#ifndef FILAD_OS_LOCK_H
#define FILAD_OS_LOCK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

struct lock {
    pthread_mutex_t mutex;
};

enum lock_result {
    LOCK_HELD,  /* the caller has it */
    LOCK_STALE, /* the generation moved while waiting; not held */
    LOCK_DIRTY, /* its owner died inside: what it protects cannot be trusted; not held */
};

void lock_init(struct lock *lock);
enum lock_result lock_acquire(struct lock *lock, const _Atomic uint64_t *generation,
                              uint64_t expected) __attribute__((warn_unused_result));
void lock_release(struct lock *lock);

#endif
