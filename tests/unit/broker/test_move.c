/* Moves between two queues, one at a time; tests/process/test_move has many processes at it. */
#include "unit/broker/fixture.h"

#include "broker/move.h"
#include "os/time.h"

static uint8_t dead_letter(struct fixture *fixture, const struct uuid *id)
{
    struct local_queue *from = NULL, *to = NULL;
    uint8_t status = FIBP_INTERNAL_ERROR;
    assert_int_equal(broker_find_queue(fixture->broker, STR("q"), &from), 0);
    assert_int_equal(broker_find_queue(fixture->broker, STR("q.dlq"), &to), 0);
    assert_int_equal(fixture_dead_letter(fixture->broker, from, to, id, &status), 0);
    pool_reset(fixture->broker->scratch);
    return status;
}

static uint8_t redrive(struct fixture *fixture, uint32_t limit, uint32_t *moved)
{
    struct local_queue *from = NULL, *to = NULL;
    uint8_t status = FIBP_INTERNAL_ERROR;
    assert_int_equal(broker_find_queue(fixture->broker, STR("q.dlq"), &from), 0);
    assert_int_equal(broker_find_queue(fixture->broker, STR("q"), &to), 0);
    struct order order;
    assert_int_equal(order_begin(&order, fixture->broker, from->queue), 0);
    do {
        assert_int_equal(move_ready(fixture->broker, from, to, &order, limit, moved, &status), 0);
        pool_reset(fixture->broker->scratch);
    } while (status == FIBP_OK && !*moved && order_first(&order));
    order_free(&order);
    return status;
}

static void there_and_back(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription, dead;
    struct delivered got[16];
    struct uuid ids[6];
    uint32_t moved = 0;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "a", 3, 0, 3, ids);
    fixture_enqueue(fixture, "q", "b", 1, 10, 3, ids + 3);
    assert_int_equal(dead_letter(fixture, &ids[0]), FIBP_MESSAGE_NOT_FOUND); /* not leased */
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 16), 6);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(dead_letter(fixture, &ids[i]), FIBP_OK);
    assert_int_equal(dead_letter(fixture, &ids[0]), FIBP_MESSAGE_NOT_FOUND);
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &ids[0]), FIBP_MESSAGE_NOT_FOUND);
    assert_int_equal(fixture_stats(fixture, "q").depth, 0);
    assert_int_equal(fixture_stats(fixture, "q.dlq").depth, 6);
    fixture_close(fixture);
    fixture_open(fixture);
    fixture_subscribe(fixture, "q.dlq", &dead);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 16), 6);
    char order[7] = {0};
    for (unsigned i = 0; i < 6; i++) {
        order[i] = got[i].key;
        assert_int_equal(got[i].attempt, 1);
        assert_int_equal(fixture_settle(fixture, OPERATION_NACK, "q.dlq", &got[i].id), FIBP_OK);
    }
    assert_string_equal(order, "aaabbb");
    fixture_unsubscribe(fixture, &dead);
    assert_int_equal(redrive(fixture, 2, &moved), FIBP_OK);
    assert_int_equal(moved, 2);
    unsigned total = 2;
    while (redrive(fixture, 100, &moved) == FIBP_OK && moved)
        total += moved;
    assert_int_equal(total, 6);
    assert_int_equal(fixture_stats(fixture, "q.dlq").depth, 0);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 16), 6);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(got[i].attempt, 0);
    fixture_unsubscribe(fixture, &subscription);
}

static void a_refused_move_changes_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[16];
    struct uuid ids[4];
    uint32_t moved = 0;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "a", 1, 0, 4, ids);
    fixture_enqueue(fixture, "q.dlq", "z", 1, 10, 4, NULL);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 16), 4);
    fixture->broker->options.commit = ENV_COMMIT_KERNEL;
    fixture_fill_disk();
    assert_int_equal(dead_letter(fixture, &ids[0]), FIBP_STORAGE_ERROR);
    assert_int_equal(redrive(fixture, 10, &moved), FIBP_STORAGE_ERROR);
    os_calls_reset();
    assert_int_equal(moved, 0);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 4);
    assert_int_equal(fixture_stats(fixture, "q").depth, 4);
    assert_int_equal(fixture_stats(fixture, "q.dlq").depth, 4);
    assert_int_equal(fixture_queue(fixture, "q.dlq")->lane_count, 1);
    assert_int_equal(dead_letter(fixture, &ids[0]), FIBP_OK);
    assert_int_equal(redrive(fixture, 10, &moved), FIBP_OK);
    assert_int_equal(moved, 5);
    for (unsigned i = 1; i < 4; i++)
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &ids[i]), FIBP_OK);
    assert_int_equal(fixture_stats(fixture, "q").depth, 5);
    fixture_unsubscribe(fixture, &subscription);
}

static void the_reserve_is_used_before_a_move_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[4];
    struct uuid ids[2];
    uint32_t moved = 0;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "a", 1, 0, 2, ids);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 4), 2);
    fixture->broker->options.commit = ENV_COMMIT_KERNEL;
    fixture_fill_disk_but_reserve(fixture);
    assert_int_equal(dead_letter(fixture, &ids[0]), FIBP_OK);
    assert_int_equal(atomic_load(&fixture->broker->scheduler->space_low), 1);
    fixture_fill_disk_but_reserve(fixture);
    assert_int_equal(redrive(fixture, 10, &moved), FIBP_OK);
    assert_int_equal(moved, 1);
    os_calls_reset();
    assert_int_equal(fixture_stats(fixture, "q").depth, 2);
    fixture_unsubscribe(fixture, &subscription);
}

/* 0 moved means that there is none: not that the first lane looked at had none. */
static void uncounted_lanes_without_ready_messages_do_not_end_a_redrive(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[16];
    uint32_t moved = 0;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q.dlq", "a", 1, 0, 5, NULL);
    fixture_subscribe(fixture, "q.dlq", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 16), 5);
    fixture_enqueue(fixture, "q.dlq", "b", 1, 10, 5, NULL);
    fixture_close(fixture);
    fixture_open(fixture);
    assert_int_equal(redrive(fixture, 100, &moved), FIBP_OK);
    assert_int_equal(moved, 5);
    assert_int_equal(redrive(fixture, 100, &moved), FIBP_OK);
    assert_int_equal(moved, 0);
    assert_int_equal(fixture_stats(fixture, "q.dlq").in_flight, 5);
}

static void returned_messages_move_too(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[16];
    uint32_t moved = 0, total = 0;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q.dlq", "a", 1, 0, 5, NULL);
    fixture->broker->options.max_unacked = 3;
    fixture_subscribe(fixture, "q.dlq", &subscription);
    fixture_deliver(fixture);
    struct operation *delivery = fixture->emitted[0];
    fixture->emitted_count = 0;
    fixture->window.queued = 0;
    delivery->kind = OPERATION_RETURN;
    fixture_execute(fixture, delivery);
    operation_free(delivery);
    fixture_unsubscribe(fixture, &subscription);
    do {
        assert_int_equal(redrive(fixture, 2, &moved), FIBP_OK);
        total += moved;
    } while (moved);
    assert_int_equal(total, 5);
    assert_int_equal(fixture_stats(fixture, "q.dlq").depth, 0);
    assert_int_equal(fixture_queue(fixture, "q.dlq")->leases.count, 0);
    fixture_subscribe(fixture, "q", &subscription);
    fixture->broker->options.max_unacked = 100;
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 16), 5);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(got[i].payload, i);
    fixture_unsubscribe(fixture, &subscription);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(there_and_back, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_refused_move_changes_nothing, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(the_reserve_is_used_before_a_move_is_refused, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(uncounted_lanes_without_ready_messages_do_not_end_a_redrive,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(returned_messages_move_too, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
