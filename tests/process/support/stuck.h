/*
 * stuck - brings a store thread to hang in a sync, and kills another worker where it waits for
 * that, so that the store has to be recovered. With the shim "faults"; include it behind cmocka.h.
 */
#ifndef FILAD_TESTS_STUCK_H
#define FILAD_TESTS_STUCK_H

#include <stdint.h>
#include <sys/types.h>

#include "process/support/fixture.h"

/* Sends a message that nobody waits for; its request. */
uint32_t stuck_send(struct fixture *fixture, struct peer *peer, const char *queue);

/* The store thread of worker `pid`, which serves `peer`, hangs in a sync, and so does each that the
 * shim still names (hang_pid) when this returns. The request that it has in hand. */
uint32_t stuck_hang(struct fixture *fixture, struct peer *peer, pid_t pid, const char *queue);

/* Kills the worker `pid`, which serves `peer`, inside the store: it waits for a flush that hangs.
 */
void stuck_kill_inside(struct fixture *fixture, struct peer *peer, pid_t pid, const char *queue);

#endif
