/*
 * scheduler - the root of the zone's arena: all queues by name and by number, and the timers of the
 * keeper.
 *
 * Order of locks: catalog, then queues by ascending id, then a shard of throttles or the timers,
 * then the arena's.
 */
#ifndef FILAD_SCHED_SCHEDULER_H
#define FILAD_SCHED_SCHEDULER_H

#include "sched/changes.h"
#include "sched/queue.h"
#include "sched/throttle.h"

#define SCHEDULER_MAGIC 0x53434844u

struct scheduler {
    uint32_t magic;
    uint32_t epoch;
    struct zone *zone;
    struct arena *arena;
    struct hash_allocator allocator; /* of the arena; its functions are at one address everywhere,
                                      * since all processes are forks of one */
    uint64_t generation;             /* of the zone this was built for */
    uint64_t seed;                   /* of all hashes */
    uint32_t quantum;
    uint32_t max_queues;
    struct lock catalog_lock; /* names, queues, dead, and the order of catalog transactions */
    struct hash names;        /* queue.by_name */
    struct list dead;         /* queue.dead_link: deleted, not yet let go by everybody */
    uint32_t queue_count;     /* living ones */
    struct changes changes;   /* of what the loops know, under the catalog lock */
    uint64_t config_count;    /* keys of the runtime configuration, under the catalog lock ... */
    uint64_t config_bytes;    /* ... and the bytes of keys and values */
    uint32_t next_index;      /* where to look for a free table entry */
    struct queue *_Atomic queues[ZONE_QUEUES];
    struct lock timer_lock;
    struct heap timers; /* queue.timer by monotonic ms */
    struct heap due;    /* queue.due by wall clock ms: its steps need no attention so */
    struct throttle_table throttles;
    _Atomic uint32_t space_low;   /* 1: writes that need more room on disk are refused */
    _Atomic uint64_t count_total; /* queues whose old messages had to be counted ... */
    _Atomic uint64_t count_done;  /* ... and that are */
    _Atomic uint64_t works;       /* numbers given to works on chunks (zone_slot.working) */
    _Atomic bool sweep;           /* some queue may have one that is not done */
};

/* Builds an empty scheduler in the zone's arena, for the zone's present generation. NULL when the
 * zone is too small. The zone's memory is given back to the system first. */
struct scheduler *scheduler_create(struct zone *zone, uint32_t epoch, uint32_t quantum,
                                   uint32_t max_queues, struct err *err)
    __attribute__((warn_unused_result));

/* LOCK_HELD, or why not; see os/lock. */
enum lock_result scheduler_lock(struct scheduler *scheduler, struct lock *lock)
    __attribute__((warn_unused_result));

/* True once a recovery has begun: nothing can be had from the arena any more, full or not. */
bool scheduler_is_over(const struct scheduler *scheduler);

/* Bytes of the arena that new queues, lanes and rules may take: the last eighth of it is kept for
 * what makes room again (leases). */
uint64_t scheduler_room(const struct scheduler *scheduler);
/* Bytes of it that leases may take: all that is left. */
uint64_t scheduler_lease_room(const struct scheduler *scheduler);
/* True when the last quarter of it is: what may be freed is freed soon. */
bool scheduler_is_tight(const struct scheduler *scheduler);

/* Under the catalog lock. */
struct queue *scheduler_find(const struct scheduler *scheduler, struct str name);
/* Adds a queue made by queue_create; false when the table is full. */
bool scheduler_add(struct scheduler *scheduler, struct queue *queue);
/* Marks it dead (also under its own lock), takes its name away, raises the catalog's generation. */
void scheduler_kill(struct scheduler *scheduler, struct queue *queue);
/* Frees dead queues that every living process has let go of; calls `freed` with their ids. */
void scheduler_reap(struct scheduler *scheduler, void (*freed)(void *context, uint64_t id),
                    void *context);
/* Tells all processes that the catalog changed. */
void scheduler_catalog_changed(struct scheduler *scheduler);

/* Tells all workers that the runtime configuration or a queue's scripts changed, which is committed
 * already; under the catalog lock. No hook runs with what was before once this has returned. */
void scheduler_settings_changed(struct scheduler *scheduler, enum change_kind kind,
                                struct str name);
/* The same after a rebuild: everything may have changed. */
void scheduler_settings_reset(struct scheduler *scheduler);

/* Tells the keeper that a queue may have chunks whose owner is gone. */
void scheduler_want_sweep(struct scheduler *scheduler, struct queue *queue);
/* True when the one who set a marker is at that work still. The marker must be held, or nobody may
 * be able to change it: an owner that has finished meanwhile has taken it away before. */
bool scheduler_marker_holds(const struct scheduler *scheduler, const struct record_marker *marker);

/* Marks something to deliver of queue `index` for a worker slot and wakes it. */
void scheduler_notify(struct scheduler *scheduler, unsigned slot, uint32_t index);
/* Takes the next queue index with something to deliver for a slot, or -1. */
int scheduler_next_ready(struct scheduler *scheduler, unsigned slot);

/* Puts a queue's node into one of the timers for `when`, unless it is there for an earlier time,
 * and wakes the keeper when it is the first. UINT64_MAX: never, nothing is done. */
void scheduler_timer_set(struct scheduler *scheduler, struct heap *heap, struct heap_node *node,
                         uint64_t when);

/* The earliest time a queue wants the keeper, UINT64_MAX when none does; takes it from the timers
 * when it is due at `now_ms`: *queue is set then. LOCK_ results as in scheduler_lock. */
enum lock_result scheduler_timer_next(struct scheduler *scheduler, uint64_t now_ms,
                                      struct queue **queue, uint64_t *when_ms)
    __attribute__((warn_unused_result));
/* The same for delayed messages, by the wall clock. */
enum lock_result scheduler_due_next(struct scheduler *scheduler, uint64_t wall_ms,
                                    struct queue **queue, uint64_t *when_ms)
    __attribute__((warn_unused_result));

#endif
