/*
 * manager - a service manager's end of the notification protocol, for tests.
 */
#ifndef FILAD_TESTS_UNIT_OS_MANAGER_H
#define FILAD_TESTS_UNIT_OS_MANAGER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

struct manager {
    int fd;
    char got[600];
};

/* Binds the socket and sets NOTIFY_SOCKET; a leading '@' stands for an abstract name. */
static inline void manager_open(struct manager *manager, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = strlen(path);
    assert_true(size < sizeof(address.sun_path));
    memcpy(address.sun_path, path, size);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    manager->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(manager->fd, (struct sockaddr *)&address,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size)),
                     0);
    assert_int_equal(setenv("NOTIFY_SOCKET", path, 1), 0);
}

/* The next message, awaited up to `timeout_ms`; valid until the next call. */
static inline const char *manager_receive(struct manager *manager, int timeout_ms)
{
    struct pollfd entry = {.fd = manager->fd, .events = POLLIN};
    assert_int_equal(poll(&entry, 1, timeout_ms), 1);
    ssize_t size = recv(manager->fd, manager->got, sizeof(manager->got) - 1, 0);
    assert_true(size > 0);
    manager->got[size] = '\0';
    return manager->got;
}

#endif
