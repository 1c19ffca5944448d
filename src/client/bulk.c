#include "client/bulk.h"

#include <stdlib.h>

#include "client/error.h"
#include "fibp/frame.h"
#include "fibp/framed_client.h"

#define BULK_FIXED 4u /* bytes of a body besides the items */

/* The results of one frame, as its answer is decoded. */
struct bulk_results {
    const struct bulk_operation *operation;
    void *results; /* of this frame's first item */
};

static void *bulk_at(const struct bulk_operation *operation, void *results, size_t index)
{
    return (char *)results + index * operation->result_size;
}

static int bulk_decode(struct wire_reader *reader, void *output, size_t count,
                       struct fila_error *error)
{
    const struct bulk_results *into = output;
    uint32_t answered;

    if (!wire_count32(reader, "result count", 1, &answered))
        return -1;
    if (answered != count)
        return error_set(error, FILA_PROTOCOL, "the server answered %u results for %zu items",
                         (unsigned)answered, count);
    for (size_t i = 0; i < count; i++)
        if (!into->operation->result(reader, bulk_at(into->operation, into->results, i)))
            return -1;
    return 0;
}

static void bulk_fail(const struct bulk_operation *operation, void *results, size_t from, size_t to,
                      enum fila_code code)
{
    for (size_t i = from; i < to; i++)
        operation->fail(bulk_at(operation, results, i), code);
}

/* Checks every item before anything is sent. */
static int bulk_check(struct fila *client, const struct bulk_operation *operation,
                      const void *items, size_t count, struct fila_error *error)
{
    size_t limit = transport_max_message_size(client->transport);
    for (size_t i = 0; i < count; i++) {
        if (operation->check(items, i, error) != 0)
            return error_prefix(error, "%s %zu", operation->noun, i);
        if (BULK_FIXED + operation->size(items, i) > limit)
            return error_set(error, FILA_TOO_LARGE,
                             "%s %zu is longer than max_message_size, %zu bytes", operation->noun,
                             i, limit);
    }
    return 0;
}

/* How many items from `first` on go into a body of `limit` bytes: at least one. */
static size_t bulk_extent(const struct bulk_operation *operation, const void *items, size_t first,
                          size_t count, size_t items_max, size_t limit)
{
    size_t size = BULK_FIXED, taken = 0;
    while (first + taken < count && taken < items_max) {
        size += operation->size(items, first + taken);
        if (size > limit && taken > 0)
            break;
        taken++;
    }
    return taken;
}

static int bulk_encode(struct buf *frame, const struct bulk_operation *operation, const void *items,
                       size_t first, size_t count, struct fila_error *error)
{
    buf_clear(frame);
    size_t start = framed_client_batch_begin(frame, operation->opcode, 0, (uint32_t)count);
    for (size_t i = 0; i < count; i++)
        operation->add(frame, items, first + i);
    if (frame_end(frame, start, UINT32_MAX) != 0) /* the transport splits it */
        return error_set(error, FILA_NO_MEMORY, "no memory for the request");
    return 0;
}

/* One frame of a blocking request. */
struct bulk_part {
    struct call call;
    struct bulk_results results;
    size_t first, count;
};

/* The next part fills a frame; an item that is larger has several for itself. */
static size_t bulk_part_extent(struct fila *client, const struct bulk_operation *operation,
                               const void *items, size_t first, size_t count)
{
    return bulk_extent(operation, items, first, count, BULK_ITEMS_MAX,
                       transport_peer_max_frame_size(client->transport) - FRAME_LENGTH_MIN);
}

static size_t bulk_part_count(struct fila *client, const struct bulk_operation *operation,
                              const void *items, size_t count)
{
    size_t parts = 0;
    for (size_t first = 0; first < count; parts++)
        first += bulk_part_extent(client, operation, items, first, count);
    return parts;
}

int bulk_run(struct fila *client, const struct bulk_operation *operation, const void *items,
             size_t count, void *results, struct fila_error *error)
{
    struct fila_error failure = FILA_ERROR_INIT; /* the first one */
    struct bulk_part *parts = NULL;
    size_t started = 0, sent = 0; /* parts, items */
    struct buf frame;

    if (count == 0)
        return 0;
    buf_init(&frame, 0);
    if (call_allowed(client, &failure) != 0 ||
        bulk_check(client, operation, items, count, &failure) != 0)
        goto out;
    size_t part_count = bulk_part_count(client, operation, items, count);
    parts = calloc(part_count, sizeof(*parts));
    if (!parts) {
        error_set(&failure, FILA_NO_MEMORY, "no memory for the request");
        goto out;
    }

    uint64_t deadline_ms = call_deadline(client);
    for (; started < part_count; started++) {
        struct bulk_part *part = &parts[started];
        part->first = sent;
        part->count = bulk_part_extent(client, operation, items, sent, count);
        part->results = (struct bulk_results){operation, bulk_at(operation, results, sent)};
        if (bulk_encode(&frame, operation, items, sent, part->count, &failure) != 0 ||
            call_start(&part->call, client, (uint8_t)operation->opcode, &frame, NULL, bulk_decode,
                       &part->results, part->count, &failure) != 0)
            break;
        sent += part->count;
    }
    for (size_t i = 0; i < started; i++) {
        struct fila_error reason = FILA_ERROR_INIT;
        if (call_wait(&parts[i].call, deadline_ms, &reason) != 0) {
            bulk_fail(operation, results, parts[i].first, parts[i].first + parts[i].count,
                      reason.code);
            if (failure.code == FILA_OK)
                error_copy(&failure, &reason);
        }
        fila_error_clear(&reason);
    }
out:
    if (failure.code != FILA_OK)
        bulk_fail(operation, results, sent, count, failure.code);
    if (failure.code != FILA_OK)
        error_copy(error, &failure);
    int result = failure.code == FILA_OK ? 0 : -1;
    fila_error_clear(&failure);
    free(parts);
    buf_free(&frame);
    return result;
}

/* An asynchronous request; freed when it is complete. */
struct bulk_async {
    struct transport_request request;
    const struct bulk_operation *operation;
    void (*callback)(void);
    void *context;
    size_t count;
    _Alignas(max_align_t) char results[];
};

static void bulk_complete(struct transport_request *request, const struct frame *frame,
                          const struct fila_error *given)
{
    struct bulk_async *async = CONTAINER_OF(request, struct bulk_async, request);
    struct bulk_results into = {async->operation, async->results};
    struct fila_error error = FILA_ERROR_INIT;
    struct wire_reader reader;

    if (given) {
        error_copy(&error, given);
    } else if (frame->opcode != opcode_find((uint8_t)async->operation->opcode)->result) {
        error_set(&error, FILA_PROTOCOL, "the server answered with %s", opcode_name(frame->opcode));
    } else {
        wire_reader_init(&reader, frame->body);
        if (bulk_decode(&reader, &into, async->count, &error) != 0 && reader.reason)
            error_set_reader(&error, opcode_name(frame->opcode), &reader);
    }
    bool ok = error.code == FILA_OK;
    async->operation->report(async->callback, async->context, ok ? async->results : NULL,
                             ok ? async->count : 0, ok ? NULL : &error);
    fila_error_clear(&error);
    free(async);
}

int bulk_submit(struct fila *client, const struct bulk_operation *operation, const void *items,
                size_t count, void (*callback)(void), void *context, struct fila_error *error)
{
    struct bulk_async *async = NULL;
    struct buf frame;

    buf_init(&frame, 0);
    if (!callback || count == 0) {
        error_set(error, FILA_USAGE, count ? "no callback" : "nothing to send");
        goto out;
    }
    if (bulk_check(client, operation, items, count, error) != 0)
        goto out;
    size_t limit = transport_max_message_size(client->transport);
    if (bulk_extent(operation, items, 0, count, WIRE_COUNT_MAX, limit) < count) {
        error_set(error, FILA_TOO_LARGE, "%zu items are longer than max_message_size, %zu bytes",
                  count, limit);
        goto out;
    }
    if (bulk_encode(&frame, operation, items, 0, count, error) != 0)
        goto out;
    async = calloc(1, sizeof(*async) + count * operation->result_size);
    if (!async) {
        error_set(error, FILA_NO_MEMORY, "no memory for the request");
        goto out;
    }
    async->request.complete = bulk_complete;
    async->operation = operation;
    async->callback = callback;
    async->context = context;
    async->count = count;
    if (transport_submit(client->transport, &frame, &async->request, NULL,
                         client->request_timeout_ms, error) != 0) {
        free(async);
        async = NULL;
    }
out:
    buf_free(&frame);
    /* Complete and freed it may be by now: only whether there was one is asked. */
    return async ? 0 : -1;
}
