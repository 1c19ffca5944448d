#include "kill/memory_driver.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/list.h"
#include "os/time.h"

#define QUEUES 16
#define PROCESSES 16
#define BATCH 10
#define GRAVES 64

struct memory_message {
    struct list link; /* in ready or leased of its queue, or in the graveyard */
    struct uuid id;
    char *key, *mark; /* owned, as the payload */
    uint8_t *payload;
    size_t size;
    uint32_t attempt;
    uint64_t expires_ns;
    bool forgotten; /* its lease cannot be acked any more */
};

struct memory_queue {
    char name[64];
    uint64_t visibility_ns;
    struct list ready, leased;
    uint64_t drift; /* added to the depth */
};

struct memory_broker {
    struct driver driver;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    enum memory_fault fault;
    bool up, crashed;
    unsigned workers;
    pid_t next_pid;
    pid_t pids[PROCESSES]; /* 0: master, 1: keeper, then workers */
    struct memory_queue queues[QUEUES];
    unsigned queue_count;
    struct list connections;
    struct list graveyard;
    unsigned graves;
    struct uuid_generator ids;
    uint64_t random;
};

struct memory_event {
    struct list link;
    enum driver_event_kind kind;
    uint32_t request;
    uint8_t code;
    size_t count;
    struct driver_result results[];
};

struct driver_connection {
    struct memory_broker *broker;
    struct list link;
    struct list events;
    struct list silenced;       /* answers that are never given */
    struct memory_event *shown; /* what the last event points to */
    unsigned worker;
    uint32_t next_request;
    uint32_t subscriptions[QUEUES]; /* request of the consume, 0: none */
    bool closed;
    struct driver_delivery deliveries[BATCH];
    struct memory_message copies[BATCH]; /* what they point to */
    unsigned copy_count;
};

static uint32_t broker_random(struct memory_broker *broker, uint32_t below)
{
    broker->random = broker->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(broker->random >> 33) % below;
}

static void *copy_of(const void *data, size_t size)
{
    void *copy = malloc(size ? size : 1);
    if (!copy)
        abort();
    if (size)
        memcpy(copy, data, size);
    return copy;
}

static void message_clear(struct memory_message *message)
{
    free(message->key);
    free(message->mark);
    free(message->payload);
}

static void message_free(struct memory_message *message)
{
    list_remove(&message->link);
    message_clear(message);
    free(message);
}

/* A copy that is in no list. */
static struct memory_message message_copy(const struct memory_message *message)
{
    struct memory_message copy = *message;
    copy.key = copy_of(message->key, strlen(message->key) + 1);
    copy.mark = copy_of(message->mark, strlen(message->mark) + 1);
    copy.payload = copy_of(message->payload, message->size);
    return copy;
}

static void lists_free(struct list *head)
{
    LIST_EACH_SAFE(head, entry)
    message_free(CONTAINER_OF(entry, struct memory_message, link));
}

static struct memory_message *first_of(struct list *head)
{
    return list_empty(head) ? NULL : CONTAINER_OF(head->next, struct memory_message, link);
}

static struct memory_queue *queue_find(struct memory_broker *broker, const char *name)
{
    for (unsigned i = 0; i < broker->queue_count; i++)
        if (strcmp(broker->queues[i].name, name) == 0)
            return &broker->queues[i];
    return NULL;
}

static struct memory_message *lease_find(struct memory_queue *queue, const struct uuid *id)
{
    LIST_EACH(&queue->leased, entry)
    {
        struct memory_message *message = CONTAINER_OF(entry, struct memory_message, link);
        if (uuid_equal(&message->id, id) && !message->forgotten)
            return message;
    }
    return NULL;
}

static void queue_expire(struct memory_broker *broker, struct memory_queue *queue)
{
    uint64_t now = time_monotonic_ns();
    LIST_EACH_SAFE(&queue->leased, entry)
    {
        struct memory_message *message = CONTAINER_OF(entry, struct memory_message, link);
        if (message->expires_ns > now)
            continue;
        list_remove(entry);
        list_append(&queue->ready, entry);
        message->forgotten = false;
        message->attempt += broker->fault != MEMORY_KEEPS_ATTEMPT;
    }
}

static void message_lease(struct memory_queue *queue, struct memory_message *message)
{
    list_remove(&message->link);
    list_append(&queue->leased, &message->link);
    message->expires_ns = time_monotonic_ns() + queue->visibility_ns;
}

/* ---- what a crash does, by fault ---- */

static void crash_queue(struct memory_broker *broker, struct memory_queue *queue)
{
    struct memory_message *first = first_of(&queue->ready);
    switch (broker->fault) {
    case MEMORY_LOSES:
        if (!first)
            first = first_of(&queue->leased);
        if (first)
            message_free(first);
        break;
    case MEMORY_BREAKS_LEASES:
        LIST_EACH_SAFE(&queue->leased, entry)
        {
            CONTAINER_OF(entry, struct memory_message, link)->attempt++;
            list_remove(entry);
            list_append(&queue->ready, entry);
        }
        break;
    case MEMORY_FORGETS_LEASES:
        LIST_EACH(&queue->leased, entry)
        CONTAINER_OF(entry, struct memory_message, link)->forgotten = true;
        break;
    case MEMORY_MISCOUNTS:
        queue->drift++;
        break;
    case MEMORY_DAMAGES:
        if (first)
            first->payload[first->size - 1] ^= 0x10;
        break;
    case MEMORY_DUPLICATES:
        if (first) {
            struct memory_message *twin = copy_of(first, sizeof *first);
            *twin = message_copy(first);
            twin->id = uuid_next(&broker->ids, time_wall_ns());
            list_append(&queue->ready, &twin->link);
        }
        break;
    default:
        break;
    }
}

static void crash(struct memory_broker *broker)
{
    broker->crashed = true;
    for (unsigned i = 0; i < broker->queue_count; i++) {
        struct memory_queue *queue = &broker->queues[i];
        /* A delivery that was written and that nobody received. */
        queue_expire(broker, queue);
        struct memory_message *first = first_of(&queue->ready);
        if (first && broker_random(broker, 3) == 0)
            message_lease(queue, first);
        crash_queue(broker, queue);
    }
    struct memory_message *grave = first_of(&broker->graveyard);
    if (grave && broker->fault == MEMORY_RETURNS) {
        list_remove(&grave->link);
        grave->attempt++;
        broker->graves--;
        list_append(&broker->queues[0].ready, &grave->link);
    }
}

/* ---- processes ---- */

static int memory_start(struct driver *driver, struct err *err)
{
    (void)err;
    struct memory_broker *broker = (struct memory_broker *)driver;
    pthread_mutex_lock(&broker->mutex);
    broker->up = true;
    for (unsigned i = 0; i < broker->workers + 2; i++)
        broker->pids[i] = broker->next_pid++;
    pthread_mutex_unlock(&broker->mutex);
    return 0;
}

static int memory_stop(struct driver *driver, struct err *err)
{
    (void)err;
    struct memory_broker *broker = (struct memory_broker *)driver;
    pthread_mutex_lock(&broker->mutex);
    broker->up = false;
    pthread_mutex_unlock(&broker->mutex);
    return 0;
}

static bool memory_healthy(struct driver *driver, struct err *err)
{
    (void)driver;
    (void)err;
    return true;
}

static size_t memory_processes(struct driver *driver, struct driver_process *list, size_t room)
{
    struct memory_broker *broker = (struct memory_broker *)driver;
    size_t count = 0;
    pthread_mutex_lock(&broker->mutex);
    for (unsigned i = 0; broker->up && i < broker->workers + 2 && count < room; i++)
        list[count++] = (struct driver_process){i == 0   ? DRIVER_MASTER
                                                : i == 1 ? DRIVER_KEEPER
                                                         : DRIVER_WORKER,
                                                broker->pids[i]};
    pthread_mutex_unlock(&broker->mutex);
    return count;
}

static void close_connections(struct memory_broker *broker, int worker)
{
    LIST_EACH(&broker->connections, entry)
    {
        struct driver_connection *connection = CONTAINER_OF(entry, struct driver_connection, link);
        if (worker < 0 || connection->worker == (unsigned)worker)
            connection->closed = true;
    }
}

static void memory_kill(struct driver *driver, const struct driver_process *victims, size_t count)
{
    struct memory_broker *broker = (struct memory_broker *)driver;
    pthread_mutex_lock(&broker->mutex);
    for (size_t v = 0; v < count; v++)
        for (unsigned i = 0; i < broker->workers + 2; i++) {
            if (broker->pids[i] != victims[v].pid)
                continue;
            broker->pids[i] = broker->next_pid++;
            if (i == 0)
                broker->up = false;
            if (i != 1)
                close_connections(broker, i == 0 ? -1 : (int)i - 2);
        }
    crash(broker);
    pthread_cond_broadcast(&broker->changed);
    pthread_mutex_unlock(&broker->mutex);
}

/* ---- connections ---- */

static struct driver_connection *memory_connect(struct driver *driver, struct err *err)
{
    struct memory_broker *broker = (struct memory_broker *)driver;
    struct driver_connection *connection = NULL;
    pthread_mutex_lock(&broker->mutex);
    if (broker->up) {
        connection = calloc(1, sizeof *connection);
        if (!connection)
            abort();
        connection->broker = broker;
        connection->worker = broker_random(broker, broker->workers);
        list_init(&connection->events);
        list_init(&connection->silenced);
        list_append(&broker->connections, &connection->link);
    } else {
        err_set(err, 0, "the broker is down");
    }
    pthread_mutex_unlock(&broker->mutex);
    return connection;
}

static void connection_forget(struct driver_connection *connection)
{
    for (unsigned i = 0; i < connection->copy_count; i++)
        message_clear(&connection->copies[i]);
    connection->copy_count = 0;
    free(connection->shown);
    connection->shown = NULL;
}

static void memory_close(struct driver_connection *connection, bool politely)
{
    (void)politely;
    struct memory_broker *broker = connection->broker;
    pthread_mutex_lock(&broker->mutex);
    list_remove(&connection->link);
    connection_forget(connection);
    list_splice(&connection->events, &connection->silenced);
    LIST_EACH_SAFE(&connection->events, entry)
    {
        list_remove(entry);
        free(CONTAINER_OF(entry, struct memory_event, link));
    }
    pthread_mutex_unlock(&broker->mutex);
    free(connection);
}

/* The answer to a new request; NULL when the connection is gone. */
static struct memory_event *answer(struct driver_connection *connection,
                                   enum driver_event_kind kind, size_t count, uint32_t *request)
{
    struct memory_broker *broker = connection->broker;
    if (connection->closed)
        return NULL;
    struct memory_event *event = calloc(1, sizeof *event + count * sizeof event->results[0]);
    if (!event)
        abort();
    event->kind = kind;
    event->request = *request = ++connection->next_request;
    event->count = count;
    list_init(&event->link);
    bool silent =
        broker->fault == MEMORY_FALLS_SILENT && broker->crashed && broker_random(broker, 20) == 0;
    list_append(silent ? &connection->silenced : &connection->events, &event->link);
    pthread_cond_broadcast(&broker->changed);
    return event;
}

static int memory_enqueue(struct driver_connection *connection,
                          const struct driver_outgoing *messages, size_t count, uint32_t *request)
{
    struct memory_broker *broker = connection->broker;
    pthread_mutex_lock(&broker->mutex);
    struct memory_event *event = answer(connection, DRIVER_ENQUEUED, count, request);
    for (size_t i = 0; event && i < count; i++) {
        struct memory_queue *queue = queue_find(broker, messages[i].queue);
        if (!queue) {
            event->results[i].code = DRIVER_QUEUE_NOT_FOUND;
            continue;
        }
        struct memory_message *message = calloc(1, sizeof *message);
        if (!message)
            abort();
        message->id = uuid_next(&broker->ids, time_wall_ns());
        message->key = copy_of(messages[i].key, strlen(messages[i].key) + 1);
        message->mark = copy_of(messages[i].mark, strlen(messages[i].mark) + 1);
        message->payload = copy_of(messages[i].payload.data, messages[i].payload.size);
        message->size = messages[i].payload.size;
        list_append(&queue->ready, &message->link);
        event->results[i] = (struct driver_result){DRIVER_OK, message->id, true};
    }
    pthread_mutex_unlock(&broker->mutex);
    return event ? 0 : -1;
}

static int memory_consume(struct driver_connection *connection, const char *name, uint32_t *request)
{
    struct memory_broker *broker = connection->broker;
    pthread_mutex_lock(&broker->mutex);
    struct memory_queue *queue = queue_find(broker, name);
    struct memory_event *event =
        answer(connection, queue ? DRIVER_CONSUMING : DRIVER_REFUSED, 0, request);
    if (event && queue)
        connection->subscriptions[queue - broker->queues] = *request;
    else if (event)
        event->code = DRIVER_QUEUE_NOT_FOUND;
    pthread_mutex_unlock(&broker->mutex);
    return event ? 0 : -1;
}

static uint8_t settle(struct memory_broker *broker, const struct driver_handle *handle, bool nack)
{
    struct memory_queue *queue = queue_find(broker, handle->queue);
    if (!queue)
        return DRIVER_MESSAGE_NOT_FOUND;
    queue_expire(broker, queue);
    struct memory_message *message = lease_find(queue, &handle->id);
    if (!message)
        return DRIVER_MESSAGE_NOT_FOUND;
    list_remove(&message->link);
    if (nack) {
        message->attempt += broker->fault == MEMORY_SKIPS_ATTEMPT ? 2 : 1;
        list_append(&queue->ready, &message->link);
    } else if (queue == &broker->queues[0] && broker->graves < GRAVES) {
        broker->graves++;
        list_append(&broker->graveyard, &message->link);
    } else {
        message_free(message);
    }
    return DRIVER_OK;
}

static int memory_settle(struct driver_connection *connection, const struct driver_handle *handles,
                         size_t count, uint32_t *request, bool nack)
{
    struct memory_broker *broker = connection->broker;
    pthread_mutex_lock(&broker->mutex);
    struct memory_event *event =
        answer(connection, nack ? DRIVER_NACKED : DRIVER_ACKED, count, request);
    for (size_t i = 0; event && i < count; i++)
        event->results[i].code = settle(broker, &handles[i], nack);
    pthread_mutex_unlock(&broker->mutex);
    return event ? 0 : -1;
}

static int memory_ack(struct driver_connection *connection, const struct driver_handle *handles,
                      size_t count, uint32_t *request)
{
    return memory_settle(connection, handles, count, request, false);
}

static int memory_nack(struct driver_connection *connection, const struct driver_handle *handles,
                       size_t count, uint32_t *request)
{
    return memory_settle(connection, handles, count, request, true);
}

static bool deliver(struct driver_connection *connection, struct driver_event *event)
{
    struct memory_broker *broker = connection->broker;
    for (unsigned q = 0; q < broker->queue_count; q++) {
        struct memory_queue *queue = &broker->queues[q];
        if (!connection->subscriptions[q])
            continue;
        queue_expire(broker, queue);
        while (connection->copy_count < BATCH && !list_empty(&queue->ready)) {
            struct memory_message *message = first_of(&queue->ready);
            if (broker->fault == MEMORY_REORDERS && broker->crashed)
                message = CONTAINER_OF(queue->ready.prev, struct memory_message, link);
            message_lease(queue, message);
            struct memory_message *copy = &connection->copies[connection->copy_count];
            *copy = message_copy(message);
            connection->deliveries[connection->copy_count++] =
                (struct driver_delivery){.id = copy->id,
                                         .queue = str_from_c(queue->name),
                                         .key = str_from_c(copy->key),
                                         .mark = str_from_c(copy->mark),
                                         .fairness_key = str_from_c(copy->key),
                                         .payload = str_of(copy->payload, copy->size),
                                         .attempt = copy->attempt,
                                         .leased_ms = time_wall_ms(),
                                         .readable = true};
        }
        if (!connection->copy_count)
            continue;
        event->kind = DRIVER_DELIVERY;
        event->request = connection->subscriptions[q];
        event->deliveries = connection->deliveries;
        event->count = connection->copy_count;
        return true;
    }
    return false;
}

static bool take_event(struct driver_connection *connection, struct driver_event *event)
{
    if (connection->closed) {
        event->kind = DRIVER_CLOSED;
        event->text = "killed";
        return true;
    }
    if (list_empty(&connection->events))
        return deliver(connection, event);
    struct memory_event *first = CONTAINER_OF(connection->events.next, struct memory_event, link);
    list_remove(&first->link);
    connection->shown = first;
    event->kind = first->kind;
    event->request = first->request;
    event->code = first->code;
    event->results = first->results;
    event->count = first->count;
    return true;
}

static void memory_next(struct driver_connection *connection, unsigned timeout_ms,
                        struct driver_event *event)
{
    struct memory_broker *broker = connection->broker;
    uint64_t end_ns = time_monotonic_ns() + timeout_ms * 1000000ull;
    pthread_mutex_lock(&broker->mutex);
    connection_forget(connection);
    for (;;) {
        memset(event, 0, sizeof *event);
        uint64_t now = time_monotonic_ns();
        if (take_event(connection, event) || now >= end_ns)
            break;
        /* Leases expire without an event. */
        uint64_t until = now + 5000000u < end_ns ? now + 5000000u : end_ns;
        struct timespec time = {(time_t)(until / 1000000000u), (long)(until % 1000000000u)};
        pthread_cond_timedwait(&broker->changed, &broker->mutex, &time);
    }
    event->time_ns = time_monotonic_ns();
    pthread_mutex_unlock(&broker->mutex);
}

static int memory_create_queue(struct driver_connection *connection, const char *name,
                               uint32_t visibility_ms)
{
    struct memory_broker *broker = connection->broker;
    int code = DRIVER_OK;
    pthread_mutex_lock(&broker->mutex);
    if (queue_find(broker, name)) {
        code = DRIVER_QUEUE_EXISTS;
    } else if (broker->queue_count == QUEUES) {
        code = DRIVER_CHANNEL_FULL;
    } else {
        struct memory_queue *queue = &broker->queues[broker->queue_count++];
        snprintf(queue->name, sizeof queue->name, "%s", name);
        queue->visibility_ns = visibility_ms * 1000000ull;
        list_init(&queue->ready);
        list_init(&queue->leased);
    }
    pthread_mutex_unlock(&broker->mutex);
    return code;
}

static uint64_t list_length(const struct list *head)
{
    uint64_t length = 0;
    LIST_EACH(head, entry)
    length++;
    return length;
}

static int memory_stats(struct driver_connection *connection, const char *name,
                        struct driver_stats *stats)
{
    struct memory_broker *broker = connection->broker;
    int code = DRIVER_QUEUE_NOT_FOUND;
    pthread_mutex_lock(&broker->mutex);
    struct memory_queue *queue = queue_find(broker, name);
    if (queue) {
        queue_expire(broker, queue);
        stats->in_flight = list_length(&queue->leased);
        stats->depth = list_length(&queue->ready) + stats->in_flight + queue->drift;
        stats->consumers = 0;
        code = DRIVER_OK;
    }
    pthread_mutex_unlock(&broker->mutex);
    return code;
}

static const struct driver_ops memory_ops = {
    .name = "memory",
    .keys = true,
    .start = memory_start,
    .stop = memory_stop,
    .processes = memory_processes,
    .kill = memory_kill,
    .healthy = memory_healthy,
    .connect = memory_connect,
    .close = memory_close,
    .enqueue = memory_enqueue,
    .consume = memory_consume,
    .ack = memory_ack,
    .nack = memory_nack,
    .next = memory_next,
    .create_queue = memory_create_queue,
    .stats = memory_stats,
};

struct driver *memory_driver_create(unsigned workers, enum memory_fault fault, uint64_t seed)
{
    struct memory_broker *broker = calloc(1, sizeof *broker);
    pthread_condattr_t attributes;
    if (!broker || pthread_mutex_init(&broker->mutex, NULL) != 0 ||
        pthread_condattr_init(&attributes) != 0 ||
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) != 0 ||
        pthread_cond_init(&broker->changed, &attributes) != 0)
        abort();
    pthread_condattr_destroy(&attributes);
    broker->driver.ops = &memory_ops;
    broker->workers = workers < PROCESSES - 2 ? workers : PROCESSES - 2;
    broker->fault = fault;
    broker->next_pid = 1;
    broker->random = seed;
    list_init(&broker->connections);
    list_init(&broker->graveyard);
    uuid_generator_init(&broker->ids, (uint64_t[2]){seed, time_monotonic_ns()});
    return &broker->driver;
}

void memory_driver_destroy(struct driver *driver)
{
    struct memory_broker *broker = (struct memory_broker *)driver;
    for (unsigned i = 0; i < broker->queue_count; i++) {
        lists_free(&broker->queues[i].ready);
        lists_free(&broker->queues[i].leased);
    }
    lists_free(&broker->graveyard);
    pthread_cond_destroy(&broker->changed);
    pthread_mutex_destroy(&broker->mutex);
    free(broker);
}

static const char *const fault_names[MEMORY_FAULTS] = {
    [MEMORY_CORRECT] = "correct",
    [MEMORY_LOSES] = "loses",
    [MEMORY_RETURNS] = "returns",
    [MEMORY_BREAKS_LEASES] = "breaks-leases",
    [MEMORY_FORGETS_LEASES] = "forgets-leases",
    [MEMORY_REORDERS] = "reorders",
    [MEMORY_MISCOUNTS] = "miscounts",
    [MEMORY_KEEPS_ATTEMPT] = "keeps-attempt",
    [MEMORY_SKIPS_ATTEMPT] = "skips-attempt",
    [MEMORY_DAMAGES] = "damages",
    [MEMORY_DUPLICATES] = "duplicates",
    [MEMORY_FALLS_SILENT] = "falls-silent",
};

const char *memory_fault_name(enum memory_fault fault)
{
    return (unsigned)fault < MEMORY_FAULTS ? fault_names[fault] : "unknown";
}

enum memory_fault memory_fault_find(const char *name)
{
    for (unsigned i = 0; i < MEMORY_FAULTS; i++)
        if (strcmp(fault_names[i], name) == 0)
            return (enum memory_fault)i;
    return MEMORY_FAULTS;
}
