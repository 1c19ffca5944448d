/* Deliveries: in what order, with what in them, and how a subscription ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "server.h"

static void script_delivery_first(struct server *server)
{
    struct frame frame;
    server_welcome(server);
    uint32_t consumer = server_accept_consume(server);
    uint32_t id = server_expect(server, &frame, OPCODE_ACK);
    server_deliver(server, consumer, 1, 2, "early", FRAME_LENGTH_MAX);
    size_t start = framed_ack_result_begin(&server->out, NUMBERING_S3, OPCODE_ACK_RESULT, id, 1);
    framed_ack_result_add(&server->out, FIBP_MESSAGE_NOT_FOUND);
    SERVER_EXPECT(server, frame_end(&server->out, start, FRAME_LENGTH_MAX) == 0);
    server_flush(server);
    server_expect_end(server);
}

static void test_delivery_while_waiting(void **state)
{
    (void)state;
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_delivery *deliveries[4];
    struct fila_slice value;
    struct server server;
    server_start(&server, script_delivery_first);
    server_run(&server);
    struct fila *client = server_connect(&server, 10000);
    struct fila_consumer *consumer = fila_consume(client, "orders", &error);
    assert_non_null(consumer);
    assert_string_equal(fila_consumer_id(consumer), "cccccccc-cccc-cccc-cccc-cccccccccccc");
    assert_int_equal(fila_receive(consumer, 0, deliveries, &error), 0);
    assert_int_equal(fila_ack(client, fila_text("orders"), fila_text("nope"), &error), -1);
    assert_int_equal(error.code, FILA_MESSAGE_NOT_FOUND);
    /* They came before the answer, so they must be here. */
    assert_int_equal(fila_receive_many(consumer, 0, deliveries, 4, &error), 2);
    const struct fila_delivery *second = deliveries[1];
    assert_string_equal(second->id.data, "02020202-0202-0202-0202-020202020202");
    assert_int_equal(second->id.size, 36);
    assert_string_equal(second->queue.data, "orders");
    assert_string_equal(second->payload.data, "early");
    assert_string_equal(second->fairness_key.data, "acme");
    assert_int_equal(second->weight, 3);
    assert_int_equal(second->attempt, 1);
    assert_int_equal(second->enqueued_ms, 1000);
    assert_int_equal(second->leased_ms, 2000);
    assert_int_equal(second->throttle_key_count, 1);
    assert_string_equal(second->throttle_keys[0].data, "throttle");
    assert_int_equal(second->header_count, 2);
    assert_true(fila_delivery_header(second, "n", &value));
    assert_string_equal(value.data, "2"); /* the last of duplicates */
    assert_false(fila_delivery_header(second, "m", &value));
    fila_delivery_free(deliveries[0]);
    fila_consumer_free(consumer);
    fila_error_clear(&error);
    fila_close(client);
    assert_string_equal(second->payload.data, "early"); /* lives on its own */
    fila_delivery_free(deliveries[1]);
    server_stop(&server);
}

static void script_split(struct server *server)
{
    server_welcome(server);
    uint32_t consumer = server_accept_consume(server);
    server_deliver(server, consumer, 1, 3, "in pieces", 50);
    SERVER_EXPECT(server, server->out.size > 400);
    server_flush(server);
    server_expect_end(server);
}

static void test_split_delivery(void **state)
{
    (void)state;
    struct fila_delivery *deliveries[3];
    struct server server;
    server_start(&server, script_split);
    server_run(&server);
    struct fila *client = server_connect(&server, 10000);
    struct fila_consumer *consumer = fila_consume(client, "orders", NULL);
    assert_non_null(consumer);
    assert_int_equal(fila_receive_many(consumer, 10000, deliveries, 3, NULL), 3);
    for (int i = 0; i < 3; i++) {
        assert_string_equal(deliveries[i]->payload.data, "in pieces");
        fila_delivery_free(deliveries[i]);
    }
    fila_consumer_free(consumer);
    fila_close(client);
    server_stop(&server);
}

static void script_two_queues(struct server *server)
{
    server_welcome(server);
    uint32_t first = server_accept_consume(server);
    uint32_t second = server_accept_consume(server);
    SERVER_EXPECT(server, first != second);
    server_deliver(server, second, 2, 1, "second", FRAME_LENGTH_MAX);
    server_deliver(server, first, 1, 1, "first", FRAME_LENGTH_MAX);
    SERVER_EXPECT(server, framed_error(&server->out, first, FIBP_QUEUE_NOT_FOUND,
                                       STR("queue was deleted"), NULL, 0) == 0);
    server_deliver(server, second, 3, 1, "third", FRAME_LENGTH_MAX);
    server_flush(server);
    server_expect_end(server);
}

/* An Error under the id of a subscription ends that one alone, after what came before it. */
static void test_one_of_two_ends(void **state)
{
    (void)state;
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_delivery *delivery;
    struct server server;
    server_start(&server, script_two_queues);
    server_run(&server);
    struct fila *client = server_connect(&server, 10000);
    struct fila_consumer *first = fila_consume(client, "a", NULL);
    struct fila_consumer *second = fila_consume(client, "b", NULL);
    assert_non_null(first);
    assert_non_null(second);
    assert_int_equal(fila_receive(first, 10000, &delivery, &error), 1);
    assert_string_equal(delivery->payload.data, "first");
    fila_delivery_free(delivery);
    assert_int_equal(fila_receive(first, 10000, &delivery, &error), -1);
    assert_int_equal(error.code, FILA_QUEUE_NOT_FOUND);
    assert_string_equal(error.text, "queue was deleted");
    assert_int_equal(fila_receive(second, 10000, &delivery, &error), 1);
    assert_string_equal(delivery->payload.data, "second");
    fila_delivery_free(delivery);
    assert_int_equal(fila_receive(second, 10000, &delivery, &error), 1);
    assert_string_equal(delivery->payload.data, "third");
    fila_delivery_free(delivery);
    fila_consumer_free(first);
    fila_consumer_free(second);
    fila_error_clear(&error);
    fila_close(client);
    server_stop(&server);
}

static void script_limit(struct server *server)
{
    server_welcome(server);
    uint32_t consumer = server_accept_limited(server, 3);
    server_deliver(server, consumer, 1, 3, "few", FRAME_LENGTH_MAX);
    server_flush(server);
    server_accept_limited(server, 0);
    server_expect_end(server);
}

static void test_limit(void **state)
{
    (void)state;
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_delivery *delivery;
    struct server server;
    server_start(&server, script_limit);
    server_run(&server);
    struct fila *client = server_connect(&server, 10000);
    struct fila_consumer *consumer = fila_consume_limited(client, "orders", 3, &error);
    assert_non_null(consumer);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fila_receive(consumer, 10000, &delivery, &error), 1);
        fila_delivery_free(delivery);
    }
    /* It has not ended: it only gets nothing more. */
    assert_int_equal(fila_receive(consumer, 0, &delivery, &error), 0);
    struct fila_consumer *other = fila_consume_limited(client, "orders", 0, &error);
    assert_non_null(other);
    fila_consumer_free(consumer);
    fila_consumer_free(other);
    fila_close(client);
    server_stop(&server);
}

static void script_refuse(struct server *server)
{
    struct frame frame;
    server_welcome(server);
    uint32_t id = server_expect(server, &frame, OPCODE_CONSUME);
    server_answer_error(server, id, FIBP_QUEUE_NOT_FOUND, "");
    server_expect_end(server);
}

static void test_refused(void **state)
{
    (void)state;
    struct fila_error error = FILA_ERROR_INIT;
    struct server server;
    server_start(&server, script_refuse);
    server_run(&server);
    struct fila *client = server_connect(&server, 10000);
    assert_null(fila_consume(client, "orders", &error));
    assert_int_equal(error.code, FILA_QUEUE_NOT_FOUND);
    fila_error_clear(&error);
    fila_close(client);
    server_stop(&server);
}

static void script_cancel(struct server *server)
{
    struct frame frame;
    server_welcome(server);
    uint32_t consumer = server_accept_consume(server);
    server_expect(server, &frame, OPCODE_CANCEL_CONSUME);
    SERVER_EXPECT(server, frame.request_id == consumer && frame.body.size == 0);
    /* On its way when the cancel came: must not disturb. */
    server_deliver(server, consumer, 1, 1, "too late", FRAME_LENGTH_MAX);
    server_flush(server);
    uint32_t id = server_expect(server, &frame, OPCODE_PING);
    SERVER_EXPECT(server, frame_empty(&server->out, OPCODE_PONG, id) == 0);
    server_flush(server);
    server_expect_end(server);
}

static void *receive_for_ever(void *argument)
{
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_delivery *delivery;
    intptr_t code = fila_receive(argument, -1, &delivery, &error) == -1 ? (intptr_t)error.code : -1;
    fila_error_clear(&error);
    return (void *)code;
}

static void test_cancel_interrupts(void **state)
{
    (void)state;
    struct server server;
    pthread_t thread;
    void *code;
    server_start(&server, script_cancel);
    server_run(&server);
    struct fila *client = server_connect(&server, 10000);
    struct fila_consumer *consumer = fila_consume(client, "orders", NULL);
    assert_non_null(consumer);
    assert_int_equal(pthread_create(&thread, NULL, receive_for_ever, consumer), 0);
    fila_consumer_cancel(consumer);
    pthread_join(thread, &code);
    assert_int_equal((intptr_t)code, FILA_CLOSED);
    fila_consumer_cancel(consumer); /* again: nothing happens */
    assert_int_equal(fila_ping(client, NULL), 0);
    fila_consumer_free(consumer);
    fila_close(client);
    server_stop(&server);
}

static void script_bad_delivery(struct server *server)
{
    server_welcome(server);
    uint32_t consumer = server_accept_consume(server);
    server_deliver(server, consumer, 1, 1, "good", FRAME_LENGTH_MAX);
    size_t start = framed_delivery_begin(&server->out, NUMBERING_S3, consumer);
    SERVER_EXPECT(server, framed_delivery_end(&server->out, start, 5, FRAME_LENGTH_MAX) == 0);
    server_flush(server);
    server_expect_end(server);
}

/* Never dropped without a word. */
static void test_undecodable_delivery(void **state)
{
    (void)state;
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_delivery *delivery;
    struct server server;
    server_start(&server, script_bad_delivery);
    server_run(&server);
    struct fila *client = server_connect(&server, 10000);
    struct fila_consumer *consumer = fila_consume(client, "orders", NULL);
    assert_non_null(consumer);
    assert_int_equal(fila_receive(consumer, 10000, &delivery, &error), 1);
    fila_delivery_free(delivery);
    assert_int_equal(fila_receive(consumer, 10000, &delivery, &error), -1);
    assert_int_equal(error.code, FILA_PROTOCOL);
    fila_error_clear(&error);
    fila_consumer_free(consumer);
    fila_close(client);
    server_stop(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_delivery_while_waiting),
        cmocka_unit_test(test_split_delivery),
        cmocka_unit_test(test_one_of_two_ends),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_cancel_interrupts),
        cmocka_unit_test(test_undecodable_delivery),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
