/* subscribe - consumers come, go, have room again, and give back what never reached a socket */
#include <errno.h>
#include <stdlib.h>

#include "broker/broker.h"
#include "fibp/status.h"

/* Registers with the queue in the zone. */
static int announce(struct broker *broker, struct local_queue *local,
                    struct subscription *subscription, uint8_t *status)
{
    struct queue *queue = local->queue;
    struct local_subscription *sub = calloc(1, sizeof(*sub));
    *status = FIBP_CHANNEL_FULL;
    if (!sub)
        return 0;
    if (broker_lock(broker, &queue->lock) != 0) {
        free(sub);
        return -1;
    }
    if (atomic_load(&queue->dead))
        *status = FIBP_QUEUE_NOT_FOUND;
    else
        sub->consumer = queue_consumer_add(queue, broker->options.slot);
    lock_release(&queue->lock);
    if (!sub->consumer) {
        free(sub);
        return 0;
    }
    sub->subscription = subscription;
    sub->local = local;
    sub->consumer->local = sub;
    subscription->store = sub;
    /* What an earlier environment had picked for it and not handed up does not count. */
    subscription->delivered = subscription->taken;
    list_init(&sub->wait);
    list_append(&local->open, &sub->link);
    list_append(&broker->subscriptions, &sub->all);
    broker_want_pull(broker, local);
    *status = FIBP_OK;
    return 0;
}

int broker_attach(struct broker *broker, struct subscription *subscription, uint8_t *status)
{
    struct local_queue *local = NULL;
    if (broker_find_queue(broker, subscription->queue, &local) != 0)
        return -1;
    *status = FIBP_STORAGE_ERROR;
    if (local && local->queue->quarantined)
        return 0;
    if (local)
        return announce(broker, local, subscription, status);
    *status = FIBP_QUEUE_NOT_FOUND;
    return 0;
}

int broker_subscribe(struct broker *broker, struct operation *operation)
{
    struct operation_subscription *subscribe = (struct operation_subscription *)operation;
    int result = broker_attach(broker, subscribe->subscription, &operation->status);
    if (operation->status == FIBP_STORAGE_ERROR)
        operation->reason = "the queue's file is damaged and was set aside";
    return result;
}

static int forget_consumer(struct broker *broker, struct local_subscription *sub)
{
    struct queue *queue = sub->local->queue;
    if (broker_lock(broker, &queue->lock) != 0)
        return -1;
    queue_consumer_remove(queue, sub->consumer);
    lock_release(&queue->lock);
    return 0;
}

int broker_unsubscribe(struct broker *broker, struct operation *operation)
{
    struct subscription *subscription = ((struct operation_subscription *)operation)->subscription;
    struct local_subscription *sub = subscription->store;
    operation->status = FIBP_OK;
    if (!sub) /* its queue was deleted before */
        return 0;
    if (forget_consumer(broker, sub) != 0)
        return -1;
    list_remove(&sub->link);
    list_remove(&sub->all);
    list_remove(&sub->wait);
    subscription->store = NULL;
    free(sub);
    return 0;
}

int broker_room(struct broker *broker, struct operation *operation)
{
    struct list *waiting = &((struct operation_room *)operation)->window->waiting;
    operation->status = FIBP_OK;
    while (waiting->next && !list_empty(waiting)) {
        struct local_subscription *sub =
            CONTAINER_OF(waiting->next, struct local_subscription, wait);
        if (broker->by_index[sub->local->queue->index] != sub->local)
            abort(); /* it belongs to an environment that is gone */
        list_remove(&sub->wait);
        list_remove(&sub->link);
        list_append(&sub->local->open, &sub->link);
        broker_want_pull(broker, sub->local);
    }
    return 0;
}

int broker_return(struct broker *broker, struct operation *operation)
{
    struct operation_delivery *delivery = (struct operation_delivery *)operation;
    struct local_queue *local = broker->by_index[delivery->queue_index];
    operation->status = FIBP_OK;
    if (delivery->generation != broker->options.generation || !local ||
        local->queue->id != delivery->queue_id)
        return 0; /* of an earlier environment: the leases wait for their time */
    struct queue *queue = local->queue;
    if (broker_lock(broker, &queue->lock) != 0)
        return -1;
    for (uint32_t i = 0; i < delivery->count && !atomic_load(&queue->dead); i++) {
        struct lease *lease = queue_lease_find(queue, &delivery->leases[i].id);
        if (!lease || lease->state != LEASE_HELD || !lease->batch ||
            lease->batch->seq != delivery->leases[i].token)
            continue;
        queue_lease_return(queue, lease);
        queue_lane_update(queue, lease->lane, 0);
        queue->counters->returned++;
    }
    queue_wake_waiters(queue);
    lock_release(&queue->lock);
    broker_want_pull(broker, local);
    return 0;
}

void broker_detach(struct broker *broker, bool valid)
{
    LIST_EACH_SAFE(&broker->subscriptions, entry)
    {
        struct local_subscription *sub = CONTAINER_OF(entry, struct local_subscription, all);
        if (valid && forget_consumer(broker, sub) != 0)
            valid = false;
        list_remove(&sub->all);
        list_remove(&sub->wait);
        sub->subscription->store = NULL;
        free(sub);
    }
}
