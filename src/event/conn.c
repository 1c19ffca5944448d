#include "event/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define CONN_READ_MIN 4096u   /* bytes of the smallest chunk */
#define CONN_READ_MAX 262144u /* bytes of a chunk that no single frame asks for */
#define CONN_TAIL_MIN 1024u   /* less room than this at a chunk's end is not worth a system call */
#define CONN_VECTORS 64       /* pieces written at once */
#define CONN_ANSWERS_KEPT 4096u   /* bytes of an empty buffer worth keeping for the next answers */
#define CONN_ANSWERS_MOVED 65536u /* bytes of answers that are still moved within their buffer */

/* Answers that were gathered, once something else stands behind them. */
struct conn_block {
    struct conn_piece piece;
    struct buf buf;
};

static void conn_block_done(struct conn_piece *piece)
{
    struct conn_block *block = CONTAINER_OF(piece, struct conn_block, piece);

    buf_free(&block->buf);
    free(block);
}

/* Asks the loop for what is wanted at present; a hung up connection that is not read is left out,
 * or the loop would report it for ever. */
static int conn_watch(struct conn *conn, struct err *err)
{
    uint32_t events = 0;

    if (conn->reading)
        events |= (uint32_t)EPOLLIN;
    if (conn->writing)
        events |= (uint32_t)EPOLLOUT;
    if (events == 0 && !conn->hung_up)
        events = (uint32_t)EPOLLRDHUP;
    return loop_watch(conn->loop, &conn->watch, events, err);
}

static void conn_rewatch(struct conn *conn)
{
    struct err err;

    if (conn_is_open(conn) && conn_watch(conn, &err) < 0)
        conn->failed = true;
}

static void conn_ready(struct loop_watch *watch, uint32_t events)
{
    struct conn *conn = CONTAINER_OF(watch, struct conn, watch);

    if (events & (uint32_t)EPOLLERR) {
        conn->broken(conn);
        return;
    }
    if (events & (uint32_t)(EPOLLHUP | EPOLLRDHUP) && !conn->reading) {
        conn->hung_up = true;
        conn_rewatch(conn);
    } else if (events & (uint32_t)(EPOLLIN | EPOLLHUP)) {
        conn->readable(conn);
    }
    if (conn_is_open(conn) && conn->writing && events & (uint32_t)(EPOLLOUT | EPOLLHUP))
        conn->writable(conn);
}

int conn_open(struct conn *conn, struct loop *loop, int fd, struct chunk_account *account,
              struct err *err)
{
    conn->loop = loop;
    conn->watch = (struct loop_watch){.fd = fd, .ready = conn_ready};
    conn->input = NULL;
    conn->account = account;
    conn->start = conn->end = 0;
    conn->read_size = CONN_READ_MIN;
    conn->reading = true;
    conn->writing = conn->hung_up = conn->failed = false;
    list_init(&conn->output);
    conn->queued = conn->gathered = 0;
    buf_init(&conn->answers, 0);
    return conn_watch(conn, err);
}

bool conn_is_open(const struct conn *conn)
{
    return conn->watch.fd >= 0;
}

static void conn_drop_input(struct conn *conn)
{
    if (conn->input)
        chunk_release(conn->input);
    conn->input = NULL;
    conn->start = conn->end = 0;
}

/* Notes that `size` unsent bytes of a piece are gone. */
static void conn_piece_shrink(struct conn *conn, const struct conn_piece *piece, size_t size)
{
    conn->queued -= size;
    if (piece->done == conn_block_done)
        conn->gathered -= size;
}

static void conn_piece_remove(struct conn *conn, struct conn_piece *piece)
{
    list_remove(&piece->list);
    conn_piece_shrink(conn, piece, piece->size - piece->sent);
}

void conn_close(struct conn *conn)
{
    if (!conn_is_open(conn))
        return;
    loop_unwatch(conn->loop, &conn->watch);
    close(conn->watch.fd);
    conn->watch.fd = -1;
    conn_drop_input(conn);
    buf_free(&conn->answers);
    while (!list_empty(&conn->output)) {
        struct conn_piece *piece = CONTAINER_OF(conn->output.next, struct conn_piece, list);

        conn_piece_remove(conn, piece);
        piece->done(piece);
    }
}

/* --- input --- */

/* A new chunk with the unread bytes at its front. */
static int conn_move_input(struct conn *conn, size_t capacity)
{
    size_t unread = conn->end - conn->start;
    struct chunk *chunk = chunk_create(conn->account, capacity);

    if (!chunk)
        return -1;
    if (unread > 0)
        memcpy(chunk->data, conn->input->data + conn->start, unread);
    conn_drop_input(conn);
    conn->input = chunk;
    conn->end = unread;
    return 0;
}

/* Makes room for a read. What is there doubles at most, so that the memory taken is in proportion
 * to the bytes that came. */
static int conn_make_room(struct conn *conn, size_t wanted)
{
    size_t unread = conn->end - conn->start;

    if (!conn->input)
        return conn_move_input(conn, conn->read_size);

    size_t missing = wanted > unread ? wanted - unread : 1;
    size_t tail = conn->input->capacity - conn->end;
    size_t enough = conn->read_size / 4 > CONN_TAIL_MIN ? conn->read_size / 4 : CONN_TAIL_MIN;
    if (tail >= enough || (tail >= missing && unread >= CONN_TAIL_MIN))
        return 0;
    size_t capacity = 2 * unread;
    if (capacity > wanted)
        capacity = wanted;
    if (capacity < conn->read_size)
        capacity = conn->read_size;
    return conn_move_input(conn, capacity);
}

static void conn_adapt(struct conn *conn, size_t room, size_t got)
{
    if (got == room && conn->read_size < CONN_READ_MAX)
        conn->read_size *= 2;
    else if (got < conn->read_size / 4 && conn->read_size > CONN_READ_MIN)
        conn->read_size /= 2;
}

enum conn_result conn_read(struct conn *conn, size_t wanted)
{
    ssize_t got;

    if (conn->failed || conn_make_room(conn, wanted) < 0)
        return CONN_ERROR;

    size_t room = conn->input->capacity - conn->end;
    do
        got = recv(conn->watch.fd, conn->input->data + conn->end, room, 0);
    while (got < 0 && errno == EINTR);
    if (got > 0) {
        conn->end += (size_t)got;
        conn_adapt(conn, room, (size_t)got);
        return CONN_DATA;
    }
    int error = errno;
    if (conn->start == conn->end)
        conn_drop_input(conn);
    if (got == 0)
        return CONN_EOF;
    return error == EAGAIN || error == EWOULDBLOCK ? CONN_AGAIN : CONN_ERROR;
}

struct str conn_input(const struct conn *conn)
{
    if (!conn->input)
        return (struct str){NULL, 0};
    return str_of(conn->input->data + conn->start, conn->end - conn->start);
}

void conn_consume(struct conn *conn, size_t size)
{
    conn->start += size;
    if (conn->start < conn->end || !conn->input)
        return;
    /* A connection without input keeps no memory; a pinned chunk is there anyway, so the next
     * bytes may use what is left of it. */
    if (conn->input->pins == 0 || conn->input->capacity - conn->end < CONN_TAIL_MIN)
        conn_drop_input(conn);
}

void conn_trim(struct conn *conn)
{
    if (conn->input && conn->start == conn->end && conn->input->pins == 0)
        conn_drop_input(conn);
}

void conn_rest(struct conn *conn)
{
    conn_trim(conn);
    if (conn->answers.size == 0)
        buf_free(&conn->answers);
}

void conn_pause(struct conn *conn)
{
    conn->reading = false;
    conn_rewatch(conn);
}

void conn_resume(struct conn *conn)
{
    conn->reading = true;
    conn->hung_up = false;
    conn_rewatch(conn);
}

/* --- output --- */

struct buf *conn_answers(struct conn *conn)
{
    return &conn->answers;
}

static void conn_append(struct conn *conn, struct conn_piece *piece)
{
    piece->sent = 0;
    list_append(&conn->output, &piece->list);
    conn->queued += piece->size;
}

/* Makes a piece of the gathered answers. */
static int conn_seal(struct conn *conn)
{
    if (conn->answers.size == 0)
        return 0;

    struct conn_block *block = malloc(sizeof(*block));
    if (!block)
        return -1;
    block->buf = conn->answers;
    block->piece = (struct conn_piece){
        .data = block->buf.data, .size = block->buf.size, .done = conn_block_done};
    buf_init(&conn->answers, 0);
    conn_append(conn, &block->piece);
    conn->gathered += block->piece.size;
    return 0;
}

int conn_send(struct conn *conn, struct conn_piece *piece)
{
    if (conn_seal(conn) < 0)
        return -1;
    conn_append(conn, piece);
    return 0;
}

bool conn_take_back(struct conn *conn, struct conn_piece *piece)
{
    if (piece->sent > 0)
        return false;
    conn_piece_remove(conn, piece);
    return true;
}

uint64_t conn_unsent(const struct conn *conn)
{
    return conn->queued + conn->answers.size;
}

uint64_t conn_unsent_answers(const struct conn *conn)
{
    return conn->gathered + conn->answers.size;
}

/* Fills the vectors with what is to be sent; returns how many bytes that is. */
static size_t conn_gather(struct conn *conn, struct iovec *vectors, size_t *count)
{
    size_t offered = 0;

    *count = 0;
    LIST_EACH(&conn->output, entry)
    {
        struct conn_piece *piece = CONTAINER_OF(entry, struct conn_piece, list);
        size_t size = piece->size - piece->sent;

        if (*count == CONN_VECTORS)
            return offered;
        vectors[(*count)++] = (struct iovec){(void *)(uintptr_t)(piece->data + piece->sent), size};
        offered += size;
    }
    if (conn->answers.size > 0 && *count < CONN_VECTORS) {
        vectors[(*count)++] = (struct iovec){conn->answers.data, conn->answers.size};
        offered += conn->answers.size;
    }
    return offered;
}

/* Takes bytes that are in the socket off the queue. */
static void conn_advance(struct conn *conn, size_t sent)
{
    while (sent > 0 && !list_empty(&conn->output)) {
        struct conn_piece *piece = CONTAINER_OF(conn->output.next, struct conn_piece, list);
        size_t part = piece->size - piece->sent;

        if (part > sent)
            part = sent;
        piece->sent += part;
        conn_piece_shrink(conn, piece, part);
        sent -= part;
        if (piece->sent < piece->size)
            return;
        list_remove(&piece->list);
        piece->done(piece);
    }
    if (sent > 0)
        buf_consume(&conn->answers, sent);
    if (conn->answers.size == 0 && conn->answers.capacity > CONN_ANSWERS_KEPT)
        buf_free(&conn->answers);
}

int conn_flush(struct conn *conn, uint64_t *sent)
{
    struct iovec vectors[CONN_VECTORS];
    bool full = false;
    size_t count, offered;

    /* What is sent in part is moved to the front of its buffer: not with much of it. */
    if (conn->failed || (conn->answers.size > CONN_ANSWERS_MOVED && conn_seal(conn) < 0))
        return -1;
    while (!full && (offered = conn_gather(conn, vectors, &count)) > 0) {
        struct msghdr header = {.msg_iov = vectors, .msg_iovlen = count};
        ssize_t written = sendmsg(conn->watch.fd, &header, MSG_NOSIGNAL);

        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
            return -1;
        if (written > 0) {
            *sent += (uint64_t)written;
            conn_advance(conn, (size_t)written);
        }
        full = written < 0 || (size_t)written < offered;
    }
    if (conn->writing != full) {
        conn->writing = full;
        conn_rewatch(conn);
    }
    return 0;
}

void conn_shut(struct conn *conn)
{
    if (conn_is_open(conn))
        shutdown(conn->watch.fd, SHUT_WR);
}
