/* Leases that end by themselves. */
#include "unit/broker/fixture.h"

#include "os/time.h"

static void nothing_expires_early(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[8];
    struct queue *queue = NULL;
    uint64_t when_ms = 0;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 2, NULL);
    fixture_subscribe(fixture, "q", &subscription);
    uint64_t before_ms = time_monotonic_ms();
    fixture_deliver(fixture);
    uint64_t after_ms = time_monotonic_ms();
    assert_int_equal(fixture_delivered(fixture, got, 8), 2);
    fixture_expire(fixture, before_ms + 30000); /* whole milliseconds: not yet for certain */
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 2);
    assert_int_equal(scheduler_timer_next(fixture->broker->scheduler, before_ms, &queue, &when_ms),
                     LOCK_HELD);
    assert_null(queue);
    assert_true(when_ms <= after_ms + 30001);
    fixture_expire(fixture, after_ms + 30001);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 0);
    fixture_unsubscribe(fixture, &subscription);
}

static void many_expire_in_steps_and_in_order(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    static struct delivered got[600];
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 500, NULL);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 600), 500);
    bool more = false;
    uint64_t now_ms = time_monotonic_ms() + 30001;
    assert_int_equal(broker_expire(fixture->broker, fixture_queue(fixture, "q"), now_ms, &more), 0);
    assert_true(more);
    assert_in_range(fixture_stats(fixture, "q").in_flight, 1, 499);
    fixture_expire(fixture, now_ms);
    assert_int_equal(fixture_queue(fixture, "q")->counters->expired, 500);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 600), 500);
    for (uint32_t i = 0; i < 500; i++) {
        assert_int_equal(got[i].payload, i);
        assert_int_equal(got[i].attempt, 1);
    }
    fixture_unsubscribe(fixture, &subscription);
}

static void a_full_disk_puts_it_off(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[8];
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 4, NULL);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 8), 4);
    bool more = false;
    uint64_t now_ms = time_monotonic_ms() + 30000;
    fixture->broker->options.commit = ENV_COMMIT_KERNEL;
    fixture_fill_disk();
    assert_int_equal(broker_expire(fixture->broker, fixture_queue(fixture, "q"), now_ms, &more), 0);
    os_calls_reset();
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 4);
    /* Meanwhile an ack is welcome, and the rest is retried a little later. */
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[2].id), FIBP_OK);
    fixture_expire(fixture, now_ms + 1000);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 0);
    assert_int_equal(fixture_stats(fixture, "q").depth, 3);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 8), 3);
    fixture_unsubscribe(fixture, &subscription);
}

/* A process that cannot open a queue's file, for want of descriptors or memory, looks again. */
static void a_file_that_cannot_be_opened_puts_it_off(void **state)
{
    struct fixture *fixture = *state, keeper;
    struct subscription subscription;
    struct delivered got[8];
    char path[128], away[160];
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 2, NULL);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 8), 2);
    snprintf(path, sizeof(path), "%s/queues/%llu.db", fixture->path,
             (unsigned long long)fixture_queue(fixture, "q")->id);
    snprintf(away, sizeof(away), "%s.away", path);
    fixture_join(&keeper, fixture, 1);
    uint64_t now_ms = time_monotonic_ms() + 31000;
    assert_int_equal(rename(path, away), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    fixture_expire(&keeper, now_ms);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 2);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rename(away, path), 0);
    fixture_expire(&keeper, now_ms + 1000);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 0);
    fixture_leave(&keeper);
    fixture_unsubscribe(fixture, &subscription);
}

static void a_lane_in_use_again_is_kept(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[8];
    fixture_create(fixture, "q");
    fixture_subscribe(fixture, "q", &subscription);
    fixture_enqueue(fixture, "q", "a", 1, 0, 1, NULL);
    fixture_enqueue(fixture, "q", "b", 1, 1, 1, NULL);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 8), 2);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[i].id), FIBP_OK);
    fixture_enqueue(fixture, "q", "b", 1, 2, 1, NULL);
    fixture_expire(fixture, time_monotonic_ms() + 59000);
    assert_int_equal(fixture_queue(fixture, "q")->lane_count, 2);
    fixture_expire(fixture, time_monotonic_ms() + 61000);
    assert_int_equal(fixture_queue(fixture, "q")->lane_count, 1);
    fixture_close(fixture);
    fixture_open(fixture);
    assert_int_equal(fixture_queue(fixture, "q")->lane_count, 1);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 8), 1);
    fixture_unsubscribe(fixture, &subscription);
}

static void an_idle_queue_takes_little(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[8];
    fixture_create(fixture, "q");
    assert_null(fixture_queue(fixture, "q")->expiry);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_enqueue(fixture, "q", "a", 1, 0, 2, NULL);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 8), 2);
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[0].id), FIBP_OK);
    assert_non_null(fixture_queue(fixture, "q")->expiry);
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[1].id), FIBP_OK);
    fixture_expire(fixture, time_monotonic_ms() + 61000);
    assert_int_equal(fixture_queue(fixture, "q")->lane_count, 0);
    assert_null(fixture_queue(fixture, "q")->expiry);
    /* As after a restart, and it can be used as before. */
    fixture_unsubscribe(fixture, &subscription);
    fixture_close(fixture);
    fixture_open(fixture);
    assert_null(fixture_queue(fixture, "q")->expiry);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_enqueue(fixture, "q", "a", 1, 0, 1, NULL);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 8), 1);
    assert_non_null(fixture_queue(fixture, "q")->expiry);
    fixture_unsubscribe(fixture, &subscription);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_expires_early, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(many_expire_in_steps_and_in_order, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_puts_it_off, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_file_that_cannot_be_opened_puts_it_off, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_lane_in_use_again_is_kept, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(an_idle_queue_takes_little, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
