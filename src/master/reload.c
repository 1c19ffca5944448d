#include "master/reload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "event/channel.h"
#include "hook/hook.h"
#include "hook/tally.h"
#include "master/control.h"
#include "master/load.h"
#include "master/master.h"
#include "master/process.h"
#include "master/setup.h"
#include "master/spawn.h"
#include "os/log.h"
#include "os/notify.h"

enum reload_phase {
    RELOAD_IDLE,
    RELOAD_PREPARED, /* everything is checked and open; waits until workers may be forked */
    RELOAD_FORKED,   /* waits for their READY */
};

struct reload {
    enum reload_phase phase;
    uint64_t number;   /* of the one under way, or the last */
    bool again;        /* another was asked for meanwhile */
    bool logs_new;     /* this process writes to the new log */
    struct conf *conf; /* NULL when idle */
    struct listeners listeners;
    struct hook_processes *modules;          /* what they began here with `conf`; NULL: nothing */
    struct process *fresh[CONF_WORKERS_MAX]; /* by index; NULL: not forked, or ended */
    struct loop_timer timer;
    struct master *master;
};

/* --- what cannot change --- */

enum fixed_type { FIXED_STRING, FIXED_U64, FIXED_BOOL, FIXED_ENUM };

struct fixed_setting {
    const char *name;
    enum fixed_type type;
    size_t offset;
};

#define FIXED(type, setting, member)                                                               \
    {                                                                                              \
        setting, type, offsetof(struct conf, member)                                               \
    }

static const struct fixed_setting fixed_settings[] = {
    FIXED(FIXED_STRING, "user", user),
    FIXED(FIXED_STRING, "group", group),
    FIXED(FIXED_BOOL, "daemon", daemon),
    FIXED(FIXED_STRING, "pid_file", pid_file),
    FIXED(FIXED_U64, "shared_memory", shared_memory),
    FIXED(FIXED_STRING, "store.path", store.path),
    FIXED(FIXED_STRING, "store.regions", store.regions),
    FIXED(FIXED_U64, "store.reserve", store.reserve),
    FIXED(FIXED_U64, "store.cache_size", store.cache_size),
    FIXED(FIXED_ENUM, "store.durability", store.durability),
    FIXED(FIXED_U64, "store.sync_interval", store.sync_interval_ms),
    FIXED(FIXED_U64, "store.checkpoint.bytes", store.checkpoint.bytes),
    FIXED(FIXED_U64, "store.checkpoint.interval", store.checkpoint.interval_ms),
};

static bool strings_equal(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool fixed_equal(const struct fixed_setting *setting, const struct conf *a,
                        const struct conf *b)
{
    const char *one = (const char *)a + setting->offset;
    const char *other = (const char *)b + setting->offset;
    const char *strings[2];

    switch (setting->type) {
    case FIXED_STRING:
        memcpy(&strings[0], one, sizeof strings[0]);
        memcpy(&strings[1], other, sizeof strings[1]);
        return strings_equal(strings[0], strings[1]);
    case FIXED_U64:
        return memcmp(one, other, sizeof(uint64_t)) == 0;
    case FIXED_BOOL:
        return memcmp(one, other, sizeof(bool)) == 0;
    case FIXED_ENUM:
        return memcmp(one, other, sizeof(enum conf_durability)) == 0;
    }
    return false;
}

static void check_fixed(const struct conf *old, const struct conf *new, struct conf_errors *errors)
{
    for (size_t i = 0; i < sizeof fixed_settings / sizeof fixed_settings[0]; i++)
        if (!fixed_equal(&fixed_settings[i], old, new))
            conf_errors_add(errors, conf_place_of(new, fixed_settings[i].name),
                            "`%s` cannot be changed by a reload; it needs a restart",
                            fixed_settings[i].name);
}

/* --- end --- */

static bool log_differs(const struct conf *a, const struct conf *b)
{
    return strcmp(a->error_log.path, b->error_log.path) != 0 ||
           a->error_log.level != b->error_log.level;
}

static void reload_close(struct reload *reload)
{
    struct err err;

    loop_timer_cancel(reload->master->loop, &reload->timer);
    memset(reload->fresh, 0, sizeof reload->fresh);
    reload->conf = NULL;
    reload->listeners = (struct listeners){0};
    reload->logs_new = false;
    reload->phase = RELOAD_IDLE;
    if (reload->master->started && reload->master->stopping == STOP_NONE && notify_ready(&err) < 0)
        log_write(LOG_WARN, "master", "%s", err.text);
}

/* One record for each line of `text`. */
static void reload_log(enum log_level level, const char *text)
{
    while (*text) {
        size_t size = strcspn(text, "\n");

        log_write(level, "master", "reload: %.*s", (int)size, text);
        text += size + (text[size] == '\n');
    }
}

/* Takes everything back. `reason` may have several lines. */
static void reload_fail(struct reload *reload, const char *reason)
{
    struct master *master = reload->master;
    struct err err;

    reload_log(LOG_ERROR, reason);
    log_write(LOG_ERROR, "master", "reload failed, nothing has changed");
    for (size_t i = 0; i < CONF_WORKERS_MAX; i++)
        if (reload->fresh[i]) {
            /* It serves nobody yet, or nobody who would not rather have the old configuration. */
            reload->fresh[i]->fresh = false;
            process_retire(reload->fresh[i], CHANNEL_DRAIN,
                           reload->conf->worker_shutdown_timeout_ms + MASTER_DRAIN_GRACE_MS);
        }
    if (reload->logs_new && setup_log(master, master->conf, &err) < 0)
        log_write(LOG_ERROR, "master", "%s", err.text);
    hook_processes_exit(reload->modules);
    reload->modules = NULL;
    /* Those of before had their places. */
    if (tally_enter(master->tally, master->conf->hooks, &err) < 0)
        log_write(LOG_ERROR, "master", "%s", err.text);
    if (reload->conf) {
        listeners_close(&reload->listeners, reload->conf, &master->listeners);
        conf_free(reload->conf);
    }
    reload_close(reload);
    control_reload_done(master, reload->number, reason);
}

static void reload_succeed(struct reload *reload)
{
    struct master *master = reload->master;
    struct process *fresh;

    for (unsigned slot = 0; slot < ZONE_WORKERS; slot++) {
        struct process *process = &master->processes[slot];

        if (process->kind == PROCESS_WORKER && !process->fresh && !process->leaving)
            process_retire(process, CHANNEL_DRAIN,
                           master->conf->worker_shutdown_timeout_ms + MASTER_DRAIN_GRACE_MS);
    }
    for (size_t i = 0; i < CONF_WORKERS_MAX; i++) {
        fresh = reload->fresh[i];
        master->places[i] = (struct place){.process = fresh};
        if (fresh)
            fresh->fresh = false;
    }
    hook_processes_exit(master->modules);
    master->modules = reload->modules;
    reload->modules = NULL;
    listeners_close(&master->listeners, master->conf, &reload->listeners);
    conf_free(master->conf);
    master->conf = reload->conf;
    master->listeners = reload->listeners;
    listeners_set_backlog(&master->listeners, master->conf);
    log_write(LOG_NOTICE, "master", "reloaded %s: %d workers", master->conf->file,
              master->conf->worker_processes);
    reload_close(reload);
    control_reload_done(master, reload->number, NULL);
}

/* --- beginning --- */

static int reload_check(struct reload *reload, struct conf_errors *errors)
{
    struct master *master = reload->master;

    reload->conf = load_conf(master->options, errors);
    if (!reload->conf)
        return -1;
    check_fixed(master->conf, reload->conf, errors);
    /* What it says is in `errors`. */
    if (load_check(reload->conf, errors) < 0 || errors->count > 0)
        return -1;
    return 0;
}

static int reload_open(struct reload *reload, struct conf_errors *errors)
{
    struct master *master = reload->master;
    struct err err;

    if (setup_directories(master, reload->conf, &err) < 0 ||
        listeners_open(&reload->listeners, reload->conf, &master->listeners, master->conf, &err) <
            0)
        return conf_errors_add(errors, (struct conf_place){.file = reload->conf->file}, "%s",
                               err.text);
    if (log_differs(master->conf, reload->conf)) {
        if (setup_log(master, reload->conf, &err) < 0)
            return conf_errors_add(errors, conf_place_of(reload->conf, "error_log.path"), "%s",
                                   err.text);
        reload->logs_new = true;
    }
    return 0;
}

/* The modules of the new configuration begin beside those of the old one, which end when it is in
 * force. */
static int reload_modules(struct reload *reload, struct conf_errors *errors)
{
    const struct conf *conf = reload->conf;
    struct err err;

    if (tally_enter(reload->master->tally, conf->hooks, &err) == 0)
        reload->modules = hook_processes_start(HOOK_MASTER, conf->hooks, conf, &err);
    if (!reload->modules)
        return conf_errors_add(errors, (struct conf_place){.file = conf->file}, "%s", err.text);
    return 0;
}

static void reload_begin(struct reload *reload)
{
    struct conf_errors errors;
    struct err err;

    reload->number++;
    if (notify_reloading(&err) < 0)
        log_write(LOG_WARN, "master", "%s", err.text);
    conf_errors_init(&errors);
    if (reload_check(reload, &errors) < 0 || reload_open(reload, &errors) < 0 ||
        reload_modules(reload, &errors) < 0) {
        reload_fail(reload, conf_errors_text(&errors));
        conf_errors_free(&errors);
        return;
    }
    reload_log(LOG_WARN, conf_errors_warnings(&errors));
    conf_errors_free(&errors);
    reload->phase = RELOAD_PREPARED;
    loop_timer_set(reload->master->loop, &reload->timer, RELOAD_READY_MS);
    reload_continue(reload->master);
}

/* After the end of one: `again` may have come in meanwhile. */
static void reload_run(struct reload *reload)
{
    do {
        reload->again = false;
        reload_begin(reload);
    } while (reload->again && reload->phase == RELOAD_IDLE);
}

static void reload_refuse(struct master *master, const char *reason)
{
    log_write(LOG_WARN, "master", "no reload: %s", reason);
    control_reload_done(master, UINT64_MAX, reason);
}

uint64_t reload_ticket(const struct master *master)
{
    return master->reload->number + 1;
}

void reload_request(struct master *master)
{
    struct reload *reload = master->reload;

    if (master->stopping != STOP_NONE) {
        reload_refuse(master, "the broker is stopping");
    } else if (!master->started) {
        reload_refuse(master, "the broker is starting");
    } else if (reload->phase != RELOAD_IDLE) {
        log_write(LOG_NOTICE, "master", "a reload is running, the next one begins after it");
        reload->again = true;
    } else {
        reload_run(reload);
    }
}

/* --- the new workers --- */

static void reload_end(struct reload *reload, const char *failure)
{
    if (failure)
        reload_fail(reload, failure);
    else
        reload_succeed(reload);
    if (reload->again && reload->master->stopping == STOP_NONE)
        reload_run(reload);
}

void reload_continue(struct master *master)
{
    struct reload *reload = master->reload;
    struct spawn_source source = {.conf = reload->conf, .listeners = &reload->listeners};
    struct err err;

    if (reload->phase != RELOAD_PREPARED || !recovery_may_spawn(master->recovery))
        return;
    reload->phase = RELOAD_FORKED;
    for (unsigned i = 0; i < (unsigned)reload->conf->worker_processes; i++) {
        struct process *process = spawn_worker(master, i, &source, &err);

        if (!process) {
            reload_end(reload, err.text);
            return;
        }
        process->fresh = true;
        reload->fresh[i] = process;
        recovery_event(master->recovery, RECOVERY_EVENT_WORKER, process->slot, 0,
                       loop_now_ms(master->loop));
    }
}

void reload_worker_ready(struct process *process)
{
    struct reload *reload = process->master->reload;

    for (unsigned i = 0; i < (unsigned)reload->conf->worker_processes; i++)
        if (!reload->fresh[i] || !reload->fresh[i]->ready)
            return;
    reload_end(reload, NULL);
}

void reload_worker_failed(struct process *process, const char *reason)
{
    reload_end(process->master->reload, reason);
}

void reload_worker_ended(struct master *master, const struct process *process)
{
    struct reload *reload = master->reload;

    for (unsigned i = 0; i < CONF_WORKERS_MAX; i++)
        if (reload->fresh[i] == process)
            reload->fresh[i] = NULL;
    if (reload->phase == RELOAD_FORKED)
        reload_end(reload, "a new worker has ended before it was ready");
}

static void reload_late(struct loop_timer *timer)
{
    struct reload *reload = CONTAINER_OF(timer, struct reload, timer);

    reload_end(reload, "the new workers were not ready in time");
}

/* --- life --- */

int reload_create(struct master *master, struct err *err)
{
    master->reload = calloc(1, sizeof *master->reload);
    if (!master->reload)
        return err_set(err, ENOMEM, "out of memory");
    master->reload->master = master;
    master->reload->timer.expired = reload_late;
    return 0;
}

void reload_abort(struct master *master)
{
    if (!master->reload || master->reload->phase == RELOAD_IDLE)
        return;
    master->reload->again = false;
    reload_fail(master->reload, "the broker is stopping");
    control_reload_done(master, UINT64_MAX, "the broker is stopping");
}

void reload_destroy(struct master *master)
{
    free(master->reload);
    master->reload = NULL;
}

void reload_forget(struct master *master, const struct listeners *keep)
{
    if (!master->reload || !master->reload->conf)
        return;
    /* Those taken over from the present configuration are not ours to close. */
    listeners_forget(&master->reload->listeners, keep ? keep : &master->listeners);
}
