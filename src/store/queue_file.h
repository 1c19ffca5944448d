/*
 * queue_file - how the file of a queue comes to be, and goes.
 *
 * Berkeley DB 5.3 makes a database under another name and renames it, and a removal within a
 * transaction renames, too. Renaming takes mutexes of the cache in another order than the
 * discarding of a file that was written and has neither handles nor pages in the cache any more,
 * which any process does at any time: two store threads then wait for each other for ever. So files
 * are made here, as copies of an empty one, and removed without a transaction.
 */
#ifndef FILAD_STORE_QUEUE_FILE_H
#define FILAD_STORE_QUEUE_FILE_H

#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"
#include "store/env.h"

#define QUEUE_FILE_NAME_SIZE 48
#define QUEUE_FILE_EMPTY "empty-queue.db" /* its name in the region directory */

/* queues/<id>.db, as it is named to Berkeley DB. */
void queue_file_name(char name[QUEUE_FILE_NAME_SIZE], uint64_t id);

/* For the keeper while it is alone: makes the empty file in the directory of the regions, and
 * removes from the store what creations left unfinished. */
int queue_file_prepare(const struct env_options *options, struct err *err)
    __attribute__((warn_unused_result));
/* Reads the empty file. */
int queue_file_load(const char *regions, struct buf *empty, struct err *err)
    __attribute__((warn_unused_result));

/* Makes the file of a queue, durable when it returns 0, also when another process was faster. Never
 * half of it is there under its name. An errno otherwise. */
int queue_file_create(const struct env *env, uint64_t id) __attribute__((warn_unused_result));

/* Sees that the file, which the caller has open, is on the disk: it may be one that another process
 * is about to make so, or has failed to. An errno otherwise. */
int queue_file_settle(const struct env *env, uint64_t id) __attribute__((warn_unused_result));

/* Removes it; env_is_conflict() when somebody has it open, whom Berkeley DB would wait for. Nobody
 * may be about to open it. No harm when it is gone already. Berkeley DB's value. */
int queue_file_remove(struct env *env, uint64_t id) __attribute__((warn_unused_result));

#endif
