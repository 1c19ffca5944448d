/* Requests and answers finding each other, whatever comes in between. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "server.h"

static const struct fila_message orders = {
    .queue = {"orders", 6},
    .payload = {"hello", 5},
};

/* What a callback was told. */
struct outcome {
    sem_t done;
    int calls;
    enum fila_code code;
    char id[FILA_ID_SIZE];
};

static void outcome_init(struct outcome *outcome)
{
    *outcome = (struct outcome){.code = FILA_OK};
    sem_init(&outcome->done, 0, 0);
}

static void outcome_enqueued(void *context, const struct fila_enqueue_result *results, size_t count,
                             const struct fila_error *error)
{
    struct outcome *outcome = context;
    outcome->calls++;
    outcome->code = error ? error->code : results[0].code;
    if (!error && count == 1)
        memcpy(outcome->id, results[0].id, FILA_ID_SIZE);
    sem_post(&outcome->done);
}

static void outcome_wait(struct outcome *outcome)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    while (sem_timedwait(&outcome->done, &until) != 0)
        assert_int_equal(errno, EINTR);
    sem_destroy(&outcome->done);
}

static void script_reverse(struct server *server)
{
    struct frame frame;
    server_welcome(server);
    uint32_t first = server_expect(server, &frame, OPCODE_ENQUEUE);
    uint32_t second = server_expect(server, &frame, OPCODE_ENQUEUE);
    server_answer_enqueue(server, second, 2);
    server_answer_enqueue(server, first, 1);
    server_expect_end(server);
}

static void test_answers_out_of_order(void **state)
{
    (void)state;
    struct outcome first, second;
    struct server server;
    server_start(&server, script_reverse);
    server_run(&server);
    struct fila *client = server_connect(&server, 10000);
    outcome_init(&first);
    outcome_init(&second);
    assert_int_equal(fila_enqueue_async(client, &orders, outcome_enqueued, &first, NULL), 0);
    assert_int_equal(fila_enqueue_async(client, &orders, outcome_enqueued, &second, NULL), 0);
    outcome_wait(&first);
    outcome_wait(&second);
    assert_string_equal(first.id, "01010101-0101-0101-0101-010101010101");
    assert_string_equal(second.id, "02020202-0202-0202-0202-020202020202");
    fila_close(client);
    server_stop(&server);
}

static void script_hang_up(struct server *server)
{
    struct frame frame;
    server_welcome(server);
    uint32_t id = server_accept_consume(server);
    server_deliver(server, id, 1, 1, "last", FRAME_LENGTH_MAX);
    server_flush(server);
    server_expect(server, &frame, OPCODE_ENQUEUE);
    server_expect(server, &frame, OPCODE_ENQUEUE);
    server_hang_up(server);
}

/* Everything that waits learns of the end, and what was delivered before it is not lost. */
static void test_end_fails_all(void **state)
{
    (void)state;
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_delivery *delivery;
    struct outcome outcome;
    struct server server;
    server_start(&server, script_hang_up);
    server_run(&server);
    struct fila *client = server_connect(&server, 10000);
    struct fila_consumer *consumer = fila_consume(client, "orders", &error);
    assert_non_null(consumer);
    outcome_init(&outcome);
    assert_int_equal(fila_enqueue_async(client, &orders, outcome_enqueued, &outcome, NULL), 0);
    assert_int_equal(fila_enqueue(client, &orders, NULL, &error), -1);
    assert_int_equal(error.code, FILA_TRANSPORT);
    outcome_wait(&outcome);
    assert_int_equal(outcome.code, FILA_TRANSPORT);
    assert_int_equal(outcome.calls, 1);
    assert_int_equal(fila_receive(consumer, 10000, &delivery, &error), 1);
    assert_memory_equal(delivery->payload.data, "last", 5);
    fila_delivery_free(delivery);
    assert_int_equal(fila_receive(consumer, 10000, &delivery, &error), -1);
    assert_int_equal(error.code, FILA_TRANSPORT);
    /* Later requests fail at once. */
    assert_int_equal(fila_ping(client, &error), -1);
    assert_int_equal(error.code, FILA_TRANSPORT);
    fila_close(client);
    fila_consumer_free(consumer);
    fila_error_clear(&error);
    server_stop(&server);
}

static void script_ping(struct server *server)
{
    struct frame frame;
    server_welcome(server);
    SERVER_EXPECT(server, frame_empty(&server->out, OPCODE_PING, 77) == 0);
    server_flush(server);
    /* The Pong for ours and the client's own Ping, in either order. */
    for (int i = 0; i < 2; i++) {
        SERVER_EXPECT(server, server_read(server, &frame));
        if (frame.opcode == OPCODE_PONG) {
            SERVER_EXPECT(server, frame.request_id == 77 && frame.body.size == 0);
        } else {
            SERVER_EXPECT(server, frame.opcode == OPCODE_PING && frame.request_id != 0);
            SERVER_EXPECT(server, frame_empty(&server->out, OPCODE_PONG, frame.request_id) == 0);
            server_flush(server);
        }
    }
    server_expect(server, &frame, OPCODE_DISCONNECT);
    server_expect_end(server);
}

static void test_ping_both_ways(void **state)
{
    (void)state;
    struct server server;
    server_start(&server, script_ping);
    server_run(&server);
    struct fila *client = server_connect(&server, 10000);
    assert_int_equal(fila_ping(client, NULL), 0);
    fila_close(client);
    server_stop(&server);
}

static void script_late(struct server *server)
{
    struct frame frame;
    server_welcome(server);
    uint32_t late = server_expect(server, &frame, OPCODE_ENQUEUE);
    server_wait(server);
    server_answer_enqueue(server, late, 1);
    while (server_read(server, &frame) && frame.opcode == OPCODE_PING) {
        SERVER_EXPECT(server, frame_empty(&server->out, OPCODE_PONG, frame.request_id) == 0);
        server_flush(server);
    }
    server_expect_end(server);
}

static void test_timeout_and_late_answer(void **state)
{
    (void)state;
    struct fila_error error = FILA_ERROR_INIT;
    struct server server;
    server_start(&server, script_late);
    server_run(&server);
    struct fila *client = server_connect(&server, 50);
    assert_int_equal(fila_enqueue(client, &orders, NULL, &error), -1);
    assert_int_equal(error.code, FILA_TIMEOUT);
    fila_error_clear(&error);
    server_go_on(&server);
    /* The late answer belongs to nobody and disturbs nothing. The same short timeout holds for
     * these, so a busy machine may need several. */
    int tries = 0;
    while (fila_ping(client, &error) != 0 && ++tries < 100)
        assert_int_equal(error.code, FILA_TIMEOUT);
    assert_true(tries < 100);
    fila_error_clear(&error);
    fila_close(client);
    server_stop(&server);
}

static void script_error(struct server *server)
{
    struct frame frame;
    struct wire_pair metadata[] = {{STR("retry_after_ms"), STR("100")}, {STR("new"), STR("x")}};
    server_welcome(server);
    uint32_t id = server_expect(server, &frame, OPCODE_ENQUEUE);
    SERVER_EXPECT(server, framed_error(&server->out, id, FIBP_CHANNEL_FULL, STR("too much"),
                                       metadata, 2) == 0);
    server_flush(server);
    server_expect_end(server);
}

static void test_error_with_metadata(void **state)
{
    (void)state;
    struct fila_error error = FILA_ERROR_INIT;
    struct server server;
    server_start(&server, script_error);
    server_run(&server);
    struct fila *client = server_connect(&server, 10000);
    assert_int_equal(fila_enqueue(client, &orders, NULL, &error), -1);
    assert_int_equal(error.code, FILA_OVERLOADED);
    assert_int_equal(error.server_code, 9);
    assert_string_equal(error.text, "too much");
    assert_int_equal(error.metadata_count, 2);
    assert_string_equal(fila_error_metadata(&error, "retry_after_ms"), "100");
    assert_string_equal(fila_error_metadata(&error, "new"), "x");
    assert_null(fila_error_metadata(&error, "none"));
    fila_error_clear(&error);
    fila_close(client);
    server_stop(&server);
}

static void script_wrong_answers(struct server *server)
{
    struct frame frame;
    server_welcome(server);
    /* The right id with another opcode. */
    uint32_t id = server_expect(server, &frame, OPCODE_ENQUEUE);
    SERVER_EXPECT(server, frame_empty(&server->out, OPCODE_PONG, id) == 0);
    server_flush(server);
    /* Too few results. */
    id = server_expect(server, &frame, OPCODE_ENQUEUE);
    size_t start = framed_enqueue_result_begin(&server->out, id, 0);
    SERVER_EXPECT(server, frame_end(&server->out, start, FRAME_LENGTH_MAX) == 0);
    server_flush(server);
    /* A truncated result. */
    id = server_expect(server, &frame, OPCODE_ENQUEUE);
    start = framed_enqueue_result_begin(&server->out, id, 1);
    buf_append(&server->out, "\0\0\x10", 3);
    SERVER_EXPECT(server, frame_end(&server->out, start, FRAME_LENGTH_MAX) == 0);
    server_flush(server);
    /* Answers to nothing, and an opcode nobody knows. */
    server_answer_enqueue(server, 4711, 1);
    SERVER_EXPECT(server, frame_empty(&server->out, 0x7e, 4711) == 0);
    server_flush(server);
    id = server_expect(server, &frame, OPCODE_ENQUEUE);
    server_answer_enqueue(server, id, 1);
    server_expect_end(server);
}

static void test_wrong_answers(void **state)
{
    (void)state;
    struct fila_error error = FILA_ERROR_INIT;
    struct server server;
    server_start(&server, script_wrong_answers);
    server_run(&server);
    struct fila *client = server_connect(&server, 10000);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fila_enqueue(client, &orders, NULL, &error), -1);
        assert_int_equal(error.code, FILA_PROTOCOL);
    }
    assert_int_equal(fila_enqueue(client, &orders, NULL, &error), 0);
    fila_error_clear(&error);
    fila_close(client);
    server_stop(&server);
}

static void script_long_frame(struct server *server)
{
    struct frame frame;
    server_welcome(server);
    server_expect(server, &frame, OPCODE_PING);
    server_send(server, STR("\xff\xff\xff\xff"));
    server_expect_end(server);
}

static void test_frame_length_is_bounded(void **state)
{
    (void)state;
    struct fila_error error = FILA_ERROR_INIT;
    struct server server;
    server_start(&server, script_long_frame);
    server_run(&server);
    struct fila *client = server_connect(&server, 10000);
    assert_int_equal(fila_ping(client, &error), -1);
    assert_int_equal(error.code, FILA_PROTOCOL);
    fila_error_clear(&error);
    fila_close(client);
    server_stop(&server);
}

static void script_goodbye(struct server *server)
{
    struct frame frame;
    server_welcome(server);
    server_accept_consume(server);
    server_expect(server, &frame, OPCODE_ENQUEUE);
    SERVER_EXPECT(server, frame_empty(&server->out, OPCODE_DISCONNECT, 0) == 0);
    server_flush(server);
    server_expect_end(server);
}

static void test_server_disconnects(void **state)
{
    (void)state;
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_delivery *delivery;
    struct server server;
    server_start(&server, script_goodbye);
    server_run(&server);
    struct fila *client = server_connect(&server, 10000);
    struct fila_consumer *consumer = fila_consume(client, "orders", &error);
    assert_non_null(consumer);
    assert_int_equal(fila_enqueue(client, &orders, NULL, &error), -1);
    assert_int_equal(error.code, FILA_DISCONNECTED);
    assert_int_equal(fila_receive(consumer, -1, &delivery, &error), -1);
    assert_int_equal(error.code, FILA_DISCONNECTED);
    fila_consumer_free(consumer);
    fila_error_clear(&error);
    fila_close(client);
    server_stop(&server);
}

static void script_silent(struct server *server)
{
    struct frame frame;
    server_welcome(server);
    server_expect(server, &frame, OPCODE_ENQUEUE);
    server_expect(server, &frame, OPCODE_DISCONNECT);
    server_expect_end(server);
}

static void test_close_fails_what_waits(void **state)
{
    (void)state;
    struct outcome outcome;
    struct server server;
    server_start(&server, script_silent);
    server_run(&server);
    struct fila *client = server_connect(&server, 10000);
    outcome_init(&outcome);
    assert_int_equal(fila_enqueue_async(client, &orders, outcome_enqueued, &outcome, NULL), 0);
    fila_close(client);
    outcome_wait(&outcome);
    assert_int_equal(outcome.code, FILA_CLOSED);
    assert_int_equal(outcome.calls, 1);
    server_stop(&server);
}

/* A callback that goes on with another request, and tries what it must not. */
struct chain {
    struct fila *client;
    struct outcome outcome;
    enum fila_code blocking;
};

static void chain_next(void *context, const struct fila_enqueue_result *results, size_t count,
                       const struct fila_error *error)
{
    struct chain *chain = context;
    struct fila_error refused = FILA_ERROR_INIT;
    (void)results;
    (void)count;
    (void)error;
    if (fila_ping(chain->client, &refused) != 0)
        chain->blocking = refused.code;
    fila_error_clear(&refused);
    if (fila_enqueue_async(chain->client, &orders, outcome_enqueued, &chain->outcome, NULL) != 0)
        outcome_enqueued(&chain->outcome, NULL, 0, &refused);
}

static void script_two(struct server *server)
{
    struct frame frame;
    server_welcome(server);
    server_answer_enqueue(server, server_expect(server, &frame, OPCODE_ENQUEUE), 1);
    server_answer_enqueue(server, server_expect(server, &frame, OPCODE_ENQUEUE), 2);
    server_expect_end(server);
}

static void test_requests_from_callbacks(void **state)
{
    (void)state;
    struct chain chain = {.blocking = FILA_OK};
    struct server server;
    server_start(&server, script_two);
    server_run(&server);
    chain.client = server_connect(&server, 10000);
    outcome_init(&chain.outcome);
    assert_int_equal(fila_enqueue_async(chain.client, &orders, chain_next, &chain, NULL), 0);
    outcome_wait(&chain.outcome);
    assert_string_equal(chain.outcome.id, "02020202-0202-0202-0202-020202020202");
    assert_int_equal(chain.blocking, FILA_USAGE);
    fila_close(chain.client);
    server_stop(&server);
}

#define THREADS 8
#define THREAD_REQUESTS 200

/* Answers each request with an id made from its payload. */
static void script_mirror(struct server *server)
{
    struct frame frame;
    server_welcome(server);
    while (server_read(server, &frame) && frame.opcode == OPCODE_ENQUEUE) {
        struct framed_enqueue_item item;
        struct wire_reader reader;
        uint32_t count;
        wire_reader_init(&reader, frame.body);
        SERVER_EXPECT(server, framed_enqueue_begin(&reader, &count) && count == 1 &&
                                  framed_enqueue_next(&reader, &item) && item.payload.size == 1);
        server_answer_enqueue(server, frame.request_id, item.payload.data[0]);
    }
    SERVER_EXPECT(server, frame.opcode == OPCODE_DISCONNECT);
    server_expect_end(server);
}

struct thread {
    pthread_t thread;
    struct fila *client;
    uint8_t number;
    int wrong;
};

static void *thread_run(void *argument)
{
    struct thread *thread = argument;
    struct fila_message message = orders;
    char id[FILA_ID_SIZE], first[3];
    message.payload = (struct fila_slice){&thread->number, 1};
    snprintf(first, sizeof(first), "%02x", thread->number);
    for (int i = 0; i < THREAD_REQUESTS; i++)
        if (fila_enqueue(thread->client, &message, id, NULL) != 0 || memcmp(id, first, 2) != 0)
            thread->wrong++;
    return NULL;
}

static void test_many_threads(void **state)
{
    (void)state;
    struct thread threads[THREADS];
    struct server server;
    server_start(&server, script_mirror);
    server_run(&server);
    struct fila *client = server_connect(&server, 20000);
    for (uint8_t i = 0; i < THREADS; i++) {
        threads[i] = (struct thread){.client = client, .number = (uint8_t)(i + 1)};
        assert_int_equal(pthread_create(&threads[i].thread, NULL, thread_run, &threads[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i].thread, NULL);
        assert_int_equal(threads[i].wrong, 0);
    }
    fila_close(client);
    server_stop(&server);
}

/* Does not read until told to; then everything must come out complete and in order. */
static void script_slow_reader(struct server *server)
{
    struct frame frame;
    uint32_t last = 0;
    server_welcome(server);
    server_wait(server);
    while (server_read(server, &frame) && frame.opcode == OPCODE_ENQUEUE) {
        SERVER_EXPECT(server, frame.request_id > last);
        last = frame.request_id;
        server_answer_enqueue(server, frame.request_id, 1);
    }
    SERVER_EXPECT(server, frame.opcode == OPCODE_DISCONNECT);
    server_expect_end(server);
}

static void count_answer(void *context, const struct fila_enqueue_result *results, size_t count,
                         const struct fila_error *error)
{
    (void)results;
    (void)count;
    if (!error)
        sem_post(context);
}

static void test_back_pressure(void **state)
{
    (void)state;
    static char payload[1 << 20];
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_message message = orders;
    struct server server;
    sem_t answered;
    int submitted = 0;

    message.payload = (struct fila_slice){payload, sizeof(payload)};
    sem_init(&answered, 0, 0);
    server_start(&server, script_slow_reader);
    server_run(&server);
    struct fila *client = server_connect(&server, 50);
    /* What the sockets take, and the library's own 4 MiB, is bounded. */
    while (submitted < 200 &&
           fila_enqueue_async(client, &message, count_answer, &answered, &error) == 0)
        submitted++;
    assert_in_range(submitted, 4, 100);
    assert_int_equal(error.code, FILA_TIMEOUT);
    server_go_on(&server);
    for (int i = 0; i < submitted; i++) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 20;
        while (sem_timedwait(&answered, &until) != 0)
            assert_int_equal(errno, EINTR);
    }
    fila_error_clear(&error);
    fila_close(client);
    server_stop(&server);
    sem_destroy(&answered);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_out_of_order),
        cmocka_unit_test(test_end_fails_all),
        cmocka_unit_test(test_ping_both_ways),
        cmocka_unit_test(test_timeout_and_late_answer),
        cmocka_unit_test(test_error_with_metadata),
        cmocka_unit_test(test_wrong_answers),
        cmocka_unit_test(test_frame_length_is_bounded),
        cmocka_unit_test(test_server_disconnects),
        cmocka_unit_test(test_close_fails_what_waits),
        cmocka_unit_test(test_requests_from_callbacks),
        cmocka_unit_test(test_many_threads),
        cmocka_unit_test(test_back_pressure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
