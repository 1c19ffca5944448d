/* Consumers that come and go. */
#include "unit/broker/fixture.h"

static void a_missing_queue_is_said(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription = {.queue = STR("none")};
    struct operation_subscription subscribe = {.operation = {.kind = OPERATION_SUBSCRIBE},
                                               .subscription = &subscription};
    fixture_execute(fixture, &subscribe.operation);
    assert_int_equal(subscribe.operation.status, FIBP_QUEUE_NOT_FOUND);
    assert_null(subscription.store);
}

static void leases_outlive_their_consumer(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[8];
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 3, NULL);
    fixture_subscribe(fixture, "q", &subscription);
    assert_int_equal(fixture_stats(fixture, "q").consumers, 1);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 8), 3);
    fixture_unsubscribe(fixture, &subscription);
    assert_int_equal(fixture_stats(fixture, "q").consumers, 0);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[i].id), FIBP_OK);
}

/* A returned delivery counts once, and only while it is the last of its message. */
static void a_return_that_comes_late_does_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[8];
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 1, NULL);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    struct operation *delivery = fixture->emitted[0];
    fixture->emitted_count = 0;
    fixture->window.queued = 0;
    delivery->kind = OPERATION_RETURN;
    fixture_execute(fixture, delivery);
    fixture_execute(fixture, delivery);
    assert_int_equal(fixture_stats(fixture, "q").depth, 1);
    fixture_deliver(fixture);
    fixture_execute(fixture, delivery); /* of the first delivery; the second one stands */
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 1);
    assert_int_equal(fixture_delivered(fixture, got, 8), 1);
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[0].id), FIBP_OK);
    fixture_execute(fixture, delivery);
    assert_int_equal(fixture_stats(fixture, "q").depth, 0);
    operation_free(delivery);
    fixture_unsubscribe(fixture, &subscription);
}

static void reap(void *context, uint64_t id)
{
    (void)id;
    ++*(unsigned *)context;
}

static uint64_t delete_with_consumers(struct fixture *fixture, unsigned count)
{
    struct scheduler *scheduler = fixture->broker->scheduler;
    struct subscription *subscriptions = calloc(count, sizeof(*subscriptions));
    unsigned reaped = 0;
    fixture_create(fixture, "q");
    for (unsigned i = 0; i < count; i++)
        fixture_subscribe(fixture, "q", &subscriptions[i]);
    assert_int_equal(fixture_delete(fixture, "q"), FIBP_OK);
    assert_int_equal(broker_refresh(fixture->broker), 0);
    assert_int_equal(fixture->emitted_count, count);
    fixture_forget_emitted(fixture);
    free(subscriptions);
    scheduler_reap(scheduler, reap, &reaped);
    assert_int_equal(reaped, 2);
    return arena_used(scheduler->arena);
}

/* Clients that delete the queues they consume from take no memory of the zone for good. */
static void deleting_a_queue_frees_its_consumers(void **state)
{
    struct fixture *fixture = *state;
    uint64_t first = delete_with_consumers(fixture, 4000), last = first;
    for (unsigned i = 0; i < 5; i++)
        last = delete_with_consumers(fixture, 4000);
    assert_int_equal(last, first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_missing_queue_is_said, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(leases_outlive_their_consumer, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_return_that_comes_late_does_nothing, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(deleting_a_queue_frees_its_consumers, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
