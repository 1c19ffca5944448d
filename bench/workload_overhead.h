/*
 * workload_overhead - what a feature costs: the same work by turns without and with it, on one
 * broker, so that both meet the same neighbours. Each figure is a median over pairs.
 */
#ifndef FILAD_BENCH_WORKLOAD_OVERHEAD_H
#define FILAD_BENCH_WORKLOAD_OVERHEAD_H

#include "row.h"

/* Draining a queue of ten fairness keys against one of a single key: per cent of time more. */
int workload_overhead_run_keys(struct bench *bench, const struct row *row, struct outcome *outcome,
                               struct err *err) __attribute__((warn_unused_result));

/* Enqueueing to a queue with an on_enqueue script that reads one header against one without:
 * processor time more per message, and per cent of time more. */
int workload_overhead_run_script(struct bench *bench, const struct row *row,
                                 struct outcome *outcome, struct err *err)
    __attribute__((warn_unused_result));

#endif
