/*
 * quarantine - files of queues that cannot be read, set aside so that all other queues are served.
 *
 * A file in quarantine is queues/<id>.db moved to quarantine/<id>.db, and its being there is all
 * that says so: the catalog keeps the queue, which holds nothing and takes nothing until the file
 * is moved back (repaired) or the queue is deleted. Files are moved by the keeper while it is alone
 * in the environment and has no handle of them.
 */
#ifndef FILAD_STORE_QUARANTINE_H
#define FILAD_STORE_QUARANTINE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

/* Whether a file of this queue was set aside. `path` is the store's. */
bool quarantine_holds(const char *path, uint64_t id);

/* Moves the file of a queue there; durable when it returns 0. */
int quarantine_put(const char *path, uint64_t id, struct err *err)
    __attribute__((warn_unused_result));

/* Moves every file of a queue there that is not the beginning of a B-tree: those stop even the
 * recovery. How many; -1 when one could not be moved. */
int quarantine_scan(const char *path, struct err *err) __attribute__((warn_unused_result));

/* True for a result of reading one database that says that its content is damaged, as opposed to
 * what may happen with any (no memory, no file descriptor, no access). */
bool quarantine_is_damage(int result);

#endif
