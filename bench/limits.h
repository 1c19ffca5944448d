/*
 * limits - what this machine can do without a broker: the run functions of the L rows.
 */
#ifndef FILAD_BENCH_LIMITS_H
#define FILAD_BENCH_LIMITS_H

#include "row.h"

/* L1: appends 4 KiB to a file and calls fdatasync, again and again. */
int limits_run_sync(struct bench *bench, const struct row *row, struct outcome *outcome,
                    struct err *err) __attribute__((warn_unused_result));

/* L2: puts records of a message's size into a Berkeley DB environment set up like the broker's and
 * deletes them again; first figure put, second delete. */
int limits_run_store(struct bench *bench, const struct row *row, struct outcome *outcome,
                     struct err *err) __attribute__((warn_unused_result));

/* Where the two processes of an echo run. */
enum echo_cores {
    ECHO_CORES_ANY, /* where the kernel puts them */
    ECHO_CORES_ONE, /* both on the first core that this process may use */
    ECHO_CORES_TWO, /* on the first two; fails where there is only one */
};

struct echo_parameters {
    enum echo_cores cores;
};

/* L3: round trips to a process that sends back what it gets, a new one for each slice; first figure
 * p50, second p99. row->parameters is a struct echo_parameters. */
int limits_run_echo(struct bench *bench, const struct row *row, struct outcome *outcome,
                    struct err *err) __attribute__((warn_unused_result));

#endif
