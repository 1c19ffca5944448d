/*
 * workload_fairness - W9: how close the shares of five fairness keys with weights 1 to 5 come to
 * their weights.
 */
#ifndef FILAD_BENCH_WORKLOAD_FAIRNESS_H
#define FILAD_BENCH_WORKLOAD_FAIRNESS_H

#include "row.h"

/* Figure: the largest difference between the share that a key got of the first 5,000 deliveries and
 * the share of its weight, in percentage points; each slice has a queue of its own with 2,000
 * messages a key. */
int workload_fairness_run(struct bench *bench, const struct row *row, struct outcome *outcome,
                          struct err *err) __attribute__((warn_unused_result));

#endif
