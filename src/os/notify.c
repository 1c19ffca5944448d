#define _GNU_SOURCE 1

#include "os/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "os/time.h"

int notify_send(const char *lines, struct err *err)
{
    const char *path = getenv("NOTIFY_SOCKET");
    if (!path || !path[0])
        return 0;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || size >= sizeof(address.sun_path))
        return err_set(err, EINVAL, "NOTIFY_SOCKET=%s is not a socket path", path);
    memcpy(address.sun_path, path, size);
    if (path[0] == '@')
        address.sun_path[0] = '\0'; /* an abstract name: every byte counts, none is added */

    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_set_errno(err, errno, "notify %s", path);
    socklen_t address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    ssize_t sent;
    do {
        sent = sendto(fd, lines, strlen(lines), MSG_NOSIGNAL, (struct sockaddr *)&address,
                      address_size);
    } while (sent < 0 && errno == EINTR);
    int failed = sent < 0 ? errno : 0;
    close(fd);
    return failed ? err_set_errno(err, failed, "notify %s", path) : 0;
}

int notify_ready(struct err *err)
{
    return notify_send("READY=1", err);
}

int notify_stopping(struct err *err)
{
    return notify_send("STOPPING=1", err);
}

int notify_reloading(struct err *err)
{
    char lines[64];
    snprintf(lines, sizeof(lines), "RELOADING=1\nMONOTONIC_USEC=%llu",
             (unsigned long long)(time_monotonic_ns() / 1000));
    return notify_send(lines, err);
}

int notify_main_pid(pid_t pid, struct err *err)
{
    char lines[32];
    snprintf(lines, sizeof(lines), "MAINPID=%d", (int)pid);
    return notify_send(lines, err);
}

int notify_status(struct err *err, const char *format, ...)
{
    static const char key[] = "STATUS=";
    char lines[512];
    va_list args;
    memcpy(lines, key, sizeof(key));
    va_start(args, format);
    vsnprintf(lines + sizeof(key) - 1, sizeof(lines) - sizeof(key) + 1, format, args);
    va_end(args);
    for (char *c = lines; *c; c++)
        if (*c == '\n')
            *c = ' ';
    return notify_send(lines, err);
}
