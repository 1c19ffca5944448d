#include "process/support/crowd.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/uuid.h"
#include "fibp/framed_client.h"
#include "os/sock.h"
#include "os/time.h"

#define READ_SIZE (1u << 20)
#define EVENTS 512
#define CONNECT_MS 30000u

struct member {
    struct crowd_member public;
    int fd;
    uint32_t next_request;
    struct buf rest; /* an incomplete frame */
    struct buf unsent;
    bool watched;
    uint32_t events;
};

struct crowd {
    int epoll;
    bool acking;
    size_t size, room;
    uint8_t *input; /* READ_SIZE bytes */
    struct crowd_totals totals;
    struct member members[];
};

struct crowd *crowd_create(size_t room)
{
    struct crowd *crowd = calloc(1, sizeof *crowd + room * sizeof(struct member));
    if (!crowd || !(crowd->input = malloc(READ_SIZE)))
        abort();
    crowd->room = room;
    crowd->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (crowd->epoll < 0)
        abort();
    return crowd;
}

void crowd_close(struct crowd *crowd, size_t index, bool abruptly)
{
    struct member *member = &crowd->members[index];
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    if (!member->public.open)
        return;
    if (abruptly)
        (void)setsockopt(member->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(member->fd);
    buf_free(&member->rest);
    buf_free(&member->unsent);
    member->public.open = false;
    crowd->totals.open--;
}

void crowd_destroy(struct crowd *crowd)
{
    if (!crowd)
        return;
    for (size_t i = 0; i < crowd->size; i++)
        crowd_close(crowd, i, false);
    close(crowd->epoll);
    free(crowd->input);
    free(crowd);
}

/* Asks for what is wanted of a member now. */
static int watch(struct crowd *crowd, struct member *member)
{
    uint32_t events = (member->public.deaf ? 0 : EPOLLIN) | (member->unsent.size ? EPOLLOUT : 0);
    struct epoll_event event = {.events = events, .data.u64 = (uint64_t)(member - crowd->members)};
    int operation = member->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (member->watched && member->events == events)
        return 0;
    member->watched = true;
    member->events = events;
    return epoll_ctl(crowd->epoll, operation, member->fd, &event);
}

int crowd_open(struct crowd *crowd, size_t count, const char *const *addresses,
               size_t address_count, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        struct sock_address address;
        size_t index = crowd->size;
        struct member *member = &crowd->members[index];
        if (index == crowd->room)
            abort();
        if (sock_address_parse(str_from_c(addresses[index % address_count]), &address, err) != 0)
            return -1;
        *member =
            (struct member){.fd = sock_connect(&address, CONNECT_MS, err), .next_request = 1000};
        if (member->fd < 0)
            return -1;
        buf_init(&member->rest, 0);
        buf_init(&member->unsent, 0);
        if (watch(crowd, member) != 0)
            return err_set_errno(err, errno, "watch a connection");
        member->public.open = true;
        crowd->size++;
        crowd->totals.open++;
    }
    return 0;
}

size_t crowd_size(const struct crowd *crowd)
{
    return crowd->size;
}

const struct crowd_member *crowd_member(const struct crowd *crowd, size_t index)
{
    return &crowd->members[index].public;
}

int crowd_fd(const struct crowd *crowd, size_t index)
{
    return crowd->members[index].fd;
}

struct crowd_totals crowd_totals(const struct crowd *crowd)
{
    return crowd->totals;
}

void crowd_set_acking(struct crowd *crowd, bool acking)
{
    crowd->acking = acking;
}

void crowd_set_deaf(struct crowd *crowd, size_t index, bool deaf)
{
    struct member *member = &crowd->members[index];
    member->public.deaf = deaf;
    if (member->public.open)
        (void)watch(crowd, member);
}

void crowd_set_mute(struct crowd *crowd, size_t index, bool mute)
{
    crowd->members[index].public.mute = mute;
}

/* --- sending --- */

/* Sends what is left over; -1 when the connection is broken. */
static int send_unsent(struct crowd *crowd, struct member *member)
{
    struct buf *unsent = &member->unsent;
    ssize_t sent = send(member->fd, unsent->data, unsent->size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN)
        return -1;
    buf_consume(unsent, sent > 0 ? (size_t)sent : 0);
    if (unsent->size == 0)
        buf_free(unsent);
    return watch(crowd, member);
}

/* Takes the frame. -1 without one, or when the connection is broken. */
static int send_frame(struct crowd *crowd, struct member *member, int encoded, struct buf *frame)
{
    int status = -1;
    if (encoded == 0 && member->public.open) {
        bool waiting = member->unsent.size > 0;
        buf_append(&member->unsent, frame->data, frame->size);
        status = waiting ? 0 : send_unsent(crowd, member);
    }
    buf_free(frame);
    return status;
}

int crowd_handshake(struct crowd *crowd, size_t index)
{
    struct buf buf;
    buf_init(&buf, 0);
    return send_frame(crowd, &crowd->members[index],
                      framed_client_handshake(&buf, 0, FRAME_PROTOCOL_VERSION, NULL), &buf);
}

int crowd_consume(struct crowd *crowd, size_t index, uint32_t request_id, const char *queue)
{
    struct buf buf;
    buf_init(&buf, 0);
    return send_frame(crowd, &crowd->members[index],
                      framed_client_consume(&buf, request_id, str_from_c(queue), 0), &buf);
}

int crowd_ping(struct crowd *crowd, size_t index)
{
    struct buf buf;
    buf_init(&buf, 0);
    return send_frame(crowd, &crowd->members[index], frame_empty(&buf, OPCODE_PING, 7), &buf);
}

int crowd_pong(struct crowd *crowd, size_t index)
{
    struct buf buf;
    buf_init(&buf, 0);
    return send_frame(crowd, &crowd->members[index], frame_empty(&buf, OPCODE_PONG, 9), &buf);
}

int crowd_ack(struct crowd *crowd, size_t index, const char *queue, const struct uuid *id)
{
    struct member *member = &crowd->members[index];
    uint8_t text[UUID_TEXT_SIZE];
    struct buf buf;
    buf_init(&buf, 0);
    uuid_format(id, text);
    size_t start = framed_client_batch_begin(&buf, OPCODE_ACK, member->next_request++, 1);
    framed_client_ack_add(&buf, str_from_c(queue), str_of(text, sizeof text));
    return send_frame(crowd, member, frame_end(&buf, start, FRAME_LENGTH_MAX), &buf);
}

/* --- receiving --- */

static int take_delivery(struct crowd *crowd, struct member *member, const struct frame *frame)
{
    struct wire_reader reader;
    struct framed_client_delivery item;
    struct buf acks;
    uint32_t count;
    wire_reader_init(&reader, frame->body);
    if (!framed_client_delivery_begin(&reader, &count))
        return -1;
    member->public.messages += count;
    crowd->totals.messages += count;
    buf_init(&acks, 0);
    size_t start = framed_client_batch_begin(&acks, OPCODE_ACK, member->next_request++, count);
    for (uint32_t i = 0; i < count; i++) {
        if (!framed_client_delivery_next(&reader, &item) ||
            (frame->request_id == 1 && !uuid_parse(item.message_id, &member->public.last))) {
            buf_free(&acks);
            return -1;
        }
        framed_client_ack_add(&acks, item.queue, item.message_id);
    }
    if (!crowd->acking) {
        buf_free(&acks);
        return 0;
    }
    return send_frame(crowd, member, frame_end(&acks, start, FRAME_LENGTH_MAX), &acks);
}

static int take_frame(struct crowd *crowd, struct member *member, const struct frame *frame)
{
    struct crowd_member *public = &member->public;
    struct crowd_totals *totals = &crowd->totals;
    struct buf pong;
    switch (frame->opcode) {
    case OPCODE_HANDSHAKE_OK:
        public
        ->handshakes++;
        totals->handshakes++;
        return 0;
    case OPCODE_CONSUME_OK:
        public
        ->consumes++;
        totals->consumes++;
        return 0;
    case OPCODE_PONG:
        public
        ->pongs++;
        totals->pongs++;
        return 0;
    case OPCODE_ENQUEUE_RESULT:
    case OPCODE_ACK_RESULT:
        public
        ->results++;
        totals->results++;
        return 0;
    case OPCODE_ERROR:
        public
        ->errors++;
        public->code = frame->body.size ? frame->body.data[0] : 0;
        totals->errors++;
        return 0;
    case OPCODE_PING:
        public
        ->pings++;
        totals->pings++;
        if (public->mute)
            return 0;
        buf_init(&pong, 0);
        return send_frame(crowd, member, frame_empty(&pong, OPCODE_PONG, frame->request_id), &pong);
    case OPCODE_DELIVERY:
        return take_delivery(crowd, member, frame);
    default:
        return 0;
    }
}

/* Handles the whole frames of `bytes`; the number of bytes that are left over, -1: bad ones. */
static ssize_t take_frames(struct crowd *crowd, struct member *member, struct str bytes)
{
    struct frame frame;
    enum frame_result result;
    while ((result = frame_parse(bytes, FRAME_LENGTH_MAX, &frame)) == FRAME_READY) {
        if (take_frame(crowd, member, &frame) != 0)
            return -1;
        bytes = str_of(bytes.data + frame.size, bytes.size - frame.size);
    }
    return result == FRAME_MORE ? (ssize_t)bytes.size : -1;
}

/* Reads once, `size` bytes at most. Their number; 0: nothing there; -1: the end. */
static int member_read(struct crowd *crowd, struct member *member, size_t size)
{
    struct buf *rest = &member->rest;
    bool fresh = rest->size == 0; /* the usual case: it needs no memory of its own */
    uint8_t *room = fresh ? crowd->input : buf_reserve(rest, size);
    ssize_t got = room ? recv(member->fd, room, size, MSG_DONTWAIT) : 0;
    if (got <= 0)
        return got < 0 && errno == EAGAIN ? 0 : -1;
    struct str bytes = str_of(crowd->input, (size_t)got);
    if (!fresh) {
        rest->size += (size_t)got;
        bytes = buf_str(rest);
    }
    ssize_t left = take_frames(crowd, member, bytes);
    if (left < 0)
        return -1;
    if (fresh)
        buf_append(rest, crowd->input + got - left, (size_t)left);
    else if (left == 0)
        buf_free(rest);
    else
        buf_consume(rest, rest->size - (size_t)left);
    return rest->failed ? -1 : (int)got;
}

int crowd_read(struct crowd *crowd, size_t index, size_t size)
{
    struct member *member = &crowd->members[index];
    int got = member->public.open ? member_read(crowd, member, size) : -1;
    if (got < 0)
        crowd_close(crowd, index, false);
    return got;
}

bool crowd_wait(struct crowd *crowd, bool (*done)(const struct crowd *crowd, void *context),
                void *context, unsigned timeout_ms)
{
    struct epoll_event events[EVENTS];
    uint64_t end_ms = time_monotonic_ms() + timeout_ms;
    while (!done(crowd, context)) {
        if (time_monotonic_ms() >= end_ms)
            return false;
        int count = epoll_wait(crowd->epoll, events, EVENTS, 10);
        for (int i = 0; i < count; i++) {
            size_t index = events[i].data.u64;
            struct member *member = &crowd->members[index];
            if (!member->public.open)
                continue;
            if ((events[i].events & (EPOLLERR | EPOLLHUP) && member->public.deaf) ||
                (member->unsent.size && send_unsent(crowd, member) != 0))
                crowd_close(crowd, index, false);
            else if (!member->public.deaf)
                crowd_read(crowd, index, READ_SIZE);
        }
    }
    return true;
}

struct wanted {
    size_t field;
    uint64_t value;
};

static bool has_total(const struct crowd *crowd, void *context)
{
    const struct wanted *wanted = context;
    uint64_t value;
    memcpy(&value, (const char *)&crowd->totals + wanted->field, sizeof value);
    return value >= wanted->value;
}

bool crowd_wait_total(struct crowd *crowd, size_t field, uint64_t wanted, unsigned timeout_ms)
{
    return crowd_wait(crowd, has_total, &(struct wanted){field, wanted}, timeout_ms);
}
