#include "client/transport.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/error.h"
#include "core/bytes.h"
#include "fibp/opcode.h"
#include "fibp/reassembly.h"
#include "os/time.h"

#define TRANSPORT_READ_SIZE (256u * 1024)     /* bytes of one recv at most */
#define TRANSPORT_OUT_HIGH (4u * 1024 * 1024) /* unsent bytes beyond which submitting waits */
#define TRANSPORT_OUT_KEEP TRANSPORT_OUT_HIGH /* capacity kept when everything is sent */
#define TRANSPORT_CLOSE_MS 1000u              /* for unsent bytes and the peer's goodbye */
#define TRANSPORT_FRAME_OPCODE_AT 4u          /* where these stand in a frame */
#define TRANSPORT_FRAME_ID_AT 6u
#define TRANSPORT_AROUND (4u * 1024 * 1024) /* a Delivery is longer than its messages are */

struct transport {
    int fd;
    int wake; /* eventfd: there is something to send, or to stop for */
    struct transport_limits limits;
    pthread_t reader;
    bool reader_started;

    pthread_mutex_t out_lock;
    pthread_cond_t out_room;
    struct buf out;
    size_t out_sent; /* bytes at the front of `out` that are sent */
    bool out_closed; /* nothing can be sent any more */

    pthread_mutex_t table_lock;
    pthread_cond_t sink_idle;
    struct hash requests;
    struct list sinks;
    struct transport_sink *sink_busy; /* its delivery function is running */
    uint32_t next_id;
    bool stopping;
    bool ended;
    struct fila_error end; /* why; set before `ended` */

    /* of the reader alone */
    struct buf in;
    size_t in_used; /* bytes at the front of `in` that are dispatched */
    struct reassembly reassembly;
};

static struct transport_request *request_of(struct hash_link *link)
{
    return CONTAINER_OF(link, struct transport_request, link);
}

/* ---- sending ---- */

static void transport_wake(struct transport *transport)
{
    uint64_t one = 1;
    /* Fails only when the counter is full, and then the reader is awake already. */
    ssize_t ignored = write(transport->wake, &one, sizeof(one));
    (void)ignored;
}

/* Sends what the socket takes without blocking; true when something is left. Under out_lock. */
static bool transport_flush(struct transport *transport)
{
    while (!transport->out_closed && transport->out_sent < transport->out.size) {
        ssize_t sent = send(transport->fd, transport->out.data + transport->out_sent,
                            transport->out.size - transport->out_sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (sent < 0) {
            /* The reader finds out by itself and reports the end; it still reads what is there. */
            transport->out_closed = true;
            break;
        }
        transport->out_sent += (size_t)sent;
    }
    bool left = !transport->out_closed && transport->out_sent < transport->out.size;
    if (!left) {
        if (transport->out.capacity > TRANSPORT_OUT_KEEP)
            buf_free(&transport->out);
        buf_clear(&transport->out);
        transport->out_sent = 0;
    } else if (transport->out_sent > transport->out.size / 2) {
        buf_consume(&transport->out, transport->out_sent);
        transport->out_sent = 0;
    }
    if (transport->out.size - transport->out_sent <= TRANSPORT_OUT_HIGH)
        pthread_cond_broadcast(&transport->out_room);
    return left;
}

/* Appends a frame under request_id `id`: as it is, or in as many as the peer's limit wants. Under
 * out_lock. Nothing is appended when memory fails. */
static void transport_split(struct transport *transport, const struct buf *frame, uint32_t id)
{
    size_t most = transport->limits.peer_max_frame_size - FRAME_LENGTH_MIN;
    struct str body = str_of(frame->data + FRAME_OVERHEAD, frame->size - FRAME_OVERHEAD);
    size_t count = body.size > 0 ? (body.size + most - 1) / most : 1;
    struct buf *out = &transport->out;

    if (!buf_reserve(out, body.size + count * FRAME_OVERHEAD))
        return;
    while (count-- > 0) {
        size_t part = count > 0 ? most : body.size;
        buf_append_u32(out, (uint32_t)(part + FRAME_LENGTH_MIN));
        buf_append_u8(out, frame->data[TRANSPORT_FRAME_OPCODE_AT]);
        buf_append_u8(out, count > 0 ? FRAME_FLAG_CONTINUATION : 0);
        buf_append_u32(out, id);
        buf_append(out, body.data, part);
        body = str_of(body.data + part, body.size - part);
    }
}

/* Appends a frame under request_id `id` and sends what can be sent at once. The reader only
 * appends: it flushes when it has dispatched all it read. -1: no memory, nothing was appended. */
static int transport_append(struct transport *transport, const struct buf *frame, uint32_t id)
{
    pthread_mutex_lock(&transport->out_lock);
    bool idle = transport->out.size == transport->out_sent, left = false;
    if (!transport->out_closed)
        transport_split(transport, frame, id);
    bool failed = transport->out.failed;
    transport->out.failed = false;
    if (!failed && !transport_on_reader(transport))
        left = transport_flush(transport);
    pthread_mutex_unlock(&transport->out_lock);
    if (left && idle)
        transport_wake(transport);
    return failed ? -1 : 0;
}

static struct timespec deadline_after(uint64_t ms)
{
    uint64_t now = time_monotonic_ns();
    /* A year is for ever, and does not overflow. */
    if (ms > 366ull * 86400 * 1000)
        ms = 366ull * 86400 * 1000;
    now += ms * 1000000;
    return (struct timespec){.tv_sec = (time_t)(now / 1000000000),
                             .tv_nsec = (long)(now % 1000000000)};
}

static int transport_wait_room(struct transport *transport, uint64_t timeout_ms,
                               struct fila_error *error)
{
    if (transport_on_reader(transport))
        return 0;
    struct timespec deadline = deadline_after(timeout_ms);
    int waited = 0;
    pthread_mutex_lock(&transport->out_lock);
    while (!transport->out_closed && waited != ETIMEDOUT &&
           transport->out.size - transport->out_sent > TRANSPORT_OUT_HIGH)
        waited = pthread_cond_timedwait(&transport->out_room, &transport->out_lock, &deadline);
    pthread_mutex_unlock(&transport->out_lock);
    if (waited == ETIMEDOUT)
        return error_set(error, FILA_TIMEOUT, "the server does not take more requests");
    return 0;
}

/* ---- requests ---- */

static struct transport_request *transport_find(struct transport *transport, uint32_t id)
{
    struct hash_link *link = hash_find(&transport->requests, id);
    while (link && request_of(link)->id != id)
        link = hash_find_next(link);
    return link ? request_of(link) : NULL;
}

static struct transport_sink *transport_find_sink(struct transport *transport, uint32_t id)
{
    LIST_EACH(&transport->sinks, entry)
    {
        struct transport_sink *sink = CONTAINER_OF(entry, struct transport_sink, list);
        if (sink->id == id)
            return sink;
    }
    return NULL;
}

/* An id that nothing under way has; 0 is left to the handshake. Under table_lock. */
static uint32_t transport_new_id(struct transport *transport)
{
    do {
        transport->next_id++;
    } while (transport->next_id == 0 || transport_find(transport, transport->next_id) ||
             transport_find_sink(transport, transport->next_id));
    return transport->next_id;
}

int transport_submit(struct transport *transport, const struct buf *frame,
                     struct transport_request *request, struct transport_sink *sink,
                     uint64_t timeout_ms, struct fila_error *error)
{
    if (transport_wait_room(transport, timeout_ms, error) != 0)
        return -1;

    pthread_mutex_lock(&transport->table_lock);
    if (transport->ended) {
        error_copy(error, &transport->end);
        pthread_mutex_unlock(&transport->table_lock);
        return -1;
    }
    uint32_t id = transport_new_id(transport);
    if (request) {
        request->id = id;
        hash_insert(&transport->requests, &hash_malloc, id, &request->link);
    }
    if (sink) {
        sink->id = id;
        list_append(&transport->sinks, &sink->list);
    }
    pthread_mutex_unlock(&transport->table_lock);

    if (transport_append(transport, frame, id) == 0)
        return 0;
    if (sink)
        transport_detach(transport, sink);
    /* When it cannot be withdrawn the connection has ended meanwhile, and `complete` says so. */
    if (request && !transport_withdraw(transport, request))
        return 0;
    return error_set(error, FILA_NO_MEMORY, "no memory for the request");
}

void transport_send(struct transport *transport, const struct buf *frame)
{
    if (transport_append(transport, frame, bytes_get_u32(frame->data + TRANSPORT_FRAME_ID_AT)) !=
        0) {
        /* Nothing that is sent this way is awaited; losing it must not leave the peer waiting. */
        shutdown(transport->fd, SHUT_RDWR);
    }
}

bool transport_withdraw(struct transport *transport, struct transport_request *request)
{
    pthread_mutex_lock(&transport->table_lock);
    bool waiting = transport_find(transport, request->id) == request;
    if (waiting)
        hash_remove(&transport->requests, &request->link);
    pthread_mutex_unlock(&transport->table_lock);
    return waiting;
}

void transport_detach(struct transport *transport, struct transport_sink *sink)
{
    pthread_mutex_lock(&transport->table_lock);
    list_remove(&sink->list);
    while (transport->sink_busy == sink && !transport_on_reader(transport))
        pthread_cond_wait(&transport->sink_idle, &transport->table_lock);
    pthread_mutex_unlock(&transport->table_lock);
}

/* ---- dispatching, on the reader ---- */

static struct transport_request *transport_take(struct transport *transport, uint32_t id)
{
    pthread_mutex_lock(&transport->table_lock);
    struct transport_request *request = transport_find(transport, id);
    if (request)
        hash_remove(&transport->requests, &request->link);
    pthread_mutex_unlock(&transport->table_lock);
    return request;
}

/* Marks the sink busy so that it cannot be detached and freed under its own functions. */
static struct transport_sink *transport_enter_sink(struct transport *transport, uint32_t id,
                                                   bool remove)
{
    pthread_mutex_lock(&transport->table_lock);
    struct transport_sink *sink = transport_find_sink(transport, id);
    transport->sink_busy = sink;
    if (sink && remove)
        list_remove(&sink->list);
    pthread_mutex_unlock(&transport->table_lock);
    return sink;
}

static void transport_leave_sink(struct transport *transport)
{
    pthread_mutex_lock(&transport->table_lock);
    transport->sink_busy = NULL;
    pthread_cond_broadcast(&transport->sink_idle);
    pthread_mutex_unlock(&transport->table_lock);
}

static int dispatch_ping(struct transport *transport, const struct frame *frame,
                         struct fila_error *error)
{
    struct buf pong;
    int result = 0;
    buf_init(&pong, 0);
    if (frame_empty(&pong, OPCODE_PONG, frame->request_id) == 0)
        transport_send(transport, &pong);
    else
        result = error_set(error, FILA_NO_MEMORY, "no memory to answer the server's Ping");
    buf_free(&pong);
    return result;
}

static int dispatch_delivery(struct transport *transport, const struct frame *frame,
                             struct fila_error *error)
{
    struct transport_sink *sink = transport_enter_sink(transport, frame->request_id, false);
    int result = sink ? sink->delivery(sink, frame, error) : 0;
    transport_leave_sink(transport);
    return result;
}

static int dispatch_disconnect(struct transport *transport, const struct frame *frame,
                               struct fila_error *error)
{
    (void)transport;
    (void)frame;
    return error_set(error, FILA_DISCONNECTED, "the server closed the connection");
}

/* An Error belongs to a request, to a subscription, or (request_id 0) to the connection. */
static int dispatch_error(struct transport *transport, const struct frame *frame,
                          struct fila_error *error)
{
    struct fila_error reported = FILA_ERROR_INIT;
    int result = 0;
    error_set_frame(&reported, frame->body);

    struct transport_request *request = transport_take(transport, frame->request_id);
    if (request) {
        request->complete(request, NULL, &reported);
    } else {
        struct transport_sink *sink = transport_enter_sink(transport, frame->request_id, true);
        if (sink)
            sink->ended(sink, &reported);
        transport_leave_sink(transport);
        if (!sink && frame->request_id == 0) {
            error_copy(error, &reported);
            result = -1;
        }
    }
    fila_error_clear(&reported);
    return result;
}

/* Answers; those whose request has timed out, and opcodes of a later protocol, are ignored. */
static int dispatch_answer(struct transport *transport, const struct frame *frame)
{
    struct transport_request *request = transport_take(transport, frame->request_id);
    if (request)
        request->complete(request, frame, NULL);
    return 0;
}

static int transport_dispatch(struct transport *transport, struct frame *frame,
                              struct fila_error *error)
{
    static const struct {
        uint8_t opcode;
        int (*function)(struct transport *, const struct frame *, struct fila_error *);
    } table[] = {
        {OPCODE_DELIVERY, dispatch_delivery},
        {OPCODE_PING, dispatch_ping},
        {OPCODE_DISCONNECT, dispatch_disconnect},
        {OPCODE_ERROR, dispatch_error},
    };
    enum reassembly_result whole = reassembly_take(&transport->reassembly, frame);
    if (whole == REASSEMBLY_HELD)
        return 0;
    if (whole != REASSEMBLY_READY)
        return error_set(error, whole == REASSEMBLY_NO_MEMORY ? FILA_NO_MEMORY : FILA_PROTOCOL,
                         "message from the server: %s", reassembly_result_text(whole));
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (table[i].opcode == frame->opcode)
            return table[i].function(transport, frame, error);
    return dispatch_answer(transport, frame);
}

/* Dispatches every complete frame in `in`; -1 with the reason when the connection has to end. */
static int transport_dispatch_all(struct transport *transport, struct fila_error *error)
{
    while (transport->in_used < transport->in.size) {
        struct frame frame;
        struct str rest = str_of(transport->in.data + transport->in_used,
                                 transport->in.size - transport->in_used);
        enum frame_result result = frame_parse(rest, transport->limits.max_frame_size, &frame);
        if (result == FRAME_MORE)
            break;
        if (result != FRAME_READY)
            return error_set(error, FILA_PROTOCOL, "from the server: %s",
                             frame_result_text(result));
        transport->in_used += frame.size;
        if (transport_dispatch(transport, &frame, error) != 0)
            return -1;
    }
    buf_consume(&transport->in, transport->in_used);
    transport->in_used = 0;
    if (transport->in.size == 0 && transport->in.capacity > 4 * TRANSPORT_READ_SIZE)
        buf_free(&transport->in);
    return 0;
}

/* Reads what is there. 0: go on, -1: the connection is over. */
static int transport_receive(struct transport *transport, struct fila_error *error)
{
    uint8_t *room = buf_reserve(&transport->in, TRANSPORT_READ_SIZE);
    if (!room)
        return error_set(error, FILA_NO_MEMORY, "no memory to receive");
    ssize_t got = recv(transport->fd, room, TRANSPORT_READ_SIZE, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (got < 0)
        return error_set(error, FILA_TRANSPORT, "connection lost: %s", strerror(errno));
    if (got == 0)
        return error_set(error, FILA_TRANSPORT, "connection closed by the server");
    transport->in.size += (size_t)got;
    return transport_dispatch_all(transport, error);
}

/* Takes every request out of the table, chained by their links. Under table_lock. */
static struct hash_link *transport_take_all(struct transport *transport)
{
    struct hash_link *chain = NULL;
    uint32_t bucket = 0;
    struct hash_link *link = hash_next(&transport->requests, &bucket, NULL);
    while (link) {
        struct hash_link *next = hash_next(&transport->requests, &bucket, link);
        hash_remove(&transport->requests, link);
        link->next = chain;
        chain = link;
        link = next;
    }
    return chain;
}

/* Fails everything that waits. After this nothing can be submitted. */
static void transport_end(struct transport *transport, const struct fila_error *error)
{
    pthread_mutex_lock(&transport->out_lock);
    transport->out_closed = true;
    pthread_cond_broadcast(&transport->out_room);
    pthread_mutex_unlock(&transport->out_lock);

    pthread_mutex_lock(&transport->table_lock);
    error_copy(&transport->end, error);
    transport->ended = true;
    struct hash_link *link = transport_take_all(transport);
    pthread_mutex_unlock(&transport->table_lock);
    while (link) {
        struct transport_request *request = request_of(link);
        link = link->next; /* the request may be freed by its completion */
        request->complete(request, NULL, error);
    }

    pthread_mutex_lock(&transport->table_lock);
    while (!list_empty(&transport->sinks)) {
        struct transport_sink *sink =
            CONTAINER_OF(transport->sinks.next, struct transport_sink, list);
        list_remove(&sink->list);
        transport->sink_busy = sink;
        pthread_mutex_unlock(&transport->table_lock);
        sink->ended(sink, error);
        transport_leave_sink(transport);
        pthread_mutex_lock(&transport->table_lock);
    }
    pthread_mutex_unlock(&transport->table_lock);
}

/* Sends what is left and waits for the peer to close, so that nothing sent is lost in a reset. */
static void transport_linger(struct transport *transport)
{
    uint64_t deadline = time_monotonic_ms() + TRANSPORT_CLOSE_MS;
    bool left = true;
    for (;;) {
        if (left) {
            pthread_mutex_lock(&transport->out_lock);
            left = transport_flush(transport);
            pthread_mutex_unlock(&transport->out_lock);
            if (!left)
                shutdown(transport->fd, SHUT_WR);
        }
        uint64_t now = time_monotonic_ms();
        if (now >= deadline)
            return;
        struct pollfd poll_fd = {transport->fd, (short)(left ? POLLIN | POLLOUT : POLLIN), 0};
        if (poll(&poll_fd, 1, (int)(deadline - now)) < 0 && errno != EINTR)
            return;
        if (poll_fd.revents & (POLLIN | POLLERR | POLLHUP)) {
            uint8_t waste[4096];
            ssize_t got = recv(transport->fd, waste, sizeof(waste), MSG_DONTWAIT);
            if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
                return;
        }
    }
}

static bool transport_stopping(struct transport *transport)
{
    pthread_mutex_lock(&transport->table_lock);
    bool stopping = transport->stopping;
    pthread_mutex_unlock(&transport->table_lock);
    return stopping;
}

static void *transport_read(void *argument)
{
    struct transport *transport = argument;
    struct fila_error error = FILA_ERROR_INIT;

    /* Until transport_open has stored this thread's id. */
    pthread_mutex_lock(&transport->out_lock);
    pthread_mutex_unlock(&transport->out_lock);

    int result = transport_dispatch_all(transport, &error);
    while (result == 0) {
        pthread_mutex_lock(&transport->out_lock);
        bool left = transport_flush(transport);
        pthread_mutex_unlock(&transport->out_lock);

        struct pollfd fds[2] = {
            {transport->fd, (short)(left ? POLLIN | POLLOUT : POLLIN), 0},
            {transport->wake, POLLIN, 0},
        };
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            result = error_set(&error, FILA_TRANSPORT, "poll: %s", strerror(errno));
        if (fds[1].revents) {
            uint64_t count;
            ssize_t ignored = read(transport->wake, &count, sizeof(count));
            (void)ignored;
            if (transport_stopping(transport)) {
                transport_linger(transport);
                result = error_set(&error, FILA_CLOSED, "connection closed");
            }
        }
        if (result == 0 && (fds[0].revents & (POLLIN | POLLERR | POLLHUP)))
            result = transport_receive(transport, &error);
    }
    transport_end(transport, &error);
    shutdown(transport->fd, SHUT_RDWR);
    fila_error_clear(&error);
    return NULL;
}

/* ---- life ---- */

static void condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

struct transport *transport_open(int fd, const struct transport_limits *limits, struct str early,
                                 struct fila_error *error)
{
    struct transport *transport = calloc(1, sizeof(*transport));
    if (!transport) {
        error_set(error, FILA_NO_MEMORY, "no memory for a connection");
        close(fd);
        return NULL;
    }
    transport->fd = fd;
    transport->limits = *limits;
    transport->end = (struct fila_error)FILA_ERROR_INIT;
    pthread_mutex_init(&transport->out_lock, NULL);
    condition_init(&transport->out_room);
    pthread_mutex_init(&transport->table_lock, NULL);
    condition_init(&transport->sink_idle);
    buf_init(&transport->out, 0);
    buf_init(&transport->in, 0);
    list_init(&transport->sinks);
    reassembly_init(&transport->reassembly, REASSEMBLY_STREAMS_MAX,
                    limits->max_message_size + TRANSPORT_AROUND,
                    limits->max_message_size + TRANSPORT_AROUND);
    transport->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    buf_append_str(&transport->in, early);
    if (hash_init(&transport->requests, &hash_malloc) != 0 || transport->in.failed) {
        error_set(error, FILA_NO_MEMORY, "no memory for a connection");
        goto fail;
    }
    if (transport->wake < 0) {
        error_set(error, FILA_TRANSPORT, "eventfd: %s", strerror(errno));
        goto fail;
    }
    /* The reader compares itself with `reader`: it must not start before that is set. */
    pthread_mutex_lock(&transport->out_lock);
    int failed = pthread_create(&transport->reader, NULL, transport_read, transport);
    transport->reader_started = failed == 0;
    pthread_mutex_unlock(&transport->out_lock);
    if (failed) {
        error_set(error, FILA_TRANSPORT, "start a thread: %s", strerror(failed));
        goto fail;
    }
    return transport;

fail:
    transport_free(transport);
    return NULL;
}

void transport_close(struct transport *transport)
{
    struct buf goodbye;
    buf_init(&goodbye, 0);
    if (frame_empty(&goodbye, OPCODE_DISCONNECT, 0) == 0)
        transport_send(transport, &goodbye);
    buf_free(&goodbye);

    pthread_mutex_lock(&transport->table_lock);
    transport->stopping = true;
    pthread_mutex_unlock(&transport->table_lock);
    transport_wake(transport);
    pthread_join(transport->reader, NULL);
    transport->reader_started = false;
    close(transport->fd);
    transport->fd = -1;
}

void transport_free(struct transport *transport)
{
    if (transport->fd >= 0)
        close(transport->fd);
    if (transport->wake >= 0)
        close(transport->wake);
    hash_free(&transport->requests, &hash_malloc);
    reassembly_free(&transport->reassembly);
    buf_free(&transport->in);
    buf_free(&transport->out);
    fila_error_clear(&transport->end);
    pthread_cond_destroy(&transport->sink_idle);
    pthread_mutex_destroy(&transport->table_lock);
    pthread_cond_destroy(&transport->out_room);
    pthread_mutex_destroy(&transport->out_lock);
    free(transport);
}

uint32_t transport_peer_max_frame_size(const struct transport *transport)
{
    return transport->limits.peer_max_frame_size;
}

size_t transport_max_message_size(const struct transport *transport)
{
    return transport->limits.max_message_size;
}

bool transport_on_reader(const struct transport *transport)
{
    return pthread_equal(pthread_self(), transport->reader);
}
