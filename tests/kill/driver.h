/*
 * driver - what the kill checker knows of a broker: how to start it, which of its processes can be
 * killed, and connections that enqueue, consume, ack and nack. The real daemon is one driver;
 * brokers in memory, a correct one and several with a fault, prove that the checker sees what it
 * should.
 *
 * A driver may be used by many threads, a connection by one at a time. Requests are sent without
 * waiting; what comes back is read as events, matched by the request's number.
 */
#ifndef FILAD_KILL_DRIVER_H
#define FILAD_KILL_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/err.h"
#include "core/str.h"
#include "core/uuid.h"

enum driver_role { DRIVER_MASTER, DRIVER_KEEPER, DRIVER_WORKER, DRIVER_HELPER, DRIVER_ROLES };

struct driver_process {
    enum driver_role role;
    pid_t pid;
};

/* Codes of results, as in the framed dialect. */
#define DRIVER_OK 0x00
#define DRIVER_QUEUE_NOT_FOUND 0x01
#define DRIVER_MESSAGE_NOT_FOUND 0x02
#define DRIVER_QUEUE_EXISTS 0x03
#define DRIVER_STORAGE_ERROR 0x05
#define DRIVER_CHANNEL_FULL 0x09
#define DRIVER_FORBIDDEN 0x0B

/* A message to enqueue. The key goes as header "tenant", `mark` as header "mark". */
struct driver_outgoing {
    const char *queue;
    const char *key;
    const char *mark;
    struct str payload;
};

/* What an ack or nack names. */
struct driver_handle {
    const char *queue;
    struct uuid id;
};

struct driver_result {
    uint8_t code;
    struct uuid id; /* of an enqueued message when code is DRIVER_OK and has_id */
    bool has_id;
};

struct driver_delivery {
    struct uuid id;
    struct str queue, key, mark; /* key and mark: the headers; queue: the field of the delivery */
    struct str fairness_key;
    struct str payload;
    uint32_t attempt;
    uint64_t leased_ms; /* wall clock; 0: not told */
    bool readable;      /* false: the frame made no sense, `payload` holds it as far as known */
};

enum driver_event_kind {
    DRIVER_NOTHING, /* the time was over */
    DRIVER_ENQUEUED,
    DRIVER_CONSUMING, /* a consume was accepted */
    DRIVER_ACKED,
    DRIVER_NACKED,
    DRIVER_DELIVERY,
    DRIVER_REFUSED, /* an Error frame: `code` and `text`; the request did not get its result */
    DRIVER_CLOSED,  /* the connection is gone; `text` says why */
};

/* Everything an event points to lives until the next call on the same connection. */
struct driver_event {
    enum driver_event_kind kind;
    uint32_t request;
    uint64_t time_ns; /* monotonic, taken right after the bytes were read */
    uint8_t code;
    const char *text;
    const struct driver_result *results; /* of ENQUEUED, ACKED, NACKED */
    const struct driver_delivery *deliveries;
    size_t count;
};

struct driver_stats {
    uint64_t depth, in_flight;
    uint32_t consumers;
};

struct driver;
struct driver_connection;

struct driver_ops {
    const char *name;
    bool keys; /* the "tenant" header becomes the fairness key */

    /* Starts the broker, again on the same store after its master is gone; returns when it serves.
     */
    int (*start)(struct driver *driver, struct err *err);
    /* A regular stop. 0 when it ended by itself with status 0. */
    int (*stop)(struct driver *driver, struct err *err);
    /* Living processes of the broker; the number is at most `room`. */
    size_t (*processes)(struct driver *driver, struct driver_process *list, size_t room);
    /* kill -9 for all of them, as close together as can be. */
    void (*kill)(struct driver *driver, const struct driver_process *victims, size_t count);
    /* False when the broker ended by itself, with the reason; the master was not killed by us. */
    bool (*healthy)(struct driver *driver, struct err *err);

    struct driver_connection *(*connect)(struct driver *driver, struct err *err);
    /* `politely`: says goodbye first. */
    void (*close)(struct driver_connection *connection, bool politely);
    /* All four: 0 and the request's number, -1 when the connection is gone. */
    int (*enqueue)(struct driver_connection *connection, const struct driver_outgoing *messages,
                   size_t count, uint32_t *request);
    int (*consume)(struct driver_connection *connection, const char *queue, uint32_t *request);
    int (*ack)(struct driver_connection *connection, const struct driver_handle *handles,
               size_t count, uint32_t *request);
    int (*nack)(struct driver_connection *connection, const struct driver_handle *handles,
                size_t count, uint32_t *request);
    void (*next)(struct driver_connection *connection, unsigned timeout_ms,
                 struct driver_event *event);
    /* These wait for their answer; only on a connection that consumes nothing. Return the code of
     * the answer, or -1 when there was none. */
    int (*create_queue)(struct driver_connection *connection, const char *name,
                        uint32_t visibility_ms);
    int (*stats)(struct driver_connection *connection, const char *queue,
                 struct driver_stats *stats);

    /* Runs the command-line client with these arguments, ended by NULL; what it printed goes to
     * `output`. Its exit status, or -1. NULL: this broker has none. */
    int (*command)(struct driver *driver, const char *const *arguments, char *output, size_t size);
};

struct driver {
    const struct driver_ops *ops;
};

const char *driver_role_name(enum driver_role role);

#endif
