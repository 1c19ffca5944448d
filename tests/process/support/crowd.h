/*
 * crowd - many connections in one thread, with little memory for each: opened, shaken hands with
 * and subscribed all at once, and counted what comes. The server's Pings are answered, unless a
 * member is mute.
 *
 * What is not sent or received through it (crowd_fd) must leave whole frames behind.
 */
#ifndef FILAD_TESTS_CROWD_H
#define FILAD_TESTS_CROWD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/str.h"
#include "core/uuid.h"

struct crowd;

struct crowd_member {
    bool open;           /* the connection stands */
    bool deaf;           /* crowd_wait does not read from it */
    bool mute;           /* it does not answer Pings */
    uint32_t handshakes; /* HandshakeOk that came */
    uint32_t consumes;   /* ConsumeOk */
    uint32_t pongs, pings;
    uint32_t errors;   /* Error frames; the last one's code: */
    uint8_t code;      /* enum fibp_status */
    uint32_t results;  /* EnqueueResult and AckResult frames */
    uint64_t messages; /* in Delivery frames */
    struct uuid last;  /* the last message that came for subscription 1 */
};

/* Totals over all members that were ever opened. */
struct crowd_totals {
    uint64_t open, handshakes, consumes, pongs, pings, errors, results, messages;
};

/* An empty crowd with room for `room` members. Aborts without memory. */
struct crowd *crowd_create(size_t room);
void crowd_destroy(struct crowd *crowd); /* closes all; NULL is fine */

/* Opens `count` more connections by turns to the addresses ("unix:/path" or "host:port"), without
 * a word. -1 when one cannot be made. */
int crowd_open(struct crowd *crowd, size_t count, const char *const *addresses,
               size_t address_count, struct err *err);
/* Closes one, with a reset when `abruptly`. */
void crowd_close(struct crowd *crowd, size_t index, bool abruptly);

size_t crowd_size(const struct crowd *crowd);
const struct crowd_member *crowd_member(const struct crowd *crowd, size_t index);
int crowd_fd(const struct crowd *crowd, size_t index);
struct crowd_totals crowd_totals(const struct crowd *crowd);
/* Whether it acks each message that it gets; not at first. */
void crowd_set_acking(struct crowd *crowd, bool acking);
/* Whether what comes is read; and whether Pings are answered. */
void crowd_set_deaf(struct crowd *crowd, size_t index, bool deaf);
void crowd_set_mute(struct crowd *crowd, size_t index, bool mute);
/* Reads at most `size` bytes from a deaf member. The number; 0: nothing there; -1: the end. */
int crowd_read(struct crowd *crowd, size_t index, size_t size);

/* Send one frame; what the socket does not take is sent by crowd_wait. -1: the connection is gone.
 */
int crowd_handshake(struct crowd *crowd, size_t index);
int crowd_consume(struct crowd *crowd, size_t index, uint32_t request_id, const char *queue);
int crowd_ping(struct crowd *crowd, size_t index);
int crowd_pong(struct crowd *crowd, size_t index);
int crowd_ack(struct crowd *crowd, size_t index, const char *queue, const struct uuid *id);

/* Reads what comes until `done` says so; false after the time. */
bool crowd_wait(struct crowd *crowd, bool (*done)(const struct crowd *crowd, void *context),
                void *context, unsigned timeout_ms);
/* Until `*field` of the totals is at least `wanted`: offsetof(struct crowd_totals, ...). */
bool crowd_wait_total(struct crowd *crowd, size_t field, uint64_t wanted, unsigned timeout_ms);

#endif
