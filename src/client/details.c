/* What is counted: QueueDetails. */
#include <stdlib.h>
#include <string.h>

#include "client/call.h"
#include "client/error.h"
#include "fibp/framed_details.h"
#include "fibp/framed_client.h"

static int details_no_memory(struct fila_error *error)
{
    return error_set(error, FILA_NO_MEMORY, "no memory for the answer");
}

/* Room for `count` entries, which the bytes of the answer are enough for. */
static void *details_room(size_t count, size_t size, struct fila_error *error)
{
    void *room = calloc(count ? count : 1u, size);
    if (!room)
        details_no_memory(error);
    return room;
}

static char *details_text(struct str text, struct fila_error *error)
{
    char *copy = str_dup_c(text);
    if (!copy)
        details_no_memory(error);
    return copy;
}

static int details_decode_numbers(struct wire_reader *reader, bool with_values,
                                  struct fila_number **numbers, size_t *filled,
                                  struct fila_error *error)
{
    struct framed_number from = {.value = 0};
    uint16_t count;
    if (!framed_client_details_count(reader, &count))
        return -1;
    *numbers = details_room(count, sizeof(**numbers), error);
    if (!*numbers)
        return -1;
    for (uint16_t i = 0; i < count; i++) {
        if (!(with_values ? framed_client_details_number(reader, &from)
                          : framed_client_details_name(reader, &from)))
            return -1;
        struct fila_number *number = &(*numbers)[i];
        number->name = details_text(from.name, error);
        if (!number->name)
            return -1;
        (*filled)++;
        number->value = from.value;
        number->is_counter = from.kind == DETAIL_COUNTER;
    }
    return 0;
}

static int details_decode_histogram(struct wire_reader *reader, struct fila_histogram *histogram,
                                    struct fila_error *error)
{
    struct framed_bucket from;
    uint16_t count;
    if (!framed_client_details_buckets(reader, &count))
        return -1;
    histogram->buckets = details_room(count, sizeof(*histogram->buckets), error);
    if (!histogram->buckets)
        return -1;
    for (; histogram->count < count; histogram->count++) {
        if (!framed_client_details_bucket(reader, &from))
            return -1;
        histogram->buckets[histogram->count] =
            (struct fila_bucket){from.from, from.below, from.count};
    }
    return 0;
}

static int details_decode_queue(struct wire_reader *reader, size_t fields,
                                struct fila_queue_row *row, struct fila_error *error)
{
    struct str name;
    if (!framed_client_details_queue(reader, &name))
        return -1;
    row->name = details_text(name, error);
    row->values = details_room(fields, sizeof(*row->values), error);
    if (!row->name || !row->values)
        return -1;
    for (size_t i = 0; i < fields; i++)
        if (!framed_client_details_value(reader, &row->values[i]))
            return -1;
    return details_decode_histogram(reader, &row->time_in_queue, error);
}

static int details_decode_limits(struct wire_reader *reader, struct fila_queue_details *details,
                                 struct fila_error *error)
{
    struct framed_limit from;
    uint16_t count;
    if (!framed_client_details_limits(reader, &count))
        return -1;
    details->limits = details_room(count, sizeof(*details->limits), error);
    if (!details->limits)
        return -1;
    for (uint16_t i = 0; i < count; i++) {
        if (!framed_client_details_limit(reader, &from))
            return -1;
        struct fila_limit *limit = &details->limits[i];
        limit->key = details_text(from.key, error);
        if (!limit->key)
            return -1;
        details->limit_count++;
        limit->limit = from.most;
        limit->in_flight = from.in_flight;
        limit->waiting = from.waiting;
    }
    return 0;
}

static int details_decode(struct wire_reader *reader, void *output, size_t unused,
                          struct fila_error *error)
{
    struct fila_queue_details *details = output;
    uint16_t count;
    (void)unused;
    if (call_read_code(reader, error) != 0)
        return -1;
    if (details_decode_numbers(reader, true, &details->broker, &details->broker_count, error) !=
            0 ||
        details_decode_histogram(reader, &details->commits, error) != 0 ||
        details_decode_numbers(reader, false, &details->fields, &details->field_count, error) !=
            0 ||
        !framed_client_details_queues(reader, details->field_count, &details->more, &count))
        return -1;
    details->queues = details_room(count, sizeof(*details->queues), error);
    if (!details->queues)
        return -1;
    for (uint16_t i = 0; i < count; i++) {
        details->queue_count++; /* what it holds so far is freed with it */
        if (details_decode_queue(reader, details->field_count, &details->queues[i], error) != 0)
            return -1;
    }
    return details_decode_limits(reader, details, error);
}

struct fila_queue_details *fila_queue_details(struct fila *client,
                                              const struct fila_details_options *options,
                                              struct fila_error *error)
{
    struct fila_details_options all = {NULL, NULL, 0, false};
    const struct fila_details_options *given = options ? options : &all;
    struct framed_details_request request = {
        .queue = str_from_c(given->queue),
        .after = str_from_c(given->after),
        .limit = (uint16_t)(given->page_size < UINT16_MAX ? given->page_size : UINT16_MAX),
        .histograms = given->histograms,
    };
    struct fila_queue_details *details;
    struct buf frame;

    if (call_check_text(request.queue, "queue name", error) != 0 ||
        call_check_text(request.after, "queue name", error) != 0)
        return NULL;
    if (given->queue && !request.queue.size) { /* on the wire that would mean all */
        error_set(error, FILA_QUEUE_NOT_FOUND, "queue not found");
        return NULL;
    }
    details = details_room(1, sizeof(*details), error);
    if (!details)
        return NULL;
    buf_init(&frame, 0);
    int encoded = framed_client_details(&frame, 0, &request);
    if (call_run(client, OPCODE_QUEUE_DETAILS, &frame, encoded, details_decode, details, error) ==
        0)
        return details;
    fila_queue_details_free(details);
    return NULL;
}

static void details_free_numbers(struct fila_number *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(numbers[i].name);
    free(numbers);
}

void fila_queue_details_free(struct fila_queue_details *details)
{
    if (!details)
        return;
    details_free_numbers(details->broker, details->broker_count);
    details_free_numbers(details->fields, details->field_count);
    free(details->commits.buckets);
    for (size_t i = 0; i < details->queue_count; i++) {
        free(details->queues[i].name);
        free(details->queues[i].values);
        free(details->queues[i].time_in_queue.buckets);
    }
    free(details->queues);
    for (size_t i = 0; i < details->limit_count; i++)
        free(details->limits[i].key);
    free(details->limits);
    free(details);
}

size_t fila_queue_details_field(const struct fila_queue_details *details, const char *name)
{
    for (size_t i = 0; i < details->field_count; i++)
        if (strcmp(details->fields[i].name, name) == 0)
            return i;
    return SIZE_MAX;
}

uint64_t fila_queue_details_broker(const struct fila_queue_details *details, const char *name)
{
    for (size_t i = 0; i < details->broker_count; i++)
        if (strcmp(details->broker[i].name, name) == 0)
            return details->broker[i].value;
    return 0;
}

uint64_t fila_histogram_quantile(const struct fila_histogram *histogram, unsigned permille)
{
    uint64_t total = 0, seen = 0;
    for (size_t i = 0; i < histogram->count; i++)
        total += histogram->buckets[i].count;
    /* Rounded up, so that of one value every quantile is that value. */
    uint64_t rank = total / 1000 * permille + (total % 1000 * permille + 999) / 1000;
    for (size_t i = 0; i < histogram->count; i++) {
        const struct fila_bucket *bucket = &histogram->buckets[i];
        seen += bucket->count;
        if (seen >= rank && seen > 0)
            return bucket->from + (bucket->below - 1 - bucket->from) / 2;
    }
    return 0;
}
