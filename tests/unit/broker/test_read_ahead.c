/* Messages that were read before they are delivered: nothing is lost, double or stale. */
#include "unit/broker/fixture.h"

#include "broker/move.h"

#define ALL 400u

struct seen {
    bool payloads[2 * ALL];
    uint32_t last[256]; /* by the first byte of the fairness key: payload + 1 */
    unsigned count;
};

/* Two keys with half of the messages each. */
static void fill(struct fixture *fixture, uint32_t first)
{
    fixture_enqueue(fixture, "q", "a", 1, first, ALL / 2, NULL);
    fixture_enqueue(fixture, "q", "b", 1, first + ALL / 2, ALL / 2, NULL);
}

/* One round of deliveries to a consumer, each message new and in the order of its key. */
static unsigned receive(struct fixture *fixture, struct seen *seen, unsigned pulls)
{
    static struct delivered got[ALL];
    assert_true(broker_deliver(fixture->broker, pulls) >= 0);
    unsigned count = fixture_delivered(fixture, got, ALL);
    for (unsigned i = 0; i < count; i++) {
        assert_true(got[i].payload < 2 * ALL);
        assert_false(seen->payloads[got[i].payload]);
        seen->payloads[got[i].payload] = true;
        assert_true(got[i].payload + 1 > seen->last[(uint8_t)got[i].key]);
        seen->last[(uint8_t)got[i].key] = got[i].payload + 1;
    }
    seen->count += count;
    return count;
}

static bool is_kept(const struct fixture *fixture)
{
    for (unsigned i = 0; i < READ_AHEAD_LANES; i++)
        if (fixture->broker->ahead.lanes[i].queue_id)
            return true;
    return false;
}

static void what_is_kept_is_delivered_once(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct seen seen = {.count = 0};
    fixture_create(fixture, "q");
    fill(fixture, 0);
    fixture_subscribe(fixture, "q", &subscription);
    assert_int_equal(receive(fixture, &seen, 1), QUEUE_PULL);
    assert_true(is_kept(fixture));
    fill(fixture, ALL); /* behind what is kept */
    while (receive(fixture, &seen, 1))
        continue;
    assert_int_equal(seen.count, 2 * ALL);
    fixture_unsubscribe(fixture, &subscription);
}

static void two_workers_take_turns(void **state)
{
    struct fixture *fixture = *state;
    struct fixture other;
    struct subscription subscriptions[2];
    struct seen seen = {.count = 0};
    fixture_create(fixture, "q");
    fill(fixture, 0);
    fixture_join(&other, fixture, 1);
    fixture_subscribe(fixture, "q", &subscriptions[0]);
    fixture_subscribe(&other, "q", &subscriptions[1]);
    for (unsigned turn = 0; seen.count < ALL; turn++) {
        (void)receive(fixture, &seen, 1 + turn % 2);
        (void)receive(&other, &seen, 1 + turn % 3);
        assert_true(turn < ALL);
    }
    fixture_unsubscribe(fixture, &subscriptions[0]);
    fixture_unsubscribe(&other, &subscriptions[1]);
    fixture_leave(&other);
}

/* Ready messages that somebody moved away are not delivered here. */
static void what_was_moved_away_is_not_delivered(void **state)
{
    struct fixture *fixture = *state;
    struct fixture other;
    struct subscription subscription;
    struct local_queue *from = NULL, *to = NULL;
    struct seen seen = {.count = 0};
    uint32_t moved = 0;
    uint8_t status;
    fixture_create(fixture, "q");
    fixture_create(fixture, "to");
    fill(fixture, 0);
    fixture_subscribe(fixture, "q", &subscription);
    (void)receive(fixture, &seen, 1);
    assert_true(is_kept(fixture));
    fixture_join(&other, fixture, 1);
    assert_int_equal(broker_find_queue(other.broker, STR("q"), &from), 0);
    assert_int_equal(broker_find_queue(other.broker, STR("to"), &to), 0);
    struct order order;
    assert_int_equal(order_begin(&order, other.broker, from->queue), 0);
    while (!moved)
        assert_int_equal(move_ready(other.broker, from, to, &order, 20, &moved, &status), 0);
    order_free(&order);
    while (receive(fixture, &seen, 1))
        continue;
    assert_int_equal(seen.count, ALL - moved);
    assert_int_equal(fixture_stats(fixture, "to").depth, moved);
    fixture_unsubscribe(fixture, &subscription);
    fixture_leave(&other);
}

/* A pull that cannot be finished leaves its messages where they were. */
static void a_pull_that_fails_reads_them_again(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct seen seen = {.count = 0};
    fixture_create(fixture, "q");
    fill(fixture, 0);
    fixture_subscribe(fixture, "q", &subscription);
    (void)receive(fixture, &seen, 1);
    fixture_fill_disk();
    assert_int_equal(receive(fixture, &seen, 1), 0);
    os_calls_reset();
    fixture->broker->later_ms = 0;
    while (receive(fixture, &seen, 1) || seen.count < ALL)
        assert_true(seen.count <= ALL);
    assert_int_equal(seen.count, ALL);
    fixture_unsubscribe(fixture, &subscription);
}

static void an_idle_broker_keeps_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct seen seen = {.count = 0};
    fixture_create(fixture, "q");
    fill(fixture, 0);
    fixture_subscribe(fixture, "q", &subscription);
    (void)receive(fixture, &seen, 1);
    assert_true(is_kept(fixture));
    broker_rest(fixture->broker);
    for (unsigned i = 0; i < READ_AHEAD_LANES; i++)
        assert_null(fixture->broker->ahead.lanes[i].bulk.data);
    while (receive(fixture, &seen, 1))
        continue;
    assert_int_equal(seen.count, ALL);
    fixture_unsubscribe(fixture, &subscription);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_kept_is_delivered_once),       TEST(two_workers_take_turns),
        TEST(what_was_moved_away_is_not_delivered), TEST(a_pull_that_fails_reads_them_again),
        TEST(an_idle_broker_keeps_nothing),
    };
    return cmocka_run_group_tests_name("read_ahead", tests, NULL, NULL);
}
