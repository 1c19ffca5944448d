/*
 * harness - sessions on a socket pair with a pipeline that the test plays itself. Include it in one
 * file of a program: it defines the functions of worker/pipeline.h that sessions call.
 */
#ifndef FILAD_TESTS_HARNESS_H
#define FILAD_TESTS_HARNESS_H

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/bytes.h"
#include "fibp/framed.h"
#include "os/time.h"
#include "worker/request.h"
#include "worker/session.h"
#include "worker/sessions.h"
#include "worker/subscriber.h"

#define PATIENCE_MS 5000 /* after which a test fails instead of waiting on */

struct harness {
    struct loop *loop;
    struct loop_hook stop_hook;
    struct loop_timer nudge;
    struct conf conf;
    struct conf_listen listen;
    struct sessions sessions;
    int client; /* our end of the connection; -1 once closed */
    struct buf received;
    bool eof;                          /* the server has closed */
    struct operation *submitted[4096]; /* what the pipeline has, oldest first */
    size_t submitted_count;
    bool answering;   /* the pipeline answers at once, FIBP_OK */
    size_t returned;  /* OPERATION_RETURN seen */
    size_t rooms;     /* OPERATION_ROOM of connections seen */
    size_t all_rooms; /* OPERATION_ROOM of the worker seen */
};

static struct harness *harness;
static struct operation *harness_results, **harness_results_end = &harness_results;

/* ---- the pipeline ---- */

static void harness_complete(struct operation *operation)
{
    operation->next = NULL;
    *harness_results_end = operation;
    harness_results_end = &operation->next;
}

static void harness_execute(struct operation *operation)
{
    static uint8_t counter;

    if (operation->kind == OPERATION_ENQUEUE) {
        struct operation_enqueue *enqueue = (struct operation_enqueue *)operation;

        for (uint32_t i = 0; i < enqueue->count; i++) {
            struct operation_enqueue_item *item = &enqueue->items[i];

            item->status = str_equal(item->queue, STR("missing")) ? FIBP_QUEUE_NOT_FOUND : FIBP_OK;
            memset(&item->id, ++counter, sizeof(item->id));
        }
    } else if (operation->kind == OPERATION_ACK || operation->kind == OPERATION_NACK) {
        struct operation_settle *settle = (struct operation_settle *)operation;

        for (uint32_t i = 0; i < settle->count; i++)
            settle->items[i].status = settle->items[i].id_valid ? FIBP_OK : FIBP_MESSAGE_NOT_FOUND;
    } else if (operation->kind == OPERATION_SUBSCRIBE) {
        struct operation_subscription *subscribe = (struct operation_subscription *)operation;

        if (str_equal(subscribe->subscription->queue, STR("missing")))
            operation->status = FIBP_QUEUE_NOT_FOUND;
    }
}

void pipeline_submit(struct pipeline *pipeline, struct operation *first)
{
    (void)pipeline;
    for (struct operation *next; first; first = next) {
        next = first->next;
        harness->returned += first->kind == OPERATION_RETURN;
        harness->rooms += first->kind == OPERATION_ROOM && first->owner;
        harness->all_rooms += first->kind == OPERATION_ROOM && !first->owner;
        if (harness->answering) {
            harness_execute(first);
            harness_complete(first);
        } else {
            assert_true(harness->submitted_count < 4096);
            harness->submitted[harness->submitted_count++] = first;
        }
    }
}

struct operation *pipeline_take(struct pipeline *pipeline)
{
    struct operation *first = harness_results;

    (void)pipeline;
    harness_results = NULL;
    harness_results_end = &harness_results;
    return first;
}

/* Takes the operation at `index` out of the pipeline; the caller completes it. */
static inline void *harness_pick(size_t index)
{
    struct operation *operation = harness->submitted[index];

    assert_true(index < harness->submitted_count);
    memmove(&harness->submitted[index], &harness->submitted[index + 1],
            (--harness->submitted_count - index) * sizeof(operation));
    return operation;
}

/* Executes everything that the pipeline has. */
static inline void harness_answer_all(void)
{
    while (harness->submitted_count > 0) {
        struct operation *operation = harness_pick(0);

        harness_execute(operation);
        harness_complete(operation);
    }
}

/* ---- ticks ---- */

static void harness_stop(struct loop_hook *hook)
{
    loop_stop(CONTAINER_OF(hook, struct harness, stop_hook)->loop);
}

static void harness_nothing(struct loop_timer *timer)
{
    (void)timer;
}

/* One tick of the loop; it does not sleep. */
static inline void harness_tick(void)
{
    struct err err;

    sessions_take(&harness->sessions);
    loop_timer_set(harness->loop, &harness->nudge, 0);
    assert_int_equal(loop_run(harness->loop, &err), 0);
}

static inline void harness_read(void)
{
    uint8_t bytes[65536];
    ssize_t got;

    while (harness->client >= 0 && !harness->eof &&
           (got = recv(harness->client, bytes, sizeof(bytes), MSG_DONTWAIT)) != -1) {
        if (got == 0)
            harness->eof = true;
        buf_append(&harness->received, bytes, (size_t)got);
    }
    if (errno == ECONNRESET)
        harness->eof = true;
}

/* Ticks until `expression` holds; the test fails when it does not within PATIENCE_MS. */
#define HARNESS_UNTIL(expression)                                                                  \
    do {                                                                                           \
        uint64_t deadline_ = time_monotonic_ms() + PATIENCE_MS;                                    \
        while (!(expression)) {                                                                    \
            if (time_monotonic_ms() > deadline_)                                                   \
                fail_msg("waited in vain for: %s", #expression);                                   \
            harness_tick();                                                                        \
        }                                                                                          \
    } while (0)

/* ---- the client ---- */

static inline void harness_send(struct str bytes)
{
    while (bytes.size > 0) {
        ssize_t sent = send(harness->client, bytes.data, bytes.size, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent < 0) {
            assert_true(errno == EAGAIN || errno == EWOULDBLOCK);
            harness_tick();
            continue;
        }
        bytes = str_of(bytes.data + sent, bytes.size - (size_t)sent);
    }
}

static inline bool harness_parse(struct frame *frame)
{
    harness_read();
    return frame_parse(buf_str(&harness->received), FRAME_LENGTH_MAX, frame) == FRAME_READY;
}

/* The next frame from the server; its body is valid until the next call. */
static inline struct frame harness_receive(void)
{
    static uint8_t body[1 << 20];
    struct frame frame;

    HARNESS_UNTIL(harness_parse(&frame));
    assert_true(frame.body.size <= sizeof(body));
    memcpy(body, frame.body.data, frame.body.size);
    frame.body.data = body;
    buf_consume(&harness->received, frame.size);
    return frame;
}

static inline struct frame harness_expect(uint8_t opcode, uint32_t request_id)
{
    struct frame frame = harness_receive();

    if (frame.opcode != opcode && frame.opcode == OPCODE_ERROR)
        print_message("Error 0x%02x: %.*s\n", frame.body.data[0], (int)frame.body.size - 3,
                      (const char *)frame.body.data + 3);
    assert_int_equal(frame.opcode, opcode);
    assert_int_equal(frame.request_id, request_id);
    return frame;
}

static inline struct str harness_error_text(struct frame frame)
{
    return str_of(frame.body.data + 3, bytes_get_u16(frame.body.data + 1));
}

static inline struct frame harness_expect_error(uint32_t request_id, uint8_t status)
{
    struct frame frame = harness_expect(OPCODE_ERROR, request_id);

    assert_int_equal(frame.body.data[0], status);
    return frame;
}

static inline bool harness_closed(void)
{
    harness_read();
    return harness->eof;
}

/* The server closes and has said nothing more. */
static inline void harness_expect_close(void)
{
    HARNESS_UNTIL(harness_closed());
    assert_int_equal(harness->received.size, 0);
}

static inline void harness_hang_up(void)
{
    if (harness->client >= 0)
        close(harness->client);
    harness->client = -1;
}

/* That the session is alive and everything before was dealt with. */
static inline void harness_ping(uint32_t id)
{
    struct buf buf;

    buf_init(&buf, 0);
    assert_int_equal(frame_empty(&buf, OPCODE_PING, id), 0);
    harness_send(buf_str(&buf));
    buf_free(&buf);
    harness_expect(OPCODE_PONG, id);
}

static inline void harness_handshake(void)
{
    static const uint8_t hello[] = {0, 0, 0, 9, 1, 0, 0, 0, 0, 0, 0, 1, 0};

    harness_send(str_of(hello, sizeof(hello)));
    struct frame frame = harness_expect(OPCODE_HANDSHAKE_OK, 0);
    assert_int_equal(frame.body.size, 14);
}

/* The one session there is. */
static inline struct session *harness_session(void)
{
    assert_false(list_empty(&harness->sessions.all));
    return CONTAINER_OF(harness->sessions.all.next, struct session, list);
}

/* ---- set-up ---- */

static inline void harness_connect(void)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    harness->client = fds[0];
    harness->eof = false;
    buf_clear(&harness->received);
    sessions_add(&harness->sessions, fds[1], &harness->listen);
}

static inline int harness_setup(void **state)
{
    struct err err;

    harness = calloc(1, sizeof(*harness));
    assert_non_null(harness);
    harness->conf.fibp.max_frame_size = FRAME_LENGTH_MAX;
    harness->conf.fibp.max_message_size = 64 << 20;
    harness->conf.fibp.max_pending_streams = 64;
    harness->conf.fibp.handshake_timeout_ms = 10000;
    harness->conf.fibp.keepalive_interval_ms = 30000;
    harness->conf.fibp.delivery_window = 1 << 20;
    harness->conf.worker_connections = 1000;
    harness->loop = loop_create(&err);
    assert_non_null(harness->loop);
    harness->nudge.expired = harness_nothing;
    harness->answering = true;
    buf_init(&harness->received, 0);
    sessions_init(&harness->sessions, harness->loop, NULL, &harness->conf, NULL);
    harness->stop_hook.run = harness_stop;
    loop_hook_add(harness->loop, &harness->stop_hook);
    harness_connect();
    *state = harness;
    return 0;
}

/* Also checks that no session and no charge is left behind. */
static inline int harness_teardown(void **state)
{
    (void)state;
    harness_hang_up();
    harness->answering = true;
    harness_answer_all();
    sessions_destroy(&harness->sessions);
    assert_int_equal(harness->sessions.count, 0);
    assert_true(list_empty(&harness->sessions.closed));
    assert_int_equal(harness->sessions.outstanding, 0);
    assert_int_equal(harness->sessions.account.bytes, 0);
    assert_int_equal(harness->sessions.large, 0);
    loop_destroy(harness->loop);
    buf_free(&harness->received);
    free(harness);
    return 0;
}

/* A frame built from a body, in a buffer that the caller frees. */
static inline void harness_frame(struct buf *buf, uint8_t opcode, uint32_t id, struct str body)
{
    size_t start = frame_begin(buf, opcode, id);

    buf_append_str(buf, body);
    assert_int_equal(frame_end(buf, start, FRAME_LENGTH_MAX), 0);
}

static inline void harness_request(uint8_t opcode, uint32_t id, struct str body)
{
    struct buf buf;

    buf_init(&buf, 0);
    harness_frame(&buf, opcode, id, body);
    harness_send(buf_str(&buf));
    buf_free(&buf);
}

/* Appends an Enqueue of one message without headers. */
static inline void harness_enqueue(struct buf *buf, uint32_t id, struct str queue,
                                   struct str payload)
{
    size_t start = frame_begin(buf, OPCODE_ENQUEUE, id);

    buf_append_u32(buf, 1);
    wire_put_str(buf, queue);
    buf_append_u16(buf, 0);
    wire_put_bytes(buf, payload);
    assert_int_equal(frame_end(buf, start, FRAME_LENGTH_MAX), 0);
}

static inline void harness_request_str(uint8_t opcode, uint32_t id, struct str text)
{
    struct buf body;

    buf_init(&body, 0);
    wire_put_str(&body, text);
    harness_request(opcode, id, buf_str(&body));
    buf_free(&body);
}

static inline void harness_consume(uint32_t id, struct str queue,
                                   uint8_t consumer_id[UUID_TEXT_SIZE])
{
    harness_request_str(OPCODE_CONSUME, id, queue);
    struct frame frame = harness_expect(OPCODE_CONSUME_OK, id);
    assert_int_equal(frame.body.size, 2 + UUID_TEXT_SIZE);
    if (consumer_id)
        memcpy(consumer_id, frame.body.data + 2, UUID_TEXT_SIZE);
}

static inline struct subscription *harness_subscription(uint32_t id)
{
    struct subscriber *subscriber = subscriber_find(harness_session(), id);

    assert_non_null(subscriber);
    return &subscriber->subscription;
}

/* Hands up a message as the store thread does. */
static inline struct operation_delivery *harness_deliver(struct subscription *subscription,
                                                         size_t size)
{
    uint8_t *payload = calloc(1, size + 1);
    struct operation_delivery *delivery =
        calloc(1, sizeof(*delivery) + sizeof(delivery->leases[0]));
    struct delivery_message message = {
        .queue = subscription->queue, .fairness_key = STR("acme"), .weight = 1, .attempt = 2};
    struct buf record, frame;

    assert_non_null(payload);
    assert_non_null(delivery);
    buf_init(&record, 0);
    buf_init(&frame, 0);
    buf_append_u16(&record, 0);
    wire_put_bytes(&record, str_of(payload, size));
    message.record = buf_str(&record);
    subscription->encoder->begin(subscription, &frame);
    subscription->encoder->add(subscription, &frame, &message);
    subscription->encoder->end(subscription, &frame, 1);
    assert_false(frame.failed);
    delivery->operation.kind = OPERATION_DELIVERY;
    delivery->subscription = subscription;
    delivery->frame = frame.data;
    delivery->size = frame.size;
    delivery->count = 1;
    atomic_fetch_add(&subscription->window->queued, frame.size);
    atomic_fetch_add(&subscription->window->worker->queued, frame.size);
    buf_free(&record);
    free(payload);
    harness_complete(&delivery->operation);
    return delivery;
}

#endif
