#include "master/setup.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hook/hook.h"
#include "hook/tally.h"
#include "master/control.h"
#include "master/guard.h"
#include "master/regions.h"
#include "master/reload.h"
#include "os/daemon.h"
#include "os/io.h"
#include "os/log.h"
#include "os/proc.h"

#define MODE_DATA 0750
#define MODE_PUBLIC 0755

static int setup_user(struct master *master, struct err *err)
{
    master->root = priv_is_root();
    if (master->root)
        return priv_lookup(master->conf->user, master->conf->group, &master->priv, err);
    master->priv = (struct priv){.uid = geteuid(), .gid = getegid()};
    return 0;
}

/* --- directories and files --- */

/* The directory that `path` is in. */
static int directory_of(const char *path, char directory[PATH_MAX], struct err *err)
{
    size_t size = strlen(path);

    if (size >= PATH_MAX)
        return err_set_errno(err, ENAMETOOLONG, "%.64s", path);
    memcpy(directory, path, size + 1);
    while (size > 1 && directory[size - 1] != '/')
        size--;
    while (size > 1 && directory[size - 1] == '/')
        size--;
    directory[size] = '\0';
    return 0;
}

static int make_parent(const char *path, uid_t uid, gid_t gid, struct err *err)
{
    char directory[PATH_MAX];

    if (directory_of(path, directory, err) < 0)
        return -1;
    return io_make_dirs(directory, MODE_PUBLIC, uid, gid, err);
}

static bool log_is_file(const struct conf *conf)
{
    return conf->error_log.path[0] == '/';
}

int setup_directories(const struct master *master, const struct conf *conf, struct err *err)
{
    uid_t uid = master->priv.uid;
    gid_t gid = master->priv.gid;

    if (io_make_dirs(conf->store.path, MODE_DATA, uid, gid, err) < 0)
        return err_prefix(err, "store.path");
    if (log_is_file(conf) && make_parent(conf->error_log.path, uid, gid, err) < 0)
        return err_prefix(err, "error_log.path");
    if (make_parent(conf->pid_file, (uid_t)-1, (gid_t)-1, err) < 0)
        return err_prefix(err, "pid_file");
    for (size_t i = 0; i < conf->listen_count; i++) {
        const char *address = conf->listen[i].address;

        if (strncmp(address, "unix:", 5) == 0 &&
            make_parent(address + 5, (uid_t)-1, (gid_t)-1, err) < 0)
            return err_prefix(err, "listen on %s", address);
    }
    return 0;
}

void setup_log_owner(const struct master *master)
{
    struct err err;

    if (master->root && log_give(master->priv.uid, master->priv.gid, &err) < 0)
        log_write(LOG_WARN, "master", "%s", err.text);
}

int setup_log(const struct master *master, const struct conf *conf, struct err *err)
{
    if (log_open(conf->error_log.path, conf->error_log.level, err) < 0)
        return -1;
    setup_log_owner(master);
    return 0;
}

static int setup_lock(struct master *master, struct err *err)
{
    char path[PATH_MAX];

    if (io_path_join(path, sizeof path, master->conf->store.path, "lock", err) < 0)
        return err_prefix(err, "store.path");
    master->lock = daemon_lock(path, SETUP_LOCK_MS, err);
    if (master->lock < 0)
        return err_prefix(err, "the store %s is in use", master->conf->store.path);
    /* So that the same store can be served later without root. */
    if (master->root && fchown(master->lock, master->priv.uid, master->priv.gid) < 0)
        log_errno(LOG_WARN, "master", errno, "chown %s", path);
    return 0;
}

/* --- all of it --- */

static int setup_files(struct master *master, struct err *err)
{
    const struct conf *conf = master->conf;

    if (setup_user(master, err) < 0 || setup_directories(master, conf, err) < 0 ||
        setup_log(master, conf, err) < 0)
        return -1;
    master->pid_file = daemon_pid_open(conf->pid_file, err);
    if (master->pid_file < 0)
        return -1;
    return setup_lock(master, err);
}

static int setup_memory(struct master *master, struct err *err)
{
    const struct conf *conf = master->conf;

    if (listeners_open(&master->listeners, conf, NULL, NULL, err) < 0)
        return -1;
    master->zone = zone_map(conf->shared_memory, err);
    if (!master->zone)
        return err_prefix(err, "shared_memory");
    master->tally = tally_create(ZONE_SLOTS, err);
    if (!master->tally || tally_enter(master->tally, conf->hooks, err) < 0)
        return -1;
    master->modules = hook_processes_start(HOOK_MASTER, conf->hooks, conf, err);
    if (!master->modules)
        return -1;
    return regions_resolve(conf, &master->priv, master->root, master->regions,
                           sizeof master->regions, err);
}

int setup_all(struct master *master, struct err *err)
{
    if (setup_files(master, err) < 0 || setup_memory(master, err) < 0 ||
        proc_set_subreaper(err) < 0)
        return -1;
    master->loop = loop_create(err);
    if (!master->loop || guard_create(master, err) < 0 || reload_create(master, err) < 0)
        return -1;
    control_start(master);
    return 0;
}

void setup_undo(struct master *master)
{
    control_stop(master);
    reload_destroy(master);
    recovery_destroy(master->recovery);
    loop_destroy(master->loop);
    if (master->listeners.fds)
        listeners_close(&master->listeners, master->conf, NULL);
    hook_processes_exit(master->modules);
    tally_destroy(master->tally);
    zone_unmap(master->zone);
    /* While the lock is held: the next broker has not begun. */
    if (master->lock >= 0 && master->regions[0] && master->alone)
        regions_remove(master->conf, master->regions, master->clean);
    if (master->pid_file >= 0)
        daemon_pid_remove(master->pid_file, master->conf->pid_file);
    if (master->lock >= 0)
        close(master->lock);
    conf_free(master->conf);
}
