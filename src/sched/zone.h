/*
 * zone - the memory that all processes of a broker share, mapped by the master before it forks, at
 * one address everywhere.
 *
 * It has two parts. The *header* lives as long as the broker: process slots with their words, the
 * generation and the state of the store. The *arena* behind it holds the scheduler and is built
 * anew by every recovery; nothing in it is trusted after a crash.
 *
 * Words: every thread that is going to enter Berkeley DB or to take a lock of the arena sets its
 * word in its process's slot first and clears it after (zone_enter, zone_leave). When a process
 * dies with a word set, what it left behind is unknown and the master runs a recovery; with all
 * words clear it held nothing.
 */
#ifndef FILAD_SCHED_ZONE_H
#define FILAD_SCHED_ZONE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/err.h"

#define ZONE_MAGIC 0x46494c41u
#define ZONE_WORKERS 64               /* worker slots, old and new ones of a reload together */
#define ZONE_SLOTS (ZONE_WORKERS + 2) /* and the keeper and the helper that runs failchk */
#define ZONE_SLOT_KEEPER ZONE_WORKERS
#define ZONE_SLOT_HELPER (ZONE_WORKERS + 1)
#define ZONE_QUEUES 32768 /* entries of the queue table */
#define ZONE_BREAKERS 32768u
#define ZONE_THREADS 3 /* threads of a process that have a word */

/* Which word: the worker's store thread and the keeper's timers thread use the first. */
enum zone_thread {
    ZONE_STORE_THREAD = 0,
    ZONE_SYNC_THREAD = 1,
    ZONE_TIMERS = 0,
    ZONE_MAINTENANCE = 1,
    ZONE_REFILL = 2 /* of the keeper */
};

enum zone_state {
    ZONE_DOWN, /* no environment: before the first recovery and during every one */
    ZONE_UP,   /* environment and arena are valid for `generation` */
    ZONE_DEAD, /* a sync failed or a check of the arena did: nothing more is confirmed from it */
};

/* One process. Written by that process but for what the master does between two of them. */
struct zone_slot {
    _Atomic uint32_t wake;     /* futex word its store thread (timers thread) sleeps on */
    _Atomic uint32_t sleeping; /* non-zero while that thread is about to sleep */
    _Atomic uint32_t inside[ZONE_THREADS];  /* the words */
    _Atomic int32_t pid;                    /* 0: free */
    _Atomic uint32_t incarnation;           /* raised by the master with every new process */
    _Atomic uint32_t connections;           /* open client connections (accept balance) */
    _Atomic uint32_t accepting;             /* 1: takes connections (not draining) */
    _Atomic uint64_t catalog_seen;          /* newest catalog generation it has acted on */
    _Atomic uint64_t working[ZONE_THREADS]; /* the oldest work on chunks it has not finished,
                                             * scheduler.works; 0: none */
    _Atomic uint64_t ready_summary[ZONE_QUEUES / 64 / 64]; /* bit per word of ready[] */
    _Atomic uint64_t ready[ZONE_QUEUES / 64]; /* bit per queue with something to deliver here */
};

struct statistics;

/* Room for a breaker; what it holds is the business of hook/breaker.h. */
struct zone_breaker {
    _Atomic uint64_t words[3];
};

struct zone {
    uint32_t magic;
    uint32_t reserved;
    uint64_t size;                        /* bytes mapped, header included */
    _Atomic uint64_t generation;          /* raised when an environment is given up */
    _Atomic uint32_t state;               /* enum zone_state */
    _Atomic uint64_t catalog_generation;  /* raised by every change of the queue catalog */
    _Atomic uint64_t settings_generation; /* raised by every change of what the loops know: runtime
                                           * configuration and scripts; never falls */
    _Atomic uint64_t locks_held_long;     /* sections of over 10 ms under a queue's lock */
    _Atomic uint64_t files_opened;    /* of queues, by all processes: a recovery does it again */
    _Atomic uint32_t refill_wake;     /* futex word the keeper's refill thread sleeps on */
    _Atomic uint64_t refill_until_ns; /* monotonic: when it looks again; 0: it is awake */
    struct statistics *statistics;    /* sched/statistics, beside the zone; constant */
    struct zone_slot slots[ZONE_SLOTS];
    struct zone_breaker breakers[ZONE_BREAKERS]; /* see hook/breaker.h */
    struct scheduler *_Atomic scheduler;         /* in the arena; NULL unless ZONE_UP */
};

/* The master maps the zone, before any fork. `size` bytes of address space, used page by page. */
struct zone *zone_map(uint64_t size, struct err *err) __attribute__((warn_unused_result));
void zone_unmap(struct zone *zone);

/* The arena's first byte and its size. */
void *zone_arena(struct zone *zone, uint64_t *size);

/* --- the master's side --- */

/* Prepares a slot for a new process: words clear, incarnation raised. Call before fork. */
void zone_slot_prepare(struct zone *zone, unsigned slot);
/* A free worker slot, or -1. */
int zone_slot_free(const struct zone *zone);
/* True when the process that had this slot died (or is) inside Berkeley DB or under a lock. */
bool zone_slot_inside(const struct zone *zone, unsigned slot);
/* Gives a slot back after waitpid. */
void zone_slot_release(struct zone *zone, unsigned slot);
/* The process of a slot has ended and left its threads behind; `pid` has it now, without any. */
void zone_slot_shed(struct zone *zone, unsigned slot, pid_t pid);
/* Ends the present generation: bounded lock waits return, nobody enters any more. */
void zone_shut(struct zone *zone);

/* --- for every thread that works on the store --- */

/* Sets the word. False, and nothing set, when the state is not ZONE_UP or the generation is not
 * `generation` any more: then the caller must stop touching store and arena. */
bool zone_enter(struct zone *zone, unsigned slot, enum zone_thread thread, uint64_t generation)
    __attribute__((warn_unused_result));
void zone_leave(struct zone *zone, unsigned slot, enum zone_thread thread);

/* Wakes the store (timers) thread of a slot when it sleeps. */
void zone_wake(struct zone_slot *slot);
/* Wakes the refill thread. */
void zone_wake_refill(struct zone *zone);
/* Has the refill thread look again when it would do so only after `when_ns`, what it is to see is
 * in place. */
void zone_refill_by(struct zone *zone, uint64_t when_ns);

/* Sleeps until woken or `timeout_ms` passed; `seen` is the value of `wake` read before the last
 * look for work, so that no wake-up is lost. */
void zone_sleep(struct zone_slot *slot, uint32_t seen, uint64_t timeout_ms);

#endif
