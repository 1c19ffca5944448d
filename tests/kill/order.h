/*
 * order - the latest first deliveries of each producer, queue and fairness key. A message must not
 * be first delivered after one that was committed later: later on the same connection, or sent when
 * this one had been confirmed. What two connections sent at about the same time has no order.
 */
#ifndef FILAD_KILL_ORDER_H
#define FILAD_KILL_ORDER_H

#include <stdbool.h>
#include <stdint.h>

struct order;

struct order_entry {
    uint32_t sequence;
    uint32_t connection;
    uint64_t sent_ns;
    uint64_t confirmed_ns; /* 0: not confirmed so far */
};

struct order *order_create(unsigned producers, unsigned queues);
void order_destroy(struct order *order);

/* Records a first delivery; false when it comes too late. */
bool order_delivered(struct order *order, unsigned producer, unsigned queue, unsigned key,
                     const struct order_entry *entry) __attribute__((warn_unused_result));

#endif
