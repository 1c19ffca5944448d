#include "limits.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/time.h"
#include "raw_store.h"

#define SYNC_BLOCK 4096
#define ECHO_SIZE 1024
#define WARM_UP 0.1 /* seconds */
/* Fits the cache, as a preloaded queue does. */
#define STORE_RECORDS 100000

/* ---- L1 ---- */

int limits_run_sync(struct bench *bench, const struct row *row, struct outcome *outcome,
                    struct err *err)
{
    static const char block[SYNC_BLOCK];
    char data[PATH_MAX], regions[PATH_MAX], path[PATH_MAX + 8];
    struct stats_rate rate;
    uint64_t count = 0, now;
    int fd = -1, result = -1;

    (void)row;
    if (place_make(&bench->place, "sync", data, regions, err) != 0) {
        return -1;
    }
    snprintf(path, sizeof(path), "%s/log", data);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) {
        err_set_errno(err, errno, "open %s", path);
        goto out;
    }
    stats_rate_start(&rate, time_monotonic_ns(), WARM_UP, bench->seconds);
    do {
        if (write(fd, block, sizeof(block)) != (ssize_t)sizeof(block) || fdatasync(fd) != 0) {
            err_set_errno(err, errno, "append to %s and sync", path);
            goto out;
        }
        count++;
        now = time_monotonic_ns();
        if (progress_tick(&bench->progress, now, count, err) != 0) {
            goto out;
        }
    } while (!stats_rate_tick(&rate, now, count));
    memcpy(outcome->slices[0], rate.rates, sizeof(rate.rates));
    result = 0;
out:
    if (fd >= 0) {
        close(fd);
    }
    place_remove(&bench->place, "sync");
    return result;
}

/* ---- L2 ---- */

/* Runs `work` over batches from `first` on until `limit` records are done or `slice_ns` is over;
 * limit alone counts when slice_ns is 0. Returns how many records, 0 on failure. */
static uint64_t store_pass(struct bench *bench, struct raw_store *store,
                           int (*work)(struct raw_store *, uint64_t, struct err *), uint64_t first,
                           uint64_t limit, uint64_t slice_ns, double *rate, struct err *err)
{
    uint64_t begin = time_monotonic_ns(), now = begin, done = 0;
    while (done < limit && (slice_ns == 0 || now - begin < slice_ns)) {
        if (work(store, first + done, err) != 0) {
            return 0;
        }
        done += RAW_STORE_BATCH;
        now = time_monotonic_ns();
        if (progress_tick(&bench->progress, now, first + done, err) != 0) {
            return 0;
        }
    }
    *rate = (double)done * 1e9 / (double)(now - begin);
    return done;
}

int limits_run_store(struct bench *bench, const struct row *row, struct outcome *outcome,
                     struct err *err)
{
    char data[PATH_MAX], regions[PATH_MAX];
    /* Half of the time goes to puts; a pass of deletes takes about as long as its puts did. */
    uint64_t slice_ns = (uint64_t)(bench->seconds * 1e9 / (2 * STATS_SLICES));
    uint64_t number = 0;
    struct raw_store *store = NULL;
    int result = -1;

    (void)row;
    if (place_make(&bench->place, "raw", data, regions, err) != 0) {
        return -1;
    }
    store = raw_store_open(data, regions, err);
    if (store == NULL) {
        goto out;
    }
    for (int slice = 0; slice < STATS_SLICES; slice++) {
        uint64_t done = store_pass(bench, store, raw_store_put, number, STORE_RECORDS, slice_ns,
                                   &outcome->slices[0][slice], err);
        if (done == 0 || store_pass(bench, store, raw_store_delete, number, done, 0,
                                    &outcome->slices[1][slice], err) == 0) {
            goto out;
        }
        number += done;
    }
    result = 0;
out:
    raw_store_close(store);
    place_remove(&bench->place, "raw");
    return result;
}

/* ---- L3 ---- */

static int read_exactly(int fd, char *buffer, size_t size)
{
    size_t have = 0;
    while (have < size) {
        ssize_t got = recv(fd, buffer + have, size - have, 0);
        if (got <= 0) {
            if (got == 0) {
                errno = ECONNRESET;
            }
            return -1;
        }
        have += (size_t)got;
    }
    return 0;
}

/* Core number `index` of those that this process may use, -1 when there are not so many. */
static int nth_core(const cpu_set_t *allowed, int index)
{
    for (size_t core = 0; core < CPU_SETSIZE; core++) {
        if (CPU_ISSET(core, allowed) && index-- == 0) {
            return (int)core;
        }
    }
    return -1;
}

/* Pins this process as `cores` says; `second` for the one that answers. Undone by setting `allowed`
 * again. */
static int pin(enum echo_cores cores, const cpu_set_t *allowed, bool second)
{
    cpu_set_t one;
    if (cores == ECHO_CORES_ANY) {
        return 0;
    }
    int core = nth_core(allowed, cores == ECHO_CORES_TWO && second ? 1 : 0);
    if (core < 0) {
        errno = EINVAL;
        return -1;
    }
    CPU_ZERO(&one);
    CPU_SET((size_t)core, &one);
    return sched_setaffinity(0, sizeof(one), &one);
}

/* The other process: ends with its parent or with the connection. */
static void echo_serve(int listener, enum echo_cores cores, const cpu_set_t *allowed)
{
    char buffer[ECHO_SIZE];
    int on = 1;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_DFL);
    if (pin(cores, allowed, true) != 0) {
        _exit(1);
    }
    /* cppcheck-suppress nullPointer ; accept4 may be called without an address */
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0) {
        _exit(1);
    }
    while (read_exactly(fd, buffer, sizeof(buffer)) == 0 &&
           send(fd, buffer, sizeof(buffer), MSG_NOSIGNAL) == (ssize_t)sizeof(buffer)) {
    }
    _exit(0);
}

static int echo_connect(int listener, int *fd, struct err *err)
{
    struct sockaddr_in address;
    socklen_t size = sizeof(address);
    int on = 1;
    if (getsockname(listener, (struct sockaddr *)&address, &size) != 0) {
        return err_set_errno(err, errno, "address of the echo process");
    }
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*fd < 0 || connect(*fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        setsockopt(*fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0) {
        return err_set_errno(err, errno, "connect to the echo process");
    }
    return 0;
}

/* Round trips for some time; samples are left sorted. */
static int echo_turns(struct bench *bench, int fd, double seconds, uint64_t *count,
                      struct stats_samples *samples, struct err *err)
{
    char buffer[ECHO_SIZE] = {0};
    uint64_t length_ns = (uint64_t)(seconds * 1e9);
    uint64_t begin = time_monotonic_ns(), before = begin, now = begin;
    stats_samples_clear(samples);
    while (now - begin < length_ns) {
        if (send(fd, buffer, sizeof(buffer), MSG_NOSIGNAL) != (ssize_t)sizeof(buffer) ||
            read_exactly(fd, buffer, sizeof(buffer)) != 0) {
            return progress_interrupted() ? err_set(err, 0, "interrupted")
                                          : err_set_errno(err, errno, "echo");
        }
        now = time_monotonic_ns();
        if (stats_samples_add(samples, now - before) != 0) {
            return err_set(err, 0, "no memory");
        }
        before = now;
        if (progress_tick(&bench->progress, now, ++*count, err) != 0) {
            return -1;
        }
    }
    stats_samples_sort(samples);
    return 0;
}

/* One slice, with a process of its own to talk to. */
static int echo_slice(struct bench *bench, enum echo_cores cores, const cpu_set_t *allowed,
                      uint64_t *count, struct stats_samples *samples, struct err *err)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = -1, fd = -1, result = -1;
    pid_t child = -1;

    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(listener, 1) != 0) {
        err_set_errno(err, errno, "listen for the echo");
        goto out;
    }
    child = fork();
    if (child == 0) {
        echo_serve(listener, cores, allowed);
    }
    if (child < 0) {
        err_set_errno(err, errno, "fork the echo process");
        goto out;
    }
    if (echo_connect(listener, &fd, err) != 0 ||
        echo_turns(bench, fd, WARM_UP, count, samples, err) != 0 ||
        echo_turns(bench, fd, bench->seconds / STATS_SLICES, count, samples, err) != 0) {
        goto out;
    }
    result = 0;
out:
    if (fd >= 0) {
        close(fd);
    }
    if (listener >= 0) {
        close(listener);
    }
    if (child > 0) {
        kill(child, SIGKILL);
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    return result;
}

int limits_run_echo(struct bench *bench, const struct row *row, struct outcome *outcome,
                    struct err *err)
{
    const struct echo_parameters *parameters = row->parameters;
    struct stats_samples samples;
    cpu_set_t allowed;
    uint64_t count = 0;
    int result = -1;

    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
        return err_set_errno(err, errno, "cores of this process");
    }
    if (parameters->cores == ECHO_CORES_TWO && nth_core(&allowed, 1) < 0) {
        err_set(err, 0, "there is only one core");
        return ROW_SKIPPED;
    }
    stats_samples_init(&samples);
    if (pin(parameters->cores, &allowed, false) != 0) {
        err_set_errno(err, errno, "pin to a core");
        goto out;
    }
    for (int slice = 0; slice < STATS_SLICES; slice++) {
        if (echo_slice(bench, parameters->cores, &allowed, &count, &samples, err) != 0) {
            goto out;
        }
        outcome->slices[0][slice] = (double)stats_samples_percentile(&samples, 50) / 1e6;
        outcome->slices[1][slice] = (double)stats_samples_percentile(&samples, 99) / 1e6;
    }
    result = 0;
out:
    sched_setaffinity(0, sizeof(allowed), &allowed);
    stats_samples_free(&samples);
    return result;
}
