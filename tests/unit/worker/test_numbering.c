/* Opcode numbers of S1, S2 and S3 on one session: fixed by the listener, or told by a request. */
#include "harness.h"

#include <stdio.h>

#include "worker/delivery.h"

#define UUID "01890a5d-ac96-774b-bcce-b302099a8057"
#define ACK STR("\0\0\0\1\0\6orders\0\44" UUID)
#define NACK STR("\0\0\0\1\0\6orders\0\44" UUID "\0\0")

static void listen_with(enum conf_numbering numbering)
{
    harness_hang_up();
    harness_tick();
    harness->listen.numbering = numbering;
    harness_connect();
    harness_handshake();
}

/* A request whose answer is one item of code 0. */
static void expect_settled(uint8_t request, struct str body, uint8_t answer, uint32_t id)
{
    harness_request(request, id, body);
    struct frame frame = harness_expect(answer, id);
    assert_int_equal(frame.body.size, 5);
    assert_int_equal(frame.body.data[4], FIBP_OK);
}

static void expect_refused(uint8_t request, struct str body, uint32_t id)
{
    char text[64];

    harness_request(request, id, body);
    snprintf(text, sizeof(text), "unknown or unsupported opcode: 0x%02x", request);
    assert_true(str_equal(harness_error_text(harness_expect_error(id, FIBP_INVALID_FRAME)),
                          str_from_c(text)));
}

static void expect_s2(uint32_t id)
{
    assert_int_equal(harness_session()->numbering, NUMBERING_S2);
    expect_settled(0x15, ACK, 0x16, id);
    expect_settled(0x17, NACK, 0x18, id + 1);
    expect_refused(0x16, ACK, id + 2);
    expect_refused(0x18, NACK, id + 3);
    expect_refused(0x13, STR(""), id + 4);
    harness_request_str(OPCODE_CONSUME, id + 5, STR("orders"));
    harness_expect(0x19, id + 5);
    harness_ping(id + 6);
}

static void expect_s3(uint32_t id)
{
    assert_int_equal(harness_session()->numbering, NUMBERING_S3);
    expect_settled(0x16, ACK, 0x17, id);
    expect_settled(0x18, NACK, 0x19, id + 1);
    expect_refused(0x17, NACK, id + 2);
    expect_refused(0x14, STR(""), id + 3);
    harness_request(0x15, id + 4, ACK); /* a CancelConsume that makes no sense */
    harness_expect_error(id + 4, FIBP_INVALID_FRAME);
    harness_request_str(OPCODE_CONSUME, id + 5, STR("orders"));
    harness_expect(0x13, id + 5);
    harness_ping(id + 6);
}

static void test_nothing_tells(void **state)
{
    struct buf buf;

    (void)state;
    harness_handshake();
    buf_init(&buf, 0);
    harness_enqueue(&buf, 1, STR("orders"), STR("payload"));
    harness_send(buf_str(&buf));
    buf_free(&buf);
    harness_expect(0x11, 1);
    harness_request_str(OPCODE_CONSUME, 2, STR("orders"));
    harness_expect(0x13, 2);
    harness_ping(3);
    harness_request(OPCODE_LIST_QUEUES, 4, STR(""));
    harness_expect(OPCODE_LIST_QUEUES_RESULT, 4);
    expect_refused(0x13, STR(""), 5);
    expect_refused(0x19, STR(""), 6);
    harness_request(0x15, 7, STR("\0\5abcdef")); /* cancels nothing */
    assert_int_equal(harness_session()->numbering, NUMBERING_AUTO);
    expect_settled(0x16, ACK, 0x17, 8);
    expect_s3(10);
}

static void test_each_request_that_tells(void **state)
{
    static const struct {
        struct str body;
        enum numbering numbering;
        uint8_t opcode;
        uint8_t answer; /* 0: none */
    } cases[] = {
        {ACK, NUMBERING_S2, 0x15, 0x16},
        {NACK, NUMBERING_S2, 0x17, 0x18},
        {{NULL, 0}, NUMBERING_S2, 0x14, 0},
        {ACK, NUMBERING_S3, 0x16, 0x17},
        {NACK, NUMBERING_S3, 0x18, 0x19},
        {{NULL, 0}, NUMBERING_S3, 0x15, 0},
        {STR("\0\44" UUID), NUMBERING_S3, 0x15, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        listen_with(CONF_NUMBERING_AUTO);
        if (cases[i].answer)
            expect_settled(cases[i].opcode, cases[i].body, cases[i].answer, 1);
        else
            harness_request(cases[i].opcode, 1, cases[i].body);
        harness_ping(2);
        if (cases[i].numbering == NUMBERING_S2)
            expect_s2(10);
        else
            expect_s3(10);
    }
}

/* A request that tells does so even when it is refused. */
static void test_malformed_request_tells(void **state)
{
    (void)state;
    harness_handshake();
    harness_request(0x17, 1, STR("\0"));
    harness_expect_error(1, FIBP_INVALID_FRAME);
    expect_s2(10);
}

static void test_listener_fixes_it(void **state)
{
    (void)state;
    listen_with(CONF_NUMBERING_S2);
    expect_refused(0x16, ACK, 1);
    expect_s2(10);
    listen_with(CONF_NUMBERING_S3);
    expect_refused(0x17, NACK, 1);
    expect_s3(10);
}

/* The opcode that deliveries of the session's only subscription carry. */
static uint8_t delivery_opcode(void)
{
    const struct list *first = harness_session()->subscribers.next;
    const struct subscription *subscription =
        &CONTAINER_OF(first, struct subscriber, list)->subscription;
    struct buf buf;

    buf_init(&buf, 0);
    subscription->encoder->begin(subscription, &buf);
    subscription->encoder->end(subscription, &buf, 0);
    assert_int_equal(buf.size, FRAME_OVERHEAD + 4);
    uint8_t opcode = buf.data[4];
    buf_free(&buf);
    return opcode;
}

static void test_deliveries(void **state)
{
    static const uint8_t opcodes[] = {
        [CONF_NUMBERING_AUTO] = 0x14,
        [CONF_NUMBERING_S1] = 0x13,
        [CONF_NUMBERING_S2] = 0x13,
        [CONF_NUMBERING_S3] = 0x14,
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(opcodes); i++) {
        listen_with((enum conf_numbering)i);
        harness_request_str(OPCODE_CONSUME, 1, STR("orders"));
        HARNESS_UNTIL(harness_session()->subscriber_count == 1);
        assert_int_equal(delivery_opcode(), opcodes[i]);
    }
}

/* In S1 only a Consume that fails is answered. */
static void test_s1(void **state)
{
    (void)state;
    listen_with(CONF_NUMBERING_S1);
    harness_request_str(OPCODE_CONSUME, 1, STR("orders"));
    harness_ping(2);
    assert_int_equal(harness_session()->subscriber_count, 1);
    harness_request_str(OPCODE_CONSUME, 3, STR("missing"));
    harness_expect_error(3, FIBP_QUEUE_NOT_FOUND);
    expect_settled(0x15, ACK, 0x16, 4);
    expect_settled(0x17, NACK, 0x18, 5);
    expect_refused(0x16, ACK, 6);
    expect_refused(0x19, STR(""), 7);
    harness_request(0x14, 1, STR(""));
    HARNESS_UNTIL(harness_session()->subscriber_count == 0);
}

/* What was begun before the client showed its numbering stays as it began, also when the answer is
 * still to come. */
static void test_subscription_keeps_its_numbering(void **state)
{
    (void)state;
    harness_handshake();
    harness->answering = false;
    harness_request_str(OPCODE_CONSUME, 1, STR("orders"));
    harness_request(0x17, 2, NACK);
    HARNESS_UNTIL(harness->submitted_count == 2);
    assert_int_equal(harness_session()->numbering, NUMBERING_S2);
    harness_answer_all();
    harness_expect(0x13, 1);
    harness_expect(0x18, 2);
    assert_int_equal(delivery_opcode(), 0x14);
    /* The other one begins as the client expects it. */
    harness->answering = true;
    harness_request(0x14, 1, STR(""));
    HARNESS_UNTIL(harness_session()->subscriber_count == 0);
    harness_request_str(OPCODE_CONSUME, 3, STR("orders"));
    harness_expect(0x19, 3);
    assert_int_equal(delivery_opcode(), 0x13);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, harness_setup, harness_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_tells),
        TEST(test_each_request_that_tells),
        TEST(test_malformed_request_tells),
        TEST(test_listener_fixes_it),
        TEST(test_deliveries),
        TEST(test_s1),
        TEST(test_subscription_keeps_its_numbering),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
