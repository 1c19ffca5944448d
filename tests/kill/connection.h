/*
 * connection - one connection to the daemon, by the tests' wire client or by libfila. What an event
 * points to belongs to the connection until its next call.
 */
#ifndef FILAD_KILL_CONNECTION_H
#define FILAD_KILL_CONNECTION_H

#include "kill/driver.h"

struct connection_ops {
    void (*close)(struct driver_connection *connection, bool politely);
    int (*enqueue)(struct driver_connection *connection, const struct driver_outgoing *messages,
                   size_t count, uint32_t *request);
    int (*consume)(struct driver_connection *connection, const char *queue, uint32_t *request);
    int (*settle)(struct driver_connection *connection, bool nack,
                  const struct driver_handle *handles, size_t count, uint32_t *request);
    void (*next)(struct driver_connection *connection, unsigned timeout_ms,
                 struct driver_event *event); /* the event is cleared before */
    int (*create_queue)(struct driver_connection *connection, const char *name,
                        uint32_t visibility_ms);
    int (*stats)(struct driver_connection *connection, const char *queue,
                 struct driver_stats *stats);
};

/* The first member of each kind's own struct. The daemon's driver alone uses it: a memory broker
 * has connections of another shape. */
struct driver_connection {
    const struct connection_ops *ops;
};

struct driver_connection *wire_connect(const char *address, struct err *err);
struct driver_connection *library_connect(const char *address, struct err *err);

#endif
