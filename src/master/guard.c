#include "master/guard.h"

#include <errno.h>

#include "master/master.h"
#include "master/process.h"
#include "master/reload.h"
#include "master/spawn.h"
#include "master/workers.h"
#include "os/log.h"

static void guard_shut(void *context)
{
    struct master *master = context;

    zone_shut(master->zone);
}

static void guard_send(struct master *master, unsigned slot, enum channel_type type, uint64_t value)
{
    if (master->processes[slot].kind != PROCESS_NONE)
        process_send(&master->processes[slot], type, value);
}

static void guard_stop_store(void *context, unsigned slot)
{
    guard_send(context, slot, CHANNEL_STORE_STOP, 0);
}

static void guard_open_store(void *context, unsigned slot, uint64_t generation)
{
    guard_send(context, slot, CHANNEL_STORE_OPEN, generation);
}

static void guard_kill(void *context, unsigned slot)
{
    struct master *master = context;

    if (master->processes[slot].kind != PROCESS_NONE)
        process_kill_store(&master->processes[slot]);
}

static int guard_spawn_keeper(void *context)
{
    struct master *master = context;
    struct err err;

    master->keeper_reason.text[0] = '\0';
    if (spawn_keeper(master, &err))
        return 0;
    log_write(LOG_ERROR, "master", "%s", err.text);
    return -1;
}

static int guard_spawn_helper(void *context)
{
    struct err err;

    if (spawn_helper(context, &err))
        return 0;
    log_write(LOG_ERROR, "master", "%s", err.text);
    return -1;
}

static void guard_stop_keeper(void *context)
{
    struct master *master = context;
    struct process *keeper = &master->processes[ZONE_SLOT_KEEPER];

    if (keeper->kind == PROCESS_NONE)
        return;
    keeper->leaving = true;
    process_send(keeper, CHANNEL_STOP, 0);
}

static void guard_release(void *context, unsigned slot)
{
    struct master *master = context;

    zone_slot_release(master->zone, slot);
}

static void guard_timer(void *context, uint64_t delay_ms)
{
    struct master *master = context;

    if (delay_ms == UINT64_MAX)
        loop_timer_cancel(master->loop, &master->recovery_timer);
    else
        loop_timer_set(master->loop, &master->recovery_timer, delay_ms);
}

static void guard_resume(void *context)
{
    struct master *master = context;

    workers_fill(master);
    reload_continue(master);
    master_check_started(master);
}

static void guard_give_up(void *context, const char *reason)
{
    struct master *master = context;

    master_fail(master, master->keeper_reason.text[0] ? master->keeper_reason.text : reason);
}

static void guard_closed(void *context, bool clean)
{
    struct master *master = context;

    if (!clean && recovery_was_open(master->recovery))
        log_write(LOG_WARN, "master", "the store was not closed: the next start recovers it");
    master->clean = clean;
    loop_stop(master->loop);
}

static const struct recovery_actions guard_actions = {
    .shut = guard_shut,
    .stop_store = guard_stop_store,
    .open_store = guard_open_store,
    .kill = guard_kill,
    .spawn_keeper = guard_spawn_keeper,
    .spawn_helper = guard_spawn_helper,
    .stop_keeper = guard_stop_keeper,
    .release = guard_release,
    .timer = guard_timer,
    .resume = guard_resume,
    .give_up = guard_give_up,
    .closed = guard_closed,
};

static void guard_time(struct loop_timer *timer)
{
    struct master *master = CONTAINER_OF(timer, struct master, recovery_timer);

    recovery_event(master->recovery, RECOVERY_EVENT_TIMER, 0, 0, loop_now_ms(master->loop));
}

int guard_create(struct master *master, struct err *err)
{
    master->recovery_timer.expired = guard_time;
    master->recovery = recovery_create(&guard_actions, master);
    return master->recovery ? 0 : err_set(err, ENOMEM, "out of memory");
}
