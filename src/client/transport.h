/*
 * transport - one connection to a server: the bytes going out, the reader thread, and which request
 * or consumer an incoming frame belongs to. Knows frames, not what is in them.
 *
 * Locks: `out` guards the unsent bytes, `table` guards requests, sinks and the end of the
 * connection. Neither is held while a callback runs, and never both at once.
 */
#ifndef FILAD_CLIENT_TRANSPORT_H
#define FILAD_CLIENT_TRANSPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/hash.h"
#include "core/list.h"
#include "fibp/frame.h"
#include "fila.h"

struct transport;

/* A request whose answer is awaited. Embedded in a larger object of the sender; must stay in place
 * until `complete` has been called or transport_withdraw() returned true. */
struct transport_request {
    struct hash_link link;
    uint32_t id; /* given by transport_submit */
    /* Called once, on the reader thread, with the answer or (frame NULL) with the error: an Error
     * frame of the server, or the end of the connection. */
    void (*complete)(struct transport_request *request, const struct frame *frame,
                     const struct fila_error *error);
};

/* Receives pushes under the request_id of the Consume that asked for them. */
struct transport_sink {
    struct list list;
    uint32_t id;
    /* On the reader thread. Returns -1 with `error` filled when the frame is not acceptable: the
     * connection ends then. */
    int (*delivery)(struct transport_sink *sink, const struct frame *frame,
                    struct fila_error *error);
    /* The subscription is over; called at most once, and nothing after it. The sink is out of the
     * transport by then. */
    void (*ended)(struct transport_sink *sink, const struct fila_error *error);
};

struct transport_limits {
    uint32_t max_frame_size;      /* of the frames received */
    size_t max_message_size;      /* of what is put together from frames, or split into them */
    uint32_t peer_max_frame_size; /* of the frames sent; more than FRAME_LENGTH_MIN */
};

#define TRANSPORT_MESSAGE_MAX ((size_t)UINT32_MAX / 2) /* no limit for a message is higher */

/* Takes over a connected socket and starts the reader. `early`: bytes received already. The socket
 * is the connection's from here on, also when this fails. */
struct transport *transport_open(int fd, const struct transport_limits *limits, struct str early,
                                 struct fila_error *error) FILA_CHECKED;

/* Sends Disconnect and what is unsent (at most for a second), ends the connection and joins the
 * reader. All completions have run when it returns. Objects remain valid until transport_free(). */
void transport_close(struct transport *transport);
void transport_free(struct transport *transport); /* after transport_close() */

uint32_t transport_peer_max_frame_size(const struct transport *transport);
size_t transport_max_message_size(const struct transport *transport);

/* True on the reader thread: the caller must not wait for it. */
bool transport_on_reader(const struct transport *transport);

/* Sends one frame, made with request_id 0 by the encoders of fibp, under a new id; one longer than
 * the peer takes goes out in several. `request` and
 * `sink` may be NULL when no answer or no push is expected. Waits for room when much is unsent, at
 * most `timeout_ms`, but not on the reader thread. On -1 nothing was registered or sent; on 0
 * `complete` will be called. */
int transport_submit(struct transport *transport, const struct buf *frame,
                     struct transport_request *request, struct transport_sink *sink,
                     uint64_t timeout_ms, struct fila_error *error) FILA_CHECKED;

/* Sends a frame as it stands, with its own request_id and without waiting for room. */
void transport_send(struct transport *transport, const struct buf *frame);

/* Takes a request back: true when it was still waiting (`complete` will not be called then). */
bool transport_withdraw(struct transport *transport,
                        struct transport_request *request) FILA_CHECKED;

/* Takes a sink out; no call to it is running when this returns, unless it is called from one, and
 * none will follow. */
void transport_detach(struct transport *transport, struct transport_sink *sink);

#endif
