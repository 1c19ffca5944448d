/*
 * bulk - requests with many items: split into frames, sent one after the other, their results
 * collected; or one frame with a callback. Enqueue, ack and nack say how items look.
 */
#ifndef FILAD_CLIENT_BULK_H
#define FILAD_CLIENT_BULK_H

#include <stddef.h>
#include <stdint.h>

#include "client/call.h"
#include "core/buf.h"
#include "fibp/opcode.h"
#include "fila.h"

#define BULK_ITEMS_MAX 1000u /* items of one frame of a blocking request */

/* What an operation does with its items; `items` and `results` are arrays of its own types. */
struct bulk_operation {
    enum opcode opcode;
    const char *noun; /* "message": for errors that name an item */
    size_t result_size;
    /* Bytes of one item on the wire; it has passed check. */
    size_t (*size)(const void *items, size_t index);
    /* -1 with `error` when the item cannot be sent at all. */
    int (*check)(const void *items, size_t index, struct fila_error *error);
    void (*add)(struct buf *frame, const void *items, size_t index);
    /* Reads one result of an answer; false sets the reader's reason. */
    bool (*result)(struct wire_reader *reader, void *result);
    void (*fail)(void *result, enum fila_code code);
    /* Hands results to the callback of an asynchronous request. */
    void (*report)(void (*callback)(void), void *context, const void *results, size_t count,
                   const struct fila_error *error);
};

/* Blocking. 0: every item was answered. -1: some were not; their results hold the failure's code.
 */
int bulk_run(struct fila *client, const struct bulk_operation *operation, const void *items,
             size_t count, void *results, struct fila_error *error) FILA_CHECKED;

/* One frame, not waited for. `callback` has the operation's own type. */
int bulk_submit(struct fila *client, const struct bulk_operation *operation, const void *items,
                size_t count, void (*callback)(void), void *context,
                struct fila_error *error) FILA_CHECKED;

#endif
