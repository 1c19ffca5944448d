/*
 * Unit tests of src/master/recovery.c: the machine is fed with events and a model of the processes
 * checks that a keeper is never forked while anything may still touch the old environment.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "master/recovery.h"
#include "os/log.h"
#include "sched/zone.h"
#include "worker/worker.h"

#define NEVER UINT64_MAX

/* A process as the kernel sees it. */
struct actor {
    bool alive;
    bool attached; /* has the environment open; a keeper and a helper: while they live */
    bool told_stop;
    bool killed;
    bool left; /* has shed: an older process of it has the environment open, not this one */
    bool gone; /* ... and has ended since, which is said when the older one has ended too */
};

struct model {
    struct recovery *recovery;
    struct actor actors[ZONE_SLOTS];
    bool taken[ZONE_SLOTS]; /* the zone slot: until released */
    uint64_t now;
    uint64_t timer; /* absolute; NEVER: not armed */
    uint64_t generation;
    uint64_t next_generation;
    unsigned keepers, helpers, opened, resumed, shuts;
    unsigned keeper_failures; /* the next so many forks of a keeper fail */
    unsigned helper_failures;
    bool shut_since_open;
    bool closed, clean, gave_up, keeper_told;
};

static struct model *model;

static void act_shut(void *context)
{
    struct model *m = context;

    m->shuts++;
    m->shut_since_open = true;
    m->generation = 0;
}

static void act_stop_store(void *context, unsigned slot)
{
    struct model *m = context;

    assert_true(slot < ZONE_WORKERS);
    assert_true(m->actors[slot].alive && m->actors[slot].attached);
    assert_true(m->shut_since_open);
    m->actors[slot].told_stop = true;
}

static void act_open_store(void *context, unsigned slot, uint64_t generation)
{
    struct model *m = context;

    assert_true(slot < ZONE_WORKERS);
    assert_true(m->actors[slot].alive);
    assert_false(m->actors[slot].attached);
    assert_int_equal(generation, m->generation);
    m->actors[slot].attached = true;
}

static void act_kill(void *context, unsigned slot)
{
    struct model *m = context;

    assert_true(m->actors[slot].alive);
    m->actors[slot].killed = true;
}

static int act_spawn_keeper(void *context)
{
    struct model *m = context;

    /* The rule of the whole thing. */
    for (unsigned slot = 0; slot < ZONE_SLOTS; slot++)
        assert_false(m->actors[slot].alive && m->actors[slot].attached);
    assert_false(m->taken[ZONE_SLOT_KEEPER]);
    if (m->keeper_failures) {
        m->keeper_failures--;
        return -1;
    }
    m->keepers++;
    m->actors[ZONE_SLOT_KEEPER] = (struct actor){.alive = true, .attached = true};
    m->taken[ZONE_SLOT_KEEPER] = true;
    return 0;
}

static int act_spawn_helper(void *context)
{
    struct model *m = context;

    assert_false(m->actors[ZONE_SLOT_HELPER].alive);
    if (m->helper_failures) {
        m->helper_failures--;
        return -1;
    }
    m->helpers++;
    m->actors[ZONE_SLOT_HELPER] = (struct actor){.alive = true, .attached = true};
    m->taken[ZONE_SLOT_HELPER] = true;
    return 0;
}

static void act_stop_keeper(void *context)
{
    struct model *m = context;

    assert_true(m->actors[ZONE_SLOT_KEEPER].alive);
    m->keeper_told = true;
}

static void act_release(void *context, unsigned slot)
{
    struct model *m = context;

    assert_true(m->taken[slot]);
    assert_false(m->actors[slot].alive);
    m->taken[slot] = false;
}

static void act_timer(void *context, uint64_t delay_ms)
{
    struct model *m = context;

    m->timer = delay_ms == NEVER ? NEVER : m->now + delay_ms;
}

static void act_resume(void *context)
{
    struct model *m = context;

    m->resumed++;
}

static void act_give_up(void *context, const char *reason)
{
    struct model *m = context;

    assert_non_null(reason);
    assert_false(recovery_was_open(m->recovery));
    m->gave_up = true;
}

static void act_closed(void *context, bool clean)
{
    struct model *m = context;

    assert_false(m->closed);
    m->closed = true;
    m->clean = clean;
}

static const struct recovery_actions actions = {
    .shut = act_shut,
    .stop_store = act_stop_store,
    .open_store = act_open_store,
    .kill = act_kill,
    .spawn_keeper = act_spawn_keeper,
    .spawn_helper = act_spawn_helper,
    .stop_keeper = act_stop_keeper,
    .release = act_release,
    .timer = act_timer,
    .resume = act_resume,
    .give_up = act_give_up,
    .closed = act_closed,
};

/* --- what happens --- */

static void model_start(struct model *m)
{
    memset(m, 0, sizeof *m);
    m->now = 1000;
    m->timer = NEVER;
    m->recovery = recovery_create(&actions, m);
    assert_non_null(m->recovery);
}

static int setup(void **state)
{
    static struct model memory;

    (void)state;
    model = &memory;
    log_set_level(LOG_ERROR);
    model_start(model);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    recovery_destroy(model->recovery);
    return 0;
}

static void event(enum recovery_event what, unsigned slot, uint64_t value)
{
    recovery_event(model->recovery, what, slot, value, model->now);
}

static void expect(enum recovery_state state)
{
    assert_int_equal(recovery_state(model->recovery), state);
}

static void time_passes(uint64_t ms)
{
    model->now += ms;
    if (model->timer <= model->now) {
        model->timer = NEVER;
        event(RECOVERY_EVENT_TIMER, 0, 0);
    }
}

/* Another process goes on in place of a worker; nothing is said before the old one has ended. */
static void worker_sheds(unsigned slot)
{
    assert_true(model->actors[slot].told_stop);
    model->actors[slot].told_stop = false;
    model->actors[slot].left = true;
}

static void keeper_ready(void)
{
    assert_true(model->actors[ZONE_SLOT_KEEPER].alive);
    model->generation = ++model->next_generation;
    model->shut_since_open = false;
    event(RECOVERY_EVENT_READY, ZONE_SLOT_KEEPER, model->generation);
}

static void worker_starts(unsigned slot)
{
    assert_false(model->taken[slot]);
    model->taken[slot] = true;
    model->actors[slot] = (struct actor){.alive = true};
    event(RECOVERY_EVENT_WORKER, slot, 0);
}

static void ends(unsigned slot, enum recovery_event how, uint64_t value)
{
    assert_true(model->actors[slot].alive);
    model->actors[slot].alive = false;
    model->actors[slot].attached = false;
    event(how, slot, value);
}

static void left_ends(unsigned slot, enum recovery_event how)
{
    assert_true(model->actors[slot].alive && model->actors[slot].left);
    model->actors[slot].left = model->actors[slot].killed = model->actors[slot].attached = false;
    event(RECOVERY_EVENT_STOPPED, slot, 0);
    if (model->actors[slot].gone)
        ends(slot, how, 0);
}

static void worker_stops_store(unsigned slot)
{
    assert_true(model->actors[slot].told_stop);
    model->actors[slot].told_stop = false;
    model->actors[slot].attached = false;
    event(RECOVERY_EVENT_STOPPED, slot, 0);
}

static void serve(unsigned workers)
{
    event(RECOVERY_EVENT_START, 0, 0);
    expect(RECOVERY_OPENING);
    assert_false(recovery_may_spawn(model->recovery));
    keeper_ready();
    expect(RECOVERY_OPEN);
    assert_true(recovery_may_spawn(model->recovery));
    for (unsigned slot = 0; slot < workers; slot++) {
        worker_starts(slot);
        assert_true(model->actors[slot].attached);
    }
    model->now += 10 * RECOVERY_QUICK_MS;
}

/* --- single stories --- */

static void test_death_outside_is_checked_and_forgotten(void **state)
{
    (void)state;
    serve(2);
    ends(0, RECOVERY_EVENT_DIED, 0);
    expect(RECOVERY_CHECKING);
    assert_int_equal(model->helpers, 1);
    assert_true(model->taken[0]);
    assert_int_equal(model->timer, model->now + RECOVERY_CHECK_MS);
    ends(ZONE_SLOT_HELPER, RECOVERY_EVENT_HELPER_FINE, 0);
    expect(RECOVERY_OPEN);
    assert_false(model->taken[0]);
    assert_int_equal(model->shuts, 0);
    assert_int_equal(model->timer, NEVER);
}

static void test_death_during_a_check_is_checked_too(void **state)
{
    (void)state;
    serve(3);
    ends(0, RECOVERY_EVENT_DIED, 0);
    ends(1, RECOVERY_EVENT_DIED, 0);
    assert_int_equal(model->helpers, 1);
    ends(ZONE_SLOT_HELPER, RECOVERY_EVENT_HELPER_FINE, 0);
    expect(RECOVERY_CHECKING);
    assert_int_equal(model->helpers, 2);
    assert_true(model->taken[0] && model->taken[1]);
    ends(ZONE_SLOT_HELPER, RECOVERY_EVENT_HELPER_FINE, 0);
    expect(RECOVERY_OPEN);
    assert_false(model->taken[0] || model->taken[1]);
}

static void test_orderly_exit_needs_no_check(void **state)
{
    (void)state;
    serve(2);
    ends(1, RECOVERY_EVENT_ENDED, 0);
    expect(RECOVERY_OPEN);
    assert_false(model->taken[1]);
    assert_int_equal(model->helpers, 0);
}

static void test_death_inside_recovers_when_all_have_let_go(void **state)
{
    (void)state;
    serve(3);
    ends(0, RECOVERY_EVENT_DIED_INSIDE, 0);
    expect(RECOVERY_STOPPING);
    assert_int_equal(model->shuts, 1);
    assert_true(model->actors[ZONE_SLOT_KEEPER].killed);
    worker_stops_store(1);
    ends(ZONE_SLOT_KEEPER, RECOVERY_EVENT_KEEPER_DIED, 265);
    expect(RECOVERY_STOPPING);
    assert_int_equal(model->keepers, 1);
    worker_stops_store(2);
    expect(RECOVERY_OPENING);
    assert_int_equal(model->keepers, 2);
    assert_true(recovery_may_spawn(model->recovery));
    keeper_ready();
    assert_true(model->actors[1].attached && model->actors[2].attached);
    assert_false(model->taken[0]);
}

static void test_stuck_worker_is_killed_and_waited_for(void **state)
{
    (void)state;
    serve(2);
    ends(0, RECOVERY_EVENT_DIED_INSIDE, 0);
    ends(ZONE_SLOT_KEEPER, RECOVERY_EVENT_KEEPER_DIED, 265);
    time_passes(RECOVERY_STOP_MS - 1);
    assert_false(model->actors[1].killed);
    time_passes(1);
    assert_true(model->actors[1].killed);
    /* SIGKILL alone frees nothing: a process in a system call may still write. */
    time_passes(RECOVERY_PAUSE_MAX_MS);
    time_passes(RECOVERY_PAUSE_MAX_MS);
    expect(RECOVERY_STOPPING);
    assert_int_equal(model->keepers, 1);
    ends(1, RECOVERY_EVENT_DIED_INSIDE, 0);
    expect(RECOVERY_OPENING);
    assert_int_equal(model->keepers, 2);
}

static void test_what_was_left_is_waited_for(void **state)
{
    (void)state;
    serve(2);
    ends(ZONE_SLOT_KEEPER, RECOVERY_EVENT_KEEPER_DIED, 265);
    worker_sheds(0);
    worker_sheds(1);
    model->actors[1].gone = true;
    left_ends(1, RECOVERY_EVENT_DIED_INSIDE);
    expect(RECOVERY_STOPPING);
    time_passes(RECOVERY_STOP_MS);
    assert_true(model->actors[0].killed);
    expect(RECOVERY_STOPPING);
    left_ends(0, RECOVERY_EVENT_DIED);
    expect(RECOVERY_OPENING);
    assert_false(model->taken[1]);
    keeper_ready();
    assert_true(model->actors[0].attached);
}

static void test_helper_that_hangs_is_killed_and_waited_for(void **state)
{
    (void)state;
    serve(2);
    ends(0, RECOVERY_EVENT_DIED, 0);
    time_passes(RECOVERY_CHECK_MS);
    expect(RECOVERY_STOPPING);
    assert_true(model->actors[ZONE_SLOT_HELPER].killed);
    worker_stops_store(1);
    ends(ZONE_SLOT_KEEPER, RECOVERY_EVENT_KEEPER_DIED, 265);
    expect(RECOVERY_STOPPING);
    ends(ZONE_SLOT_HELPER, RECOVERY_EVENT_HELPER_BAD, 0);
    expect(RECOVERY_OPENING);
    assert_false(model->taken[0] || model->taken[ZONE_SLOT_HELPER]);
}

static void test_helper_that_finds_something(void **state)
{
    (void)state;
    serve(1);
    ends(0, RECOVERY_EVENT_DIED, 0);
    ends(ZONE_SLOT_HELPER, RECOVERY_EVENT_HELPER_BAD, 0);
    expect(RECOVERY_STOPPING);
    ends(ZONE_SLOT_KEEPER, RECOVERY_EVENT_KEEPER_DIED, 265);
    expect(RECOVERY_OPENING);
}

static void test_helper_that_cannot_be_forked(void **state)
{
    (void)state;
    serve(1);
    model->helper_failures = 1;
    ends(0, RECOVERY_EVENT_DIED, 0);
    expect(RECOVERY_STOPPING);
}

/* Nobody would close the store later: the master says it once. */
static void test_close_when_no_second_helper_can_be_forked(void **state)
{
    (void)state;
    serve(2);
    ends(0, RECOVERY_EVENT_DIED, 0);
    ends(1, RECOVERY_EVENT_DIED, 0);
    event(RECOVERY_EVENT_CLOSE, 0, 0);
    model->helper_failures = 1;
    ends(ZONE_SLOT_HELPER, RECOVERY_EVENT_HELPER_FINE, 0);
    expect(RECOVERY_ABANDON);
    ends(ZONE_SLOT_KEEPER, RECOVERY_EVENT_KEEPER_DIED, 265);
    assert_true(model->closed);
    assert_false(model->clean);
}

/* What failed quickly long ago does not delay the recovery after a worker's death. */
static void test_failures_of_long_ago_are_forgotten(void **state)
{
    (void)state;
    event(RECOVERY_EVENT_START, 0, 0);
    keeper_ready();
    for (unsigned i = 0; i < 3; i++) {
        ends(ZONE_SLOT_KEEPER, RECOVERY_EVENT_KEEPER_DIED, 265);
        expect(RECOVERY_PAUSED);
        time_passes(RECOVERY_PAUSE_MAX_MS);
        keeper_ready();
    }
    worker_starts(0);
    model->now += 10 * RECOVERY_QUICK_MS;
    ends(0, RECOVERY_EVENT_DIED, 0);
    ends(ZONE_SLOT_HELPER, RECOVERY_EVENT_HELPER_BAD, 0);
    ends(ZONE_SLOT_KEEPER, RECOVERY_EVENT_KEEPER_DIED, 265);
    expect(RECOVERY_OPENING);
}

static void test_words_about_a_dead_generation_are_ignored(void **state)
{
    (void)state;
    serve(2);
    event(RECOVERY_EVENT_FAILED, 0, model->generation + 1);
    expect(RECOVERY_OPEN);
    event(RECOVERY_EVENT_FAILED, 0, model->generation);
    expect(RECOVERY_STOPPING);
    assert_true(model->actors[0].told_stop && model->actors[1].told_stop);
    event(RECOVERY_EVENT_FAILED, 1, 1);
    expect(RECOVERY_STOPPING);
    assert_int_equal(model->shuts, 1);
}

static void test_keeper_death_recovers(void **state)
{
    (void)state;
    serve(1);
    ends(ZONE_SLOT_KEEPER, RECOVERY_EVENT_KEEPER_DIED, 0);
    expect(RECOVERY_STOPPING);
    worker_stops_store(0);
    expect(RECOVERY_OPENING);
    assert_int_equal(model->timer, NEVER);
}

static void test_worker_of_a_closed_store_dies_without_a_check(void **state)
{
    (void)state;
    serve(1);
    ends(ZONE_SLOT_KEEPER, RECOVERY_EVENT_KEEPER_DIED, 265);
    worker_stops_store(0);
    expect(RECOVERY_OPENING);
    ends(0, RECOVERY_EVENT_DIED, 0);
    expect(RECOVERY_OPENING);
    assert_false(model->taken[0]);
    worker_starts(0);
    assert_false(model->actors[0].attached);
    keeper_ready();
    assert_true(model->actors[0].attached);
    assert_int_equal(model->helpers, 0);
}

static void test_store_that_fails_quickly_is_opened_after_pauses(void **state)
{
    static const uint64_t pauses[] = {100, 200, 400, 800, 1000, 1000};

    (void)state;
    serve(0);
    for (size_t i = 0; i < sizeof pauses / sizeof pauses[0]; i++) {
        if (i > 0)
            keeper_ready();
        else
            model->now -= 10 * RECOVERY_QUICK_MS - 1;
        ends(ZONE_SLOT_KEEPER, RECOVERY_EVENT_KEEPER_DIED, 265);
        expect(RECOVERY_PAUSED);
        assert_true(recovery_may_spawn(model->recovery));
        assert_int_equal(model->timer, model->now + pauses[i]);
        time_passes(pauses[i]);
        expect(RECOVERY_OPENING);
    }
    keeper_ready();
    model->now += RECOVERY_QUICK_MS;
    ends(ZONE_SLOT_KEEPER, RECOVERY_EVENT_KEEPER_DIED, 265);
    expect(RECOVERY_OPENING);
    assert_false(model->gave_up);
}

static void test_start_gives_up_after_quick_failures(void **state)
{
    (void)state;
    event(RECOVERY_EVENT_START, 0, 0);
    for (int i = 1; i < RECOVERY_QUICK_MAX; i++) {
        ends(ZONE_SLOT_KEEPER, RECOVERY_EVENT_KEEPER_DIED, 265);
        expect(RECOVERY_PAUSED);
        time_passes(RECOVERY_PAUSE_MAX_MS);
        assert_false(model->gave_up);
    }
    ends(ZONE_SLOT_KEEPER, RECOVERY_EVENT_KEEPER_DIED, 265);
    assert_true(model->gave_up);
    event(RECOVERY_EVENT_CLOSE, 0, 0);
    assert_true(model->closed);
}

static void test_start_gives_up_at_once_for_a_configuration(void **state)
{
    (void)state;
    event(RECOVERY_EVENT_START, 0, 0);
    ends(ZONE_SLOT_KEEPER, RECOVERY_EVENT_KEEPER_DIED, EXIT_CONFIGURATION);
    assert_true(model->gave_up);
    assert_false(model->taken[ZONE_SLOT_KEEPER]);
}

static void test_start_gives_up_when_no_keeper_can_be_forked(void **state)
{
    (void)state;
    model->keeper_failures = RECOVERY_QUICK_MAX;
    event(RECOVERY_EVENT_START, 0, 0);
    for (int i = 1; i < RECOVERY_QUICK_MAX; i++) {
        assert_false(model->gave_up);
        time_passes(RECOVERY_PAUSE_MAX_MS);
    }
    assert_true(model->gave_up);
}

static void test_configuration_that_breaks_later_is_tried_again(void **state)
{
    (void)state;
    serve(0);
    ends(ZONE_SLOT_KEEPER, RECOVERY_EVENT_KEEPER_DIED, 265);
    ends(ZONE_SLOT_KEEPER, RECOVERY_EVENT_KEEPER_DIED, EXIT_CONFIGURATION);
    expect(RECOVERY_PAUSED);
    assert_int_equal(model->timer, model->now + RECOVERY_PAUSE_MAX_MS);
    time_passes(RECOVERY_PAUSE_MAX_MS);
    expect(RECOVERY_OPENING);
}

static void test_clean_close(void **state)
{
    (void)state;
    serve(1);
    ends(0, RECOVERY_EVENT_ENDED, 0);
    event(RECOVERY_EVENT_CLOSE, 0, 0);
    expect(RECOVERY_CLOSING);
    assert_true(model->keeper_told);
    ends(ZONE_SLOT_KEEPER, RECOVERY_EVENT_KEEPER_DIED, 0);
    assert_true(model->closed && model->clean);
    assert_false(model->taken[ZONE_SLOT_KEEPER]);
}

static void test_close_waits_for_a_check(void **state)
{
    (void)state;
    serve(1);
    ends(0, RECOVERY_EVENT_DIED, 0);
    event(RECOVERY_EVENT_CLOSE, 0, 0);
    expect(RECOVERY_CHECKING);
    ends(ZONE_SLOT_HELPER, RECOVERY_EVENT_HELPER_FINE, 0);
    expect(RECOVERY_CLOSING);
}

static void test_close_after_a_bad_check_recovers_nothing(void **state)
{
    (void)state;
    serve(1);
    ends(0, RECOVERY_EVENT_DIED, 0);
    event(RECOVERY_EVENT_CLOSE, 0, 0);
    ends(ZONE_SLOT_HELPER, RECOVERY_EVENT_HELPER_BAD, 0);
    expect(RECOVERY_ABANDON);
    assert_true(model->actors[ZONE_SLOT_KEEPER].killed);
    ends(ZONE_SLOT_KEEPER, RECOVERY_EVENT_KEEPER_DIED, 265);
    assert_true(model->closed);
    assert_false(model->clean);
}

static void test_close_while_opening_ends(void **state)
{
    (void)state;
    event(RECOVERY_EVENT_START, 0, 0);
    event(RECOVERY_EVENT_CLOSE, 0, 0);
    expect(RECOVERY_ABANDON);
    /* Not even a process that cannot be killed holds the master. */
    time_passes(RECOVERY_ABANDON_MS);
    assert_true(model->closed);
    assert_false(model->clean);
}

static void test_keeper_that_does_not_close_is_killed(void **state)
{
    (void)state;
    serve(0);
    event(RECOVERY_EVENT_CLOSE, 0, 0);
    time_passes(RECOVERY_CLOSE_MS - 1);
    assert_false(model->actors[ZONE_SLOT_KEEPER].killed);
    time_passes(1);
    assert_true(model->actors[ZONE_SLOT_KEEPER].killed);
    ends(ZONE_SLOT_KEEPER, RECOVERY_EVENT_KEEPER_DIED, 265);
    assert_true(model->closed);
}

/* --- at random --- */

#define RANDOM_WORKERS 5
#define RANDOM_RUNS 3000
#define RANDOM_STEPS 200

static uint64_t random_state;

static unsigned random_below(unsigned bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 33) % bound;
}

static enum recovery_event random_way(void)
{
    static const enum recovery_event ways[] = {RECOVERY_EVENT_ENDED, RECOVERY_EVENT_DIED,
                                               RECOVERY_EVENT_DIED_INSIDE};

    return ways[random_below(3)];
}

static void random_death(unsigned slot)
{
    if (!model->actors[slot].alive)
        return;
    if (model->actors[slot].left)
        model->actors[slot].gone = true;
    else if (slot == ZONE_SLOT_KEEPER)
        ends(slot, RECOVERY_EVENT_KEEPER_DIED, random_below(4) ? 265 : random_below(3));
    else if (slot == ZONE_SLOT_HELPER)
        ends(slot,
             !model->actors[slot].killed && random_below(2) ? RECOVERY_EVENT_HELPER_FINE
                                                            : RECOVERY_EVENT_HELPER_BAD,
             0);
    else
        ends(slot, random_way(), 0);
}

/* One thing that a real system can do now. */
static void random_step(bool spawning)
{
    unsigned slot = random_below(RANDOM_WORKERS);

    switch (random_below(9)) {
    case 0:
        if (spawning && !model->taken[slot] && recovery_may_spawn(model->recovery))
            worker_starts(slot);
        break;
    case 1:
        random_death(slot);
        break;
    case 2:
        random_death(random_below(2) ? ZONE_SLOT_KEEPER : ZONE_SLOT_HELPER);
        break;
    case 3:
        if (model->actors[slot].alive && model->actors[slot].told_stop) {
            if (random_below(2))
                worker_stops_store(slot);
            else
                worker_sheds(slot);
        } else if (model->actors[slot].alive && model->actors[slot].left) {
            left_ends(slot, random_way());
        }
        break;
    case 4:
        if (recovery_state(model->recovery) == RECOVERY_OPENING)
            keeper_ready();
        break;
    case 5:
        event(RECOVERY_EVENT_FAILED, random_below(2) ? slot : ZONE_SLOT_KEEPER,
              random_below((unsigned)model->next_generation + 2));
        break;
    case 6:
        time_passes(random_below(1500));
        break;
    case 7:
        if (random_below(20) == 0)
            model->keeper_failures = 1;
        if (random_below(20) == 0)
            model->helper_failures = 1;
        break;
    default:
        if (recovery_state(model->recovery) == RECOVERY_IDLE)
            event(RECOVERY_EVENT_START, 0, 0);
        break;
    }
}

/* From any state a system in which everyone behaves comes back to serving (or has given up). */
static void random_settle(void)
{
    for (int round = 0; round < 200; round++) {
        if (recovery_state(model->recovery) == RECOVERY_OPEN || model->gave_up ||
            recovery_state(model->recovery) == RECOVERY_IDLE)
            return;
        for (unsigned slot = 0; slot < ZONE_SLOTS; slot++) {
            if (model->actors[slot].alive && model->actors[slot].left)
                left_ends(slot, random_way());
            else if (model->actors[slot].alive && model->actors[slot].killed)
                random_death(slot);
            else if (model->actors[slot].alive && model->actors[slot].told_stop)
                worker_stops_store(slot);
        }
        if (model->actors[ZONE_SLOT_HELPER].alive)
            ends(ZONE_SLOT_HELPER, RECOVERY_EVENT_HELPER_FINE, 0);
        if (recovery_state(model->recovery) == RECOVERY_OPENING)
            keeper_ready();
        time_passes(RECOVERY_PAUSE_MAX_MS);
    }
    fail_msg("stuck in state %d", (int)recovery_state(model->recovery));
}

static void check_serving(void)
{
    if (recovery_state(model->recovery) != RECOVERY_OPEN)
        return;
    assert_true(model->actors[ZONE_SLOT_KEEPER].alive);
    for (unsigned slot = 0; slot < ZONE_SLOTS; slot++) {
        assert_int_equal(model->actors[slot].alive, model->taken[slot]);
        if (model->actors[slot].alive && slot < ZONE_WORKERS)
            assert_true(model->actors[slot].attached);
    }
}

static void random_close(void)
{
    for (unsigned slot = 0; slot < RANDOM_WORKERS; slot++) {
        random_death(slot);
        if (model->actors[slot].left)
            left_ends(slot, random_way());
    }
    if (model->closed)
        return;
    event(RECOVERY_EVENT_CLOSE, 0, 0);
    for (int step = 0; step < 100 && !model->closed; step++) {
        random_step(false);
        if (step > 20)
            time_passes(RECOVERY_CLOSE_MS);
    }
    assert_true(model->closed);
    expect(RECOVERY_CLOSED);
    random_step(false);
}

static void test_random_lives(void **state)
{
    const char *given = getenv("FILAD_TEST_SEED");
    uint64_t first = given ? strtoull(given, NULL, 0) : 1;
    unsigned opened = 0;

    (void)state;
    for (uint64_t seed = first; seed < first + (given ? 1 : RANDOM_RUNS); seed++) {
        random_state = seed * 0x9e3779b97f4a7c15u;
        recovery_destroy(model->recovery);
        model_start(model);
        if (seed % 8) /* the others may never come up */
            serve(random_below(RANDOM_WORKERS));
        for (int step = 0; step < RANDOM_STEPS && !model->gave_up; step++) {
            random_step(true);
            check_serving();
        }
        random_settle();
        check_serving();
        opened += model->next_generation > 3;
        random_close();
    }
    /* The walk must not have missed what it is for. */
    assert_true(given || opened > RANDOM_RUNS / 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_death_outside_is_checked_and_forgotten),
        TEST(test_death_during_a_check_is_checked_too),
        TEST(test_orderly_exit_needs_no_check),
        TEST(test_death_inside_recovers_when_all_have_let_go),
        TEST(test_stuck_worker_is_killed_and_waited_for),
        TEST(test_what_was_left_is_waited_for),
        TEST(test_helper_that_hangs_is_killed_and_waited_for),
        TEST(test_helper_that_finds_something),
        TEST(test_helper_that_cannot_be_forked),
        TEST(test_close_when_no_second_helper_can_be_forked),
        TEST(test_failures_of_long_ago_are_forgotten),
        TEST(test_words_about_a_dead_generation_are_ignored),
        TEST(test_keeper_death_recovers),
        TEST(test_worker_of_a_closed_store_dies_without_a_check),
        TEST(test_store_that_fails_quickly_is_opened_after_pauses),
        TEST(test_start_gives_up_after_quick_failures),
        TEST(test_start_gives_up_at_once_for_a_configuration),
        TEST(test_start_gives_up_when_no_keeper_can_be_forked),
        TEST(test_configuration_that_breaks_later_is_tried_again),
        TEST(test_clean_close),
        TEST(test_close_waits_for_a_check),
        TEST(test_close_after_a_bad_check_recovers_nothing),
        TEST(test_close_while_opening_ends),
        TEST(test_keeper_that_does_not_close_is_killed),
        TEST(test_random_lives),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
