#include "kill/client.h"
#include "os/time.h"

/* What happens to a message, in percent. The rest is forgotten: its lease expires. */
enum { ACK_PERCENT = 82, NACK_PERCENT = 7, LATE_PERCENT = 5 };

struct batch {
    struct journal_ref refs[CLIENT_BATCH];
    unsigned count;
};

/* Sends the acks or nacks of a batch and empties it. */
static void batch_send(struct consumer *consumer, struct batch *batch, bool nack)
{
    struct client *client = &consumer->client;
    if (!batch->count || !client->connection)
        return;
    struct client_request *request = client_request(client);
    if (!request) {
        batch->count = 0;
        return;
    }
    struct driver_handle handles[CLIENT_BATCH];
    const struct load_options *options = &client->shared->options;
    for (unsigned i = 0; i < batch->count; i++) {
        handles[i] = journal_handle(options->journal, batch->refs[i]);
        request->refs[i] = batch->refs[i];
        journal_ack_sent(options->journal, client->index, batch->refs[i], nack);
    }
    request->kind = nack ? CLIENT_NACK : CLIENT_ACK;
    request->count = batch->count;
    batch->count = 0;
    int (*send)(struct driver_connection *, const struct driver_handle *, size_t, uint32_t *) =
        nack ? options->driver->ops->nack : options->driver->ops->ack;
    if (send(client->connection, handles, request->count, &request->number) != 0)
        client_close(client, false);
}

static void batch_add(struct consumer *consumer, struct batch *batch, struct journal_ref ref,
                      bool nack)
{
    batch->refs[batch->count++] = ref;
    if (batch->count == CLIENT_BATCH)
        batch_send(consumer, batch, nack);
}

static void keep_for_later(struct consumer *consumer, struct journal_ref ref)
{
    if (consumer->late_count == CONSUMER_LATE)
        return;
    unsigned visibility_ms =
        consumer->client.shared->options.queues[consumer->queues[0]].visibility_ms;
    uint32_t delay_ms = client_random(&consumer->client, visibility_ms * 3 / 2);
    consumer->late[consumer->late_count].due_ns = time_monotonic_ns() + delay_ms * 1000000ull;
    consumer->late[consumer->late_count].ref = ref;
    consumer->late_count++;
}

static void handle_deliveries(struct consumer *consumer, const struct driver_event *event)
{
    struct client *client = &consumer->client;
    struct load_shared *shared = client->shared;
    struct batch acks = {.count = 0}, nacks = {.count = 0};
    bool drain = atomic_load(&shared->drain);
    for (size_t i = 0; i < event->count; i++) {
        struct journal_ref ref;
        if (!journal_delivered(shared->options.journal, client->index, &event->deliveries[i],
                               event->time_ns, &ref))
            continue;
        uint32_t dice = client_random(client, 100);
        if (drain || dice < ACK_PERCENT)
            batch_add(consumer, &acks, ref, false);
        else if (dice < ACK_PERCENT + NACK_PERCENT)
            batch_add(consumer, &nacks, ref, true);
        else if (dice < ACK_PERCENT + NACK_PERCENT + LATE_PERCENT)
            keep_for_later(consumer, ref);
    }
    batch_send(consumer, &nacks, true);
    batch_send(consumer, &acks, false);
}

static void send_late_acks(struct consumer *consumer)
{
    struct batch acks = {.count = 0};
    uint64_t now = time_monotonic_ns();
    for (unsigned i = 0; i < consumer->late_count;) {
        if (consumer->late[i].due_ns > now) {
            i++;
            continue;
        }
        batch_add(consumer, &acks, consumer->late[i].ref, false);
        consumer->late[i] = consumer->late[--consumer->late_count];
    }
    batch_send(consumer, &acks, false);
}

/* Subscribes on a new connection; the answers come as events. */
static void subscribe(struct consumer *consumer)
{
    struct client *client = &consumer->client;
    const struct load_options *options = &client->shared->options;
    for (unsigned i = 0; i < consumer->queue_count && client->connection; i++) {
        struct client_request *request = client_request(client);
        request->kind = CLIENT_CONSUME;
        if (options->driver->ops->consume(client->connection,
                                          options->queues[consumer->queues[i]].name,
                                          &request->number) != 0)
            client_close(client, false);
    }
}

static void handle_event(struct consumer *consumer, const struct driver_event *event)
{
    struct client *client = &consumer->client;
    if (event->kind == DRIVER_CLOSED) {
        client_close(client, false);
    } else if (event->kind == DRIVER_DELIVERY) {
        handle_deliveries(consumer, event);
    } else if (event->kind != DRIVER_NOTHING) {
        const struct client_request *request = client_settle(client, event);
        if (event->kind != DRIVER_REFUSED)
            return;
        if (event->code == DRIVER_QUEUE_NOT_FOUND)
            journal_violation(client->shared->options.journal, VIOLATION_LOST,
                              "client %u: a queue is gone: %s", client->index,
                              event->text ? event->text : "");
        /* A subscription that was refused or ended is asked for again on a new connection. */
        if (!request || event->code == DRIVER_QUEUE_NOT_FOUND) {
            client_close(client, false);
            client_sleep(20);
        }
    }
}

void *consumer_main(void *argument)
{
    struct consumer *consumer = argument;
    struct client *client = &consumer->client;
    struct load_shared *shared = client->shared;
    while (!atomic_load(&shared->stop_consumers)) {
        if (!client->connection) {
            if (!client_connected(client))
                continue;
            subscribe(consumer);
            continue;
        }
        struct driver_event event;
        shared->options.driver->ops->next(client->connection, 20, &event);
        handle_event(consumer, &event);
        if (client->connection)
            send_late_acks(consumer);
        client_check_overdue(client);
        if (client->connection && !consumer->ordered && !atomic_load(&shared->drain) &&
            client_random(client, 1500) == 0)
            client_close(client, client_random(client, 2) == 0);
    }
    uint64_t end_ns = time_monotonic_ns() + 2000000000u;
    while (client->connection && client_open(client) && time_monotonic_ns() < end_ns) {
        struct driver_event event;
        shared->options.driver->ops->next(client->connection, 100, &event);
        if (event.kind == DRIVER_DELIVERY) {
            struct journal_ref ref;
            for (size_t i = 0; i < event.count; i++)
                (void)journal_delivered(shared->options.journal, client->index,
                                        &event.deliveries[i], event.time_ns, &ref);
        } else {
            handle_event(consumer, &event);
        }
    }
    client_close(client, true);
    return NULL;
}
