/*
 * conn - a non-blocking stream socket with buffers on both sides. One thread.
 *
 * Input lies in chunks (event/chunk.h): slices of it stay valid while their chunk is pinned. The
 * input grows with the bytes that arrive, never with what they claim. Output is a queue of pieces:
 * small answers are gathered in one piece, large ones are sent from where they lie; conn_flush
 * writes as much as the socket takes with one system call for many pieces.
 */
#ifndef FILAD_EVENT_CONN_H
#define FILAD_EVENT_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"
#include "core/list.h"
#include "core/str.h"
#include "event/chunk.h"
#include "event/loop.h"

/* Something to send that somebody else owns. `done` is called once: when all of it is in the socket
 * (sent == size), or when it leaves the queue otherwise; it may free the piece. */
struct conn_piece {
    struct list list;
    const uint8_t *data;
    size_t size; /* at least 1 */
    size_t sent; /* bytes in the socket */
    void (*done)(struct conn_piece *piece);
};

struct conn {
    struct loop *loop;
    struct loop_watch watch;
    /* There is something to read (conn_read), or the peer is gone (conn_read will say so). */
    void (*readable)(struct conn *conn);
    /* The socket takes bytes again: call conn_flush. */
    void (*writable)(struct conn *conn);
    /* The connection is broken: call conn_close. */
    void (*broken)(struct conn *conn);

    struct chunk *input; /* NULL while there is no input */
    struct chunk_account *account;
    size_t start, end; /* unread bytes in `input` */
    size_t read_size;  /* how much room the next chunk gets at least */
    bool reading;      /* EPOLLIN is wanted */
    bool writing;      /* EPOLLOUT is wanted */
    bool hung_up;      /* the peer hung up while nothing was read */
    bool failed;       /* the loop does not watch it for want of memory: nothing works any more */

    struct list output; /* of conn_piece */
    uint64_t queued;    /* unsent bytes of `output` */
    uint64_t gathered;  /* those of them that are answers */
    struct buf answers; /* behind the last of `output` */
};

enum conn_result {
    CONN_DATA,  /* there is new input */
    CONN_AGAIN, /* nothing there now */
    CONN_EOF,   /* the peer sends nothing more */
    CONN_ERROR, /* broken, or no memory */
};

/* Takes a connected non-blocking socket, which conn_close closes, and starts to read. On failure
 * the socket is still the caller's. The three functions are set by the caller first. */
int conn_open(struct conn *conn, struct loop *loop, int fd, struct chunk_account *account,
              struct err *err) __attribute__((warn_unused_result));
/* Drops input and output and closes the socket. A second call does no harm. */
void conn_close(struct conn *conn);
bool conn_is_open(const struct conn *conn);

/* Reads once. `wanted`: how many bytes the frame at the start of the input takes; room grows up to
 * that (or a usual amount when that is more). */
enum conn_result conn_read(struct conn *conn, size_t wanted) __attribute__((warn_unused_result));
/* The unread bytes, in one piece; slices of them may be kept while conn->input is pinned. */
struct str conn_input(const struct conn *conn);
void conn_consume(struct conn *conn, size_t size);
/* Gives the input's memory back when nothing is in it; to be called when a pin of it has ended. */
void conn_trim(struct conn *conn);

/* Gives back the memory that a connection keeps for its next bytes; for one that is idle. */
void conn_rest(struct conn *conn);

/* Stops and goes on with reading. */
void conn_pause(struct conn *conn);
void conn_resume(struct conn *conn);

/* Append to it what is to be sent next. Valid until the next call of anything here. */
struct buf *conn_answers(struct conn *conn);
/* Queues a piece behind everything else. Without memory for it, -1 and the piece is not taken. */
int conn_send(struct conn *conn, struct conn_piece *piece) __attribute__((warn_unused_result));
/* Takes back a piece of which nothing is sent; `done` is not called. False when something is. */
bool conn_take_back(struct conn *conn, struct conn_piece *piece)
    __attribute__((warn_unused_result));
/* Unsent bytes: all of them, and those that came by conn_answers. */
uint64_t conn_unsent(const struct conn *conn);
uint64_t conn_unsent_answers(const struct conn *conn);

/* Writes until everything is sent or the socket is full (then `writable` will be called). Adds the
 * bytes written to *sent. -1 when the connection is broken. */
int conn_flush(struct conn *conn, uint64_t *sent) __attribute__((warn_unused_result));
/* Tells the peer that nothing more comes. */
void conn_shut(struct conn *conn);

#endif
