/* Subscriptions of a session, and the way of deliveries to its peer. */

#include "harness.h"

#include "worker/delivery.h"

/* ---- subscriptions ---- */

static void test_consume_and_deliver(void **state)
{
    (void)state;
    harness_handshake();
    harness_consume(10, STR("orders"), NULL);
    harness_consume(11, STR("mail"), NULL);
    harness_deliver(harness_subscription(11), 5);
    harness_deliver(harness_subscription(10), 7);
    struct frame frame = harness_expect(OPCODE_DELIVERY, 11);
    assert_int_equal(bytes_get_u32(frame.body.data), 1);
    frame = harness_expect(OPCODE_DELIVERY, 10);
    assert_int_equal(bytes_get_u32(frame.body.data), 1);
    /* id, queue, no headers, payload, key, weight, no throttle keys, attempt, two times */
    assert_int_equal(frame.body.size, 4 + 38 + 8 + 2 + 4 + 7 + 6 + 4 + 2 + 4 + 8 + 8);
    assert_int_equal(atomic_load(&harness_session()->window.queued), 0);
    assert_int_equal(harness->returned, 0);
}

static void test_consume_missing_queue(void **state)
{
    (void)state;
    harness_handshake();
    harness_request_str(OPCODE_CONSUME, 10, STR("missing"));
    struct frame frame = harness_expect_error(10, FIBP_QUEUE_NOT_FOUND);
    assert_true(str_equal(harness_error_text(frame), STR("queue not found: missing")));
    assert_int_equal(harness_session()->subscriber_count, 0);
}

static void test_cancel_in_both_forms(void **state)
{
    uint8_t id[UUID_TEXT_SIZE];

    (void)state;
    harness_handshake();
    harness_consume(10, STR("orders"), NULL);
    harness_consume(11, STR("orders"), id);
    harness_request(OPCODE_CANCEL_CONSUME, 10, STR(""));
    HARNESS_UNTIL(harness_session()->subscriber_count == 1);
    harness_request(OPCODE_CANCEL_CONSUME, 99, STR(""));
    harness_request_str(OPCODE_CANCEL_CONSUME, 12, STR("nobody"));
    harness_ping(2);
    harness_tick();
    assert_int_equal(harness_session()->subscriber_count, 1);
    assert_non_null(subscriber_find(harness_session(), 11));
    harness_request_str(OPCODE_CANCEL_CONSUME, 12, str_of(id, sizeof(id)));
    HARNESS_UNTIL(harness_session()->subscriber_count == 0);
    /* No answer ever. */
    harness_read();
    assert_int_equal(harness->received.size, 0);
}

/* It is over, and there is no answer, which a client would take for the end of its Consume. */
static void test_cancel_with_more_behind_it(void **state)
{
    (void)state;
    harness_handshake();
    harness_consume(10, STR("orders"), NULL);
    harness_consume(11, STR("orders"), NULL);
    harness_request(OPCODE_CANCEL_CONSUME, 10, STR("\xde\xad\xbe\xef"));
    HARNESS_UNTIL(harness_session()->subscriber_count == 1);
    harness_request(OPCODE_CANCEL_CONSUME, 11, STR("\0"));
    HARNESS_UNTIL(harness_session()->subscriber_count == 0);
    harness_ping(2);
    harness_read();
    assert_int_equal(harness->received.size, 0);
}

/* Cancelled before it is there: unsubscribed as soon as it is. */
static void test_cancel_while_subscribing(void **state)
{
    (void)state;
    harness_handshake();
    harness->answering = false;
    harness_request_str(OPCODE_CONSUME, 10, STR("orders"));
    harness_request(OPCODE_CANCEL_CONSUME, 10, STR(""));
    harness_ping(1);
    assert_int_equal(harness->submitted_count, 1);
    harness_complete(harness_pick(0));
    harness_expect(OPCODE_CONSUME_OK, 10);
    HARNESS_UNTIL(harness->submitted_count == 1);
    assert_int_equal(harness->submitted[0]->kind, OPERATION_UNSUBSCRIBE);
    harness_complete(harness_pick(0));
    HARNESS_UNTIL(harness_session()->subscriber_count == 0);
}

static void test_same_id_replaces(void **state)
{
    (void)state;
    harness_handshake();
    harness_consume(10, STR("orders"), NULL);
    harness->answering = false;
    harness_request_str(OPCODE_CONSUME, 10, STR("mail"));
    HARNESS_UNTIL(harness->submitted_count == 2);
    assert_int_equal(harness->submitted[0]->kind, OPERATION_UNSUBSCRIBE);
    assert_int_equal(harness->submitted[1]->kind, OPERATION_SUBSCRIBE);
    harness_answer_all();
    harness_expect(OPCODE_CONSUME_OK, 10);
    assert_int_equal(harness_session()->subscriber_count, 1);
    assert_true(str_equal(harness_subscription(10)->queue, STR("mail")));
}

static void test_too_many_subscriptions(void **state)
{
    (void)state;
    harness_handshake();
    for (uint32_t id = 1; id <= SUBSCRIBERS_MAX; id++)
        harness_consume(id, STR("orders"), NULL);
    harness_request_str(OPCODE_CONSUME, 5000, STR("orders"));
    harness_expect_error(5000, FIBP_CHANNEL_FULL);
    harness_ping(1);
}

static void test_queue_deleted(void **state)
{
    (void)state;
    harness_handshake();
    harness_consume(10, STR("orders"), NULL);
    struct operation_ended *ended = calloc(1, sizeof(*ended));
    assert_non_null(ended);
    ended->operation.kind = OPERATION_SUBSCRIPTION_ENDED;
    ended->subscription = harness_subscription(10);
    harness_complete(&ended->operation);
    struct frame frame = harness_expect_error(10, FIBP_QUEUE_NOT_FOUND);
    assert_true(str_equal(harness_error_text(frame), STR("queue deleted")));
    HARNESS_UNTIL(harness_session()->subscriber_count == 0);
    harness_consume(10, STR("orders"), NULL);
}

/* ---- deliveries ---- */

static void test_undelivered_go_back_on_close(void **state)
{
    (void)state;
    harness_handshake();
    harness_consume(10, STR("orders"), NULL);
    for (int i = 0; i < 8; i++)
        harness_deliver(harness_subscription(10), 200000);
    /* The socket takes the first ones, at least one byte; then it is full. */
    for (int i = 0; i < 5; i++)
        harness_tick();
    struct session *session = harness_session();
    assert_true(session->conn.writing);
    size_t queued = 0, untouched = 0;
    LIST_EACH(&session->conn.output, entry)
    {
        queued++;
        untouched += CONTAINER_OF(entry, struct conn_piece, list)->sent == 0;
    }
    assert_true(untouched >= 1 && untouched < 8);
    assert_true(queued - untouched <= 1);
    harness_hang_up();
    HARNESS_UNTIL(harness->sessions.count == 0 && list_empty(&harness->sessions.closed));
    assert_int_equal(harness->returned, untouched);
}

static void test_cancel_recalls(void **state)
{
    (void)state;
    harness_handshake();
    harness_consume(10, STR("orders"), NULL);
    harness_consume(11, STR("mail"), NULL);
    for (int i = 0; i < 4; i++)
        harness_deliver(harness_subscription(10), 300000);
    for (int i = 0; i < 4; i++)
        harness_deliver(harness_subscription(11), 10);
    for (int i = 0; i < 3; i++)
        harness_tick();
    harness_request(OPCODE_CANCEL_CONSUME, 10, STR(""));
    HARNESS_UNTIL(harness_session()->subscriber_count == 1);
    assert_true(harness->returned > 0);
    size_t first = 0, second = 0;
    while (second < 4) {
        struct frame frame = harness_receive();
        assert_int_equal(frame.opcode, OPCODE_DELIVERY);
        first += frame.request_id == 10;
        second += frame.request_id == 11;
    }
    assert_int_equal(first + harness->returned, 4);
    assert_int_equal(atomic_load(&harness_session()->window.queued), 0);
}

/* One that the store thread made before it heard of the cancellation. */
static void test_late_delivery_goes_back(void **state)
{
    (void)state;
    harness_handshake();
    harness_consume(10, STR("orders"), NULL);
    struct subscription *subscription = harness_subscription(10);
    harness->answering = false;
    harness_request(OPCODE_CANCEL_CONSUME, 10, STR(""));
    HARNESS_UNTIL(harness->submitted_count == 1);
    harness_deliver(subscription, 100);
    HARNESS_UNTIL(harness->returned == 1);
    assert_int_equal(atomic_load(&harness_session()->window.queued), 0);
    harness_answer_all();
    HARNESS_UNTIL(harness_session()->subscriber_count == 0);
    assert_int_equal(harness->received.size, 0);
}

static void test_window_announces_room(void **state)
{
    (void)state;
    harness_handshake();
    harness_consume(10, STR("orders"), NULL);
    struct delivery_window *window = &harness_session()->window;
    assert_int_equal(window->limit, 1 << 20);
    for (int i = 0; i < 6; i++)
        harness_deliver(harness_subscription(10), 200000);
    assert_true(atomic_load(&window->queued) > window->limit);
    atomic_store(&window->paused, 1);
    for (int i = 0; i < 5; i++)
        harness_tick();
    assert_int_equal(harness->rooms, 0);
    for (int i = 0; i < 6; i++)
        harness_expect(OPCODE_DELIVERY, 10);
    assert_int_equal(harness->rooms, 1);
    assert_int_equal(atomic_load(&window->paused), 0);
}

/* As for one connection, for all of them: the loop says so itself, with one operation. */
static void test_worker_window_announces_room(void **state)
{
    (void)state;
    harness_handshake();
    harness_consume(10, STR("orders"), NULL);
    struct delivery_window *window = harness_session()->window.worker;
    assert_int_equal(window->limit, SESSIONS_DELIVERIES_MAX);
    assert_int_equal(atomic_load(&window->queued), 0);
    window->limit = 1 << 20;
    for (int i = 0; i < 6; i++)
        harness_deliver(harness_subscription(10), 200000);
    assert_true(atomic_load(&window->queued) > window->limit);
    atomic_store(&window->paused, 1);
    for (int i = 0; i < 5; i++)
        harness_tick();
    assert_int_equal(harness->all_rooms, 0);
    for (int i = 0; i < 6; i++)
        harness_expect(OPCODE_DELIVERY, 10);
    assert_int_equal(harness->all_rooms, 1);
    assert_int_equal(atomic_load(&window->paused), 0);
    assert_int_equal(atomic_load(&window->queued), 0);
    assert_int_equal(harness->rooms, 0);
}

/* Where the worker has little left a connection has less, and is told of half of that. */
static void test_share_of_the_worker_window_announces_room(void **state)
{
    (void)state;
    harness_handshake();
    harness_consume(10, STR("orders"), NULL);
    struct delivery_window *window = &harness_session()->window;
    window->worker->limit = 8 << 20;
    assert_int_equal(delivery_window_limit(window), 1 << 20);
    for (int i = 0; i < 6; i++)
        harness_deliver(harness_subscription(10), 200000);
    assert_in_range(delivery_window_limit(window), 800000, 1000000);
    atomic_store(&window->paused, 1);
    for (int i = 0; i < 5; i++)
        harness_tick();
    assert_int_equal(harness->rooms, 0);
    for (int i = 0; i < 6; i++)
        harness_expect(OPCODE_DELIVERY, 10);
    assert_int_equal(harness->rooms, 1);
}

/* A large delivery is split as the peer's frame limit wants it. */
static void test_large_delivery_is_split(void **state)
{
    (void)state;
    harness->conf.fibp.max_frame_size = 65536;
    harness_handshake();
    harness_consume(10, STR("orders"), NULL);
    harness_deliver(harness_subscription(10), 200000);
    size_t body = 0;
    struct frame frame;
    do {
        frame = harness_expect(OPCODE_DELIVERY, 10);
        assert_true(frame.size <= 65536 + 4);
        body += frame.body.size;
    } while (frame.flags & FRAME_FLAG_CONTINUATION);
    assert_true(body > 200000);
}

/* ---- deliveries and answers ---- */

static void request_enqueue(uint32_t id)
{
    struct buf buf;

    buf_init(&buf, 0);
    harness_enqueue(&buf, id, STR("orders"), STR("x"));
    harness_send(buf_str(&buf));
    buf_free(&buf);
}

/* Ack and Nack of one message whose id is no UUID. */
static void request_settle(uint8_t opcode, uint32_t id)
{
    struct buf body;

    buf_init(&body, 0);
    buf_append_u32(&body, 1);
    wire_put_str(&body, STR("orders"));
    wire_put_str(&body, STR("id"));
    if (opcode == OPCODE_NACK)
        wire_put_str(&body, STR("error"));
    harness_request(opcode, id, buf_str(&body));
    buf_free(&body);
}

static void complete(size_t index)
{
    struct operation *operation = harness_pick(index);

    harness_execute(operation);
    harness_complete(operation);
}

static void expect_silence(void)
{
    for (int i = 0; i < 3; i++)
        harness_tick();
    harness_read();
    assert_int_equal(harness->received.size, 0);
}

/* A Delivery of one message with a payload of `size` bytes. */
static void expect_delivery(size_t size)
{
    struct frame frame = harness_expect(OPCODE_DELIVERY, 10);

    assert_int_equal(frame.body.size, 4 + 38 + 8 + 2 + 4 + size + 6 + 4 + 2 + 4 + 8 + 8);
}

static void test_delivery_waits_for_answers(void **state)
{
    (void)state;
    harness_handshake();
    harness_consume(10, STR("orders"), NULL);
    struct subscription *subscription = harness_subscription(10);
    harness->answering = false;
    request_enqueue(1);
    HARNESS_UNTIL(harness->submitted_count == 1);
    harness_deliver(subscription, 1);
    harness_deliver(subscription, 2);
    expect_silence();
    assert_true(atomic_load(&subscription->window->queued) > 0);
    request_settle(OPCODE_NACK, 2);
    HARNESS_UNTIL(harness->submitted_count == 2);
    harness_deliver(subscription, 3);
    complete(0);
    harness_expect(OPCODE_ENQUEUE_RESULT, 1);
    expect_delivery(1);
    expect_delivery(2);
    expect_silence();
    complete(0);
    harness_expect(OPCODE_NACK_RESULT, 2);
    expect_delivery(3);
    assert_int_equal(atomic_load(&subscription->window->queued), 0);
    assert_int_equal(harness->returned, 0);
}

/* Also when a later answer is made first: one that wrote nothing needs no flush. */
static void test_delivery_waits_for_the_oldest(void **state)
{
    (void)state;
    harness_handshake();
    harness_consume(10, STR("orders"), NULL);
    harness->answering = false;
    request_enqueue(1);
    request_enqueue(2);
    HARNESS_UNTIL(harness->submitted_count == 2);
    harness_deliver(harness_subscription(10), 1);
    complete(1);
    harness_expect(OPCODE_ENQUEUE_RESULT, 2);
    request_enqueue(3);
    HARNESS_UNTIL(harness->submitted_count == 2);
    expect_silence();
    complete(0);
    harness_expect(OPCODE_ENQUEUE_RESULT, 1);
    expect_delivery(1);
    harness_answer_all();
    harness_expect(OPCODE_ENQUEUE_RESULT, 3);
}

static void test_delivery_overtakes_acks(void **state)
{
    (void)state;
    harness_handshake();
    harness_consume(10, STR("orders"), NULL);
    harness->answering = false;
    request_settle(OPCODE_ACK, 1);
    HARNESS_UNTIL(harness->submitted_count == 1);
    harness_deliver(harness_subscription(10), 1);
    expect_delivery(1);
    harness_answer_all();
    harness_expect(OPCODE_ACK_RESULT, 1);
}

/* Those kept are not written: they go back as the others do. */
static void test_kept_deliveries_go_back(void **state)
{
    (void)state;
    harness_handshake();
    harness_consume(10, STR("orders"), NULL);
    harness_consume(11, STR("mail"), NULL);
    harness->answering = false;
    request_enqueue(1);
    HARNESS_UNTIL(harness->submitted_count == 1);
    harness_deliver(harness_subscription(10), 1);
    harness_deliver(harness_subscription(11), 2);
    harness_deliver(harness_subscription(11), 3);
    harness_request(OPCODE_CANCEL_CONSUME, 10, STR(""));
    HARNESS_UNTIL(harness->returned == 1);
    harness_hang_up();
    HARNESS_UNTIL(harness_session()->eof);
    HARNESS_UNTIL(harness->returned == 3);
    harness_answer_all();
    HARNESS_UNTIL(harness->sessions.count == 0 && list_empty(&harness->sessions.closed));
}

static void test_kept_deliveries_of_a_deleted_queue(void **state)
{
    (void)state;
    harness_handshake();
    harness_consume(10, STR("orders"), NULL);
    harness->answering = false;
    request_enqueue(1);
    HARNESS_UNTIL(harness->submitted_count == 1);
    harness_deliver(harness_subscription(10), 1);
    expect_silence();
    struct operation_ended *ended = calloc(1, sizeof(*ended));
    assert_non_null(ended);
    ended->operation.kind = OPERATION_SUBSCRIPTION_ENDED;
    ended->subscription = harness_subscription(10);
    harness_complete(&ended->operation);
    harness_expect_error(10, FIBP_QUEUE_NOT_FOUND);
    HARNESS_UNTIL(harness->returned == 1);
    harness_answer_all();
    harness_expect(OPCODE_ENQUEUE_RESULT, 1);
    expect_silence();
}

static void test_consume_limit(void **state)
{
    (void)state;
    harness_handshake();
    harness_consume(10, STR("orders"), NULL);
    assert_int_equal(harness_subscription(10)->limit, 0);
    harness_request(OPCODE_CONSUME, 11, STR("\x00\x06ordersfila\x00\x00\x00\x05"));
    harness_expect(OPCODE_CONSUME_OK, 11);
    assert_int_equal(harness_subscription(11)->limit, 5);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, harness_setup, harness_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_consume_and_deliver),
        TEST(test_consume_missing_queue),
        TEST(test_cancel_in_both_forms),
        TEST(test_cancel_with_more_behind_it),
        TEST(test_cancel_while_subscribing),
        TEST(test_same_id_replaces),
        TEST(test_too_many_subscriptions),
        TEST(test_queue_deleted),
        TEST(test_undelivered_go_back_on_close),
        TEST(test_cancel_recalls),
        TEST(test_late_delivery_goes_back),
        TEST(test_window_announces_room),
        TEST(test_worker_window_announces_room),
        TEST(test_share_of_the_worker_window_announces_room),
        TEST(test_large_delivery_is_split),
        TEST(test_delivery_waits_for_answers),
        TEST(test_delivery_waits_for_the_oldest),
        TEST(test_delivery_overtakes_acks),
        TEST(test_kept_deliveries_go_back),
        TEST(test_kept_deliveries_of_a_deleted_queue),
        TEST(test_consume_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
