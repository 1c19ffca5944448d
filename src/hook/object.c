#include "hook/object.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hook/hook.h"

#define OBJECTS_MAX 256 /* in the life of a process */

struct object {
    char *path;       /* without links */
    struct stat file; /* as it was loaded */
    void *handle;     /* of dlopen, never closed */
    const struct hook_module *module;
};

/* Loaded code belongs to the process as a whole. */
static struct object objects[OBJECTS_MAX];
static size_t object_count;

/* Nobody but root and this user may have written it; the owner of a directory with the sticky bit
 * lets others do nothing to the file. */
static int check_owner(const struct stat *status, const char *path, struct err *err)
{
    bool sticky = S_ISDIR(status->st_mode) && (status->st_mode & S_ISVTX);

    if (status->st_uid != 0 && status->st_uid != geteuid())
        return err_set(err, EPERM, "%s belongs to user %u, neither to root nor to user %u", path,
                       (unsigned)status->st_uid, (unsigned)geteuid());
    if (!sticky && (status->st_mode & (S_IWGRP | S_IWOTH)))
        return err_set(err, EPERM, "%s may be written by others (mode %03o): chmod go-w", path,
                       (unsigned)status->st_mode & 0777u);
    return 0;
}

static int check_file(const char *path, struct stat *status, struct err *err)
{
    char directory[PATH_MAX];
    struct stat above;
    size_t size = (size_t)(strrchr(path, '/') - path);

    memcpy(directory, path, size);
    directory[size] = '\0';
    if (size == 0)
        memcpy(directory, "/", 2);
    if (stat(path, status) < 0)
        return err_set_errno(err, errno, "%s", path);
    if (!S_ISREG(status->st_mode))
        return err_set(err, EINVAL, "%s is not a file", path);
    if (stat(directory, &above) < 0)
        return err_set_errno(err, errno, "%s", directory);
    return check_owner(&above, directory, err) < 0 ? -1 : check_owner(status, path, err);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool unchanged(const struct stat *a, const struct stat *b)
{
    return same_file(a, b) && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* One that is in memory; NULL without reason when there is none. */
static const struct hook_module *find_object(const char *path, const struct stat *status,
                                             bool *stale)
{
    *stale = false;
    for (size_t i = 0; i < object_count; i++) {
        if (unchanged(&objects[i].file, status))
            return objects[i].module;
        /* dlopen would give back the old one, or its memory has changed with the file. */
        *stale |= same_file(&objects[i].file, status) || strcmp(objects[i].path, path) == 0;
    }
    return NULL;
}

static int open_object(struct object *object, struct err *err)
{
    const struct hook_module *const *module;

    object->handle = dlopen(object->path, RTLD_NOW | RTLD_LOCAL);
    if (!object->handle) {
        const char *reason = dlerror();

        return err_set(err, EINVAL, "%s", reason ? reason : object->path);
    }
    module = dlsym(object->handle, "filad_module");
    object->module = module ? *module : NULL;
    if (!object->module)
        err_set(err, EINVAL, "%s is no module of filad: it has no filad_module", object->path);
    else if (signature_check(object->module->signature, object->path, err) == 0)
        return 0;
    (void)dlclose(object->handle);
    return -1;
}

const struct hook_module *object_load(const char *path, struct err *err)
{
    struct object object = {.path = realpath(path, NULL)};
    const struct hook_module *module = NULL;
    bool stale = false;

    if (!object.path) {
        err_set_errno(err, errno, "%s", path);
        return NULL;
    }
    if (check_file(object.path, &object.file, err) < 0)
        goto out;
    module = find_object(object.path, &object.file, &stale);
    if (module)
        goto out;
    if (stale) {
        err_set(err, ESTALE, "%s has changed since it was loaded; it needs a restart", path);
    } else if (object_count == OBJECTS_MAX) {
        err_set(err, ENOSPC, "%d modules were loaded already; it needs a restart", OBJECTS_MAX);
    } else if (open_object(&object, err) == 0) {
        objects[object_count++] = object;
        return object.module;
    }
out:
    free(object.path);
    return module;
}

const char *object_path(const struct hook_module *module)
{
    for (size_t i = 0; i < object_count; i++)
        if (objects[i].module == module)
            return objects[i].path;
    return NULL;
}
