/*
 * env - the Berkeley DB environment: transactions, write-ahead log, cache, recovery.
 *
 * The region files lie in a directory of their own (on tmpfs), the databases under `path`, the log
 * under `path`/log. Every process opens the environment after its fork; only the keeper opens it
 * with recovery, while no other process has it open.
 *
 * Berkeley DB return values pass through unchanged as `int`: 0, an errno, or a negative DB_ code.
 */
#ifndef FILAD_STORE_ENV_H
#define FILAD_STORE_ENV_H

#include <db.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"

#define ENV_MAX_RECORDS 2000      /* records one transaction may write */
#define ENV_MAX_BYTES (64u << 20) /* and bytes, but for a single larger message */
#define ENV_PAGE_SIZE (16u << 10) /* of the queues' databases */

struct env_options {
    const char *path;    /* store.path */
    const char *regions; /* directory of the region files */
    uint64_t cache_size; /* bytes */
    bool recover;        /* make the regions anew and recover; the caller is alone */
};

struct env {
    DB_ENV *db;
    char *path;
    struct buf empty; /* the file of a queue that holds nothing (store/queue_file) */
};

/* Opens (with `recover`, creates what is missing). NULL on failure: err->code is Berkeley DB's. */
struct env *env_open(const struct env_options *options, struct err *err)
    __attribute__((warn_unused_result));
/* Closes; every database handle of this process must be closed. Returns Berkeley DB's value. */
int env_close(struct env *env);

/* For a process that was forked away from threads which have the environment open, and are not in
 * it: closes their descriptors of the store's files and unmaps the regions, without a call of
 * Berkeley DB. Its handles, whose memory is lost, must not be used any more. The lock of the store
 * is kept; env_open works as ever. */
void env_abandon(const char *path, const char *regions);

/* Bytes of tmpfs that the region files of `options` take at most. */
uint64_t env_region_bytes(const struct env_options *options);
/* Makes sure that the region files have all their room now, so that touching them later cannot fail
 * with SIGBUS. */
int env_reserve_regions(const struct env_options *options, struct err *err)
    __attribute__((warn_unused_result));

int env_begin(struct env *env, DB_TXN **txn) __attribute__((warn_unused_result));

enum env_commit {
    ENV_COMMIT_MEMORY, /* in the log buffer: durable after the next env_flush */
    ENV_COMMIT_KERNEL, /* handed to the kernel: survives the death of processes */
};

/* Ends the transaction whatever it returns. */
int env_commit(DB_TXN *txn, enum env_commit how) __attribute__((warn_unused_result));

/* On disk after it returned 0: every transaction committed before it was called. */
int env_flush(struct env *env) __attribute__((warn_unused_result));

/* True once after a write of the log met a full disk and gave up the reserve (store/space). */
bool env_used_reserve(void);

/* A checkpoint when `bytes` of log were written since the last one, 0: any; with `force` also when
 * none were. */
int env_checkpoint(struct env *env, uint64_t bytes, bool force) __attribute__((warn_unused_result));

/* Finds what a dead process left; 0 when the environment is fine. */
int env_failchk(struct env *env) __attribute__((warn_unused_result));

/* True for the value of a call that lost a race for a lock and may be tried again. */
static inline bool env_is_conflict(int result)
{
    return result == DB_LOCK_DEADLOCK || result == DB_LOCK_NOTGRANTED;
}

/* Fills `err` with `what`, the text of Berkeley DB's `result` and what it said about it on this
 * thread; returns -1. */
int env_error(struct err *err, int result, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
