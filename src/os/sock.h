/*
 * sock - addresses as users write them, listeners, connections, and the socket pairs between our
 * own processes. Every descriptor made here is close-on-exec.
 */
#ifndef FILAD_OS_SOCK_H
#define FILAD_OS_SOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "core/err.h"
#include "core/str.h"

#define SOCK_HOST_SIZE 256 /* with a NUL; a host name has at most 253 bytes */
#define SOCK_PATH_SIZE 108 /* with a NUL; what sockaddr_un has room for */
#define SOCK_TEXT_SIZE 272 /* room for any address as text, with a NUL */

enum sock_kind {
    SOCK_KIND_IPV4,
    SOCK_KIND_IPV6,
    SOCK_KIND_NAME, /* to be resolved when connecting; cannot be listened on */
    SOCK_KIND_UNIX,
};

struct sock_address {
    enum sock_kind kind;
    uint16_t port;             /* not for unix; 0: any free one, when listening */
    char host[SOCK_HOST_SIZE]; /* without brackets; empty for unix */
    char path[SOCK_PATH_SIZE]; /* unix only */
};

/* "0.0.0.0:5555", "[::1]:5555", "localhost:5555", "unix:/path"; an error names what is wrong. */
int sock_address_parse(struct str text, struct sock_address *address, struct err *err)
    __attribute__((warn_unused_result));
/* The same forms back, in one spelling: equal text means equal address. */
void sock_address_format(const struct sock_address *address, char text[SOCK_TEXT_SIZE]);

/* A non-blocking listener. IPv6 ones take IPv6 only, so that [::] and 0.0.0.0 can stand side by
 * side. unix: a socket file that nobody answers on is replaced, one that is answered is EADDRINUSE,
 * any other file is left alone; the new one has mode 0666. The descriptor, or -1. */
int sock_listen(const struct sock_address *address, int backlog, struct err *err)
    __attribute__((warn_unused_result));

/* The next connection of a listener, non-blocking; -1 with errno (EAGAIN when there is none; those
 * that were gone before they could be taken are skipped). `peer`, which may be NULL, receives the
 * other end for sock_text(). */
int sock_accept(int listener, struct sockaddr_storage *peer, socklen_t *peer_size)
    __attribute__((warn_unused_result));

/* A connected, blocking socket, TCP_NODELAY set; tries every address of a name until `timeout_ms`
 * have gone by (the resolver's own time-out comes on top). The descriptor, or -1. */
int sock_connect(const struct sock_address *address, uint64_t timeout_ms, struct err *err)
    __attribute__((warn_unused_result));

/* These return 0, or -1 with errno. Nodelay does nothing on what is not TCP. */
int sock_set_nodelay(int fd);
/* How long what was sent may stay without the peer's acknowledgement before the connection counts
 * as broken. Does nothing on what is not TCP. */
int sock_set_user_timeout(int fd, uint64_t timeout_ms);
int sock_set_nonblocking(int fd, bool nonblocking) __attribute__((warn_unused_result));
int sock_peer_uid(int fd, uid_t *uid) __attribute__((warn_unused_result));

/* A sockaddr as text: "192.0.2.1:80", "[2001:db8::1]:80" (IPv4-mapped ones as IPv4), "unix:/path",
 * "unix:" without a path. */
void sock_text(const struct sockaddr *address, socklen_t size, char text[SOCK_TEXT_SIZE]);
/* The port that a listener got; 0 for unix or on failure. */
uint16_t sock_port(int fd);

/* A pair of non-blocking SOCK_SEQPACKET sockets: messages keep their bounds. 0, or -1 with errno.
 */
int sock_pair(int fds[2]) __attribute__((warn_unused_result));

#define SOCK_FDS_MAX 64 /* descriptors in one message */

/* Sends one message and copies of `count` descriptors; the caller keeps its own. 0, or -1 with
 * errno: EAGAIN when the other end has to read first. */
int sock_send(int fd, const void *data, size_t size, const int *fds, unsigned count)
    __attribute__((warn_unused_result));
/* Receives one message of at most `size` bytes. *count: on entry how many descriptors `fds` has
 * room for, then how many came; they belong to the caller. The size of the message, 0 when the
 * other end is gone, -1 with errno. A message with more bytes or descriptors than there is room for
 * is lost: EMSGSIZE, its descriptors closed. */
ssize_t sock_receive(int fd, void *data, size_t size, int *fds, unsigned *count)
    __attribute__((warn_unused_result));

#endif
