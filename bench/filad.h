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

/* Starts it and waits until it shakes hands (30 s). On failure nothing runs, and the end of its log
 * has gone to standard error. */
int filad_start(struct filad *filad, struct bench *bench, const char *name, struct err *err)
    __attribute__((warn_unused_result));

/* Stops it and removes its store unless --keep. With `failed` the end of its log goes to standard
 * error first. Fails when it had to be killed or did not exit with 0. */
int filad_stop(struct filad *filad, bool failed, struct err *err)
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
