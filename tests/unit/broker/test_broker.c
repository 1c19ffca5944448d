#include "unit/broker/fixture.h"

#include "os/time.h"

static void create_makes_the_dead_letter_queue(void **state)
{
    assert_int_equal(fixture_create(*state, "orders"), FIBP_OK);
    assert_int_equal(fixture_create(*state, "orders"), FIBP_QUEUE_ALREADY_EXISTS);
    assert_int_equal(fixture_create(*state, "orders.dlq"), FIBP_QUEUE_ALREADY_EXISTS);
    assert_int_equal(fixture_delete(*state, "orders"), FIBP_OK);
    assert_int_equal(fixture_delete(*state, "orders"), FIBP_QUEUE_NOT_FOUND);
    assert_int_equal(fixture_delete(*state, "orders.dlq"), FIBP_QUEUE_NOT_FOUND);
    assert_int_equal(fixture_create(*state, "orders"), FIBP_OK);
}

static void messages_arrive_in_order_and_end_with_ack(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[200];
    struct uuid ids[100];
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 100, ids);
    assert_int_equal(fixture_stats(fixture, "q").depth, 100);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 200), 100);
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(got[i].payload, i);
        assert_int_equal(got[i].attempt, 0);
        assert_true(uuid_equal(&got[i].id, &ids[i]));
    }
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 100);
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &ids[i]), FIBP_OK);
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &ids[5]), FIBP_MESSAGE_NOT_FOUND);
    assert_int_equal(fixture_stats(fixture, "q").depth, 0);
    fixture_unsubscribe(fixture, &subscription);
}

static void nack_sends_to_the_end_with_one_attempt_more(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[10];
    struct uuid ids[3];
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 3, ids);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 10), 3);
    assert_int_equal(fixture_settle(fixture, OPERATION_NACK, "q", &ids[0]), FIBP_OK);
    assert_int_equal(fixture_settle(fixture, OPERATION_NACK, "q", &ids[0]), FIBP_MESSAGE_NOT_FOUND);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 10), 1);
    assert_true(uuid_equal(&got[0].id, &ids[0]));
    assert_int_equal(got[0].attempt, 1);
    fixture_unsubscribe(fixture, &subscription);
}

static void keys_take_turns_by_weight(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[64];
    char order[9] = {0};
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "a", 3, 0, 20, NULL);
    fixture_enqueue(fixture, "q", "b", 1, 100, 20, NULL);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 64), 40);
    for (unsigned i = 0; i < 8; i++)
        order[i] = got[i].key;
    assert_string_equal(order, "aaabaaab");
    fixture_unsubscribe(fixture, &subscription);
}

static void undelivered_messages_return_to_the_head(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[64];
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 5, NULL);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture->emitted_count, 1);
    struct operation *delivery = fixture->emitted[0];
    fixture->emitted_count = 0;
    atomic_store(&fixture->window.queued, 0);
    fixture_enqueue(fixture, "q", "k", 1, 5, 2, NULL);
    delivery->kind = OPERATION_RETURN;
    fixture_execute(fixture, delivery);
    operation_free(delivery);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 0);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 64), 7);
    for (uint32_t i = 0; i < 7; i++) {
        assert_int_equal(got[i].payload, i);
        assert_int_equal(got[i].attempt, 0);
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[i].id), FIBP_OK);
    }
    assert_int_equal(fixture_stats(fixture, "q").depth, 0);
    fixture_unsubscribe(fixture, &subscription);
}

static void leases_survive_a_rebuild(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered first[64], second[64];
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 10, NULL);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, first, 64), 10);
    fixture_enqueue(fixture, "q", "k", 1, 10, 5, NULL);
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &first[3].id), FIBP_OK);
    fixture_close(fixture);
    fixture_open(fixture);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 9);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, second, 64), 5);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(second[i].payload, 10 + i);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &first[i].id),
                         i == 3 ? FIBP_MESSAGE_NOT_FOUND : FIBP_OK);
    fixture_unsubscribe(fixture, &subscription);
}

static void expired_leases_are_retried(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[64];
    struct queue *queue = NULL;
    uint64_t when = 0;
    bool more = true;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 3, NULL);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 64), 3);
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[1].id), FIBP_OK);
    uint64_t later = time_monotonic_ms() + 31000;
    assert_int_equal(scheduler_timer_next(fixture->broker->scheduler, later, &queue, &when),
                     LOCK_HELD);
    assert_non_null(queue);
    while (more)
        assert_int_equal(broker_expire(fixture->broker, queue, later, &more), 0);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 64), 2);
    assert_int_equal(got[0].payload, 0);
    assert_int_equal(got[0].attempt, 1);
    assert_int_equal(got[1].payload, 2);
    fixture_unsubscribe(fixture, &subscription);
}

static void empty_lanes_are_freed(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[64];
    struct local_queue *local = NULL;
    bool more = true;
    char key[16];
    fixture_create(fixture, "q");
    fixture_subscribe(fixture, "q", &subscription);
    for (unsigned i = 0; i < 300; i++) {
        snprintf(key, sizeof(key), "key %u", i);
        fixture_enqueue(fixture, "q", key, 1, i, 1, NULL);
        fixture_deliver(fixture);
        assert_int_equal(fixture_delivered(fixture, got, 64), 1);
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[0].id), FIBP_OK);
    }
    assert_int_equal(broker_find_queue(fixture->broker, STR("q"), &local), 0);
    assert_int_equal(local->queue->lane_count, 300);
    uint64_t later = time_monotonic_ms() + 61000;
    while (more)
        assert_int_equal(broker_expire(fixture->broker, local->queue, later, &more), 0);
    assert_int_equal(local->queue->lane_count, 0);
    fixture_unsubscribe(fixture, &subscription);
}

static void deleting_ends_subscriptions(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 3, NULL);
    fixture_subscribe(fixture, "q", &subscription);
    assert_int_equal(fixture_delete(fixture, "q"), FIBP_OK);
    assert_int_equal(broker_refresh(fixture->broker), 0);
    assert_int_equal(fixture->emitted_count, 1);
    assert_int_equal(fixture->emitted[0]->kind, OPERATION_SUBSCRIPTION_ENDED);
    fixture_forget_emitted(fixture);
    fixture_create(fixture, "q");
    assert_int_equal(fixture_stats(fixture, "q").depth, 0);
    fixture_unsubscribe(fixture, &subscription);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(create_makes_the_dead_letter_queue, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(messages_arrive_in_order_and_end_with_ack, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(nack_sends_to_the_end_with_one_attempt_more, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(keys_take_turns_by_weight, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(undelivered_messages_return_to_the_head, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(leases_survive_a_rebuild, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(expired_leases_are_retried, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(empty_lanes_are_freed, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(deleting_ends_subscriptions, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
