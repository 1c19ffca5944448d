/* Scenarios of the reference's own tests that no other test here runs; README.md beside this
 * file has the table of all of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "process/support/fixture.h"
#include "process/support/foreign.h"

#define LONG_LEASE_MS 120000u

static int setup_small_quantum(void **state)
{
    return fixture_setup_with(state, &(struct broker_options){.extra = "scheduler: {quantum: 5}\n"},
                              true);
}

/* One frame; the code of each item, and its id where that is 0. */
static void enqueue_many(struct fixture *f, struct peer *peer, const struct peer_message *messages,
                         unsigned count, uint8_t *codes, struct uuid *ids)
{
    struct peer_frame *frame = NULL;
    struct wire_reader reader;
    uint32_t request, found;
    MUST(f, peer_enqueue_send(peer, messages, count, &request, &f->err));
    MUST_GIVE(f, 1, peer_answer(peer, request, PEER_PATIENCE_MS, &frame, &f->err));
    assert_int_equal(frame->opcode, OPCODE_ENQUEUE_RESULT);
    wire_reader_init(&reader, str_of(frame->body, frame->size));
    assert_true(framed_client_enqueue_result_begin(&reader, &found));
    assert_int_equal(found, count);
    for (unsigned i = 0; i < count; i++) {
        struct framed_client_result result;
        assert_true(framed_client_enqueue_result_next(&reader, &result));
        codes[i] = result.code;
        assert_int_equal(result.code == 0, uuid_parse(result.message_id, &ids[i]));
    }
    free(frame);
}

static void test_enqueue_many(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct peer_delivery delivery;
    uint32_t subscription;
    uint8_t codes[6];
    struct uuid ids[6];
    struct peer_message messages[6];
    static const char *const payloads[] = {"0", "1", "2", "3", "4", "5"};
    MUST(f, peer_create_queue(peer, "many", LONG_LEASE_MS, &f->err));
    for (unsigned i = 0; i < 6; i++)
        messages[i] = (struct peer_message){.queue = i == 3 ? "nowhere" : "many",
                                            .payload = str_from_c(payloads[i])};
    enqueue_many(f, peer, messages, 6, codes, ids);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(codes[i], i == 3 ? FIBP_QUEUE_NOT_FOUND : 0);
    enqueue_many(f, peer, NULL, 0, codes, ids);
    /* All but the one are there, in their order. */
    MUST(f, peer_consume(peer, "many", &subscription, &f->err));
    for (unsigned i = 0; i < 6; i++) {
        if (i == 3)
            continue;
        fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
        assert_string_equal(delivery.payload, payloads[i]);
        assert_memory_equal(delivery.id.bytes, ids[i].bytes, UUID_SIZE);
    }
    fixture_wait_stats(f, peer, "many", 5, 5, 1);
    f->passed = true;
}

/* Acks and a nack out of what was delivered together: only the nacked one is back. */
static void test_individual_ack_and_nack(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct peer_delivery deliveries[10], again;
    uint32_t subscription;
    MUST(f, peer_create_queue(peer, "batch", LONG_LEASE_MS, &f->err));
    MUST(f, peer_enqueue_run(peer, "batch", "m", 10, NULL, &f->err));
    MUST(f, peer_consume(peer, "batch", &subscription, &f->err));
    for (unsigned i = 0; i < 10; i++) {
        fixture_receive(f, peer, PEER_PATIENCE_MS, &deliveries[i]);
        assert_int_equal(deliveries[i].attempt, 0);
    }
    for (unsigned i = 0; i < 10; i++)
        if (i != 6)
            MUST(f, peer_ack(peer, "batch", &deliveries[i].id, &f->err));
    MUST(f, peer_nack(peer, "batch", &deliveries[6].id, &f->err));
    fixture_receive(f, peer, PEER_PATIENCE_MS, &again);
    assert_memory_equal(again.id.bytes, deliveries[6].id.bytes, UUID_SIZE);
    assert_string_equal(again.payload, "m-6");
    assert_int_equal(again.attempt, 1);
    fixture_wait_stats(f, peer, "batch", 1, 1, 1);
    MUST_GIVE(f, 0, peer_receive(peer, 0, &again, &f->err));
    MUST(f, peer_ack(peer, "batch", &deliveries[6].id, &f->err));
    fixture_wait_stats(f, peer, "batch", 0, 0, 1);
    f->passed = true;
}

/* What comes to a stream that its owner does not look at stays in the client: 1,000 messages lie
 * there while the connection goes on to produce, to ack and to administer. */
static void test_stalled_stream_blocks_nothing(void **state)
{
    struct fixture *f = *state;
    struct foreign *client = foreign_open(&foreign_rust, f->broker.tcp_address);
    static char ids[1000][FOREIGN_ID_SIZE];
    struct foreign_message message;
    uint32_t consumers;
    uint64_t depth;
    char id[FOREIGN_ID_SIZE];
    assert_int_equal(foreign_create_queue(client, "stalled"), 0);
    assert_int_equal(foreign_consume(client, "stalled"), 0);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(foreign_enqueue(client, "stalled", NULL, "unread", ids[i]), 0);
    assert_int_equal(foreign_create_queue(client, "other"), 0);
    assert_int_equal(foreign_enqueue(client, "other", NULL, "read", id), 0);
    assert_int_equal(foreign_inspect(client, "stalled", &consumers, &depth), 0);
    assert_int_equal(consumers, 1);
    assert_int_equal(depth, 1000);
    for (unsigned i = 0; i < 1000; i++) {
        foreign_receive(client, &message);
        assert_string_equal(message.id, ids[i]);
        if (i % 100 == 0)
            assert_int_equal(foreign_ack(client, "stalled", message.id), 0);
    }
    foreign_close(client);
    f->passed = true;
}

/* A consumer with a full window is passed over. */
static void test_full_consumer_is_skipped(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 1500, SIZE = 8000 };
    struct peer *admin = fixture_peer(f), *other = fixture_peer(f);
    struct peer *full = fixture_peer(f); /* on the unix socket, which holds less than TCP */
    struct peer_message messages[50];
    struct peer_delivery delivery;
    uint8_t codes[50];
    struct uuid ids[50];
    uint32_t subscription;
    char *payload = malloc(SIZE);
    memset(payload, 'p', SIZE);
    MUST(f, peer_create_queue(admin, "full", LONG_LEASE_MS, &f->err));
    MUST(f, peer_consume(full, "full", &subscription, &f->err));
    MUST(f, peer_consume(other, "full", &subscription, &f->err));
    for (unsigned i = 0; i < 50; i++)
        messages[i] = (struct peer_message){.queue = "full", .payload = str_of(payload, SIZE)};
    for (unsigned i = 0; i < COUNT / 50; i++)
        enqueue_many(f, admin, messages, 50, codes, ids);
    /* 12 MB; the one that does not read takes its window of 1 MB and what the socket holds. */
    unsigned got = 0;
    while (got < COUNT - 300) {
        fixture_receive(f, other, PEER_PATIENCE_MS, &delivery);
        MUST(f, peer_ack(other, "full", &delivery.id, &f->err));
        got++;
    }
    /* When it goes, what it had not received comes to the other one at once. */
    fixture_close(f, full, false);
    while (got < COUNT - 100) {
        fixture_receive(f, other, PEER_PATIENCE_MS, &delivery);
        got++;
    }
    free(payload);
    f->passed = true;
}

static void test_consumer_that_left_gets_nothing(void **state)
{
    struct fixture *f = *state;
    struct peer *admin = fixture_peer(f), *gone = fixture_peer(f), *left = fixture_peer(f);
    struct peer_delivery delivery;
    uint32_t first, second;
    MUST(f, peer_create_queue(admin, "leave", LONG_LEASE_MS, &f->err));
    MUST(f, peer_consume(gone, "leave", &first, &f->err));
    MUST(f, peer_consume(left, "leave", &second, &f->err));
    fixture_wait_stats(f, admin, "leave", 0, 0, 2);
    fixture_close(f, gone, false);
    MUST(f, peer_cancel(left, second, &f->err));
    fixture_wait_stats(f, admin, "leave", 0, 0, 0);
    MUST(f, peer_enqueue_run(admin, "leave", "m", 20, NULL, &f->err));
    fixture_wait_stats(f, admin, "leave", 20, 0, 0);
    MUST(f, peer_consume(left, "leave", &second, &f->err));
    for (unsigned i = 0; i < 20; i++) {
        fixture_receive(f, left, PEER_PATIENCE_MS, &delivery);
        assert_int_equal(delivery.attempt, 0);
        assert_int_equal(delivery.subscription, second);
    }
    f->passed = true;
}

/* Two streams of one client; and the client that ends without a word is gone from the count. */
static void test_double_consume_and_drop(void **state)
{
    struct fixture *f = *state;
    struct peer *admin = fixture_peer(f);
    struct foreign *client = foreign_open(&foreign_ruby, f->broker.tcp_address);
    struct foreign_message message;
    char id[FOREIGN_ID_SIZE], output[4096];
    const char *const inspect[] = {"queue", "inspect", "left", NULL};
    assert_int_equal(foreign_create_queue(client, "left"), 0);
    assert_int_equal(foreign_create_queue(client, "right"), 0);
    assert_int_equal(foreign_consume(client, "left"), 0);
    assert_int_equal(foreign_consume(client, "right"), 0);
    assert_int_equal(foreign_enqueue(client, "right", NULL, "r", id), 0);
    foreign_receive(client, &message);
    assert_string_equal(message.queue, "right");
    assert_int_equal(foreign_enqueue(client, "left", NULL, "l", id), 0);
    foreign_receive(client, &message);
    assert_string_equal(message.queue, "left");
    assert_int_equal(foreign_ack(client, "left", id), 0);
    assert_int_equal(broker_run(&f->broker, "fila", inspect, output, sizeof output), 0);
    const char *row = strstr(output, "Active consumers:");
    assert_non_null(row);
    assert_int_equal(atoi(row + strlen("Active consumers:")), 1);
    foreign_close(client);
    fixture_wait_stats(f, admin, "left", 0, 0, 0);
    assert_int_equal(broker_run(&f->broker, "fila", inspect, output, sizeof output), 0);
    row = strstr(output, "Active consumers:");
    assert_non_null(row);
    assert_int_equal(atoi(row + strlen("Active consumers:")), 0);
    f->passed = true;
}

/* The client does not look while the lease ends, and consumes anew. */
static void test_visibility_timeout_and_new_stream(void **state)
{
    struct fixture *f = *state;
    struct peer *admin = fixture_peer(f);
    struct foreign *client = foreign_open(&foreign_rust, f->broker.tcp_address);
    struct foreign_message first, second;
    char id[FOREIGN_ID_SIZE];
    MUST(f, peer_create_queue(admin, "expire", 1000, &f->err));
    assert_int_equal(foreign_enqueue(client, "expire", NULL, "late", id), 0);
    assert_int_equal(foreign_consume(client, "expire"), 0);
    foreign_receive(client, &first);
    assert_int_equal(first.attempt, 0);
    foreign_cancel(client);
    fixture_wait_stats(f, admin, "expire", 1, 0, 0);
    assert_int_equal(foreign_consume(client, "expire"), 0);
    foreign_receive(client, &second);
    assert_string_equal(second.id, first.id);
    assert_true(second.attempt >= 1);
    assert_int_equal(foreign_ack(client, "expire", second.id), 0);
    foreign_close(client);
    f->passed = true;
}

/* ---- fairness ---- */

static void enqueue_as(struct fixture *f, struct peer *peer, const char *queue, const char *tenant,
                       const char *weight, unsigned count)
{
    struct peer_message messages[100];
    uint8_t codes[100];
    struct uuid ids[100];
    for (unsigned done = 0; done < count; done += 100) {
        unsigned now = count - done < 100 ? count - done : 100;
        for (unsigned i = 0; i < now; i++)
            messages[i] = (struct peer_message){
                .queue = queue, .tenant = tenant, .weight = weight, .payload = STR("m")};
        enqueue_many(f, peer, messages, now, codes, ids);
        for (unsigned i = 0; i < now; i++)
            assert_int_equal(codes[i], 0);
    }
}

/* Receives `count` messages whose keys are "a", "b" ... and counts each. */
static void count_keys(struct fixture *f, struct peer *peer, unsigned count, unsigned *counts,
                       unsigned keys)
{
    struct peer_delivery delivery;
    for (unsigned i = 0; i < count; i++) {
        fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
        unsigned key = (unsigned)(delivery.fairness_key[0] - 'a');
        assert_true(key < keys);
        counts[key]++;
    }
}

static void test_three_equal_keys(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f), *consumer = fixture_peer(f);
    unsigned counts[3] = {0};
    uint32_t subscription;
    MUST(f, peer_create_queue(peer, "equal", LONG_LEASE_MS, &f->err));
    enqueue_as(f, peer, "equal", "a", NULL, 20);
    enqueue_as(f, peer, "equal", "b", "1", 20);
    enqueue_as(f, peer, "equal", "c", "0", 20);
    MUST(f, peer_consume(consumer, "equal", &subscription, &f->err));
    count_keys(f, consumer, 30, counts, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(counts[i], 10);
    f->passed = true;
}

/* 10,000 messages of six keys: while each of them has some, each share is right within 0.05. */
static void test_accuracy_of_six_keys(void **state)
{
    static const unsigned weights[] = {1, 1, 2, 3, 4, 9};
    static const char *const names[] = {"a", "b", "c", "d", "e", "f"};
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f), *consumer = fixture_peer(f);
    unsigned counts[6] = {0};
    const unsigned sample = 1666 * 20 / 9; /* the heaviest gets 9 of 20 and is used up first */
    uint32_t subscription;
    char weight[16];
    MUST(f, peer_create_queue(peer, "accurate", LONG_LEASE_MS, &f->err));
    for (unsigned i = 0; i < 6; i++) {
        snprintf(weight, sizeof weight, "%u", weights[i]);
        enqueue_as(f, peer, "accurate", names[i], weight, i < 4 ? 1667 : 1666);
    }
    MUST(f, peer_consume(consumer, "accurate", &subscription, &f->err));
    count_keys(f, consumer, sample, counts, 6);
    for (unsigned i = 0; i < 6; i++) {
        double share = (double)counts[i] / sample, fair = weights[i] / 20.0;
        if (share < fair - 0.05 || share > fair + 0.05)
            fail_msg("key %s has %.3f instead of %.3f", names[i], share, fair);
    }
    count_keys(f, consumer, 10000 - sample, counts, 6);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(counts[i], i < 4 ? 1667 : 1666);
    f->passed = true;
}

/* A later message of a key brings it another weight. */
static void test_weight_update(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f), *consumer = fixture_peer(f);
    unsigned counts[2] = {0};
    uint32_t subscription;
    MUST(f, peer_create_queue(peer, "update", LONG_LEASE_MS, &f->err));
    enqueue_as(f, peer, "update", "a", "1", 299);
    enqueue_as(f, peer, "update", "b", "1", 300);
    enqueue_as(f, peer, "update", "a", "3", 1);
    MUST(f, peer_consume(consumer, "update", &subscription, &f->err));
    count_keys(f, consumer, 200, counts, 2);
    assert_in_range(counts[0], 140, 160);
    f->passed = true;
}

#define WITH(setup, test) cmocka_unit_test_setup_teardown(test, setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(fixture_setup, test_enqueue_many),
        WITH(fixture_setup, test_individual_ack_and_nack),
        WITH(fixture_setup, test_stalled_stream_blocks_nothing),
        WITH(fixture_setup, test_full_consumer_is_skipped),
        WITH(fixture_setup, test_consumer_that_left_gets_nothing),
        WITH(fixture_setup, test_double_consume_and_drop),
        WITH(fixture_setup, test_visibility_timeout_and_new_stream),
        WITH(fixture_setup, test_three_equal_keys),
        WITH(fixture_setup, test_accuracy_of_six_keys),
        WITH(setup_small_quantum, test_weight_update),
    };
    return cmocka_run_group_tests_name("reference", tests, NULL, NULL);
}
