/*
 * workload_through - W5: producers and consumers at the same time, each on a connection of its own.
 */
#ifndef FILAD_BENCH_WORKLOAD_THROUGH_H
#define FILAD_BENCH_WORKLOAD_THROUGH_H

#include "row.h"

struct through_parameters {
    unsigned producers, consumers;
    uint32_t window, batch; /* of each producer */
};

/* row->parameters is a struct through_parameters. Figure: messages per second that are enqueued,
 * delivered and acked. Everything that was enqueued has to come out in the end. */
int workload_through_run(struct bench *bench, const struct row *row, struct outcome *outcome,
                         struct err *err) __attribute__((warn_unused_result));

#endif
