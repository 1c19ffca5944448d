/*
 * filad - a filad of the benchmark's own: started on an empty store, stopped and cleared away.
 */
#ifndef FILAD_BENCH_FILAD_H
#define FILAD_BENCH_FILAD_H

#include <limits.h>
#include <stdint.h>
#include <sys/types.h>

#include "row.h"

struct filad {
    struct bench *bench; /* borrowed */
    char name[32];       /* of its folder */
    char directory[PATH_MAX];
    char regions[PATH_MAX];
    uint16_t port;
    pid_t pid; /* the master, leader of a process group; 0: none */
};

/* Configuration for workloads whose messages have keys (producer.h). */
#define FILAD_KEYS "header_key: {fairness: tenant, weight: weight}\n"

/* Starts it and waits until it shakes hands (60 s). `configuration` is added to the ordinary one;
 * NULL: nothing. On failure nothing runs, and the end of its log has gone to standard error. */
int filad_start(struct filad *filad, struct bench *bench, const char *name,
                const char *configuration, struct err *err) __attribute__((warn_unused_result));

/* Kills every process of it at once, and starts it again on the same store. */
void filad_kill(struct filad *filad);
int filad_restart(struct filad *filad, struct err *err) __attribute__((warn_unused_result));

/* Stops it and removes its store unless --keep. With `failed` the end of its log goes to standard
 * error first. Fails when it had to be killed or did not exit with 0. */
int filad_stop(struct filad *filad, bool failed, struct err *err)
    __attribute__((warn_unused_result));

/* ---- memory of all its processes ---- */

struct filad_memory {
    uint64_t total; /* bytes; a page that n processes share counts as 1/n in each of them (PSS) */
    uint64_t store; /* of these, in the region files of the store: its cache, locks, log buffer */
};

/* -1 when it cannot be read. */
int filad_memory(const struct filad *filad, struct filad_memory *memory, struct err *err)
    __attribute__((warn_unused_result));

/* ---- processor time while something is measured ---- */

struct filad_usage {
    double client, broker; /* seconds of processor time so far */
    uint64_t at_ns;
};

void filad_usage_begin(const struct filad *filad, struct filad_usage *usage);
/* Fills the outcome's client_cpu and broker_cpu with what was used since. */
void filad_usage_end(const struct filad *filad, const struct filad_usage *begin,
                     struct outcome *outcome);

#endif
