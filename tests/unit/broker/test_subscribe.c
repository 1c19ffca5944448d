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

/* A worker that was woken for a message and loses its last consumer before it looks has others
 * woken: the keeper would do so within a second. */
static void who_leaves_passes_the_message_on(void **state)
{
    struct fixture *fixture = *state, other;
    struct subscription here, there;
    struct delivered got[8];
    fixture_create(fixture, "q");
    fixture_join(&other, fixture, 1);
    fixture_subscribe(fixture, "q", &here);
    fixture_subscribe(&other, "q", &there);
    fixture_deliver(fixture);
    fixture_deliver(&other);
    for (unsigned i = 0; i < 4; i++) { /* whoever's turn it is */
        fixture_enqueue(fixture, "q", "k", 1, i, 1, NULL);
        bool ours = fixture_queue(fixture, "q")->waiting == 2;
        struct fixture *leaves = ours ? fixture : &other, *stays = ours ? &other : fixture;
        struct subscription *subscription = ours ? &here : &there;
        fixture_unsubscribe(leaves, subscription);
        fixture_deliver(leaves);
        fixture_deliver(stays);
        assert_int_equal(fixture_delivered(stays, got, 8), 1);
        assert_int_equal(fixture_settle(stays, OPERATION_ACK, "q", &got[0].id), FIBP_OK);
        fixture_subscribe(leaves, "q", subscription);
        fixture_deliver(leaves);
    }
    fixture_unsubscribe(&other, &there);
    fixture_leave(&other);
    fixture_unsubscribe(fixture, &here);
}

/* Consumers of a worker that died holding nothing of the zone are freed when another one subscribes
 * in its slot. */
static void consumers_of_dead_workers_take_no_room(void **state)
{
    struct fixture *fixture = *state;
    static struct subscription subscriptions[1000];
    struct queue *queue = NULL;
    uint64_t used = 0;
    fixture_create(fixture, "q");
    queue = fixture_queue(fixture, "q");
    for (unsigned death = 0; death < 40; death++) {
        struct fixture worker;
        fixture_join(&worker, fixture, 1);
        for (unsigned i = 0; i < 1000; i++)
            fixture_subscribe(&worker, "q", &subscriptions[i]);
        broker_detach(worker.broker, false); /* as in a process that is gone */
        broker_close(worker.broker);
        fixture_forget_emitted(&worker);
        zone_slot_release(fixture->zone, 1);
        if (death == 1)
            used = arena_used(queue->scheduler->arena);
    }
    assert_int_equal(queue_consumer_count(queue), 0);
    assert_true(arena_used(queue->scheduler->arena) <= used + 65536);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_missing_queue_is_said, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(leases_outlive_their_consumer, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_return_that_comes_late_does_nothing, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(who_leaves_passes_the_message_on, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(consumers_of_dead_workers_take_no_room, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(deleting_a_queue_frees_its_consumers, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
