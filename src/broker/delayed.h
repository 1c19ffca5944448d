/*
 * delayed - messages that are delivered later. They wait as D records (store/record.h), which carry
 * all that is needed to put them at the end of their lane when they are due; broker_due does that.
 */
#ifndef FILAD_BROKER_DELAYED_H
#define FILAD_BROKER_DELAYED_H

#include "broker/write.h"

#define DELAYED_MAX_MS (UINT64_C(366) * 86400000) /* longer delays are cut to it */
#define DELAYED_BATCH 100u                        /* messages under one holding of the lock */

/* When something that is delayed now is due; wall clock ms. */
uint64_t delayed_due_ms(const struct write *write, uint64_t delay_ms);

/* Writes a message into the transaction in hand. `value`: its lane (record_delayed_begin) and the
 * message; `seq` makes its place among those of the same time. Berkeley DB's value. */
int delayed_put(struct write *write, uint64_t due_ms, uint64_t seq, const struct buf *value)
    __attribute__((warn_unused_result));
/* After the commit. */
void delayed_publish(struct write *write, uint64_t due_ms);

/* A walk through the delayed messages of a queue, by their due times. */
struct delayed_walk {
    uint64_t before;      /* messages from this number on stay */
    uint64_t due_ms, seq; /* where it goes on */
    bool ended;
};

/* Deletes up to DELAYED_BATCH delayed messages of a queue, and what is stored apart of them. It
 * takes the queue's lock. *purged can be 0 although the walk has not ended. *result is Berkeley
 * DB's. */
int delayed_purge(struct broker *broker, struct local_queue *local, struct delayed_walk *walk,
                  uint32_t *purged, int *result) __attribute__((warn_unused_result));

#endif
