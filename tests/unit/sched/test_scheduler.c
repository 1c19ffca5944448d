#include "unit/sched/scheduled.h"

static struct queue *add(struct scheduled *scheduled, const char *name, uint64_t id)
{
    struct queue *queue = queue_create(scheduled->scheduler, str_from_c(name), id, 30000);
    assert_non_null(queue);
    assert_true(scheduler_add(scheduled->scheduler, queue));
    return queue;
}

static void names_are_found_until_killed(void **state)
{
    struct scheduled *scheduled = *state;
    struct queue *a = add(scheduled, "a", 1), *b = add(scheduled, "b", 2);
    assert_ptr_equal(scheduler_find(scheduled->scheduler, STR("a")), a);
    assert_ptr_equal(scheduler_find(scheduled->scheduler, STR("b")), b);
    assert_null(scheduler_find(scheduled->scheduler, STR("c")));
    uint64_t generation = atomic_load(&scheduled->zone->catalog_generation);
    scheduler_kill(scheduled->scheduler, a);
    assert_null(scheduler_find(scheduled->scheduler, STR("a")));
    assert_true(atomic_load(&a->dead));
    assert_true(atomic_load(&scheduled->zone->catalog_generation) > generation);
    struct queue *again = add(scheduled, "a", 3);
    assert_ptr_equal(scheduler_find(scheduled->scheduler, STR("a")), again);
    assert_int_not_equal(again->index, a->index);
}

static void the_table_has_an_end(void **state)
{
    struct scheduled *scheduled = *state;
    for (uint64_t i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%u", (unsigned)i);
        add(scheduled, name, i);
    }
    struct queue *more = queue_create(scheduled->scheduler, STR("more"), 100, 30000);
    assert_false(scheduler_add(scheduled->scheduler, more));
    assert_null(scheduler_find(scheduled->scheduler, STR("more")));
    scheduler_kill(scheduled->scheduler, scheduler_find(scheduled->scheduler, STR("50")));
    assert_true(scheduler_add(scheduled->scheduler, more));
}

struct freed {
    uint64_t ids[8];
    unsigned count;
};

static void note_freed(void *context, uint64_t id)
{
    struct freed *freed = context;
    freed->ids[freed->count++] = id;
}

static void the_dead_stay_until_all_have_seen_it(void **state)
{
    struct scheduled *scheduled = *state;
    struct zone *zone = scheduled->zone;
    struct freed freed = {.count = 0};
    zone_slot_prepare(zone, 1);
    zone_slot_prepare(zone, ZONE_SLOT_KEEPER);
    zone_slot_prepare(zone, ZONE_SLOT_HELPER); /* knows no queue */
    struct queue *first = add(scheduled, "first", 11), *second = add(scheduled, "second", 12);
    uint32_t index = first->index;
    scheduler_kill(scheduled->scheduler, first);
    uint64_t seen_first = atomic_load(&zone->catalog_generation);
    scheduler_kill(scheduled->scheduler, second);
    const unsigned slots[] = {0, 1, ZONE_SLOT_KEEPER};
    for (unsigned i = 0; i < 3; i++) {
        scheduler_reap(scheduled->scheduler, note_freed, &freed);
        assert_int_equal(freed.count, 0);
        atomic_store(&zone->slots[slots[i]].catalog_seen, seen_first);
    }
    scheduler_reap(scheduled->scheduler, note_freed, &freed);
    assert_int_equal(freed.count, 1);
    assert_int_equal(freed.ids[0], 11);
    assert_null(atomic_load(&scheduled->scheduler->queues[index]));
    zone_slot_release(zone, 1); /* gone without having seen it */
    atomic_store(&zone->slots[0].catalog_seen, seen_first + 1);
    atomic_store(&zone->slots[ZONE_SLOT_KEEPER].catalog_seen, seen_first + 1);
    scheduler_reap(scheduled->scheduler, note_freed, &freed);
    assert_int_equal(freed.count, 2);
    assert_true(list_empty(&scheduled->scheduler->dead));
}

static void every_index_is_announced_once(void **state)
{
    struct scheduled *scheduled = *state;
    static bool seen[ZONE_QUEUES];
    memset(seen, 0, sizeof(seen));
    for (uint32_t i = 0; i < ZONE_QUEUES; i++)
        scheduler_notify(scheduled->scheduler, 0, (i * 7919u) % ZONE_QUEUES);
    scheduler_notify(scheduled->scheduler, 0, 5);
    for (unsigned i = 0; i < ZONE_QUEUES; i++) {
        int index = scheduler_next_ready(scheduled->scheduler, 0);
        assert_in_range(index, 0, ZONE_QUEUES - 1);
        assert_false(seen[index]);
        seen[index] = true;
    }
    assert_int_equal(scheduler_next_ready(scheduled->scheduler, 0), -1);
    assert_int_equal(scheduler_next_ready(scheduled->scheduler, 1), -1);
    for (uint32_t i = 0; i < ZONE_QUEUES; i++) {
        scheduler_notify(scheduled->scheduler, 0, i);
        assert_int_equal(scheduler_next_ready(scheduled->scheduler, 0), (int)i);
    }
    assert_int_equal(scheduler_next_ready(scheduled->scheduler, 0), -1);
}

static void timers_come_in_order(void **state)
{
    struct scheduled *scheduled = *state;
    static const uint64_t times[] = {500, 100, 300, 200, 400};
    struct queue *queues[5], *found = NULL;
    uint64_t when_ms = 0;
    for (unsigned i = 0; i < 5; i++) {
        queues[i] = add(scheduled, (const char *[]){"a", "b", "c", "d", "e"}[i], i);
        heap_update(&scheduled->scheduler->timers, &queues[i]->timer, times[i]);
    }
    scheduler_kill(scheduled->scheduler, queues[2]);
    atomic_store(&scheduled->zone->slots[0].catalog_seen, UINT64_MAX);
    struct freed freed = {.count = 0};
    scheduler_reap(scheduled->scheduler, note_freed, &freed); /* its timer goes with it */
    assert_int_equal(freed.count, 1);
    uint64_t last = 0;
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(scheduler_timer_next(scheduled->scheduler, 1000, &found, &when_ms),
                         LOCK_HELD);
        assert_non_null(found);
        assert_true(when_ms > last && when_ms != 300);
        last = when_ms;
    }
    assert_int_equal(scheduler_timer_next(scheduled->scheduler, 1000, &found, &when_ms), LOCK_HELD);
    assert_null(found);
    assert_true(when_ms == UINT64_MAX);
    atomic_fetch_add(&scheduled->zone->generation, 1);
    assert_int_equal(scheduler_timer_next(scheduled->scheduler, 1000, &found, &when_ms),
                     LOCK_STALE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names_are_found_until_killed, scheduled_setup,
                                        scheduled_teardown),
        cmocka_unit_test_setup_teardown(the_table_has_an_end, scheduled_setup, scheduled_teardown),
        cmocka_unit_test_setup_teardown(the_dead_stay_until_all_have_seen_it, scheduled_setup,
                                        scheduled_teardown),
        cmocka_unit_test_setup_teardown(every_index_is_announced_once, scheduled_setup,
                                        scheduled_teardown),
        cmocka_unit_test_setup_teardown(timers_come_in_order, scheduled_setup, scheduled_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
