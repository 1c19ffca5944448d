#include "master/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "event/channel.h"
#include "hook/hook.h"
#include "keeper/keeper.h"
#include "master/control.h"
#include "master/process.h"
#include "master/regions.h"
#include "master/reload.h"
#include "os/log.h"
#include "os/proc.h"
#include "os/sig.h"
#include "worker/worker.h"

/* What a child needs of its parent's world. */
struct spawn_child {
    struct master *master;
    const struct spawn_source *source;
    unsigned slot;
    unsigned index;
    int channel;
};

struct spawn_role {
    enum process_kind kind;
    const char *name;
    bool limit_of_worker; /* worker_rlimit_nofile; else as many files as there can be */
    int (*run)(const struct spawn_child *child);
};

/* The modules of a child; NULL, with the master told: it cannot begin. */
static struct hook_processes *start_modules(const struct spawn_child *child, enum hook_role role)
{
    const struct conf *conf = child->source->conf;
    struct err err, unsent;
    struct hook_processes *modules = hook_processes_start(role, conf->hooks, conf, &err);

    if (modules)
        return modules;
    log_write(LOG_ERROR, "master", "%s", err.text);
    if (channel_send(child->channel, CHANNEL_FAILED, 0, err.text, &unsent) < 0)
        log_write(LOG_ERROR, "master", "tell the master: %s", unsent.text);
    return NULL;
}

static int run_worker(const struct spawn_child *child)
{
    struct worker_options options = {
        .zone = child->master->zone,
        .slot = child->slot,
        .conf = child->source->conf,
        .channel = child->channel,
        .listeners = child->source->listeners->fds,
        .regions = child->master->regions,
        .tally = child->master->tally,
    };
    struct hook_processes *modules = start_modules(child, HOOK_WORKER);
    int status = modules ? worker_run(&options) : EXIT_CONFIGURATION;

    hook_processes_exit(modules);
    return status;
}

static struct keeper_options keeper_options_of(const struct spawn_child *child)
{
    return (struct keeper_options){
        .zone = child->master->zone,
        .conf = child->source->conf,
        .channel = child->channel,
        .regions = child->master->regions,
    };
}

static int run_keeper(const struct spawn_child *child)
{
    struct keeper_options options = keeper_options_of(child);
    struct hook_processes *modules = start_modules(child, HOOK_KEEPER);
    int status = modules ? keeper_run(&options) : EXIT_CONFIGURATION;

    hook_processes_exit(modules);
    return status;
}

static int run_helper(const struct spawn_child *child)
{
    struct keeper_options options = keeper_options_of(child);

    close(child->channel);
    options.channel = -1;
    return keeper_failchk(&options);
}

static const struct spawn_role role_worker = {PROCESS_WORKER, "worker", true, run_worker};
static const struct spawn_role role_keeper = {PROCESS_KEEPER, "keeper", false, run_keeper};
static const struct spawn_role role_helper = {PROCESS_HELPER, "helper", false, run_helper};

/* --- in the child --- */

/* Close-on-exec does nothing without exec: whatever a child must not have is closed by hand. A
 * sibling's channel, for one, would keep its end from being noticed. */
static void child_forget(const struct spawn_child *child)
{
    struct master *master = child->master;
    const struct listeners *mine = child->source->listeners; /* NULL: none */

    for (unsigned slot = 0; slot < ZONE_SLOTS; slot++)
        if (master->processes[slot].kind != PROCESS_NONE && master->processes[slot].watch.fd >= 0)
            close(master->processes[slot].watch.fd);
    listeners_forget(&master->listeners, mine);
    reload_forget(master, mine);
    control_forget(master);
    if (master->signals.fd >= 0)
        close(master->signals.fd);
    if (master->pid_file >= 0)
        close(master->pid_file);
    if (master->daemon >= 0)
        close(master->daemon);
    loop_destroy(master->loop);
}

/* What is typed at the terminal or sent to the group is the master's to decide about. */
static void child_signals(void)
{
    static const int ignored[] = {SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE};
    const size_t count = sizeof ignored / sizeof ignored[0];

    /* Ignoring also throws away what is pending, before and after all is unblocked. */
    for (size_t i = 0; i < count; i++)
        sig_ignore(ignored[i]);
    sig_reset();
    for (size_t i = 0; i < count; i++)
        sig_ignore(ignored[i]);
}

/* The process that started a background broker may wait for the end of its standard error; the
 * master lets go of it when it is ready, children forked before that do it here. */
static void child_stderr(const struct master *master)
{
    int null;

    if (master->daemon < 0 || strcmp(master->conf->error_log.path, "stderr") == 0)
        return;
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return;
    dup2(null, STDERR_FILENO);
    close(null);
}

static void child_limits(const struct spawn_child *child, const struct spawn_role *role)
{
    uint64_t wanted = role->limit_of_worker ? child->source->conf->worker_rlimit_nofile : 0;
    uint64_t got = 0;
    struct err err;

    if (proc_raise_nofile(wanted, &got, &err) < 0)
        log_write(LOG_WARN, "master", "%s", err.text);
    else if (got < wanted)
        log_write(LOG_INFO, "master", "worker_rlimit_nofile: only %llu of %llu are allowed",
                  (unsigned long long)got, (unsigned long long)wanted);
}

static void child_name(const struct spawn_child *child, const struct spawn_role *role)
{
    char name[16], comm[16];

    if (role->kind == PROCESS_WORKER)
        snprintf(name, sizeof name, "%s %u", role->name, child->index % 1000);
    else
        snprintf(name, sizeof name, "%s", role->name);
    snprintf(comm, sizeof comm, "filad: %.8s", name);
    log_set_process(name);
    proc_title(comm, "filad: %s", name);
}

static _Noreturn void child_main(const struct spawn_child *child, const struct spawn_role *role)
{
    struct master *master = child->master;
    struct err err;

    child_signals();
    child_name(child, role);
    child_stderr(master);
    child_forget(child);
    atomic_store(&master->zone->slots[child->slot].pid, (int32_t)getpid());
    child_limits(child, role);
    if (master->root && priv_drop(&master->priv, &err) < 0) {
        log_write(LOG_ERROR, "master", "%s", err.text);
        if (channel_send(child->channel, CHANNEL_FAILED, 0, err.text, NULL) < 0)
            log_write(LOG_ERROR, "master", "the master cannot be told");
        _exit(EXIT_CONFIGURATION);
    }
    _exit(role->run(child));
}

/* --- in the master --- */

static struct process *spawn_enter(struct master *master, const struct spawn_role *role,
                                   const struct spawn_child *child, pid_t pid, int channel)
{
    struct process *process = &master->processes[child->slot];

    *process = (struct process){
        .kind = role->kind,
        .pid = pid,
        .slot = child->slot,
        .index = child->index,
        .master = master,
        .watch = {.fd = channel, .ready = process_ready},
        .deadline = {.expired = process_deadline},
        .started_ms = loop_now_ms(master->loop),
    };
    return process;
}

static struct process *spawn(struct master *master, const struct spawn_role *role, unsigned slot,
                             unsigned index, const struct spawn_source *source, struct err *err)
{
    struct spawn_child child = {master, source, slot, index, -1};
    struct process *process;
    int fds[2];
    pid_t pid;

    if (channel_pair(fds, err) < 0)
        return NULL;
    zone_slot_prepare(master->zone, slot);
    child.channel = fds[1];
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        child_main(&child, role);
    }
    close(fds[1]);
    if (pid < 0) {
        err_set_errno(err, errno, "fork %s", role->name);
        close(fds[0]);
        zone_slot_release(master->zone, slot);
        return NULL;
    }
    atomic_store(&master->zone->slots[slot].pid, (int32_t)pid);
    process = spawn_enter(master, role, &child, pid, fds[0]);
    if (loop_watch(master->loop, &process->watch, EPOLLIN, err) < 0) {
        /* Unheard it is of no use; its death is met as any other. */
        log_write(LOG_ERROR, "master", "%s", err->text);
        process_kill(process);
    }
    log_write(LOG_INFO, "master", "%s %d started in slot %u", role->name, (int)pid, slot);
    return process;
}

struct process *spawn_worker(struct master *master, unsigned index,
                             const struct spawn_source *source, struct err *err)
{
    int slot = zone_slot_free(master->zone);

    if (slot < 0) {
        err_set(err, EAGAIN, "fork worker: all %d slots are taken", ZONE_WORKERS);
        return NULL;
    }
    return spawn(master, &role_worker, (unsigned)slot, index, source, err);
}

static struct process *spawn_single(struct master *master, const struct spawn_role *role,
                                    unsigned slot, struct err *err)
{
    struct spawn_source source = {.conf = master->conf};

    /* The directory may have been removed since the start. */
    if (regions_ensure(master->regions, &master->priv, err) < 0) {
        err_prefix(err, "fork %s", role->name);
        return NULL;
    }
    return spawn(master, role, slot, 0, &source, err);
}

struct process *spawn_keeper(struct master *master, struct err *err)
{
    return spawn_single(master, &role_keeper, ZONE_SLOT_KEEPER, err);
}

struct process *spawn_helper(struct master *master, struct err *err)
{
    return spawn_single(master, &role_helper, ZONE_SLOT_HELPER, err);
}
