/*
 * workload_backlog - W6, W8: what a large number of small messages costs that nobody consumes yet.
 */
#ifndef FILAD_BENCH_WORKLOAD_BACKLOG_H
#define FILAD_BENCH_WORKLOAD_BACKLOG_H

#include "row.h"

/* W6. Figures: memory of all processes with nothing to do; what they need more with a million
 * messages of 100 bytes queued, beyond the store's cache, and that per message. Shared pages count
 * once. The one broker is looked at three times. */
int workload_backlog_memory(struct bench *bench, const struct row *row, struct outcome *outcome,
                            struct err *err) __attribute__((warn_unused_result));

/* W8. Figures: seconds from starting a broker that was killed with a million messages queued to the
 * first delivery from that queue, and to the first confirmed message; three times. */
int workload_backlog_restart(struct bench *bench, const struct row *row, struct outcome *outcome,
                             struct err *err) __attribute__((warn_unused_result));

#endif
