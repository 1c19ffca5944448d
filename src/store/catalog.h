/*
 * catalog - catalog.db: which queues there are and their settings, runtime configuration, the
 * epoch, ids of deleted queues. Small and cold; values are the messages of catalog.proto.
 *
 * All transactions on it, and reads beside them, are put in order by the catalog lock of the zone
 * (sched/scheduler.h).
 */
#ifndef FILAD_STORE_CATALOG_H
#define FILAD_STORE_CATALOG_H

#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"
#include "core/str.h"
#include "store/env.h"

/* 2: messages may be stored apart (store/record.h). 3: queues have scripts and may be paused, there
 * are delayed and dead messages and runtime configuration. */
#define CATALOG_VERSION 3

#define CATALOG_CONFIG_KEY_MAX 1024u /* bytes of a key of the runtime configuration */

struct catalog;

struct catalog_queue {
    struct str name;
    uint64_t id;
    uint64_t visibility_timeout_ms;
    uint64_t created_ms;   /* wall clock */
    struct str on_enqueue; /* sources of scripts, UTF-8; empty: none */
    struct str on_failure;
    uint64_t version;         /* raised with every change of the scripts */
    uint32_t max_attempts;    /* 0: no limit */
    bool dead_letter_headers; /* consumers see reason, time and origin of dead letters */
    bool paused;              /* nothing is delivered */
    void *memory;             /* of the slices, when it was read by catalog_get_queue */
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
 * returned; -1 when reading fails or a value cannot be understood. Slices live during the call. */
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
/* Reads a queue; with `txn` for a change in it. DB_NOTFOUND: there is none. The slices, the name's
 * too, live until catalog_queue_free. */
int catalog_get_queue(struct catalog *catalog, DB_TXN *txn, struct str name,
                      struct catalog_queue *queue) __attribute__((warn_unused_result));
void catalog_queue_free(struct catalog_queue *queue);
/* Writes what has changed of a queue that is there. */
int catalog_update_queue(struct catalog *catalog, DB_TXN *txn, const struct catalog_queue *queue)
    __attribute__((warn_unused_result));
/* Removes the name and adds the id to the dead. */
int catalog_delete_queue(struct catalog *catalog, DB_TXN *txn, struct str name, uint64_t id,
                         uint64_t now_ms) __attribute__((warn_unused_result));
/* Forgets a dead id whose file is gone. */
int catalog_forget_dead(struct catalog *catalog, DB_TXN *txn, uint64_t id)
    __attribute__((warn_unused_result));

/* --- runtime configuration --- */

/* Within `txn`; values of Berkeley DB. EINVAL: the key is empty or too long. */
int catalog_put_config(struct catalog *catalog, DB_TXN *txn, struct str key, struct str value)
    __attribute__((warn_unused_result));
/* DB_NOTFOUND: it is not set. */
int catalog_delete_config(struct catalog *catalog, DB_TXN *txn, struct str key)
    __attribute__((warn_unused_result));
/* Puts the value into `value` instead of what it held. DB_NOTFOUND: it is not set. */
int catalog_get_config(struct catalog *catalog, DB_TXN *txn, struct str key, struct buf *value)
    __attribute__((warn_unused_result));
/* As catalog_each_queue, for the keys that begin with `prefix`, in byte order. */
int catalog_each_config(struct catalog *catalog, struct str prefix,
                        int (*visit)(void *context, struct str key, struct str value,
                                     struct err *err),
                        void *context, struct err *err) __attribute__((warn_unused_result));

#endif
