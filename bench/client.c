#include "client.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/bytes.h"
#include "progress.h"

#define RECEIVE_SIZE (1u << 20)
#define RECEIVE_ROOM (64u << 10) /* a receive call is made for at least so many bytes */
#define SILENCE_SECONDS 30
#define ADMIN_REQUEST_ID 0x7FFFFFFFu

struct client {
    int fd;
    uint8_t *data; /* owned */
    size_t start, end, capacity;
};

/* ---- receiving ---- */

/* Makes room for `need` bytes from `start` on, and for a receive call worth making. */
static int make_room(struct client *client, size_t need, struct err *err)
{
    size_t have = client->end - client->start;
    if (client->start > 0 && (have == 0 || client->capacity - client->end < RECEIVE_ROOM ||
                              client->capacity - client->start < need)) {
        memmove(client->data, client->data + client->start, have);
        client->start = 0;
        client->end = have;
    }
    size_t wanted = (need > have ? need : have) + RECEIVE_ROOM;
    if (client->capacity < wanted) {
        uint8_t *data = realloc(client->data, wanted * 2);
        if (data == NULL) {
            return err_set(err, 0, "no memory");
        }
        client->data = data;
        client->capacity = wanted * 2;
    }
    return 0;
}

static int receive(struct client *client, size_t need, struct err *err)
{
    if (make_room(client, need, err) != 0) {
        return -1;
    }
    ssize_t got = recv(client->fd, client->data + client->end, client->capacity - client->end, 0);
    if (got > 0) {
        client->end += (size_t)got;
        return 0;
    }
    if (got == 0) {
        return err_set(err, 0, "the broker closed the connection");
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
        return err_set(err, 0, "the broker was silent for %d s", SILENCE_SECONDS);
    }
    if (errno == EINTR) {
        return progress_interrupted() ? err_set(err, 0, "interrupted") : 0;
    }
    return err_set_errno(err, errno, "receive");
}

int client_fd(const struct client *client)
{
    return client->fd;
}

/* ---- sending ---- */

/* After a send that would block: takes in what the broker has to say, so that it cannot be waiting
 * for us while we wait for it. */
static int wait_to_send(struct client *client, struct err *err)
{
    struct pollfd wanted = {.fd = client->fd, .events = POLLIN | POLLOUT};
    int ready = poll(&wanted, 1, SILENCE_SECONDS * 1000);
    if (ready == 0) {
        return err_set(err, 0, "the broker took no bytes for %d s", SILENCE_SECONDS);
    }
    if (ready < 0) {
        return errno == EINTR && !progress_interrupted() ? 0 : err_set(err, 0, "interrupted");
    }
    return wanted.revents & POLLIN ? receive(client, 0, err) : 0;
}

int client_sendv(struct client *client, struct iovec *parts, int count, struct err *err)
{
    while (count > 0) {
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
        ssize_t sent = sendmsg(client->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0) {
            if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
                return err_set_errno(err, errno, "send");
            }
            if (wait_to_send(client, err) != 0) {
                return -1;
            }
            continue;
        }
        size_t left = (size_t)sent;
        while (count > 0 && left >= parts->iov_len) {
            left -= parts->iov_len;
            parts++;
            count--;
        }
        if (count > 0) {
            parts->iov_base = (uint8_t *)parts->iov_base + left;
            parts->iov_len -= left;
        }
    }
    return 0;
}

int client_send(struct client *client, const void *data, size_t size, struct err *err)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    return client_sendv(client, &part, 1, err);
}

/* ---- frames ---- */

int client_malformed(const struct wire_reader *reader, const char *frame, struct err *err)
{
    char reason[160];
    wire_describe(reader, reason, sizeof(reason));
    return err_set(err, 0, "decoding a %s frame: %s", frame, reason);
}

static int fail_with_error_frame(const struct frame *frame, struct err *err)
{
    struct wire_reader reader;
    struct framed_client_error answer;
    wire_reader_init(&reader, frame->body);
    if (!framed_client_error(&reader, &answer)) {
        return client_malformed(&reader, "Error", err);
    }
    return err_set(err, 0, "the broker answered request %u with %s: %.*s", frame->request_id,
                   status_name(answer.status), STR_PRINT(answer.text));
}

/* Frames that mean the same at any time. 1: not one of these; 0: dealt with. */
static int handle_control(struct client *client, const struct frame *frame, struct err *err)
{
    if (frame->flags & FRAME_FLAG_CONTINUATION) {
        return err_set(err, 0, "the broker split a %s frame, which is not expected here",
                       opcode_name(frame->opcode));
    }
    switch (frame->opcode) {
    case OPCODE_PING: {
        uint8_t pong[FRAME_OVERHEAD] = {0, 0, 0, FRAME_LENGTH_MIN, OPCODE_PONG};
        bytes_put_u32(pong + 6, frame->request_id);
        return client_send(client, pong, sizeof(pong), err);
    }
    case OPCODE_DISCONNECT:
        return err_set(err, 0, "the broker says that it is going away");
    case OPCODE_ERROR:
        return fail_with_error_frame(frame, err);
    default:
        return 1;
    }
}

int client_next(struct client *client, bool wait, struct frame *frame, struct err *err)
{
    for (;;) {
        struct str bytes = str_of(client->data + client->start, client->end - client->start);
        enum frame_result result = frame_parse(bytes, FRAME_LENGTH_MAX, frame);
        if (result == FRAME_READY) {
            client->start += frame->size;
            int regular = handle_control(client, frame, err);
            if (regular != 0) {
                return regular;
            }
        } else if (result != FRAME_MORE) {
            return err_set(err, 0, "the broker sent a frame that cannot be: %s",
                           frame_result_text(result));
        } else if (!wait) {
            return 0;
        } else if (receive(client, frame->size, err) != 0) {
            return -1;
        }
    }
}

int client_expect(struct client *client, enum opcode opcode, struct frame *frame, struct err *err)
{
    if (client_next(client, true, frame, err) < 0) {
        return -1;
    }
    if (frame->opcode != opcode) {
        return err_set(err, 0, "the broker sent %s where %s was due", opcode_name(frame->opcode),
                       opcode_name((uint8_t)opcode));
    }
    return 0;
}

/* ---- opening ---- */

static int connect_to(struct client *client, uint16_t port, struct err *err)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    struct timeval silence = {.tv_sec = SILENCE_SECONDS};
    int on = 1;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0 ||
        setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence)) != 0) {
        return err_set_errno(err, errno, "connect to 127.0.0.1:%u", port);
    }
    return 0;
}

/* Sends the one frame in `request` unless encoding it failed, and waits for `opcode`. */
static int request(struct client *client, struct buf *buf, int encoded, enum opcode opcode,
                   struct frame *frame, struct err *err)
{
    if (encoded != 0) {
        return err_set(err, 0, "no memory");
    }
    if (client_send(client, buf->data, buf->size, err) != 0) {
        return -1;
    }
    return client_expect(client, opcode, frame, err);
}

static int shake_hands(struct client *client, struct err *err)
{
    struct buf buf;
    struct frame frame;
    struct wire_reader reader;
    struct framed_client_handshake_ok answer;
    int result = -1;
    buf_init(&buf, 0);
    int encoded = framed_client_handshake(&buf, 0, FRAME_PROTOCOL_VERSION, NULL);
    if (request(client, &buf, encoded, OPCODE_HANDSHAKE_OK, &frame, err) == 0) {
        wire_reader_init(&reader, frame.body);
        result = framed_client_handshake_ok(&reader, &answer)
                     ? 0
                     : client_malformed(&reader, "HandshakeOk", err);
    }
    buf_free(&buf);
    return result;
}

struct client *client_open(uint16_t port, struct err *err)
{
    struct client *client = calloc(1, sizeof(*client));
    if (client == NULL) {
        err_set(err, 0, "no memory");
        return NULL;
    }
    client->fd = -1;
    client->capacity = RECEIVE_SIZE;
    client->data = malloc(client->capacity);
    if (client->data == NULL) {
        err_set(err, 0, "no memory");
        goto failed;
    }
    if (connect_to(client, port, err) != 0 || shake_hands(client, err) != 0) {
        goto failed;
    }
    return client;
failed:
    client_close(client);
    return NULL;
}

void client_close(struct client *client)
{
    if (client == NULL) {
        return;
    }
    if (client->fd >= 0) {
        close(client->fd);
    }
    free(client->data);
    free(client);
}

/* ---- requests ---- */

/* The code that the answer to an administrative request begins with has to be 0. */
static int check_code(struct wire_reader *reader, const char *what, struct err *err)
{
    uint8_t code;
    if (!framed_client_code(reader, &code)) {
        return client_malformed(reader, what, err);
    }
    if (code != FIBP_OK) {
        return err_set(err, 0, "%s: %s", what, status_name(status_from_wire(code)));
    }
    return 0;
}

int client_create_queue(struct client *client, const char *queue, uint64_t visibility_timeout_ms,
                        const char *on_enqueue, struct err *err)
{
    struct framed_create_queue wanted = {.name = str_from_c(queue),
                                         .has_on_enqueue = on_enqueue != NULL,
                                         .on_enqueue = str_from_c(on_enqueue ? on_enqueue : ""),
                                         .visibility_timeout_ms = visibility_timeout_ms};
    struct buf buf;
    struct frame frame;
    struct wire_reader reader;
    int result = -1;
    buf_init(&buf, 0);
    int encoded = framed_client_create_queue(&buf, ADMIN_REQUEST_ID, &wanted);
    if (request(client, &buf, encoded, OPCODE_CREATE_QUEUE_RESULT, &frame, err) == 0) {
        wire_reader_init(&reader, frame.body);
        result = check_code(&reader, "CreateQueue", err);
    }
    buf_free(&buf);
    return result;
}

int client_set_config(struct client *client, const char *key, const char *value, struct err *err)
{
    struct buf buf;
    struct frame frame;
    struct wire_reader reader;
    buf_init(&buf, 0);
    int encoded =
        framed_client_set_config(&buf, ADMIN_REQUEST_ID, str_from_c(key), str_from_c(value));
    int result = request(client, &buf, encoded, OPCODE_SET_CONFIG_RESULT, &frame, err);
    if (result == 0) {
        wire_reader_init(&reader, frame.body);
        result = check_code(&reader, "SetConfig", err);
    }
    buf_free(&buf);
    return result;
}

int client_redrive(struct client *client, const char *queue, uint64_t limit, uint64_t *moved,
                   struct err *err)
{
    struct buf buf;
    struct frame frame;
    struct wire_reader reader;
    buf_init(&buf, 0);
    int encoded = framed_client_redrive(&buf, ADMIN_REQUEST_ID, str_from_c(queue), limit);
    int result = request(client, &buf, encoded, OPCODE_REDRIVE_RESULT, &frame, err);
    if (result == 0) {
        wire_reader_init(&reader, frame.body);
        result = check_code(&reader, "Redrive", err);
    }
    if (result == 0 && !framed_client_redrive_result(&reader, moved)) {
        result = client_malformed(&reader, "Redrive", err);
    }
    buf_free(&buf);
    return result;
}

int client_delete_queue(struct client *client, const char *queue, struct err *err)
{
    struct buf buf;
    struct frame frame;
    struct wire_reader reader;
    buf_init(&buf, 0);
    int encoded =
        framed_client_text(&buf, OPCODE_DELETE_QUEUE, ADMIN_REQUEST_ID, str_from_c(queue));
    int result = request(client, &buf, encoded, OPCODE_DELETE_QUEUE_RESULT, &frame, err);
    if (result == 0) {
        wire_reader_init(&reader, frame.body);
        result = check_code(&reader, "DeleteQueue", err);
    }
    buf_free(&buf);
    return result;
}

int client_check_depth(struct client *client, const char *queue, uint64_t depth, uint64_t in_flight,
                       struct err *err)
{
    struct framed_stats stats;
    struct buf buf;
    struct frame frame;
    struct wire_reader reader;
    uint16_t keys;
    int result = -1;
    buf_init(&buf, 0);
    int encoded = framed_client_text(&buf, OPCODE_GET_STATS, ADMIN_REQUEST_ID, str_from_c(queue));
    if (request(client, &buf, encoded, OPCODE_GET_STATS_RESULT, &frame, err) != 0) {
        goto out;
    }
    wire_reader_init(&reader, frame.body);
    if (check_code(&reader, "GetStats", err) != 0) {
        goto out;
    }
    if (!framed_client_stats_begin(&reader, &stats, &keys)) {
        client_malformed(&reader, "GetStats", err);
        goto out;
    }
    if (stats.depth != depth || stats.in_flight != in_flight) {
        err_set(err, 0,
                "queue %s: the broker counts %llu messages and %llu in flight, by what it"
                " confirmed it has to be %llu and %llu",
                queue, (unsigned long long)stats.depth, (unsigned long long)stats.in_flight,
                (unsigned long long)depth, (unsigned long long)in_flight);
        goto out;
    }
    result = 0;
out:
    buf_free(&buf);
    return result;
}

int client_consume(struct client *client, const char *queue, uint32_t request_id, struct err *err)
{
    struct buf buf;
    struct frame frame;
    buf_init(&buf, 0);
    int encoded = framed_client_text(&buf, OPCODE_CONSUME, request_id, str_from_c(queue));
    int result = request(client, &buf, encoded, OPCODE_CONSUME_OK, &frame, err);
    buf_free(&buf);
    return result;
}
