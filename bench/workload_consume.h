/*
 * workload_consume - W3: one connection consumes a preloaded queue to its end and acks every
 * message.
 */
#ifndef FILAD_BENCH_WORKLOAD_CONSUME_H
#define FILAD_BENCH_WORKLOAD_CONSUME_H

#include "row.h"

/* Figure: messages per second whose ack is confirmed, from the Consume request on; each slice is a
 * third of the messages. A message that is delivered twice or not at all is a failure. */
int workload_consume_run(struct bench *bench, const struct row *row, struct outcome *outcome,
                         struct err *err) __attribute__((warn_unused_result));

#endif
