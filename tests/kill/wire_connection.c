#include <stdlib.h>
#include <string.h>

#include "kill/connection.h"
#include "process/support/peer.h"

struct wire_connection {
    struct driver_connection base;
    struct peer *peer;
    struct peer_frame *shown; /* what the last event points to */
    struct driver_result *results;
    struct driver_delivery *deliveries;
    size_t result_room, delivery_room;
    struct err err;
    char text[256];
};

static struct wire_connection *wire_of(struct driver_connection *connection)
{
    return (struct wire_connection *)connection;
}

static void wire_close(struct driver_connection *connection, bool politely)
{
    struct wire_connection *wire = wire_of(connection);
    peer_close(wire->peer, politely);
    free(wire->shown);
    free(wire->results);
    free(wire->deliveries);
    free(wire);
}

static void message_add(struct buf *buf, const struct driver_outgoing *message)
{
    struct wire_pair headers[2] = {{STR("tenant"), str_from_c(message->key)},
                                   {STR("mark"), str_from_c(message->mark)}};
    struct framed_client_message item = {.queue = str_from_c(message->queue),
                                         .headers = headers,
                                         .header_count = 2,
                                         .payload = message->payload};
    framed_client_enqueue_add(buf, &item);
}

static int wire_send(struct wire_connection *wire, struct buf *buf, size_t start)
{
    int status = frame_end(buf, start, FRAME_LENGTH_MAX);
    if (status == 0)
        status = peer_send(wire->peer, buf_str(buf), &wire->err);
    buf_free(buf);
    return status;
}

static int wire_enqueue(struct driver_connection *connection,
                        const struct driver_outgoing *messages, size_t count, uint32_t *request)
{
    struct wire_connection *wire = wire_of(connection);
    struct buf buf;
    buf_init(&buf, 0);
    *request = peer_next_request(wire->peer);
    size_t start = framed_client_batch_begin(&buf, OPCODE_ENQUEUE, *request, (uint32_t)count);
    for (size_t i = 0; i < count; i++)
        message_add(&buf, &messages[i]);
    return wire_send(wire, &buf, start);
}

static int wire_consume(struct driver_connection *connection, const char *queue, uint32_t *request)
{
    struct wire_connection *wire = wire_of(connection);
    struct buf buf;
    buf_init(&buf, 0);
    *request = peer_next_request(wire->peer);
    int status = framed_client_text(&buf, OPCODE_CONSUME, *request, str_from_c(queue));
    if (status == 0)
        status = peer_send(wire->peer, buf_str(&buf), &wire->err);
    buf_free(&buf);
    return status;
}

static int wire_settle(struct driver_connection *connection, bool nack,
                       const struct driver_handle *handles, size_t count, uint32_t *request)
{
    struct wire_connection *wire = wire_of(connection);
    struct buf buf;
    buf_init(&buf, 0);
    *request = peer_next_request(wire->peer);
    size_t start =
        framed_client_batch_begin(&buf, nack ? OPCODE_NACK : OPCODE_ACK, *request, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        uint8_t id[UUID_TEXT_SIZE];
        uuid_format(&handles[i].id, id);
        struct str text = str_of(id, sizeof id), queue = str_from_c(handles[i].queue);
        if (nack)
            framed_client_nack_add(&buf, queue, text, STR("refused by the test"));
        else
            framed_client_ack_add(&buf, queue, text);
    }
    return wire_send(wire, &buf, start);
}

/* ---- events ---- */

static void results_reserve(struct wire_connection *wire, size_t count)
{
    if (count <= wire->result_room)
        return;
    wire->results = realloc(wire->results, count * sizeof *wire->results);
    if (!wire->results)
        abort();
    wire->result_room = count;
}

static bool read_enqueued(struct wire_connection *wire, struct wire_reader *reader,
                          struct driver_event *event)
{
    uint32_t count;
    if (!framed_client_enqueue_result_begin(reader, &count))
        return false;
    results_reserve(wire, count);
    for (uint32_t i = 0; i < count; i++) {
        struct framed_client_result item;
        struct driver_result *result = &wire->results[i];
        if (!framed_client_enqueue_result_next(reader, &item))
            return false;
        result->code = item.code;
        result->has_id = item.code == DRIVER_OK && uuid_parse(item.message_id, &result->id);
    }
    event->kind = DRIVER_ENQUEUED;
    event->results = wire->results;
    event->count = count;
    return true;
}

static bool read_settled(struct wire_connection *wire, struct wire_reader *reader,
                         struct driver_event *event)
{
    uint32_t count;
    if (!framed_client_ack_result_begin(reader, &count))
        return false;
    results_reserve(wire, count);
    for (uint32_t i = 0; i < count; i++) {
        wire->results[i].has_id = false;
        if (!framed_client_ack_result_next(reader, &wire->results[i].code))
            return false;
    }
    event->kind = wire->shown->opcode == OPCODE_ACK_RESULT ? DRIVER_ACKED : DRIVER_NACKED;
    event->results = wire->results;
    event->count = count;
    return true;
}

static void delivery_from(const struct framed_client_delivery *item,
                          struct driver_delivery *delivery)
{
    *delivery = (struct driver_delivery){.queue = item->queue,
                                         .fairness_key = item->fairness_key,
                                         .payload = item->payload,
                                         .attempt = item->attempt,
                                         .leased_ms = item->leased_ms};
    delivery->readable = uuid_parse(item->message_id, &delivery->id);
    if (!framed_headers_find(item->headers, STR("tenant"), &delivery->key))
        delivery->key = (struct str){NULL, 0};
    if (!framed_headers_find(item->headers, STR("mark"), &delivery->mark))
        delivery->mark = (struct str){NULL, 0};
}

static bool read_delivery(struct wire_connection *wire, struct wire_reader *reader,
                          struct driver_event *event)
{
    uint32_t count;
    if (!framed_client_delivery_begin(reader, &count))
        return false;
    if (count > wire->delivery_room) {
        wire->deliveries = realloc(wire->deliveries, count * sizeof *wire->deliveries);
        if (!wire->deliveries)
            abort();
        wire->delivery_room = count;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct framed_client_delivery item;
        if (!framed_client_delivery_next(reader, &item))
            return false;
        delivery_from(&item, &wire->deliveries[i]);
    }
    event->kind = DRIVER_DELIVERY;
    event->deliveries = wire->deliveries;
    event->count = count;
    return true;
}

static bool read_error(struct wire_connection *wire, struct wire_reader *reader,
                       struct driver_event *event)
{
    struct framed_client_error error;
    if (!framed_client_error(reader, &error))
        return false;
    size_t size = error.text.size < sizeof wire->text - 1 ? error.text.size : sizeof wire->text - 1;
    if (size)
        memcpy(wire->text, error.text.data, size);
    wire->text[size] = '\0';
    event->kind = DRIVER_REFUSED;
    event->code = error.code;
    event->text = wire->text;
    return true;
}

static bool read_frame(struct wire_connection *wire, struct driver_event *event)
{
    struct wire_reader reader;
    wire_reader_init(&reader, str_of(wire->shown->body, wire->shown->size));
    switch (wire->shown->opcode) {
    case OPCODE_ENQUEUE_RESULT:
        return read_enqueued(wire, &reader, event);
    case OPCODE_ACK_RESULT:
    case OPCODE_NACK_RESULT:
        return read_settled(wire, &reader, event);
    case OPCODE_DELIVERY:
        return read_delivery(wire, &reader, event);
    case OPCODE_ERROR:
        return read_error(wire, &reader, event);
    case OPCODE_CONSUME_OK:
        event->kind = DRIVER_CONSUMING;
        return true;
    case OPCODE_DISCONNECT:
        event->kind = DRIVER_CLOSED;
        event->text = "the server said goodbye";
        return true;
    default:
        return false;
    }
}

static void wire_next(struct driver_connection *connection, unsigned timeout_ms,
                      struct driver_event *event)
{
    struct wire_connection *wire = wire_of(connection);
    free(wire->shown);
    wire->shown = NULL;
    int status = peer_read(wire->peer, timeout_ms, &wire->shown, &wire->err);
    if (status <= 0) {
        wire->shown = NULL;
        event->kind = status == 0 ? DRIVER_NOTHING : DRIVER_CLOSED;
        event->text = wire->err.text;
        return;
    }
    event->request = wire->shown->request_id;
    event->time_ns = wire->shown->time_ns;
    if (read_frame(wire, event))
        return;
    /* Shows up as an answer that nobody asked for. */
    event->kind = DRIVER_REFUSED;
    event->request = UINT32_MAX;
    event->text = "a frame that makes no sense";
}

static int wire_create_queue(struct driver_connection *connection, const char *name,
                             uint32_t visibility_ms)
{
    struct wire_connection *wire = wire_of(connection);
    return peer_create_queue(wire->peer, name, visibility_ms, &wire->err);
}

static int wire_stats(struct driver_connection *connection, const char *queue,
                      struct driver_stats *stats)
{
    struct wire_connection *wire = wire_of(connection);
    struct framed_stats framed;
    int code = peer_stats(wire->peer, queue, &framed, &wire->err);
    if (code == 0)
        *stats = (struct driver_stats){framed.depth, framed.in_flight, framed.active_consumers};
    return code;
}

static const struct connection_ops wire_ops = {
    .close = wire_close,
    .enqueue = wire_enqueue,
    .consume = wire_consume,
    .settle = wire_settle,
    .next = wire_next,
    .create_queue = wire_create_queue,
    .stats = wire_stats,
};

struct driver_connection *wire_connect(const char *address, struct err *err)
{
    struct peer *peer = peer_open(address, err);
    if (!peer)
        return NULL;
    struct wire_connection *wire = calloc(1, sizeof *wire);
    if (!wire)
        abort();
    wire->base.ops = &wire_ops;
    wire->peer = peer;
    return &wire->base;
}
