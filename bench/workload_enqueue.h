/*
 * workload_enqueue - W1, W2, W2b: one connection enqueues into one queue.
 */
#ifndef FILAD_BENCH_WORKLOAD_ENQUEUE_H
#define FILAD_BENCH_WORKLOAD_ENQUEUE_H

#include "row.h"

struct enqueue_parameters {
    uint32_t window; /* frames in flight */
    uint32_t batch;  /* messages of a frame */
    uint32_t keys;   /* fairness keys that the messages go round in; 0: none */
};

/* row->parameters is a struct enqueue_parameters. Figure: confirmed messages per second. */
int workload_enqueue_run(struct bench *bench, const struct row *row, struct outcome *outcome,
                         struct err *err) __attribute__((warn_unused_result));

#endif
