/*
 * queue - one queue in the zone: lanes, fairness keys, leases, counters, who waits for it.
 *
 * Messages themselves are in the store. What stands here grows with keys, leases and connections:
 * of the ready messages of a lane only their number and the position of the first are known.
 * Everything but what is marked atomic is guarded by `lock`. Changes are made after the transaction
 * they belong to has committed.
 */
#ifndef FILAD_SCHED_QUEUE_H
#define FILAD_SCHED_QUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/hash.h"
#include "core/heap.h"
#include "core/list.h"
#include "core/str.h"
#include "core/uuid.h"
#include "core/wheel.h"
#include "os/lock.h"
#include "sched/arena.h"
#include "sched/drr.h"
#include "sched/statistics.h"
#include "sched/zone.h"
#include "store/record.h"

#define QUEUE_MAGIC 0x51554555u
#define KEY_MAGIC 0x4b455920u
#define LANE_MAGIC 0x4c414e45u
#define LEASE_MAGIC 0x4c455345u

#define QUEUE_PULL 32                  /* messages that one pull of a worker takes at most */
#define QUEUE_LANE_IDLE_MS 60000u      /* an empty lane is freed after so long */
#define QUEUE_LANE_IDLE_TIGHT_MS 1000u /* ... while room is scarce for its queue */

struct catalog_queue;
struct scheduler;
struct queue;
struct hold;

/* A fairness key that has lanes. */
struct fairness_key {
    uint32_t magic;
    uint32_t name_size;
    struct hash_link link; /* in queue.keys by name */
    struct drr_key drr;
    struct heap heads;   /* lane.order: lanes worth a try, the oldest head first */
    uint64_t lane_count; /* of all its lanes */
    uint64_t ready;      /* sum over its lanes */
    uint8_t name[];
};

/* One fairness key with one set of throttle keys: a sequence of messages, delivered in order. */
struct lane {
    uint32_t magic;
    uint16_t throttle_count;
    bool unscanned; /* not counted yet (see queue_scan): more than `ready` may be there */
    bool drained;   /* a look at the store found nothing from `next` on; only with `unscanned` */
    bool staged;    /* private to a running transaction: its K record must be written */
    bool next_is_known;       /* the first ready message not in `returned` stands at `next` */
    uint32_t hold_generation; /* of the throttles when `hold` was found out */
    uint64_t id;
    struct fairness_key *key;
    struct hash_link link;  /* in queue.lanes by fairness key and throttle keys */
    struct heap_node order; /* in fairness_key.heads by its head */
    struct list idle;       /* in queue.idle_lanes while it has no message */
    uint64_t idle_since_ms; /* monotonic */
    uint64_t next;          /* every ready message not in `returned` has a seq >= next */
    uint64_t leased_below;  /* messages below this seq may be leased: look before delivering */
    uint64_t ready;         /* messages that may be delivered, as far as they are counted */
    uint64_t leased;
    struct list returned;   /* lease.wheel.list: leases given back undelivered, ascending seq */
    uint32_t stored_weight; /* in its K record */
    uint32_t staged_weight;
    struct hold *hold; /* what bounds its deliveries (sched/hold); NULL: nothing */
    struct lane *staged_next;
    uint32_t throttle_size;  /* bytes of throttle_keys */
    uint8_t throttle_keys[]; /* as in the K record */
};

_Static_assert(sizeof(struct lane) <= 192,
               "a lane without throttle keys fits a class of the arena");

/* One L record: leases that were written together. */
struct lease_batch {
    uint64_t seq;
    uint32_t remaining;       /* leases that still name it */
    uint32_t staged_removals; /* private to a running transaction */
    struct lease_batch *staged_next;
};

/* One subscription, seen from all processes. */
struct consumer {
    uint64_t unacked; /* leases it holds */
    uint32_t slot;    /* of its worker */
    uint32_t incarnation;
    bool gone;            /* unsubscribed: freed with its last lease */
    bool full;            /* it stopped at max_unacked: wake its worker when a lease ends */
    struct list relieved; /* in queue.relieved[slot] until its worker looks */
    struct list link;     /* in queue.subscribed until it is gone */
    void *local;          /* its worker's; no other process looks at it */
};

enum lease_state {
    LEASE_HELD,
    LEASE_RETURNED, /* given back undelivered: its message is ready */
    LEASE_DECIDING, /* held, and a worker asks a script what becomes of the message */
};

struct lease {
    struct hash_link by_id;  /* link.user: LEASE_MAGIC */
    struct wheel_link wheel; /* in queue.expiry while held, in lane.returned while returned */
    struct uuid id;
    uint64_t seq;
    struct lane *lane;
    struct lease_batch *batch; /* NULL only when it was rebuilt from nothing */
    struct consumer *consumer; /* NULL when not known */
    uint32_t apart;            /* bytes of it that are stored apart, at most UINT32_MAX */
    uint8_t state;             /* enum lease_state */
    uint8_t staged;            /* private to a running transaction: it will be removed */
    union {
        uint16_t
            staged_by;    /* private to a running transaction: the operation that will remove it */
        uint16_t decider; /* deciding: the worker, as slot and the end of its incarnation */
    };
};

_Static_assert(sizeof(struct lease) <= 96, "a lease is meant to stay small");

/* How far the counting of messages from before the zone was built has come (keeper/count). */
struct queue_scan {
    bool done;
    uint8_t percent;          /* of them; at most 99 while not done */
    uint64_t lane, seq;       /* positions below are counted */
    uint64_t limit;           /* seqs from here on are new and counted as they come */
    bool delayed_done;        /* of the delayed ones, which come first ... */
    uint64_t due_ms, due_seq; /* ... positions below are counted */
};

/* Under way is not done: a keeper that dies leaves the rest to the next one. */
enum queue_sweep { QUEUE_SWEEP_DONE, QUEUE_SWEEP_WANTED, QUEUE_SWEEP_UNDER_WAY };

struct queue {
    uint32_t magic;
    uint32_t index;           /* in scheduler.queues */
    uint64_t id;              /* in the catalog; names its file */
    struct hash_link by_name; /* in scheduler.names, guarded by its catalog lock */
    struct str name;          /* in the arena; constant */
    _Atomic bool dead;        /* deleted; set under both locks */
    bool quarantined;         /* its file was set aside; constant */
    _Atomic uint32_t
        pins;            /* whoever is about to take its lock without being its user (sched/hold) */
    uint64_t dead_since; /* catalog generation of the deletion */
    struct list dead_link; /* in scheduler.dead */
    struct lock lock;
    struct scheduler *scheduler;
    _Atomic uint64_t visibility_timeout_ms;
    _Atomic uint32_t max_attempts;    /* 0: no limit */
    _Atomic bool paused;              /* nothing is delivered */
    _Atomic bool has_scripts;         /* one of them at least: the loops know of it */
    _Atomic bool has_on_failure;      /* a nack asks a script */
    _Atomic bool dead_letter_headers; /* consumers see reason, time and origin of dead letters */
    _Atomic uint64_t chunks_removed;  /* of messages stored apart, ever */
    _Atomic bool has_apart;           /* a message stored apart was leased here */
    _Atomic uint8_t sweep;            /* enum queue_sweep: chunks without an owner may be there */

    uint64_t next_seq, next_lane; /* epoch.counter */
    struct hash keys;             /* fairness_key.link */
    struct hash lanes;            /* lane.link */
    struct hash leases;           /* lease.by_id */
    uint64_t lane_count;
    uint64_t lane_bytes;    /* of the arena, for lanes and fairness keys */
    struct list idle_lanes; /* lane.idle, longest idle first */
    struct drr drr;
    uint64_t ready, leased; /* sums over lanes */
    uint64_t held,
        held_lanes;          /* of `ready`, messages in lanes that a throttle holds; those lanes */
    struct list held_list;   /* hold.held */
    struct list throttled;   /* hold.link: lanes that throttles concern */
    uint64_t ready_removed;  /* times that ready messages went otherwise than by a delivery */
    struct wheel *expiry;    /* of leases, monotonic ms; NULL until the first lease */
    struct heap_node timer;  /* in scheduler.timers, guarded by its timer lock */
    uint64_t delayed;        /* messages that are not due yet, as far as they are counted */
    uint64_t next_due_ms;    /* wall clock: none of them is due before; UINT64_MAX: there is none */
    uint64_t blocked_due_ms; /* where to go on behind due ones that the zone has no lane for ... */
    uint64_t blocked_seq;    /* ... before the next pass; 0, 0: at the first one */
    uint64_t due_again_ms; /* monotonic: what was due could not be moved and is tried again; or 0 */
    struct heap_node due;  /* in scheduler.due, guarded by its timer lock */
    struct list due_link;  /* private to the keeper's timers thread, within a section */
    struct queue_scan scan;
    struct queue_statistics *statistics; /* outlives the arena */
    struct queue_counters *counters;     /* in statistics */

    uint64_t waiting; /* bit per worker slot whose consumers have room */
    uint32_t turn;    /* whose turn it is to be woken */
    struct {
        uint32_t incarnation, count;
    } consumers[ZONE_WORKERS]; /* subscriptions; valid while the slot has this incarnation */
    struct list *relieved;     /* per worker slot; NULL before the first consumer */
    struct list subscribed; /* consumer.link; of workers that died too, until their slot has a new
                             * one that subscribes */
};

/* --- lanes and keys: all under queue->lock --- */

/* Finds the lane of a fairness key and throttle set. NULL when there is none. `throttle_keys` is in
 * stored form (store/record.h). */
struct lane *queue_lane_find(const struct queue *queue, struct str fairness_key,
                             struct str throttle_keys);
/* False when no lane should be made for a new key: the zone has no room, or this queue's lanes take
 * three times what is left, so that a queue with ever more keys leaves room for those of others. */
bool queue_has_room(const struct queue *queue);
/* True from half of that on, or when the zone is nearly full: empty lanes go soon. */
bool queue_is_tight(const struct queue *queue);
/* Makes one with number `id`; its key is made when needed. NULL when the zone is full. */
struct lane *queue_lane_create(struct queue *queue, uint64_t id, uint32_t weight,
                               struct str fairness_key, uint16_t throttle_count,
                               struct str throttle_keys) __attribute__((warn_unused_result));
/* Frees a lane without messages, and its key with its last lane. */
void queue_lane_free(struct queue *queue, struct lane *lane);
/* Its messages changed: puts it among the idle ones or takes it away, and keeps the ring of active
 * keys and its key's order of lanes right. To be called after every change of next, ready,
 * returned, leased and unscanned, before the lock is released. */
void queue_lane_update(struct queue *queue, struct lane *lane, uint64_t now_ms);

/* True when a delivery from the lane is worth a try, but for throttles. */
bool queue_lane_runnable(const struct lane *lane);
/* A bound below which the first ready message of the lane cannot stand, a sequence number. */
uint64_t queue_lane_head(const struct lane *lane);
/* The lane of a key that is worth a try, not held, and has the oldest head; NULL when there is
 * none. */
struct lane *queue_key_first(const struct fairness_key *key);
/* Passes it over until queue_lane_update is called for it. */
void queue_key_skip(struct lane *lane);
/* True when it is the only one of its key, of those that queue_key_first can return. */
bool queue_key_has_only(const struct lane *lane);
/* Its first message is known to stand at `head`, until queue_lane_update is called for it: puts it
 * in its place among the lanes of its key. False when that is where it was. */
bool queue_key_place(struct lane *lane, uint64_t head);

/* A message that was written at `seq`, behind all others of the lane, may be delivered; where the
 * lane begins when it had none. */
void queue_lane_append(struct queue *queue, struct lane *lane, uint64_t seq);
/* `count` messages of the lane became (negative: ceased to be) deliverable. */
void queue_ready_add(struct queue *queue, struct lane *lane, int64_t count);

/* One more message is delayed until `due_ms`, wall clock. */
void queue_delayed_add(struct queue *queue, uint64_t due_ms);
/* Tells the keeper's timers when the first delayed message is due. */
void queue_due_update(struct queue *queue);
/* As queue_scan_counted for a delayed message. */
bool queue_scan_counted_delayed(const struct queue *queue, uint64_t due_ms, uint64_t seq);

/* True when a message from before the zone was built has been counted already. */
bool queue_scan_counted(const struct queue *queue, uint64_t lane, uint64_t seq);

/* --- leases --- */

/* NULL when there is none with this id, in whatever state. */
struct lease *queue_lease_find(const struct queue *queue, const struct uuid *id);
/* False when the queue should get no more leases: as queue_has_room, of all that is left. */
bool queue_has_lease_room(const struct queue *queue);
/* Memory for a lease, not yet in the queue; NULL when the zone is full. */
struct lease *queue_lease_alloc(struct queue *queue) __attribute__((warn_unused_result));
/* Puts a filled one into force until `expires_ms` (monotonic): counts it and arms the queue's
 * timer. The message has left the ready ones before. */
void queue_lease_start(struct queue *queue, struct lease *lease, uint64_t expires_ms);
/* Ends it and frees it, its batch when it was the last of it, its consumer when that is gone. */
void queue_lease_end(struct queue *queue, struct lease *lease);
/* Gives the message back to the head of its lane; the lease stays as LEASE_RETURNED, without
 * consumer and expiry. */
void queue_lease_return(struct queue *queue, struct lease *lease);
/* Takes a returned one for a new delivery: it is as from queue_lease_alloc then, with its position.
 */
void queue_lease_retake(struct queue *queue, struct lease *lease);

/* Tells one lease of a message from a later one; 0 for those that have none. */
uint64_t queue_lease_token(const struct lease *lease);
/* A held lease is in the hands of a worker now, until it settles it or gives up. */
void queue_lease_decide(const struct queue *queue, struct lease *lease, unsigned slot);
void queue_lease_undecide(struct lease *lease);
/* True while a worker that lives decides; one of a worker that has died is held again. */
bool queue_lease_deciding(const struct queue *queue, struct lease *lease);
/* True when it is the worker in this slot that does. */
bool queue_lease_decided_by(const struct queue *queue, const struct lease *lease, unsigned slot);

/* Makes the wheel that leases need; false when the zone is full. */
bool queue_expiry_prepare(struct queue *queue, uint64_t now_ms);
/* Frees it again when no lease needs it. */
void queue_expiry_release(struct queue *queue);
/* Takes at most `limit` expired leases off the wheel into `due` (wheel.list). They are held still.
 */
uint32_t queue_expired(struct queue *queue, uint64_t now_ms, struct list *due, uint32_t limit);
/* Puts one that could not be handled back on the wheel. */
void queue_expiry_restore(struct queue *queue, struct lease *lease, uint64_t when_ms);
/* How long a lane of it has to be empty before it is freed. */
uint64_t queue_lane_idle_ms(const struct queue *queue);
/* Tells the keeper's timers when this queue wants to be looked at next. */
void queue_timer_update(struct queue *queue);

/* --- consumers and waiters --- */

struct consumer *queue_consumer_add(struct queue *queue, unsigned slot)
    __attribute__((warn_unused_result));
void queue_consumer_remove(struct queue *queue, struct consumer *consumer);
/* The next consumer of a worker that was full and has room again, taken off their list; NULL when
 * there is none. */
struct consumer *queue_consumer_relieved(struct queue *queue, unsigned slot);
uint32_t queue_consumer_count(const struct queue *queue);
/* Wakes as many waiting workers as there is something to deliver for, in turns. One that is woken
 * and cannot take all calls this again. */
void queue_wake_waiters(struct queue *queue);
/* As queue_wake_waiters, when no more than so many `messages` can be delivered. */
void queue_wake_for(struct queue *queue, uint64_t messages);

/* --- making and unmaking --- */

struct queue *queue_create(struct scheduler *scheduler, struct str name, uint64_t id,
                           uint64_t visibility_timeout_ms) __attribute__((warn_unused_result));
/* Takes the settings over that are in the catalog. */
void queue_configure(struct queue *queue, const struct catalog_queue *record);
/* Forgets all lanes and leases: as made, but for its numbers. */
int queue_clear(struct queue *queue) __attribute__((warn_unused_result));
/* Frees everything of it. Nobody may be able to reach it any more. */
void queue_destroy(struct queue *queue);

#endif
