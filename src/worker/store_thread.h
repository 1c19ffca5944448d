/*
 * store_thread - the thread of a worker that makes every call of Berkeley DB and takes every lock
 * of the zone, but for the flushes of the log, which its sync thread asks for.
 *
 * What the threads of a pipeline share stands here; the loop uses worker/pipeline.h.
 */
#ifndef FILAD_WORKER_STORE_THREAD_H
#define FILAD_WORKER_STORE_THREAD_H

#include <stdatomic.h>

#include "broker/broker.h"
#include "fibp/status.h"
#include "os/thread.h"
#include "worker/intake.h"
#include "worker/pipeline.h"

enum pipeline_stop { PIPELINE_GO_ON, PIPELINE_LEAVE, PIPELINE_FINISH };

struct pipeline {
    struct pipeline_options options;
    struct mailbox requests; /* loop to store thread */
    struct mailbox flushes;  /* store to sync thread: executed, not on disk yet */
    struct mailbox results;  /* both to the loop */
    int fd;                  /* eventfd: results, or the end of the threads */
    struct thread thread;    /* the store thread; it starts and joins the sync thread */
    uint64_t generation;     /* of the zone the threads work on */
    _Atomic int state;       /* enum pipeline_state */
    _Atomic int stop;        /* enum pipeline_stop, by the loop */
    _Atomic bool empty;      /* by the store thread: it will look at no operation any more */
    _Atomic bool ended;      /* by the store thread, last of all */

    _Atomic uint64_t deciding_bytes; /* broker/decide: what operations that are up hold */

    /* loop */
    bool joinable; /* thread runs, or has ended and is not joined */
    bool stop_asked;
    struct histogram *commits; /* in the zone; this slot's */
    struct list outstanding;   /* operation.outstanding: submitted and not taken back, in order */
    uint64_t outstanding_count;
    struct list subscriptions;                  /* subscription.live: what a new environment has to
                                                 * know */
    struct operation *finished, **finished_end; /* taken from `results`, not handed out */

    /* store thread, and the loop when there is none */
    struct env *env;
    struct broker *broker;
    struct intake intake;           /* what was taken from `requests` and waits for its round */
    struct operation *unexecuted;   /* chain that is executed first, also by the next environment */
    struct subscription *announced; /* those to announce, through subscription.announce */
    struct err failure;             /* text empty: none */

    /* sync thread */
    struct thread sync_thread;
    _Atomic uint32_t sync_wake; /* futex word */
    _Atomic uint32_t sync_idle; /* it has nothing in hand */
    _Atomic bool sync_stop;
    _Atomic bool sync_failed;
};

/* Body of the store thread. */
void store_thread_run(void *pipeline);

/* Body of the sync thread: flushes for all that waits, again and again; ends on sync_stop when
 * nothing waits any more. */
void sync_thread_run(void *pipeline);
/* Makes operations that were executed before this call durable and gives them back. */
void sync_thread_confirm(struct pipeline *pipeline, enum zone_thread thread,
                         struct operation *first);

/* Takes everything submitted (handed over) so far, as a chain through operation->next. */
struct operation *pipeline_take_requests(struct pipeline *pipeline);
struct operation *pipeline_take_flushes(struct pipeline *pipeline);
/* Gives one finished operation to the loop. */
void pipeline_post_result(struct pipeline *pipeline, struct operation *operation);
/* Makes the loop look. */
void pipeline_signal(struct pipeline *pipeline);
/* The store thread's last word. */
void pipeline_announce_end(struct pipeline *pipeline);

#endif
