/* The clients of other projects, each as it is, against a broker with its default listener; those
 * with other opcode numbers against a listener that has them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "os/time.h"
#include "process/support/fixture.h"
#include "process/support/foreign.h"

static int setup_s2(void **state)
{
    return fixture_setup_with(state, &(struct broker_options){.numbering = "s2"}, true);
}

static int setup_s1(void **state)
{
    return fixture_setup_with(state, &(struct broker_options){.numbering = "s1"}, true);
}

static int setup_short_keepalive(void **state)
{
    static const struct broker_options options = {
        .numbering = "s2",
        .extra = "fibp: {keepalive_interval: 1s}\n",
    };
    return fixture_setup_with(state, &options, true);
}

/* ---- what every client does ---- */

static void life_of_a_message(struct foreign *client, const char *queue)
{
    char id[FOREIGN_ID_SIZE];
    struct foreign_message message;
    assert_int_equal(foreign_enqueue(client, queue, "acme", "hello", id), 0);
    assert_int_equal(foreign_consume(client, queue), 0);
    foreign_receive(client, &message);
    assert_string_equal(message.id, id);
    assert_string_equal(message.queue, queue);
    assert_string_equal(message.payload, "hello");
    assert_string_equal(message.tenant, "acme");
    assert_int_equal(message.attempt, 0);
    assert_int_equal(message.stream, client->streams[0]);
    for (uint32_t attempt = 1; attempt < 4; attempt++) {
        assert_int_equal(foreign_nack(client, queue, id), 0);
        foreign_receive(client, &message);
        assert_string_equal(message.id, id);
        assert_int_equal(message.attempt, attempt);
    }
    assert_int_equal(foreign_ack(client, queue, id), 0);
    assert_int_equal(foreign_ack(client, queue, id), FIBP_MESSAGE_NOT_FOUND);
    assert_int_equal(foreign_nack(client, queue, id), FIBP_MESSAGE_NOT_FOUND);
    assert_int_equal(foreign_nack(client, queue, "not-a-uuid"), FIBP_MESSAGE_NOT_FOUND);
}

/* Producing and consuming on one connection: no Delivery comes between a request and its answer
 * for those who take the next frame for it. */
static void produce_and_consume(struct foreign *client, const char *queue)
{
    char id[FOREIGN_ID_SIZE];
    struct foreign_message message;
    for (unsigned i = 0; i < 30; i++) {
        assert_int_equal(foreign_enqueue(client, queue, NULL, "again", id), 0);
        foreign_receive(client, &message);
        assert_string_equal(message.id, id);
        assert_int_equal(foreign_nack(client, queue, id), 0);
        foreign_receive(client, &message);
        assert_int_equal(message.attempt, 1);
        assert_int_equal(foreign_ack(client, queue, id), 0);
    }
}

static void missing_queues(struct foreign *client)
{
    char id[FOREIGN_ID_SIZE];
    assert_int_equal(foreign_enqueue(client, "missing", NULL, "x", id), FIBP_QUEUE_NOT_FOUND);
    assert_int_equal(foreign_consume(client, "missing"), FIBP_QUEUE_NOT_FOUND);
}

/* After the cancel nothing is delivered; the next stream gets what has come meanwhile. */
static void cancel(struct fixture *f, struct foreign *client, const char *queue)
{
    char id[FOREIGN_ID_SIZE];
    struct foreign_message message;
    struct peer *admin = fixture_peer(f);
    fixture_wait_stats(f, admin, queue, 0, 0, 1);
    foreign_cancel(client);
    foreign_ping(client);
    fixture_wait_stats(f, admin, queue, 0, 0, 0);
    assert_int_equal(foreign_enqueue(client, queue, NULL, "for the next one", id), 0);
    foreign_ping(client);
    fixture_wait_stats(f, admin, queue, 1, 0, 0);
    assert_int_equal(foreign_consume(client, queue), 0);
    foreign_receive(client, &message);
    assert_string_equal(message.payload, "for the next one");
    assert_int_equal(foreign_ack(client, queue, id), 0);
    fixture_close(f, admin, true);
}

static void run(struct fixture *f, const struct foreign_kind *kind, const char *address)
{
    struct peer *admin = fixture_peer(f);
    struct foreign *client = foreign_open(kind, address);
    print_message("%s\n", kind->name);
    assert_int_equal(foreign_create_queue(client, kind->name), 0);
    assert_int_equal(foreign_create_queue(client, kind->name), FIBP_QUEUE_ALREADY_EXISTS);
    missing_queues(client);
    life_of_a_message(client, kind->name);
    produce_and_consume(client, kind->name);
    cancel(f, client, kind->name);
    foreign_close(client);
    fixture_wait_stats(f, admin, kind->name, 0, 0, 0);
    fixture_close(f, admin, true);
}

static void test_default_listener(void **state)
{
    static const struct foreign_kind *const kinds[] = {
        &foreign_rust, &foreign_python, &foreign_javascript, &foreign_ruby, &foreign_java};
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        run(f, kinds[i], i % 2 ? f->broker.unix_address : f->broker.tcp_address);
    f->passed = true;
}

static void test_go(void **state)
{
    struct fixture *f = *state;
    run(f, &foreign_go, f->broker.numbered_address);
    f->passed = true;
}

static void test_oldest(void **state)
{
    struct fixture *f = *state;
    struct foreign *client = foreign_open(&foreign_oldest, f->broker.numbered_address);
    char id[FOREIGN_ID_SIZE];
    assert_int_equal(foreign_create_queue(client, "old"), 0);
    assert_int_equal(foreign_enqueue(client, "missing", NULL, "x", id), FIBP_QUEUE_NOT_FOUND);
    life_of_a_message(client, "old");
    produce_and_consume(client, "old");
    cancel(f, client, "old");
    foreign_close(client);
    f->passed = true;
}

/* ---- what only some do ---- */

/* The command line of the reference only administers. */
static void test_rust_command_line(void **state)
{
    struct fixture *f = *state;
    uint32_t consumers;
    uint64_t depth;
    for (unsigned i = 0; i < 2; i++) { /* each command has a connection of its own */
        struct foreign *client = foreign_open(&foreign_rust_cli, f->broker.tcp_address);
        assert_int_equal(foreign_create_queue(client, "cli"), i ? FIBP_QUEUE_ALREADY_EXISTS : 0);
        foreign_close(client);
    }
    struct foreign *client = foreign_open(&foreign_rust_cli, f->broker.tcp_address);
    assert_int_equal(foreign_inspect(client, "cli", &consumers, &depth), 0);
    assert_int_equal(consumers, 0);
    assert_int_equal(depth, 0);
    assert_int_equal(foreign_delete_queue(client, "cli"), 0);
    assert_int_equal(foreign_delete_queue(client, "cli"), FIBP_QUEUE_NOT_FOUND);
    assert_int_equal(foreign_inspect(client, "cli", &consumers, &depth), FIBP_QUEUE_NOT_FOUND);
    foreign_close(client);
    f->passed = true;
}

/* The Rust SDK has one stream at a time: the second Consume ends the first stream. */
static void test_rust_consumes_again(void **state)
{
    struct fixture *f = *state;
    struct peer *admin = fixture_peer(f);
    struct foreign *client = foreign_open(&foreign_rust, f->broker.tcp_address);
    struct foreign_message message;
    char id[FOREIGN_ID_SIZE];
    assert_int_equal(foreign_create_queue(client, "one"), 0);
    assert_int_equal(foreign_create_queue(client, "two"), 0);
    assert_int_equal(foreign_consume(client, "one"), 0);
    assert_int_equal(foreign_consume(client, "two"), 0);
    assert_int_equal(foreign_enqueue(client, "one", NULL, "left alone", id), 0);
    assert_int_equal(foreign_enqueue(client, "two", NULL, "taken", id), 0);
    foreign_receive(client, &message);
    assert_string_equal(message.payload, "taken");
    fixture_wait_stats(f, admin, "one", 1, 0, 0);
    /* The same queue once more, as after a timeout. */
    assert_int_equal(foreign_consume(client, "two"), 0);
    assert_int_equal(foreign_ack(client, "two", id), 0);
    foreign_close(client);
    fixture_wait_stats(f, admin, "two", 0, 0, 0);
    f->passed = true;
}

/* Several streams on one connection, told apart by their ids. */
static void test_javascript_streams(void **state)
{
    struct fixture *f = *state;
    struct foreign *client = foreign_open(&foreign_javascript, f->broker.tcp_address);
    static const char *const queues[] = {"a", "b", "c"};
    struct foreign_message message;
    char id[FOREIGN_ID_SIZE];
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(foreign_create_queue(client, queues[i]), 0);
        assert_int_equal(foreign_consume(client, queues[i]), 0);
    }
    for (unsigned i = 0; i < 30; i++) {
        assert_int_equal(foreign_enqueue(client, queues[i % 3], NULL, queues[i % 3], id), 0);
        foreign_receive(client, &message);
        assert_string_equal(message.payload, queues[i % 3]);
        assert_int_equal(message.stream, client->streams[i % 3]);
        assert_int_equal(foreign_ack(client, queues[i % 3], id), 0);
    }
    foreign_close(client);
    f->passed = true;
}

/* Large requests: whole, as all but Go send them, and in pieces of the size that it is given. */
static void large_requests(struct foreign *client, const size_t (*sizes)[2], size_t count)
{
    struct foreign_message message;
    assert_int_equal(foreign_create_queue(client, "large"), 0);
    assert_int_equal(foreign_consume(client, "large"), 0);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(foreign_enqueue_large(client, "large", sizes[i][0], sizes[i][1]), 0);
        foreign_receive(client, &message);
        assert_int_equal(message.size, sizes[i][0]);
        assert_int_equal(foreign_ack(client, "large", message.id), 0);
    }
}

static void test_large_requests_of_java(void **state)
{
    static const size_t sizes[][2] = {{1000, 0}, {100000, 0}, {8 << 20, 0}};
    struct fixture *f = *state;
    struct foreign *java = foreign_open(&foreign_java, f->broker.tcp_address);
    large_requests(java, sizes, 3);
    foreign_close(java);
    f->passed = true;
}

static void test_large_requests_of_go(void **state)
{
    static const size_t sizes[][2] = {
        {1000, 100}, {100000, 8192}, {20 << 20, FRAME_LENGTH_MAX - FRAME_LENGTH_MIN}};
    struct fixture *f = *state;
    struct foreign *go = foreign_open(&foreign_go, f->broker.numbered_address);
    large_requests(go, sizes, 3);
    foreign_close(go);
    f->passed = true;
}

static void send_raw(struct foreign *client, const uint8_t *bytes, size_t size)
{
    struct err err;
    if (peer_send(client->peer, str_of(bytes, size), &err) != 0)
        fail_msg("%s", err.text);
}

/* A client that pings twice in an interval never sees a Ping of the server, which this one would
 * not answer. It pings every 15 s, the server's interval is 30 s; both are shorter here. */
static void test_javascript_pings(void **state)
{
    static const uint8_t ping[] = {0, 0, 0, 6, 0x03, 0, 0, 0, 1, 0};
    static const uint8_t pong[] = {0, 0, 0, 6, 0x04, 0, 0, 0, 1, 0};
    struct fixture *f = *state;
    struct foreign *client = foreign_open(&foreign_javascript, f->broker.tcp_address);
    uint64_t begin = time_monotonic_ms(), last = begin;
    uint8_t bytes[sizeof pong];
    while (time_monotonic_ms() - begin < 2500) {
        send_raw(client, ping, sizeof ping);
        assert_int_equal(peer_read_bytes(client->peer, PEER_PATIENCE_MS, bytes, sizeof bytes),
                         sizeof bytes);
        if (time_monotonic_ms() - last > 700) {
            print_message("the machine is too busy to tell\n");
            break;
        }
        assert_memory_equal(bytes, pong, sizeof pong);
        last = time_monotonic_ms();
        assert_int_equal(peer_read_bytes(client->peer, 250, bytes, 1), -1);
    }
    foreign_close(client);
    f->passed = true;
}

static void test_go_answers_pings(void **state)
{
    static const uint8_t ping[] = {0, 0, 0, 6, 0x03, 0, 0, 0, 0, 0};
    static const uint8_t pong[] = {0, 0, 0, 6, 0x04, 0, 0, 0, 0, 0};
    struct fixture *f = *state;
    struct foreign *client = foreign_open(&foreign_go, f->broker.numbered_address);
    uint8_t bytes[sizeof ping];
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(peer_read_bytes(client->peer, PEER_PATIENCE_MS, bytes, sizeof bytes),
                         sizeof bytes);
        assert_memory_equal(bytes, ping, sizeof ping);
        send_raw(client, pong, sizeof pong);
    }
    assert_int_equal(foreign_create_queue(client, "idle"), 0);
    foreign_close(client);
    f->passed = true;
}

/* ---- S2 on the default listener ---- */

/* One that produces and acks is understood; what it acks was delivered to somebody else. */
static void test_go_produces_on_the_default_listener(void **state)
{
    struct fixture *f = *state;
    struct foreign *go = foreign_open(&foreign_go, f->broker.tcp_address);
    struct foreign *java = foreign_open(&foreign_java, f->broker.tcp_address);
    struct foreign_message message;
    char id[FOREIGN_ID_SIZE];
    assert_int_equal(foreign_create_queue(go, "shared"), 0);
    assert_int_equal(foreign_consume(java, "shared"), 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(foreign_enqueue(go, "shared", NULL, "from Go", id), 0);
        foreign_receive(java, &message);
        assert_string_equal(message.id, id);
        assert_int_equal(foreign_nack(go, "shared", id), 0);
        foreign_receive(java, &message);
        assert_int_equal(message.attempt, 1);
        assert_int_equal(foreign_ack(go, "shared", id), 0);
    }
    /* Having shown what it is, it may consume. */
    foreign_cancel(java);
    foreign_ping(java);
    assert_int_equal(foreign_consume(go, "shared"), 0);
    assert_int_equal(foreign_enqueue(go, "shared", NULL, "to Go", id), 0);
    foreign_receive(go, &message);
    assert_string_equal(message.payload, "to Go");
    assert_int_equal(foreign_ack(go, "shared", id), 0);
    foreign_close(go);
    foreign_close(java);
    f->passed = true;
}

/* One that consumes first gets opcodes that it cannot understand, and the log tells why. */
static void test_go_consumes_on_the_default_listener(void **state)
{
    static const uint8_t cancel_of_s2[] = {0, 0, 0, 6, 0x14, 0, 0, 0, 0, 2};
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct peer_frame *frame = NULL;
    uint32_t request;
    MUST(f, peer_create_queue(peer, "blind", 0, &f->err));
    MUST(f, peer_consume(peer, "blind", &request, &f->err)); /* ConsumeOk is 0x13 */
    assert_int_equal(request, 2);
    MUST(f, peer_send(peer, str_of(cancel_of_s2, sizeof cancel_of_s2), &f->err));
    fixture_wait_stats(f, peer, "blind", 0, 0, 0);
    assert_true(broker_logged(&f->broker, "needs a listener with that `numbering`"));
    MUST_GIVE(f, 0, peer_answer(peer, request, 0, &frame, &f->err));
    f->passed = true;
}

struct generation {
    struct broker *broker;
    struct broker_process list[BROKER_PROCESSES_MAX]; /* before the reload */
    size_t count;
};

static bool workers_are_new(void *context)
{
    struct generation *old = context;
    struct broker_process list[BROKER_PROCESSES_MAX];
    size_t count = broker_processes(old->broker, list, BROKER_PROCESSES_MAX);
    unsigned workers = 0;
    for (size_t i = 0; i < count; i++) {
        workers += list[i].role == BROKER_WORKER;
        for (size_t k = 0; k < old->count; k++)
            if (list[i].role == BROKER_WORKER && list[i].pid == old->list[k].pid)
                return false;
    }
    return workers == 2;
}

/* The listener is the same socket before and after. */
static void test_reload_changes_the_numbering(void **state)
{
    struct fixture *f = *state;
    struct broker *broker = &f->broker;
    char output[4096];
    struct foreign *go = foreign_open(&foreign_go, broker->numbered_address);
    assert_int_equal(foreign_create_queue(go, "turned"), 0);
    foreign_close(go);
    struct generation old = {.broker = broker};
    old.count = broker_processes(broker, old.list, BROKER_PROCESSES_MAX);
    broker->options.numbering = "s3";
    MUST(f, broker_write_conf(broker, NULL, &f->err));
    const char *const test[] = {"-T", "-c", broker->conf, NULL};
    assert_int_equal(broker_run(broker, "filad", test, output, sizeof output), 0);
    assert_non_null(strstr(output, "numbering: s3"));
    const char *const reload[] = {"-s", "reload", "-c", broker->conf, NULL};
    assert_int_equal(broker_run(broker, "filad", reload, output, sizeof output), 0);
    assert_true(wait_until(workers_are_new, &old, PEER_PATIENCE_MS));
    struct foreign *java = foreign_open(&foreign_java, broker->numbered_address);
    life_of_a_message(java, "turned");
    foreign_close(java);
    f->passed = true;
}

#define WITH(setup, test) cmocka_unit_test_setup_teardown(test, setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(fixture_setup, test_default_listener),
        WITH(setup_s2, test_go),
        WITH(setup_s1, test_oldest),
        WITH(setup_s2, test_reload_changes_the_numbering),
        WITH(fixture_setup, test_rust_command_line),
        WITH(fixture_setup, test_rust_consumes_again),
        WITH(fixture_setup, test_javascript_streams),
        WITH(fixture_setup, test_large_requests_of_java),
        WITH(setup_s2, test_large_requests_of_go),
        WITH(setup_short_keepalive, test_javascript_pings),
        WITH(setup_short_keepalive, test_go_answers_pings),
        WITH(fixture_setup, test_go_produces_on_the_default_listener),
        WITH(fixture_setup, test_go_consumes_on_the_default_listener),
    };
    return cmocka_run_group_tests_name("clients", tests, NULL, NULL);
}
