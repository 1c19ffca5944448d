/* Queues made, deleted, listed and looked at. */
#include "unit/broker/fixture.h"

static int small_limit_setup(void **state)
{
    return fixture_setup_sized(state, 64u << 20, 5);
}

static void the_limit_of_queues_is_kept(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(fixture_create(fixture, "a"), FIBP_OK);
    assert_int_equal(fixture_create(fixture, "b"), FIBP_OK);
    assert_int_equal(fixture_create(fixture, "c"), FIBP_CHANNEL_FULL); /* with its dlq: six */
    assert_int_equal(fixture_create(fixture, "c.dlq"), FIBP_OK);
    assert_int_equal(fixture_create(fixture, "d.dlq"), FIBP_CHANNEL_FULL);
    assert_int_equal(fixture_delete(fixture, "a"), FIBP_OK);
    assert_int_equal(fixture_create(fixture, "c"), FIBP_OK);
    fixture_close(fixture);
    fixture_open(fixture);
    assert_int_equal(fixture_create(fixture, "a"), FIBP_CHANNEL_FULL);
    fixture_enqueue(fixture, "c", "k", 1, 0, 1, NULL);
}

static void a_refused_create_or_delete_changes_nothing(void **state)
{
    struct fixture *fixture = *state;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 3, NULL);
    fixture->broker->options.commit = ENV_COMMIT_KERNEL;
    fixture_fill_disk();
    assert_int_equal(fixture_create(fixture, "new"), FIBP_STORAGE_ERROR);
    assert_int_equal(fixture_delete(fixture, "q"), FIBP_STORAGE_ERROR);
    os_calls_reset();
    assert_int_equal(fixture_stats(fixture, "q").depth, 3);
    assert_int_equal(fixture_create(fixture, "new"), FIBP_OK);
    assert_int_equal(fixture_delete(fixture, "q"), FIBP_OK);
    assert_int_equal(fixture_delete(fixture, "new"), FIBP_OK);
    assert_int_equal(fixture->broker->scheduler->queue_count, 0);
}

static void the_list_is_in_byte_order(void **state)
{
    static const char *const names[] = {"zeta", "A", "b", "aa", "\xc3\xa9t\xc3\xa9"};
    static const char *const expected[] = {"A",
                                           "A.dlq",
                                           "aa",
                                           "aa.dlq",
                                           "b",
                                           "b.dlq",
                                           "zeta",
                                           "zeta.dlq",
                                           "\xc3\xa9t\xc3\xa9",
                                           "\xc3\xa9t\xc3\xa9.dlq"};
    struct fixture *fixture = *state;
    struct subscription subscription;
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(fixture_create(fixture, names[i]), FIBP_OK);
    fixture_enqueue(fixture, "b", "k", 1, 0, 7, NULL);
    fixture->broker->options.max_unacked = 2;
    fixture_subscribe(fixture, "b", &subscription);
    fixture_deliver(fixture);
    struct operation_list_queues *list = calloc(1, sizeof(*list));
    list->operation.kind = OPERATION_LIST_QUEUES;
    fixture_execute(fixture, &list->operation);
    assert_int_equal(list->count, 10);
    for (unsigned i = 0; i < 10; i++)
        assert_true(str_equal(list->rows[i].name, str_from_c(expected[i])));
    assert_int_equal(list->rows[4].depth, 7);
    assert_int_equal(list->rows[4].in_flight, 2);
    assert_int_equal(list->rows[4].consumers, 1);
    operation_free(&list->operation);
    fixture_unsubscribe(fixture, &subscription);
}

static void statistics_tell_each_key(void **state)
{
    struct fixture *fixture = *state;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "a", 3, 0, 5, NULL);
    fixture_enqueue(fixture, "q", "", 0, 0, 2, NULL);
    struct operation_get_stats *stats = calloc(1, sizeof(*stats));
    stats->operation.kind = OPERATION_GET_STATS;
    stats->name = STR("q");
    fixture_execute(fixture, &stats->operation);
    assert_int_equal(stats->operation.status, FIBP_OK);
    assert_int_equal(stats->active_keys, 2);
    assert_int_equal(stats->key_count, 2);
    assert_int_equal(stats->quantum, 1000);
    assert_true(str_equal(stats->keys[0].key, STR("a")));
    assert_int_equal(stats->keys[0].pending, 5);
    assert_int_equal(stats->keys[0].weight, 3);
    assert_int_equal(stats->keys[0].deficit, 3000);
    assert_int_equal(stats->keys[1].key.size, 0);
    assert_int_equal(stats->keys[1].weight, 1);
    operation_free(&stats->operation);
    stats = calloc(1, sizeof(*stats));
    stats->operation.kind = OPERATION_GET_STATS;
    stats->name = STR("none");
    fixture_execute(fixture, &stats->operation);
    assert_int_equal(stats->operation.status, FIBP_QUEUE_NOT_FOUND);
    operation_free(&stats->operation);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_limit_of_queues_is_kept, small_limit_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_refused_create_or_delete_changes_nothing, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(the_list_is_in_byte_order, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(statistics_tell_each_key, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
