#include "master/listeners.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/log.h"
#include "os/sock.h"

#define LISTEN_TRIES 50
#define LISTEN_PAUSE_US 20000

static int listener_find(const struct listeners *listeners, const struct conf *conf,
                         const char *address)
{
    for (size_t i = 0; i < listeners->count; i++)
        if (strcmp(conf->listen[i].address, address) == 0)
            return listeners->fds[i];
    return -1;
}

static bool listeners_have(const struct listeners *listeners, int fd)
{
    for (size_t i = 0; listeners && i < listeners->count; i++)
        if (listeners->fds[i] == fd)
            return true;
    return false;
}

static int listener_open(const struct conf_listen *listen, struct err *err)
{
    struct sock_address address;

    if (sock_address_parse(str_from_c(listen->address), &address, err) < 0)
        return err_prefix(err, "listen on %s", listen->address);
    /* The processes of a killed broker give up the store's lock and their sockets one after the
     * other as they end: who has the lock may find the socket in use for a moment. */
    for (unsigned tries = 0;; tries++) {
        int fd = sock_listen(&address, listen->backlog, err);
        if (fd >= 0 || err->code != EADDRINUSE || tries == LISTEN_TRIES)
            return fd;
        usleep(LISTEN_PAUSE_US);
    }
}

int listeners_open(struct listeners *listeners, const struct conf *conf,
                   const struct listeners *old, const struct conf *old_conf, struct err *err)
{
    *listeners = (struct listeners){.fds = calloc(conf->listen_count, sizeof(int))};
    if (!listeners->fds)
        return err_set(err, ENOMEM, "listen: out of memory");
    for (size_t i = 0; i < conf->listen_count; i++) {
        const struct conf_listen *listen = &conf->listen[i];
        int fd = old ? listener_find(old, old_conf, listen->address) : -1;

        if (fd < 0)
            fd = listener_open(listen, err);
        if (fd < 0) {
            listeners_close(listeners, conf, old);
            return -1;
        }
        listeners->fds[listeners->count++] = fd;
    }
    return 0;
}

static void listener_remove_file(const char *text)
{
    struct sock_address address;

    if (sock_address_parse(str_from_c(text), &address, NULL) == 0 &&
        address.kind == SOCK_KIND_UNIX && unlink(address.path) < 0 && errno != ENOENT)
        log_errno(LOG_WARN, "master", errno, "remove %s", address.path);
}

void listeners_close(struct listeners *listeners, const struct conf *conf,
                     const struct listeners *keep)
{
    for (size_t i = 0; i < listeners->count; i++) {
        if (listeners_have(keep, listeners->fds[i]))
            continue;
        close(listeners->fds[i]);
        listener_remove_file(conf->listen[i].address);
    }
    free(listeners->fds);
    *listeners = (struct listeners){0};
}

void listeners_set_backlog(const struct listeners *listeners, const struct conf *conf)
{
    for (size_t i = 0; i < listeners->count; i++)
        if (listen(listeners->fds[i], conf->listen[i].backlog) < 0)
            log_errno(LOG_WARN, "master", errno, "set the backlog of %s", conf->listen[i].address);
}

void listeners_forget(const struct listeners *listeners, const struct listeners *keep)
{
    for (size_t i = 0; i < listeners->count; i++)
        if (!listeners_have(keep, listeners->fds[i]))
            close(listeners->fds[i]);
}
