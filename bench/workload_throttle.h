/*
 * workload_throttle - how exactly token buckets hold their rate, with more messages waiting than
 * the rate lets pass: for each of three rates the difference between the deliveries per second and
 * the rate, once the burst is used up.
 */
#ifndef FILAD_BENCH_WORKLOAD_THROTTLE_H
#define FILAD_BENCH_WORKLOAD_THROTTLE_H

#include "row.h"

int workload_throttle_run(struct bench *bench, const struct row *row, struct outcome *outcome,
                          struct err *err) __attribute__((warn_unused_result));

#endif
