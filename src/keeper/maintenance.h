/*
 * maintenance - the keeper's second thread: checkpoints, clean cache pages, disk space, files of
 * deleted queues, counting and sweeping after a crash, compaction. Each job is a step of bounded
 * length, so that no queue's lock is held long and a stop is heard soon.
 */
#ifndef FILAD_KEEPER_MAINTENANCE_H
#define FILAD_KEEPER_MAINTENANCE_H

#include "broker/broker.h"
#include "conf/conf.h"

/* What had gone from a queue, in records. */
struct compaction {
    uint64_t done; /* at its last compaction */
    uint64_t seen; /* at the last look */
};

struct maintenance {
    struct broker *broker; /* of this thread */
    const struct conf *conf;
    uint64_t reserve;        /* bytes of ballast */
    uint64_t next_tick_ms;   /* monotonic: when disk and log are looked at next */
    bool disk_full;          /* the last checkpoint found no room */
    uint64_t next_second_ms; /* monotonic: when the once-a-second jobs are due */
    uint64_t last_checkpoint_ms;
    uint64_t files_at_checkpoint;   /* zone->files_opened then */
    struct list doomed;             /* ids whose file is to be removed */
    uint32_t next_queue;            /* table index at which the walks over all queues go on */
    struct counting *counting;      /* the queue being counted, NULL when none is */
    struct compaction *compactions; /* per table index */
    struct buf compact_position;
    uint32_t compact_index; /* queue whose compaction is under way; ZONE_QUEUES: none */
    uint64_t compact_id;
    uint32_t sweep_index; /* where the walk that sweeps is; ZONE_QUEUES: it is over */
    uint64_t sweep_id;    /* queue being swept; 0: none */
    struct uuid sweep_position;
    bool sweep_held; /* somebody is at work in it still */
    uint64_t next_sweep_ms;
};

int maintenance_init(struct maintenance *maintenance, struct broker *broker,
                     const struct conf *conf, struct err *err) __attribute__((warn_unused_result));
void maintenance_free(struct maintenance *maintenance);

/* Does what is due; inside a section. 1: there is more to do at once; 0: not before `*wait_ms`; -1:
 * the end of the environment, broker->failure tells why. */
int maintenance_step(struct maintenance *maintenance, uint64_t now_ms, uint64_t *wait_ms)
    __attribute__((warn_unused_result));

/* --- the jobs --- */

/* Counts up to a few hundred messages from before the zone was built. 1: more to count; 0: all
 * done. */
int count_step(struct maintenance *maintenance) __attribute__((warn_unused_result));
void count_abandon(struct maintenance *maintenance);
/* Lets go of the queue being counted when it was deleted. */
void count_forget_dead(struct maintenance *maintenance);

/* Lets go of deleted queues and looks for files to be removed. */
int purge_step(struct maintenance *maintenance) __attribute__((warn_unused_result));
/* Removes one of them. 1: there may be more; 0: none. */
int purge_file_step(struct maintenance *maintenance) __attribute__((warn_unused_result));
void purge_abandon(struct maintenance *maintenance);

/* Removes a step of what crashes left behind. 1: more at once. */
int sweep_step(struct maintenance *maintenance, uint64_t now_ms)
    __attribute__((warn_unused_result));

/* Gives free pages of queues that became empty back to the file system. 1: more at once. */
int compact_step(struct maintenance *maintenance) __attribute__((warn_unused_result));

#endif
