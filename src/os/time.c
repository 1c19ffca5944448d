#define _GNU_SOURCE 1

#include "os/time.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "os/log.h"

#define NS_PER_S 1000000000u
#define NS_PER_MS 1000000u

/* Reading a clock cannot fail on Linux: all of these exist and the pointer is ours. */
static uint64_t clock_ns(clockid_t clock)
{
    struct timespec ts = {0};
    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t time_monotonic_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t time_monotonic_ms(void)
{
    return clock_ns(CLOCK_MONOTONIC) / NS_PER_MS;
}

uint64_t time_thread_cpu_ns(void)
{
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

uint64_t time_wall_ns(void)
{
    return clock_ns(CLOCK_REALTIME);
}

uint64_t time_wall_ms(void)
{
    return clock_ns(CLOCK_REALTIME) / NS_PER_MS;
}

void time_entropy(uint64_t words[2])
{
    const size_t size = 2 * sizeof(words[0]);
    ssize_t got;
    do {
        /* Up to 256 bytes come whole or not at all once the source is initialised. */
        got = getrandom(words, size, 0);
    } while (got < 0 && errno == EINTR);
    if (got != (ssize_t)size) {
        log_errno(LOG_ERROR, "os", errno, "read the kernel's random source");
        exit(EXIT_FAILURE);
    }
}
