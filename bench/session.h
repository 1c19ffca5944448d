/*
 * session - one run of the benchmark: which rows, in which order, and what came out. The limit that
 * a workload is compared with is measured directly before and directly after it.
 */
#ifndef FILAD_BENCH_SESSION_H
#define FILAD_BENCH_SESSION_H

#include "row.h"

#define SESSION_ROWS 32
#define SESSION_LIMIT_RUNS 40 /* of one limit */

struct session_figure {
    double value, spread; /* median of all slices; (largest - smallest) / median */
    double values[SESSION_LIMIT_RUNS * STATS_SLICES];
    size_t count;
    double limit, ratio; /* workloads: the limit around this run, and value / limit; 0: none */
    bool reached;        /* true also without a target */
};

struct session_entry {
    const struct row *row; /* NULL ends the list */
    bool selected;
    bool done; /* `figures` hold something */
    struct session_figure figures[ROW_FIGURES];
    struct outcome outcome; /* of the last run */
};

struct session {
    struct bench bench;
    struct session_entry entries[SESSION_ROWS + 1]; /* in the order of the table */
};

/* Selects rows by the options and finds the broker when one of them needs it. */
int session_prepare(struct session *session, const struct arguments *arguments, struct err *err)
    __attribute__((warn_unused_result));

/* Runs what is selected. On failure, which names the row, what was done before stays. */
int session_run(struct session *session, struct err *err) __attribute__((warn_unused_result));

/* Removes everything temporary. */
void session_close(struct session *session);

#endif
