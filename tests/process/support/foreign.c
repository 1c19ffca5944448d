#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "process/support/foreign.h"

#include <stdlib.h>
#include <string.h>

#define HANDSHAKE 0x01
#define HANDSHAKE_OK 0x02
#define PING 0x03
#define PONG 0x04
#define DISCONNECT 0x05
#define ENQUEUE 0x10
#define ENQUEUE_RESULT 0x11
#define CONSUME 0x12
#define GET_STATS_RESULT 0xF8
#define GET_STATS 0xF9
#define DELETE_QUEUE_RESULT 0xFA
#define DELETE_QUEUE 0xFB
#define CREATE_QUEUE_RESULT 0xFC
#define CREATE_QUEUE 0xFD
#define ERROR 0xFE

#define CONTINUATION 0x01

/* --- who they are --- */

static const struct foreign_opcodes s1 = {0x00, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18};
static const struct foreign_opcodes s2 = {0x19, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18};
static const struct foreign_opcodes s3 = {0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19};

const struct foreign_kind foreign_rust = {
    .name = "Rust SDK",
    .first_id = 1,
    .opcodes = &s3,
    .by_id = true,
    .newest_stream = true,
    .cancels = true,
    .disconnects = true,
};
const struct foreign_kind foreign_rust_cli = {
    .name = "Rust CLI",
    .handshake_id = 1,
    .first_id = 2,
    .opcodes = &s3,
};
const struct foreign_kind foreign_python = {
    .name = "Python",
    .handshake_id = 1,
    .first_id = 2,
    .opcodes = &s3,
    .cancels = true,
    .cancel_by_consumer = true,
};
const struct foreign_kind foreign_go = {
    .name = "Go",
    .first_id = 1,
    .opcodes = &s2,
    .by_id = true,
    .cancels = true,
};
const struct foreign_kind foreign_javascript = {
    .name = "JavaScript",
    .first_id = 1,
    .opcodes = &s3,
    .by_id = true,
    .cancels = true,
};
const struct foreign_kind foreign_ruby = {
    .name = "Ruby",
    .first_id = 1,
    .opcodes = &s3,
    .by_id = true,
    .cancels = true,
};
const struct foreign_kind foreign_java = {
    .name = "Java",
    .first_id = 1,
    .opcodes = &s3,
    .by_id = true,
    .cancels = true,
};
const struct foreign_kind foreign_oldest = {
    .name = "S1",
    .first_id = 1,
    .opcodes = &s1,
    .by_id = true,
    .cancels = true,
};

#define FAIL(client, ...)                                                                          \
    do {                                                                                           \
        print_error("%s: ", (client)->kind->name);                                                 \
        fail_msg(__VA_ARGS__);                                                                     \
    } while (0)

/* --- bytes out --- */

static void put_string(struct buf *buf, const char *text)
{
    buf_append_u16(buf, (uint16_t)strlen(text));
    buf_append_c(buf, text);
}

static void put_frame(struct buf *out, uint8_t opcode, uint8_t flags, uint32_t id, struct str body)
{
    buf_append_u32(out, (uint32_t)body.size + 6);
    buf_append_u8(out, opcode);
    buf_append_u8(out, flags);
    buf_append_u32(out, id);
    buf_append_str(out, body);
}

static void send_bytes(struct foreign *client, struct buf *bytes)
{
    struct err err;
    assert_false(bytes->failed);
    if (peer_send(client->peer, buf_str(bytes), &err) != 0)
        FAIL(client, "%s", err.text);
    buf_free(bytes);
}

/* Takes the body. */
static void send_request(struct foreign *client, uint8_t opcode, uint32_t id, struct buf *body)
{
    struct buf out;
    buf_init(&out, 0);
    put_frame(&out, opcode, 0, id, buf_str(body));
    send_bytes(client, &out);
    buf_free(body);
}

/* --- bytes in --- */

struct reader {
    const struct foreign *client;
    const uint8_t *at, *end;
};

static const uint8_t *get(struct reader *reader, size_t size)
{
    if ((size_t)(reader->end - reader->at) < size)
        FAIL(reader->client, "a frame of the server is too short");
    reader->at += size;
    return reader->at - size;
}

static uint64_t get_number(struct reader *reader, unsigned size)
{
    uint64_t number = 0;
    const uint8_t *bytes = get(reader, size);
    for (unsigned i = 0; i < size; i++)
        number = number << 8 | bytes[i];
    return number;
}

/* A length and so many bytes, cut to the room. The length. */
static size_t get_text(struct reader *reader, unsigned length_size, char *text, size_t room)
{
    size_t size = get_number(reader, length_size);
    const uint8_t *bytes = get(reader, size);
    size_t shown = size < room - 1 ? size : room - 1;
    memcpy(text, bytes, shown);
    text[shown] = '\0';
    return size;
}

static struct reader reader_of(const struct foreign *client, const struct peer_frame *frame)
{
    return (struct reader){client, frame->body, frame->body + frame->size};
}

static struct peer_frame *next_frame(struct foreign *client)
{
    struct peer_frame *frame = NULL;
    struct err err;
    int status = peer_read(client->peer, PEER_PATIENCE_MS, &frame, &err);
    if (status < 0)
        FAIL(client, "%s", err.text);
    if (status == 0)
        FAIL(client, "the server says nothing");
    return frame;
}

static void take_message(struct foreign *client, struct reader *reader, uint32_t stream)
{
    struct foreign_message *message = calloc(1, sizeof *message);
    char key[64], value[64];
    assert_non_null(message);
    message->stream = stream;
    get_text(reader, 2, message->id, sizeof message->id);
    get_text(reader, 2, message->queue, sizeof message->queue);
    for (uint64_t headers = get_number(reader, 2); headers > 0; headers--) {
        get_text(reader, 2, key, sizeof key);
        get_text(reader, 2, value, sizeof value);
        if (strcmp(key, "tenant") == 0)
            memcpy(message->tenant, value, sizeof value);
    }
    message->size = get_text(reader, 4, message->payload, sizeof message->payload);
    get_text(reader, 2, key, sizeof key); /* fairness key */
    get(reader, 4);                       /* weight */
    for (uint64_t keys = get_number(reader, 2); keys > 0; keys--)
        get_text(reader, 2, key, sizeof key);
    message->attempt = (uint32_t)get_number(reader, 4);
    get(reader, 8 + 8); /* times */
    *client->messages_tail = message;
    client->messages_tail = &message->next;
}

static bool has_stream(const struct foreign *client, uint32_t id)
{
    for (unsigned i = 0; i < client->stream_count; i++)
        if (client->streams[i] == id)
            return true;
    return false;
}

/* Takes the frame. A client that goes by the id drops what is for none of its streams. */
static void take_delivery(struct foreign *client, struct peer_frame *frame)
{
    struct reader reader = reader_of(client, frame);
    uint32_t stream = frame->request_id;
    if (client->kind->newest_stream && client->stream_count)
        stream = client->streams[client->stream_count - 1];
    if (has_stream(client, stream)) {
        for (uint64_t count = get_number(&reader, 4); count > 0; count--)
            take_message(client, &reader, stream);
        assert_ptr_equal(reader.at, reader.end);
    }
    free(frame);
}

/* The answer to request `id` as this client finds it. */
static struct peer_frame *await(struct foreign *client, uint32_t id)
{
    for (;;) {
        struct peer_frame *frame = next_frame(client);
        if (!client->kind->by_id ||
            (frame->opcode != client->kind->opcodes->delivery && frame->request_id == id))
            return frame;
        if (frame->opcode != client->kind->opcodes->delivery)
            FAIL(client, "opcode %02x for request %u, which is none", frame->opcode,
                 frame->request_id);
        take_delivery(client, frame);
    }
}

/* True: the answer is of this opcode. False: it is an Error, whose code goes to *code. */
static bool is_answer(struct foreign *client, const struct peer_frame *frame, uint8_t opcode,
                      int *code)
{
    if (frame->opcode == opcode)
        return true;
    if (frame->opcode != ERROR)
        FAIL(client, "opcode %02x instead of %02x", frame->opcode, opcode);
    struct reader reader = reader_of(client, frame);
    *code = (int)get_number(&reader, 1);
    assert_int_not_equal(*code, 0);
    return false;
}

/* Sends a request and reads what its answer begins with: `skip` bytes, then a code. The frame goes
 * to *kept when the caller wants the rest. Takes the body. */
static int call(struct foreign *client, uint8_t opcode, struct buf *body, uint8_t answer,
                unsigned skip, struct peer_frame **kept)
{
    uint32_t id = client->next_id++;
    send_request(client, opcode, id, body);
    struct peer_frame *frame = await(client, id);
    int code;
    if (is_answer(client, frame, answer, &code)) {
        struct reader reader = reader_of(client, frame);
        get(&reader, skip);
        code = (int)get_number(&reader, 1);
    }
    if (kept && code == 0)
        *kept = frame;
    else
        free(frame);
    return code;
}

/* --- what they do --- */

struct foreign *foreign_open(const struct foreign_kind *kind, const char *address)
{
    struct foreign *client = calloc(1, sizeof *client);
    struct buf body;
    struct err err;
    assert_non_null(client);
    client->kind = kind;
    client->next_id = kind->first_id;
    client->messages_tail = &client->messages;
    client->peer = peer_connect(address, &err);
    if (!client->peer)
        FAIL(client, "%s", err.text);
    buf_init(&body, 0);
    buf_append_u16(&body, 1); /* version */
    buf_append_u8(&body, 0);  /* no API key */
    send_request(client, HANDSHAKE, kind->handshake_id, &body);
    struct peer_frame *frame = next_frame(client);
    struct reader reader = reader_of(client, frame);
    assert_int_equal(frame->opcode, HANDSHAKE_OK);
    assert_int_equal(frame->request_id, 0);
    assert_int_equal(get_number(&reader, 2), 1);
    get(&reader, 8); /* node */
    assert_int_equal(get_number(&reader, 4), 16777216);
    free(frame);
    return client;
}

void foreign_close(struct foreign *client)
{
    if (client->kind->disconnects) {
        struct buf body;
        buf_init(&body, 0);
        send_request(client, DISCONNECT, 0, &body);
    }
    peer_close(client->peer, false);
    while (client->messages) {
        struct foreign_message *message = client->messages;
        client->messages = message->next;
        free(message);
    }
    free(client);
}

int foreign_create_queue(struct foreign *client, const char *queue)
{
    struct buf body;
    buf_init(&body, 0);
    put_string(&body, queue);
    buf_append_u8(&body, 0); /* no scripts */
    buf_append_u8(&body, 0);
    buf_append_u64(&body, 0); /* default timeout */
    return call(client, CREATE_QUEUE, &body, CREATE_QUEUE_RESULT, 0, NULL);
}

int foreign_delete_queue(struct foreign *client, const char *queue)
{
    struct buf body;
    buf_init(&body, 0);
    put_string(&body, queue);
    return call(client, DELETE_QUEUE, &body, DELETE_QUEUE_RESULT, 0, NULL);
}

int foreign_inspect(struct foreign *client, const char *queue, uint32_t *consumers, uint64_t *depth)
{
    struct buf body;
    struct peer_frame *frame = NULL;
    buf_init(&body, 0);
    put_string(&body, queue);
    int code = call(client, GET_STATS, &body, GET_STATS_RESULT, 0, &frame);
    if (code != 0)
        return code;
    struct reader reader = reader_of(client, frame);
    get(&reader, 1);
    *depth = get_number(&reader, 8);
    get(&reader, 8 + 8); /* in flight, keys */
    *consumers = (uint32_t)get_number(&reader, 4);
    free(frame);
    return 0;
}

static void put_enqueue(struct buf *body, const char *queue, const char *tenant)
{
    buf_init(body, 0);
    buf_append_u32(body, 1);
    put_string(body, queue);
    buf_append_u16(body, tenant ? 1 : 0);
    if (tenant) {
        put_string(body, "tenant");
        put_string(body, tenant);
    }
}

int foreign_enqueue(struct foreign *client, const char *queue, const char *tenant,
                    const char *payload, char id[FOREIGN_ID_SIZE])
{
    struct buf body;
    struct peer_frame *frame = NULL;
    put_enqueue(&body, queue, tenant);
    buf_append_u32(&body, (uint32_t)strlen(payload));
    buf_append_c(&body, payload);
    int code = call(client, ENQUEUE, &body, ENQUEUE_RESULT, 4, &frame);
    if (code != 0)
        return code;
    struct reader reader = reader_of(client, frame);
    assert_int_equal(get_number(&reader, 4), 1);
    get(&reader, 1);
    get_text(&reader, 2, id, FOREIGN_ID_SIZE);
    assert_int_equal(strlen(id), FOREIGN_ID_SIZE - 1);
    assert_ptr_equal(reader.at, reader.end);
    free(frame);
    return 0;
}

int foreign_enqueue_large(struct foreign *client, const char *queue, size_t size, size_t chunk)
{
    struct buf body, out;
    uint32_t id = client->next_id++;
    put_enqueue(&body, queue, NULL);
    buf_append_u32(&body, (uint32_t)size);
    uint8_t *payload = buf_reserve(&body, size);
    assert_non_null(payload);
    memset(payload, 'L', size);
    body.size += size;
    buf_init(&out, 0);
    if (chunk == 0)
        chunk = body.size;
    for (size_t at = 0; at < body.size; at += chunk) {
        size_t left = body.size - at;
        put_frame(&out, ENQUEUE, left > chunk ? CONTINUATION : 0, id,
                  str_of(body.data + at, left > chunk ? chunk : left));
    }
    buf_free(&body);
    send_bytes(client, &out);
    struct peer_frame *frame = await(client, id);
    int code;
    if (is_answer(client, frame, ENQUEUE_RESULT, &code)) {
        struct reader reader = reader_of(client, frame);
        assert_int_equal(get_number(&reader, 4), 1);
        code = (int)get_number(&reader, 1);
    }
    free(frame);
    return code;
}

/* One stream at a time in the Rust SDK. */
int foreign_consume(struct foreign *client, const char *queue)
{
    const struct foreign_opcodes *opcodes = client->kind->opcodes;
    struct buf body;
    int code = 0;
    if (client->kind->newest_stream && client->stream_count)
        foreign_cancel(client);
    assert_true(client->stream_count < FOREIGN_STREAMS);
    uint32_t id = client->next_id++;
    client->streams[client->stream_count++] = id;
    buf_init(&body, 0);
    put_string(&body, queue);
    send_request(client, CONSUME, id, &body);
    if (opcodes->consume_ok == 0)
        return 0;
    struct peer_frame *frame = await(client, id);
    if (is_answer(client, frame, opcodes->consume_ok, &code)) {
        struct reader reader = reader_of(client, frame);
        char *consumer = client->consumers[client->stream_count - 1];
        assert_int_equal(frame->request_id, id);
        get_text(&reader, 2, consumer, FOREIGN_ID_SIZE);
        assert_int_equal(strlen(consumer), FOREIGN_ID_SIZE - 1);
    } else {
        client->stream_count--;
    }
    free(frame);
    return code;
}

void foreign_cancel(struct foreign *client)
{
    struct buf body;
    buf_init(&body, 0);
    assert_true(client->kind->cancels && client->stream_count > 0);
    client->stream_count--;
    uint32_t id = client->streams[client->stream_count];
    if (client->kind->cancel_by_consumer) {
        id = client->next_id++;
        put_string(&body, client->consumers[client->stream_count]);
    }
    send_request(client, client->kind->opcodes->cancel, id, &body);
}

int foreign_ack(struct foreign *client, const char *queue, const char *id)
{
    struct buf body;
    buf_init(&body, 0);
    buf_append_u32(&body, 1);
    put_string(&body, queue);
    put_string(&body, id);
    return call(client, client->kind->opcodes->ack, &body, client->kind->opcodes->ack_result, 4,
                NULL);
}

int foreign_nack(struct foreign *client, const char *queue, const char *id)
{
    struct buf body;
    buf_init(&body, 0);
    buf_append_u32(&body, 1);
    put_string(&body, queue);
    put_string(&body, id);
    put_string(&body, "no good");
    return call(client, client->kind->opcodes->nack, &body, client->kind->opcodes->nack_result, 4,
                NULL);
}

void foreign_ping(struct foreign *client)
{
    uint32_t id = client->next_id++;
    struct buf body;
    buf_init(&body, 0);
    send_request(client, PING, id, &body);
    struct peer_frame *frame = await(client, id);
    assert_int_equal(frame->opcode, PONG);
    assert_int_equal(frame->size, 0);
    free(frame);
}

void foreign_receive(struct foreign *client, struct foreign_message *message)
{
    while (!client->messages) {
        struct peer_frame *frame = next_frame(client);
        if (frame->opcode != client->kind->opcodes->delivery)
            FAIL(client, "opcode %02x instead of a Delivery", frame->opcode);
        take_delivery(client, frame);
    }
    struct foreign_message *first = client->messages;
    client->messages = first->next;
    if (!client->messages)
        client->messages_tail = &client->messages;
    *message = *first;
    free(first);
}
