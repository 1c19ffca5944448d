/*
 * pipeline - a worker's store thread and sync thread, seen from its loop thread.
 *
 * The loop submits the operations of a tick as one chain and gets them back finished: reads at
 * once, writes when their transaction is on disk (design: the commit pipeline). No call here
 * blocks.
 *
 * The threads can be away: before the first environment is there and during a recovery. Operations
 * submitted meanwhile wait and run when the next environment is up; those that were running when
 * the environment failed come back with FIBP_STORAGE_ERROR, since their fate is unknown.
 *
 * Threads that do not end can be shed: the process forks, and its child goes on without them. No
 * memory that they may be writing at that moment is trusted in the child, since a fork copies page
 * by page while they run: of two words that a thread wrote, the child may have the second and not
 * the first. What the loop took from a mailbox before the fork is whole, and everything else that
 * it submitted is found through a list of its own, which no thread touches.
 */
#ifndef FILAD_WORKER_PIPELINE_H
#define FILAD_WORKER_PIPELINE_H

#include <stdbool.h>
#include <sys/types.h>

#include "broker/operation.h"
#include "conf/conf.h"
#include "core/err.h"
#include "sched/zone.h"

struct pipeline;

struct pipeline_options {
    struct zone *zone;
    unsigned slot; /* of this worker */
    const struct conf *conf;
    const char *regions; /* directory of the environment's region files, already resolved */
};

struct pipeline *pipeline_create(const struct pipeline_options *options, struct err *err)
    __attribute__((warn_unused_result));
/* Only when the threads are away. Operations still waiting are given back through pipeline_take
 * first: call it until it returns NULL. */
void pipeline_destroy(struct pipeline *pipeline);

/* Readable (level-triggered eventfd, read by pipeline_take) when pipeline_take has something or a
 * thread has ended. */
int pipeline_fd(const struct pipeline *pipeline);

/* Hands down a chain linked through operation->next, in order. */
void pipeline_submit(struct pipeline *pipeline, struct operation *first);

/* Everything finished since the last call as a chain through operation->next, in order: answers to
 * the operations of one session come in the order of submission as far as both wrote or both only
 * read; a subscription's answer comes before its first delivery. NULL when there is nothing. */
struct operation *pipeline_take(struct pipeline *pipeline);

/* Operations submitted and not yet taken back. */
uint64_t pipeline_outstanding(const struct pipeline *pipeline);

/* Starts the threads on the environment of zone generation `generation`. They open it and announce
 * every subscription anew. -1 when a thread cannot be made. */
int pipeline_start(struct pipeline *pipeline, uint64_t generation, struct err *err)
    __attribute__((warn_unused_result));

enum pipeline_state {
    PIPELINE_AWAY,    /* no threads */
    PIPELINE_OPENING, /* started, the environment is being opened */
    PIPELINE_RUNNING,
    PIPELINE_STOPPING, /* asked to stop, or failed and on its way out */
    PIPELINE_FAILED,   /* ended by itself: the environment is dead; pipeline_reason tells why */
};

/* PIPELINE_FAILED and the end of PIPELINE_STOPPING are announced through pipeline_fd. */
enum pipeline_state pipeline_state(struct pipeline *pipeline);
const char *pipeline_reason(const struct pipeline *pipeline);

/* Asks both threads to end after the batch in hand; with `finish`, after everything submitted so
 * far is executed, flushed and given back (a clean stop). The state becomes PIPELINE_AWAY when they
 * have ended and closed the environment. */
void pipeline_stop(struct pipeline *pipeline, bool finish);

/* Forks while the threads are stuck, after pipeline_stop. Take what is finished before. In the
 * child
 * (*child 0) the pipeline is PIPELINE_AWAY; what the threads had in hand comes back with
 * FIBP_STORAGE_ERROR where it may have had an effect, all else runs in the next environment, and
 * subscriptions are announced in it as usual. Deliveries that were on their way up are lost to
 * their leases: windows have to be counted anew. In the parent the pipeline must not be used any
 * more, whether the fork succeeded or not (-1). */
int pipeline_shed(struct pipeline *pipeline, pid_t *child, struct err *err)
    __attribute__((warn_unused_result));

#endif
