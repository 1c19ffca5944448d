/*
 * decide - nacks of queues with an on_failure script make several trips. On each way down the store
 * thread first does what was decided, then takes the leases of the next items into this worker's
 * hands (LEASE_DECIDING), reads what the script is to know, and the operation goes up undecided;
 * the loop asks the script and submits it again. All items of such a frame go this way, in slices,
 * so that what is read stays bounded.
 *
 * A lease in a worker's hands cannot be acked or nacked by others, nor expire. It is let go with
 * the decision, by the death of the worker, or by a recovery; what was decided before a recovery is
 * asked again after it.
 */
#ifndef FILAD_BROKER_DECIDE_H
#define FILAD_BROKER_DECIDE_H

#include "broker/broker.h"

#define DECIDE_ITEMS 1000u           /* of one slice */
#define DECIDE_BYTES (4u << 20)      /* of their headers, and one message's more */
#define DECIDE_BYTES_ALL (32u << 20) /* of all slices of a worker that are up */
/* Longer headers are not shown to scripts. */
#define DECIDE_HEADERS_MAX (1u << 20)

/* True when a NACK has to go up before it can be answered: its queue asks a script. */
int decide_is_needed(struct broker *broker, struct operation_settle *settle, bool *needed)
    __attribute__((warn_unused_result));

/* Begins the trips. */
int decide_begin(struct broker *broker, struct operation_settle *settle)
    __attribute__((warn_unused_result));

/* When one comes down: what was decided in another generation of the zone is forgotten. */
void decide_check(const struct broker *broker, struct operation_settle *settle);

/* The decision about an item of the slice in hand, NULL when no script was asked. `*next` is where
 * to look first; begin with 0 and ask by ascending item. */
const struct operation_decision *decide_of(const struct operation_settle *settle, uint32_t item,
                                           uint32_t *next);

/* After the slice in hand is done: takes the next one, or ends the trips. */
int decide_next(struct broker *broker, struct operation_settle *settle)
    __attribute__((warn_unused_result));

#endif
