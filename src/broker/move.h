/*
 * move - messages from one queue to another, atomically: one transaction under both queues' locks,
 * taken by ascending id. A message keeps its id, body, weight, fairness key, throttle keys and time
 * of enqueueing; it goes to the end of its lane there. What is stored apart of it is copied before
 * the locks are taken and removed from its old place after.
 */
#ifndef FILAD_BROKER_MOVE_H
#define FILAD_BROKER_MOVE_H

#include "broker/broker.h"

/* Dead-letters a leased message: its lease ends, its attempt is raised by one. *status: FIBP_OK,
 * FIBP_MESSAGE_NOT_FOUND, FIBP_QUEUE_NOT_FOUND (either queue was deleted), FIBP_CHANNEL_FULL or
 * FIBP_STORAGE_ERROR; nothing has changed unless it is FIBP_OK. FIBP_STORAGE_ERROR also
 * when others kept moving the same message. */
int move_leased(struct broker *broker, struct local_queue *from, struct local_queue *to,
                const struct uuid *id, uint8_t *status) __attribute__((warn_unused_result));

/* Moves up to `limit` (at most 100) ready messages, those that came first first, with their
 * attempts set to 0; of large ones no more than a few at once. *moved tells how many; 0 with
 * FIBP_OK: there is none. */
int move_ready(struct broker *broker, struct local_queue *from, struct local_queue *to,
               uint32_t limit, uint32_t *moved, uint8_t *status)
    __attribute__((warn_unused_result));

#endif
