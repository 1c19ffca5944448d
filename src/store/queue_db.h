/*
 * queue_db - the B-tree of one queue, queues/<id>.db under the store's path, and the handles that a
 * process has open. The file is made by the first writer and removed by the keeper.
 *
 * Writers hold the queue's lock in the zone, readers too; so no call here waits for a lock of
 * Berkeley DB for longer than a conflict with the same process's other thread. Return values are
 * Berkeley DB's.
 */
#ifndef FILAD_STORE_QUEUE_DB_H
#define FILAD_STORE_QUEUE_DB_H

#include "core/buf.h"
#include "core/list.h"
#include "core/str.h"
#include "store/env.h"
#include "store/record.h"

struct queue_db {
    struct list used;       /* in the LRU, most recently used first */
    struct queue_db **slot; /* whose handle this is */
    DB *db;
    uint64_t id;
};

/* The open handles of a thread, bounded. */
struct queue_db_cache {
    struct env *env;
    struct list used;
    unsigned count, limit;
};

void queue_db_cache_init(struct queue_db_cache *cache, struct env *env, unsigned limit);
/* Closes all handles. No transaction or cursor may be open. */
void queue_db_cache_close(struct queue_db_cache *cache);

/* Opens queues/<id>.db into *slot when it is NULL, and marks it as used just now. Without `create`
 * a missing file is ENOENT. */
int queue_db_open(struct queue_db_cache *cache, struct queue_db **slot, uint64_t id, bool create)
    __attribute__((warn_unused_result));
/* Closes *slot and sets it to NULL; no harm when it is NULL. */
void queue_db_close(struct queue_db_cache *cache, struct queue_db **slot);
/* Closes the least recently used handles beyond the limit. No transaction or cursor may be open. */
void queue_db_trim(struct queue_db_cache *cache);

int queue_db_put(struct queue_db *queue, DB_TXN *txn, struct str key, struct str value)
    __attribute__((warn_unused_result));
int queue_db_delete(struct queue_db *queue, DB_TXN *txn, struct str key)
    __attribute__((warn_unused_result));
/* Reads a value into `out`, replacing what it held; DB_NOTFOUND when there is none. */
int queue_db_get(struct queue_db *queue, DB_TXN *txn, struct str key, struct buf *out)
    __attribute__((warn_unused_result));

/* --- reading in order --- */

/* Up to a buffer full of consecutive records. */
struct queue_db_bulk {
    uint8_t *data; /* owned */
    u_int32_t size;
    void *position; /* of Berkeley DB's iterator */
    DBT dbt;
};

void queue_db_bulk_init(struct queue_db_bulk *bulk);
void queue_db_bulk_free(struct queue_db_bulk *bulk);

/* A cursor without transaction; it must be closed in the section that opened it. */
int queue_db_cursor(struct queue_db *queue, DBC **cursor) __attribute__((warn_unused_result));
void queue_db_cursor_close(DBC *cursor); /* NULL is fine */

/* Copies the first key >= `from` (a message's) to `key`; DB_NOTFOUND when there is none of that
 * size. */
int queue_db_seek(DBC *cursor, struct str from, uint8_t key[RECORD_MESSAGE_KEY_SIZE])
    __attribute__((warn_unused_result));

/* The share of the queue's records whose keys are below `key`, 0 to 1: an estimate from the pages
 * on the way to it. */
int queue_db_share_below(struct queue_db *queue, struct str key, double *share)
    __attribute__((warn_unused_result));

/* Reads the first record with a key >= `from`: for one record cheaper than a bulk read. `key` holds
 * RECORD_KEY_MAX bytes and is *key_size long then. */
int queue_db_read_first(DBC *cursor, struct str from, uint8_t *key, size_t *key_size,
                        struct buf *value) __attribute__((warn_unused_result));

/* Reads records from the first key >= `from` on, about `wanted` bytes but at least one record.
 * DB_NOTFOUND when there is none, EINVAL when a key is so long that the file must be damaged. */
int queue_db_bulk_read(DBC *cursor, struct queue_db_bulk *bulk, struct str from, size_t wanted)
    __attribute__((warn_unused_result));
/* The next record of the buffer; false when all were given. The slices are valid until the next
 * queue_db_bulk_read. */
bool queue_db_bulk_next(struct queue_db_bulk *bulk, struct str *key, struct str *value);

/* --- the keeper's side --- */

/* Gives back free pages at the end of the file; at most `pages` are looked at, *more tells whether
 * there is more to do. `position` is where to go on (empty: the start). */
int queue_db_compact(struct queue_db *queue, DB_TXN *txn, unsigned pages, struct buf *position,
                     bool *more) __attribute__((warn_unused_result));

#endif
