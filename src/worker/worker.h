/*
 * worker - the process that accepts clients. Runs in a child of the master until it is told to
 * stop.
 */
#ifndef FILAD_WORKER_WORKER_H
#define FILAD_WORKER_WORKER_H

#include <stddef.h>

#include "conf/conf.h"
#include "sched/zone.h"

/* Exit statuses the master understands (with those of keeper.h). */
#define EXIT_CONFIGURATION 2 /* a mistake in the configuration: not respawned */
#define EXIT_STORE_STUCK 3   /* the store thread did not end when told to: respawned at once */
#define EXIT_MASTER_GONE 4
#define EXIT_SHED 5 /* ... and a process forked from this one goes on without it (CHANNEL_SHED) */

struct tally;

struct worker_options {
    struct zone *zone;
    unsigned slot;
    const struct conf *conf;
    int channel;          /* to the master */
    const int *listeners; /* conf->listen_count descriptors, in the order of conf->listen */
    const char *regions;  /* directory of the environment's region files */
    struct tally *tally;  /* statistics of modules; NULL: kept for this process */
};

/* Runs the worker; the return value is the exit status of the process. Privileges are dropped and
 * signals are set up by the caller. */
int worker_run(const struct worker_options *options);

#endif
