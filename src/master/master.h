/*
 * master - the process that everything else descends from: it owns the listening sockets, the
 * zone's memory, the process table and the control socket, and never touches a client's bytes or
 * the store.
 */
#ifndef FILAD_MASTER_MASTER_H
#define FILAD_MASTER_MASTER_H

#include "conf/options.h"
#include "core/err.h"
#include "master/state.h"

/* Runs the broker, in the foreground or from a process in the background, until it is stopped.
 * Returns the exit status; what went wrong has been said on standard error and in the log. */
int master_run(const struct options *options);

/* For the other parts of the master: */

/* Ends the workers, then the keeper, then loop_run. A faster mode than before replaces it. */
void master_stop(struct master *master, enum stop_mode mode);
/* The broker cannot go on (or start): stops it with exit status 1. The first reason is kept. */
void master_fail(struct master *master, const char *reason);

/* Says that the broker has started, once everything is READY. */
void master_check_started(struct master *master);
/* Goes on with a stop, once the last worker has ended. */
void master_check_stopped(struct master *master);

/* Opens the log anew, here and in all children. */
int master_reopen(struct master *master, struct err *err) __attribute__((warn_unused_result));

#endif
