#define _GNU_SOURCE 1

#include "os/futex.h"

#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Waits longer than this are cut; the caller looks again, as after any early return. */
#define LONGEST_WAIT_MS (24u * 3600 * 1000)

/* The operations are not the _PRIVATE ones: the sleeper may be in another process. Errors are all
 * reasons to return early (EAGAIN, EINTR, ETIMEDOUT). */
static void futex_call(_Atomic uint32_t *word, int operation, uint32_t value,
                       const struct timespec *timeout)
{
    syscall(SYS_futex, (uint32_t *)word, operation, value, timeout, NULL, FUTEX_BITSET_MATCH_ANY);
}

void futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t timeout_ms)
{
    if (atomic_load(word) != expected)
        return;
    if (timeout_ms == UINT64_MAX) {
        futex_call(word, FUTEX_WAIT, expected, NULL);
        return;
    }
    if (timeout_ms > LONGEST_WAIT_MS)
        timeout_ms = LONGEST_WAIT_MS;
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ms / 1000),
                               .tv_nsec = (long)(timeout_ms % 1000) * 1000000};
    futex_call(word, FUTEX_WAIT, expected, &timeout);
}

void futex_wait_until(_Atomic uint32_t *word, uint32_t expected, uint64_t until_ns)
{
    struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000),
                             .tv_nsec = (long)(until_ns % 1000000000)};
    /* Only this operation takes a time instead of a duration. */
    futex_call(word, FUTEX_WAIT_BITSET, expected, until_ns == UINT64_MAX ? NULL : &until);
}

void futex_wake(_Atomic uint32_t *word, int count)
{
    futex_call(word, FUTEX_WAKE, count > 0 ? (uint32_t)count : 0, NULL);
}
