/* Several consumers on one connection, on several connections, and what happens when they go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "process/support/fixture.h"

static void test_two_queues_on_one_connection(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct peer_delivery delivery;
    uint32_t one, two;
    unsigned ones = 0, twos = 0;
    MUST(f, peer_create_queue(peer, "one", 0, &f->err));
    MUST(f, peer_create_queue(peer, "two", 0, &f->err));
    MUST(f, peer_consume(peer, "one", &one, &f->err));
    MUST(f, peer_consume(peer, "two", &two, &f->err));
    MUST(f, peer_enqueue_run(peer, "one", "m", 5, NULL, &f->err));
    MUST(f, peer_enqueue_run(peer, "two", "m", 5, NULL, &f->err));
    for (unsigned i = 0; i < 10; i++) {
        fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
        assert_int_equal(delivery.subscription, strcmp(delivery.queue, "one") == 0 ? one : two);
        if (delivery.subscription == one)
            ones++;
        else
            twos++;
    }
    assert_int_equal(ones, 5);
    assert_int_equal(twos, 5);
    /* The end of one is not that of the other. */
    MUST(f, peer_cancel(peer, one, &f->err));
    fixture_wait_stats(f, peer, "one", 5, 5, 0);
    fixture_wait_stats(f, peer, "two", 5, 5, 1);
    MUST(f, peer_enqueue(peer, "one", "m", NULL, &f->err));
    MUST(f, peer_enqueue(peer, "two", "m", NULL, &f->err));
    fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
    assert_int_equal(delivery.subscription, two);
    f->passed = true;
}

static void test_consumers_share_a_queue(void **state)
{
    struct fixture *f = *state;
    struct peer *admin = fixture_peer(f), *peers[4];
    struct peer_delivery delivery;
    uint32_t subscription;
    enum { COUNT = 400 };
    unsigned seen[COUNT] = {0}, total = 0;
    MUST(f, peer_create_queue(admin, "shared", 60000, &f->err));
    for (unsigned i = 0; i < 4; i++) {
        peers[i] = fixture_peer(f);
        MUST(f, peer_consume(peers[i], "shared", &subscription, &f->err));
    }
    fixture_wait_stats(f, admin, "shared", 0, 0, 4);
    MUST(f, peer_enqueue_run(admin, "shared", "m", COUNT, NULL, &f->err));
    fixture_wait_stats(f, admin, "shared", COUNT, COUNT, 4);
    for (unsigned i = 0; i < 4; i++) {
        while (total < COUNT && peer_receive(peers[i], 200, &delivery, &f->err) == 1) {
            unsigned number = (unsigned)atoi(delivery.payload + 2);
            assert_in_range(number, 0, COUNT - 1);
            assert_int_equal(seen[number]++, 0);
            total++;
        }
    }
    assert_int_equal(total, COUNT);
    f->passed = true;
}

static void test_order_of_one_key(void **state)
{
    struct fixture *f = *state;
    struct peer *producer = fixture_peer(f), *consumer = fixture_peer(f);
    struct peer_delivery delivery;
    uint32_t subscription;
    char expected[64];
    MUST(f, peer_create_queue(producer, "fifo", 0, &f->err));
    MUST(f, peer_enqueue_run(producer, "fifo", "m", 250, NULL, &f->err));
    MUST(f, peer_consume(consumer, "fifo", &subscription, &f->err));
    for (unsigned i = 0; i < 500; i++) {
        if (i == 100) /* more while it is being consumed */
            MUST(f, peer_enqueue_run(producer, "fifo", "n", 250, NULL, &f->err));
        fixture_receive(f, consumer, PEER_PATIENCE_MS, &delivery);
        snprintf(expected, sizeof expected, "%c-%u", i < 250 ? 'm' : 'n', i % 250);
        assert_string_equal(delivery.payload, expected);
    }
    f->passed = true;
}

static void disconnect_cleans_up(struct fixture *f, const char *queue, bool politely)
{
    struct peer *admin = fixture_peer(f), *peer = fixture_peer(f);
    struct peer_delivery delivery;
    uint32_t subscription;
    MUST(f, peer_create_queue(admin, queue, 1000, &f->err));
    MUST(f, peer_consume(peer, queue, &subscription, &f->err));
    fixture_wait_stats(f, admin, queue, 0, 0, 1);
    MUST(f, peer_enqueue(admin, queue, "held", NULL, &f->err));
    fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
    fixture_close(f, peer, politely);
    fixture_wait_stats(f, admin, queue, 1, UINT64_MAX, 0);
    /* Its lease runs on, then the message comes to another one. */
    struct peer_delivery again;
    MUST(f, peer_consume(admin, queue, &subscription, &f->err));
    fixture_receive(f, admin, PEER_PATIENCE_MS, &again);
    assert_memory_equal(again.id.bytes, delivery.id.bytes, UUID_SIZE);
    assert_int_equal(again.attempt, 1);
    assert_true(again.leased_ms + 1 >= delivery.leased_ms + 1000);
}

static void test_disconnect_removes_consumers(void **state)
{
    struct fixture *f = *state;
    disconnect_cleans_up(f, "polite", true);
    disconnect_cleans_up(f, "rude", false);
    f->passed = true;
}

static void test_same_request_id_replaces(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct peer_frame *frame = NULL;
    struct peer_delivery delivery;
    struct buf buf;
    MUST(f, peer_create_queue(peer, "old", 0, &f->err));
    MUST(f, peer_create_queue(peer, "new", 0, &f->err));
    buf_init(&buf, 0);
    assert_int_equal(framed_client_text(&buf, OPCODE_CONSUME, 500, STR("old")), 0);
    assert_int_equal(framed_client_text(&buf, OPCODE_CONSUME, 500, STR("new")), 0);
    MUST(f, peer_send(peer, buf_str(&buf), &f->err));
    buf_free(&buf);
    for (unsigned i = 0; i < 2; i++) {
        MUST_GIVE(f, 1, peer_answer(peer, 500, PEER_PATIENCE_MS, &frame, &f->err));
        assert_int_equal(frame->opcode, OPCODE_CONSUME_OK);
        free(frame);
    }
    fixture_wait_stats(f, peer, "old", 0, 0, 0);
    fixture_wait_stats(f, peer, "new", 0, 0, 1);
    MUST(f, peer_enqueue(peer, "old", "o", NULL, &f->err));
    MUST(f, peer_enqueue(peer, "new", "n", NULL, &f->err));
    fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
    assert_string_equal(delivery.payload, "n");
    assert_int_equal(delivery.subscription, 500);
    f->passed = true;
}

/* A consumer that reads nothing: its connection's other requests are answered, other consumers get
 * their messages, and in the end nothing is missing. */
static void test_stalled_consumer(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 1000, SIZE = 8000 };
    struct peer *stalled = fixture_peer(f), *other = fixture_peer(f);
    struct peer_message messages[50];
    struct peer_frame *frame = NULL;
    struct peer_delivery delivery;
    uint32_t subscription, requests[COUNT / 50], late;
    char *payload = malloc(SIZE);
    memset(payload, 'p', SIZE);
    MUST(f, peer_create_queue(stalled, "stall", 120000, &f->err));
    MUST(f, peer_create_queue(stalled, "side", 120000, &f->err));
    MUST(f, peer_consume(stalled, "stall", &subscription, &f->err));
    for (unsigned i = 0; i < 50; i++)
        messages[i] = (struct peer_message){.queue = "stall", .payload = str_of(payload, SIZE)};
    for (unsigned i = 0; i < COUNT / 50; i++) {
        MUST(f, peer_enqueue_send(other, messages, 50, &requests[i], &f->err));
        MUST_GIVE(f, 1, peer_answer(other, requests[i], PEER_PATIENCE_MS, &frame, &f->err));
        free(frame);
    }
    /* 8 MB are on their way to somebody who does not look. */
    MUST(f, peer_enqueue(other, "side", "for another", NULL, &f->err));
    MUST(f, peer_consume(other, "side", &late, &f->err));
    fixture_receive(f, other, PEER_PATIENCE_MS, &delivery);
    assert_string_equal(delivery.payload, "for another");
    /* The answer comes behind what was sent before, which is read now. */
    MUST(f, peer_enqueue(stalled, "side", "from the stalled one", NULL, &f->err));
    for (unsigned i = 0; i < COUNT; i++) {
        fixture_receive(f, stalled, PEER_PATIENCE_MS, &delivery);
        assert_int_equal(delivery.payload_size, SIZE);
        assert_int_equal(delivery.attempt, 0);
    }
    fixture_wait_stats(f, other, "stall", COUNT, COUNT, 1);
    free(payload);
    f->passed = true;
}

/* What was leased to a connection and never left comes back at once, in front and as it was. */
static void test_unsent_messages_return_at_once(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 300, SIZE = 60000 };
    struct peer *admin = fixture_peer(f), *stalled = fixture_peer(f);
    struct peer_message messages[10];
    struct peer_frame *frame = NULL;
    struct peer_delivery delivery;
    uint32_t subscription, request;
    char *payload = malloc(SIZE);
    memset(payload, 'p', SIZE);
    MUST(f, peer_create_queue(admin, "unsent", 120000, &f->err));
    for (unsigned i = 0; i < 10; i++)
        messages[i] = (struct peer_message){.queue = "unsent", .payload = str_of(payload, SIZE)};
    for (unsigned i = 0; i < COUNT / 10; i++) {
        MUST(f, peer_enqueue_send(admin, messages, 10, &request, &f->err));
        MUST_GIVE(f, 1, peer_answer(admin, request, PEER_PATIENCE_MS, &frame, &f->err));
        free(frame);
    }
    MUST(f, peer_consume(stalled, "unsent", &subscription, &f->err));
    fixture_receive(f, stalled, PEER_PATIENCE_MS, &delivery);
    fixture_close(f, stalled, false);
    /* 18 MB do not fit the sockets and the delivery window: most of it must be there again. */
    MUST(f, peer_consume(admin, "unsent", &subscription, &f->err));
    for (unsigned i = 0; i < COUNT / 2; i++) {
        fixture_receive(f, admin, PEER_PATIENCE_MS, &delivery);
        assert_int_equal(delivery.attempt, 0);
    }
    free(payload);
    f->passed = true;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_BROKER(test_two_queues_on_one_connection),
        WITH_BROKER(test_consumers_share_a_queue),
        WITH_BROKER(test_order_of_one_key),
        WITH_BROKER(test_disconnect_removes_consumers),
        WITH_BROKER(test_same_request_id_replaces),
        WITH_BROKER(test_stalled_consumer),
        WITH_BROKER(test_unsent_messages_return_at_once),
    };
    return cmocka_run_group_tests_name("consumers", tests, NULL, NULL);
}
