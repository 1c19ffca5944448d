/*
 * catalog - catalog.db: which queues there are, the epoch, ids of deleted queues. Small and cold;
 * values are the messages of catalog.proto.
 */
#ifndef FILAD_STORE_CATALOG_H
#define FILAD_STORE_CATALOG_H

#include <stdint.h>

#include "core/err.h"
#include "core/str.h"
#include "store/env.h"

#define CATALOG_VERSION 2 /* 2: messages may be stored apart (store/record.h) */

struct catalog;

struct catalog_queue {
    struct str name;
    uint64_t id;
    uint64_t visibility_timeout_ms;
    uint64_t created_ms; /* wall clock */
};

/* `create`: for the keeper; makes the file and writes, or checks, the format version. */
struct catalog *catalog_open(struct env *env, bool create, struct err *err)
    __attribute__((warn_unused_result));
int catalog_close(struct catalog *catalog); /* NULL is fine */

/* Raises the epoch by one, committed and flushed when it returns 0. -1 also when all 2^24 are used.
 */
int catalog_raise_epoch(struct catalog *catalog, uint32_t *epoch, struct err *err)
    __attribute__((warn_unused_result));

/* Calls `visit` for every queue in byte order of names, until it returns non-zero, which is
 * returned; -1 when reading fails or a value cannot be understood. */
int catalog_each_queue(struct catalog *catalog,
                       int (*visit)(void *context, const struct catalog_queue *queue,
                                    struct err *err),
                       void *context, struct err *err) __attribute__((warn_unused_result));

/* As catalog_each_queue, for the ids of deleted queues. */
int catalog_each_dead(struct catalog *catalog,
                      int (*visit)(void *context, uint64_t id, struct err *err), void *context,
                      struct err *err) __attribute__((warn_unused_result));

/* Within `txn`; values of Berkeley DB. `id` is out: the queue's new id. */
int catalog_put_queue(struct catalog *catalog, DB_TXN *txn, struct catalog_queue *queue)
    __attribute__((warn_unused_result));
/* Removes the name and adds the id to the dead. */
int catalog_delete_queue(struct catalog *catalog, DB_TXN *txn, struct str name, uint64_t id,
                         uint64_t now_ms) __attribute__((warn_unused_result));
/* Forgets a dead id whose file is gone. */
int catalog_forget_dead(struct catalog *catalog, DB_TXN *txn, uint64_t id)
    __attribute__((warn_unused_result));

#endif
