#include "master/regions.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "core/str.h"
#include "os/io.h"
#include "os/log.h"
#include "store/page_guard.h"
#include "store/queue_file.h"

#define REGIONS_MODE 0700

static bool is_tmpfs(const char *path)
{
    bool is = false;

    return io_is_tmpfs(path, &is, NULL) == 0 && is;
}

/* A directory in a place where others can write is used only when nobody else can have made it or
 * can look into it. */
static int regions_check(const char *path, const struct priv *priv, bool may_chown, struct err *err)
{
    struct stat status;

    if (lstat(path, &status) < 0)
        return err_set_errno(err, errno, "%s", path);
    if (!S_ISDIR(status.st_mode))
        return err_set(err, ENOTDIR, "%s is not a directory", path);
    if (status.st_uid != priv->uid && !may_chown)
        return err_set(err, EPERM, "%s belongs to user %u and not to %u", path, status.st_uid,
                       priv->uid);
    if (status.st_uid != priv->uid && lchown(path, priv->uid, priv->gid) < 0)
        return err_set_errno(err, errno, "chown %s", path);
    if ((status.st_mode & 07777) != REGIONS_MODE && chmod(path, REGIONS_MODE) < 0)
        return err_set_errno(err, errno, "chmod %s", path);
    return 0;
}

int regions_ensure(const char *path, const struct priv *priv, struct err *err)
{
    return io_make_dirs(path, REGIONS_MODE, priv->uid, priv->gid, err);
}

static int regions_try(const char *path, const struct priv *priv, bool may_chown)
{
    struct err err;

    if (regions_ensure(path, priv, &err) == 0 && regions_check(path, priv, may_chown, &err) == 0)
        return 0;
    log_write(LOG_NOTICE, "master", "region files cannot be in %s: %s", path, err.text);
    return -1;
}

static void warn_about_disk(const char *path)
{
    log_write(LOG_WARN, "master",
              "region files are in %s, which is not on tmpfs: the disk will be busy with them",
              path);
}

int regions_resolve(const struct conf *conf, const struct priv *priv, bool root, char *path,
                    size_t size, struct err *err)
{
    char real[PATH_MAX];
    unsigned long long hash;

    if (conf->store.regions) {
        if (io_path_join(path, size, "/", conf->store.regions, err) < 0 ||
            regions_ensure(path, priv, err) < 0)
            return err_prefix(err, "store.regions");
        if (!is_tmpfs(path))
            warn_about_disk(path);
        return 0;
    }
    if (!realpath(conf->store.path, real))
        return err_set_errno(err, errno, "store.path %s", conf->store.path);
    hash = str_hash(str_from_c(real), 0);
    if (is_tmpfs(FILAD_RUNSTATEDIR)) {
        snprintf(path, size, "%s/filad/%016llx", FILAD_RUNSTATEDIR, hash);
        if (regions_try(path, priv, root) == 0)
            return 0;
    }
    if (is_tmpfs("/dev/shm")) {
        snprintf(path, size, "/dev/shm/filad-%u-%016llx", priv->uid, hash);
        if (regions_try(path, priv, false) == 0)
            return 0;
    }
    if (io_path_join(path, size, real, "regions", err) < 0 || regions_ensure(path, priv, err) < 0)
        return err_prefix(err, "directory of the region files");
    warn_about_disk(path);
    return 0;
}

/* What the store made there; the files of Berkeley DB begin alike. */
static bool is_ours(const char *name)
{
    return strncmp(name, "__db.", 5) == 0 || strcmp(name, PAGE_GUARD_FILE) == 0 ||
           strcmp(name, QUEUE_FILE_EMPTY) == 0;
}

void regions_remove(const struct conf *conf, const char *path, bool clean)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    bool kept = false;

    if (!directory)
        return;
    while ((entry = readdir(directory))) {
        bool pages = strcmp(entry->d_name, PAGE_GUARD_FILE) == 0;

        if (!is_ours(entry->d_name))
            continue;
        if (pages && !clean)
            kept = true;
        else if (unlinkat(dirfd(directory), entry->d_name, 0) < 0)
            log_errno(LOG_WARN, "master", errno, "remove %s/%s", path, entry->d_name);
    }
    closedir(directory);
    if (!conf->store.regions && !kept && rmdir(path) < 0)
        log_errno(LOG_WARN, "master", errno, "remove %s", path);
}
