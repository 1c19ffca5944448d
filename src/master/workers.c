#include "master/workers.h"

#include <sys/wait.h>

#include "master/process.h"
#include "master/spawn.h"
#include "os/log.h"
#include "worker/worker.h"

static void place_pause(struct master *master, struct place *place)
{
    uint64_t pause = WORKERS_PAUSE_MS;

    for (unsigned i = 0; i < place->quick && pause < WORKERS_PAUSE_MAX_MS; i++)
        pause *= 2;
    place->quick++;
    place->due_ms =
        loop_now_ms(master->loop) + (pause < WORKERS_PAUSE_MAX_MS ? pause : WORKERS_PAUSE_MAX_MS);
}

static void place_fill(struct master *master, unsigned index)
{
    struct spawn_source source = {.conf = master->conf, .listeners = &master->listeners};
    struct place *place = &master->places[index];
    struct err err;

    place->process = spawn_worker(master, index, &source, &err);
    if (!place->process) {
        log_write(LOG_ERROR, "master", "%s", err.text);
        place_pause(master, place);
        return;
    }
    recovery_event(master->recovery, RECOVERY_EVENT_WORKER, place->process->slot, 0,
                   loop_now_ms(master->loop));
}

void workers_fill(struct master *master)
{
    uint64_t now = loop_now_ms(master->loop), next = UINT64_MAX;

    if (master->stopping != STOP_NONE || !recovery_may_spawn(master->recovery))
        return;
    for (unsigned i = 0; i < (unsigned)master->conf->worker_processes; i++) {
        struct place *place = &master->places[i];

        if (place->process || place->disabled)
            continue;
        if (place->due_ms <= now)
            place_fill(master, i);
        if (!place->process && place->due_ms < next)
            next = place->due_ms;
    }
    if (next == UINT64_MAX)
        loop_timer_cancel(master->loop, &master->respawn_timer);
    else
        loop_timer_set(master->loop, &master->respawn_timer, next - now);
}

void workers_ready(struct process *process)
{
    log_write(LOG_INFO, "master", "worker %u (%d) is ready", process->index, (int)process->pid);
}

bool workers_all_ready(const struct master *master)
{
    for (unsigned i = 0; i < (unsigned)master->conf->worker_processes; i++)
        if (!master->places[i].process || !master->places[i].process->ready)
            return false;
    return true;
}

static bool workers_none_left(const struct master *master)
{
    for (unsigned i = 0; i < (unsigned)master->conf->worker_processes; i++)
        if (!master->places[i].disabled)
            return false;
    return true;
}

static struct place *workers_place_of(struct master *master, const struct process *process)
{
    for (unsigned i = 0; i < CONF_WORKERS_MAX; i++)
        if (master->places[i].process == process)
            return &master->places[i];
    return NULL;
}

static const char *workers_disable(struct master *master, struct place *place, unsigned index)
{
    place->disabled = true;
    log_write(LOG_ERROR, "master",
              "worker %u has ended because of its configuration and is not started again", index);
    if (!master->started)
        return "a worker does not accept its configuration";
    return workers_none_left(master) ? "no worker accepts its configuration" : NULL;
}

const char *workers_ended(struct master *master, const struct process *process,
                          const struct process *ended, int status)
{
    struct place *place = workers_place_of(master, process);
    bool blameless =
        ended->expected || (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_STORE_STUCK);

    if (!place)
        return NULL;
    place->process = NULL;
    place->due_ms = 0;
    if (ended->leaving || master->stopping != STOP_NONE)
        return NULL;
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_CONFIGURATION)
        return workers_disable(master, place, ended->index);
    if (blameless || loop_now_ms(master->loop) - ended->started_ms >= MASTER_QUICK_MS) {
        place->quick = 0;
        return NULL;
    }
    place_pause(master, place);
    if (!master->started && place->quick >= WORKERS_QUICK_MAX)
        return "a worker ends again and again before it is ready; the log says how";
    return NULL;
}
