/*
 * row - one line of the benchmark's table, a limit of the machine or a workload: what it is called,
 * what it is compared with, what it has to reach and the function that measures it. A new workload
 * is a run function and an entry in row.c.
 */
#ifndef FILAD_BENCH_ROW_H
#define FILAD_BENCH_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "arguments.h"
#include "place.h"
#include "progress.h"
#include "stats.h"

#define ROW_FIGURES 3
#define ROW_SKIPPED 1 /* from a run function: this machine cannot do it, `err` says why */

/* What run functions work with. */
struct bench {
    const struct arguments *arguments;
    struct place place;
    struct progress progress;
    char filad[PATH_MAX]; /* the broker's program; empty when only limits run */
    double seconds;       /* that this measurement is to take */
};

enum row_kind { ROW_WORKLOAD, ROW_LIMIT };

enum row_target {
    ROW_TARGET_NONE,
    ROW_TARGET_RATIO_MIN, /* figure / limit is at least this */
    ROW_TARGET_RATIO_MAX, /* figure / limit is at most this */
    ROW_TARGET_VALUE_MAX, /* the figure itself is at most this, in its unit */
};

struct row_figure {
    const char *name; /* "rate"; NULL ends the list */
    const char *unit; /* "msg/s" */
    int limit_figure; /* index into the figures of the row's limit; -1: no ratio */
    enum row_target kind;
    double target;
};

/* What a run found. */
struct outcome {
    double slices[ROW_FIGURES][STATS_SLICES];
    uint64_t enqueued, delivered, acked; /* messages: confirmed, received, confirmed */
    double client_cpu, broker_cpu; /* cores used while measuring: 1.0 is one core all the time */
};

struct row {
    const char *name; /* "W2"; NULL ends the table */
    const char *description;
    enum row_kind kind;
    const char *limit; /* name of the row that a workload is compared with; NULL: none */
    double seconds;    /* that a run takes at least; 0: as --seconds says */
    struct row_figure figures[ROW_FIGURES];
    const void *parameters; /* for run */
    const char *unit;       /* of what progress counts */
    int (*run)(struct bench *bench, const struct row *row, struct outcome *outcome,
               struct err *err);
};

extern const struct row row_table[];

/* By name, letter case ignored; NULL when there is none. */
const struct row *row_find(const char *name, size_t size);

/* Number of figures that a row has. */
size_t row_figure_count(const struct row *row);

#endif
