/*
 * move - messages from one queue to another, atomically: one transaction under both queues' locks,
 * taken by ascending id. A message keeps its id, body, weight, fairness key, throttle keys and time
 * of enqueueing; it goes to the end of its lane there. What is stored apart of it is copied before
 * the locks are taken and removed from its old place after.
 */
#ifndef FILAD_BROKER_MOVE_H
#define FILAD_BROKER_MOVE_H

#include "broker/broker.h"
#include "broker/order.h"

#define MOVE_MAX 100u /* messages of one move */

struct dead_letter;

/* Dead-letters up to MOVE_MAX leased messages: their leases, which must be those that are named,
 * end, their attempts are raised by one, and what is known of the failure is kept beside them. Each
 * gets a status: FIBP_OK, FIBP_MESSAGE_NOT_FOUND, FIBP_QUEUE_NOT_FOUND (either queue was deleted),
 * FIBP_CHANNEL_FULL or FIBP_STORAGE_ERROR; nothing has changed of it unless it is FIBP_OK.
 * FIBP_STORAGE_ERROR also when others kept moving the same message. */
int move_leased(struct broker *broker, struct local_queue *from, struct local_queue *to,
                struct dead_letter *letters, uint32_t count) __attribute__((warn_unused_result));

/* Moves up to `limit` (at most MOVE_MAX) ready messages of an order of `from`, oldest first, with
 * their attempts set to 0 and what was kept of a dead-lettering forgotten; of large ones no more
 * than a few at once. An order that is not built is built first. *moved tells how many: it can be 0
 * although order_first has more. Leased ones are passed over, the order does not come back to them;
 * nor to damaged ones, which are logged and counted in order->skipped. */
int move_ready(struct broker *broker, struct local_queue *from, struct local_queue *to,
               struct order *order, uint32_t limit, uint32_t *moved, uint8_t *status)
    __attribute__((warn_unused_result));

#endif
