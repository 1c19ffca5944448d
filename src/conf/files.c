#include "conf/files.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/conf.h"
#include "os/calls.h"
#include "os/priv.h"

/* Says what is wrong with setting `key`; for a default the line names the setting. */
static int complain(const struct conf *conf, struct conf_errors *errors, const char *key,
                    const char *path, const char *problem)
{
    return conf_errors_add(errors, conf_place_of(conf, key), "`%s`: %s: %s", key, path, problem);
}

/* Cuts the last component off; false when only the root or a single name is left. */
static bool strip_component(char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        path[--length] = 0;
    char *slash = strrchr(path, '/');
    if (slash == NULL || length <= 1)
        return false;
    slash[slash == path ? 1 : 0] = 0;
    return true;
}

/* The directory `path` exists or can be created, and something can be created in it. */
static int check_directory(const struct conf *conf, struct conf_errors *errors, const char *key,
                           const char *path)
{
    char present[PATH_MAX];
    struct stat status;

    (void)snprintf(present, sizeof(present), "%s", path);
    while (stat(present, &status) != 0) {
        if (errno != ENOENT || !strip_component(present))
            return complain(conf, errors, key, present, strerror(errno));
    }
    if (!S_ISDIR(status.st_mode))
        return complain(conf, errors, key, present, "is not a directory");
    if (faccessat(AT_FDCWD, present, W_OK | X_OK, AT_EACCESS) != 0)
        return complain(conf, errors, key, present, strerror(errno));
    return 0;
}

/* The file `path` is writable or could be created. */
static int check_file(const struct conf *conf, struct conf_errors *errors, const char *key,
                      const char *path)
{
    char directory[PATH_MAX];
    int fd = os_open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0) {
        (void)os_close(fd);
        return 0;
    }
    if (errno != ENOENT)
        return complain(conf, errors, key, path, strerror(errno));
    (void)snprintf(directory, sizeof(directory), "%s", path);
    (void)strip_component(directory);
    return check_directory(conf, errors, key, directory);
}

static int check_listeners(const struct conf *conf, struct conf_errors *errors)
{
    int result = 0;
    for (size_t i = 0; i < conf->listen_count; i++) {
        const char *address = conf->listen[i].address;
        if (strncmp(address, "unix:", 5) != 0)
            continue;
        char key[64], directory[PATH_MAX];
        (void)snprintf(key, sizeof(key), "listen.%zu.address", i);
        (void)snprintf(directory, sizeof(directory), "%s", address + 5);
        (void)strip_component(directory);
        if (check_directory(conf, errors, key, directory) != 0)
            result = -1;
    }
    return result;
}

/* An account that getpwnam or getgrnam does not find; `program` would make it. */
static int complain_account(const struct conf *conf, struct conf_errors *errors, const char *key,
                            const char *name, const char *program)
{
    char problem[512];

    if (errno != 0)
        return complain(conf, errors, key, name, strerror(errno));
    (void)snprintf(problem, sizeof(problem),
                   "no such %s; make it with `%s --system %s`, or set `%s`", key, program, name,
                   key);
    return complain(conf, errors, key, name, problem);
}

static int check_user(const struct conf *conf, struct conf_errors *errors)
{
    int result = 0;

    errno = 0;
    const struct passwd *user = getpwnam(conf->user);
    if (user == NULL)
        result = complain_account(conf, errors, "user", conf->user, "useradd");
    else if (user->pw_uid == 0)
        conf_errors_warn(errors, conf_place_of(conf, "user"),
                         "`user`: %s: workers will have all rights of root", conf->user);
    /* A group of the user's name comes with the user. */
    if (user == NULL && strcmp(conf->user, conf->group) == 0)
        return result;
    errno = 0;
    if (getgrnam(conf->group) == NULL)
        result = complain_account(conf, errors, "group", conf->group, "groupadd");
    return result;
}

int conf_check_files(const struct conf *conf, struct conf_errors *errors)
{
    int result = 0;

    if (priv_is_root())
        result |= check_user(conf, errors);
    result |= check_file(conf, errors, "pid_file", conf->pid_file);
    if (strcmp(conf->error_log.path, "stderr") != 0 && strcmp(conf->error_log.path, "syslog") != 0)
        result |= check_file(conf, errors, "error_log.path", conf->error_log.path);
    result |= check_listeners(conf, errors);
    result |= check_directory(conf, errors, "store.path", conf->store.path);
    if (conf->store.regions != NULL)
        result |= check_directory(conf, errors, "store.regions", conf->store.regions);
    return result;
}
