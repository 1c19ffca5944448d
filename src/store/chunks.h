/*
 * chunks - the parts of messages that are stored apart: chunks under the id of their message, and
 * markers that say who is writing or removing them (store/record.h).
 *
 * Chunks are changed without the queue's lock, in transactions of at most CHUNKS_STEP bytes. They
 * meet other writers of the B-tree there: every call can return a conflict. Values are Berkeley
 * DB's.
 */
#ifndef FILAD_STORE_CHUNKS_H
#define FILAD_STORE_CHUNKS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/str.h"
#include "core/uuid.h"
#include "store/queue_db.h"

/* Bytes of a chunk: four pages of their own, filled to the end. Smaller items inside the leaves
 * cost three times the log, since splits of leaves log whole pages (HACKING.md has the figures). */
#define CHUNKS_PAGE_OVERHEAD 26u
#define CHUNKS_SIZE (4 * (ENV_PAGE_SIZE - CHUNKS_PAGE_OVERHEAD))

#define CHUNKS_STEP (1u << 20)    /* bytes of chunks in one transaction */
#define CHUNKS_STEP_COUNT 16u     /* as many, rounded down */
#define CHUNKS_CONFLICTS_MAX 100u /* times that one thing is tried again */

/* How many chunks so many bytes take. */
static inline uint32_t chunks_for(uint64_t bytes)
{
    return (uint32_t)((bytes + CHUNKS_SIZE - 1) / CHUNKS_SIZE);
}

/* Puts up to `limit` chunks of `data`, a message's whole part that is stored apart, from *chunk on,
 * which is moved behind the last one that was put. */
int chunks_put(struct queue_db *queue, DB_TXN *txn, const struct uuid *id, struct str data,
               uint32_t *chunk, uint32_t limit) __attribute__((warn_unused_result));

/* Reads `count` chunks of together `size` bytes to `to`. DB_NOTFOUND when not exactly these are
 * there. Conflicts are tried again. */
int chunks_read(struct queue_db *queue, const struct uuid *id, uint32_t count, uint8_t *to,
                size_t size) __attribute__((warn_unused_result));

/* True (in *found) when there is any chunk of the message. */
int chunks_exists(struct queue_db *queue, DB_TXN *txn, const struct uuid *id, bool *found)
    __attribute__((warn_unused_result));

/* Deletes up to `limit` chunks of a message; *count tells how many, *done that there are no more.
 */
int chunks_delete(struct queue_db *queue, DB_TXN *txn, const struct uuid *id, uint32_t limit,
                  uint32_t *count, bool *done) __attribute__((warn_unused_result));

int chunks_mark(struct queue_db *queue, DB_TXN *txn, const struct uuid *id,
                const struct record_marker *marker) __attribute__((warn_unused_result));
/* No harm when there is no marker. */
int chunks_unmark(struct queue_db *queue, DB_TXN *txn, const struct uuid *id)
    __attribute__((warn_unused_result));
/* Reads the marker and keeps others from changing it until the transaction ends. DB_NOTFOUND when
 * there is none. One that cannot be understood is nobody's: its epoch is 0. */
int chunks_marker(struct queue_db *queue, DB_TXN *txn, const struct uuid *id,
                  struct record_marker *marker) __attribute__((warn_unused_result));

/* The first marker with an id >= *id, which is set to it. DB_NOTFOUND when there is none. */
int chunks_next_marker(struct queue_db *queue, struct uuid *id) __attribute__((warn_unused_result));

#endif
