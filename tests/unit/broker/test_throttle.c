/* Deliveries that throttles and concurrency limits bound: with a store, as workers do it. */
#include "unit/broker/throttled.h"

#include "broker/move.h"

/* --- buckets --- */

static void a_throttled_message_is_skipped_and_others_of_its_key_go_on(void **state)
{
    struct fixture *fixture = *state;
    struct subscription sub;
    struct delivered got[16] = {{.payload = 0}};
    static const char *const slow[] = {"provider:slow", NULL};
    assert_int_equal(fixture_create(fixture, "q"), FIBP_OK);
    throttled_set(fixture, "throttle.provider:slow", "1,1");
    throttled_enqueue(fixture, "q", "k", slow, 1, 3);
    throttled_enqueue(fixture, "q", "k", NULL, 10, 2);
    throttled_enqueue(fixture, "q", "l", NULL, 20, 1);
    fixture_subscribe(fixture, "q", &sub);
    fixture_deliver(fixture);
    unsigned count = fixture_delivered(fixture, got, 16);
    assert_int_equal(count, 4);
    assert_int_equal(got[0].payload, 1); /* oldest of its key, and there is a token */
    for (unsigned i = 1; i < count; i++)
        assert_true(got[i].payload >= 10);
    struct queue *queue = fixture_queue(fixture, "q");
    assert_int_equal(queue->held, 2);
    assert_int_equal(queue->held_lanes, 1);
    assert_int_equal(queue->counters->throttle_holds, 1);
    struct operation_queue_row totals = fixture_stats(fixture, "q");
    assert_int_equal(totals.depth, 6);
    assert_int_equal(totals.in_flight, 4);
    fixture_unsubscribe(fixture, &sub);
}

/* As the reference has it: a key that is throttled is active, and a bucket has its row. */
static void statistics_show_buckets_and_held_keys(void **state)
{
    struct fixture *fixture = *state;
    struct subscription sub;
    static const char *const slow[] = {"slow", NULL}, *const both[] = {"slow", "fast", NULL};
    assert_int_equal(fixture_create(fixture, "q"), FIBP_OK);
    throttled_set(fixture, "throttle.slow", "0,2");
    throttled_set(fixture, "throttle.fast", "0,9.5");
    throttled_set(fixture, "throttle.elsewhere", "1,1");
    throttled_enqueue(fixture, "q", "k", slow, 1, 3);
    throttled_enqueue(fixture, "q", "k", both, 11, 3);
    throttled_enqueue(fixture, "q", "l", both, 21, 4);
    fixture_subscribe(fixture, "q", &sub);
    fixture_deliver(fixture);
    struct operation_get_stats *stats = calloc(1, sizeof(*stats));
    stats->operation.kind = OPERATION_GET_STATS;
    stats->name = STR("q");
    fixture_execute(fixture, &stats->operation);
    assert_int_equal(stats->active_keys, 2);
    assert_int_equal(stats->key_count, 2);
    assert_int_equal(stats->keys[0].pending + stats->keys[1].pending, 8);
    assert_int_equal(stats->throttle_count, 2);
    for (uint32_t i = 0; i < 2; i++) {
        const struct hold_row *row = &stats->throttles[i];
        bool is_slow = str_equal(row->key, STR("slow"));
        assert_true(is_slow || str_equal(row->key, STR("fast")));
        assert_true(row->burst == (is_slow ? 2 : 9.5) && row->rate == 0);
        assert_true(row->tokens == (is_slow ? 0 : 8.5));
    }
    operation_free(&stats->operation);
    fixture_forget_emitted(fixture);
    fixture_unsubscribe(fixture, &sub);
}

static void all_keys_must_have_a_token(void **state)
{
    struct fixture *fixture = *state;
    struct subscription sub;
    struct delivered got[16] = {{.payload = 0}};
    static const char *const both[] = {"a", "b", NULL}, *const one[] = {"a", NULL};
    assert_int_equal(fixture_create(fixture, "q"), FIBP_OK);
    throttled_set(fixture, "throttle.a", "0,5");
    throttled_set(fixture, "throttle.b", "0,1");
    throttled_enqueue(fixture, "q", "k", both, 1, 3);
    throttled_enqueue(fixture, "q", "k", one, 11, 9);
    fixture_subscribe(fixture, "q", &sub);
    fixture_deliver(fixture);
    unsigned count = fixture_delivered(fixture, got, 16), with_both = 0;
    for (unsigned i = 0; i < count; i++)
        with_both += got[i].payload < 10;
    assert_int_equal(with_both, 1);
    assert_int_equal(count, 5); /* all five of a, none lost to what b refused */
    fixture_unsubscribe(fixture, &sub);
}

static void keys_without_a_bucket_are_free(void **state)
{
    struct fixture *fixture = *state;
    struct subscription sub;
    struct delivered got[100];
    static const char *const unknown[] = {"x", "y", NULL};
    assert_int_equal(fixture_create(fixture, "q"), FIBP_OK);
    throttled_set(fixture, "throttle.z", "0,0");
    throttled_enqueue(fixture, "q", "k", unknown, 1, 50);
    fixture_subscribe(fixture, "q", &sub);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 100), 50);
    fixture_unsubscribe(fixture, &sub);
}

static void a_refill_delivers_and_an_empty_value_frees(void **state)
{
    struct fixture *fixture = *state;
    struct subscription sub;
    struct delivered got[100];
    static const char *const slow[] = {"slow", NULL};
    assert_int_equal(fixture_create(fixture, "q"), FIBP_OK);
    throttled_set(fixture, "throttle.slow", "20,1");
    throttled_enqueue(fixture, "q", "k", slow, 1, 50);
    fixture_subscribe(fixture, "q", &sub);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 100), 1);
    uint64_t began_ns = time_monotonic_ns();
    throttled_wait(fixture); /* until the lane is released, by the time the broker says */
    assert_true(time_monotonic_ns() - began_ns < UINT64_C(5000000000));
    fixture_deliver(fixture);
    unsigned count = fixture_delivered(fixture, got, 100);
    assert_in_range(count, 1, 48);
    throttled_set(fixture, "throttle.slow", "");
    throttled_run(fixture);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 100), 49 - count);
    fixture_unsubscribe(fixture, &sub);
}

static void buckets_come_back_full_after_a_restart(void **state)
{
    struct fixture *fixture = *state;
    struct subscription sub;
    struct delivered got[100];
    static const char *const keys[] = {"x", NULL};
    assert_int_equal(fixture_create(fixture, "q"), FIBP_OK);
    throttled_set(fixture, "throttle.x", "0,4");
    throttled_set(fixture, "throttle.gone", "0,4");
    throttled_set(fixture, "throttle.gone", "");
    throttled_enqueue(fixture, "q", "k", keys, 1, 20);
    fixture_subscribe(fixture, "q", &sub);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 100), 4);
    fixture_unsubscribe(fixture, &sub);
    fixture_close(fixture);
    fixture_open(fixture);
    assert_int_equal(atomic_load(&fixture->broker->scheduler->throttles.count), 1);
    fixture_subscribe(fixture, "q", &sub);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 100), 4);
    fixture_unsubscribe(fixture, &sub);
}

/* --- the order of a key whose messages have different throttle keys --- */

static const char *const *set_of(unsigned number)
{
    static const char *const x[] = {"x", NULL}, *const y[] = {"y", NULL},
                             *const both[] = {"x", "y", NULL},
                             *const *const sets[] = {x, y, both, NULL};
    return sets[number * number / 3 % 4];
}

static void expect_in_order(struct fixture *fixture, unsigned first, unsigned count)
{
    struct delivered got[200];
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 200), count);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(got[i].payload, first + i);
}

/* Without buckets, and with some that have enough, they come as they were enqueued: more of them
 * than a pull takes, in several frames. */
static void throttle_sets_of_a_key_keep_their_order(void **state)
{
    struct fixture *fixture = *state;
    struct subscription sub;
    assert_int_equal(fixture_create(fixture, "q"), FIBP_OK);
    for (unsigned i = 1; i <= 100; i++)
        throttled_enqueue(fixture, "q", "k", set_of(i), i, 1);
    fixture_subscribe(fixture, "q", &sub);
    expect_in_order(fixture, 1, 100);
    throttled_set(fixture, "throttle.x", "0,1000");
    throttled_set(fixture, "throttle.y", "0,1000");
    fixture_unsubscribe(fixture, &sub);
    for (unsigned i = 101; i <= 200; i++)
        throttled_enqueue(fixture, "q", "k", set_of(i), i, 1);
    fixture_subscribe(fixture, "q", &sub);
    expect_in_order(fixture, 101, 100);
    fixture_unsubscribe(fixture, &sub);
}

/* Leased messages stand before those that are ready, and nothing is counted yet. */
static void throttle_sets_of_a_key_keep_their_order_after_a_crash(void **state)
{
    struct fixture *fixture = *state;
    struct subscription sub;
    assert_int_equal(fixture_create(fixture, "q"), FIBP_OK);
    for (unsigned i = 1; i <= 40; i++)
        throttled_enqueue(fixture, "q", "k", set_of(i), i, 1);
    fixture_subscribe(fixture, "q", &sub);
    expect_in_order(fixture, 1, 40);
    fixture_unsubscribe(fixture, &sub);
    for (unsigned i = 41; i <= 140; i++)
        throttled_enqueue(fixture, "q", "k", set_of(i), i, 1);
    fixture_close(fixture);
    fixture_open(fixture);
    fixture_subscribe(fixture, "q", &sub);
    expect_in_order(fixture, 41, 100);
    assert_int_equal(fixture_stats(fixture, "q").depth, 140);
    fixture_unsubscribe(fixture, &sub);
}

/* The tokens that there are go to the oldest. */
static void tokens_go_to_the_oldest_of_a_key(void **state)
{
    struct fixture *fixture = *state;
    struct subscription sub;
    struct delivered got[16];
    static const char *const x[] = {"x", NULL}, *const both[] = {"x", "y", NULL};
    assert_int_equal(fixture_create(fixture, "q"), FIBP_OK);
    throttled_set(fixture, "throttle.x", "0,3");
    for (unsigned i = 1; i <= 6; i++)
        throttled_enqueue(fixture, "q", "k", i % 2 ? x : both, i, 1);
    fixture_subscribe(fixture, "q", &sub);
    expect_in_order(fixture, 1, 3);
    throttled_set(fixture, "throttle.x", "");
    throttled_run(fixture);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 16), 3);
    assert_int_equal(got[0].payload, 4);
    assert_int_equal(got[1].payload, 5);
    assert_int_equal(got[2].payload, 6);
    fixture_unsubscribe(fixture, &sub);
}

/* --- tokens are taken for what is delivered, and only for that --- */

static double tokens(struct fixture *fixture, const char *key)
{
    struct scheduler *scheduler = fixture->broker->scheduler;
    struct throttle *throttle = throttle_acquire(scheduler, THROTTLE_BUCKET, str_from_c(key));
    assert_non_null(throttle);
    double count = throttle->bucket.tokens;
    throttle_release(scheduler, throttle);
    return count;
}

static void a_pull_that_fails_loses_no_tokens(void **state)
{
    struct fixture *fixture = *state;
    struct subscription sub;
    struct delivered got[100];
    static const char *const keys[] = {"x", NULL};
    assert_int_equal(fixture_create(fixture, "q"), FIBP_OK);
    throttled_set(fixture, "throttle.x", "0,8");
    throttled_enqueue(fixture, "q", "k", keys, 1, 20);
    fixture_subscribe(fixture, "q", &sub);
    fixture_fill_disk();
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 100), 0);
    assert_true(tokens(fixture, "x") == 8);
    os_calls_reset();
    throttled_run(fixture);
    uint64_t until_ns = time_monotonic_ns() + UINT64_C(10000000000);
    unsigned count = 0;
    while (count < 8 && time_monotonic_ns() < until_ns) { /* it is tried again later */
        throttled_run(fixture);
        fixture_deliver(fixture);
        count += fixture_delivered(fixture, got, 100);
    }
    assert_int_equal(count, 8);
    assert_true(tokens(fixture, "x") == 0);
    fixture_unsubscribe(fixture, &sub);
}

/* After a recovery a lane may turn out to have fewer messages than were picked. */
static void picks_that_find_nothing_give_their_tokens_back(void **state)
{
    struct fixture *fixture = *state;
    struct subscription sub;
    struct delivered got[100];
    static const char *const keys[] = {"x", NULL};
    assert_int_equal(fixture_create(fixture, "q"), FIBP_OK);
    throttled_set(fixture, "throttle.x", "0,10");
    throttled_set(fixture, "concurrency.x", "10");
    throttled_enqueue(fixture, "q", "k", keys, 1, 3);
    fixture_close(fixture);
    fixture_open(fixture); /* nothing is counted now */
    fixture_subscribe(fixture, "q", &sub);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 100), 3);
    assert_true(tokens(fixture, "x") == 7);
    uint32_t count = 0;
    struct hold_row *rows = hold_rows(fixture_queue(fixture, "q"), THROTTLE_LIMIT, 1, &count);
    assert_int_equal(count, 1);
    assert_int_equal(rows[0].in_flight, 3);
    free(rows);
    fixture_unsubscribe(fixture, &sub);
}

static void nacks_and_expiry_take_a_token_for_each_delivery(void **state)
{
    struct fixture *fixture = *state;
    struct subscription sub;
    struct delivered got[100];
    static const char *const keys[] = {"x", NULL};
    fixture->broker->options.visibility_timeout_ms = 50;
    assert_int_equal(fixture_create(fixture, "q"), FIBP_OK);
    throttled_set(fixture, "throttle.x", "0,4");
    throttled_enqueue(fixture, "q", "k", keys, 1, 2);
    fixture_subscribe(fixture, "q", &sub);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 100), 2);
    assert_int_equal(fixture_settle(fixture, OPERATION_NACK, "q", &got[0].id), FIBP_OK);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 100), 1);
    assert_int_equal(got[0].attempt, 1);
    assert_true(tokens(fixture, "x") == 1);
    fixture_expire(fixture, time_monotonic_ms() + 1000);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 100), 1);
    assert_int_equal(fixture_queue(fixture, "q")->held, 1);
    assert_true(tokens(fixture, "x") == 0);
    fixture_unsubscribe(fixture, &sub);
}

static void held_messages_can_be_moved(void **state)
{
    struct fixture *fixture = *state;
    struct subscription sub;
    struct local_queue *from = NULL, *to = NULL;
    static const char *const keys[] = {"x", NULL};
    struct order order;
    uint32_t moved = 0;
    uint8_t status = 0;
    assert_int_equal(fixture_create(fixture, "q"), FIBP_OK);
    throttled_set(fixture, "throttle.x", "0,0");
    throttled_enqueue(fixture, "q.dlq", "k", keys, 1, 5);
    fixture_subscribe(fixture, "q.dlq", &sub);
    fixture_deliver(fixture);
    assert_int_equal(fixture_queue(fixture, "q.dlq")->held, 5);
    assert_int_equal(broker_find_queue(fixture->broker, STR("q.dlq"), &from), 0);
    assert_int_equal(broker_find_queue(fixture->broker, STR("q"), &to), 0);
    assert_int_equal(order_begin(&order, fixture->broker, from->queue), 0);
    do {
        assert_int_equal(move_ready(fixture->broker, from, to, &order, 100, &moved, &status), 0);
        pool_reset(fixture->broker->scratch);
        assert_int_equal(status, FIBP_OK);
    } while (!moved && order_first(&order));
    order_free(&order);
    assert_int_equal(moved, 5);
    assert_int_equal(from->queue->held_lanes, 0);
    assert_int_equal(from->queue->held, 0);
    fixture_unsubscribe(fixture, &sub);
}

/* --- concurrency --- */

static void an_ack_lets_the_next_one_go(void **state)
{
    struct fixture *fixture = *state;
    struct subscription sub;
    struct delivered got[100];
    assert_int_equal(fixture_create(fixture, "q"), FIBP_OK);
    throttled_set(fixture, "concurrency.k", "2");
    fixture_enqueue(fixture, "q", "k", 1, 1, 6, NULL);
    fixture_enqueue(fixture, "q", "other", 1, 100, 3, NULL);
    fixture_subscribe(fixture, "q", &sub);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 100), 5);
    struct uuid first = {{0}};
    for (unsigned i = 0; i < 5; i++)
        if (got[i].key == 'k')
            first = got[i].id;
    for (uint32_t i = 3; i <= 6; i++) {
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &first), FIBP_OK);
        fixture_deliver(fixture); /* the ack has woken the worker itself */
        assert_int_equal(fixture_delivered(fixture, got, 100), 1);
        assert_int_equal(got[0].payload, i);
        first = got[0].id;
    }
    fixture_unsubscribe(fixture, &sub);
}

static void leases_count_after_a_crash(void **state)
{
    struct fixture *fixture = *state;
    struct subscription sub;
    struct delivered got[100];
    static const char *const keys[] = {"x", NULL};
    assert_int_equal(fixture_create(fixture, "q"), FIBP_OK);
    assert_int_equal(fixture_create(fixture, "r"), FIBP_OK);
    throttled_set(fixture, "concurrency.x", "3");
    throttled_set(fixture, "concurrency.k", "4");
    throttled_enqueue(fixture, "q", "k", keys, 1, 10);
    throttled_enqueue(fixture, "r", "l", keys, 21, 10);
    fixture_enqueue(fixture, "r", "k", 1, 31, 10, NULL);
    fixture_subscribe(fixture, "q", &sub);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 100), 3);
    fixture_unsubscribe(fixture, &sub);
    fixture_close(fixture);
    fixture_open(fixture);
    fixture_subscribe(fixture, "r", &sub);
    fixture_deliver(fixture);
    struct delivered after[100];
    assert_int_equal(fixture_delivered(fixture, after, 100), 1); /* of k: 3 of 4 are in q */
    assert_int_equal(after[0].payload, 31);
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[0].id), FIBP_OK);
    throttled_run(fixture); /* those that wait are of another queue */
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, after, 100), 2);
    fixture_unsubscribe(fixture, &sub);
}

static void a_delivery_that_comes_back_does_not_count(void **state)
{
    struct fixture *fixture = *state;
    struct subscription sub;
    assert_int_equal(fixture_create(fixture, "q"), FIBP_OK);
    throttled_set(fixture, "concurrency.k", "2");
    fixture_enqueue(fixture, "q", "k", 1, 1, 6, NULL);
    fixture_subscribe(fixture, "q", &sub);
    fixture_deliver(fixture);
    assert_int_equal(fixture->emitted_count, 1);
    struct operation *delivery = fixture->emitted[0];
    fixture->emitted_count = 0;
    atomic_store(&fixture->window.queued, 0);
    delivery->kind = OPERATION_RETURN;
    fixture_execute(fixture, delivery);
    operation_free(delivery);
    fixture_deliver(fixture);
    struct delivered got[100];
    assert_int_equal(fixture_delivered(fixture, got, 100), 2);
    assert_int_equal(got[0].payload, 1);
    assert_int_equal(got[0].attempt, 0);
    fixture_unsubscribe(fixture, &sub);
}

static void a_limit_of_zero_stops_and_more_starts(void **state)
{
    struct fixture *fixture = *state;
    struct subscription sub;
    struct delivered got[100];
    assert_int_equal(fixture_create(fixture, "q"), FIBP_OK);
    throttled_set(fixture, "concurrency.k", "0");
    fixture_enqueue(fixture, "q", "k", 1, 1, 6, NULL);
    fixture_subscribe(fixture, "q", &sub);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 100), 0);
    throttled_set(fixture, "concurrency.k", "5");
    throttled_run(fixture);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 100), 5);
    throttled_set(fixture, "concurrency.k", "");
    throttled_run(fixture);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 100), 1);
    fixture_unsubscribe(fixture, &sub);
}

static void wrong_values_are_refused_and_change_nothing(void **state)
{
    static const char *const wrong[][2] = {
        {"throttle.x", "nan,1"}, {"throttle.x", "1,inf"}, {"throttle.x", "1"},
        {"throttle.", "1,1"},    {"throttle.x", "1,0.5"}, {"throttle.x", "-1,1"},
        {"concurrency.x", "-1"}, {"concurrency.", "1"},   {"concurrency.x", "two"},
    };
    struct fixture *fixture = *state;
    throttled_set(fixture, "throttle.x", "0,4");
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(throttled_try(fixture, wrong[i][0], wrong[i][1]),
                         FIBP_INVALID_CONFIG_VALUE);
    assert_true(tokens(fixture, "x") == 4);
    assert_int_equal(atomic_load(&fixture->broker->scheduler->throttles.count), 1);
}

#define FIXTURE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIXTURE(a_throttled_message_is_skipped_and_others_of_its_key_go_on),
        FIXTURE(statistics_show_buckets_and_held_keys),
        FIXTURE(all_keys_must_have_a_token),
        FIXTURE(keys_without_a_bucket_are_free),
        FIXTURE(a_refill_delivers_and_an_empty_value_frees),
        FIXTURE(buckets_come_back_full_after_a_restart),
        FIXTURE(throttle_sets_of_a_key_keep_their_order),
        FIXTURE(throttle_sets_of_a_key_keep_their_order_after_a_crash),
        FIXTURE(tokens_go_to_the_oldest_of_a_key),
        FIXTURE(a_pull_that_fails_loses_no_tokens),
        FIXTURE(picks_that_find_nothing_give_their_tokens_back),
        FIXTURE(nacks_and_expiry_take_a_token_for_each_delivery),
        FIXTURE(held_messages_can_be_moved),
        FIXTURE(an_ack_lets_the_next_one_go),
        FIXTURE(leases_count_after_a_crash),
        FIXTURE(a_delivery_that_comes_back_does_not_count),
        FIXTURE(a_limit_of_zero_stops_and_more_starts),
        FIXTURE(wrong_values_are_refused_and_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
