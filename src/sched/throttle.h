/*
 * throttle - what bounds the deliveries of a key, over all queues: spec/broker.md section 5.
 *
 * There are two kinds. A *token bucket* of a throttle key (`throttle.KEY`) bounds how many messages
 * are delivered per second, a *concurrency limit* of a fairness or throttle key (`concurrency.KEY`)
 * how many are leased at once. Both are found by kind and key in one of THROTTLE_SHARDS tables,
 * each with a lock, and are referred to by the lanes that they concern (sched/hold), so that nobody
 * hashes per message. A lane that may not run waits in the list of one throttle.
 *
 * A bucket is refilled when it is looked at. It starts full and holds at most its burst. While it
 * is *hungry*, that is somebody was refused and waits, or has waited within THROTTLE_LATE_NS, it
 * also keeps what came in the last THROTTLE_LATE_NS, so that a late wake-up does not lose rate: in
 * any time T no more than burst + rate * (T + THROTTLE_LATE_NS) are taken.
 *
 * Order of locks: queues, then one shard at a time, then the arena's. Times are ns of the monotonic
 * clock.
 */
#ifndef FILAD_SCHED_THROTTLE_H
#define FILAD_SCHED_THROTTLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/hash.h"
#include "core/heap.h"
#include "core/list.h"
#include "core/str.h"
#include "os/lock.h"

#define THROTTLE_MAGIC 0x5448524fu
#define THROTTLE_SHARDS 16
#define THROTTLE_LATE_NS UINT64_C(100000000)
/* Wake-ups of one bucket are no closer together: fast ones let some tokens come together. */
#define THROTTLE_GRAIN_NS UINT64_C(500000)
/* How long lanes that were released may take before others get their chance. */
#define THROTTLE_PASS_NS UINT64_C(10000000)
#define THROTTLE_NEVER UINT64_MAX

struct scheduler;

enum throttle_kind { THROTTLE_BUCKET, THROTTLE_LIMIT };

/* Guarded by the lock of its shard, but for what is constant. */
struct throttle {
    uint32_t magic;
    uint16_t name_size;    /* constant */
    uint8_t kind;          /* enum throttle_kind; constant */
    bool configured;       /* false: it bounds nothing and goes with the last reference */
    struct hash_link link; /* in throttle_shard.table; its `user` is the shard, constant */
    uint32_t references;   /* lanes that it concerns, and whoever has it in hand */
    uint32_t waiting_count;
    struct list waiting;    /* hold.wait: lanes, longest first */
    struct heap_node timer; /* in throttle_shard.timers: when lanes are to be released */
    union {
        struct {
            double rate, burst, tokens; /* tokens as of refilled_ns */
            uint64_t refilled_ns;
            uint64_t hungry_ns; /* when it last was hungry; 0: it is not */
        } bucket;
        struct {
            uint64_t most, in_flight;
        } limit;
    };
    uint8_t misses; /* releases since something was taken */
    uint8_t name[]; /* constant */
};

struct throttle_shard {
    struct lock lock;
    struct hash table;        /* throttle.link */
    struct heap timers;       /* throttle.timer */
    _Atomic uint64_t when_ns; /* the first of them; THROTTLE_NEVER: none */
};

/* In struct scheduler. */
struct throttle_table {
    struct throttle_shard shards[THROTTLE_SHARDS];
    _Atomic uint32_t generation; /* raised when a throttle comes or goes; 0: there never was one */
    _Atomic uint32_t count;      /* configured ones */
};

int throttle_table_init(struct scheduler *scheduler) __attribute__((warn_unused_result));

/* --- configuration --- */

/* Reads the value of a `throttle.KEY`: "rate,burst", decimal or with exponent, blanks around them
 * ignored. NULL, or what is wrong (static), unless both are finite, not negative, and the burst is
 * 0 (nothing is delivered) or at least 1. */
const char *throttle_parse(struct str value, double *rate, double *burst)
    __attribute__((warn_unused_result));

enum throttle_result {
    THROTTLE_DONE,
    THROTTLE_FULL,  /* the zone has no room; nothing has changed */
    THROTTLE_STALE, /* the zone is being built anew */
};

/* Makes the bucket of a key, full, or changes it; then the tokens stay, up to the new burst. In
 * force at once, for lanes that wait for it too. The caller holds no queue's lock. */
enum throttle_result throttle_configure(struct scheduler *scheduler, struct str key, double rate,
                                        double burst, uint64_t now_ns)
    __attribute__((warn_unused_result));
/* The key is not throttled any more. THROTTLE_DONE also when it was not. */
enum throttle_result throttle_remove(struct scheduler *scheduler, struct str key, uint64_t now_ns)
    __attribute__((warn_unused_result));

/* --- for sched/hold and sched/concurrency --- */

/* The throttle of a key, configured; NULL when there is none. It has one more reference. */
struct throttle *throttle_acquire(struct scheduler *scheduler, enum throttle_kind kind,
                                  struct str key);
void throttle_release(struct scheduler *scheduler, struct throttle *throttle);

/* The shard's lock. False when the zone is being built anew. */
bool throttle_lock(struct scheduler *scheduler, struct throttle *throttle)
    __attribute__((warn_unused_result));
void throttle_unlock(struct scheduler *scheduler, struct throttle *throttle);

/* Under the shard's lock from here on. */

/* How many messages may be delivered now; UINT64_MAX when it bounds nothing. */
uint64_t throttle_available(struct throttle *throttle, uint64_t now_ns);
/* Takes one that is available, or gives one back. */
void throttle_take(struct throttle *throttle, uint64_t now_ns);
void throttle_give_back(struct throttle *throttle, uint32_t count);
/* Somebody begins to wait, or those who waited were told to go on. */
void throttle_note_hungry(struct throttle *throttle, uint64_t now_ns);
/* When lanes that wait can have something; `now_ns` plus THROTTLE_PASS_NS when something is there.
 */
uint64_t throttle_next(struct throttle *throttle, uint64_t now_ns);
/* Has hold_run look at it at `when_ns`. */
void throttle_arm(struct scheduler *scheduler, struct throttle *throttle, uint64_t when_ns);
/* Takes the first that is due by now out of a shard's timers, with one more reference; NULL: none.
 * Without the lock. *stale: the zone is being built anew. */
struct throttle *throttle_due(struct scheduler *scheduler, unsigned shard, uint64_t now_ns,
                              bool *stale);
/* When the first of all is due. Without a lock. */
uint64_t throttle_first_due(const struct scheduler *scheduler);

/* Finds or makes one to be set: it is configured then and its shard locked until throttle_close.
 * *is_new: it was not configured. */
enum throttle_result throttle_open(struct scheduler *scheduler, enum throttle_kind kind,
                                   struct str key, struct throttle **throttle, bool *is_new)
    __attribute__((warn_unused_result));
/* Lanes that wait for it are looked at soon. */
void throttle_close(struct scheduler *scheduler, struct throttle *throttle, uint64_t now_ns);
enum throttle_result throttle_unset(struct scheduler *scheduler, enum throttle_kind kind,
                                    struct str key, uint64_t now_ns)
    __attribute__((warn_unused_result));

#endif
