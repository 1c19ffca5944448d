/* Keepalive: who is asked for a sign of life, who is let go, and who never is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <stdlib.h>

#include "os/time.h"
#include "process/support/crowd.h"
#include "process/support/fixture.h"

#define INTERVAL_MS 2000u

#define TOTAL(name) offsetof(struct crowd_totals, name)

static int setup(void **state)
{
    return fixture_setup_with(
        state, &(struct broker_options){.extra = "fibp: {keepalive_interval: 2s}\n"}, true);
}

static struct crowd *open_crowd(struct fixture *f, size_t count)
{
    const char *addresses[] = {f->broker.unix_address, f->broker.tcp_address};
    struct crowd *crowd = crowd_create(count);
    MUST(f, crowd_open(crowd, count, addresses, 2, &f->err));
    for (size_t i = 0; i < count; i++)
        assert_int_equal(crowd_handshake(crowd, i), 0);
    assert_true(crowd_wait_total(crowd, TOTAL(handshakes), count, PEER_PATIENCE_MS));
    return crowd;
}

static bool second_is_closed(const struct crowd *crowd, void *context)
{
    (void)context;
    return !crowd_member(crowd, 1)->open;
}

static void test_silent_peer_is_let_go(void **state)
{
    struct fixture *f = *state;
    struct crowd *crowd = open_crowd(f, 3);
    uint64_t begin = time_monotonic_ms();
    crowd_set_mute(crowd, 1, true);
    assert_true(crowd_wait(crowd, second_is_closed, NULL, PEER_PATIENCE_MS));
    assert_in_range(time_monotonic_ms() - begin, 2 * INTERVAL_MS - 20, PEER_PATIENCE_MS);
    assert_int_equal(crowd_member(crowd, 1)->pings, 1);
    /* Those that answer stay, through any number of Pings. */
    assert_true(crowd_wait_total(crowd, TOTAL(pings), 6, PEER_PATIENCE_MS));
    assert_int_equal(crowd_totals(crowd).open, 2);
    assert_int_equal(crowd_totals(crowd).errors, 0);
    crowd_destroy(crowd);
    f->passed = true;
}

/* A Pong that nobody asked for is no mistake, and counts as a sign of life. */
static void test_pongs_are_taken_silently(void **state)
{
    struct fixture *f = *state;
    struct crowd *crowd = open_crowd(f, 2);
    uint64_t begin = time_monotonic_ms();
    crowd_set_mute(crowd, 0, true);
    crowd_set_mute(crowd, 1, true);
    while (time_monotonic_ms() - begin < 3 * INTERVAL_MS) {
        assert_int_equal(crowd_pong(crowd, 0), 0);
        assert_int_equal(crowd_pong(crowd, 1), 0);
        crowd_wait_total(crowd, TOTAL(open), UINT64_MAX, 100);
    }
    assert_int_equal(crowd_totals(crowd).open, 2);
    assert_int_equal(crowd_totals(crowd).errors, 0);
    assert_int_equal(crowd_ping(crowd, 0), 0);
    assert_true(crowd_wait_total(crowd, TOTAL(pongs), 1, PEER_PATIENCE_MS));
    crowd_destroy(crowd);
    f->passed = true;
}

/* Consumers that never say a word but their Pongs; and one that does not even say those, as long as
 * messages come. */
static void test_mere_consumers_stay(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct crowd *crowd = open_crowd(f, 4);
    uint64_t begin = time_monotonic_ms(), sent = 0;
    MUST(f, peer_create_queue(peer, "q", 0, &f->err));
    MUST(f, peer_create_queue(peer, "busy", 0, &f->err));
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(crowd_consume(crowd, i, 1, i == 3 ? "busy" : "q"), 0);
    assert_true(crowd_wait_total(crowd, TOTAL(consumes), 4, PEER_PATIENCE_MS));
    crowd_set_mute(crowd, 3, true);
    while (time_monotonic_ms() - begin < 3 * INTERVAL_MS) {
        MUST(f, peer_enqueue(peer, "busy", "m", NULL, &f->err));
        if (sent++ % 20 == 0)
            MUST(f, peer_enqueue(peer, "q", "m", NULL, &f->err));
        crowd_wait_total(crowd, TOTAL(open), UINT64_MAX, 100);
    }
    assert_int_equal(crowd_totals(crowd).open, 4);
    assert_true(crowd_totals(crowd).pings > 0);
    assert_true(
        crowd_wait_total(crowd, TOTAL(messages), sent + (sent + 19) / 20, PEER_PATIENCE_MS));
    crowd_destroy(crowd);
    f->passed = true;
}

static bool has_everything(const struct crowd *crowd, void *context)
{
    return crowd_member(crowd, 0)->messages == *(uint64_t *)context;
}

/* The Ping stands behind more than a slow peer takes in an interval. */
static void test_slow_reader_stays(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct crowd *crowd = open_crowd(f, 1);
    uint8_t *payload = calloc(1, 100000);
    uint64_t count = 20;
    MUST(f, peer_create_queue(peer, "q", 0, &f->err));
    for (uint64_t i = 0; i < count; i++) {
        struct peer_message message = {.queue = "q", .payload = str_of(payload, 100000)};
        struct peer_frame *frame = NULL;
        uint32_t request;
        MUST(f, peer_enqueue_send(peer, &message, 1, &request, &f->err));
        MUST_GIVE(f, 1, peer_answer(peer, request, PEER_PATIENCE_MS, &frame, &f->err));
        free(frame);
    }
    free(payload);
    assert_int_equal(crowd_consume(crowd, 0, 1, "q"), 0);
    crowd_set_deaf(crowd, 0, true);
    /* Silent for longer than an interval, then for some intervals slow. */
    poll(NULL, 0, (int)(INTERVAL_MS * 5 / 4));
    uint64_t begin = time_monotonic_ms();
    while (time_monotonic_ms() - begin < 5 * INTERVAL_MS / 2) {
        assert_int_equal(crowd_member(crowd, 0)->pings, 0);
        assert_true(crowd_read(crowd, 0, 15000) >= 0);
        poll(NULL, 0, 100);
    }
    crowd_set_deaf(crowd, 0, false);
    if (!crowd_wait(crowd, has_everything, &count, PEER_PATIENCE_MS))
        fail_msg("%llu messages of %llu; the connection is %s",
                 (unsigned long long)crowd_member(crowd, 0)->messages, (unsigned long long)count,
                 crowd_member(crowd, 0)->open ? "open" : "closed");
    crowd_destroy(crowd);
    f->passed = true;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_silent_peer_is_let_go, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_pongs_are_taken_silently, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_mere_consumers_stay, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_slow_reader_stays, setup, fixture_teardown),
    };
    return cmocka_run_group_tests_name("keepalive", tests, NULL, NULL);
}
