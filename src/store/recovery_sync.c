#include "store/recovery_sync.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "os/calls.h"

static int directory = -1; /* on the file system in question; -1: nothing is put off */
static unsigned asked;     /* syncs of databases since begin */
static bool pending;       /* some were put off */

void recovery_sync_begin(const char *path)
{
    directory = os_open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    asked = 0;
    pending = false;
}

static bool is_log(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof(path) - 1);
    if (size < 0)
        return true; /* not known: treated with more care */
    path[size] = '\0';
    const char *name = strrchr(path, '/');
    return !name || strncmp(name, "/log.", 5) == 0;
}

bool recovery_sync_later(int fd)
{
    if (directory < 0 || is_log(fd) || asked++ < RECOVERY_SYNC_SINGLE)
        return false;
    pending = true;
    return true;
}

int recovery_sync_now(void)
{
    if (!pending)
        return 0;
    if (os_syncfs(directory) != 0)
        return errno;
    pending = false;
    return 0;
}

int recovery_sync_end(void)
{
    int result = recovery_sync_now();
    if (directory >= 0)
        (void)os_close(directory);
    directory = -1;
    pending = false;
    return result;
}
