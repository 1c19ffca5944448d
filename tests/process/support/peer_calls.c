#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "process/support/peer.h"
#include "process/support/peer_internal.h"

#define RUN_FRAME 100u

/* Sends what is in peer->output. */
static int flush(struct peer *peer, struct err *err)
{
    if (peer->output.failed)
        return err_set(err, 0, "the request does not fit");
    int status = peer_send(peer, buf_str(&peer->output), err);
    buf_clear(&peer->output);
    return status;
}

static void reader_of(const struct peer_frame *frame, struct wire_reader *reader)
{
    wire_reader_init(reader, str_of(frame->body, frame->size));
}

/* Waits for the answer. Its frame, or NULL with *code: that of an Error frame or -1. */
static struct peer_frame *await(struct peer *peer, uint32_t request_id, uint8_t opcode, int *code,
                                struct err *err)
{
    struct peer_frame *frame = NULL;
    struct wire_reader reader;
    int status = peer_answer(peer, request_id, PEER_PATIENCE_MS, &frame, err);
    *code = -1;
    if (status == 0)
        err_set(err, 0, "no answer to %s", opcode_name(opcode));
    if (status <= 0)
        return NULL;
    if (frame->opcode == opcode)
        return frame;
    struct framed_client_error error;
    reader_of(frame, &reader);
    if (frame->opcode == OPCODE_ERROR && framed_client_error(&reader, &error)) {
        err_set(err, error.code, "%.*s", STR_PRINT(error.text));
        *code = error.code;
    } else {
        err_set(err, 0, "opcode %02x instead of %s", frame->opcode, opcode_name(opcode));
    }
    free(frame);
    return NULL;
}

struct peer *peer_open(const char *address, struct err *err)
{
    struct peer *peer = peer_connect(address, err);
    if (!peer)
        return NULL;
    struct peer_frame *frame = NULL;
    struct wire_reader reader;
    struct framed_client_handshake_ok answer;
    int code;
    if (framed_client_handshake(&peer->output, 0, FRAME_PROTOCOL_VERSION, NULL) != 0 ||
        flush(peer, err) != 0 || !(frame = await(peer, 0, OPCODE_HANDSHAKE_OK, &code, err)))
        goto failed;
    reader_of(frame, &reader);
    if (!framed_client_handshake_ok(&reader, &answer) || answer.version != 1) {
        err_set(err, 0, "HandshakeOk makes no sense");
        goto failed;
    }
    free(frame);
    return peer;
failed:
    free(frame);
    peer_close(peer, false);
    return NULL;
}

/* Sends peer->output and reads the code that the answer starts with. The frame goes to *kept when
 * the caller wants the rest. */
static int call(struct peer *peer, uint32_t request_id, uint8_t opcode, struct peer_frame **kept,
                struct err *err)
{
    int code;
    uint8_t first;
    struct wire_reader reader;
    if (flush(peer, err) != 0)
        return -1;
    struct peer_frame *frame = await(peer, request_id, opcode, &code, err);
    if (!frame)
        return code;
    reader_of(frame, &reader);
    code = framed_client_code(&reader, &first) ? first : -1;
    if (code < 0)
        err_set(err, 0, "%s makes no sense", opcode_name(opcode));
    if (kept && code == 0)
        *kept = frame;
    else
        free(frame);
    return code;
}

int peer_create_queue(struct peer *peer, const char *name, uint64_t visibility_ms, struct err *err)
{
    struct framed_create_queue request = {.name = str_from_c(name),
                                          .visibility_timeout_ms = visibility_ms};
    uint32_t id = peer_next_request(peer);
    if (framed_client_create_queue(&peer->output, id, &request) != 0)
        return err_set(err, 0, "CreateQueue does not fit");
    return call(peer, id, OPCODE_CREATE_QUEUE_RESULT, NULL, err);
}

int peer_delete_queue(struct peer *peer, const char *name, struct err *err)
{
    uint32_t id = peer_next_request(peer);
    if (framed_client_text(&peer->output, OPCODE_DELETE_QUEUE, id, str_from_c(name)) != 0)
        return err_set(err, 0, "DeleteQueue does not fit");
    return call(peer, id, OPCODE_DELETE_QUEUE_RESULT, NULL, err);
}

/* The rest of GetStatsResult, behind its code. */
static bool read_stats(struct wire_reader *reader, struct framed_stats *stats, uint8_t *counted)
{
    struct framed_throttle_stats throttle;
    struct framed_key_stats key;
    struct str said;
    uint16_t keys, throttles;
    if (!framed_client_stats_begin(reader, stats, &keys))
        return false;
    while (keys-- > 0)
        if (!framed_client_stats_key_next(reader, &key))
            return false;
    if (!framed_client_stats_throttles(reader, &throttles))
        return false;
    while (throttles-- > 0)
        if (!framed_client_stats_throttle_next(reader, &throttle))
            return false;
    framed_client_counted(reader, 1, &said);
    *counted = said.size ? said.data[0] : FRAMED_COUNTED_ALL;
    return true;
}

int peer_stats_counted(struct peer *peer, const char *name, struct framed_stats *stats,
                       uint8_t *counted, struct err *err)
{
    uint32_t id = peer_next_request(peer);
    struct peer_frame *frame = NULL;
    struct wire_reader reader;
    uint8_t code;
    if (framed_client_text(&peer->output, OPCODE_GET_STATS, id, str_from_c(name)) != 0)
        return err_set(err, 0, "GetStats does not fit");
    int status = call(peer, id, OPCODE_GET_STATS_RESULT, &frame, err);
    if (status != 0)
        return status;
    reader_of(frame, &reader);
    if (!framed_client_code(&reader, &code) || !read_stats(&reader, stats, counted))
        status = err_set(err, 0, "GetStatsResult makes no sense");
    free(frame);
    return status;
}

int peer_stats(struct peer *peer, const char *name, struct framed_stats *stats, struct err *err)
{
    uint8_t counted;
    return peer_stats_counted(peer, name, stats, &counted, err);
}

int peer_redrive_send(struct peer *peer, const char *name, uint64_t limit, uint32_t *request_id,
                      struct err *err)
{
    *request_id = peer_next_request(peer);
    if (framed_client_redrive(&peer->output, *request_id, str_from_c(name), limit) != 0)
        return err_set(err, 0, "Redrive does not fit");
    return flush(peer, err);
}

int peer_purge_send(struct peer *peer, const char *name, uint32_t *request_id, struct err *err)
{
    *request_id = peer_next_request(peer);
    if (framed_client_text(&peer->output, OPCODE_PURGE_QUEUE, *request_id, str_from_c(name)) != 0)
        return err_set(err, 0, "PurgeQueue does not fit");
    return flush(peer, err);
}

int peer_messages_answer(struct peer *peer, uint32_t request_id, enum opcode expected,
                         uint64_t *count, struct err *err)
{
    struct wire_reader reader;
    uint8_t status;
    int code;
    *count = 0;
    struct peer_frame *frame = await(peer, request_id, expected, &code, err);
    if (!frame)
        return code;
    reader_of(frame, &reader);
    if (framed_client_code(&reader, &status) && framed_client_redrive_result(&reader, count))
        code = status;
    else
        code = err_set(err, 0, "%s makes no sense", opcode_name(expected));
    free(frame);
    return code;
}

int peer_redrive(struct peer *peer, const char *name, uint64_t limit, uint64_t *moved,
                 struct err *err)
{
    uint32_t id;
    if (peer_redrive_send(peer, name, limit, &id, err) != 0)
        return -1;
    return peer_messages_answer(peer, id, OPCODE_REDRIVE_RESULT, moved, err);
}

int peer_purge(struct peer *peer, const char *name, uint64_t *purged, struct err *err)
{
    uint32_t id;
    if (peer_purge_send(peer, name, &id, err) != 0)
        return -1;
    return peer_messages_answer(peer, id, OPCODE_PURGE_QUEUE_RESULT, purged, err);
}

int peer_ping(struct peer *peer, struct err *err)
{
    int code;
    uint32_t id = peer_next_request(peer);
    if (frame_empty(&peer->output, OPCODE_PING, id) != 0 || flush(peer, err) != 0)
        return -1;
    struct peer_frame *frame = await(peer, id, OPCODE_PONG, &code, err);
    if (!frame)
        return code;
    free(frame);
    return 0;
}

static void add_message(struct peer *peer, const struct peer_message *message)
{
    struct wire_pair headers[2];
    size_t count = 0;
    if (message->tenant)
        headers[count++] = (struct wire_pair){STR("tenant"), str_from_c(message->tenant)};
    if (message->weight)
        headers[count++] = (struct wire_pair){STR("weight"), str_from_c(message->weight)};
    struct framed_client_message item = {.queue = str_from_c(message->queue),
                                         .headers = headers,
                                         .header_count = count,
                                         .payload = message->payload};
    framed_client_enqueue_add(&peer->output, &item);
}

int peer_enqueue_send(struct peer *peer, const struct peer_message *messages, size_t count,
                      uint32_t *request_id, struct err *err)
{
    *request_id = peer_next_request(peer);
    size_t start =
        framed_client_batch_begin(&peer->output, OPCODE_ENQUEUE, *request_id, (uint32_t)count);
    for (size_t i = 0; i < count; i++)
        add_message(peer, &messages[i]);
    if (frame_end(&peer->output, start, FRAME_LENGTH_MAX) != 0)
        return err_set(err, 0, "Enqueue does not fit");
    return flush(peer, err);
}

/* The results of an Enqueue; the first code that is not 0. */
static int await_enqueued(struct peer *peer, uint32_t request_id, size_t count, struct uuid *ids,
                          struct err *err)
{
    int code;
    uint32_t found;
    struct wire_reader reader;
    struct peer_frame *frame = await(peer, request_id, OPCODE_ENQUEUE_RESULT, &code, err);
    if (!frame)
        return code;
    reader_of(frame, &reader);
    int status = 0;
    if (!framed_client_enqueue_result_begin(&reader, &found) || found != count)
        status = err_set(err, 0, "EnqueueResult has the wrong count");
    for (uint32_t i = 0; i < found && status >= 0; i++) {
        struct framed_client_result result;
        struct uuid id;
        if (!framed_client_enqueue_result_next(&reader, &result) ||
            (result.code == 0 && !uuid_parse(result.message_id, &id))) {
            status = err_set(err, 0, "EnqueueResult makes no sense");
        } else if (result.code != 0) {
            if (status == 0) {
                status = result.code;
                err_set(err, status, "item %u: code %02x", i, result.code);
            }
        } else if (ids) {
            ids[i] = id;
        }
    }
    free(frame);
    return status;
}

int peer_enqueue(struct peer *peer, const char *queue, const char *payload, struct uuid *id,
                 struct err *err)
{
    uint32_t request;
    struct peer_message message = {.queue = queue, .payload = str_from_c(payload)};
    if (peer_enqueue_send(peer, &message, 1, &request, err) != 0)
        return -1;
    return await_enqueued(peer, request, 1, id, err);
}

int peer_result(struct peer *peer, uint32_t request, unsigned timeout_ms, struct uuid *id,
                struct err *err)
{
    struct framed_client_error error;
    struct framed_client_result result;
    struct peer_frame *frame = NULL;
    struct wire_reader reader;
    uint32_t count;
    int code = -1;
    if (peer_answer(peer, request, timeout_ms, &frame, err) != 1)
        return -1;
    wire_reader_init(&reader, str_of(frame->body, frame->size));
    if (frame->opcode == OPCODE_ERROR && framed_client_error(&reader, &error))
        code = error.code;
    else if (frame->opcode == OPCODE_ENQUEUE_RESULT &&
             framed_client_enqueue_result_begin(&reader, &count) && count == 1 &&
             framed_client_enqueue_result_next(&reader, &result)) {
        code = result.code;
        if (id && code == FIBP_OK)
            code = uuid_parse(result.message_id, id) ? code : -1;
    }
    free(frame);
    return code;
}

int peer_enqueue_run(struct peer *peer, const char *queue, const char *prefix, size_t count,
                     struct uuid *ids, struct err *err)
{
    struct peer_message messages[RUN_FRAME];
    char payloads[RUN_FRAME][64];
    for (size_t done = 0; done < count;) {
        size_t now = count - done < RUN_FRAME ? count - done : RUN_FRAME;
        uint32_t request;
        for (size_t i = 0; i < now; i++) {
            snprintf(payloads[i], sizeof payloads[i], "%s-%zu", prefix, done + i);
            messages[i] = (struct peer_message){.queue = queue, .payload = str_from_c(payloads[i])};
        }
        if (peer_enqueue_send(peer, messages, now, &request, err) != 0)
            return -1;
        int status = await_enqueued(peer, request, now, ids ? ids + done : NULL, err);
        if (status != 0)
            return status;
        done += now;
    }
    return 0;
}

int peer_consume(struct peer *peer, const char *queue, uint32_t *request_id, struct err *err)
{
    return peer_consume_limited(peer, queue, 0, request_id, err);
}

int peer_consume_limited(struct peer *peer, const char *queue, uint32_t limit, uint32_t *request_id,
                         struct err *err)
{
    int code;
    *request_id = peer_next_request(peer);
    if (framed_client_consume(&peer->output, *request_id, str_from_c(queue), limit) != 0 ||
        flush(peer, err) != 0)
        return -1;
    struct peer_frame *frame = await(peer, *request_id, OPCODE_CONSUME_OK, &code, err);
    if (!frame)
        return code;
    struct wire_reader reader;
    struct str consumer;
    reader_of(frame, &reader);
    bool good = framed_client_consume_ok(&reader, &consumer) && consumer.size > 0;
    free(frame);
    return good ? 0 : err_set(err, 0, "ConsumeOk without a consumer id");
}

int peer_cancel(struct peer *peer, uint32_t request_id, struct err *err)
{
    if (frame_empty(&peer->output, OPCODE_CANCEL_CONSUME, request_id) != 0)
        return err_set(err, 0, "CancelConsume does not fit");
    return flush(peer, err);
}

int peer_settle_send(struct peer *peer, bool nack, const char *queue, const struct uuid *ids,
                     size_t count, uint32_t *request_id, struct err *err)
{
    *request_id = peer_next_request(peer);
    size_t start = framed_client_batch_begin(&peer->output, nack ? OPCODE_NACK : OPCODE_ACK,
                                             *request_id, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        uint8_t text[UUID_TEXT_SIZE];
        uuid_format(&ids[i], text);
        if (nack)
            framed_client_nack_add(&peer->output, str_from_c(queue), str_of(text, sizeof text),
                                   STR("no good"));
        else
            framed_client_ack_add(&peer->output, str_from_c(queue), str_of(text, sizeof text));
    }
    if (frame_end(&peer->output, start, FRAME_LENGTH_MAX) != 0)
        return err_set(err, 0, "the request does not fit");
    return flush(peer, err);
}

static int settle(struct peer *peer, bool nack, const char *queue, const struct uuid *id,
                  struct err *err)
{
    uint32_t request, count;
    int status;
    if (peer_settle_send(peer, nack, queue, id, 1, &request, err) != 0)
        return -1;
    struct peer_frame *frame =
        await(peer, request, nack ? OPCODE_NACK_RESULT : OPCODE_ACK_RESULT, &status, err);
    if (!frame)
        return status;
    struct wire_reader reader;
    uint8_t code;
    reader_of(frame, &reader);
    if (!framed_client_ack_result_begin(&reader, &count) || count != 1 ||
        !framed_client_ack_result_next(&reader, &code))
        status = err_set(err, 0, "the result makes no sense");
    else if ((status = code) != 0)
        err_set(err, status, "code %02x", code);
    free(frame);
    return status;
}

int peer_ack(struct peer *peer, const char *queue, const struct uuid *id, struct err *err)
{
    return settle(peer, false, queue, id, err);
}

int peer_nack(struct peer *peer, const char *queue, const struct uuid *id, struct err *err)
{
    return settle(peer, true, queue, id, err);
}

static void copy_text(char *to, size_t room, struct str from)
{
    size_t size = from.size < room - 1 ? from.size : room - 1;
    if (size)
        memcpy(to, from.data, size);
    to[size] = '\0';
}

/* The next message of the open Delivery frame. */
static int next_message(struct peer *peer, struct peer_delivery *delivery, struct err *err)
{
    struct wire_reader reader;
    struct framed_client_delivery item;
    wire_reader_init(&reader,
                     str_of(peer->open->body + peer->open_at, peer->open->size - peer->open_at));
    memset(delivery, 0, sizeof *delivery);
    if (!framed_client_delivery_next(&reader, &item) || !uuid_parse(item.message_id, &delivery->id))
        return err_set(err, 0, "a Delivery makes no sense");
    struct str tenant;
    if (framed_headers_find(item.headers, STR("tenant"), &tenant))
        copy_text(delivery->tenant, sizeof delivery->tenant, tenant);
    copy_text(delivery->queue, sizeof delivery->queue, item.queue);
    copy_text(delivery->fairness_key, sizeof delivery->fairness_key, item.fairness_key);
    copy_text(delivery->payload, sizeof delivery->payload, item.payload);
    delivery->payload_size = item.payload.size;
    delivery->subscription = peer->open->request_id;
    delivery->time_ns = peer->open->time_ns;
    delivery->weight = item.weight;
    delivery->attempt = item.attempt;
    delivery->enqueued_ms = item.enqueued_ms;
    delivery->leased_ms = item.leased_ms;
    peer->open_at = peer->open->size - wire_remaining(&reader);
    if (--peer->open_left == 0) {
        free(peer->open);
        peer->open = NULL;
    }
    return 1;
}

int peer_receive(struct peer *peer, unsigned timeout_ms, struct peer_delivery *delivery,
                 struct err *err)
{
    while (!peer->open) {
        struct wire_reader reader;
        int status = peer_delivery_frame(peer, timeout_ms, &peer->open, err);
        if (status <= 0) {
            peer->open = NULL;
            return status;
        }
        reader_of(peer->open, &reader);
        if (!framed_client_delivery_begin(&reader, &peer->open_left))
            return err_set(err, 0, "a Delivery makes no sense");
        peer->open_at = peer->open->size - wire_remaining(&reader);
        if (peer->open_left == 0) {
            free(peer->open);
            peer->open = NULL;
        }
    }
    return next_message(peer, delivery, err);
}
