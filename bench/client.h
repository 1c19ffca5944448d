/*
 * client - a connection to the broker that costs as little as possible: frames are sent as they
 * were prepared, answers are looked at in a large buffer, and there are no threads and no locks.
 * Every Error frame, and whatever else was not to be expected, is a failure with text.
 */
#ifndef FILAD_BENCH_CLIENT_H
#define FILAD_BENCH_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/buf.h"
#include "core/err.h"
#include "fibp/framed_client.h"

struct client;

/* Connects to 127.0.0.1 and shakes hands. NULL on failure; err->code is the errno when there is no
 * connection. */
struct client *client_open(uint16_t port, struct err *err) __attribute__((warn_unused_result));
void client_close(struct client *client); /* NULL is fine */

/* To poll for input; the descriptor stays the client's. */
int client_fd(const struct client *client);

/* Sends it all; reads meanwhile when the broker takes nothing, so that bodies of frames that
 * client_next returned are no longer valid afterwards. client_sendv changes `parts`. */
int client_send(struct client *client, const void *data, size_t size, struct err *err)
    __attribute__((warn_unused_result));
int client_sendv(struct client *client, struct iovec *parts, int count, struct err *err)
    __attribute__((warn_unused_result));

/* The next frame: 1. When none has been received yet: waits for it, or 0 without `wait` (and
 * without a system call). -1 on failure, also after 30 s of silence. The body is valid until the
 * next call. Pings are answered here. */
int client_next(struct client *client, bool wait, struct frame *frame, struct err *err)
    __attribute__((warn_unused_result));

/* As client_next with wait, and fails for another opcode. */
int client_expect(struct client *client, enum opcode opcode, struct frame *frame, struct err *err)
    __attribute__((warn_unused_result));

/* ---- requests with nothing else in flight ---- */

/* `on_enqueue`: source of its script; NULL: none. */
int client_create_queue(struct client *client, const char *queue, uint64_t visibility_timeout_ms,
                        const char *on_enqueue, struct err *err)
    __attribute__((warn_unused_result));
int client_set_config(struct client *client, const char *key, const char *value, struct err *err)
    __attribute__((warn_unused_result));
/* Moves up to `limit` messages (0: all) of a dead-letter queue back; *moved tells how many. */
int client_redrive(struct client *client, const char *queue, uint64_t limit, uint64_t *moved,
                   struct err *err) __attribute__((warn_unused_result));
int client_delete_queue(struct client *client, const char *queue, struct err *err)
    __attribute__((warn_unused_result));

/* Fails unless the queue's statistics name exactly these numbers. */
int client_check_depth(struct client *client, const char *queue, uint64_t depth, uint64_t in_flight,
                       struct err *err) __attribute__((warn_unused_result));

/* Subscribes; deliveries carry `request_id`. */
int client_consume(struct client *client, const char *queue, uint32_t request_id, struct err *err)
    __attribute__((warn_unused_result));

/* "decoding a Delivery frame: queue: string runs past the end"; returns -1. */
int client_malformed(const struct wire_reader *reader, const char *frame, struct err *err);

#endif
