/* Deliveries on their way to a connection. */
#include "harness.h"

#include "fibp/framed_client.h"
#include "worker/delivery.h"

static struct operation_delivery *delivery_of(struct subscription *subscription)
{
    struct operation_delivery *delivery = calloc(1, sizeof(*delivery));
    struct buf frame;

    assert_non_null(delivery);
    buf_init(&frame, 0);
    assert_int_equal(frame_empty(&frame, OPCODE_DELIVERY, subscription->request_id), 0);
    delivery->operation.kind = OPERATION_DELIVERY;
    delivery->subscription = subscription;
    delivery->frame = frame.data;
    delivery->size = frame.size;
    atomic_fetch_add(&subscription->window->queued, frame.size);
    atomic_fetch_add(&subscription->window->worker->queued, frame.size);
    return delivery;
}

/* What was lost with the store threads takes no room, what is here does. */
static void test_window_is_counted_anew(void **state)
{
    struct buf buf;

    (void)state;
    harness_handshake();
    harness_request_str(OPCODE_CONSUME, 10, STR("orders"));
    harness_expect(OPCODE_CONSUME_OK, 10);
    /* Behind a write that is not answered the delivery is kept. */
    harness->answering = false;
    buf_init(&buf, 0);
    harness_enqueue(&buf, 1, STR("orders"), STR("m"));
    harness_send(buf_str(&buf));
    buf_free(&buf);
    HARNESS_UNTIL(harness->submitted_count == 1);
    struct delivery_window *window = &harness_session()->window;
    struct operation_delivery *delivery =
        delivery_of(&subscriber_find(harness_session(), 10)->subscription);
    size_t size = delivery->size;
    harness_complete(&delivery->operation);
    HARNESS_UNTIL(!list_empty(&harness_session()->kept));
    atomic_fetch_add(&window->queued, 5000);
    atomic_fetch_add(&window->worker->queued, 7000);
    atomic_store(&window->paused, 1);
    atomic_store(&window->worker->paused, 1);

    sessions_recount(&harness->sessions);
    assert_int_equal(atomic_load(&window->queued), size);
    assert_int_equal(atomic_load(&window->paused), 0);
    assert_int_equal(atomic_load(&window->worker->queued), size);
    assert_int_equal(atomic_load(&window->worker->paused), 0);
    harness_answer_all();
    harness_expect(OPCODE_ENQUEUE_RESULT, 1);
    harness_expect(OPCODE_DELIVERY, 10);
    HARNESS_UNTIL(atomic_load(&window->queued) == 0);
    assert_int_equal(atomic_load(&window->worker->queued), 0);
}

/* A client may have left meanwhile: its subscriptions meet the next environment, too, and must not
 * refer to what the lost thread had. */
static void test_window_of_a_closed_session_is_counted_anew(void **state)
{
    struct list lost;

    (void)state;
    harness_handshake();
    harness_request_str(OPCODE_CONSUME, 10, STR("orders"));
    harness_expect(OPCODE_CONSUME_OK, 10);
    harness->answering = false;
    struct delivery_window *window = &harness_session()->window;
    session_close(harness_session(), "test");
    HARNESS_UNTIL(harness->submitted_count == 1); /* the end of its subscription */
    assert_true(list_empty(&harness->sessions.all));
    list_append(&window->waiting, &lost);
    atomic_fetch_add(&window->queued, 5000);
    atomic_fetch_add(&window->worker->queued, 5000);

    sessions_recount(&harness->sessions);
    assert_true(list_empty(&window->waiting));
    assert_int_equal(atomic_load(&window->queued), 0);
    assert_int_equal(atomic_load(&window->worker->queued), 0);
    harness_answer_all();
    HARNESS_UNTIL(list_empty(&harness->sessions.closed));
}

static bool read_rest(const struct delivery_message *message, uint8_t *to)
{
    memset(to, 'z', (size_t)message->rest);
    return message->context != NULL;
}

/* What is stored apart is read to its place in the frame; a message that is gone leaves nothing. */
static void test_delivery_reads_what_is_apart(void **state)
{
    (void)state;
    harness_handshake();
    harness_request_str(OPCODE_CONSUME, 10, STR("orders"));
    harness_expect(OPCODE_CONSUME_OK, 10);
    struct subscription *subscription = &subscriber_find(harness_session(), 10)->subscription;
    struct delivery_message message = {.queue = subscription->queue,
                                       .record = STR("\0\0\0\0\0\x07"),
                                       .rest = 7,
                                       .read_rest = read_rest,
                                       .context = subscription,
                                       .fairness_key = STR("acme")};
    struct framed_client_delivery item;
    struct wire_reader reader;
    struct buf frame;
    uint32_t count = 0;
    buf_init(&frame, 0);
    subscription->encoder->begin(subscription, &frame);
    size_t empty = frame.size;
    message.context = NULL;
    assert_false(subscription->encoder->add(subscription, &frame, &message));
    assert_int_equal(frame.size, empty);
    assert_false(frame.failed);
    message.context = subscription;
    assert_true(subscription->encoder->add(subscription, &frame, &message));
    subscription->encoder->end(subscription, &frame, 1);
    assert_false(frame.failed);
    wire_reader_init(&reader, str_of(frame.data + FRAME_OVERHEAD, frame.size - FRAME_OVERHEAD));
    assert_true(framed_client_delivery_begin(&reader, &count));
    assert_int_equal(count, 1);
    assert_true(framed_client_delivery_next(&reader, &item));
    assert_true(str_equal(item.payload, STR("zzzzzzz")));
    assert_true(str_equal(item.fairness_key, STR("acme")));
    buf_free(&frame);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_window_is_counted_anew, harness_setup,
                                        harness_teardown),
        cmocka_unit_test_setup_teardown(test_window_of_a_closed_session_is_counted_anew,
                                        harness_setup, harness_teardown),
        cmocka_unit_test_setup_teardown(test_delivery_reads_what_is_apart, harness_setup,
                                        harness_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
