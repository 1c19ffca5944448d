#define _GNU_SOURCE 1

#include "os/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "os/calls.h"
#include "os/time.h"

static int unix_address_parse(struct str path, struct sock_address *address, struct err *err)
{
    if (path.size == 0)
        return err_set(err, EINVAL, "unix: is not followed by a path");
    if (path.size >= sizeof(address->path))
        return err_set(err, EINVAL, "the path of a unix socket has at most %zu bytes",
                       sizeof(address->path) - 1);
    if (memchr(path.data, '\0', path.size))
        return err_set(err, EINVAL, "the path of a unix socket holds a NUL");
    address->kind = SOCK_KIND_UNIX;
    memcpy(address->path, path.data, path.size);
    return 0;
}

static int port_parse(struct str text, uint16_t *port, struct err *err)
{
    uint32_t value = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || i == 5)
            return err_set(err, EINVAL, "\"%.*s\" is not a port", STR_PRINT(text));
        value = value * 10 + (uint32_t)(text.data[i] - '0');
    }
    if (text.size == 0 || value > UINT16_MAX)
        return err_set(err, EINVAL, "\"%.*s\" is not a port", STR_PRINT(text));
    *port = (uint16_t)value;
    return 0;
}

/* Letters, digits, hyphens, dots and underscores; what looks like an IPv4 address must be one. */
static bool host_name_valid(const char *host)
{
    bool number = true;
    for (const char *c = host; *c; c++) {
        bool digit = *c >= '0' && *c <= '9';
        bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z');
        if (!digit && !letter && *c != '-' && *c != '.' && *c != '_')
            return false;
        number = number && (digit || *c == '.');
    }
    return host[0] && !number;
}

/* Sets the kind of a host and puts a number into its canonical spelling. */
static int host_classify(struct sock_address *address, bool bracketed, struct err *err)
{
    struct in_addr ipv4;
    struct in6_addr ipv6;
    if (bracketed) {
        if (inet_pton(AF_INET6, address->host, &ipv6) != 1)
            return err_set(err, EINVAL, "\"%s\" is not an IPv6 address", address->host);
        address->kind = SOCK_KIND_IPV6;
        inet_ntop(AF_INET6, &ipv6, address->host, sizeof(address->host));
        return 0;
    }
    if (inet_pton(AF_INET, address->host, &ipv4) == 1) {
        address->kind = SOCK_KIND_IPV4;
        return 0;
    }
    if (inet_pton(AF_INET6, address->host, &ipv6) == 1)
        return err_set(err, EINVAL, "an IPv6 address is written in brackets: [%s]", address->host);
    if (!host_name_valid(address->host))
        return err_set(err, EINVAL, "\"%s\" is neither an address nor a host name", address->host);
    address->kind = SOCK_KIND_NAME;
    return 0;
}

int sock_address_parse(struct str text, struct sock_address *address, struct err *err)
{
    static const struct str unix_prefix = {(const uint8_t *)"unix:", 5};
    *address = (struct sock_address){.kind = SOCK_KIND_NAME};
    if (str_starts_with(text, unix_prefix))
        return unix_address_parse(str_of(text.data + 5, text.size - 5), address, err);

    size_t colon = text.size;
    while (colon > 0 && text.data[colon - 1] != ':')
        colon--;
    bool bracketed = text.size > 0 && text.data[0] == '[';
    if (colon == 0 || (bracketed && (colon < 3 || text.data[colon - 2] != ']')))
        return err_set(err, EINVAL, "\"%.*s\" has no port: HOST:PORT, [IPV6]:PORT or unix:PATH",
                       STR_PRINT(text));
    struct str host = str_of(text.data, colon - 1);
    if (bracketed)
        host = str_of(text.data + 1, colon - 3);
    if (host.size >= sizeof(address->host) || (host.size && memchr(host.data, '\0', host.size)))
        return err_set(err, EINVAL, "the host has more than %zu bytes or holds a NUL",
                       sizeof(address->host) - 1);
    if (host.size)
        memcpy(address->host, host.data, host.size);
    if (host_classify(address, bracketed, err) != 0)
        return -1;
    return port_parse(str_of(text.data + colon, text.size - colon), &address->port, err);
}

void sock_address_format(const struct sock_address *address, char text[SOCK_TEXT_SIZE])
{
    if (address->kind == SOCK_KIND_UNIX)
        snprintf(text, SOCK_TEXT_SIZE, "unix:%s", address->path);
    else if (address->kind == SOCK_KIND_IPV6)
        snprintf(text, SOCK_TEXT_SIZE, "[%s]:%u", address->host, address->port);
    else
        snprintf(text, SOCK_TEXT_SIZE, "%s:%u", address->host, address->port);
}

/* The sockaddr of anything but a name; its size. */
static socklen_t sockaddr_make(const struct sock_address *address, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    if (address->kind == SOCK_KIND_UNIX) {
        struct sockaddr_un *un = (struct sockaddr_un *)out;
        un->sun_family = AF_UNIX;
        memcpy(un->sun_path, address->path, sizeof(un->sun_path));
        return sizeof(*un);
    }
    if (address->kind == SOCK_KIND_IPV6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(address->port);
        inet_pton(AF_INET6, address->host, &in6->sin6_addr);
        return sizeof(*in6);
    }
    struct sockaddr_in *in = (struct sockaddr_in *)out;
    in->sin_family = AF_INET;
    in->sin_port = htons(address->port);
    inet_pton(AF_INET, address->host, &in->sin_addr);
    return sizeof(*in);
}

/* Removes the socket file of a server that is gone; leaves alone whatever else is there. */
static int unix_clear_stale(const struct sockaddr_un *un)
{
    struct stat st;
    if (lstat(un->sun_path, &st) != 0)
        return errno == ENOENT ? 0 : -1;
    if (!S_ISSOCK(st.st_mode)) {
        errno = EEXIST;
        return -1;
    }
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return -1;
    int failed = connect(probe, (const struct sockaddr *)un, sizeof(*un)) == 0 ? 0 : errno;
    close(probe);
    if (failed == ENOENT)
        return 0;
    if (failed != ECONNREFUSED) {
        errno = EADDRINUSE; /* answered, or its queue is full, or it is another kind of socket */
        return -1;
    }
    return unlink(un->sun_path) != 0 && errno != ENOENT ? -1 : 0;
}

static int listener_prepare(int fd, const struct sockaddr_storage *sockaddr)
{
    int on = 1;
    if (sockaddr->ss_family == AF_UNIX)
        return unix_clear_stale((const struct sockaddr_un *)sockaddr);
    if (sockaddr->ss_family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) != 0)
        return -1;
    return setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
}

int sock_listen(const struct sock_address *address, int backlog, struct err *err)
{
    char text[SOCK_TEXT_SIZE];
    sock_address_format(address, text);
    if (address->kind == SOCK_KIND_NAME)
        return err_set(err, EINVAL, "listen on %s: a numeric address is needed", text);

    struct sockaddr_storage sockaddr;
    socklen_t size = sockaddr_make(address, &sockaddr);
    int fd = socket(sockaddr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set_errno(err, errno, "listen on %s", text);
    if (listener_prepare(fd, &sockaddr) != 0 || bind(fd, (struct sockaddr *)&sockaddr, size) != 0)
        goto fail;
    if ((address->kind == SOCK_KIND_UNIX && chmod(address->path, 0666) != 0) ||
        listen(fd, backlog) != 0)
        goto fail_bound;
    return fd;

fail_bound:
    if (address->kind == SOCK_KIND_UNIX) {
        int failed = errno;
        unlink(address->path);
        errno = failed;
    }
fail:
    err_set_errno(err, errno, "listen on %s", text);
    close(fd);
    return -1;
}

int sock_accept(int listener, struct sockaddr_storage *peer, socklen_t *peer_size)
{
    int fd;
    do {
        if (peer)
            *peer_size = sizeof(*peer);
        fd = os_accept4(listener, (struct sockaddr *)peer, peer ? peer_size : NULL,
                        SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED || errno == EPROTO));
    return fd;
}

/* Waits until a connection attempt under way has ended; 0, or -1 with errno. */
static int connect_finish(int fd, uint64_t deadline_ms)
{
    for (;;) {
        uint64_t now = time_monotonic_ms();
        uint64_t left = now < deadline_ms ? deadline_ms - now : 0;
        struct pollfd entry = {.fd = fd, .events = POLLOUT};
        int ready = poll(&entry, 1, left > INT32_MAX ? INT32_MAX : (int)left);
        if (ready > 0)
            break;
        if (ready < 0 && errno != EINTR)
            return -1;
        if (ready == 0 && left == 0) {
            errno = ETIMEDOUT;
            return -1;
        }
    }
    int failed = 0;
    socklen_t size = sizeof(failed);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &size) != 0)
        return -1;
    errno = failed;
    return failed ? -1 : 0;
}

/* A connected blocking socket, or -1 with errno. */
static int connect_one(const struct sockaddr *sockaddr, socklen_t size, uint64_t deadline_ms)
{
    int fd = socket(sockaddr->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    int result;
    for (;;) {
        result = connect(fd, sockaddr, size);
        if (result == 0 || (errno != EAGAIN || sockaddr->sa_family != AF_UNIX))
            break;
        /* The backlog of a unix listener is full, and poll() does not tell when it no longer is. */
        if (time_monotonic_ms() >= deadline_ms) {
            errno = ETIMEDOUT;
            break;
        }
        poll(NULL, 0, 10);
    }
    if (result != 0 && (errno == EINPROGRESS || errno == EINTR))
        result = connect_finish(fd, deadline_ms);
    if (result == 0)
        result = sock_set_nonblocking(fd, false);
    if (result != 0) {
        int failed = errno;
        close(fd);
        errno = failed;
        return -1;
    }
    sock_set_nodelay(fd);
    return fd;
}

static int connect_name(const struct sock_address *address, uint64_t deadline_ms, struct err *err)
{
    char port[8];
    snprintf(port, sizeof(port), "%u", address->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *found = NULL;
    int failed = getaddrinfo(address->host, port, &hints, &found);
    if (failed)
        return err_set(err, failed == EAI_SYSTEM ? errno : 0, "resolve %s: %s", address->host,
                       gai_strerror(failed));
    int fd = -1;
    for (struct addrinfo *entry = found; entry && fd < 0; entry = entry->ai_next)
        fd = connect_one(entry->ai_addr, entry->ai_addrlen, deadline_ms);
    if (fd < 0)
        err_set_errno(err, errno, "connect to %s:%s", address->host, port);
    freeaddrinfo(found);
    return fd;
}

int sock_connect(const struct sock_address *address, uint64_t timeout_ms, struct err *err)
{
    uint64_t now = time_monotonic_ms();
    uint64_t deadline = timeout_ms > UINT64_MAX - now ? UINT64_MAX : now + timeout_ms;
    if (address->kind == SOCK_KIND_NAME)
        return connect_name(address, deadline, err);

    struct sockaddr_storage sockaddr;
    socklen_t size = sockaddr_make(address, &sockaddr);
    int fd = connect_one((const struct sockaddr *)&sockaddr, size, deadline);
    if (fd < 0) {
        char text[SOCK_TEXT_SIZE];
        int failed = errno;
        sock_address_format(address, text);
        err_set_errno(err, failed, "connect to %s", text);
    }
    return fd;
}

/* As setsockopt for TCP; 0 on other sockets. */
static int set_tcp_option(int fd, int option, const void *value, socklen_t size)
{
    if (setsockopt(fd, IPPROTO_TCP, option, value, size) == 0)
        return 0;
    return errno == EOPNOTSUPP || errno == ENOPROTOOPT ? 0 : -1;
}

int sock_set_nodelay(int fd)
{
    int on = 1;
    return set_tcp_option(fd, TCP_NODELAY, &on, sizeof(on));
}

int sock_set_user_timeout(int fd, uint64_t timeout_ms)
{
    unsigned value = timeout_ms < INT_MAX ? (unsigned)timeout_ms : INT_MAX;
    return set_tcp_option(fd, TCP_USER_TIMEOUT, &value, sizeof(value));
}

int sock_set_nonblocking(int fd, bool nonblocking)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -1;
    int wanted = nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    return wanted == flags ? 0 : fcntl(fd, F_SETFL, wanted);
}

int sock_peer_uid(int fd, uid_t *uid)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return -1;
    /* TCP sockets answer too, with nobody: pid 0 and uid -1. */
    if (peer.uid == (uid_t)-1) {
        errno = EOPNOTSUPP;
        return -1;
    }
    *uid = peer.uid;
    return 0;
}

static void unix_text(const struct sockaddr_un *un, socklen_t size, char text[SOCK_TEXT_SIZE])
{
    size_t room = size > offsetof(struct sockaddr_un, sun_path)
                      ? size - offsetof(struct sockaddr_un, sun_path)
                      : 0;
    if (room > sizeof(un->sun_path))
        room = sizeof(un->sun_path);
    snprintf(text, SOCK_TEXT_SIZE, "unix:%.*s", (int)strnlen(un->sun_path, room), un->sun_path);
}

void sock_text(const struct sockaddr *address, socklen_t size, char text[SOCK_TEXT_SIZE])
{
    char host[INET6_ADDRSTRLEN];
    if (address->sa_family == AF_UNIX) {
        unix_text((const struct sockaddr_un *)(const void *)address, size, text);
    } else if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)address;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        snprintf(text, SOCK_TEXT_SIZE, "%s:%u", host, ntohs(in->sin_port));
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)address;
        bool mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
        if (mapped)
            inet_ntop(AF_INET, in6->sin6_addr.s6_addr + 12, host, sizeof(host));
        else
            inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
        snprintf(text, SOCK_TEXT_SIZE, mapped ? "%s:%u" : "[%s]:%u", host, ntohs(in6->sin6_port));
    } else {
        snprintf(text, SOCK_TEXT_SIZE, "address family %u", address->sa_family);
    }
}

uint16_t sock_port(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        return 0;
    if (address.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&address)->sin_port);
    if (address.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    return 0;
}

int sock_pair(int fds[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds);
}

union fds_space {
    struct cmsghdr align;
    char data[CMSG_SPACE(sizeof(int) * SOCK_FDS_MAX)];
};

int sock_send(int fd, const void *data, size_t size, const int *fds, unsigned count)
{
    union fds_space space;
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > SOCK_FDS_MAX) {
        errno = EMSGSIZE;
        return -1;
    }
    if (count > 0) {
        memset(&space, 0, sizeof(space));
        message.msg_control = space.data;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * count);
    }
    ssize_t sent;
    do {
        sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -1 : 0;
}

/* Takes the descriptors out of a received message; how many there are, `fits` says whether `fds`
 * had room for all. Those that have no place are closed. */
static unsigned fds_take(struct msghdr *message, int *fds, unsigned room, bool *fits)
{
    unsigned count = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header;
         header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        size_t came = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < came; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
            if (count < room) {
                fds[count++] = fd;
            } else {
                close(fd);
                *fits = false;
            }
        }
    }
    return count;
}

ssize_t sock_receive(int fd, void *data, size_t size, int *fds, unsigned *count)
{
    union fds_space space;
    struct iovec part = {.iov_base = data, .iov_len = size};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = space.data,
                             .msg_controllen = sizeof(space.data)};
    ssize_t got;
    do {
        got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);

    unsigned room = *count;
    *count = 0;
    if (got < 0)
        return -1;
    bool fits = !(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC));
    unsigned came = fds_take(&message, fds, room, &fits);
    if (!fits) {
        while (came > 0)
            close(fds[--came]);
        errno = EMSGSIZE;
        return -1;
    }
    *count = came;
    return got;
}
