/*
 * rebuild - makes the zone from the store: queues from the catalog, lanes from K, leases from L,
 * and the first message of every lane. The number of messages is found out later (struct
 * queue_scan), so that a backlog costs no time here. A queue whose file cannot be read is set aside
 * (store/quarantine); the others are as they were.
 */
#ifndef FILAD_SCHED_REBUILD_H
#define FILAD_SCHED_REBUILD_H

#include "sched/scheduler.h"
#include "store/catalog.h"
#include "store/queue_db.h"

struct rebuild_options {
    struct zone *zone;
    struct env *env;
    struct catalog *catalog;
    uint32_t quantum;
    uint32_t max_queues;
};

struct rebuild_result {
    uint32_t epoch;
    uint32_t queues;
    uint64_t lanes, leases;
    uint32_t quarantined; /* of the queues: their files were set aside, now or before */
    bool again;           /* a file was set aside that broke the environment: open it once more */
};

/* Raises the epoch, builds the scheduler and publishes it (zone->scheduler). The caller is alone in
 * the environment and sets the zone's state to ZONE_UP after. */
int rebuild_run(const struct rebuild_options *options, struct rebuild_result *result,
                struct err *err) __attribute__((warn_unused_result));

#endif
