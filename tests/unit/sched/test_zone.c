#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/time.h"
#include "sched/zone.h"

#define TURNS 5000

static int setup(void **state)
{
    struct err err = {0};
    struct zone *zone = zone_map(4u << 20, &err);
    *state = zone;
    return zone ? 0 : -1;
}

static int teardown(void **state)
{
    zone_unmap(*state);
    return 0;
}

static void only_a_living_generation_is_entered(void **state)
{
    struct zone *zone = *state;
    uint64_t generation = atomic_load(&zone->generation);
    zone_slot_prepare(zone, 3);
    assert_false(zone_enter(zone, 3, ZONE_STORE_THREAD, generation));
    assert_false(zone_slot_inside(zone, 3));
    atomic_store(&zone->state, ZONE_UP);
    assert_false(zone_enter(zone, 3, ZONE_STORE_THREAD, generation + 1));
    assert_true(zone_enter(zone, 3, ZONE_STORE_THREAD, generation));
    assert_true(zone_enter(zone, 3, ZONE_SYNC_THREAD, generation));
    assert_true(zone_slot_inside(zone, 3));
    assert_false(zone_slot_inside(zone, 4));
    zone_leave(zone, 3, ZONE_STORE_THREAD);
    assert_true(zone_slot_inside(zone, 3));
    zone_shut(zone);
    assert_true(zone_slot_inside(zone, 3)); /* it does not throw anybody out */
    zone_leave(zone, 3, ZONE_SYNC_THREAD);
    assert_false(zone_slot_inside(zone, 3));
    assert_false(zone_enter(zone, 3, ZONE_STORE_THREAD, generation));
    atomic_store(&zone->state, ZONE_UP);
    assert_true(zone_enter(zone, 3, ZONE_STORE_THREAD, generation + 1));
    zone_leave(zone, 3, ZONE_STORE_THREAD);
    atomic_store(&zone->state, ZONE_DEAD);
    assert_false(zone_enter(zone, 3, ZONE_STORE_THREAD, generation + 1));
}

static void slots_are_given_and_taken_back(void **state)
{
    struct zone *zone = *state;
    for (int i = 0; i < ZONE_WORKERS; i++) {
        assert_int_equal(zone_slot_free(zone), i);
        zone_slot_prepare(zone, (unsigned)i);
    }
    assert_int_equal(zone_slot_free(zone), -1);
    struct zone_slot *slot = &zone->slots[7];
    uint32_t incarnation = atomic_load(&slot->incarnation);
    atomic_store(&slot->inside[0], 1);
    atomic_store(&slot->ready[5], 1);
    atomic_store(&slot->ready_summary[0], 32);
    zone_slot_release(zone, 7);
    assert_false(zone_slot_inside(zone, 7));
    assert_int_equal(zone_slot_free(zone), 7);
    zone_slot_prepare(zone, 7);
    assert_int_equal(atomic_load(&slot->incarnation), incarnation + 1);
    assert_int_equal(atomic_load(&slot->ready[5]), 0);
    assert_int_equal(atomic_load(&slot->ready_summary[0]), 0);
}

static void a_slot_changes_its_process_and_its_words_are_clear(void **state)
{
    struct zone *zone = *state;
    zone_slot_prepare(zone, 3);
    struct zone_slot *slot = &zone->slots[3];
    atomic_store(&slot->connections, 12);
    for (unsigned i = 0; i < ZONE_THREADS; i++)
        atomic_store(&slot->inside[i], 1);
    zone_slot_shed(zone, 3, 4711);
    assert_false(zone_slot_inside(zone, 3));
    assert_int_equal(atomic_load(&slot->pid), 4711);
    assert_int_equal(atomic_load(&slot->connections), 12);
}

/* Each turn sleeps for ever unless the other side's wake-up comes; two counters take turns. */
static int play(struct zone *zone, unsigned mine, unsigned theirs, bool begins)
{
    _Atomic uint64_t *my_word = &zone->slots[mine].catalog_seen;
    _Atomic uint64_t *their_word = &zone->slots[theirs].catalog_seen;
    for (uint64_t turn = 1; turn <= TURNS; turn++) {
        if (begins) {
            atomic_store(their_word, turn);
            zone_wake(&zone->slots[theirs]);
        }
        for (;;) {
            uint32_t seen = atomic_load(&zone->slots[mine].wake);
            if (atomic_load(my_word) >= turn)
                break;
            uint64_t before_ms = time_monotonic_ms();
            zone_sleep(&zone->slots[mine], seen, 10000);
            if (time_monotonic_ms() - before_ms >= 10000)
                return 1; /* it slept over a wake-up */
        }
        if (!begins) {
            atomic_store(their_word, turn);
            zone_wake(&zone->slots[theirs]);
        }
    }
    return 0;
}

static void no_wake_up_is_lost(void **state)
{
    struct zone *zone = *state;
    int status = 0;
    zone_slot_prepare(zone, 0);
    zone_slot_prepare(zone, 1);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(play(zone, 1, 0, false));
    assert_int_equal(play(zone, 0, 1, true), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void sleep_ends_with_its_time(void **state)
{
    struct zone *zone = *state;
    struct zone_slot *slot = &zone->slots[2];
    zone_slot_prepare(zone, 2);
    uint64_t before_ms = time_monotonic_ms();
    uint32_t seen = atomic_load(&slot->wake);
    while (time_monotonic_ms() - before_ms < 20)
        zone_sleep(slot, seen, 20);
    zone_wake(slot);
    zone_sleep(slot, seen, UINT64_MAX); /* woken before it slept */
    zone_shut(zone);
    assert_true(atomic_load(&slot->wake) != seen + 1); /* shut wakes who is there */
}

static void the_arena_lies_behind_the_header(void **state)
{
    struct zone *zone = *state;
    uint64_t size = 0;
    uint8_t *arena = zone_arena(zone, &size);
    assert_true(arena >= (uint8_t *)(zone + 1));
    assert_true(arena + size == (uint8_t *)zone + (4u << 20));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_a_living_generation_is_entered, setup, teardown),
        cmocka_unit_test_setup_teardown(slots_are_given_and_taken_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_slot_changes_its_process_and_its_words_are_clear, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(no_wake_up_is_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(sleep_ends_with_its_time, setup, teardown),
        cmocka_unit_test_setup_teardown(the_arena_lies_behind_the_header, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
