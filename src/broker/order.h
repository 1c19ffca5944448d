/*
 * order - the messages of a queue, oldest first, across all of its lanes: a heap of lanes by the
 * first position of each that was not taken yet, in memory of this thread (16 bytes per lane).
 *
 * It is built once, a step at a time, and then costs O(log lanes) per message. What others take or
 * add meanwhile does no harm: positions are only ever bounds from below, and new messages have
 * greater numbers than `before`.
 */
#ifndef FILAD_BROKER_ORDER_H
#define FILAD_BROKER_ORDER_H

#include "broker/broker.h"

struct order_head {
    uint64_t seq; /* no message of the lane that belongs to the order stands before it */
    uint64_t lane;
};

struct order {
    struct order_head *heads; /* owned; a binary heap by seq */
    uint32_t count, room;
    uint64_t before;    /* messages from this number on do not belong to it */
    uint64_t next_lane; /* where building goes on */
    uint32_t run;       /* messages that the last lane gave at a time (broker/move) */
    uint64_t skipped;   /* messages that could not be moved since they are damaged */
    bool built;
};

/* Of the messages that the queue has now. */
int order_begin(struct order *order, struct broker *broker, struct queue *queue)
    __attribute__((warn_unused_result));
void order_free(struct order *order);

/* A step of building: it takes the queue's lock. *result is Berkeley DB's. */
int order_build(struct order *order, struct broker *broker, struct local_queue *local, int *result)
    __attribute__((warn_unused_result));

/* The lane to look at; NULL: there is none any more. */
static inline struct order_head *order_first(const struct order *order)
{
    return order->count ? order->heads : NULL;
}

/* How far the first lane goes before another one has its turn: a number that is not reached. */
uint64_t order_turn(const struct order *order);

/* The first lane is to be looked at from `seq` on. */
void order_advance(struct order *order, uint64_t seq);
/* ... has nothing any more. */
void order_drop(struct order *order);

/* The lane of a number, through its K record; NULL with *result 0: it is gone. Under the queue's
 * lock; uses broker->value. */
struct lane *order_lane(struct broker *broker, struct local_queue *local, uint64_t id, int *result)
    __attribute__((warn_unused_result));

#endif
