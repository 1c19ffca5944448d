/*
 * hold - how throttles bound lanes. A lane that throttles concern has a `struct hold`, which refers
 * to them; others pay for one comparison. What it delivers takes one from each of its throttles. A
 * lane that one of them refuses is *held*: it leaves its key's order of lanes, so that others of
 * the key and other keys go on, and waits in the list of that throttle. The keeper's refill thread
 * (hold_run), or the end of a lease of the same queue, releases as many lanes as there is something
 * for, longest first; then the queue's round robin decides. A lane that has waited may take before
 * those that come new.
 *
 * All but hold_run and hold_count_leases are called under the queue's lock. Times are ns of the
 * monotonic clock.
 */
#ifndef FILAD_SCHED_HOLD_H
#define FILAD_SCHED_HOLD_H

#include "sched/queue.h"
#include "sched/scheduler.h"

struct hold {
    struct list wait; /* in throttle.waiting, guarded by its shard's lock too */
    struct list held; /* in queue.held while the lane is held */
    struct list link; /* in queue.throttled */
    struct queue *queue;
    struct lane *lane;
    struct throttle *at; /* the one it waits for; NULL: it is not held */
    uint64_t counted;    /* messages of the lane that its limits count: leased ones and `taken` */
    uint32_t taken;      /* picked, neither leased nor given back yet */
    bool pass;           /* it has waited and may take while others wait */
    uint8_t count;       /* throttles */
    struct throttle *throttles[];
};

/* True when hold_take has to be asked before a message of the lane is delivered. */
static inline bool hold_concerns(const struct scheduler *scheduler, const struct lane *lane)
{
    return lane->hold ||
           lane->hold_generation !=
               atomic_load_explicit(&scheduler->throttles.generation, memory_order_relaxed);
}

static inline bool hold_is_held(const struct lane *lane)
{
    return lane->hold && lane->hold->at;
}

enum hold_result {
    HOLD_GO,      /* the message may be delivered; everything it takes is taken */
    HOLD_HELD,    /* the lane waits now; nothing is taken */
    HOLD_NO_ROOM, /* the zone is full; nothing has changed */
};

/* For one message of a lane that is not held. */
enum hold_result hold_take(struct queue *queue, struct lane *lane, uint64_t now_ns)
    __attribute__((warn_unused_result));
/* `count` of those taken are not going to be leased. */
void hold_give_back(struct lane *lane, uint32_t count);

/* A lease of the lane began: one that was taken before, or (in a rebuild) not. Or it ended. The
 * caller wakes waiters after. */
void hold_lease_began(struct lane *lane);
void hold_lease_ended(struct queue *queue, struct lane *lane);

/* The lane has no message to deliver. */
void hold_drop(struct lane *lane);
/* The lane goes. */
void hold_free(struct lane *lane);

/* Finds out anew which throttles concern the lane; false when the zone is full. */
bool hold_resolve(struct queue *queue, struct lane *lane) __attribute__((warn_unused_result));

/* Makes all leases count for limits that came new. LOCK_ results as in scheduler_lock. */
enum lock_result hold_count_leases(struct scheduler *scheduler, bool *full)
    __attribute__((warn_unused_result));

/* Releases the lanes that wait for what is there by now, and wakes workers. *when_ns: when to call
 * it next; THROTTLE_NEVER: not before something changes. */
enum lock_result hold_run(struct scheduler *scheduler, uint64_t now_ns, uint64_t *when_ns)
    __attribute__((warn_unused_result));
/* Sleeps until `until_ns`, or something is due earlier; `seen` is zone.refill_wake from before the
 * last hold_run. One thread at a time. */
void hold_sleep(struct scheduler *scheduler, uint32_t seen, uint64_t until_ns);

/* --- statistics --- */

/* The fairness keys whose lanes are all held, which therefore are not in the round robin. malloc,
 * NULL when there is no memory. */
struct fairness_key **hold_keys(const struct queue *queue, uint32_t *count);

struct hold_row {
    struct str key;
    double tokens, rate, burst; /* of a bucket */
    uint64_t most, in_flight;   /* of a limit */
    uint64_t waiting;           /* lanes, of all queues */
};

#define HOLD_ROWS_MAX 65535

/* The throttles of one kind that concern lanes of the queue, HOLD_ROWS_MAX at most; malloc with the
 * names behind them, NULL when there is no memory. Their order is arbitrary. */
struct hold_row *hold_rows(const struct queue *queue, enum throttle_kind kind, uint64_t now_ns,
                           uint32_t *count);

#endif
