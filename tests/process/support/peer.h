/*
 * peer - a client for tests with full control of the wire: requests with chosen ids, several in
 * flight, raw bytes. Answers are matched by request id; deliveries that arrive meanwhile are kept;
 * the server's Ping is answered. The end of the connection is a failure wherever an answer is due.
 *
 * One thread at a time. Waits end after PEER_PATIENCE_MS at the latest, unless said otherwise.
 */
#ifndef FILAD_TESTS_PEER_H
#define FILAD_TESTS_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"
#include "core/str.h"
#include "core/uuid.h"
#include "fibp/framed_client.h"
#include "fibp/opcode.h"

#define PEER_PATIENCE_MS 120000u /* with a loaded machine */

struct peer;

/* A frame that was received, owned by its receiver. */
struct peer_frame {
    struct peer_frame *next;
    uint64_t time_ns; /* monotonic, when its last byte was read */
    uint8_t opcode;
    uint32_t request_id;
    size_t size;
    uint8_t body[];
};

/* "unix:/path" or "host:port". NULL with a reason. peer_open also shakes hands. */
struct peer *peer_connect(const char *address, struct err *err);
struct peer *peer_open(const char *address, struct err *err);
/* Disconnect first when `politely`; NULL is fine. */
void peer_close(struct peer *peer, bool politely);
/* Ends the connection with a reset, as a process that dies may. */
void peer_abort(struct peer *peer);

uint32_t peer_next_request(struct peer *peer);

/* Sends bytes as they are. -1: the connection is gone. */
int peer_send(struct peer *peer, struct str bytes, struct err *err);

/* Bytes as they come, for what is no framed dialect: reads until `size` are there or the connection
 * ends. Their number; -1 after the time. */
int peer_read_bytes(struct peer *peer, unsigned timeout_ms, void *bytes, size_t size);

/* The next frame of any kind, first of those kept: 1, 0 after the time, -1 at the end of the
 * connection. */
int peer_read(struct peer *peer, unsigned timeout_ms, struct peer_frame **frame, struct err *err);
/* The answer to a request: its next frame that is no Delivery. Everything else is kept. */
int peer_answer(struct peer *peer, uint32_t request_id, unsigned timeout_ms,
                struct peer_frame **frame, struct err *err);
/* The next Delivery frame. */
int peer_delivery_frame(struct peer *peer, unsigned timeout_ms, struct peer_frame **frame,
                        struct err *err);

/* ---- operations: send and wait; the code of the answer, also of an Error frame, or -1 ---- */

int peer_create_queue(struct peer *peer, const char *name, uint64_t visibility_ms, struct err *err);
int peer_delete_queue(struct peer *peer, const char *name, struct err *err);
int peer_stats(struct peer *peer, const char *name, struct framed_stats *stats, struct err *err);
/* As peer_stats, and what the numbers are worth (fibp/framed.h). */
int peer_stats_counted(struct peer *peer, const char *name, struct framed_stats *stats,
                       uint8_t *counted, struct err *err);
int peer_ping(struct peer *peer, struct err *err);
int peer_redrive(struct peer *peer, const char *name, uint64_t limit, uint64_t *moved,
                 struct err *err);
int peer_purge(struct peer *peer, const char *name, uint64_t *purged, struct err *err);
/* The same in two halves; `expected` is the opcode of the answer. */
int peer_redrive_send(struct peer *peer, const char *name, uint64_t limit, uint32_t *request_id,
                      struct err *err);
int peer_purge_send(struct peer *peer, const char *name, uint32_t *request_id, struct err *err);
int peer_messages_answer(struct peer *peer, uint32_t request_id, enum opcode expected,
                         uint64_t *count, struct err *err);

struct peer_message {
    const char *queue;
    const char *tenant; /* header "tenant"; NULL: none */
    const char *weight; /* header "weight"; NULL: none */
    struct str payload;
};

/* `id` may be NULL. */
int peer_enqueue(struct peer *peer, const char *queue, const char *payload, struct uuid *id,
                 struct err *err);
/* One frame, not awaited: the answer belongs to *request_id. */
int peer_enqueue_send(struct peer *peer, const struct peer_message *messages, size_t count,
                      uint32_t *request_id, struct err *err);
/* The code of the only result that answers such a request, or of its Error frame; -1 after the time
 * or at the end of the connection. `id` may be NULL. */
int peer_result(struct peer *peer, uint32_t request_id, unsigned timeout_ms, struct uuid *id,
                struct err *err);
/* `count` messages "PREFIX-0"... in frames of at most 100, awaited one after the other; ids may be
 * NULL. The first code that is not 0, else 0. */
int peer_enqueue_run(struct peer *peer, const char *queue, const char *prefix, size_t count,
                     struct uuid *ids, struct err *err);

/* Subscribes and waits for ConsumeOk; *request_id is the subscription. */
int peer_consume(struct peer *peer, const char *queue, uint32_t *request_id, struct err *err);
/* The broker delivers at most `limit` messages on it; 0: no limit. */
int peer_consume_limited(struct peer *peer, const char *queue, uint32_t limit, uint32_t *request_id,
                         struct err *err);
int peer_cancel(struct peer *peer, uint32_t request_id, struct err *err);

int peer_ack(struct peer *peer, const char *queue, const struct uuid *id, struct err *err);
int peer_nack(struct peer *peer, const char *queue, const struct uuid *id, struct err *err);
int peer_settle_send(struct peer *peer, bool nack, const char *queue, const struct uuid *ids,
                     size_t count, uint32_t *request_id, struct err *err);

/* One delivered message; strings end with NUL. */
struct peer_delivery {
    uint32_t subscription;
    uint64_t time_ns;
    struct uuid id;
    char queue[256];
    char tenant[64];
    char fairness_key[64];
    char payload[256]; /* its first bytes */
    size_t payload_size;
    uint32_t weight, attempt;
    uint64_t enqueued_ms, leased_ms;
};

/* 1, 0 when none came in time, -1 at the end or when it makes no sense. */
int peer_receive(struct peer *peer, unsigned timeout_ms, struct peer_delivery *delivery,
                 struct err *err);

#endif
