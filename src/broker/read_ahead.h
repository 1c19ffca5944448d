/*
 * read_ahead - ready messages that were read together with others and are not delivered yet.
 *
 * A round robin takes a few messages of each lane at a time, and a bulk read of one lane costs
 * hardly more than that of one message: what is too much for one pull is kept for the next ones.
 * What is kept stays true as long as nobody removes ready messages of the queue otherwise than by
 * delivering them from the front (queue->ready_removed); deliveries by others only make its
 * beginning useless. It says nothing about where a lane ends, since messages are added there.
 *
 * Private to a thread; used under the queue's lock.
 */
#ifndef FILAD_BROKER_READ_AHEAD_H
#define FILAD_BROKER_READ_AHEAD_H

#include "sched/queue.h"
#include "store/queue_db.h"

/* Lanes that something is kept of, of all queues together. With more active keys in a queue it
 * would be thrown away before it is used. */
#define READ_AHEAD_LANES 48u
#define READ_AHEAD_BYTES                                                                           \
    (128u << 10) /* of a lane; what a single large message made grow is freed */

struct read_ahead_lane {
    struct queue_db_bulk bulk; /* the records */
    uint64_t queue_id, lane;   /* whose; queue_id 0: nobody's */
    uint64_t removed;          /* queue->ready_removed when they were read */
    uint64_t next;             /* records of lower seqs were taken out */
    uint64_t used;             /* read_ahead.uses at the last use */
};

struct read_ahead {
    struct read_ahead_lane lanes[READ_AHEAD_LANES];
    uint64_t uses;
};

void read_ahead_init(struct read_ahead *ahead);
void read_ahead_free(struct read_ahead *ahead);

/* What is kept of a lane from position `next` on; NULL when nothing is. The caller takes records
 * out of its bulk, passes over those below `next`, and sets its `next` behind the last one. */
struct read_ahead_lane *read_ahead_find(struct read_ahead *ahead, const struct queue *queue,
                                        uint64_t lane, uint64_t next);

/* A place for records of a lane that are read now; what was there is given up. */
struct read_ahead_lane *read_ahead_place(struct read_ahead *ahead, const struct queue *queue,
                                         uint64_t lane);
/* Keeps nothing, and gives the memory back. */
void read_ahead_rest(struct read_ahead *ahead);
/* Nothing is kept there any more. */
void read_ahead_drop(struct read_ahead_lane *kept);

#endif
