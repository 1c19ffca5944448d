#include "unit/sched/scheduled.h"

static struct statistics *of(void **state)
{
    return ((struct scheduled *)*state)->zone->statistics;
}

static void a_rebuild_finds_what_was_counted(void **state)
{
    enum { QUEUES = 1000 };
    struct statistics *statistics = of(state);
    struct queue_statistics *entries[QUEUES + 1];
    for (uint64_t id = 1; id <= QUEUES; id++) {
        entries[id] = statistics_take(statistics, 0, 1000 + id);
        assert_non_null(entries[id]);
        statistics_name(entries[id], id * 7);
        entries[id]->counters.enqueued = id;
    }
    statistics_begin(statistics);
    for (uint64_t id = QUEUES; id >= 1; id--) {
        if (id % 10 == 0) /* was deleted, but not given back yet */
            continue;
        assert_ptr_equal(statistics_take(statistics, id * 7, 5000), entries[id]);
        assert_int_equal(entries[id]->counters.enqueued, id);
        assert_int_equal(entries[id]->since_ms, 1000 + id);
    }
    struct queue_statistics *new = statistics_take(statistics, 5, 6000);
    for (uint64_t id = 1; id <= QUEUES; id++)
        assert_ptr_not_equal(new, entries[id]);
    assert_int_equal(new->counters.enqueued, 0);
    statistics_end(statistics);
    struct queue_statistics *free_again = statistics_take(statistics, 0, 7000);
    assert_ptr_equal(free_again, entries[10]);
    assert_int_equal(free_again->counters.enqueued, 0);
    assert_int_equal(free_again->since_ms, 7000);
}

static void one_that_got_no_number_is_free_after_a_rebuild(void **state)
{
    struct statistics *statistics = of(state);
    struct queue_statistics *entry = statistics_take(statistics, 0, 1);
    statistics_begin(statistics);
    statistics_end(statistics);
    assert_ptr_equal(statistics_take(statistics, 9, 2), entry);
}

/* Pages of files and shared memory that this process uses. */
static long shared_pages(void)
{
    long total, resident, shared;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld %ld %ld", &total, &resident, &shared), 3);
    assert_int_equal(fclose(file), 0);
    return shared;
}

/* There is room for 32,768 queues, 5 MiB and as many KiB: of those that never were none is used. */
static void a_rebuild_of_few_queues_uses_few_pages(void **state)
{
    struct err err;
    (void)state;
    struct statistics *statistics = statistics_map(&err);
    assert_non_null(statistics);
    long before = shared_pages();
    for (uint64_t id = 1; id <= 10; id++) {
        statistics_begin(statistics);
        assert_non_null(statistics_take(statistics, id, 1000));
        statistics_end(statistics);
    }
    assert_in_range(shared_pages() - before, 1, 200);
    statistics_unmap(statistics);
}

static void what_is_given_back_is_taken_again_with_zeros(void **state)
{
    struct statistics *statistics = of(state);
    struct queue_statistics *first = statistics_take(statistics, 0, 1);
    struct queue_statistics *second = statistics_take(statistics, 0, 2);
    assert_ptr_not_equal(first, second);
    first->counters.acked = 5;
    statistics_give(statistics, first);
    assert_ptr_equal(statistics_take(statistics, 0, 3), first);
    assert_int_equal(first->counters.acked, 0);
    assert_int_equal(first->since_ms, 3);
}

static void there_is_one_for_every_queue_that_can_be(void **state)
{
    struct statistics *statistics = of(state);
    struct queue_statistics *last = NULL;
    for (uint32_t i = 0; i < ZONE_QUEUES; i++) {
        struct queue_statistics *entry = statistics_take(statistics, 0, 1);
        assert_non_null(entry);
        statistics_name(entry, i + 1);
        last = entry;
    }
    assert_null(statistics_take(statistics, 0, 1));
    statistics_begin(statistics);
    for (uint32_t i = 0; i < ZONE_QUEUES; i++)
        assert_non_null(statistics_take(statistics, i + 1, 2));
    statistics_end(statistics);
    assert_null(statistics_take(statistics, 0, 1));
    statistics_give(statistics, last);
    assert_ptr_equal(statistics_take(statistics, 0, 1), last);
}

/* A queue deleted and made again counts from 0, one that a recovery finds again goes on. */
static void queues_keep_them_over_a_new_scheduler(void **state)
{
    struct scheduled *scheduled = *state;
    struct err err = {0};
    struct queue *queue = queue_create(scheduled->scheduler, STR("q"), 0, 30000);
    queue->id = 7;
    assert_true(scheduler_add(scheduled->scheduler, queue));
    queue->counters->enqueued = 4;
    scheduled->scheduler = scheduler_create(scheduled->zone, 6, 1000, 100, &err);
    assert_non_null(scheduled->scheduler);
    statistics_begin(scheduled->zone->statistics);
    queue = queue_create(scheduled->scheduler, STR("q"), 7, 30000);
    assert_true(scheduler_add(scheduled->scheduler, queue));
    statistics_end(scheduled->zone->statistics);
    assert_int_equal(queue->counters->enqueued, 4);
    queue_destroy(queue);
    queue = queue_create(scheduled->scheduler, STR("q"), 8, 30000);
    assert_int_equal(queue->counters->enqueued, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scheduled_setup, scheduled_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_rebuild_finds_what_was_counted),
        TEST(one_that_got_no_number_is_free_after_a_rebuild),
        TEST(a_rebuild_of_few_queues_uses_few_pages),
        TEST(what_is_given_back_is_taken_again_with_zeros),
        TEST(there_is_one_for_every_queue_that_can_be),
        TEST(queues_keep_them_over_a_new_scheduler),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
