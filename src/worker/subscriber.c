#include "worker/subscriber.h"

#include <stdlib.h>

#include "os/time.h"
#include "worker/delivery.h"
#include "worker/request.h"

static struct subscriber *subscriber_of(struct subscription *subscription)
{
    return CONTAINER_OF(subscription, struct subscriber, subscription);
}

static struct operation *subscriber_operation(struct session *session, enum operation_kind kind,
                                              struct subscription *subscription,
                                              void (*answer)(struct session *, struct operation *))
{
    struct operation_subscription *operation =
        request_create(session, kind, sizeof(*operation), subscription->request_id, answer);

    if (!operation)
        return NULL;
    operation->subscription = subscription;
    return &operation->operation;
}

static struct subscriber *subscriber_create(struct session *session, uint32_t request_id,
                                            struct str queue,
                                            const struct delivery_encoder *encoder)
{
    struct sessions *sessions = session->sessions;
    struct subscriber *subscriber = calloc(1, sizeof(*subscriber) + queue.size);

    if (!subscriber)
        return NULL;
    if (queue.size > 0)
        memcpy(subscriber->queue, queue.data, queue.size);
    subscriber->subscription = (struct subscription){
        .owner = session,
        .request_id = request_id,
        .consumer_id = uuid_next(&sessions->ids, time_wall_ns()),
        .queue = str_of(subscriber->queue, queue.size),
        .encoder = encoder,
        .window = &session->window,
    };
    subscriber->max_frame_size = (uint32_t)sessions->conf->fibp.max_frame_size;
    subscriber->numbering = session->numbering;
    subscriber->unsubscribe =
        subscriber_operation(session, OPERATION_UNSUBSCRIBE, &subscriber->subscription, NULL);
    if (!subscriber->unsubscribe) {
        free(subscriber);
        return NULL;
    }
    list_append(&session->subscribers, &subscriber->list);
    session->subscriber_count++;
    return subscriber;
}

static void subscriber_free(struct subscriber *subscriber)
{
    struct session *session = subscriber->subscription.owner;

    list_remove(&subscriber->list);
    session->subscriber_count--;
    if (subscriber->unsubscribe)
        request_free(subscriber->unsubscribe);
    free(subscriber);
}

enum fibp_status subscriber_open(struct session *session, uint32_t request_id, struct str queue,
                                 uint32_t limit, const struct delivery_encoder *encoder,
                                 void (*answer)(struct session *, struct operation *))
{
    struct subscriber *old = subscriber_find(session, request_id);

    if (old)
        subscriber_cancel(old);
    if (session->subscriber_count >= SUBSCRIBERS_MAX)
        return FIBP_CHANNEL_FULL;

    struct subscriber *subscriber = subscriber_create(session, request_id, queue, encoder);
    if (!subscriber)
        return FIBP_INTERNAL_ERROR;
    subscriber->subscription.limit = limit;
    struct operation *subscribe =
        subscriber_operation(session, OPERATION_SUBSCRIBE, &subscriber->subscription, answer);
    if (!subscribe) {
        subscriber_free(subscriber);
        return FIBP_INTERNAL_ERROR;
    }
    request_submit(subscribe);
    return FIBP_OK;
}

struct subscriber *subscriber_find(struct session *session, uint32_t request_id)
{
    LIST_EACH(&session->subscribers, entry)
    {
        struct subscriber *subscriber = CONTAINER_OF(entry, struct subscriber, list);

        if (subscriber->subscription.request_id == request_id && !subscriber->subscription.ended)
            return subscriber;
    }
    return NULL;
}

struct subscriber *subscriber_find_by_id(struct session *session, const struct uuid *consumer_id)
{
    LIST_EACH(&session->subscribers, entry)
    {
        struct subscriber *subscriber = CONTAINER_OF(entry, struct subscriber, list);

        if (uuid_equal(&subscriber->subscription.consumer_id, consumer_id) &&
            !subscriber->subscription.ended)
            return subscriber;
    }
    return NULL;
}

/* One whose Consume is still under way is unsubscribed when its answer says that it exists. */
static void subscriber_unsubscribe(struct subscriber *subscriber)
{
    struct operation *unsubscribe = subscriber->unsubscribe;

    if (!subscriber->registered || !unsubscribe)
        return;
    subscriber->unsubscribe = NULL;
    request_submit(unsubscribe);
}

void subscriber_cancel(struct subscriber *subscriber)
{
    if (subscriber->subscription.ended)
        return;
    subscriber->subscription.ended = true;
    delivery_recall(&subscriber->subscription);
    subscriber_unsubscribe(subscriber);
}

void subscriber_cancel_all(struct session *session)
{
    /* At once, or with many subscriptions each would go through the deliveries of all. */
    delivery_recall_all(session);
    LIST_EACH(&session->subscribers, entry)
    subscriber_cancel(CONTAINER_OF(entry, struct subscriber, list));
}

void subscriber_back(const struct operation_subscription *operation)
{
    struct subscriber *subscriber = subscriber_of(operation->subscription);

    if (operation->operation.kind == OPERATION_UNSUBSCRIBE ||
        operation->operation.status != FIBP_OK) {
        subscriber_free(subscriber);
        return;
    }
    subscriber->registered = true;
    if (subscriber->subscription.ended)
        subscriber_unsubscribe(subscriber);
}

void subscriber_ended(struct operation_ended *operation)
{
    struct subscriber *subscriber = subscriber_of(operation->subscription);
    struct session *session = subscriber->subscription.owner;

    if (!subscriber->subscription.ended) {
        subscriber->subscription.ended = true;
        delivery_recall(&subscriber->subscription);
        if (session_is_live(session))
            session->dialect->error(session, subscriber->subscription.request_id,
                                    FIBP_QUEUE_NOT_FOUND, STR("queue deleted"));
        subscriber_unsubscribe(subscriber);
    }
    operation_free(&operation->operation);
}
