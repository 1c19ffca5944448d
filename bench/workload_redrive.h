/*
 * workload_redrive - how fast dead letters go back to the queue that they came from.
 */
#ifndef FILAD_BENCH_WORKLOAD_REDRIVE_H
#define FILAD_BENCH_WORKLOAD_REDRIVE_H

#include "row.h"

int workload_redrive_run(struct bench *bench, const struct row *row, struct outcome *outcome,
                         struct err *err) __attribute__((warn_unused_result));

#endif
