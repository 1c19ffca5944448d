/*
 * keeper - the process that answers for the health of the store: it alone recovers the environment,
 * builds the zone, expires leases, writes checkpoints and purges. One keeper lives as long as one
 * generation of the environment.
 */
#ifndef FILAD_KEEPER_KEEPER_H
#define FILAD_KEEPER_KEEPER_H

#include "conf/conf.h"
#include "sched/zone.h"

struct keeper_options {
    struct zone *zone;
    const struct conf *conf;
    int channel;         /* to the master; -1 in keeper_failchk */
    const char *regions; /* directory of the environment's region files; made when missing */
};

/* Recovers the store, builds the zone (state ZONE_UP under a new generation), says CHANNEL_READY
 * with that generation, and runs until CHANNEL_STOP (checkpoint, clean mark, 0), the master's end,
 * or a failure of the store (CHANNEL_STORE_FAILED, then it waits to be killed). The return value is
 * the exit status; EXIT_CONFIGURATION after CHANNEL_FAILED when the store cannot be opened for a
 * reason that a retry does not cure. */
int keeper_run(const struct keeper_options *options);

/* Body of the helper process after the death of a process whose words were clear: checks the
 * environment for what the dead left. 0: fine; anything else: a recovery is needed. The caller
 * limits its time. */
int keeper_failchk(const struct keeper_options *options);

#endif
