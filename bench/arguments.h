/*
 * arguments - the command line of fila-bench.
 */
#ifndef FILAD_BENCH_ARGUMENTS_H
#define FILAD_BENCH_ARGUMENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

struct arguments {
    bool help, list, json, keep;
    const char *only;       /* comma-separated row names; NULL: all. Strings point into argv. */
    const char *directory;  /* NULL: chosen by place_open */
    const char *filad;      /* NULL: beside the running program */
    const char *durability; /* "commit" or "interval" */
    double seconds;         /* of each workload */
    unsigned workers;
    uint64_t messages; /* preloaded where a workload drains a queue; a multiple of 100 */
};

/* -1 with a reason for whatever cannot be used. */
int arguments_parse(struct arguments *arguments, int argc, char **argv, struct err *err)
    __attribute__((warn_unused_result));

void arguments_usage(void);

#endif
