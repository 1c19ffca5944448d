/*
 * server - a scripted FIBP server for tests of the client: a thread that listens on loopback, takes
 * connections and plays what the test wrote. It never asserts by itself, since it is no cmocka
 * thread: failures are collected and asserted by server_stop().
 */
#ifndef FILAD_TESTS_SERVER_H
#define FILAD_TESTS_SERVER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/buf.h"
#include "fibp/framed.h"
#include "fibp/framed_client.h"
#include "fila.h"

#define SERVER_PATIENCE_MS 20000 /* only a test that fails waits so long */

struct server {
    int listener, fd;
    char address[32];
    pthread_t thread;
    void (*script)(struct server *server);
    void *context;
    uint32_t max_frame_size; /* announced */
    struct buf in;
    size_t taken; /* bytes of `in` that belong to the last frame read */
    struct buf out;
    sem_t signal; /* for the test to let the script go on */
    char failure[256];
};

#define SERVER_EXPECT(server, condition)                                                           \
    do {                                                                                           \
        if (!(condition) && !(server)->failure[0])                                                 \
            snprintf((server)->failure, sizeof((server)->failure), "%s:%d: %s", __FILE__,          \
                     __LINE__, #condition);                                                        \
    } while (0)

static inline void server_wait(struct server *server)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += SERVER_PATIENCE_MS / 1000;
    int waited;
    do {
        waited = sem_timedwait(&server->signal, &until);
    } while (waited != 0 && errno == EINTR);
    SERVER_EXPECT(server, waited == 0);
}

static inline void server_go_on(struct server *server)
{
    sem_post(&server->signal);
}

static inline void server_hang_up(struct server *server)
{
    if (server->fd >= 0)
        close(server->fd);
    server->fd = -1;
}

static inline void server_accept(struct server *server)
{
    struct pollfd poll_fd = {server->listener, POLLIN, 0};
    server_hang_up(server);
    buf_clear(&server->in);
    buf_clear(&server->out);
    server->taken = 0;
    SERVER_EXPECT(server, poll(&poll_fd, 1, SERVER_PATIENCE_MS) == 1);
    server->fd = poll_fd.revents ? accept(server->listener, NULL, NULL) : -1;
    SERVER_EXPECT(server, server->fd >= 0);
}

/* Sends raw bytes. */
static inline void server_send(struct server *server, struct str bytes)
{
    while (bytes.size > 0) {
        ssize_t sent = send(server->fd, bytes.data, bytes.size, MSG_NOSIGNAL);
        if (sent <= 0) {
            SERVER_EXPECT(server, sent > 0);
            return;
        }
        bytes = str_of(bytes.data + sent, bytes.size - (size_t)sent);
    }
}

/* Sends what was encoded into `out`. */
static inline void server_flush(struct server *server)
{
    SERVER_EXPECT(server, !server->out.failed);
    server_send(server, buf_str(&server->out));
    buf_clear(&server->out);
}

/* The next frame, valid until the next call; false at the end of the connection. */
static inline bool server_read(struct server *server, struct frame *frame)
{
    buf_consume(&server->in, server->taken);
    server->taken = 0;
    *frame = (struct frame){.opcode = 0};
    for (;;) {
        enum frame_result result = frame_parse(buf_str(&server->in), FRAME_LENGTH_MAX, frame);
        if (result == FRAME_READY) {
            server->taken = frame->size;
            return true;
        }
        struct pollfd poll_fd = {server->fd, POLLIN, 0};
        uint8_t *room = buf_reserve(&server->in, 65536);
        SERVER_EXPECT(server, result == FRAME_MORE && room);
        if (result != FRAME_MORE || !room || server->fd < 0)
            return false;
        int ready = poll(&poll_fd, 1, SERVER_PATIENCE_MS);
        SERVER_EXPECT(server, ready == 1);
        ssize_t got = ready == 1 ? recv(server->fd, room, 65536, 0) : 0;
        if (got <= 0)
            return false;
        server->in.size += (size_t)got;
    }
}

/* The next frame, which must have this opcode. */
static inline uint32_t server_expect(struct server *server, struct frame *frame, uint8_t opcode)
{
    SERVER_EXPECT(server, server_read(server, frame));
    if (frame->opcode != opcode && !server->failure[0])
        snprintf(server->failure, sizeof(server->failure), "%s came instead of %s",
                 opcode_name(frame->opcode), opcode_name(opcode));
    return frame->request_id;
}

/* Waits for the end of the connection; a goodbye may come first. */
static inline void server_expect_end(struct server *server)
{
    struct frame frame;
    while (server_read(server, &frame))
        SERVER_EXPECT(server,
                      frame.opcode == OPCODE_DISCONNECT || frame.opcode == OPCODE_CANCEL_CONSUME);
    server_hang_up(server);
}

static inline void server_welcome(struct server *server)
{
    struct frame frame;
    server_accept(server);
    server_expect(server, &frame, OPCODE_HANDSHAKE);
    SERVER_EXPECT(server, framed_handshake_ok(&server->out, 1, 0, server->max_frame_size) == 0);
    server_flush(server);
}

/* An id that says which message it is for. */
static inline struct uuid server_id(uint8_t number)
{
    struct uuid id;
    memset(id.bytes, number, sizeof(id.bytes));
    return id;
}

static inline void server_answer_enqueue(struct server *server, uint32_t request_id, uint8_t number)
{
    struct uuid id = server_id(number);
    size_t start = framed_enqueue_result_begin(&server->out, request_id, 1);
    framed_enqueue_result_add(&server->out, FIBP_OK, &id);
    SERVER_EXPECT(server, frame_end(&server->out, start, FRAME_LENGTH_MAX) == 0);
    server_flush(server);
}

/* Encodes (and does not send) a delivery of messages first..first+count-1 with these payloads. */
static inline void server_deliver(struct server *server, uint32_t request_id, uint8_t first,
                                  uint8_t count, const char *payload, uint32_t max_length)
{
    struct buf record;
    buf_init(&record, 0);
    struct wire_pair headers[] = {{STR("n"), STR("1")}, {STR("n"), STR("2")}};
    wire_put_map(&record, headers, 2);
    wire_put_bytes(&record, str_from_c(payload));
    struct str keys[] = {STR("throttle")};
    size_t start = framed_delivery_begin(&server->out, NUMBERING_S3, request_id);
    for (uint8_t i = 0; i < count; i++) {
        struct framed_delivery_item item = {
            .id = server_id((uint8_t)(first + i)),
            .queue = STR("orders"),
            .record = buf_str(&record),
            .fairness_key = STR("acme"),
            .weight = 3,
            .throttle_keys = keys,
            .throttle_key_count = 1,
            .attempt = i,
            .enqueued_ms = 1000,
            .leased_ms = 2000,
        };
        SERVER_EXPECT(server, framed_delivery_add(&server->out, &item) == 0);
    }
    SERVER_EXPECT(server, framed_delivery_end(&server->out, start, count, max_length) == 0);
    buf_free(&record);
}

/* Accepts a subscription that asks for so many messages; its request_id. */
static inline uint32_t server_accept_limited(struct server *server, uint32_t limit)
{
    struct framed_consume request;
    struct wire_reader reader;
    struct frame frame;
    struct uuid id = server_id(0xcc);
    uint32_t request_id = server_expect(server, &frame, OPCODE_CONSUME);
    wire_reader_init(&reader, frame.body);
    SERVER_EXPECT(server, framed_consume(&reader, &request) && request.limit == limit);
    SERVER_EXPECT(server, framed_consume_ok(&server->out, NUMBERING_S3, request_id, &id) == 0);
    server_flush(server);
    return request_id;
}

static inline uint32_t server_accept_consume(struct server *server)
{
    return server_accept_limited(server, 0);
}

static inline void *server_thread(void *argument)
{
    struct server *server = argument;
    server->script(server);
    return NULL;
}

static inline void server_start(struct server *server, void (*script)(struct server *))
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);

    *server = (struct server){.fd = -1, .script = script, .max_frame_size = 16777216};
    buf_init(&server->in, 0);
    buf_init(&server->out, 0);
    sem_init(&server->signal, 0, 0);
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(server->listener >= 0);
    assert_int_equal(bind(server->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(server->listener, 8), 0);
    assert_int_equal(getsockname(server->listener, (struct sockaddr *)&address, &size), 0);
    snprintf(server->address, sizeof(server->address), "127.0.0.1:%u", ntohs(address.sin_port));
}

/* Between server_start and this the test may change the server. */
static inline void server_run(struct server *server)
{
    assert_int_equal(pthread_create(&server->thread, NULL, server_thread, server), 0);
}

/* Joins the script and fails the test with what went wrong in it. */
static inline void server_stop(struct server *server)
{
    pthread_join(server->thread, NULL);
    server_hang_up(server);
    close(server->listener);
    buf_free(&server->in);
    buf_free(&server->out);
    sem_destroy(&server->signal);
    if (server->failure[0])
        fail_msg("server: %s", server->failure);
}

static inline struct fila *server_connect(struct server *server, uint64_t request_timeout_ms)
{
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_options options;
    fila_options_init(&options);
    options.address = server->address;
    options.request_timeout_ms = request_timeout_ms;
    struct fila *client = fila_connect(&options, &error);
    if (!client)
        fail_msg("connect: %s", error.text);
    return client;
}

/* --- answers --- */

static inline void server_answer_created(struct server *server, uint32_t id,
                                         enum fibp_status status, const char *text)
{
    SERVER_EXPECT(server,
                  framed_create_queue_result(&server->out, id, status, str_from_c(text)) == 0);
    server_flush(server);
}

/* An answer that is nothing but a code. */
static inline void server_answer_status(struct server *server, uint32_t id, enum opcode opcode,
                                        enum fibp_status status)
{
    SERVER_EXPECT(server, framed_status_result(&server->out, opcode, id, status) == 0);
    server_flush(server);
}

/* Ends the list and sends it. */
static inline void server_answer_list(struct server *server, struct framed_list *list)
{
    SERVER_EXPECT(server, framed_list_end(&server->out, list, FRAME_LENGTH_MAX) == 0);
    server_flush(server);
}

static inline void server_answer_error(struct server *server, uint32_t id, enum fibp_status status,
                                       const char *text)
{
    SERVER_EXPECT(server, framed_error(&server->out, id, status, str_from_c(text), NULL, 0) == 0);
    server_flush(server);
}

#endif
