/* Sessions under load and at their ends: lifetimes, back-pressure, drain. */
#include "harness.h"

#include "worker/assembly.h"

/* ---- pipelining and lifetimes ---- */

static void test_pipelined_requests_share_a_chunk(void **state)
{
    struct buf buf;

    (void)state;
    harness_handshake();
    harness->answering = false;
    buf_init(&buf, 0);
    for (uint32_t id = 1; id <= 50; id++)
        harness_enqueue(&buf, id, STR("orders"), STR("payload"));
    harness_send(buf_str(&buf));
    HARNESS_UNTIL(harness->submitted_count == 50);
    struct chunk *chunk = request_of(harness->submitted[0])->chunk;
    for (size_t i = 1; i < 50; i++)
        assert_ptr_equal(request_of(harness->submitted[i])->chunk, chunk);
    /* All of them in one chain of one tick. */
    assert_int_equal(chunk->pins, 50);
    harness_answer_all();
    for (uint32_t id = 1; id <= 50; id++)
        harness_expect(OPCODE_ENQUEUE_RESULT, id);
    assert_int_equal(harness->sessions.account.bytes, 0);
    assert_null(harness_session()->conn.input);
    buf_free(&buf);
}

static struct str item_payload(const struct operation *operation)
{
    const struct operation_enqueue *enqueue = (const struct operation_enqueue *)operation;
    struct str headers, payload;

    assert_true(framed_record_split(enqueue->items[0].record, &headers, &payload));
    return payload;
}

/* What operations point to stays while the connection reads on, and after its end. */
static void test_requests_outlive_input_and_connection(void **state)
{
    struct buf buf;

    (void)state;
    harness_handshake();
    harness->answering = false;
    for (uint32_t i = 0; i < 200; i++) {
        uint8_t payload[3000];

        buf_init(&buf, 0);
        memset(payload, (int)i, sizeof(payload));
        harness_enqueue(&buf, i, STR("orders"), str_of(payload, sizeof(payload)));
        harness_send(buf_str(&buf));
        buf_free(&buf);
        if (i % 7 == 0)
            harness_tick();
    }
    HARNESS_UNTIL(harness->submitted_count == 200);
    harness_hang_up();
    HARNESS_UNTIL(harness_session()->eof);
    session_close(harness_session(), "test");
    assert_int_equal(harness->sessions.count, 0);
    assert_false(list_empty(&harness->sessions.closed));
    for (uint32_t i = 0; i < 200; i++) {
        struct operation *operation = harness_pick((i * 31) % harness->submitted_count);
        struct str payload = item_payload(operation);

        assert_int_equal(payload.size, 3000);
        assert_int_equal(payload.data[0], (uint8_t)operation->request_id);
        assert_int_equal(payload.data[2999], (uint8_t)operation->request_id);
        harness_complete(operation);
        if (i % 5 == 0)
            harness_tick();
    }
    harness_tick();
    assert_true(list_empty(&harness->sessions.closed));
}

static void test_large_frame_in_pieces(void **state)
{
    size_t size = 5 << 20;
    uint8_t *payload = malloc(size);
    struct buf buf;

    (void)state;
    assert_non_null(payload);
    for (size_t i = 0; i < size; i++)
        payload[i] = (uint8_t)(i * 7 + i / 251);
    harness_handshake();
    harness->answering = false;
    buf_init(&buf, 0);
    harness_enqueue(&buf, 1, STR("orders"), str_of(payload, size));
    assert_int_equal(frame_empty(&buf, OPCODE_PING, 2), 0);
    for (size_t at = 0; at < buf.size; at += 100000) {
        harness_send(str_of(buf.data + at, buf.size - at < 100000 ? buf.size - at : 100000));
        harness_tick();
        /* Memory follows what came. */
        const struct conn *conn = &harness_session()->conn;
        if (conn->input)
            assert_true(conn->input->capacity <= 262144);
        assert_true(harness_session()->reserved <= 2 * (at + 100000));
    }
    harness_expect(OPCODE_PONG, 2);
    assert_int_equal(harness->submitted_count, 1);
    struct str got = item_payload(harness->submitted[0]);
    assert_int_equal(got.size, size);
    assert_memory_equal(got.data, payload, size);
    assert_int_equal(harness->sessions.large, 0);
    harness_answer_all();
    harness_expect(OPCODE_ENQUEUE_RESULT, 1);
    buf_free(&buf);
    free(payload);
}

static void test_claimed_length_takes_no_memory(void **state)
{
    static const uint8_t header[] = {0x00, 0xff, 0xff, 0xff, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 1};

    (void)state;
    harness_handshake();
    harness_send(str_of(header, sizeof(header)));
    for (int i = 0; i < 3; i++)
        harness_tick();
    harness_send(STR("some more"));
    for (int i = 0; i < 3; i++)
        harness_tick();
    assert_null(harness_session()->conn.input);
    assert_int_equal(harness_session()->assembly->capacity, 4096);
    assert_int_equal(harness->sessions.large, 0);
}

/* Bytes that trickle do not keep the room of a large frame from others for ever. */
static void test_large_frame_that_trickles_is_given_up(void **state)
{
    static const uint8_t header[] = {0x00, 0xff, 0xff, 0xff, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 1};
    uint8_t *bytes = calloc(1, 100000);

    (void)state;
    assert_non_null(bytes);
    harness_handshake();
    harness_send(str_of(header, sizeof(header)));
    harness_send(str_of(bytes, 100000));
    HARNESS_UNTIL(harness_session()->reserved > 0);
    harness_send(STR("x"));
    HARNESS_UNTIL(!harness_session()->conn.input);
    /* 30 seconds and what so many bytes need at the slowest pace allowed are over. */
    struct assembly_stream *stream = harness_session()->assembly->current;
    stream->since_ms -= ASSEMBLY_MS + stream->taken / ASSEMBLY_PACE + 1;
    harness_expect_error(1, FIBP_INVALID_FRAME);
    assert_int_equal(harness->sessions.large, 0);
    harness_expect_close();
    free(bytes);
}

/* Whoever waits for room gets it in time. */
static void test_large_frames_wait_for_room(void **state)
{
    struct session somebody;
    struct buf buf;
    uint8_t *payload = calloc(1, 200000);

    (void)state;
    assert_non_null(payload);
    harness_handshake();
    harness->sessions.large = harness->sessions.large_max;
    harness->sessions.favoured = &somebody;
    buf_init(&buf, 0);
    harness_enqueue(&buf, 1, STR("orders"), str_of(payload, 200000));
    harness_send(str_of(buf.data, 100000));
    HARNESS_UNTIL(!list_empty(&harness->sessions.waiting));
    assert_true(harness_session()->paused);
    harness->sessions.large -= 300000;
    for (int i = 0; i < 3; i++)
        harness_tick();
    assert_false(list_empty(&harness->sessions.waiting));
    harness->sessions.large = 0;
    harness_send(str_of(buf.data + 100000, buf.size - 100000));
    harness_expect(OPCODE_ENQUEUE_RESULT, 1);
    assert_int_equal(harness->sessions.large, 0);
    assert_null(harness->sessions.favoured);
    buf_free(&buf);
    free(payload);
}

/* Room that a connection gives back when writing to it fails, which is the last thing of a tick, is
 * had in that tick: nothing else may ever happen. */
static void test_room_given_back_late_is_had_at_once(void **state)
{
    struct buf buf;
    uint8_t *payload = calloc(1, 200000);

    (void)state;
    assert_non_null(payload);
    harness_handshake();
    buf_init(&buf, 0);
    harness_enqueue(&buf, 1, STR("orders"), str_of(payload, 200000));
    harness_send(str_of(buf.data, 100000));
    HARNESS_UNTIL(harness->sessions.large > 0);
    struct session *first = harness_session();
    int first_client = harness->client;
    harness_connect();
    harness_handshake();
    uint64_t others =
        harness->sessions.large_max - harness->sessions.large_claim - harness->sessions.large;
    harness->sessions.large += others;
    harness->sessions.favoured = first;
    harness_send(str_of(buf.data, 100000));
    HARNESS_UNTIL(!list_empty(&harness->sessions.waiting));
    shutdown(first->conn.watch.fd, SHUT_WR);
    buf_append_u8(session_answers(first), 0);
    harness_tick();
    assert_true(list_empty(&harness->sessions.waiting));
    assert_int_equal(harness->sessions.count, 1);
    assert_false(harness_session()->paused);
    harness->sessions.large -= others;
    close(first_client);
    buf_free(&buf);
    free(payload);
}

/* ---- back-pressure ---- */

static void test_too_many_outstanding(void **state)
{
    struct buf buf;

    (void)state;
    harness_handshake();
    harness->answering = false;
    buf_init(&buf, 0);
    for (uint32_t id = 0; id < 3000; id++)
        harness_enqueue(&buf, id, STR("orders"), STR("x"));
    harness_send(buf_str(&buf));
    HARNESS_UNTIL(harness->submitted_count == SESSION_OUTSTANDING_MAX);
    for (int i = 0; i < 20; i++)
        harness_tick();
    assert_int_equal(harness->submitted_count, SESSION_OUTSTANDING_MAX);
    assert_true(harness_session()->paused);
    /* Not before half of them are back. */
    for (uint32_t i = 0; i < SESSION_OUTSTANDING_MAX / 2 - 1; i++)
        harness_complete(harness_pick(0));
    for (int i = 0; i < 5; i++)
        harness_tick();
    assert_int_equal(harness->submitted_count, SESSION_OUTSTANDING_MAX / 2 + 1);
    harness_complete(harness_pick(0));
    HARNESS_UNTIL(harness->submitted_count == SESSION_OUTSTANDING_MAX);
    harness->answering = true;
    harness_answer_all();
    for (uint32_t id = 0; id < 3000; id++)
        harness_expect(OPCODE_ENQUEUE_RESULT, id);
    buf_free(&buf);
}

static void test_client_that_reads_no_answers(void **state)
{
    static const uint8_t unknown[] = {0, 0, 0, 6, 0x7e, 0, 0, 0, 0, 9};
    size_t frames = 0;

    (void)state;
    harness_handshake();
    struct buf burst;
    buf_init(&burst, 0);
    for (int i = 0; i < 1000; i++)
        buf_append(&burst, unknown, sizeof(unknown));
    /* Sends until the server stops to read. */
    while (!harness_session()->paused) {
        assert_true(frames < 10000000);
        harness_send(buf_str(&burst));
        frames += 1000;
        harness_tick();
    }
    uint64_t unsent = conn_unsent(&harness_session()->conn);
    assert_true(unsent >= SESSION_ANSWERS_MAX && unsent < SESSION_ANSWERS_MAX + (1 << 20));
    /* When it reads, all comes. */
    for (size_t i = 0; i < frames; i++)
        harness_expect_error(9, FIBP_INVALID_FRAME);
    harness_ping(1);
    buf_free(&burst);
}

static void test_worker_limit_pauses_everyone(void **state)
{
    struct buf buf;

    (void)state;
    harness_handshake();
    buf_init(&buf, 0);
    harness_enqueue(&buf, 1, STR("orders"), STR("x"));
    harness->sessions.outstanding += SESSIONS_OUTSTANDING_LAST;
    harness_send(buf_str(&buf));
    HARNESS_UNTIL(harness_session()->paused);
    harness->sessions.outstanding = SESSIONS_OUTSTANDING_MAX / 2 + 1;
    for (int i = 0; i < 5; i++)
        harness_tick();
    assert_true(harness_session()->paused);
    harness->sessions.outstanding -= 1;
    harness_expect(OPCODE_ENQUEUE_RESULT, 1);
    harness->sessions.outstanding = 0;
    buf_free(&buf);
}

/* What others have under way pauses a session only once it has something under way itself. */
static void test_worker_limit_leaves_room_for_the_modest(void **state)
{
    struct buf buf;

    (void)state;
    harness_handshake();
    harness->answering = false;
    buf_init(&buf, 0);
    harness_enqueue(&buf, 1, STR("orders"), STR("x"));
    harness_enqueue(&buf, 2, STR("orders"), STR("x"));
    harness->sessions.outstanding += SESSIONS_OUTSTANDING_MAX;
    harness_request(OPCODE_PING, 7, STR(""));
    harness_expect(OPCODE_PONG, 7);
    harness_send(buf_str(&buf));
    HARNESS_UNTIL(harness->submitted_count == 1 && harness_session()->paused);
    harness_complete(harness_pick(0));
    harness_expect(OPCODE_ENQUEUE_RESULT, 1);
    assert_true(harness_session()->paused);
    harness->sessions.outstanding -= SESSIONS_OUTSTANDING_MAX;
    HARNESS_UNTIL(harness->submitted_count == 1);
    harness_complete(harness_pick(0));
    harness_expect(OPCODE_ENQUEUE_RESULT, 2);
    buf_free(&buf);
}

/* ---- ends ---- */

static void test_drain_answers_first(void **state)
{
    struct buf buf;

    (void)state;
    harness_handshake();
    harness_consume(10, STR("orders"), NULL);
    harness->answering = false;
    buf_init(&buf, 0);
    harness_enqueue(&buf, 1, STR("orders"), STR("x"));
    harness_enqueue(&buf, 2, STR("orders"), STR("y"));
    harness_send(str_of(buf.data, buf.size - 3)); /* the second has arrived in part */
    HARNESS_UNTIL(harness->submitted_count == 1 && conn_input(&harness_session()->conn).size > 0);
    sessions_drain(&harness->sessions);
    for (int i = 0; i < 3; i++)
        harness_tick();
    harness_read();
    assert_int_equal(harness->received.size, 0);
    harness_send(str_of(buf.data + buf.size - 3, 3));
    HARNESS_UNTIL(harness->submitted_count == 3); /* both, and the unsubscription */
    harness_answer_all();
    harness_expect(OPCODE_ENQUEUE_RESULT, 1);
    harness_expect(OPCODE_ENQUEUE_RESULT, 2);
    harness_expect(OPCODE_DISCONNECT, 0);
    harness_expect_close();
    harness_hang_up();
    HARNESS_UNTIL(list_empty(&harness->sessions.all));
    buf_free(&buf);
}

static void test_drain_of_idle_and_new(void **state)
{
    (void)state;
    harness_handshake();
    sessions_drain(&harness->sessions);
    harness_expect(OPCODE_DISCONNECT, 0);
    harness_expect_close();
    harness_hang_up();
    HARNESS_UNTIL(list_empty(&harness->sessions.all));
    /* One that comes now is told after its handshake. */
    harness_connect();
    harness_handshake();
    harness_expect(OPCODE_DISCONNECT, 0);
    harness_expect_close();
}

/* Half closed by the client: what it asked for is answered all the same. */
static void test_half_close(void **state)
{
    struct buf buf;

    (void)state;
    harness_handshake();
    harness->answering = false;
    buf_init(&buf, 0);
    harness_enqueue(&buf, 1, STR("orders"), STR("x"));
    harness_send(buf_str(&buf));
    shutdown(harness->client, SHUT_WR);
    HARNESS_UNTIL(harness->submitted_count == 1);
    for (int i = 0; i < 5; i++)
        harness_tick();
    harness_answer_all();
    harness_expect(OPCODE_ENQUEUE_RESULT, 1);
    harness_expect_close();
    buf_free(&buf);
}

static void test_refused_connection(void **state)
{
    int fds[2];

    (void)state;
    harness_hang_up();
    HARNESS_UNTIL(harness->sessions.count == 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    harness->client = fds[0];
    sessions_refuse(&harness->sessions, fds[1], &harness->listen);
    assert_int_equal(harness->sessions.count, 0);
    harness_expect_error(0, FIBP_CHANNEL_FULL);
    harness_expect_close();
}

static void test_keepalive(void **state)
{
    struct frame frame;

    (void)state;
    harness->conf.fibp.keepalive_interval_ms = 30;
    harness_handshake();
    /* As long as it answers it stays. */
    for (int i = 0; i < 3; i++) {
        uint64_t before = time_monotonic_ms();
        frame = harness_receive();
        assert_int_equal(frame.opcode, OPCODE_PING);
        assert_true(time_monotonic_ms() - before >= 25);
        harness_request(OPCODE_PONG, frame.request_id, STR(""));
    }
    frame = harness_receive();
    assert_int_equal(frame.opcode, OPCODE_PING);
    harness_expect_close();
}

/* A peer is not blamed for silence while nothing is read from it. */
static void test_keepalive_spares_the_paused(void **state)
{
    struct buf buf;

    (void)state;
    harness->conf.fibp.keepalive_interval_ms = 10;
    harness_handshake();
    harness->sessions.outstanding += SESSIONS_OUTSTANDING_LAST;
    buf_init(&buf, 0);
    harness_enqueue(&buf, 1, STR("orders"), STR("x"));
    harness_send(buf_str(&buf));
    HARNESS_UNTIL(harness_session()->paused);
    uint64_t start = time_monotonic_ms();
    HARNESS_UNTIL(time_monotonic_ms() - start > 60);
    assert_int_equal(harness->sessions.count, 1);
    harness->sessions.outstanding -= SESSIONS_OUTSTANDING_LAST;
    struct frame frame;
    do
        frame = harness_receive();
    while (frame.opcode == OPCODE_PING);
    assert_int_equal(frame.opcode, OPCODE_ENQUEUE_RESULT);
    buf_free(&buf);
}

/* The sessions go while everything is under way. */
static void test_destroy_in_flight(void **state)
{
    struct buf buf;

    (void)state;
    harness_handshake();
    harness_consume(10, STR("orders"), NULL);
    harness_deliver(harness_subscription(10), 400000);
    harness_deliver(harness_subscription(10), 400000);
    harness->answering = false;
    buf_init(&buf, 0);
    for (uint32_t id = 1; id <= 20; id++)
        harness_enqueue(&buf, id, STR("orders"), STR("x"));
    harness_send(buf_str(&buf));
    HARNESS_UNTIL(harness->submitted_count == 20);
    harness_deliver(harness_subscription(10), 100);
    buf_free(&buf);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, harness_setup, harness_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_pipelined_requests_share_a_chunk),
        TEST(test_requests_outlive_input_and_connection),
        TEST(test_large_frame_in_pieces),
        TEST(test_claimed_length_takes_no_memory),
        TEST(test_room_given_back_late_is_had_at_once),
        TEST(test_large_frames_wait_for_room),
        TEST(test_large_frame_that_trickles_is_given_up),
        TEST(test_too_many_outstanding),
        TEST(test_client_that_reads_no_answers),
        TEST(test_worker_limit_pauses_everyone),
        TEST(test_worker_limit_leaves_room_for_the_modest),
        TEST(test_drain_answers_first),
        TEST(test_drain_of_idle_and_new),
        TEST(test_half_close),
        TEST(test_refused_connection),
        TEST(test_keepalive),
        TEST(test_keepalive_spares_the_paused),
        TEST(test_destroy_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
