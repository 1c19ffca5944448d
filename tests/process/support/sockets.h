/*
 * sockets - which process of a broker has a connection, from /proc. TCP only. Fails the test when
 * /proc does not tell; include it behind cmocka.h.
 */
#ifndef FILAD_TESTS_SOCKETS_H
#define FILAD_TESTS_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "process/support/fixture.h"

/* The inodes of the sockets of a process. */
struct sockets {
    uint64_t inodes[4096];
    size_t count;
};

/* The port of the test's end of a connection. */
uint16_t sockets_port(const struct peer *peer);
/* The inodes of the broker's sockets by the port of their clients; 0: no connection. */
void sockets_inodes(const struct broker *broker, uint64_t inodes[65536]);
void sockets_read(pid_t pid, struct sockets *sockets);
bool sockets_have(const struct sockets *sockets, uint64_t inode);

/* The worker that serves a connection. */
pid_t sockets_worker(struct fixture *fixture, const struct peer *peer);
/* A new connection that another worker serves than `not_pid`; for peer_close. */
struct peer *sockets_open(struct fixture *fixture, pid_t not_pid);

#endif
