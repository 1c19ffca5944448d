/* Delays and retries: durable, in order of due time, whatever dies and whatever the clock does. The
 * scripts need the Lua module. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "fila.h"
#include "fibp/status.h"
#include "os/time.h"
#include "process/support/fixture.h"

#define HOUR_S 3600

/* The header "tenant" says how many ms a message waits. */
#define DELAY "function on_enqueue(msg) return {delay_ms = tonumber(msg.headers.tenant or '0')} end"

/* Without the module that knows the language of scripts the test is skipped. */
static void create(struct fixture *f, const char *queue, const char *on_enqueue,
                   const char *on_failure, uint64_t visibility_ms)
{
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_queue_options queue_options = {
        .on_enqueue = on_enqueue, .on_failure = on_failure, .visibility_timeout_ms = visibility_ms};
    struct fila *client = fixture_client(f);
    int result = fila_queue_create(client, queue, &queue_options, &error);
    fila_close(client);
    f->passed = result != 0 && strstr(error.text, "no Lua module");
    if (f->passed)
        skip();
    if (result != 0)
        fail_msg("create %s: %s", queue, error.text);
}

static void enqueue(struct fixture *f, struct peer *peer, const char *delay_ms, const char *payload)
{
    const struct peer_message message = {
        .queue = "q", .tenant = delay_ms, .payload = {(const uint8_t *)payload, strlen(payload)}};
    struct peer_frame *frame = NULL;
    uint32_t request = 0;
    MUST(f, peer_enqueue_send(peer, &message, 1, &request, &f->err));
    MUST_GIVE(f, 1, peer_answer(peer, request, PEER_PATIENCE_MS, &frame, &f->err));
    assert_int_equal(frame->body[4], FIBP_OK);
    free(frame);
}

static void test_delays_survive_a_crash_in_order_of_due_time(void **state)
{
    struct fixture *f = *state;
    struct peer_delivery delivery;
    uint32_t subscription = 0;
    create(f, "q", DELAY, NULL, 0);
    struct peer *peer = fixture_peer(f);
    uint64_t began_ms = time_monotonic_ms();
    enqueue(f, peer, "2500", "third");
    enqueue(f, peer, "1500", "first");
    enqueue(f, peer, "2000", "second");
    enqueue(f, peer, "600000", "much later");
    enqueue(f, peer, NULL, "at once");
    fixture_crash(f);
    peer = fixture_peer(f);
    MUST(f, peer_consume(peer, "q", &subscription, &f->err));
    static const char *const expected[] = {"at once", "first", "second", "third"};
    for (unsigned i = 0; i < 4; i++) {
        fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
        assert_string_equal(delivery.payload, expected[i]);
        assert_true(i == 0 || time_monotonic_ms() - began_ms >= 1000 + 500 * i);
        MUST(f, peer_ack(peer, "q", &delivery.id, &f->err));
    }
    fixture_wait_stats(f, peer, "q", 1, 0, UINT64_MAX);
    f->passed = true;
}

/* Both ways by an hour: by the new clock nothing is later than a second, nothing comes early. */
static void test_steps_of_the_clock(void **state)
{
    struct fixture *f = *state;
    struct peer_delivery delivery;
    uint32_t subscription = 0;
    create(f, "q", DELAY, NULL, 0);
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_consume(peer, "q", &subscription, &f->err));
    enqueue(f, peer, "3590000", "in an hour");
    fixture_receive_nothing(f, peer, 300);
    uint64_t stepped_ms = time_monotonic_ms();
    atomic_store(&f->broker.shim->clock_offset_s, HOUR_S);
    fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
    assert_string_equal(delivery.payload, "in an hour");
    print_message("%llu ms after the step\n",
                  (unsigned long long)(time_monotonic_ms() - stepped_ms));
    /* Back: what is due in a second by the clock of before waits for an hour more ... */
    enqueue(f, peer, "1000", "back");
    atomic_store(&f->broker.shim->clock_offset_s, 0);
    fixture_receive_nothing(f, peer, 1500);
    /* ... and what comes now is not held up by it. */
    enqueue(f, peer, "500", "now");
    fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
    assert_string_equal(delivery.payload, "now");
    atomic_store(&f->broker.shim->clock_offset_s, HOUR_S);
    fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
    assert_string_equal(delivery.payload, "back");
    fixture_wait_stats(f, peer, "q", 3, 3, UINT64_MAX);
    f->passed = true;
}

static void test_a_retry_waits_and_survives(void **state)
{
    struct fixture *f = *state;
    struct peer_delivery delivery;
    uint32_t subscription = 0;
    create(f, "q", NULL,
           "function on_failure(msg) return {action = 'retry', delay_ms = 700 * msg.attempts} end",
           0);
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_enqueue(peer, "q", "m", NULL, &f->err));
    MUST(f, peer_consume(peer, "q", &subscription, &f->err));
    fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
    for (uint32_t attempt = 0; attempt < 3; attempt++) {
        assert_int_equal(delivery.attempt, attempt);
        uint64_t nacked_ms = time_monotonic_ms();
        MUST(f, peer_nack(peer, "q", &delivery.id, &f->err));
        if (attempt == 1) {
            fixture_crash(f);
            peer = fixture_peer(f);
            MUST(f, peer_consume(peer, "q", &subscription, &f->err));
        }
        if (attempt == 0)
            fixture_receive_nothing(f, peer, 300);
        if (attempt < 2) {
            fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
            assert_true(time_monotonic_ms() - nacked_ms >= 700 * (attempt + 1));
        }
    }
    fixture_wait_stats(f, peer, "q", 1, 0, UINT64_MAX);
    f->passed = true;
}

#define FRAME 12

/* A frame of nacks whose scripts take 12 ms together, leases of 5 ms, and another connection that
 * acks the last of them: of nack and ack exactly one is taken, and the message is where that one
 * says. */
static void test_slow_scripts_and_a_second_acker_have_one_outcome(void **state)
{
    struct fixture *f = *state;
    struct peer_delivery delivery;
    struct framed_stats stats;
    struct uuid ids[FRAME];
    uint32_t subscription = 0;
    unsigned nacks = 0, acks = 0;
    uint64_t dead = 0;
    create(f, "q", NULL,
           "function on_failure(msg) local e = fila.now_ms() + 1 while fila.now_ms() < e do end "
           "return {action = 'dlq'} end",
           5);
    struct peer *peer = fixture_peer(f), *other = fixture_peer(f);
    for (unsigned round = 0; round < 30; round++) {
        struct peer_frame *frame = NULL;
        uint32_t nack = 0, ack = 0;
        MUST(f, peer_enqueue_run(peer, "q", "m", FRAME, NULL, &f->err));
        MUST(f, peer_consume_limited(peer, "q", FRAME, &subscription, &f->err));
        for (unsigned i = 0; i < FRAME; i++) {
            fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
            ids[i] = delivery.id;
        }
        MUST(f, peer_settle_send(peer, true, "q", ids, FRAME, &nack, &f->err));
        for (uint64_t end_ms = time_monotonic_ms() + round % 15; time_monotonic_ms() < end_ms;)
            ;
        MUST(f, peer_settle_send(other, false, "q", &ids[FRAME - 1], 1, &ack, &f->err));
        MUST_GIVE(f, 1, peer_answer(peer, nack, PEER_PATIENCE_MS, &frame, &f->err));
        bool nacked = frame->body[4 + FRAME - 1] == FIBP_OK;
        free(frame);
        MUST_GIVE(f, 1, peer_answer(other, ack, PEER_PATIENCE_MS, &frame, &f->err));
        bool acked = frame->body[4] == FIBP_OK;
        free(frame);
        assert_false(nacked && acked);
        MUST(f, peer_cancel(peer, subscription, &f->err));
        /* What expired before the nack came is there still, and so is what a script did not decide
         * within its limits. */
        MUST(f, peer_stats(peer, "q", &stats, &f->err));
        uint64_t left = stats.depth;
        MUST(f, peer_stats(peer, "q.dlq", &stats, &f->err));
        assert_int_equal(left + stats.depth - dead, FRAME - acked);
        dead = stats.depth;
        nacks += nacked;
        acks += acked;
        while (left) {
            MUST(f, peer_consume_limited(peer, "q", 1, &subscription, &f->err));
            fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
            left -= peer_ack(peer, "q", &delivery.id, &f->err) == FIBP_OK;
            MUST(f, peer_cancel(peer, subscription, &f->err));
        }
    }
    print_message("%u nacked, %u acked, %llu dead\n", nacks, acks, (unsigned long long)dead);
    assert_true(nacks > 0);
    f->passed = true;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup_faults, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_delays_survive_a_crash_in_order_of_due_time),
        TEST(test_steps_of_the_clock),
        TEST(test_a_retry_waits_and_survives),
        TEST(test_slow_scripts_and_a_second_acker_have_one_outcome),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
