/* Framed sessions: handshake, every request, and everything malformed. */
#include "harness.h"

#include <stdio.h>

#include "unit/fibp/vectors.h"

static void send_bytes(const char *hex)
{
    struct vector vector = {.bytes = NULL};

    assert_true(vectors_unhex(&vector, hex, strlen(hex)));
    harness_send(str_of(vector.bytes, vector.size));
    free(vector.bytes);
}

/* ---- handshake ---- */

static void test_handshake(void **state)
{
    (void)state;
    send_bytes("00000009010000000007000100");
    struct frame frame = harness_expect(OPCODE_HANDSHAKE_OK, 0);
    assert_int_equal(frame.body.size, 14);
    assert_int_equal(bytes_get_u16(frame.body.data), 1);
    assert_int_equal(bytes_get_u64(frame.body.data + 2), 0);
    assert_int_equal(bytes_get_u32(frame.body.data + 10), FRAME_LENGTH_MAX);
    harness_ping(42);
}

static void test_handshake_in_single_bytes(void **state)
{
    static const uint8_t hello[] = {0, 0, 0, 9, 1, 0, 0, 0, 0, 0, 0, 1, 0};

    (void)state;
    for (size_t i = 0; i < sizeof(hello); i++) {
        harness_send(str_of(hello + i, 1));
        harness_tick();
        harness_tick();
    }
    harness_expect(OPCODE_HANDSHAKE_OK, 0);
    harness_ping(1);
}

static void test_handshake_with_key_and_continuation_flag(void **state)
{
    (void)state;
    send_bytes("0000002b01010000000100010100203031323334353637383961626364656630313233343536373839"
               "616263646566");
    harness_expect(OPCODE_HANDSHAKE_OK, 0);
    harness_ping(1);
}

static void test_handshake_other_version(void **state)
{
    (void)state;
    send_bytes("00000009010000000000006300");
    struct frame frame = harness_expect_error(0, FIBP_UNSUPPORTED_VERSION);
    struct str text = harness_error_text(frame);
    struct str value;
    assert_true(framed_headers_find(str_of(text.data + text.size, frame.body.size - 3 - text.size),
                                    STR("max_version"), &value));
    assert_true(str_equal(value, STR("1")));
    harness_expect_close();
}

/* A large frame that is no Handshake is refused by its header alone. */
static void test_handshake_refused_early(void **state)
{
    (void)state;
    send_bytes("00ffffff1000000000ab");
    struct frame frame = harness_expect_error(0xab, FIBP_INVALID_FRAME);
    assert_true(str_equal(harness_error_text(frame), STR("expected Handshake frame")));
    harness_expect_close();
}

static void test_handshake_too_large(void **state)
{
    (void)state;
    send_bytes("00ffffff010000000001");
    harness_expect_error(0, FIBP_INVALID_FRAME);
    harness_expect_close();
}

static void test_handshake_deadline(void **state)
{
    (void)state;
    harness_hang_up();
    HARNESS_UNTIL(harness->sessions.count == 0);
    harness->conf.fibp.handshake_timeout_ms = 20;
    harness_connect();
    send_bytes("0000");
    harness_expect_close();
}

/* ---- other protocols ---- */

static void test_preface_client(void **state)
{
    (void)state;
    send_bytes("464942500100");
    HARNESS_UNTIL(harness_closed());
    assert_true(harness->received.size > 10);
    assert_int_equal(bytes_get_u32(harness->received.data), harness->received.size - 4);
    assert_int_equal(harness->received.data[4], 0);
    assert_int_equal(harness->received.data[5], 0xff);
    assert_int_equal(bytes_get_u32(harness->received.data + 6), 0);
    assert_non_null(memmem(harness->received.data, harness->received.size, "framed", 6));
}

static void test_preface_wrong_magic(void **state)
{
    (void)state;
    send_bytes("464942510100");
    HARNESS_UNTIL(harness_closed());
    assert_non_null(memmem(harness->received.data, harness->received.size, "invalid magic", 13));
}

static void test_tls_and_http_clients(void **state)
{
    (void)state;
    send_bytes("16030102000100");
    harness_expect_close();
    harness_hang_up();
    harness_connect();
    harness_send(STR("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    harness_expect_close();
}

/* ---- malformed vectors ---- */

static uint32_t vector_id(const char *comment)
{
    const char *at = strstr(comment, "=>"), *id = at ? strstr(at, "id ") : NULL;

    return id ? (uint32_t)strtoul(id + 3, NULL, 10) : 0;
}

/* Those that come as the first bytes of a connection. */
static void test_malformed_before_handshake(void **state)
{
    static const char prefix[] = "framed(before handshake) C->S MALFORMED";
    struct vectors vectors;
    size_t seen = 0;

    (void)state;
    assert_true(vectors_load(&vectors, "malformed.txt"));
    for (size_t i = 0; i < vectors.count; i++) {
        struct vector *vector = &vectors.items[i];

        if (strncmp(vector->comment, prefix, sizeof(prefix) - 1) != 0)
            continue;
        harness_hang_up();
        harness_connect();
        harness_send(str_of(vector->bytes, vector->size));
        bool version = strstr(vector->comment, "0x0D") != NULL;
        uint32_t id = strstr(vector->comment, "rid 0") || version ? 0 : vector_id(vector->comment);
        harness_expect_error(id, version ? FIBP_UNSUPPORTED_VERSION : FIBP_INVALID_FRAME);
        harness_expect_close();
        seen++;
    }
    vectors_free(&vectors);
    assert_int_equal(seen, 6);
}

static void check_malformed(const struct vector *vector)
{
    const char *reaction = strstr(vector->comment, "=>");

    assert_non_null(reaction);
    harness_hang_up();
    harness_connect();
    harness_handshake();
    harness_send(str_of(vector->bytes, vector->size));
    if (strstr(reaction, "connection ends")) {
        shutdown(harness->client, SHUT_WR);
        harness_expect_close();
    } else if (strstr(reaction, "NOT an error")) {
        assert_int_not_equal(harness_receive().opcode, OPCODE_ERROR);
        harness_ping(9);
    } else if (strstr(reaction, "stays open")) {
        harness_expect_error(bytes_get_u32(vector->bytes + 6), FIBP_INVALID_FRAME);
        harness_ping(9);
    } else if (strstr(reaction, "rid 0")) {
        harness_expect_error(0, FIBP_INVALID_FRAME);
        harness_expect_close();
    } else {
        harness_expect_error(vector_id(vector->comment), FIBP_INVALID_FRAME);
        harness_expect_close();
    }
}

static void test_malformed(void **state)
{
    static const char prefix[] = "framed C->S MALFORMED";
    struct vectors vectors;
    size_t seen = 0;

    (void)state;
    assert_true(vectors_load(&vectors, "malformed.txt"));
    for (size_t i = 0; i < vectors.count; i++) {
        struct vector *vector = &vectors.items[i];

        /* Operations that this build lacks answer for all bodies alike. */
        if (strncmp(vector->comment, prefix, sizeof(prefix) - 1) != 0 ||
            strstr(vector->comment, "SetAcl"))
            continue;
        check_malformed(vector);
        seen++;
    }
    vectors_free(&vectors);
    assert_true(seen >= 25);
}

static void test_bytes_at_random(void **state)
{
    uint64_t random = 88172645463325252u;

    (void)state;
    for (int round = 0; round < 300; round++) {
        uint8_t frame[64] = {0, 0, 0, 60};

        harness_hang_up();
        harness_connect();
        harness_handshake();
        for (int frames = 0; frames < 20; frames++) {
            for (size_t i = 4; i < sizeof(frame); i++) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                frame[i] = i >= 10 && random % 3 ? 0 : (uint8_t)(random >> 24);
            }
            if (random % 2)
                frame[4] = (uint8_t)(OPCODE_ENQUEUE + random % 10);
            frame[5] &= 0xfe;
            if (frame[4] == OPCODE_DISCONNECT)
                frame[4] = OPCODE_PING;
            harness_send(str_of(frame, sizeof(frame)));
        }
        struct buf buf;
        buf_init(&buf, 0);
        assert_int_equal(frame_empty(&buf, OPCODE_PING, 0xfefefefe), 0);
        harness_send(buf_str(&buf));
        buf_free(&buf);
        struct frame answer;
        do
            answer = harness_receive();
        while (answer.opcode != OPCODE_PONG || answer.request_id != 0xfefefefe);
    }
}

/* ---- requests ---- */

static void test_ping_pong_disconnect(void **state)
{
    (void)state;
    harness_handshake();
    harness_request(OPCODE_PING, 43, STR("abcd"));
    assert_int_equal(harness_expect(OPCODE_PONG, 43).body.size, 0);
    harness_request(OPCODE_PONG, 5, STR(""));
    harness_ping(44);
    harness_request(OPCODE_DISCONNECT, 0, STR(""));
    harness_expect_close();
}

static void test_enqueue(void **state)
{
    (void)state;
    harness_handshake();
    /* Two messages, two queues. */
    send_bytes("000000331000000000020000000200066f72646572730001000674656e616e74000461636d65000000"
               "016100046d61696c000000000000");
    struct frame frame = harness_expect(OPCODE_ENQUEUE_RESULT, 2);
    assert_int_equal(bytes_get_u32(frame.body.data), 2);
    assert_int_equal(frame.body.size, 4 + 2 * 39);
    /* None. */
    send_bytes("0000000a10000000000300000000");
    frame = harness_expect(OPCODE_ENQUEUE_RESULT, 3);
    assert_int_equal(frame.body.size, 4);
    assert_int_equal(bytes_get_u32(frame.body.data), 0);
    /* A queue that is not there is the item's fault. */
    struct buf buf;
    buf_init(&buf, 0);
    harness_enqueue(&buf, 4, STR("missing"), STR("x"));
    harness_send(buf_str(&buf));
    buf_free(&buf);
    frame = harness_expect(OPCODE_ENQUEUE_RESULT, 4);
    assert_int_equal(frame.body.size, 4 + 3);
    assert_int_equal(frame.body.data[4], FIBP_QUEUE_NOT_FOUND);
}

static void test_enqueue_operation(void **state)
{
    (void)state;
    harness_handshake();
    harness->answering = false;
    send_bytes("000000331000000000020000000200066f72646572730001000674656e616e74000461636d65000000"
               "016100046d61696c000000000000");
    HARNESS_UNTIL(harness->submitted_count == 1);
    struct operation_enqueue *enqueue = harness_pick(0);
    assert_int_equal(enqueue->operation.kind, OPERATION_ENQUEUE);
    assert_int_equal(enqueue->count, 2);
    assert_true(str_equal(enqueue->items[0].queue, STR("orders")));
    assert_int_equal(enqueue->items[0].record.size, 2 + 8 + 6 + 5);
    assert_true(str_equal(enqueue->items[0].fairness_key, STR("default")));
    assert_int_equal(enqueue->items[0].weight, 1);
    assert_int_equal(enqueue->items[0].throttle_count, 0);
    assert_true(str_equal(enqueue->items[1].queue, STR("mail")));
    /* A failure of the store is that of every item; of anything else, of the frame. */
    enqueue->operation.status = FIBP_STORAGE_ERROR;
    harness_complete(&enqueue->operation);
    struct frame frame = harness_expect(OPCODE_ENQUEUE_RESULT, 2);
    assert_int_equal(frame.body.size, 4 + 2 * 3);
    assert_int_equal(frame.body.data[4], FIBP_STORAGE_ERROR);
    assert_int_equal(frame.body.data[7], FIBP_STORAGE_ERROR);
}

static void test_overload_says_when_to_retry(void **state)
{
    struct str text, value;

    (void)state;
    harness_handshake();
    harness->answering = false;
    send_bytes("0000001d1000000000010000000100066f726465727300000000000568656c6c6f");
    HARNESS_UNTIL(harness->submitted_count == 1);
    struct operation *operation = harness_pick(0);
    operation->status = FIBP_CHANNEL_FULL;
    operation->reason = "no room in shared memory";
    harness_complete(operation);
    struct frame frame = harness_expect_error(1, FIBP_CHANNEL_FULL);
    text = harness_error_text(frame);
    assert_true(str_equal(text, STR("no room in shared memory")));
    assert_true(framed_headers_find(str_of(text.data + text.size, frame.body.size - 3 - text.size),
                                    STR("retry_after_ms"), &value));
    assert_true(str_equal(value, STR("100")));
    /* So does a request of which no item had room. */
    send_bytes("0000001d1000000000020000000100066f726465727300000000000568656c6c6f");
    HARNESS_UNTIL(harness->submitted_count == 1);
    struct operation_enqueue *enqueue = (struct operation_enqueue *)harness_pick(0);
    enqueue->items[0].status = FIBP_CHANNEL_FULL;
    harness_complete(&enqueue->operation);
    frame = harness_expect_error(2, FIBP_CHANNEL_FULL);
    text = harness_error_text(frame);
    assert_true(framed_headers_find(str_of(text.data + text.size, frame.body.size - 3 - text.size),
                                    STR("retry_after_ms"), &value));
}

static void test_ack_and_nack(void **state)
{
    (void)state;
    harness_handshake();
    send_bytes("000000461600000000050000000200066f72646572730024303138393061"
               "35642d616339362d373734622d626363652d62333032303939613830353700066f726465727300046e"
               "6f7065");
    struct frame frame = harness_expect(OPCODE_ACK_RESULT, 5);
    assert_int_equal(frame.body.size, 4 + 2);
    assert_int_equal(frame.body.data[4], FIBP_OK);
    assert_int_equal(frame.body.data[5], FIBP_MESSAGE_NOT_FOUND);
    harness->answering = false;
    send_bytes("0000003e1800000000060000000100066f726465727300243031383930613564"
               "2d616339362d373734622d626363652d6233303230393961383035370004626f6f6d");
    HARNESS_UNTIL(harness->submitted_count == 1);
    struct operation_settle *nack = harness_pick(0);
    assert_int_equal(nack->operation.kind, OPERATION_NACK);
    assert_true(str_equal(nack->items[0].queue, STR("orders")));
    assert_true(str_equal(nack->items[0].error, STR("boom")));
    assert_true(nack->items[0].id_valid);
    nack->items[0].status = FIBP_OK;
    harness_complete(&nack->operation);
    frame = harness_expect(OPCODE_NACK_RESULT, 6);
    assert_int_equal(frame.body.data[4], FIBP_OK);
}

static void create_queue(uint32_t id, struct str name, struct str script, uint64_t timeout_ms)
{
    struct buf body;

    buf_init(&body, 0);
    wire_put_str(&body, name);
    wire_put_opt_str(&body, script.size > 0, script);
    buf_append_u8(&body, 1); /* present and empty: no script */
    buf_append_u16(&body, 0);
    buf_append_u64(&body, timeout_ms);
    harness_request(OPCODE_CREATE_QUEUE, id, buf_str(&body));
    buf_free(&body);
}

static void test_create_queue(void **state)
{
    char long_name[256];

    (void)state;
    harness_handshake();
    create_queue(1, STR("orders"), STR(""), 0);
    struct frame frame = harness_expect(OPCODE_CREATE_QUEUE_RESULT, 1);
    assert_int_equal(frame.body.data[0], FIBP_OK);
    assert_true(str_equal(str_of(frame.body.data + 3, 6), STR("orders")));

    create_queue(2, STR("orders"), STR("function on_enqueue() end"), 0);
    frame = harness_expect(OPCODE_CREATE_QUEUE_RESULT, 2);
    assert_int_equal(frame.body.data[0], FIBP_LUA_COMPILATION_ERROR);
    assert_non_null(memmem(frame.body.data, frame.body.size, "this build has no Lua module", 28));

    memset(long_name, 'q', sizeof(long_name));
    create_queue(3, STR(""), STR(""), 0);
    harness_expect_error(3, FIBP_INVALID_FRAME);
    create_queue(4, str_of(long_name, 256), STR(""), 0);
    harness_expect_error(4, FIBP_INVALID_FRAME);
    create_queue(5, STR("a\nb"), STR(""), 0);
    harness_expect_error(5, FIBP_INVALID_FRAME);
    create_queue(6, str_of(long_name, 255), STR(""), 0);
    assert_int_equal(harness_expect(OPCODE_CREATE_QUEUE_RESULT, 6).body.data[0], FIBP_OK);

    harness->answering = false;
    create_queue(7, STR("slow"), STR(""), UINT64_MAX);
    HARNESS_UNTIL(harness->submitted_count == 1);
    struct operation_create_queue *create = harness_pick(0);
    assert_true(create->visibility_timeout_ms == UINT64_C(604800000));
    create->operation.status = FIBP_QUEUE_ALREADY_EXISTS;
    harness_complete(&create->operation);
    frame = harness_expect(OPCODE_CREATE_QUEUE_RESULT, 7);
    assert_int_equal(frame.body.data[0], FIBP_QUEUE_ALREADY_EXISTS);
    assert_true(str_equal(str_of(frame.body.data + 3, 4), STR("slow")));

    create_queue(8, STR("full"), STR(""), 0);
    HARNESS_UNTIL(harness->submitted_count == 1);
    create = harness_pick(0);
    create->operation.status = FIBP_STORAGE_ERROR;
    create->operation.reason = "the disk is full";
    harness_complete(&create->operation);
    frame = harness_expect(OPCODE_CREATE_QUEUE_RESULT, 8);
    assert_int_equal(frame.body.data[0], FIBP_STORAGE_ERROR);
    assert_true(str_equal(str_of(frame.body.data + 3, 16), STR("the disk is full")));
}

static void test_delete_list_stats(void **state)
{
    (void)state;
    harness_handshake();
    harness->answering = false;
    harness_request_str(OPCODE_DELETE_QUEUE, 1, STR("orders"));
    harness_request(OPCODE_LIST_QUEUES, 2, STR("garbage"));
    HARNESS_UNTIL(harness->submitted_count == 2);
    /* Answers that may be large come one at a time: what follows waits. */
    harness_request_str(OPCODE_GET_STATS, 3, STR("orders"));
    harness_request_str(OPCODE_GET_STATS, 4, STR("nothing"));

    struct operation_delete_queue *delete = harness_pick(0);
    assert_true(str_equal(delete->name, STR("orders")));
    delete->operation.status = FIBP_QUEUE_NOT_FOUND;
    harness_complete(&delete->operation);
    assert_int_equal(harness_expect(OPCODE_DELETE_QUEUE_RESULT, 1).body.data[0],
                     FIBP_QUEUE_NOT_FOUND);

    struct operation_list_queues *list = harness_pick(0);
    list->rows = calloc(2, sizeof(*list->rows));
    assert_non_null(list->rows);
    list->rows[0] = (struct operation_queue_row){STR("a"), 3, 1, 2, 100};
    list->rows[1] = (struct operation_queue_row){STR("a.dlq"), 0, 0, 0, 100};
    list->count = 2;
    harness_complete(&list->operation);
    struct frame frame = harness_expect(OPCODE_LIST_QUEUES_RESULT, 2);
    assert_int_equal(frame.body.size, 1 + 4 + 2 + (3 + 28) + (7 + 28));
    assert_int_equal(bytes_get_u64(frame.body.data + 10), 3);

    HARNESS_UNTIL(harness->submitted_count == 1);
    struct operation_get_stats *stats = harness_pick(0);
    assert_true(str_equal(stats->name, STR("orders")));
    stats->totals =
        (struct operation_queue_row){.depth = 5, .in_flight = 2, .consumers = 1, .counted = 100};
    stats->quantum = 1000;
    stats->active_keys = stats->key_count = 1;
    stats->keys = calloc(1, sizeof(*stats->keys));
    assert_non_null(stats->keys);
    stats->keys[0] = (struct operation_key_row){STR("acme"), 3, -4, 7};
    harness_complete(&stats->operation);
    frame = harness_expect(OPCODE_GET_STATS_RESULT, 3);
    assert_int_equal(frame.body.size, 1 + 24 + 8 + 12 + 2 + (6 + 8 + 8 + 4) + 2);
    assert_int_equal(bytes_get_u64(frame.body.data + 1), 5);

    HARNESS_UNTIL(harness->submitted_count == 1);
    struct operation *missing = harness_pick(0);
    missing->status = FIBP_QUEUE_NOT_FOUND;
    harness_complete(missing);
    frame = harness_expect_error(4, FIBP_QUEUE_NOT_FOUND);
    assert_true(str_equal(harness_error_text(frame), STR("queue not found: nothing")));
}

/* Numbers that are not exact say so behind the last field. */
static void test_statistics_while_counting(void **state)
{
    (void)state;
    harness_handshake();
    harness->answering = false;
    harness_request(OPCODE_LIST_QUEUES, 1, STR(""));
    HARNESS_UNTIL(harness->submitted_count == 1);
    struct operation_list_queues *list = harness_pick(0);
    list->rows = calloc(2, sizeof(*list->rows));
    assert_non_null(list->rows);
    list->rows[0] = (struct operation_queue_row){STR("a"), 3, 1, 2, 43};
    list->rows[1] = (struct operation_queue_row){STR("b"), 0, 0, 0, 100};
    list->count = 2;
    harness_complete(&list->operation);
    struct frame frame = harness_expect(OPCODE_LIST_QUEUES_RESULT, 1);
    assert_int_equal(frame.body.size, 1 + 4 + 2 + 2 * (3 + 28) + 6);
    assert_memory_equal(frame.body.data + frame.body.size - 6, "fila\x2b\x64", 6);

    harness_request_str(OPCODE_GET_STATS, 2, STR("a"));
    HARNESS_UNTIL(harness->submitted_count == 1);
    struct operation_get_stats *stats = harness_pick(0);
    stats->totals = (struct operation_queue_row){.depth = 5, .counted = 0};
    harness_complete(&stats->operation);
    frame = harness_expect(OPCODE_GET_STATS_RESULT, 2);
    assert_int_equal(frame.body.size, 1 + 24 + 8 + 12 + 2 + 2 + 5);
    assert_memory_equal(frame.body.data + frame.body.size - 5, "fila\x00", 5);
}

/* A name that no queue can have is cut, and not within a character. */
static void test_missing_queue_with_a_long_name(void **state)
{
    uint8_t name[301];

    (void)state;
    memset(name, 'x', 254);
    for (size_t i = 254; i + 1 < sizeof(name); i += 2)
        memcpy(name + i, "\xc3\xa4", 2);
    harness_handshake();
    harness->answering = false;
    harness_request_str(OPCODE_GET_STATS, 1, str_of(name, 300));
    HARNESS_UNTIL(harness->submitted_count == 1);
    struct operation *missing = harness_pick(0);
    missing->status = FIBP_QUEUE_NOT_FOUND;
    harness_complete(missing);
    struct str text = harness_error_text(harness_expect_error(1, FIBP_QUEUE_NOT_FOUND));
    assert_int_equal(text.size, strlen("queue not found: ") + 254);
    assert_int_equal(text.data[text.size - 1], 'x');
}

static void test_operations_not_built(void **state)
{
    static const uint8_t opcodes[] = {
        OPCODE_CREATE_API_KEY, OPCODE_REVOKE_API_KEY, OPCODE_LIST_API_KEYS,
        OPCODE_SET_ACL,        OPCODE_GET_ACL,
    };

    (void)state;
    harness_handshake();
    for (uint32_t i = 0; i < sizeof(opcodes); i++) {
        char text[64];

        harness_request(opcodes[i], 70 + i, STR("x"));
        struct frame frame = harness_expect_error(70 + i, FIBP_INVALID_FRAME);
        snprintf(text, sizeof(text), "operation not in this build: %s", opcode_name(opcodes[i]));
        assert_true(str_equal(harness_error_text(frame), str_from_c(text)));
    }
    harness_ping(1);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, harness_setup, harness_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_handshake),
        TEST(test_handshake_in_single_bytes),
        TEST(test_handshake_with_key_and_continuation_flag),
        TEST(test_handshake_other_version),
        TEST(test_handshake_refused_early),
        TEST(test_handshake_too_large),
        TEST(test_handshake_deadline),
        TEST(test_preface_client),
        TEST(test_preface_wrong_magic),
        TEST(test_tls_and_http_clients),
        TEST(test_malformed_before_handshake),
        TEST(test_malformed),
        TEST(test_bytes_at_random),
        TEST(test_ping_pong_disconnect),
        TEST(test_enqueue),
        TEST(test_enqueue_operation),
        TEST(test_overload_says_when_to_retry),
        TEST(test_ack_and_nack),
        TEST(test_create_queue),
        TEST(test_delete_list_stats),
        TEST(test_statistics_while_counting),
        TEST(test_missing_queue_with_a_long_name),
        TEST(test_operations_not_built),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
