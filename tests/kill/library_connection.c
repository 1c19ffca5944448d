/* A connection through libfila. Its answers come on the reader thread and wait in a list;
 * deliveries are received from its consumers. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <fila.h>

#include "core/list.h"
#include "kill/connection.h"
#include "kill/journal.h"
#include "os/time.h"

#define CONSUMERS 8
#define RECEIVED 50
#define SLICE_MS 4 /* how long one consumer is asked while an answer may come */

struct answer {
    struct list link;
    struct library_connection *owner;
    enum driver_event_kind kind;
    uint32_t request;
    uint64_t time_ns;
    uint8_t code;
    char text[128];
    size_t count;
    struct driver_result results[];
};

struct library_connection {
    struct driver_connection base;
    struct fila *client;
    struct fila_consumer *consumers[CONSUMERS];
    uint32_t consumer_requests[CONSUMERS];
    unsigned consumer_count, turn;
    uint32_t next_request;
    pthread_mutex_t mutex; /* of the answers */
    pthread_cond_t arrived;
    struct list answers;
    struct answer *shown; /* what the last event points to, as the next two */
    struct fila_delivery *received[RECEIVED];
    struct driver_delivery deliveries[RECEIVED];
    size_t received_count;
    char text[FILA_TEXT_SIZE];
};

static struct library_connection *library_of(struct driver_connection *connection)
{
    return (struct library_connection *)connection;
}

static void forget_shown(struct library_connection *library)
{
    free(library->shown);
    library->shown = NULL;
    for (size_t i = 0; i < library->received_count; i++)
        fila_delivery_free(library->received[i]);
    library->received_count = 0;
}

static void library_close(struct driver_connection *connection, bool politely)
{
    (void)politely; /* the library always says goodbye */
    struct library_connection *library = library_of(connection);
    for (unsigned i = 0; i < library->consumer_count; i++)
        fila_consumer_free(library->consumers[i]);
    fila_close(library->client);
    forget_shown(library);
    LIST_EACH_SAFE(&library->answers, entry)
    {
        list_remove(entry);
        free(CONTAINER_OF(entry, struct answer, link));
    }
    pthread_cond_destroy(&library->arrived);
    pthread_mutex_destroy(&library->mutex);
    free(library);
}

static struct answer *answer_create(struct library_connection *library, enum driver_event_kind kind,
                                    size_t count, uint32_t *request)
{
    struct answer *answer = calloc(1, sizeof *answer + count * sizeof answer->results[0]);
    if (!answer)
        abort();
    list_init(&answer->link);
    answer->owner = library;
    answer->kind = kind;
    answer->request = *request = ++library->next_request;
    answer->count = count;
    return answer;
}

static void answer_post(struct answer *answer)
{
    struct library_connection *library = answer->owner;
    answer->time_ns = time_monotonic_ns();
    pthread_mutex_lock(&library->mutex);
    list_append(&library->answers, &answer->link);
    pthread_cond_signal(&library->arrived);
    pthread_mutex_unlock(&library->mutex);
}

static void answer_fail(struct answer *answer, const struct fila_error *error)
{
    answer->kind = DRIVER_REFUSED;
    answer->code =
        error && error->server_code >= 0 ? (uint8_t)error->server_code : JOURNAL_NO_ANSWER;
    if (error)
        memcpy(answer->text, error->text, sizeof answer->text - 1);
}

static void on_enqueued(void *context, const struct fila_enqueue_result *results, size_t count,
                        const struct fila_error *error)
{
    struct answer *answer = context;
    if (!results || count != answer->count) {
        answer_fail(answer, error);
    } else {
        for (size_t i = 0; i < count; i++) {
            struct driver_result *result = &answer->results[i];
            result->code = results[i].code == FILA_OK    ? DRIVER_OK
                           : results[i].server_code >= 0 ? (uint8_t)results[i].server_code
                                                         : JOURNAL_NO_ANSWER;
            result->has_id =
                results[i].code == FILA_OK && uuid_parse(str_from_c(results[i].id), &result->id);
        }
    }
    answer_post(answer);
}

static uint8_t code_on_wire(enum fila_code code)
{
    switch (code) {
    case FILA_OK:
        return DRIVER_OK;
    case FILA_MESSAGE_NOT_FOUND:
        return DRIVER_MESSAGE_NOT_FOUND;
    case FILA_STORAGE:
        return DRIVER_STORAGE_ERROR;
    case FILA_OVERLOADED:
        return DRIVER_CHANNEL_FULL;
    default:
        return JOURNAL_NO_ANSWER;
    }
}

static void on_settled(void *context, const enum fila_code *codes, size_t count,
                       const struct fila_error *error)
{
    struct answer *answer = context;
    if (!codes || count != answer->count)
        answer_fail(answer, error);
    else
        for (size_t i = 0; i < count; i++)
            answer->results[i].code = code_on_wire(codes[i]);
    answer_post(answer);
}

static struct fila_slice slice_of(struct str s)
{
    return (struct fila_slice){s.data, s.size};
}

static int library_enqueue(struct driver_connection *connection,
                           const struct driver_outgoing *outgoing, size_t count, uint32_t *request)
{
    struct library_connection *library = library_of(connection);
    struct fila_message *messages = calloc(count, sizeof *messages);
    struct fila_header *headers = calloc(count * 2, sizeof *headers);
    if (!messages || !headers)
        abort();
    for (size_t i = 0; i < count; i++) {
        headers[2 * i] = (struct fila_header){fila_text("tenant"), fila_text(outgoing[i].key)};
        headers[2 * i + 1] = (struct fila_header){fila_text("mark"), fila_text(outgoing[i].mark)};
        messages[i] = (struct fila_message){.queue = fila_text(outgoing[i].queue),
                                            .headers = &headers[2 * i],
                                            .header_count = 2,
                                            .payload = slice_of(outgoing[i].payload)};
    }
    struct answer *answer = answer_create(library, DRIVER_ENQUEUED, count, request);
    int status =
        fila_enqueue_many_async(library->client, messages, count, on_enqueued, answer, NULL);
    if (status != 0)
        free(answer);
    free(messages);
    free(headers);
    return status;
}

static int library_consume(struct driver_connection *connection, const char *queue,
                           uint32_t *request)
{
    struct library_connection *library = library_of(connection);
    struct fila_error error = FILA_ERROR_INIT;
    if (library->consumer_count == CONSUMERS)
        return -1;
    struct fila_consumer *consumer = fila_consume(library->client, queue, &error);
    int status = consumer || error.server_code >= 0 ? 0 : -1;
    if (status == 0) {
        struct answer *answer = answer_create(library, DRIVER_CONSUMING, 0, request);
        if (!consumer)
            answer_fail(answer, &error);
        answer_post(answer);
    }
    if (consumer) {
        library->consumer_requests[library->consumer_count] = *request;
        library->consumers[library->consumer_count++] = consumer;
    }
    fila_error_clear(&error);
    return status;
}

static int library_settle(struct driver_connection *connection, bool nack,
                          const struct driver_handle *handles, size_t count, uint32_t *request)
{
    struct library_connection *library = library_of(connection);
    uint8_t(*ids)[UUID_TEXT_SIZE] = calloc(count, sizeof *ids);
    struct fila_ack *acks = calloc(count, sizeof *acks);
    struct fila_nack *nacks = calloc(count, sizeof *nacks);
    if (!ids || !acks || !nacks)
        abort();
    for (size_t i = 0; i < count; i++) {
        uuid_format(&handles[i].id, ids[i]);
        struct fila_slice id = {ids[i], UUID_TEXT_SIZE}, queue = fila_text(handles[i].queue);
        acks[i] = (struct fila_ack){queue, id};
        nacks[i] = (struct fila_nack){queue, id, fila_text("refused by the test")};
    }
    struct answer *answer =
        answer_create(library, nack ? DRIVER_NACKED : DRIVER_ACKED, count, request);
    int status = nack
                     ? fila_nack_many_async(library->client, nacks, count, on_settled, answer, NULL)
                     : fila_ack_many_async(library->client, acks, count, on_settled, answer, NULL);
    if (status != 0)
        free(answer);
    free(ids);
    free(acks);
    free(nacks);
    return status;
}

/* ---- events ---- */

static struct str str_from_slice(struct fila_slice slice)
{
    return str_of(slice.data, slice.size);
}

/* The oldest answer, waited for at most `timeout_ms`. */
static bool take_answer(struct library_connection *library, unsigned timeout_ms,
                        struct driver_event *event)
{
    uint64_t until = time_monotonic_ns() + timeout_ms * 1000000ull;
    struct timespec time = {(time_t)(until / 1000000000u), (long)(until % 1000000000u)};
    pthread_mutex_lock(&library->mutex);
    while (list_empty(&library->answers) && timeout_ms &&
           pthread_cond_timedwait(&library->arrived, &library->mutex, &time) == 0)
        ;
    struct answer *answer = NULL;
    if (!list_empty(&library->answers)) {
        answer = CONTAINER_OF(library->answers.next, struct answer, link);
        list_remove(&answer->link);
    }
    pthread_mutex_unlock(&library->mutex);
    if (!answer)
        return false;
    library->shown = answer;
    event->kind = answer->kind;
    event->request = answer->request;
    event->time_ns = answer->time_ns;
    event->code = answer->code;
    event->text = answer->text;
    event->results = answer->results;
    event->count = answer->count;
    return true;
}

static void show_received(struct library_connection *library, unsigned consumer, size_t count,
                          struct driver_event *event)
{
    library->received_count = count;
    for (size_t i = 0; i < count; i++) {
        const struct fila_delivery *from = library->received[i];
        struct driver_delivery *delivery = &library->deliveries[i];
        struct fila_slice value;
        *delivery = (struct driver_delivery){.queue = str_from_slice(from->queue),
                                             .fairness_key = str_from_slice(from->fairness_key),
                                             .payload = str_from_slice(from->payload),
                                             .attempt = from->attempt,
                                             .leased_ms = from->leased_ms};
        delivery->readable = uuid_parse(str_from_slice(from->id), &delivery->id);
        if (fila_delivery_header(from, "tenant", &value))
            delivery->key = str_from_slice(value);
        if (fila_delivery_header(from, "mark", &value))
            delivery->mark = str_from_slice(value);
    }
    event->kind = DRIVER_DELIVERY;
    event->request = library->consumer_requests[consumer];
    event->time_ns = time_monotonic_ns();
    event->deliveries = library->deliveries;
    event->count = count;
}

/* True when there is an event: messages, or the end of the consumer. */
static bool receive(struct library_connection *library, unsigned consumer, unsigned timeout_ms,
                    struct driver_event *event)
{
    struct fila_error error = FILA_ERROR_INIT;
    int got = fila_receive_many(library->consumers[consumer], timeout_ms, library->received,
                                RECEIVED, &error);
    if (got > 0) {
        show_received(library, consumer, (size_t)got, event);
    } else if (got < 0) {
        event->kind = error.server_code >= 0 ? DRIVER_REFUSED : DRIVER_CLOSED;
        event->code = error.server_code >= 0 ? (uint8_t)error.server_code : 0;
        event->request = library->consumer_requests[consumer];
        event->time_ns = time_monotonic_ns();
        memcpy(library->text, error.text, sizeof library->text);
        event->text = library->text;
    }
    fila_error_clear(&error);
    return got != 0;
}

static void library_next(struct driver_connection *connection, unsigned timeout_ms,
                         struct driver_event *event)
{
    struct library_connection *library = library_of(connection);
    uint64_t end_ns = time_monotonic_ns() + timeout_ms * 1000000ull;
    forget_shown(library);
    if (!library->consumer_count) {
        take_answer(library, timeout_ms, event);
        return;
    }
    do {
        if (take_answer(library, 0, event))
            return;
        for (unsigned i = 0; i < library->consumer_count; i++)
            if (receive(library, (library->turn + i) % library->consumer_count, 0, event))
                return;
        library->turn = (library->turn + 1) % library->consumer_count;
        if (timeout_ms && receive(library, library->turn, SLICE_MS, event))
            return;
    } while (time_monotonic_ns() < end_ns);
}

static int code_of(const struct fila_error *error)
{
    return error->server_code;
}

static int library_create_queue(struct driver_connection *connection, const char *name,
                                uint32_t visibility_ms)
{
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_queue_options options = {.visibility_timeout_ms = visibility_ms};
    int status = fila_queue_create(library_of(connection)->client, name, &options, &error);
    if (status != 0)
        status = code_of(&error);
    fila_error_clear(&error);
    return status;
}

static int library_stats(struct driver_connection *connection, const char *queue,
                         struct driver_stats *stats)
{
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_queue_stats *found =
        fila_queue_stats(library_of(connection)->client, queue, &error);
    int status = found ? 0 : code_of(&error);
    if (found)
        *stats = (struct driver_stats){found->depth, found->in_flight, found->consumers};
    fila_queue_stats_free(found);
    fila_error_clear(&error);
    return status;
}

static const struct connection_ops library_ops = {
    .close = library_close,
    .enqueue = library_enqueue,
    .consume = library_consume,
    .settle = library_settle,
    .next = library_next,
    .create_queue = library_create_queue,
    .stats = library_stats,
};

struct driver_connection *library_connect(const char *address, struct err *err)
{
    struct fila_options options;
    struct fila_error error = FILA_ERROR_INIT;
    fila_options_init(&options);
    options.address = address;
    struct fila *client = fila_connect(&options, &error);
    if (!client) {
        err_set(err, 0, "libfila: %s", error.text);
        fila_error_clear(&error);
        return NULL;
    }
    struct library_connection *library = calloc(1, sizeof *library);
    pthread_condattr_t attributes;
    if (!library || pthread_mutex_init(&library->mutex, NULL) != 0 ||
        pthread_condattr_init(&attributes) != 0 ||
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) != 0 ||
        pthread_cond_init(&library->arrived, &attributes) != 0)
        abort();
    pthread_condattr_destroy(&attributes);
    library->base.ops = &library_ops;
    library->client = client;
    list_init(&library->answers);
    return &library->base;
}
