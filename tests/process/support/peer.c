#include "process/support/peer.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "os/time.h"
#include "process/support/peer_internal.h"

#define READ_SIZE 65536u
#define PEER_MESSAGE_MAX (256u << 20) /* bytes of what is put together from several frames */

static int connect_unix(const char *path, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return err_set(err, 0, "connect: path %s is too long", path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_set_errno(err, errno, "socket");
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        err_set_errno(err, errno, "connect to %s", path);
        close(fd);
        return -1;
    }
    return fd;
}

static int connect_tcp(const char *text, struct err *err)
{
    char host[128];
    const char *colon = strrchr(text, ':');
    if (!colon || (size_t)(colon - text) >= sizeof host)
        return err_set(err, 0, "connect: %s is no host:port", text);
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list = NULL;
    int failure = getaddrinfo(host, colon + 1, &hints, &list);
    if (failure)
        return err_set(err, 0, "connect to %s: %s", text, gai_strerror(failure));
    int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0 || connect(fd, list->ai_addr, list->ai_addrlen) != 0) {
        err_set_errno(err, errno, "connect to %s", text);
        if (fd >= 0)
            close(fd);
        fd = -1;
    } else {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    freeaddrinfo(list);
    return fd;
}

struct peer *peer_connect(const char *address, struct err *err)
{
    bool is_unix = strncmp(address, "unix:", 5) == 0;
    int fd = is_unix ? connect_unix(address + 5, err) : connect_tcp(address, err);
    if (fd < 0)
        return NULL;
    struct peer *peer = calloc(1, sizeof *peer);
    if (!peer)
        abort();
    peer->fd = fd;
    buf_init(&peer->input, 0);
    buf_init(&peer->output, 0);
    reassembly_init(&peer->reassembly, REASSEMBLY_STREAMS_MAX, PEER_MESSAGE_MAX, PEER_MESSAGE_MAX);
    peer->kept_tail = &peer->kept;
    peer->next_request = 1;
    return peer;
}

static void peer_free(struct peer *peer)
{
    close(peer->fd);
    while (peer->kept) {
        struct peer_frame *frame = peer->kept;
        peer->kept = frame->next;
        free(frame);
    }
    free(peer->open);
    buf_free(&peer->input);
    buf_free(&peer->output);
    reassembly_free(&peer->reassembly);
    free(peer);
}

void peer_close(struct peer *peer, bool politely)
{
    if (!peer)
        return;
    struct err err;
    buf_clear(&peer->output);
    if (politely && frame_empty(&peer->output, OPCODE_DISCONNECT, 0) == 0)
        (void)peer_send(peer, buf_str(&peer->output), &err);
    peer_free(peer);
}

void peer_abort(struct peer *peer)
{
    if (!peer)
        return;
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    peer_free(peer);
}

uint32_t peer_next_request(struct peer *peer)
{
    return peer->next_request++;
}

static void keep(struct peer *peer, struct peer_frame *frame)
{
    frame->next = NULL;
    *peer->kept_tail = frame;
    peer->kept_tail = &frame->next;
}

/* Reads once what is there. 1: something came, 0: nothing at present, -1: the end. */
static int fill(struct peer *peer, struct err *err)
{
    uint8_t *room = buf_reserve(&peer->input, READ_SIZE);
    if (!room)
        abort();
    ssize_t got = recv(peer->fd, room, READ_SIZE, MSG_DONTWAIT);
    if (got > 0) {
        peer->input.size += (size_t)got;
        peer->read_ns = time_monotonic_ns();
        return 1;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    peer->ended = true;
    if (got == 0)
        return err_set(err, 0, "the server closed the connection%s",
                       peer->goodbye ? " after Disconnect" : "");
    return err_set_errno(err, errno, "read");
}

int peer_send(struct peer *peer, struct str bytes, struct err *err)
{
    uint64_t end_ns = time_monotonic_ns() + PEER_PATIENCE_MS * 1000000ull;
    while (bytes.size > 0) {
        ssize_t sent = send(peer->fd, bytes.data, bytes.size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent > 0) {
            bytes = str_of(bytes.data + sent, bytes.size - (size_t)sent);
            continue;
        }
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return err_set_errno(err, errno, "send");
        if (time_monotonic_ns() > end_ns)
            return err_set(err, 0, "send: the server does not read");
        /* The server may wait for us to read before it reads on. */
        struct pollfd poll_for = {peer->fd, POLLIN | POLLOUT, 0};
        poll(&poll_for, 1, 100);
        if ((poll_for.revents & POLLIN) && fill(peer, err) < 0)
            return -1;
    }
    return 0;
}

int peer_read_bytes(struct peer *peer, unsigned timeout_ms, void *bytes, size_t size)
{
    struct err err;
    uint64_t end_ns = time_monotonic_ns() + timeout_ms * 1000000ull;
    while (peer->input.size < size && !peer->ended) {
        int status = fill(peer, &err);
        uint64_t now = time_monotonic_ns();
        if (status != 0)
            continue;
        if (now >= end_ns)
            return -1;
        struct pollfd poll_for = {peer->fd, POLLIN, 0};
        poll(&poll_for, 1, (int)((end_ns - now) / 1000000u + 1));
    }
    if (size > peer->input.size)
        size = peer->input.size;
    if (size)
        memcpy(bytes, peer->input.data, size);
    buf_consume(&peer->input, size);
    return (int)size;
}

static int answer_ping(struct peer *peer, uint32_t request_id, struct err *err)
{
    struct buf pong;
    buf_init(&pong, 0);
    int status = frame_empty(&pong, OPCODE_PONG, request_id);
    if (status == 0)
        status = peer_send(peer, buf_str(&pong), err);
    buf_free(&pong);
    return status;
}

/* The first complete frame of the input: 1; 0: there is none; -1: the input makes no sense; 2: it
 * was dealt with, or is a part of one that the server has split. */
static int take_frame(struct peer *peer, struct peer_frame **taken, struct err *err)
{
    struct frame frame;
    switch (frame_parse(buf_str(&peer->input), FRAME_LENGTH_MAX, &frame)) {
    case FRAME_MORE:
        return 0;
    case FRAME_READY:
        break;
    default:
        return err_set(err, 0, "the server sent a frame of a length that is not allowed");
    }
    size_t used = frame.size;
    peer->longest = used > peer->longest ? used : peer->longest;
    enum reassembly_result whole = reassembly_take(&peer->reassembly, &frame);
    if (whole == REASSEMBLY_HELD) {
        buf_consume(&peer->input, used);
        return 2;
    }
    if (whole != REASSEMBLY_READY)
        return err_set(err, 0, "the server split a frame: %s", reassembly_result_text(whole));
    if (frame.opcode == OPCODE_DISCONNECT)
        peer->goodbye = true;
    if (frame.opcode == OPCODE_PING) {
        uint32_t request_id = frame.request_id;
        buf_consume(&peer->input, used);
        return answer_ping(peer, request_id, err) == 0 ? 2 : -1;
    }
    struct peer_frame *copy = malloc(sizeof *copy + frame.body.size);
    if (!copy)
        abort();
    *copy = (struct peer_frame){.time_ns = peer->read_ns,
                                .opcode = frame.opcode,
                                .request_id = frame.request_id,
                                .size = frame.body.size};
    if (frame.body.size)
        memcpy(copy->body, frame.body.data, frame.body.size);
    buf_consume(&peer->input, used);
    *taken = copy;
    return 1;
}

/* As peer_read, but only from the wire. */
static int read_wire(struct peer *peer, uint64_t end_ns, struct peer_frame **frame, struct err *err)
{
    for (;;) {
        int taken = take_frame(peer, frame, err);
        if (taken == 1 || taken < 0)
            return taken;
        if (taken == 2)
            continue;
        if (peer->ended)
            return err_set(err, 0, "the connection has ended");
        int filled = fill(peer, err);
        if (filled < 0)
            return -1;
        if (filled > 0)
            continue;
        uint64_t now = time_monotonic_ns();
        if (now >= end_ns)
            return 0;
        struct pollfd poll_for = {peer->fd, POLLIN, 0};
        poll(&poll_for, 1, (int)((end_ns - now) / 1000000u + 1));
    }
}

typedef bool frame_test(const struct peer_frame *frame, uint32_t request_id);

/* The first frame that passes: of those kept, then of the wire. */
static int read_matching(struct peer *peer, frame_test *test, uint32_t request_id,
                         unsigned timeout_ms, struct peer_frame **found, struct err *err)
{
    for (struct peer_frame **link = &peer->kept; *link; link = &(*link)->next) {
        struct peer_frame *frame = *link;
        if (!test(frame, request_id))
            continue;
        *link = frame->next;
        if (!frame->next)
            peer->kept_tail = link;
        *found = frame;
        return 1;
    }
    uint64_t end_ns = time_monotonic_ns() + timeout_ms * 1000000ull;
    for (;;) {
        struct peer_frame *frame = NULL;
        int status = read_wire(peer, end_ns, &frame, err);
        if (status <= 0)
            return status;
        if (test(frame, request_id)) {
            *found = frame;
            return 1;
        }
        keep(peer, frame);
    }
}

static bool is_any(const struct peer_frame *frame, uint32_t request_id)
{
    (void)frame;
    (void)request_id;
    return true;
}

static bool is_answer(const struct peer_frame *frame, uint32_t request_id)
{
    return frame->opcode != OPCODE_DELIVERY && frame->request_id == request_id;
}

static bool is_delivery(const struct peer_frame *frame, uint32_t request_id)
{
    (void)request_id;
    return frame->opcode == OPCODE_DELIVERY;
}

int peer_read(struct peer *peer, unsigned timeout_ms, struct peer_frame **frame, struct err *err)
{
    return read_matching(peer, is_any, 0, timeout_ms, frame, err);
}

int peer_answer(struct peer *peer, uint32_t request_id, unsigned timeout_ms,
                struct peer_frame **frame, struct err *err)
{
    return read_matching(peer, is_answer, request_id, timeout_ms, frame, err);
}

int peer_delivery_frame(struct peer *peer, unsigned timeout_ms, struct peer_frame **frame,
                        struct err *err)
{
    return read_matching(peer, is_delivery, 0, timeout_ms, frame, err);
}
