/*
 * workload_latency - W4: how long a message takes from the call that sends it on one connection to
 * its delivery on another, with one message at a time.
 */
#ifndef FILAD_BENCH_WORKLOAD_LATENCY_H
#define FILAD_BENCH_WORKLOAD_LATENCY_H

#include "row.h"

struct latency_parameters {
    bool disturbed; /* a checkpoint and compaction run meanwhile */
};

/* row->parameters is a struct latency_parameters. Figures: p50, p99, p99.9 in milliseconds. Each
 * slice has connections of its own, since it makes a difference which workers they meet. The next
 * message is sent when the last one is confirmed, delivered and acked. */
int workload_latency_run(struct bench *bench, const struct row *row, struct outcome *outcome,
                         struct err *err) __attribute__((warn_unused_result));

#endif
