#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "process/support/sockets.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "process/support/peer_internal.h"

uint16_t sockets_port(const struct peer *peer)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    if (getsockname(peer->fd, (struct sockaddr *)&address, &size) != 0)
        return 0;
    return ntohs(address.sin_port);
}

void sockets_inodes(const struct broker *broker, uint64_t inodes[65536])
{
    unsigned port = (unsigned)strtoul(strrchr(broker->tcp_address, ':') + 1, NULL, 10);
    char line[512];
    FILE *file = fopen("/proc/net/tcp", "r");
    assert_non_null(file);
    memset(inodes, 0, 65536 * sizeof *inodes);
    while (fgets(line, sizeof line, file)) {
        unsigned local, remote;
        uint64_t inode;
        if (sscanf(line, " %*d: %*x:%x %*x:%x %*x %*s %*s %*s %*d %*d %" SCNu64, &local, &remote,
                   &inode) == 3 &&
            local == port && remote < 65536)
            inodes[remote] = inode;
    }
    fclose(file);
}

void sockets_read(pid_t pid, struct sockets *sockets)
{
    char path[64], link[64];
    sockets->count = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    for (struct dirent *entry = dir ? readdir(dir) : NULL; entry; entry = readdir(dir)) {
        ssize_t size = readlinkat(dirfd(dir), entry->d_name, link, sizeof link - 1);
        link[size > 0 ? size : 0] = '\0';
        if (sscanf(link, "socket:[%" SCNu64, &sockets->inodes[sockets->count]) == 1)
            sockets->count++;
        assert_true(sockets->count < 4096);
    }
    if (dir)
        closedir(dir);
}

bool sockets_have(const struct sockets *sockets, uint64_t inode)
{
    for (size_t i = 0; i < sockets->count; i++)
        if (sockets->inodes[i] == inode)
            return true;
    return false;
}

pid_t sockets_worker(struct fixture *f, const struct peer *peer)
{
    struct broker_process list[BROKER_PROCESSES_MAX];
    size_t count = broker_processes(&f->broker, list, BROKER_PROCESSES_MAX);
    static uint64_t inodes[65536];
    sockets_inodes(&f->broker, inodes);
    for (size_t i = 0; i < count; i++) {
        struct sockets sockets;
        if (list[i].role != BROKER_WORKER)
            continue;
        sockets_read(list[i].pid, &sockets);
        if (sockets_have(&sockets, inodes[sockets_port(peer)]))
            return list[i].pid;
    }
    fail_msg("no worker has this connection");
    return 0;
}

struct peer *sockets_open(struct fixture *fixture, pid_t not_pid)
{
    enum { TRIES = 64 };
    struct peer *peers[TRIES], *found = NULL;
    unsigned count = 0;
    while (!found && count < TRIES) {
        struct peer *peer = peer_open(fixture->broker.tcp_address, &fixture->err);
        if (!peer)
            fail_msg("connect: %s", fixture->err.text);
        if (sockets_worker(fixture, peer) != not_pid)
            found = peer;
        else
            peers[count++] = peer;
    }
    while (count)
        peer_close(peers[--count], false);
    if (!found)
        fail_msg("worker %d gets every connection", (int)not_pid);
    return found;
}
