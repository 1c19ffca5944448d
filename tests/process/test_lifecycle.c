/* The life of a message: delivery, ack, nack, visibility timeout, crash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "os/time.h"
#include "process/support/fixture.h"

static void test_enqueue_consume_ack(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct peer_delivery delivery;
    uint32_t subscription, request;
    struct peer_message message = {
        .queue = "life", .tenant = "acme", .weight = "4", .payload = STR("order 66")};
    MUST(f, peer_create_queue(peer, "life", 0, &f->err));
    MUST(f, peer_enqueue_send(peer, &message, 1, &request, &f->err));
    MUST(f, peer_consume(peer, "life", &subscription, &f->err));
    fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
    assert_string_equal(delivery.payload, "order 66");
    assert_string_equal(delivery.tenant, "acme");
    assert_string_equal(delivery.fairness_key, "acme");
    assert_int_equal(delivery.weight, 4);
    MUST(f, peer_ack(peer, "life", &delivery.id, &f->err));
    MUST_GIVE(f, FIBP_MESSAGE_NOT_FOUND, peer_ack(peer, "life", &delivery.id, &f->err));
    MUST_GIVE(f, FIBP_MESSAGE_NOT_FOUND, peer_nack(peer, "life", &delivery.id, &f->err));
    f->passed = true;
}

static void test_nack_raises_the_attempt(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct peer_delivery delivery;
    uint32_t subscription;
    struct uuid id;
    MUST(f, peer_create_queue(peer, "retry", 0, &f->err));
    MUST(f, peer_consume(peer, "retry", &subscription, &f->err));
    MUST(f, peer_enqueue(peer, "retry", "again", &id, &f->err));
    for (uint32_t attempt = 0; attempt < 3; attempt++) {
        fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
        assert_memory_equal(delivery.id.bytes, id.bytes, UUID_SIZE);
        assert_int_equal(delivery.attempt, attempt);
        if (attempt < 2)
            MUST(f, peer_nack(peer, "retry", &id, &f->err));
    }
    MUST(f, peer_ack(peer, "retry", &id, &f->err));
    MUST_GIVE(f, FIBP_MESSAGE_NOT_FOUND, peer_nack(peer, "retry", &id, &f->err));
    fixture_wait_stats(f, peer, "retry", 0, 0, 1);
    f->passed = true;
}

static void test_nacked_message_goes_to_the_end(void **state)
{
    struct fixture *f = *state;
    struct peer *producer = fixture_peer(f), *consumer = fixture_peer(f);
    struct peer_delivery delivery;
    uint32_t subscription;
    MUST(f, peer_create_queue(producer, "end", 0, &f->err));
    MUST(f, peer_consume(consumer, "end", &subscription, &f->err));
    MUST(f, peer_enqueue(producer, "end", "first", NULL, &f->err));
    fixture_receive(f, consumer, PEER_PATIENCE_MS, &delivery);
    /* Without a consumer the order in the queue can be seen. */
    MUST(f, peer_cancel(consumer, subscription, &f->err));
    fixture_wait_stats(f, producer, "end", 1, 1, 0);
    MUST(f, peer_enqueue(producer, "end", "second", NULL, &f->err));
    MUST(f, peer_nack(producer, "end", &delivery.id, &f->err));
    MUST(f, peer_consume(consumer, "end", &subscription, &f->err));
    fixture_receive(f, consumer, PEER_PATIENCE_MS, &delivery);
    assert_string_equal(delivery.payload, "second");
    fixture_receive(f, consumer, PEER_PATIENCE_MS, &delivery);
    assert_string_equal(delivery.payload, "first");
    assert_int_equal(delivery.attempt, 1);
    f->passed = true;
}

static void test_unknown_messages(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct uuid id, other = {{0}};
    MUST(f, peer_create_queue(peer, "known", 0, &f->err));
    MUST(f, peer_enqueue(peer, "known", "not leased", &id, &f->err));
    MUST_GIVE(f, FIBP_MESSAGE_NOT_FOUND, peer_ack(peer, "known", &id, &f->err));
    MUST_GIVE(f, FIBP_MESSAGE_NOT_FOUND, peer_ack(peer, "known", &other, &f->err));
    MUST_GIVE(f, FIBP_MESSAGE_NOT_FOUND, peer_nack(peer, "known", &other, &f->err));
    MUST_GIVE(f, FIBP_MESSAGE_NOT_FOUND, peer_ack(peer, "nowhere", &id, &f->err));
    fixture_wait_stats(f, peer, "known", 1, 0, 0);
    f->passed = true;
}

static void test_ack_and_nack_after_cancel(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct peer_delivery first, second;
    uint32_t subscription;
    MUST(f, peer_create_queue(peer, "cancel", 0, &f->err));
    MUST(f, peer_consume(peer, "cancel", &subscription, &f->err));
    MUST(f, peer_enqueue_run(peer, "cancel", "m", 2, NULL, &f->err));
    fixture_receive(f, peer, PEER_PATIENCE_MS, &first);
    fixture_receive(f, peer, PEER_PATIENCE_MS, &second);
    MUST(f, peer_cancel(peer, subscription, &f->err));
    MUST(f, peer_ack(peer, "cancel", &first.id, &f->err));
    MUST(f, peer_nack(peer, "cancel", &second.id, &f->err));
    fixture_wait_stats(f, peer, "cancel", 1, 0, 0);
    f->passed = true;
}

/* How long after the lease of `first` that of `second` begins, rounded up: the times that are told
 * are whole milliseconds. */
static int64_t lease_distance_ms(const struct peer_delivery *first,
                                 const struct peer_delivery *second)
{
    return (int64_t)(second->leased_ms - first->leased_ms) + 1;
}

static void test_visibility_timeout(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct peer_delivery first, second;
    uint32_t subscription;
    MUST(f, peer_create_queue(peer, "visible", 2000, &f->err));
    MUST(f, peer_enqueue(peer, "visible", "come back", NULL, &f->err));
    MUST(f, peer_consume(peer, "visible", &subscription, &f->err));
    fixture_receive(f, peer, PEER_PATIENCE_MS, &first);
    assert_int_equal(first.attempt, 0);
    fixture_receive(f, peer, PEER_PATIENCE_MS, &second);
    assert_memory_equal(second.id.bytes, first.id.bytes, UUID_SIZE);
    assert_int_equal(second.attempt, 1);
    assert_true(lease_distance_ms(&first, &second) >= 2000);
    /* Within 5 s of a 2 s timeout; the rest is patience with a loaded machine. */
    assert_true(lease_distance_ms(&first, &second) < 10000);
    MUST(f, peer_ack(peer, "visible", &second.id, &f->err));
    fixture_receive_nothing(f, peer, 2500);
    f->passed = true;
}

static void test_expiry_under_load(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f), *busy = fixture_peer(f);
    struct peer_delivery first, second;
    uint32_t subscription;
    MUST(f, peer_create_queue(peer, "quiet", 1000, &f->err));
    MUST(f, peer_create_queue(peer, "busy", 0, &f->err));
    MUST(f, peer_enqueue(peer, "quiet", "come back", NULL, &f->err));
    MUST(f, peer_consume(peer, "quiet", &subscription, &f->err));
    fixture_receive(f, peer, PEER_PATIENCE_MS, &first);
    /* Not one moment without traffic. */
    int got = 0;
    for (uint64_t end = time_monotonic_ns() + 20000000000u; !got && time_monotonic_ns() < end;) {
        MUST(f, peer_enqueue_run(busy, "busy", "m", 20, NULL, &f->err));
        got = peer_receive(peer, 0, &second, &f->err);
    }
    assert_int_equal(got, 1);
    assert_true(lease_distance_ms(&first, &second) >= 1000);
    f->passed = true;
}

static void test_timeouts_of_queues_are_independent(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct peer_delivery delivery;
    uint32_t subscription;
    MUST(f, peer_create_queue(peer, "short", 700, &f->err));
    MUST(f, peer_create_queue(peer, "long", 60000, &f->err));
    MUST(f, peer_enqueue(peer, "short", "short", NULL, &f->err));
    MUST(f, peer_enqueue(peer, "long", "long", NULL, &f->err));
    MUST(f, peer_consume(peer, "short", &subscription, &f->err));
    MUST(f, peer_consume(peer, "long", &subscription, &f->err));
    unsigned shorts = 0, longs = 0;
    while (shorts < 3) {
        fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
        if (strcmp(delivery.queue, "short") == 0)
            assert_int_equal(delivery.attempt, shorts++);
        else
            longs++;
    }
    assert_int_equal(longs, 1);
    f->passed = true;
}

static void test_late_ack_finds_nothing(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct peer_delivery delivery;
    uint32_t subscription;
    MUST(f, peer_create_queue(peer, "late", 500, &f->err));
    MUST(f, peer_consume(peer, "late", &subscription, &f->err));
    MUST(f, peer_enqueue(peer, "late", "too late", NULL, &f->err));
    fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
    MUST(f, peer_cancel(peer, subscription, &f->err));
    fixture_wait_stats(f, peer, "late", 1, 0, 0);
    MUST_GIVE(f, FIBP_MESSAGE_NOT_FOUND, peer_ack(peer, "late", &delivery.id, &f->err));
    fixture_wait_stats(f, peer, "late", 1, 0, 0);
    f->passed = true;
}

static void test_crash_keeps_messages(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct uuid ids[5];
    struct peer_delivery delivery;
    uint32_t subscription;
    MUST(f, peer_create_queue(peer, "crash", 0, &f->err));
    MUST(f, peer_enqueue_run(peer, "crash", "m", 5, ids, &f->err));
    fixture_crash(f);
    peer = fixture_peer(f);
    MUST_GIVE(f, FIBP_QUEUE_ALREADY_EXISTS, peer_create_queue(peer, "crash", 0, &f->err));
    MUST(f, peer_consume(peer, "crash", &subscription, &f->err));
    for (unsigned i = 0; i < 5; i++) {
        fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
        assert_memory_equal(delivery.id.bytes, ids[i].bytes, UUID_SIZE);
        assert_int_equal(delivery.attempt, 0);
        MUST(f, peer_ack(peer, "crash", &delivery.id, &f->err));
    }
    /* What was acked stays away. */
    fixture_crash(f);
    peer = fixture_peer(f);
    fixture_wait_stats(f, peer, "crash", 0, 0, 0);
    f->passed = true;
}

static void test_lease_survives_a_crash(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct peer_delivery delivery;
    uint32_t subscription;
    MUST(f, peer_create_queue(peer, "kept", 60000, &f->err));
    MUST(f, peer_enqueue_run(peer, "kept", "m", 2, NULL, &f->err));
    MUST(f, peer_consume(peer, "kept", &subscription, &f->err));
    fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
    fixture_crash(f);
    peer = fixture_peer(f);
    MUST(f, peer_ack(peer, "kept", &delivery.id, &f->err));
    fixture_wait_stats(f, peer, "kept", 1, UINT64_MAX, 0);
    f->passed = true;
}

static void test_attempts_survive_a_crash(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct peer_delivery delivery;
    uint32_t subscription;
    MUST(f, peer_create_queue(peer, "attempts", 0, &f->err));
    MUST(f, peer_enqueue(peer, "attempts", "m", NULL, &f->err));
    MUST(f, peer_consume(peer, "attempts", &subscription, &f->err));
    for (unsigned i = 0; i < 3; i++) {
        fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
        if (i == 2)
            break;
        MUST(f, peer_nack(peer, "attempts", &delivery.id, &f->err));
    }
    MUST(f, peer_cancel(peer, subscription, &f->err));
    MUST(f, peer_nack(peer, "attempts", &delivery.id, &f->err));
    fixture_crash(f);
    peer = fixture_peer(f);
    MUST(f, peer_consume(peer, "attempts", &subscription, &f->err));
    fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
    assert_int_equal(delivery.attempt, 3);
    f->passed = true;
}

static void test_large_payloads(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 8192, 100000, 3000000};
    const size_t count = sizeof sizes / sizeof sizes[0];
    struct peer_delivery delivery;
    uint32_t subscription, request;
    uint8_t *payload = malloc(3000000);
    memset(payload, 'x', 3000000);
    MUST(f, peer_create_queue(peer, "large", 0, &f->err));
    for (size_t i = 0; i < count; i++) {
        struct peer_message message = {.queue = "large", .payload = str_of(payload, sizes[i])};
        struct peer_frame *frame = NULL;
        MUST(f, peer_enqueue_send(peer, &message, 1, &request, &f->err));
        MUST_GIVE(f, 1, peer_answer(peer, request, PEER_PATIENCE_MS, &frame, &f->err));
        assert_int_equal(frame->opcode, OPCODE_ENQUEUE_RESULT);
        free(frame);
    }
    fixture_crash(f);
    peer = fixture_peer(f);
    MUST(f, peer_consume(peer, "large", &subscription, &f->err));
    for (size_t i = 0; i < count; i++) {
        fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
        assert_int_equal(delivery.payload_size, sizes[i]);
        MUST(f, peer_ack(peer, "large", &delivery.id, &f->err));
    }
    fixture_wait_stats(f, peer, "large", 0, 0, 1);
    free(payload);
    f->passed = true;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_BROKER(test_enqueue_consume_ack),
        WITH_BROKER(test_nack_raises_the_attempt),
        WITH_BROKER(test_nacked_message_goes_to_the_end),
        WITH_BROKER(test_unknown_messages),
        WITH_BROKER(test_ack_and_nack_after_cancel),
        WITH_BROKER(test_visibility_timeout),
        WITH_BROKER(test_expiry_under_load),
        WITH_BROKER(test_timeouts_of_queues_are_independent),
        WITH_BROKER(test_late_ack_finds_nothing),
        WITH_BROKER(test_crash_keeps_messages),
        WITH_BROKER(test_lease_survives_a_crash),
        WITH_BROKER(test_attempts_survive_a_crash),
        WITH_BROKER(test_large_payloads),
    };
    return cmocka_run_group_tests_name("lifecycle", tests, NULL, NULL);
}
