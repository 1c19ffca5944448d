#include "master/recovery.h"

#include <stdlib.h>

#include "keeper/keeper.h"
#include "os/log.h"
#include "sched/zone.h"
#include "worker/worker.h"

#define RECOVERY_MAGIC 0x7265636fu
#define NO_TIMER UINT64_MAX

/* What is known of the process in a slot. */
struct recovery_member {
    bool alive;
    bool attached; /* may have the present (old) environment open */
    bool dead;     /* has ended, the slot waits to be released */
};

struct recovery {
    uint32_t magic;
    enum recovery_state state;
    const struct recovery_actions *actions;
    void *context;
    struct recovery_member members[ZONE_SLOTS];
    uint64_t generation; /* of the open store */
    uint64_t opened_ms;  /* when it was opened */
    uint64_t began_ms;   /* when the store was lost; 0: it is not, or was never open */
    unsigned failures;   /* quick ones in a row */
    bool was_open;
    bool check_again;  /* another worker died while the helper ran */
    bool close_wanted; /* RECOVERY_EVENT_CLOSE came while the helper ran */
    bool killed;       /* in RECOVERY_STOPPING: the time of the workers is over */
};

/* What an event brought, for the handlers of the table. */
struct recovery_input {
    enum recovery_event event;
    unsigned slot;
    uint64_t value;
    uint64_t now_ms;
};

typedef void (*recovery_handler)(struct recovery *recovery, const struct recovery_input *input);

static const char *const state_names[RECOVERY_STATES] = {
    [RECOVERY_IDLE] = "idle",         [RECOVERY_OPENING] = "opening",
    [RECOVERY_OPEN] = "open",         [RECOVERY_CHECKING] = "checking",
    [RECOVERY_STOPPING] = "stopping", [RECOVERY_PAUSED] = "paused",
    [RECOVERY_CLOSING] = "closing",   [RECOVERY_ABANDON] = "abandoning",
    [RECOVERY_CLOSED] = "closed",
};

static void recovery_enter(struct recovery *recovery, enum recovery_state state, uint64_t timer_ms)
{
    log_write(LOG_DEBUG, "recovery", "%s -> %s", state_names[recovery->state], state_names[state]);
    recovery->state = state;
    recovery->actions->timer(recovery->context, timer_ms);
}

static bool recovery_has_attached(const struct recovery *recovery)
{
    for (unsigned slot = 0; slot < ZONE_SLOTS; slot++)
        if (recovery->members[slot].alive && recovery->members[slot].attached)
            return true;
    return false;
}

static void recovery_release_dead(struct recovery *recovery)
{
    for (unsigned slot = 0; slot < ZONE_SLOTS; slot++) {
        if (!recovery->members[slot].dead)
            continue;
        recovery->members[slot] = (struct recovery_member){0};
        recovery->actions->release(recovery->context, slot);
    }
}

static void recovery_kill_attached(struct recovery *recovery)
{
    for (unsigned slot = 0; slot < ZONE_SLOTS; slot++)
        if (recovery->members[slot].alive && recovery->members[slot].attached)
            recovery->actions->kill(recovery->context, slot);
}

static void recovery_mark_started(struct recovery *recovery, unsigned slot, bool attached)
{
    recovery->members[slot] = (struct recovery_member){.alive = true, .attached = attached};
}

/* --- opening --- */

static uint64_t recovery_pause_ms(const struct recovery *recovery)
{
    uint64_t pause = 100;

    if (recovery->failures == 0)
        return 0;
    if (recovery->failures >= RECOVERY_QUICK_MAX)
        return RECOVERY_PAUSE_MAX_MS;
    for (unsigned i = 1; i < recovery->failures; i++)
        pause *= 2;
    return pause;
}

static void recovery_open_next(struct recovery *recovery);

static void recovery_spawn_keeper(struct recovery *recovery)
{
    if (recovery->actions->spawn_keeper(recovery->context) < 0) {
        recovery->failures++;
        recovery_open_next(recovery);
        return;
    }
    recovery_mark_started(recovery, ZONE_SLOT_KEEPER, true);
    recovery_enter(recovery, RECOVERY_OPENING, NO_TIMER);
}

/* Nobody has an environment open: goes on to the next one, at once or after a pause. */
static void recovery_open_next(struct recovery *recovery)
{
    uint64_t pause = recovery_pause_ms(recovery);

    if (!recovery->was_open && recovery->failures >= RECOVERY_QUICK_MAX) {
        recovery_enter(recovery, RECOVERY_PAUSED, NO_TIMER);
        recovery->actions->give_up(recovery->context, "the store could not be opened");
        return;
    }
    if (pause == 0) {
        recovery_spawn_keeper(recovery);
    } else {
        log_write(LOG_WARN, "recovery", "failures in a row: %u, next attempt in %llu ms",
                  recovery->failures, (unsigned long long)pause);
        recovery_enter(recovery, RECOVERY_PAUSED, pause);
    }
    recovery->actions->resume(recovery->context);
}

static void on_start(struct recovery *recovery, const struct recovery_input *input)
{
    (void)input;
    recovery_spawn_keeper(recovery);
}

static void on_ready(struct recovery *recovery, const struct recovery_input *input)
{
    recovery->generation = input->value;
    recovery->opened_ms = input->now_ms;
    recovery->was_open = true;
    if (recovery->began_ms)
        log_write(LOG_NOTICE, "recovery", "the store serves again after %llu ms",
                  (unsigned long long)(input->now_ms - recovery->began_ms));
    recovery->began_ms = 0;
    recovery_enter(recovery, RECOVERY_OPEN, NO_TIMER);
    for (unsigned slot = 0; slot < ZONE_WORKERS; slot++) {
        if (!recovery->members[slot].alive)
            continue;
        recovery->members[slot].attached = true;
        recovery->actions->open_store(recovery->context, slot, recovery->generation);
    }
    recovery->actions->resume(recovery->context);
}

static void on_worker_attach(struct recovery *recovery, const struct recovery_input *input)
{
    recovery->members[input->slot].attached = true;
    recovery->actions->open_store(recovery->context, input->slot, recovery->generation);
}

/* --- letting go --- */

/* In RECOVERY_STOPPING: goes on once nobody has the old environment open. */
static void recovery_settle(struct recovery *recovery)
{
    if (recovery_has_attached(recovery))
        return;
    recovery_release_dead(recovery);
    recovery_open_next(recovery);
}

static void recovery_begin(struct recovery *recovery, uint64_t now_ms, const char *cause)
{
    log_write(LOG_WARN, "recovery", "%s: the store is recovered", cause);
    if (!recovery->began_ms && recovery->was_open)
        recovery->began_ms = now_ms;
    recovery->generation = 0;
    recovery->killed = false;
    recovery->check_again = false;
    recovery->actions->shut(recovery->context);
    recovery_enter(recovery, RECOVERY_STOPPING, RECOVERY_STOP_MS);
    for (unsigned slot = 0; slot < ZONE_SLOTS; slot++) {
        if (!recovery->members[slot].alive || !recovery->members[slot].attached)
            continue;
        if (slot < ZONE_WORKERS)
            recovery->actions->stop_store(recovery->context, slot);
        else
            recovery->actions->kill(recovery->context, slot);
    }
    recovery_settle(recovery);
}

static void recovery_abandon(struct recovery *recovery, const char *cause)
{
    log_write(LOG_WARN, "recovery", "%s: the next start recovers the store", cause);
    recovery->actions->shut(recovery->context);
    recovery_enter(recovery, RECOVERY_ABANDON, RECOVERY_ABANDON_MS);
    recovery_kill_attached(recovery);
}

static void recovery_close(struct recovery *recovery, bool clean)
{
    recovery_release_dead(recovery);
    recovery_enter(recovery, RECOVERY_CLOSED, NO_TIMER);
    recovery->actions->closed(recovery->context, clean);
}

static bool recovery_served(const struct recovery *recovery, uint64_t now_ms)
{
    return recovery->state != RECOVERY_OPENING && now_ms - recovery->opened_ms >= RECOVERY_QUICK_MS;
}

/* A failure by the store's or the keeper's own doing; soon after opening it counts as a quick one.
 */
static void recovery_blame_store(struct recovery *recovery, uint64_t now_ms)
{
    if (!recovery_served(recovery, now_ms))
        recovery->failures++;
}

/* The end of a store that was open. */
static void recovery_lost(struct recovery *recovery, const struct recovery_input *input,
                          const char *cause)
{
    if (recovery_served(recovery, input->now_ms))
        recovery->failures = 0;
    if (recovery->close_wanted)
        recovery_abandon(recovery, cause);
    else
        recovery_begin(recovery, input->now_ms, cause);
}

static void on_failed(struct recovery *recovery, const struct recovery_input *input)
{
    /* Late words about an environment that is gone already. */
    if (input->value != recovery->generation)
        return;
    recovery_blame_store(recovery, input->now_ms);
    recovery_lost(recovery, input, "the store has failed");
}

static void on_failed_opening(struct recovery *recovery, const struct recovery_input *input)
{
    if (input->slot != ZONE_SLOT_KEEPER)
        return;
    recovery_blame_store(recovery, input->now_ms);
    recovery_begin(recovery, input->now_ms, "the keeper cannot open the store");
}

static void on_failed_closing(struct recovery *recovery, const struct recovery_input *input)
{
    (void)input;
    recovery_abandon(recovery, "the store has failed while it was closed");
}

static void on_keeper_died(struct recovery *recovery, const struct recovery_input *input)
{
    recovery_blame_store(recovery, input->now_ms);
    recovery_lost(recovery, input, "the keeper has died");
}

static void on_keeper_died_opening(struct recovery *recovery, const struct recovery_input *input)
{
    recovery_blame_store(recovery, input->now_ms);
    if (input->value == EXIT_CONFIGURATION) {
        recovery->failures = RECOVERY_QUICK_MAX;
        if (!recovery->was_open) {
            recovery_release_dead(recovery);
            recovery_open_next(recovery);
            return;
        }
    }
    recovery_begin(recovery, input->now_ms, "the keeper has died while it opened the store");
}

static void on_keeper_died_closing(struct recovery *recovery, const struct recovery_input *input)
{
    recovery_close(recovery, input->value == 0);
}

static void on_stopped(struct recovery *recovery, const struct recovery_input *input)
{
    recovery->members[input->slot].attached = false;
    recovery_settle(recovery);
}

static void on_died_stopping(struct recovery *recovery, const struct recovery_input *input)
{
    (void)input;
    recovery_settle(recovery);
}

static void on_time_stopping(struct recovery *recovery, const struct recovery_input *input)
{
    (void)input;
    for (unsigned slot = 0; slot < ZONE_SLOTS; slot++)
        if (recovery->members[slot].alive && recovery->members[slot].attached)
            log_write(LOG_WARN, "recovery",
                      recovery->killed ? "slot %u has been killed and does not end"
                                       : "slot %u does not let go of the store and is killed",
                      slot);
    recovery->killed = true;
    recovery_kill_attached(recovery);
    recovery->actions->timer(recovery->context, RECOVERY_PAUSE_MAX_MS);
}

static void on_time_paused(struct recovery *recovery, const struct recovery_input *input)
{
    (void)input;
    recovery_spawn_keeper(recovery);
}

/* --- a worker's end while the store serves --- */

static void on_release(struct recovery *recovery, const struct recovery_input *input)
{
    (void)input;
    recovery_release_dead(recovery);
}

/* RECOVERY_CHECKING keeps all dead slots until the last check is through. */
static void on_keep(struct recovery *recovery, const struct recovery_input *input)
{
    (void)recovery;
    (void)input;
}

static void recovery_check(struct recovery *recovery, const struct recovery_input *input)
{
    recovery->check_again = false;
    if (recovery->actions->spawn_helper(recovery->context) < 0) {
        recovery_lost(recovery, input, "what a dead worker left cannot be checked");
        return;
    }
    recovery_mark_started(recovery, ZONE_SLOT_HELPER, true);
    recovery_enter(recovery, RECOVERY_CHECKING, RECOVERY_CHECK_MS);
}

static void on_died_open(struct recovery *recovery, const struct recovery_input *input)
{
    /* `attached` is kept in the dead member: was there anything that it could have left? */
    if (recovery->members[input->slot].attached)
        recovery_check(recovery, input);
    else
        recovery_release_dead(recovery);
}

static void on_died_checking(struct recovery *recovery, const struct recovery_input *input)
{
    if (recovery->members[input->slot].attached)
        recovery->check_again = true;
}

static void on_died_inside(struct recovery *recovery, const struct recovery_input *input)
{
    recovery_lost(recovery, input, "a worker has died inside the store");
}

static void on_closing(struct recovery *recovery, const struct recovery_input *input)
{
    (void)input;
    recovery_enter(recovery, RECOVERY_CLOSING, RECOVERY_CLOSE_MS);
    recovery->actions->stop_keeper(recovery->context);
}

static void on_helper_fine(struct recovery *recovery, const struct recovery_input *input)
{
    if (recovery->check_again) {
        recovery_check(recovery, input);
        return;
    }
    recovery_release_dead(recovery);
    if (recovery->close_wanted) {
        on_closing(recovery, input);
        return;
    }
    recovery_enter(recovery, RECOVERY_OPEN, NO_TIMER);
    recovery->actions->resume(recovery->context);
}

static void on_helper_bad(struct recovery *recovery, const struct recovery_input *input)
{
    recovery_lost(recovery, input, "a dead worker has left its traces in the store");
}

static void on_time_checking(struct recovery *recovery, const struct recovery_input *input)
{
    recovery_lost(recovery, input, "the check after a worker's death does not end");
}

/* --- the master's end --- */

static void on_close_later(struct recovery *recovery, const struct recovery_input *input)
{
    (void)input;
    recovery->close_wanted = true;
}

static void on_abandon(struct recovery *recovery, const struct recovery_input *input)
{
    (void)input;
    recovery_abandon(recovery, "stopped while the store was not open");
}

static void on_time_closing(struct recovery *recovery, const struct recovery_input *input)
{
    (void)input;
    recovery_abandon(recovery, "the keeper does not close the store");
}

static void on_close_now(struct recovery *recovery, const struct recovery_input *input)
{
    (void)input;
    recovery_close(recovery, recovery->state == RECOVERY_IDLE);
}

static void on_died_abandon(struct recovery *recovery, const struct recovery_input *input)
{
    (void)input;
    if (!recovery_has_attached(recovery))
        recovery_close(recovery, false);
}

/* --- the table --- */

#define EV(name) RECOVERY_EVENT_##name

/* An empty cell ignores the event; that a process began or ended is noted before the cell is looked
 * up. */
static const recovery_handler table[RECOVERY_STATES][RECOVERY_EVENTS] = {
    [RECOVERY_IDLE] =
        {
            [EV(START)] = on_start,
            [EV(ENDED)] = on_release,
            [EV(DIED)] = on_release,
            [EV(DIED_INSIDE)] = on_release,
            [EV(CLOSE)] = on_close_now,
        },
    [RECOVERY_OPENING] =
        {
            [EV(READY)] = on_ready,
            [EV(FAILED)] = on_failed_opening,
            [EV(ENDED)] = on_release,
            [EV(DIED)] = on_release,
            [EV(DIED_INSIDE)] = on_release,
            [EV(KEEPER_DIED)] = on_keeper_died_opening,
            [EV(CLOSE)] = on_abandon,
        },
    [RECOVERY_OPEN] =
        {
            [EV(WORKER)] = on_worker_attach,
            [EV(FAILED)] = on_failed,
            [EV(ENDED)] = on_release,
            [EV(DIED)] = on_died_open,
            [EV(DIED_INSIDE)] = on_died_inside,
            [EV(KEEPER_DIED)] = on_keeper_died,
            [EV(CLOSE)] = on_closing,
        },
    [RECOVERY_CHECKING] =
        {
            [EV(WORKER)] = on_worker_attach,
            [EV(FAILED)] = on_failed,
            [EV(ENDED)] = on_keep,
            [EV(DIED)] = on_died_checking,
            [EV(DIED_INSIDE)] = on_died_inside,
            [EV(KEEPER_DIED)] = on_keeper_died,
            [EV(HELPER_FINE)] = on_helper_fine,
            [EV(HELPER_BAD)] = on_helper_bad,
            [EV(TIMER)] = on_time_checking,
            [EV(CLOSE)] = on_close_later,
        },
    [RECOVERY_STOPPING] =
        {
            [EV(STOPPED)] = on_stopped,
            [EV(ENDED)] = on_died_stopping,
            [EV(DIED)] = on_died_stopping,
            [EV(DIED_INSIDE)] = on_died_stopping,
            [EV(KEEPER_DIED)] = on_died_stopping,
            [EV(HELPER_FINE)] = on_died_stopping,
            [EV(HELPER_BAD)] = on_died_stopping,
            [EV(TIMER)] = on_time_stopping,
            [EV(CLOSE)] = on_abandon,
        },
    [RECOVERY_PAUSED] =
        {
            [EV(ENDED)] = on_release,
            [EV(DIED)] = on_release,
            [EV(DIED_INSIDE)] = on_release,
            [EV(TIMER)] = on_time_paused,
            [EV(CLOSE)] = on_close_now,
        },
    [RECOVERY_CLOSING] =
        {
            [EV(FAILED)] = on_failed_closing,
            [EV(ENDED)] = on_release,
            [EV(DIED)] = on_release,
            [EV(DIED_INSIDE)] = on_release,
            [EV(KEEPER_DIED)] = on_keeper_died_closing,
            [EV(TIMER)] = on_time_closing,
        },
    [RECOVERY_ABANDON] =
        {
            [EV(ENDED)] = on_died_abandon,
            [EV(DIED)] = on_died_abandon,
            [EV(DIED_INSIDE)] = on_died_abandon,
            [EV(KEEPER_DIED)] = on_died_abandon,
            [EV(HELPER_FINE)] = on_died_abandon,
            [EV(HELPER_BAD)] = on_died_abandon,
            [EV(TIMER)] = on_close_now,
        },
};

static bool recovery_is_death(enum recovery_event event)
{
    return event >= RECOVERY_EVENT_ENDED && event <= RECOVERY_EVENT_HELPER_BAD;
}

void recovery_event(struct recovery *recovery, enum recovery_event event, unsigned slot,
                    uint64_t value, uint64_t now_ms)
{
    struct recovery_input input = {event, slot, value, now_ms};
    recovery_handler handler;

    if (recovery->magic != RECOVERY_MAGIC || event >= RECOVERY_EVENTS || slot >= ZONE_SLOTS)
        abort();
    if (event == RECOVERY_EVENT_KEEPER_DIED)
        input.slot = ZONE_SLOT_KEEPER;
    else if (event == RECOVERY_EVENT_HELPER_FINE || event == RECOVERY_EVENT_HELPER_BAD)
        input.slot = ZONE_SLOT_HELPER;
    if (event == RECOVERY_EVENT_WORKER) {
        recovery_mark_started(recovery, input.slot, false);
    } else if (recovery_is_death(event)) {
        if (!recovery->members[input.slot].alive)
            return;
        recovery->members[input.slot].alive = false;
        recovery->members[input.slot].dead = true;
    }
    handler = table[recovery->state][event];
    if (handler)
        handler(recovery, &input);
}

struct recovery *recovery_create(const struct recovery_actions *actions, void *context)
{
    struct recovery *recovery = calloc(1, sizeof *recovery);

    if (!recovery)
        return NULL;
    recovery->magic = RECOVERY_MAGIC;
    recovery->actions = actions;
    recovery->context = context;
    return recovery;
}

void recovery_destroy(struct recovery *recovery)
{
    free(recovery);
}

enum recovery_state recovery_state(const struct recovery *recovery)
{
    return recovery->state;
}

bool recovery_may_spawn(const struct recovery *recovery)
{
    return recovery->was_open &&
           (recovery->state == RECOVERY_OPENING || recovery->state == RECOVERY_OPEN ||
            recovery->state == RECOVERY_PAUSED);
}

bool recovery_was_open(const struct recovery *recovery)
{
    return recovery->was_open;
}
