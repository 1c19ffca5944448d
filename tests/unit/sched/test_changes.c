#include "unit/sched/scheduled.h"

static void the_latest_are_kept(void **state)
{
    struct scheduled *scheduled = *state;
    struct scheduler *scheduler = scheduled->scheduler;
    struct changes *changes = &scheduler->changes;
    uint64_t first = atomic_load(&scheduled->zone->settings_generation) + 1;
    char name[32];
    uint64_t used = 0;
    assert_null(changes_get(changes, first - 1));
    assert_null(changes_get(changes, first));
    for (uint64_t i = 0; i < 3 * CHANGES_KEPT; i++) {
        int size = snprintf(name, sizeof(name), "change-%llu", (unsigned long long)i);
        scheduler_settings_changed(scheduler, i % 2 ? CHANGE_QUEUE : CHANGE_CONFIG,
                                   str_of(name, (size_t)size));
        assert_int_equal(atomic_load(&scheduled->zone->settings_generation), first + i);
        if (i == CHANGES_KEPT)
            used = arena_used(scheduler->arena);
    }
    assert_true(arena_used(scheduler->arena) <= used + 65536);
    assert_null(changes_get(changes, first + 2 * CHANGES_KEPT - 1));
    assert_null(changes_get(changes, first + 3 * CHANGES_KEPT));
    for (uint64_t i = 2 * CHANGES_KEPT; i < 3 * CHANGES_KEPT; i++) {
        const struct change *change = changes_get(changes, first + i);
        int size = snprintf(name, sizeof(name), "change-%llu", (unsigned long long)i);
        assert_non_null(change);
        assert_int_equal(change->kind, i % 2 ? CHANGE_QUEUE : CHANGE_CONFIG);
        assert_true(str_equal(change->name, str_of(name, (size_t)size)));
    }
    scheduler_settings_reset(scheduler);
    uint64_t now = atomic_load(&scheduled->zone->settings_generation);
    assert_int_equal(now, first + 3 * CHANGES_KEPT);
    assert_null(changes_get(changes, now));
}

static void a_full_zone_keeps_none(void **state)
{
    struct scheduled *scheduled = *state;
    struct scheduler *scheduler = scheduled->scheduler;
    struct changes *changes = &scheduler->changes;
    uint64_t first = changes->next;
    scheduler_settings_changed(scheduler, CHANGE_CONFIG, STR("a"));
    assert_non_null(changes_get(changes, first));
    for (size_t size = 1u << 20; size >= 16;) /* all there is */
        if (!arena_alloc(scheduler->arena, size))
            size /= 2;
    scheduler_settings_changed(scheduler, CHANGE_CONFIG, STR("b"));
    assert_int_equal(atomic_load(&scheduled->zone->settings_generation), first + 1);
    assert_null(changes_get(changes, first));
    assert_null(changes_get(changes, first + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_latest_are_kept, scheduled_setup, scheduled_teardown),
        cmocka_unit_test_setup_teardown(a_full_zone_keeps_none, scheduled_setup,
                                        scheduled_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
