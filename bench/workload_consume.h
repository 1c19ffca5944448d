/*
 * workload_consume - W3, W7: connections consume a preloaded queue to its end and ack every
 * message.
 */
#ifndef FILAD_BENCH_WORKLOAD_CONSUME_H
#define FILAD_BENCH_WORKLOAD_CONSUME_H

#include "row.h"

struct consume_parameters {
    unsigned consumers; /* connections */
    uint32_t keys;      /* fairness keys of the messages; 0: none */
};

/* row->parameters is a struct consume_parameters. Figure: messages per second whose ack is
 * confirmed, from the first Consume request on; each slice is a third of the messages with one
 * consumer, and all of them with more. A message that is delivered twice or not at all is a
 * failure. */
int workload_consume_run(struct bench *bench, const struct row *row, struct outcome *outcome,
                         struct err *err) __attribute__((warn_unused_result));

#endif
