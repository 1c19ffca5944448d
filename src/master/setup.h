/*
 * setup - what the master puts in place before its first fork, and takes away at its end.
 */
#ifndef FILAD_MASTER_SETUP_H
#define FILAD_MASTER_SETUP_H

#include "core/err.h"
#include "master/state.h"

#define SETUP_LOCK_MS 10000 /* wait for the last process of an earlier broker on the same store */

/* Everything in its order: user, directories, log, pid file, the store's lock, listeners, zone,
 * region directory, loop, control socket. -1 when something cannot be had; setup_undo is due either
 * way. */
int setup_all(struct master *master, struct err *err) __attribute__((warn_unused_result));
void setup_undo(struct master *master);

/* Makes the missing directories that `conf` names, with owner and mode. */
int setup_directories(const struct master *master, const struct conf *conf, struct err *err)
    __attribute__((warn_unused_result));

/* Directs the log as `conf` says; the file belongs to the user that the workers run as, so that
 * they can open it anew. */
int setup_log(const struct master *master, const struct conf *conf, struct err *err)
    __attribute__((warn_unused_result));
/* The same for a log that has been opened anew under its old name. */
void setup_log_owner(const struct master *master);

#endif
