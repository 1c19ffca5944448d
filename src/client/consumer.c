/* Subscriptions: what the reader collects and the program receives. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "client/call.h"
#include "client/received.h"
#include "client/error.h"
#include "core/bytes.h"
#include "os/time.h"

#define CONSUMER_ID_SIZE 256 /* a UUID from our servers; more is taken from others */

struct fila_consumer {
    struct fila *client; /* a reference */
    struct transport_sink sink;
    char id[CONSUMER_ID_SIZE];

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct list waiting; /* of struct received */
    bool ended;
    struct fila_error end; /* why; set before `ended` */
};

/* Decodes a whole frame first, so that one bad message keeps none of it half received. */
static int consumer_decode(const struct frame *frame, struct list *into, struct fila_error *error)
{
    struct framed_client_delivery item;
    struct wire_reader reader;
    uint32_t count;

    wire_reader_init(&reader, frame->body);
    if (!framed_client_delivery_begin(&reader, &count))
        return error_set_reader(error, "Delivery", &reader);
    for (uint32_t i = 0; i < count; i++) {
        if (!framed_client_delivery_next(&reader, &item))
            return error_set_reader(error, "Delivery", &reader);
        struct received *received = received_create(&item);
        if (!received)
            return error_set(error, FILA_NO_MEMORY, "no memory for a delivery");
        list_append(into, &received->list);
    }
    return 0;
}

static void consumer_drop(struct list *deliveries)
{
    LIST_EACH_SAFE(deliveries, entry)
    {
        list_remove(entry);
        fila_delivery_free(&CONTAINER_OF(entry, struct received, list)->message);
    }
}

static int consumer_delivery(struct transport_sink *sink, const struct frame *frame,
                             struct fila_error *error)
{
    struct fila_consumer *consumer = CONTAINER_OF(sink, struct fila_consumer, sink);
    struct list arrived;

    list_init(&arrived);
    if (consumer_decode(frame, &arrived, error) != 0) {
        consumer_drop(&arrived);
        return -1;
    }
    pthread_mutex_lock(&consumer->lock);
    list_splice(&consumer->waiting, &arrived);
    pthread_cond_broadcast(&consumer->changed);
    pthread_mutex_unlock(&consumer->lock);
    return 0;
}

static void consumer_finish(struct fila_consumer *consumer, const struct fila_error *error)
{
    pthread_mutex_lock(&consumer->lock);
    if (!consumer->ended) {
        error_copy(&consumer->end, error);
        consumer->ended = true;
        pthread_cond_broadcast(&consumer->changed);
    }
    pthread_mutex_unlock(&consumer->lock);
}

static void consumer_ended(struct transport_sink *sink, const struct fila_error *error)
{
    consumer_finish(CONTAINER_OF(sink, struct fila_consumer, sink), error);
}

static struct fila_consumer *consumer_create(struct fila *client, struct fila_error *error)
{
    struct fila_consumer *consumer = calloc(1, sizeof(*consumer));
    pthread_condattr_t monotonic;
    if (!consumer) {
        error_set(error, FILA_NO_MEMORY, "no memory for a consumer");
        return NULL;
    }
    call_client_retain(client);
    consumer->client = client;
    consumer->sink.delivery = consumer_delivery;
    consumer->sink.ended = consumer_ended;
    consumer->end = (struct fila_error)FILA_ERROR_INIT;
    list_init(&consumer->sink.list);
    list_init(&consumer->waiting);
    pthread_mutex_init(&consumer->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&consumer->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return consumer;
}

/* It is out of the connection. */
static void consumer_destroy(struct fila_consumer *consumer)
{
    consumer_drop(&consumer->waiting);
    fila_error_clear(&consumer->end);
    pthread_cond_destroy(&consumer->changed);
    pthread_mutex_destroy(&consumer->lock);
    call_client_release(consumer->client);
    free(consumer);
}

static int consumer_accepted(struct wire_reader *reader, void *output, size_t count,
                             struct fila_error *error)
{
    struct fila_consumer *consumer = output;
    struct str id;
    (void)count;
    (void)error;
    if (!framed_client_consume_ok(reader, &id))
        return -1;
    if (id.size >= CONSUMER_ID_SIZE) {
        wire_fail(reader, "consumer id", "too long");
        return -1;
    }
    memcpy(consumer->id, id.data, id.size);
    consumer->id[id.size] = '\0';
    return 0;
}

/* Tells the server; there is no answer to it. */
static void consumer_send_cancel(struct fila_consumer *consumer)
{
    struct buf frame;
    buf_init(&frame, 0);
    if (frame_empty(&frame, OPCODE_CANCEL_CONSUME, consumer->sink.id) == 0)
        transport_send(consumer->client->transport, &frame);
    buf_free(&frame);
}

struct fila_consumer *fila_consume(struct fila *client, const char *queue, struct fila_error *error)
{
    return fila_consume_limited(client, queue, 0, error);
}

struct fila_consumer *fila_consume_limited(struct fila *client, const char *queue, uint32_t limit,
                                           struct fila_error *error)
{
    struct str name = str_from_c(queue);
    struct fila_consumer *consumer;
    struct call call;
    struct buf frame;
    int result = -1;

    if (call_allowed(client, error) != 0 || call_check_text(name, "queue name", error) != 0)
        return NULL;
    consumer = consumer_create(client, error);
    if (!consumer)
        return NULL;

    buf_init(&frame, 0);
    uint64_t deadline_ms = call_deadline(client);
    if (framed_client_consume(&frame, 0, name, limit) != 0) {
        error_set(error, FILA_NO_MEMORY, "no memory for the request");
    } else if (call_start(&call, client, OPCODE_CONSUME, &frame, &consumer->sink, consumer_accepted,
                          consumer, 0, error) == 0) {
        struct fila_error reason = FILA_ERROR_INIT;
        result = call_wait(&call, deadline_ms, &reason);
        if (result != 0) {
            transport_detach(client->transport, &consumer->sink);
            /* The server may have accepted it all the same. */
            if (reason.code == FILA_TIMEOUT || reason.code == FILA_PROTOCOL)
                consumer_send_cancel(consumer);
            error_copy(error, &reason);
        }
        fila_error_clear(&reason);
    }
    buf_free(&frame);
    if (result == 0)
        return consumer;
    consumer_destroy(consumer);
    return NULL;
}

/* Waits until there is something to receive or the end. Under the consumer's lock. */
static void consumer_wait(struct fila_consumer *consumer, int64_t timeout_ms)
{
    struct timespec deadline = {0};
    int waited = 0;
    if (timeout_ms > 0) {
        uint64_t until = time_monotonic_ms() + (uint64_t)timeout_ms;
        deadline.tv_sec = (time_t)(until / 1000);
        deadline.tv_nsec = (long)(until % 1000 * 1000000);
    }
    while (list_empty(&consumer->waiting) && !consumer->ended && timeout_ms != 0 &&
           waited != ETIMEDOUT) {
        if (timeout_ms < 0)
            pthread_cond_wait(&consumer->changed, &consumer->lock);
        else
            waited = pthread_cond_timedwait(&consumer->changed, &consumer->lock, &deadline);
    }
}

int fila_receive_many(struct fila_consumer *consumer, int64_t timeout_ms,
                      struct fila_delivery **deliveries, size_t max, struct fila_error *error)
{
    int count = 0;
    if (max == 0)
        return 0;
    if (max > INT32_MAX)
        max = INT32_MAX;
    if (timeout_ms != 0 && call_allowed(consumer->client, error) != 0)
        return -1;
    pthread_mutex_lock(&consumer->lock);
    consumer_wait(consumer, timeout_ms);
    while ((size_t)count < max && !list_empty(&consumer->waiting)) {
        struct list *entry = consumer->waiting.next;
        list_remove(entry);
        deliveries[count++] = &CONTAINER_OF(entry, struct received, list)->message;
    }
    if (count == 0 && consumer->ended) {
        error_copy(error, &consumer->end);
        count = -1;
    }
    pthread_mutex_unlock(&consumer->lock);
    return count;
}

int fila_receive(struct fila_consumer *consumer, int64_t timeout_ms,
                 struct fila_delivery **delivery, struct fila_error *error)
{
    return fila_receive_many(consumer, timeout_ms, delivery, 1, error);
}

const char *fila_consumer_id(const struct fila_consumer *consumer)
{
    return consumer->id;
}

void fila_consumer_cancel(struct fila_consumer *consumer)
{
    struct fila_error error = FILA_ERROR_INIT;

    transport_detach(consumer->client->transport, &consumer->sink);
    pthread_mutex_lock(&consumer->lock);
    bool ended = consumer->ended;
    pthread_mutex_unlock(&consumer->lock);
    if (ended)
        return;
    consumer_send_cancel(consumer);
    error_set(&error, FILA_CLOSED, "consumer cancelled");
    consumer_finish(consumer, &error);
    fila_error_clear(&error);
}

void fila_consumer_free(struct fila_consumer *consumer)
{
    if (!consumer)
        return;
    fila_consumer_cancel(consumer);
    consumer_destroy(consumer);
}
