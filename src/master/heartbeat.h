/*
 * heartbeat - finds children whose loop does not turn any more, writes down where they are stuck,
 * and kills them.
 */
#ifndef FILAD_MASTER_HEARTBEAT_H
#define FILAD_MASTER_HEARTBEAT_H

#include <sys/types.h>

#include "master/state.h"

#define HEARTBEAT_INTERVAL_MS 5000
#define HEARTBEAT_LIMIT_MS 30000

void heartbeat_start(struct master *master);

/* Logs for each thread of `pid` what the kernel tells about it: state, where it waits, the system
 * call, and (to root) the kernel's stack. */
void heartbeat_describe(pid_t pid, const char *name);

#endif
