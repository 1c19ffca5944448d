/*
 * subscriber - the subscriptions of a session, from Consume to the answer of their unsubscription.
 */
#ifndef FILAD_WORKER_SUBSCRIBER_H
#define FILAD_WORKER_SUBSCRIBER_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/operation.h"
#include "core/list.h"
#include "fibp/numbering.h"
#include "worker/session.h"

#define SUBSCRIBERS_MAX 1000u /* of one session, ending ones included */

struct subscriber {
    struct subscription subscription; /* `ended` also means: to be unsubscribed once it can be */
    struct list list;                 /* in session->subscribers */
    struct operation *unsubscribe; /* made beforehand, so that ending cannot fail; NULL once sent */
    uint32_t max_frame_size;       /* of the peer; constant, read by the encoder */
    enum numbering numbering;      /* of ConsumeOk and deliveries; constant, as above */
    bool registered;               /* the pipeline has accepted it */
    uint8_t queue[];               /* name */
};

/* Subscribes under `request_id`; one that has this id already is ended first. `limit`: messages to
 * be delivered at most, 0: any number. `answer` encodes the outcome. FIBP_OK, or why there is no
 * subscription: FIBP_CHANNEL_FULL, FIBP_INTERNAL_ERROR. */
enum fibp_status subscriber_open(struct session *session, uint32_t request_id, struct str queue,
                                 uint32_t limit, const struct delivery_encoder *encoder,
                                 void (*answer)(struct session *, struct operation *))
    __attribute__((warn_unused_result));

/* The one that is not ended with this id; NULL when there is none. */
struct subscriber *subscriber_find(struct session *session, uint32_t request_id);
struct subscriber *subscriber_find_by_id(struct session *session, const struct uuid *consumer_id);

/* Unsubscribes; deliveries that are not on their way go back. No harm when it is ended already. */
void subscriber_cancel(struct subscriber *subscriber);
void subscriber_cancel_all(struct session *session);

/* SUBSCRIBE and UNSUBSCRIBE that are back; the operation stays the caller's. */
void subscriber_back(const struct operation_subscription *operation);

/* OPERATION_SUBSCRIPTION_ENDED: tells the client. Takes the operation. */
void subscriber_ended(struct operation_ended *operation);

#endif
