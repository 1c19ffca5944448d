#define _GNU_SOURCE 1 /* pthread_mutex_clocklock */

#include "os/lock.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "os/log.h"

#define STEP_NS 50000000 /* how long to wait between two looks at the generation */
#define NS_PER_S 1000000000

/* For what only our own mistakes can cause. */
static void lock_impossible(int number, const char *what)
{
    log_errno(LOG_ERROR, "os", number, "%s a shared lock", what);
    abort();
}

void lock_init(struct lock *lock)
{
    pthread_mutexattr_t attributes;
    int failed = pthread_mutexattr_init(&attributes);
    if (!failed)
        failed = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    if (!failed)
        failed = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    if (!failed)
        failed = pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
    if (!failed)
        failed = pthread_mutex_init(&lock->mutex, &attributes);
    if (failed)
        lock_impossible(failed, "initialise");
    pthread_mutexattr_destroy(&attributes);
}

/* One attempt, waiting until `until` on the monotonic clock; a time in the past does not wait. That
 * is used instead of pthread_mutex_trylock, which in glibc leaves an unrecoverable mutex locked
 * when it finds it free: the next attempt would wait for the process that only tried. */
static int lock_attempt(struct lock *lock, const struct timespec *until)
{
    return pthread_mutex_clocklock(&lock->mutex, CLOCK_MONOTONIC, until);
}

static int lock_wait_step(struct lock *lock)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += STEP_NS;
    if (until.tv_nsec >= NS_PER_S) {
        until.tv_sec++;
        until.tv_nsec -= NS_PER_S;
    }
    return lock_attempt(lock, &until);
}

enum lock_result lock_acquire(struct lock *lock, const _Atomic uint64_t *generation,
                              uint64_t expected)
{
    int result = lock_attempt(lock, &(struct timespec){0});
    while (result == ETIMEDOUT) {
        if (atomic_load(generation) != expected)
            return LOCK_STALE;
        result = lock_wait_step(lock);
    }
    switch (result) {
    case 0:
        if (atomic_load(generation) == expected)
            return LOCK_HELD;
        pthread_mutex_unlock(&lock->mutex);
        return LOCK_STALE;
    case EOWNERDEAD:
        /* Unlocking without making it consistent gives every other waiter ENOTRECOVERABLE. */
        pthread_mutex_unlock(&lock->mutex);
        return LOCK_DIRTY;
    case EDEADLK:
        lock_impossible(result, "acquire twice");
        return LOCK_DIRTY;
    default:
        /* ENOTRECOVERABLE; anything else means that the memory is damaged. */
        return LOCK_DIRTY;
    }
}

void lock_release(struct lock *lock)
{
    int failed = pthread_mutex_unlock(&lock->mutex);
    if (failed)
        lock_impossible(failed, "release");
}
