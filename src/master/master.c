#include "master/master.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config.h"
#include "event/channel.h"
#include "master/heartbeat.h"
#include "master/load.h"
#include "master/process.h"
#include "master/reload.h"
#include "master/setup.h"
#include "master/workers.h"
#include "os/daemon.h"
#include "os/log.h"
#include "os/notify.h"
#include "os/proc.h"
#include "os/sig.h"

/* --- stopping --- */

static void master_retire_workers(struct master *master)
{
    bool fast = master->stopping == STOP_FAST;
    uint64_t drain_ms = master->conf->worker_shutdown_timeout_ms + MASTER_DRAIN_GRACE_MS;

    for (unsigned slot = 0; slot < ZONE_WORKERS; slot++) {
        struct process *process = &master->processes[slot];

        if (process->kind != PROCESS_WORKER || (process->leaving && !fast))
            continue;
        process_retire(process, fast ? CHANNEL_STOP : CHANNEL_DRAIN,
                       fast ? MASTER_STOP_MS : drain_ms);
    }
}

void master_stop(struct master *master, enum stop_mode mode)
{
    struct err err;

    if (mode <= master->stopping)
        return;
    log_write(LOG_NOTICE, "master", "%s", mode == STOP_FAST ? "stopping" : "draining");
    if (master->stopping == STOP_NONE && notify_stopping(&err) < 0)
        log_write(LOG_WARN, "master", "%s", err.text);
    master->stopping = mode;
    reload_abort(master);
    loop_timer_cancel(master->loop, &master->respawn_timer);
    master_retire_workers(master);
    master_check_stopped(master);
}

void master_check_stopped(struct master *master)
{
    if (master->stopping == STOP_NONE || master->closing || process_count_workers(master) > 0)
        return;
    master->closing = true;
    recovery_event(master->recovery, RECOVERY_EVENT_CLOSE, 0, 0, loop_now_ms(master->loop));
}

void master_fail(struct master *master, const char *reason)
{
    if (!master->failure.text[0]) {
        err_set(&master->failure, 0, "%s", reason);
        log_write(LOG_ERROR, "master", "%s: %s", master->started ? "cannot go on" : "cannot start",
                  reason);
    }
    master->exit_status = EXIT_FAILURE;
    master_stop(master, STOP_FAST);
}

/* --- starting --- */

void master_check_started(struct master *master)
{
    bool to_stderr = strcmp(master->conf->error_log.path, "stderr") == 0;
    struct err err;

    if (master->started || master->stopping != STOP_NONE ||
        recovery_state(master->recovery) != RECOVERY_OPEN || !workers_all_ready(master))
        return;
    master->started = true;
    log_write(LOG_NOTICE, "master", "filad %s serves with %d workers", FILAD_VERSION,
              master->conf->worker_processes);
    /* A service manager hears of the pid before the process that it started ends. */
    if ((master->daemon >= 0 && notify_main_pid(getpid(), &err) < 0) || notify_ready(&err) < 0 ||
        notify_status(&err, "serving with %d workers", master->conf->worker_processes) < 0)
        log_write(LOG_WARN, "master", "%s", err.text);
    daemon_ready(master->daemon, to_stderr);
    master->daemon = -1;
}

static void respawn_time(struct loop_timer *timer)
{
    workers_fill(CONTAINER_OF(timer, struct master, respawn_timer));
}

/* --- signals --- */

int master_reopen(struct master *master, struct err *err)
{
    if (log_reopen(err) < 0) {
        log_write(LOG_ERROR, "master", "%s", err->text);
        return -1;
    }
    setup_log_owner(master);
    process_send_all(master, CHANNEL_REOPEN, 0);
    log_write(LOG_NOTICE, "master", "the log was opened anew");
    return 0;
}

static void signal_fast(struct master *master)
{
    master_stop(master, STOP_FAST);
}

static void signal_drain(struct master *master)
{
    master_stop(master, STOP_DRAIN);
}

static void signal_reopen(struct master *master)
{
    struct err err;

    if (master_reopen(master, &err) < 0)
        return; /* it is in the log that is still open */
}

static void signal_upgrade(struct master *master)
{
    (void)master;
    log_write(LOG_WARN, "master", "SIGUSR2: replacing the executable is not in this build");
}

static const struct {
    int number;
    void (*run)(struct master *master);
} signal_actions[] = {
    {SIGTERM, signal_fast},   {SIGINT, signal_fast},     {SIGQUIT, signal_drain},
    {SIGUSR1, signal_reopen}, {SIGUSR2, signal_upgrade}, {SIGHUP, reload_request},
    {SIGCHLD, process_reap},
};

#define SIGNAL_ACTIONS (sizeof signal_actions / sizeof signal_actions[0])

static void signals_ready(struct loop_watch *watch, uint32_t events)
{
    struct master *master = CONTAINER_OF(watch, struct master, signals);
    int number;

    (void)events;
    while ((number = sig_read(watch->fd)) > 0) {
        if (number != SIGCHLD)
            log_write(LOG_NOTICE, "master", "signal %d (SIG%s)", number, sigabbrev_np(number));
        for (size_t i = 0; i < SIGNAL_ACTIONS; i++)
            if (signal_actions[i].number == number)
                signal_actions[i].run(master);
    }
}

static int signals_start(struct master *master, struct err *err)
{
    int numbers[SIGNAL_ACTIONS];

    for (size_t i = 0; i < SIGNAL_ACTIONS; i++)
        numbers[i] = signal_actions[i].number;
    sig_ignore(SIGPIPE);
    master->signals.ready = signals_ready;
    master->signals.fd = sig_open(numbers, SIGNAL_ACTIONS, err);
    if (master->signals.fd < 0)
        return -1;
    return loop_watch(master->loop, &master->signals, EPOLLIN, err);
}

/* --- running --- */

static int master_serve(struct master *master, struct err *err)
{
    if (setup_all(master, err) < 0 || signals_start(master, err) < 0)
        return -1;
    log_write(LOG_NOTICE, "master", "filad %s starts with %s%s, region files in %s", FILAD_VERSION,
              master->conf->missing ? "defaults, there is no " : "", master->conf->file,
              master->regions);
    master->respawn_timer.expired = respawn_time;
    heartbeat_start(master);
    recovery_event(master->recovery, RECOVERY_EVENT_START, 0, 0, loop_now_ms(master->loop));
    if (loop_run(master->loop, err) < 0)
        return -1;
    *err = master->failure;
    return err->text[0] ? -1 : 0;
}

/* Nobody is left behind, whatever ended the loop. */
static void master_kill_children(struct master *master)
{
    master->alone = true;
    for (unsigned slot = 0; slot < ZONE_SLOTS; slot++)
        if (master->processes[slot].kind != PROCESS_NONE) {
            master->alone = false;
            process_kill(&master->processes[slot]);
        }
}

static struct conf *master_load(const struct options *options)
{
    struct conf_errors errors;
    struct conf *conf;

    conf_errors_init(&errors);
    conf = load_conf(options, &errors);
    if (conf && load_check(conf, &errors) < 0) {
        conf_free(conf);
        conf = NULL;
    }
    load_report(&errors, options->quiet);
    conf_errors_free(&errors);
    return conf;
}

/* `options` is read again by a reload, in another working directory. */
static int master_detach(struct master *master, struct options *options)
{
    struct err err;

    if (!master->conf->daemon)
        return 0;
    if (options_make_absolute(options, &err) == 0)
        master->daemon = daemon_detach(&err);
    if (master->daemon < 0)
        fprintf(stderr, "filad: %s\n", err.text);
    return master->daemon < 0 ? -1 : 0;
}

/* Runs from here to the end of the broker; says what went wrong. */
static int master_live(struct master *master)
{
    struct err err = {0};
    bool started;
    int status, daemon;

    log_set_process("master");
    proc_title("filad: master", "filad: master process %s", master->conf->file);
    if (master_serve(master, &err) < 0) {
        master->exit_status = EXIT_FAILURE;
        if (!master->failure.text[0])
            log_write(LOG_ERROR, "master", "%s", err.text);
    } else if (!master->started) {
        err_set(&err, 0, "stopped before it had started");
    } else {
        log_write(LOG_NOTICE, "master", "ends");
    }
    master_kill_children(master);
    if (master->signals.fd >= 0)
        close(master->signals.fd);
    status = master->exit_status;
    started = master->started;
    daemon = master->daemon;
    setup_undo(master);
    /* Whoever reads it finds everything given back. */
    if (!started)
        daemon_failed(daemon, err.text);
    return status;
}

int master_run(const struct options *given)
{
    struct master *master = calloc(1, sizeof *master);
    struct options options = *given;
    int status = EXIT_FAILURE;

    if (!master) {
        fputs("filad: out of memory\n", stderr);
        return EXIT_FAILURE;
    }
    master->options = &options;
    master->daemon = master->pid_file = master->lock = master->signals.fd = -1;
    master->conf = master_load(&options);
    if (master->conf && master_detach(master, &options) == 0)
        status = master_live(master);
    else
        conf_free(master->conf);
    free(master);
    return status;
}
