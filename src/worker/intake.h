/*
 * intake - which of the operations that wait for a worker's store thread are executed next: those
 * of all connections in turns, by deficit round robin over what executing them costs.
 *
 * The thread executes round by round, and answers and delivers in between. A round is so long that
 * a transaction is worth its price, and so short that an operation of somebody who has one of them
 * under way does not wait for the thousands of others.
 *
 * Operations of one connection stay in order. Belongs to one thread.
 */
#ifndef FILAD_WORKER_INTAKE_H
#define FILAD_WORKER_INTAKE_H

#include "broker/operation.h"

struct intake_line {
    struct operation *first, **last;
    uint64_t deficit;
    struct list turn; /* in intake.turns while it has operations */
};

struct intake {
    struct intake_line lines[OPERATION_LINES]; /* operation.line */
    struct list turns;                         /* whose turn it is first */
};

void intake_init(struct intake *intake);

bool intake_is_empty(const struct intake *intake);

/* The operations of the next round, as a chain through operation->next; `arrived` are those that
 * came since the last call, in order. NULL when there is nothing. */
struct operation *intake_round(struct intake *intake, struct operation *arrived);

/* All that is left, without a thought of turns. */
struct operation *intake_rest(struct intake *intake);

#endif
