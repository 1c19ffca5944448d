/* Requests in several frames: what they become, their limits, their time, and the room that they
 * share with those of other sessions. */
#include "harness.h"

#include "unit/fibp/vectors.h"
#include "fibp/reassembly.h"
#include "worker/assembly.h"

#define MESSAGE_MAX (64u << 20)
#define FRAME_BODY (FRAME_LENGTH_MAX - FRAME_LENGTH_MIN)

/* ---- frames ---- */

static void send_frame(uint8_t opcode, bool more, uint32_t id, const void *body, size_t size)
{
    uint8_t header[FRAME_OVERHEAD];

    bytes_put_u32(header, (uint32_t)(size + FRAME_LENGTH_MIN));
    header[4] = opcode;
    header[5] = more ? FRAME_FLAG_CONTINUATION : 0;
    bytes_put_u32(header + 6, id);
    harness_send(str_of(header, sizeof(header)));
    harness_send(str_of(body, size));
}

/* An Enqueue of one message as body; the caller frees it. */
static void enqueue_body(struct buf *body, struct str queue, struct str payload)
{
    buf_init(body, 0);
    buf_append_u32(body, 1);
    wire_put_str(body, queue);
    buf_append_u16(body, 0);
    wire_put_bytes(body, payload);
    assert_false(body->failed);
}

/* The body in frames of `size` bytes each. */
static void send_split(uint32_t id, struct str body, size_t size)
{
    while (body.size > size) {
        send_frame(OPCODE_ENQUEUE, true, id, body.data, size);
        body = str_of(body.data + size, body.size - size);
    }
    send_frame(OPCODE_ENQUEUE, false, id, body.data, body.size);
}

static uint8_t *pattern(size_t size)
{
    uint8_t *bytes = malloc(size);

    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    return bytes;
}

static struct str item_payload(const struct operation *operation)
{
    const struct operation_enqueue *enqueue = (const struct operation_enqueue *)operation;
    struct str headers, payload;

    assert_true(framed_record_split(enqueue->items[0].record, &headers, &payload));
    return payload;
}

static void expect_enqueued(uint32_t id)
{
    struct frame frame = harness_expect(OPCODE_ENQUEUE_RESULT, id);

    assert_int_equal(bytes_get_u32(frame.body.data), 1);
    assert_int_equal(frame.body.data[4], FIBP_OK);
}

/* ---- more sessions than one ---- */

struct client {
    int fd;
    bool eof;
    struct buf received;
};

/* Makes another connection the one that the harness speaks on. */
static void use(struct client *from, struct client *to)
{
    *from = (struct client){harness->client, harness->eof, harness->received};
    harness->client = to->fd;
    harness->eof = to->eof;
    harness->received = to->received;
}

static struct client fresh(void)
{
    struct client before, made;

    made.fd = -1;
    made.eof = false;
    buf_init(&made.received, 0);
    use(&before, &made);
    harness_connect();
    harness_handshake();
    use(&made, &before);
    return made;
}

static void discard(struct client *client)
{
    close(client->fd);
    buf_free(&client->received);
}

static struct session *session_at(size_t index)
{
    struct list *entry = harness->sessions.all.next;

    while (index-- > 0)
        entry = entry->next;
    return CONTAINER_OF(entry, struct session, list);
}

/* ---- golden vectors ---- */

static bool is_answered(const char *comment)
{
    return strstr(comment, "C->S") && !strstr(comment, "chunk 1 of 2");
}

static void expect_vector(const struct vector *vector)
{
    if (strstr(vector->comment, "interleaved")) {
        harness_expect(OPCODE_PONG, 54);
        expect_enqueued(53);
        expect_enqueued(52);
    } else if (strstr(vector->comment, "unknown opcode")) {
        harness_expect_error(56, FIBP_INVALID_FRAME);
    } else {
        expect_enqueued(bytes_get_u32(vector->bytes + 6));
    }
}

static void test_golden_vectors(void **state)
{
    struct vectors vectors;
    size_t answered = 0;

    (void)state;
    harness_handshake();
    assert_true(vectors_load(&vectors, "framed_continuation.txt"));
    for (size_t i = 0; i < vectors.count; i++) {
        struct vector *vector = &vectors.items[i];

        if (!strstr(vector->comment, "C->S"))
            continue;
        harness_send(str_of(vector->bytes, vector->size));
        if (is_answered(vector->comment)) {
            expect_vector(vector);
            answered++;
        }
        harness_ping(9);
    }
    vectors_free(&vectors);
    assert_int_equal(answered, 5);
    assert_null(harness_session()->assembly);
}

/* ---- what comes together ---- */

static void test_two_frames_become_one_operation(void **state)
{
    struct buf body;

    (void)state;
    harness_handshake();
    harness->answering = false;
    enqueue_body(&body, STR("orders"), STR("hello world"));
    send_frame(OPCODE_ENQUEUE, true, 7, body.data, 7);
    harness_ping(8);
    assert_int_equal(harness->submitted_count, 0);
    assert_int_equal(harness_session()->assembly->pending, 1);
    send_frame(OPCODE_ENQUEUE, false, 7, body.data + 7, body.size - 7);
    HARNESS_UNTIL(harness->submitted_count == 1);
    assert_true(str_equal(item_payload(harness->submitted[0]), STR("hello world")));
    /* The body belongs to the operation, charged with its size and not with what it grew to. */
    struct chunk *chunk = request_of(harness->submitted[0])->chunk;
    assert_int_equal(chunk->capacity, body.size);
    assert_int_equal(chunk->pins, 1);
    assert_false(chunk->held);
    assert_null(harness_session()->assembly);
    harness_answer_all();
    expect_enqueued(7);
    assert_int_equal(harness->sessions.account.bytes, 0);
    buf_free(&body);
}

static void test_every_cut_of_a_request(void **state)
{
    struct buf body;

    (void)state;
    harness_handshake();
    harness->answering = false;
    enqueue_body(&body, STR("orders"), STR("hello"));
    for (size_t size = 1; size <= body.size; size++) {
        send_split((uint32_t)size, buf_str(&body), size);
        HARNESS_UNTIL(harness->submitted_count == 1);
        assert_true(str_equal(item_payload(harness->submitted[0]), STR("hello")));
        harness_answer_all();
        expect_enqueued((uint32_t)size);
    }
    buf_free(&body);
}

/* Bytes one at a time, so that headers and bodies are cut everywhere. */
static void test_single_bytes(void **state)
{
    struct buf body, bytes;

    (void)state;
    harness_handshake();
    enqueue_body(&body, STR("orders"), STR("hello"));
    buf_init(&bytes, 0);
    size_t start = frame_begin(&bytes, OPCODE_ENQUEUE, 4);
    buf_append_str(&bytes, buf_str(&body));
    assert_int_equal(frame_end(&bytes, start, 6 + 9), 0);
    for (size_t i = 0; i < bytes.size; i++) {
        harness_send(str_of(bytes.data + i, 1));
        harness_tick();
    }
    expect_enqueued(4);
    buf_free(&bytes);
    buf_free(&body);
}

static void test_all_streams_interleaved(void **state)
{
    struct buf body[64];
    size_t done = 0;

    (void)state;
    harness_handshake();
    for (uint32_t i = 0; i < 64; i++) {
        uint8_t payload[300];

        memset(payload, (int)i, sizeof(payload));
        enqueue_body(&body[i], STR("orders"), str_of(payload, 100 + i));
    }
    harness->answering = false;
    for (size_t at = 0; done < 64; at += 10) {
        for (uint32_t i = 0; i < 64; i++) {
            if (at >= body[i].size + 10)
                continue;
            size_t left = at < body[i].size ? body[i].size - at : 0;
            size_t part = left < 10 ? left : 10;
            bool last = at + part >= body[i].size && part < 10;

            send_frame(OPCODE_ENQUEUE, !last, 100 + i, body[i].data + at, part);
            done += last;
            if (last)
                body[i].size = 0;
        }
        harness_ping(5);
    }
    HARNESS_UNTIL(harness->submitted_count == 64);
    for (size_t i = 0; i < 64; i++) {
        struct operation *operation = harness->submitted[i];
        uint32_t number = operation->request_id - 100;
        struct str payload = item_payload(operation);

        assert_int_equal(payload.size, 100 + number);
        assert_int_equal(payload.data[0], number);
        assert_int_equal(payload.data[payload.size - 1], number);
        buf_free(&body[i]);
    }
    assert_null(harness_session()->assembly);
    harness_answer_all();
}

/* Other opcodes are split as well, and Disconnect ends the session from within. */
static void test_other_opcodes(void **state)
{
    (void)state;
    harness_handshake();
    send_frame(OPCODE_PING, true, 3, "ab", 2);
    send_frame(OPCODE_PING, false, 3, NULL, 0);
    harness_expect(OPCODE_PONG, 3);
    send_frame(OPCODE_DELETE_QUEUE, true, 4, "\0", 1);
    send_frame(OPCODE_DELETE_QUEUE, true, 4, "\6ord", 4);
    send_frame(OPCODE_DELETE_QUEUE, false, 4, "ers", 3);
    harness_expect(OPCODE_DELETE_QUEUE_RESULT, 4);
    /* A malformed body is answered and the connection stays. */
    send_frame(OPCODE_DELETE_QUEUE, true, 5, "\0\6", 2);
    send_frame(OPCODE_DELETE_QUEUE, false, 5, NULL, 0);
    harness_expect_error(5, FIBP_INVALID_FRAME);
    send_frame(OPCODE_ENQUEUE, true, 6, "begun", 5);
    send_frame(OPCODE_DISCONNECT, true, 7, NULL, 0);
    send_frame(OPCODE_DISCONNECT, false, 7, NULL, 0);
    harness_expect_close();
}

/* Nothing of an opcode that nobody knows is kept. */
static void test_unknown_opcode_takes_no_memory(void **state)
{
    uint8_t *bytes = pattern(300000);

    (void)state;
    harness_handshake();
    for (int i = 0; i < 10; i++) {
        send_frame(0x7e, true, 9, bytes, 300000);
        harness_ping(1);
        assert_int_equal(harness_session()->assembly->capacity, 0);
    }
    send_frame(0x7e, false, 9, bytes, 300000);
    struct frame frame = harness_expect_error(9, FIBP_INVALID_FRAME);
    assert_true(str_equal(harness_error_text(frame), STR("unknown or unsupported opcode: 0x7e")));
    harness_ping(2);
    free(bytes);
}

/* 64 MiB in four frames and a bit, through the socket: the operation gets one body. */
static void test_largest_message(void **state)
{
    size_t overhead = 4 + 2 + 6 + 2 + 4, size = MESSAGE_MAX - overhead;
    uint8_t *payload = pattern(size);
    struct buf body;

    (void)state;
    harness_handshake();
    harness->answering = false;
    enqueue_body(&body, STR("orders"), str_of(payload, size));
    assert_int_equal(body.size, MESSAGE_MAX);
    send_split(1, buf_str(&body), FRAME_BODY);
    HARNESS_UNTIL(harness->submitted_count == 1);
    assert_memory_equal(item_payload(harness->submitted[0]).data, payload, size);
    assert_int_equal(harness->sessions.large, 0);
    assert_int_equal(request_of(harness->submitted[0])->chunk->capacity, MESSAGE_MAX);
    harness_answer_all();
    expect_enqueued(1);
    buf_free(&body);
    free(payload);
}

/* ---- limits ---- */

static void expect_refused(uint32_t id, const char *text)
{
    struct frame frame = harness_expect_error(id, FIBP_INVALID_FRAME);

    assert_true(str_equal(harness_error_text(frame), str_from_c(text)));
    assert_null(harness_session()->assembly);
    harness_expect_close();
}

static void test_one_stream_too_many(void **state)
{
    (void)state;
    harness_handshake();
    for (uint32_t i = 0; i < 64; i++)
        send_frame(OPCODE_ENQUEUE, true, 100 + i, "x", 1);
    harness_ping(1);
    /* One ends, another one may begin. */
    send_frame(OPCODE_ENQUEUE, false, 130, NULL, 0);
    harness_expect_error(130, FIBP_INVALID_FRAME);
    send_frame(OPCODE_ENQUEUE, true, 130, "x", 1);
    harness_ping(2);
    send_frame(OPCODE_ENQUEUE, true, 164, "x", 1);
    expect_refused(164, "too many unfinished continuations");
}

static void test_opcode_changes(void **state)
{
    (void)state;
    harness_handshake();
    send_frame(OPCODE_ENQUEUE, true, 75, "ab", 2);
    send_frame(OPCODE_ACK, false, 75, "cd", 2);
    expect_refused(75, "continuation with another opcode");
}

/* The frame that goes too far is refused by its header. */
static void test_message_too_large(void **state)
{
    uint8_t header[] = {0, 0x0f, 0xff, 0xff, OPCODE_ENQUEUE, FRAME_FLAG_CONTINUATION, 0, 0, 0, 1};
    uint8_t *bytes = pattern(1 << 20);

    (void)state;
    harness->conf.fibp.max_message_size = 2 << 20;
    harness_handshake();
    send_frame(OPCODE_ENQUEUE, true, 1, bytes, 1 << 20);
    send_frame(OPCODE_ENQUEUE, true, 1, bytes, 1 << 20); /* just as much as is allowed */
    harness_ping(2);
    send_frame(OPCODE_ENQUEUE, true, 1, NULL, 0);
    harness_ping(3);
    harness_send(str_of(header, sizeof(header)));
    expect_refused(1, "request larger than 2097152 bytes (fibp.max_message_size)");
    free(bytes);
}

static void test_empty_frames(void **state)
{
    (void)state;
    harness_handshake();
    send_frame(OPCODE_DELETE_QUEUE, true, 1, NULL, 0);
    send_frame(OPCODE_DELETE_QUEUE, true, 1, "\0\1q", 3);
    for (int i = 0; i < 1000; i++)
        send_frame(OPCODE_DELETE_QUEUE, true, 1, NULL, 0);
    harness_ping(2);
    assert_int_equal(harness_session()->assembly->capacity, 4096);
    send_frame(OPCODE_DELETE_QUEUE, false, 1, NULL, 0);
    harness_expect(OPCODE_DELETE_QUEUE_RESULT, 1);
}

static void test_empty_frames_without_end(void **state)
{
    struct buf buf;

    (void)state;
    harness_handshake();
    buf_init(&buf, 0);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(frame_empty(&buf, OPCODE_ENQUEUE, 1), 0);
        buf.data[buf.size - 5] = FRAME_FLAG_CONTINUATION;
    }
    for (uint32_t sent = 0; sent + 1000 <= REASSEMBLY_EMPTY_MAX; sent += 1000)
        harness_send(buf_str(&buf));
    harness_ping(2);
    assert_int_equal(harness_session()->assembly->capacity, 0);
    harness_send(buf_str(&buf));
    expect_refused(1, "too many empty frames in one continuation");
    buf_free(&buf);
}

/* ---- time ---- */

static struct assembly_stream *only_stream(void)
{
    return CONTAINER_OF(harness_session()->assembly->streams.next, struct assembly_stream, list);
}

static void look_now(void)
{
    loop_timer_set(harness->loop, &harness_session()->assembly->timer, 0);
    harness_tick();
    harness_tick();
}

static void test_slow_request_is_given_up(void **state)
{
    (void)state;
    harness_handshake();
    send_frame(OPCODE_ENQUEUE, true, 1, "abc", 3);
    harness_ping(2);
    only_stream()->since_ms -= ASSEMBLY_MS - 1000;
    look_now();
    harness_ping(3);
    only_stream()->since_ms -= 2000;
    look_now();
    expect_refused(1, "a large request comes too slowly");
}

/* Bytes that came fast once do not buy time for standing still. */
static void test_stalled_request_is_given_up(void **state)
{
    uint8_t *bytes = pattern(8 << 20);

    (void)state;
    harness_handshake();
    send_frame(OPCODE_ENQUEUE, true, 1, bytes, 8 << 20);
    harness_ping(2);
    assert_true(harness->sessions.large >= 8 << 20);
    only_stream()->since_ms -= ASSEMBLY_MS + 1000;
    look_now();
    harness_ping(3);
    only_stream()->last_ms -= ASSEMBLY_MS + 1000;
    look_now();
    assert_int_equal(harness->sessions.large, 0);
    expect_refused(1, "a large request comes too slowly");
    free(bytes);
}

/* A client cannot be blamed for what we do not read. */
static void test_paused_time_does_not_count(void **state)
{
    (void)state;
    harness_handshake();
    send_frame(OPCODE_ENQUEUE, true, 1, "abc", 3);
    harness_ping(2);
    struct session *session = harness_session();
    session_pause(session);
    session->paused_ms -= 100000;
    only_stream()->since_ms -= 100000;
    only_stream()->last_ms -= 100000;
    look_now();
    assert_int_equal(session->state, SESSION_OPEN);
    list_append(&harness->sessions.resuming, &session->hold);
    harness_ping(3);
    look_now();
    harness_ping(4);
}

/* ---- room ---- */

/* Two sessions have as much as there is for all; who comes first may go on, and then the other. */
static void test_room_is_never_waited_for_in_a_circle(void **state)
{
    struct client other, own;
    size_t half = 1 << 20, overhead = 4 + 2 + 6 + 2 + 4, size = 2 * half - overhead;
    uint8_t *payload = pattern(size);
    struct buf body;

    (void)state;
    harness_handshake();
    other = fresh();
    enqueue_body(&body, STR("orders"), str_of(payload, size));
    send_frame(OPCODE_ENQUEUE, true, 1, body.data, half);
    harness_ping(2);
    use(&own, &other);
    send_frame(OPCODE_ENQUEUE, true, 1, body.data, half);
    harness_ping(2);
    assert_in_range(harness->sessions.large, 2 * half, 2 * half + half / 4);
    /* As if others had what is left. */
    uint64_t others = harness->sessions.large_max - harness->sessions.large_claim;
    others -= harness->sessions.large;
    harness->sessions.large += others;

    send_frame(OPCODE_ENQUEUE, true, 1, body.data + half, half);
    harness_ping(3);
    assert_ptr_equal(harness->sessions.favoured, session_at(1));
    use(&other, &own);
    uint8_t header[] = {0, 0x10, 0, 6, OPCODE_ENQUEUE, 0, 0, 0, 0, 1};
    harness_send(str_of(header, sizeof(header)));
    harness_send(str_of(body.data + half, 100000)); /* as much as fits the socket at a time */
    HARNESS_UNTIL(!session_at(0)->conn.input);
    harness_send(str_of(body.data + half + 100000, 100000));
    HARNESS_UNTIL(!list_empty(&harness->sessions.waiting));
    assert_true(session_at(0)->paused);
    use(&own, &other);
    send_frame(OPCODE_ENQUEUE, false, 1, NULL, 0);
    expect_enqueued(1);
    use(&other, &own);
    harness_send(str_of(body.data + half + 200000, half - 200000));
    expect_enqueued(1);
    assert_null(harness->sessions.favoured);
    assert_int_equal(harness->sessions.large, others);
    harness->sessions.large = 0;
    discard(&other);
    buf_free(&body);
    free(payload);
}

/* Room that does not come free: ChannelFull, the rest is passed over, the connection lives. */
static void test_waiting_in_vain(void **state)
{
    struct session somebody;
    struct str value, text;
    size_t size = 1 << 20;
    uint8_t *bytes = pattern(size);

    (void)state;
    harness_handshake();
    send_frame(OPCODE_ENQUEUE, true, 2, "small", 5);
    harness->sessions.favoured = &somebody;
    harness->sessions.large = harness->sessions.large_max;
    uint8_t header[] = {0, 0x10, 0, 6, OPCODE_ENQUEUE, FRAME_FLAG_CONTINUATION, 0, 0, 0, 1};
    harness_send(str_of(header, sizeof(header)));
    harness_send(str_of(bytes, 100000));
    HARNESS_UNTIL(!list_empty(&harness->sessions.waiting));
    look_now();
    assert_false(list_empty(&harness->sessions.waiting));
    harness_session()->assembly->waits_ms -= ASSEMBLY_ROOM_MS + 1;
    look_now();
    struct frame frame = harness_expect_error(1, FIBP_CHANNEL_FULL);
    text = harness_error_text(frame);
    assert_true(framed_headers_find(str_of(text.data + text.size, frame.body.size - 3 - text.size),
                                    STR("retry_after_ms"), &value));
    harness_send(str_of(bytes, size - 100000));
    harness_ping(3);
    /* What is passed over counts as pending and is never too slow. */
    assert_int_equal(harness_session()->assembly->pending, 2);
    struct list *last = harness_session()->assembly->streams.prev;
    struct assembly_stream *refused = CONTAINER_OF(last, struct assembly_stream, list);
    assert_int_equal(refused->fate, ASSEMBLY_REFUSED);
    refused->since_ms = refused->last_ms = 0;
    look_now();
    harness_ping(5);
    send_frame(OPCODE_ENQUEUE, true, 1, bytes, size);
    send_frame(OPCODE_ENQUEUE, false, 1, bytes, 10);
    harness_ping(4);
    assert_int_equal(harness_session()->assembly->pending, 1);
    /* The id can be used again, and the other one goes on. */
    harness->sessions.favoured = NULL;
    harness->sessions.large = 0;
    send_frame(OPCODE_DELETE_QUEUE, false, 1, "\0\1q", 3);
    harness_expect(OPCODE_DELETE_QUEUE_RESULT, 1);
    send_frame(OPCODE_ENQUEUE, false, 2, NULL, 0);
    harness_expect_error(2, FIBP_INVALID_FRAME); /* it was no Enqueue, but it was asked for */
    free(bytes);
}

/* A session whose requests take more than any one may wait for takes only what is free. */
static void test_total_of_a_connection(void **state)
{
    size_t size = 1 << 20;
    uint8_t *bytes = pattern(2 * size);
    struct client other, own;

    (void)state;
    harness->sessions.large_claim = 3 << 20;
    harness->sessions.large_max = 10 << 20;
    harness_handshake();
    other = fresh();
    for (uint32_t id = 1; id <= 4; id++) {
        send_frame(OPCODE_ENQUEUE, true, id, bytes, size);
        harness_ping(100 + id);
    }
    assert_in_range(harness->sessions.large, 4 << 20, 5 << 20);
    /* The half of all is the end for one connection. */
    send_frame(OPCODE_ENQUEUE, true, 5, bytes, 2 * size);
    harness_expect_error(5, FIBP_CHANNEL_FULL);
    harness_ping(7);
    assert_in_range(harness->sessions.large, 4 << 20, 5 << 20);
    /* Another one gets what is left, and then its claim. */
    use(&own, &other);
    for (uint32_t id = 1; id <= 2; id++) {
        send_frame(OPCODE_ENQUEUE, true, id, bytes, size);
        harness_ping(200 + id);
    }
    assert_null(harness->sessions.favoured);
    harness->sessions.large += size; /* somebody else's */
    send_frame(OPCODE_ENQUEUE, true, 3, bytes, size / 2);
    harness_ping(203);
    assert_ptr_equal(harness->sessions.favoured, session_at(1));
    assert_true(harness->sessions.large <= harness->sessions.large_max);
    send_frame(OPCODE_ENQUEUE, true, 4, bytes, size);
    harness_expect_error(4, FIBP_CHANNEL_FULL);
    harness_ping(8);
    harness->sessions.large -= size;
    use(&other, &own);
    discard(&other);
    HARNESS_UNTIL(harness->sessions.count == 1);
    assert_null(harness->sessions.favoured);
    free(bytes);
}

/* ---- ends ---- */

static void test_end_of_connection_gives_everything_back(void **state)
{
    size_t size = 1 << 20;
    uint8_t *bytes = pattern(size);

    (void)state;
    harness_handshake();
    for (uint32_t id = 1; id <= 10; id++)
        send_frame(OPCODE_ENQUEUE, true, id, bytes, size);
    uint8_t header[] = {0, 0x10, 0, 6, OPCODE_ENQUEUE, 0, 0, 0, 0, 99};
    harness_send(str_of(header, sizeof(header)));
    harness_send(str_of(bytes, size - 1));
    HARNESS_UNTIL(harness->sessions.large >= 11 * size);
    harness_hang_up();
    HARNESS_UNTIL(harness->sessions.count == 0);
    assert_int_equal(harness->sessions.large, 0);
    free(bytes);
}

/* A session that got the room it waited for and is paused for another limit before it used any. */
static void test_unused_room_is_given_back(void **state)
{
    struct session somebody;
    uint8_t header[] = {0, 0x10, 0, 6, OPCODE_ENQUEUE, FRAME_FLAG_CONTINUATION, 0, 0, 0, 2};
    uint8_t *bytes = pattern(100000);

    (void)state;
    harness_handshake();
    harness->answering = false;
    harness_request_str(OPCODE_DELETE_QUEUE, 1, STR("q"));
    HARNESS_UNTIL(harness->submitted_count == 1);
    harness->sessions.favoured = &somebody;
    harness->sessions.large = harness->sessions.large_max;
    harness_session()->conn.read_size = 262144;
    harness_send(str_of(header, sizeof(header)));
    harness_send(str_of(bytes, 100000));
    HARNESS_UNTIL(!list_empty(&harness->sessions.waiting));
    harness->sessions.outstanding += SESSIONS_OUTSTANDING_MAX; /* of other sessions */
    harness->sessions.favoured = NULL;
    harness->sessions.large = harness->sessions.large_max - harness->sessions.large_claim;
    HARNESS_UNTIL(!list_empty(&harness->sessions.held));
    assert_ptr_equal(harness->sessions.favoured, harness_session());
    session_close(harness_session(), "the test ends it");
    assert_null(harness->sessions.favoured);
    assert_int_equal(harness->sessions.large,
                     harness->sessions.large_max - harness->sessions.large_claim);
    harness->sessions.outstanding -= SESSIONS_OUTSTANDING_MAX;
    harness->sessions.large = 0;
    free(bytes);
}

/* A drain takes what has begun. */
static void test_drain_waits_for_the_rest(void **state)
{
    struct buf body;

    (void)state;
    harness_handshake();
    enqueue_body(&body, STR("orders"), STR("hello"));
    send_frame(OPCODE_ENQUEUE, true, 7, body.data, 7);
    harness_ping(1);
    sessions_drain(&harness->sessions);
    harness_ping(2);
    assert_int_equal(harness_session()->state, SESSION_DRAINING);
    send_frame(OPCODE_ENQUEUE, false, 7, body.data + 7, body.size - 7);
    expect_enqueued(7);
    harness_expect(OPCODE_DISCONNECT, 0);
    harness_expect_close();
    buf_free(&body);
}

/* Random frames of few ids, some cut off: whatever comes, the sums are right at the end (teardown).
 */
static void test_frames_at_random(void **state)
{
    uint64_t random = 88172645463325252u;
    uint8_t *bytes = pattern(70000);

    (void)state;
    harness->conf.fibp.max_pending_streams = 4;
    harness->conf.fibp.max_message_size = 200000;
    for (int round = 0; round < 200; round++) {
        harness_hang_up();
        harness_connect();
        harness_handshake();
        for (int frames = 0; frames < 30 && !harness_closed(); frames++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            size_t size = random >> 8 & 3 ? random >> 16 & 63 : (random >> 16) % 70000;
            uint8_t opcode = random >> 40 & 15 ? OPCODE_ENQUEUE : OPCODE_PING;
            struct buf frame;

            buf_init(&frame, 0);
            harness_frame(&frame, opcode, random >> 48 & 3, str_of(bytes, size));
            frame.data[5] = random & 1;
            if (frames == 29)
                frame.size -= random % frame.size;
            /* The server may have closed: then nobody reads it. */
            (void)!send(harness->client, frame.data, frame.size, MSG_NOSIGNAL | MSG_DONTWAIT);
            buf_free(&frame);
            harness_tick();
        }
        harness->answering = random & 2;
        harness_tick();
    }
    free(bytes);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, harness_setup, harness_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_golden_vectors),
        TEST(test_two_frames_become_one_operation),
        TEST(test_every_cut_of_a_request),
        TEST(test_single_bytes),
        TEST(test_all_streams_interleaved),
        TEST(test_other_opcodes),
        TEST(test_unknown_opcode_takes_no_memory),
        TEST(test_largest_message),
        TEST(test_one_stream_too_many),
        TEST(test_opcode_changes),
        TEST(test_message_too_large),
        TEST(test_empty_frames),
        TEST(test_empty_frames_without_end),
        TEST(test_slow_request_is_given_up),
        TEST(test_stalled_request_is_given_up),
        TEST(test_paused_time_does_not_count),
        TEST(test_room_is_never_waited_for_in_a_circle),
        TEST(test_waiting_in_vain),
        TEST(test_total_of_a_connection),
        TEST(test_end_of_connection_gives_everything_back),
        TEST(test_unused_room_is_given_back),
        TEST(test_drain_waits_for_the_rest),
        TEST(test_frames_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
