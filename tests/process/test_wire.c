/* The framed dialect against the daemon: handshake, errors that leave the connection open and
 * errors that do not, and the answers of each operation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "process/support/fixture.h"

/* One frame with a body of raw bytes. */
static void send_frame(struct fixture *f, struct peer *peer, uint8_t opcode, uint8_t flags,
                       uint32_t request_id, const void *body, size_t size)
{
    struct buf buf;
    buf_init(&buf, 0);
    buf_append_u32(&buf, (uint32_t)size + 6);
    buf_append_u8(&buf, opcode);
    buf_append_u8(&buf, flags);
    buf_append_u32(&buf, request_id);
    buf_append(&buf, body, size);
    int status = peer_send(peer, buf_str(&buf), &f->err);
    buf_free(&buf);
    MUST(f, status);
}

/* The next frame must be an Error of this code for this request. */
static void expect_error(struct fixture *f, struct peer *peer, uint32_t request_id, int code)
{
    struct peer_frame *frame = NULL;
    struct wire_reader reader;
    struct framed_client_error error;
    MUST_GIVE(f, 1, peer_read(peer, PEER_PATIENCE_MS, &frame, &f->err));
    assert_int_equal(frame->opcode, OPCODE_ERROR);
    assert_int_equal(frame->request_id, request_id);
    wire_reader_init(&reader, str_of(frame->body, frame->size));
    assert_true(framed_client_error(&reader, &error));
    assert_int_equal(error.code, code);
    assert_true(error.text.size > 0);
    free(frame);
}

static void expect_end(struct fixture *f, struct peer *peer)
{
    struct peer_frame *frame = NULL;
    int status = peer_read(peer, PEER_PATIENCE_MS, &frame, &f->err);
    if (status >= 0)
        fail_msg("the connection was not closed: %s", status ? opcode_name(frame->opcode) : "");
}

static struct peer *raw_peer(struct fixture *f)
{
    struct peer *peer = peer_connect(f->broker.unix_address, &f->err);
    if (!peer)
        fail_msg("connect: %s", f->err.text);
    f->peers[f->peer_count++] = peer;
    return peer;
}

static void test_handshake(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = raw_peer(f);
    struct peer_frame *frame = NULL;
    struct wire_reader reader;
    struct framed_client_handshake_ok answer;
    /* Whatever the client's request id, the answer has 0. */
    send_frame(f, peer, OPCODE_HANDSHAKE, 0, 77, "\0\1\0", 3);
    MUST_GIVE(f, 1, peer_read(peer, PEER_PATIENCE_MS, &frame, &f->err));
    assert_int_equal(frame->opcode, OPCODE_HANDSHAKE_OK);
    assert_int_equal(frame->request_id, 0);
    wire_reader_init(&reader, str_of(frame->body, frame->size));
    assert_true(framed_client_handshake_ok(&reader, &answer));
    assert_int_equal(answer.version, 1);
    assert_int_equal(answer.node_id, 0);
    assert_int_equal(answer.max_frame_size, 16 << 20);
    free(frame);
    /* A second one is an unknown opcode by now. */
    send_frame(f, peer, OPCODE_HANDSHAKE, 0, 5, "\0\1\0", 3);
    expect_error(f, peer, 5, FIBP_INVALID_FRAME);
    MUST(f, peer_ping(peer, &f->err));
    f->passed = true;
}

static void test_handshake_wrong_version(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = raw_peer(f);
    send_frame(f, peer, OPCODE_HANDSHAKE, 0, 0, "\0\143\0", 3);
    expect_error(f, peer, 0, FIBP_UNSUPPORTED_VERSION);
    expect_end(f, peer);
    f->passed = true;
}

static void test_handshake_must_come_first(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = raw_peer(f);
    send_frame(f, peer, OPCODE_PING, 0, 9, NULL, 0);
    expect_error(f, peer, 9, FIBP_INVALID_FRAME);
    expect_end(f, peer);
    f->passed = true;
}

static void test_ping(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct peer_frame *frame = NULL;
    send_frame(f, peer, OPCODE_PING, 0, 42, "ignored", 7);
    MUST_GIVE(f, 1, peer_read(peer, PEER_PATIENCE_MS, &frame, &f->err));
    assert_int_equal(frame->opcode, OPCODE_PONG);
    assert_int_equal(frame->request_id, 42);
    assert_int_equal(frame->size, 0);
    free(frame);
    f->passed = true;
}

static void test_unknown_opcodes(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    /* Not the Delivery, which is a CancelConsume of other numberings. */
    static const uint8_t opcodes[] = {0x99, 0x40, OPCODE_CONSUME_OK, OPCODE_ENQUEUE_RESULT};
    for (size_t i = 0; i < sizeof opcodes; i++) {
        send_frame(f, peer, opcodes[i], 0, 100 + (uint32_t)i, NULL, 0);
        expect_error(f, peer, 100 + (uint32_t)i, FIBP_INVALID_FRAME);
    }
    MUST(f, peer_ping(peer, &f->err));
    f->passed = true;
}

static void test_malformed_body_keeps_the_connection(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    /* A million items in ten bytes; a queue name that runs past the end; a name that is not UTF-8.
     */
    send_frame(f, peer, OPCODE_ENQUEUE, 0, 1, "\0\17\102\100\0\0\0\0\0\0", 10);
    expect_error(f, peer, 1, FIBP_INVALID_FRAME);
    send_frame(f, peer, OPCODE_CONSUME, 0, 2, "\0\20q", 3);
    expect_error(f, peer, 2, FIBP_INVALID_FRAME);
    send_frame(f, peer, OPCODE_DELETE_QUEUE, 0, 3, "\0\2\377\376", 4);
    expect_error(f, peer, 3, FIBP_INVALID_FRAME);
    MUST(f, peer_ping(peer, &f->err));
    f->passed = true;
}

static void test_bad_length_ends_the_connection(void **state)
{
    struct fixture *f = *state;
    static const uint8_t long_frame[] = {0x01, 0x00, 0x00, 0x01, 0x03, 0, 0, 0, 0, 1};
    static const uint8_t short_frame[] = {0x00, 0x00, 0x00, 0x05, 0x03, 0, 0, 0, 0};
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_send(peer, str_of(long_frame, sizeof long_frame), &f->err));
    expect_error(f, peer, 0, FIBP_INVALID_FRAME);
    expect_end(f, peer);
    peer = fixture_peer(f);
    MUST(f, peer_send(peer, str_of(short_frame, sizeof short_frame), &f->err));
    expect_error(f, peer, 0, FIBP_INVALID_FRAME);
    expect_end(f, peer);
    f->passed = true;
}

static void test_preface_gets_goaway(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = raw_peer(f);
    MUST(f, peer_send(peer, STR("FIBP\1\0"), &f->err));
    /* length(4) flags(1) op(1) corr_id(4), then a text; the connection ends behind it. */
    uint8_t bytes[512];
    int size = peer_read_bytes(peer, PEER_PATIENCE_MS, bytes, sizeof bytes);
    assert_in_range(size, 11, sizeof bytes - 1);
    assert_int_equal(bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3], size - 4);
    assert_int_equal(bytes[4], 0);
    assert_int_equal(bytes[5], 0xff);
    assert_memory_equal(bytes + 6, "\0\0\0\0", 4);
    f->passed = true;
}

static void test_enqueue_to_missing_queue(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    uint32_t request;
    struct peer_frame *frame = NULL;
    struct wire_reader reader;
    uint32_t count;
    struct framed_client_result result;
    struct peer_message message = {.queue = "nowhere", .payload = STR("x")};
    MUST(f, peer_enqueue_send(peer, &message, 1, &request, &f->err));
    MUST_GIVE(f, 1, peer_answer(peer, request, PEER_PATIENCE_MS, &frame, &f->err));
    assert_int_equal(frame->opcode, OPCODE_ENQUEUE_RESULT);
    wire_reader_init(&reader, str_of(frame->body, frame->size));
    assert_true(framed_client_enqueue_result_begin(&reader, &count));
    assert_int_equal(count, 1);
    assert_true(framed_client_enqueue_result_next(&reader, &result));
    assert_int_equal(result.code, FIBP_QUEUE_NOT_FOUND);
    assert_int_equal(result.message_id.size, 0);
    free(frame);
    f->passed = true;
}

static void test_enqueue_batches(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct uuid ids[100];
    uint32_t request, count;
    struct peer_frame *frame = NULL;
    struct wire_reader reader;
    struct framed_client_result result;
    MUST(f, peer_create_queue(peer, "batch", 0, &f->err));
    MUST(f, peer_enqueue_run(peer, "batch", "m", 100, ids, &f->err));
    for (unsigned i = 1; i < 100; i++) /* ids rise within a frame */
        assert_true(memcmp(ids[i - 1].bytes, ids[i].bytes, UUID_SIZE) < 0);

    /* Each item has its own fate. */
    struct peer_message mixed[3] = {{.queue = "batch", .payload = STR("a")},
                                    {.queue = "nowhere", .payload = STR("b")},
                                    {.queue = "batch", .payload = STR("c")}};
    MUST(f, peer_enqueue_send(peer, mixed, 3, &request, &f->err));
    MUST_GIVE(f, 1, peer_answer(peer, request, PEER_PATIENCE_MS, &frame, &f->err));
    wire_reader_init(&reader, str_of(frame->body, frame->size));
    assert_true(framed_client_enqueue_result_begin(&reader, &count));
    assert_int_equal(count, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(framed_client_enqueue_result_next(&reader, &result));
        assert_int_equal(result.code, i == 1 ? FIBP_QUEUE_NOT_FOUND : FIBP_OK);
    }
    free(frame);

    /* An empty one is legal. */
    MUST(f, peer_enqueue_send(peer, NULL, 0, &request, &f->err));
    MUST_GIVE(f, 1, peer_answer(peer, request, PEER_PATIENCE_MS, &frame, &f->err));
    assert_int_equal(frame->opcode, OPCODE_ENQUEUE_RESULT);
    assert_int_equal(frame->size, 4);
    free(frame);
    fixture_wait_stats(f, peer, "batch", 102, 0, 0);
    f->passed = true;
}

static void test_round_trip(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct peer_delivery delivery;
    uint32_t subscription;
    struct uuid id;
    MUST(f, peer_create_queue(peer, "orders", 0, &f->err));
    MUST(f, peer_consume(peer, "orders", &subscription, &f->err));
    MUST(f, peer_enqueue(peer, "orders", "hello", &id, &f->err));
    fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
    assert_int_equal(delivery.subscription, subscription);
    assert_memory_equal(delivery.id.bytes, id.bytes, UUID_SIZE);
    assert_string_equal(delivery.payload, "hello");
    assert_string_equal(delivery.queue, "orders");
    assert_string_equal(delivery.fairness_key, "default");
    assert_int_equal(delivery.weight, 1);
    assert_int_equal(delivery.attempt, 0);
    assert_true(delivery.enqueued_ms > 0);
    assert_true(delivery.leased_ms >= delivery.enqueued_ms);
    MUST(f, peer_ack(peer, "orders", &id, &f->err));
    MUST_GIVE(f, FIBP_MESSAGE_NOT_FOUND, peer_ack(peer, "orders", &id, &f->err));
    fixture_wait_stats(f, peer, "orders", 0, 0, 1);
    f->passed = true;
}

static void test_consume_missing_queue(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    uint32_t subscription;
    MUST_GIVE(f, FIBP_QUEUE_NOT_FOUND, peer_consume(peer, "nowhere", &subscription, &f->err));
    MUST(f, peer_ping(peer, &f->err));
    f->passed = true;
}

static void test_script_is_refused(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct framed_create_queue request = {
        .name = STR("scripted"), .has_on_enqueue = true, .on_enqueue = STR("return {}")};
    struct buf buf;
    struct peer_frame *frame = NULL;
    struct wire_reader reader;
    struct framed_stats stats;
    uint8_t code;
    buf_init(&buf, 0);
    assert_int_equal(framed_client_create_queue(&buf, 55, &request), 0);
    MUST(f, peer_send(peer, buf_str(&buf), &f->err));
    buf_free(&buf);
    MUST_GIVE(f, 1, peer_answer(peer, 55, PEER_PATIENCE_MS, &frame, &f->err));
    assert_int_equal(frame->opcode, OPCODE_CREATE_QUEUE_RESULT);
    wire_reader_init(&reader, str_of(frame->body, frame->size));
    assert_true(framed_client_code(&reader, &code));
    assert_int_equal(code, FIBP_LUA_COMPILATION_ERROR);
    free(frame);
    MUST_GIVE(f, FIBP_QUEUE_NOT_FOUND, peer_stats(peer, "scripted", &stats, &f->err));
    f->passed = true;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_BROKER(test_handshake),
        WITH_BROKER(test_handshake_wrong_version),
        WITH_BROKER(test_handshake_must_come_first),
        WITH_BROKER(test_ping),
        WITH_BROKER(test_unknown_opcodes),
        WITH_BROKER(test_malformed_body_keeps_the_connection),
        WITH_BROKER(test_bad_length_ends_the_connection),
        WITH_BROKER(test_preface_gets_goaway),
        WITH_BROKER(test_enqueue_to_missing_queue),
        WITH_BROKER(test_enqueue_batches),
        WITH_BROKER(test_round_trip),
        WITH_BROKER(test_consume_missing_queue),
        WITH_BROKER(test_script_is_refused),
    };
    return cmocka_run_group_tests_name("framed dialect", tests, NULL, NULL);
}
