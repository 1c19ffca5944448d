/*
 * delivery - the way of messages to a consumer: how the framed dialect writes them (on the store
 * thread), and their queue on the connection (on the loop thread), where they are sent from the
 * memory that they were encoded in.
 */
#ifndef FILAD_WORKER_DELIVERY_H
#define FILAD_WORKER_DELIVERY_H

#include "broker/operation.h"
#include "worker/session.h"

/* Writes one Delivery frame (spec/fibp.md A8) to a buffer that is empty at its begin; a frame
 * larger than the peer takes is split. A failure (no memory) shows in out->failed after `end` or
 * any `add`: what is in the buffer then must not be sent. Its subscriptions are subscribers. */
extern const struct delivery_encoder delivery_framed;

/* OPERATION_DELIVERY from the pipeline: queues it for sending, or gives it back when its
 * subscription has ended. Takes the operation. One that comes while an Enqueue or Nack of its
 * session is not answered is kept until it is: there are clients that take the next frame on the
 * connection for the answer (spec/fibp.md A11, Python). */
void delivery_arrived(struct operation_delivery *delivery);

/* Queues what was kept for answers that have been made meanwhile. */
void delivery_release(struct session *session);

/* Gives back what is kept or queued for a subscription and of which nothing is sent. */
void delivery_recall(const struct subscription *subscription);
void delivery_recall_all(struct session *session);

/* Counts the window anew from what is kept and queued: what was on its way up is lost. */
void delivery_recount(struct session *session);

/* Lets deliveries go on that paused for want of room on the connection, when half of it is free. */
void delivery_relieve(struct session *session);

#endif
