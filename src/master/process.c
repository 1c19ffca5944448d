#include "master/process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hook/tally.h"
#include "master/master.h"
#include "master/reload.h"
#include "master/workers.h"
#include "os/log.h"
#include "os/proc.h"
#include "worker/worker.h"

const char *process_name(const struct process *process, char text[48])
{
    static const char *const names[] = {
        [PROCESS_NONE] = "process",
        [PROCESS_WORKER] = "worker",
        [PROCESS_KEEPER] = "keeper",
        [PROCESS_HELPER] = "helper",
    };

    if (process->kind == PROCESS_WORKER)
        snprintf(text, 48, "worker %u (%d)", process->index, (int)process->pid);
    else
        snprintf(text, 48, "%s (%d)", names[process->kind], (int)process->pid);
    return text;
}

static void process_tell_recovery(struct process *process, enum recovery_event event,
                                  uint64_t value)
{
    struct master *master = process->master;

    recovery_event(master->recovery, event, process->slot, value, loop_now_ms(master->loop));
}

/* --- telling --- */

static void kill_pid(pid_t pid)
{
    if (kill(pid, SIGKILL) < 0)
        log_errno(LOG_ERROR, "master", errno, "kill %d", (int)pid);
}

void process_kill(struct process *process)
{
    if (process->left)
        kill_pid(process->left);
    if (process->gone)
        return;
    process->expected = true;
    kill_pid(process->pid);
}

void process_kill_store(struct process *process)
{
    if (process->left)
        kill_pid(process->left);
    else
        process_kill(process);
}

void process_send(struct process *process, enum channel_type type, uint64_t value)
{
    char name[48];
    struct err err;

    if (channel_send(process->watch.fd, type, value, NULL, &err) == 0)
        return;
    /* EPIPE: it is ending by itself. */
    if (err.code != EPIPE && err.code != ECONNRESET)
        log_write(LOG_ERROR, "master", "%s: %s; it is killed", process_name(process, name),
                  err.text);
    process_kill(process);
}

void process_send_all(struct master *master, enum channel_type type, uint64_t value)
{
    for (unsigned slot = 0; slot < ZONE_SLOTS; slot++)
        if (master->processes[slot].kind == PROCESS_WORKER ||
            master->processes[slot].kind == PROCESS_KEEPER)
            process_send(&master->processes[slot], type, value);
}

void process_retire(struct process *process, enum channel_type type, uint64_t deadline_ms)
{
    process->leaving = true;
    loop_timer_set(process->master->loop, &process->deadline, deadline_ms);
    process_send(process, type, 0);
}

void process_deadline(struct loop_timer *timer)
{
    struct process *process = CONTAINER_OF(timer, struct process, deadline);
    char name[48];

    log_write(LOG_WARN, "master", "%s does not end in time and is killed",
              process_name(process, name));
    process_kill(process);
}

/* --- listening --- */

typedef void (*process_handler)(struct process *process, const struct channel_message *message);

static void on_ready(struct process *process, const struct channel_message *message)
{
    process->ready = true;
    if (process->kind == PROCESS_KEEPER)
        process_tell_recovery(process, RECOVERY_EVENT_READY, message->value);
    else if (process->fresh)
        reload_worker_ready(process);
    else
        workers_ready(process);
    master_check_started(process->master);
}

static void on_failed(struct process *process, const struct channel_message *message)
{
    struct master *master = process->master;
    char name[48];

    log_write(LOG_ERROR, "master", "%s cannot start: %s", process_name(process, name),
              message->text);
    if (process->kind == PROCESS_KEEPER)
        err_set(&master->keeper_reason, 0, "%s", message->text);
    if (process->fresh)
        reload_worker_failed(process, message->text);
    else if (!master->started)
        master_fail(master, message->text);
}

static void on_store_failed(struct process *process, const struct channel_message *message)
{
    char name[48];

    log_write(LOG_ERROR, "master", "%s: the store has failed: %s", process_name(process, name),
              message->text);
    process_tell_recovery(process, RECOVERY_EVENT_FAILED, message->value);
}

static void on_store_stopped(struct process *process, const struct channel_message *message)
{
    (void)message;
    if (process->kind == PROCESS_WORKER)
        process_tell_recovery(process, RECOVERY_EVENT_STOPPED, 0);
}

static void on_store_opened(struct process *process, const struct channel_message *message)
{
    char name[48];

    log_write(LOG_DEBUG, "master", "%s is attached to generation %llu", process_name(process, name),
              (unsigned long long)message->value);
}

static void on_pong(struct process *process, const struct channel_message *message)
{
    if (message->value == process->ping)
        process->ping_ms = 0;
}

/* Said by the process that leaves; it may have been reported already, when these are its last
 * words.
 */
static void on_shed(struct process *process, const struct channel_message *message)
{
    char name[48];

    if (process->kind != PROCESS_WORKER || process->left || message->value < 2 ||
        message->value > INT32_MAX) {
        log_write(LOG_ERROR, "master", "%s sheds out of turn and is killed",
                  process_name(process, name));
        process_kill(process);
        return;
    }
    process->left = process->gone ? 0 : process->pid;
    process->gone = false;
    process->pid = (pid_t)message->value;
    log_write(LOG_NOTICE, "master", "%s goes on without its store threads",
              process_name(process, name));
}

static const process_handler handlers[CHANNEL_TYPES] = {
    [CHANNEL_READY] = on_ready,
    [CHANNEL_FAILED] = on_failed,
    [CHANNEL_STORE_FAILED] = on_store_failed,
    [CHANNEL_STORE_STOPPED] = on_store_stopped,
    [CHANNEL_STORE_OPENED] = on_store_opened,
    [CHANNEL_PONG] = on_pong,
    [CHANNEL_SHED] = on_shed,
};

/* Takes every message that is there. False when no more will come. */
static bool process_receive(struct process *process)
{
    struct channel_message message;
    char name[48];
    struct err err;

    for (;;) {
        int got = channel_receive(process->watch.fd, &message, &err);

        if (got == 0)
            return true;
        if (got > 0 && !handlers[message.type])
            got = err_set(&err, EPROTO, "channel: message %u is not one of a child", message.type);
        if (got < 0) {
            if (err.code != 0) {
                log_write(LOG_ERROR, "master", "%s: %s; it is killed", process_name(process, name),
                          err.text);
                process_kill(process);
            }
            return false;
        }
        handlers[message.type](process, &message);
    }
}

void process_ready(struct loop_watch *watch, uint32_t events)
{
    struct process *process = CONTAINER_OF(watch, struct process, watch);

    (void)events;
    if (!process_receive(process))
        loop_unwatch(process->master->loop, &process->watch);
}

/* --- ends --- */

static struct process *process_find(struct master *master, pid_t pid)
{
    for (unsigned slot = 0; slot < ZONE_SLOTS; slot++)
        if (master->processes[slot].kind != PROCESS_NONE &&
            ((master->processes[slot].pid == pid && !master->processes[slot].gone) ||
             master->processes[slot].left == pid))
            return &master->processes[slot];
    return NULL;
}

static void process_log_end(const struct process *process, int status, bool inside)
{
    char name[48], text[PROC_STATUS_SIZE];
    bool fine = WIFEXITED(status) && WEXITSTATUS(status) == 0;

    log_write(fine || process->expected ? LOG_INFO : LOG_ERROR, "master", "%s %s%s",
              process_name(process, name), proc_status_text(status, text),
              inside ? " inside the store" : "");
}

static void process_tell_end(struct process *process, int status, bool inside)
{
    bool fine = WIFEXITED(status) && WEXITSTATUS(status) == 0;

    if (process->kind == PROCESS_KEEPER)
        process_tell_recovery(process, RECOVERY_EVENT_KEEPER_DIED,
                              WIFEXITED(status) ? (uint64_t)WEXITSTATUS(status)
                                                : 256u + (uint64_t)WTERMSIG(status));
    else if (process->kind == PROCESS_HELPER)
        process_tell_recovery(process,
                              fine ? RECOVERY_EVENT_HELPER_FINE : RECOVERY_EVENT_HELPER_BAD, 0);
    else if (inside)
        process_tell_recovery(process, RECOVERY_EVENT_DIED_INSIDE, 0);
    else
        process_tell_recovery(process, fine ? RECOVERY_EVENT_ENDED : RECOVERY_EVENT_DIED, 0);
}

/* One whose threads were left behind has ended. */
static void process_left(struct process *process, pid_t pid, int status)
{
    char text[PROC_STATUS_SIZE];
    bool fine = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SHED;

    process->left = 0;
    log_write(fine ? LOG_INFO : LOG_ERROR, "master",
              "%d, which worker %u left with its store threads, %s", (int)pid, process->index,
              proc_status_text(status, text));
    zone_slot_shed(process->master->zone, process->slot, process->pid);
    process_tell_recovery(process, RECOVERY_EVENT_STOPPED, 0);
}

static void process_end(struct process *process, int status)
{
    struct master *master = process->master;
    /* In a dead zone it may have been the one that was to say so. */
    bool inside = zone_slot_inside(master->zone, process->slot) ||
                  atomic_load(&master->zone->state) == ZONE_DEAD;
    const char *failure = NULL;
    struct process ended;

    loop_unwatch(master->loop, &process->watch);
    loop_timer_cancel(master->loop, &process->deadline);
    close(process->watch.fd);
    process_log_end(process, status, inside);

    tally_ended(master->tally, process->slot);
    /* The entry is free before anyone hears of it: the slot may be given away at once. */
    ended = *process;
    *process = (struct process){0};
    if (ended.kind == PROCESS_WORKER && ended.fresh)
        reload_worker_ended(master, process);
    else if (ended.kind == PROCESS_WORKER)
        failure = workers_ended(master, process, &ended, status);
    process_tell_end(&ended, status, inside);
    if (failure)
        master_fail(master, failure);
    workers_fill(master);
    master_check_stopped(master);
}

/* Two processes share an entry for a while, and end in any order. */
static void process_reaped(struct process *process, pid_t pid, int status)
{
    if (pid == process->pid) {
        process->gone = true;
        process->status = status;
        /* Its last words first: a reason, that the store has failed, or that another process goes
         * on in its place. */
        if (process->watch.events)
            process_receive(process);
    }
    if (pid != process->pid)
        process_left(process, pid, status);
    if (process->gone && !process->left)
        process_end(process, process->status);
}

void process_reap(struct master *master)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        struct process *process = process_find(master, pid);

        if (process)
            process_reaped(process, pid, status);
        else
            log_write(LOG_DEBUG, "master", "orphan %d has ended", (int)pid);
    }
}

unsigned process_count_workers(const struct master *master)
{
    unsigned count = 0;

    for (unsigned slot = 0; slot < ZONE_WORKERS; slot++)
        count += master->processes[slot].kind == PROCESS_WORKER;
    return count;
}
