/*
 * statistics - what is counted of each queue, in shared memory that lives as long as the broker.
 *
 * A recovery builds the arena anew and finds a queue's entry again by the queue's id, so that
 * counters never go back while the broker runs. Of an entry only `id` is believed then; its
 * numbers are plain words that no crash can tear, and at worst lack what was counted last.
 *
 * An idle queue takes 160 bytes; its histogram, a kilobyte, is used from its first delivery on.
 *
 * Entries are taken and given back under the catalog lock; the numbers of one are guarded by its
 * queue's lock.
 */
#ifndef FILAD_SCHED_STATISTICS_H
#define FILAD_SCHED_STATISTICS_H

#include <stdint.h>

#include "core/histogram.h"
#include "sched/zone.h"

/* Each counts events since `queue_statistics.since_ms` and never goes back. */
struct queue_counters {
    uint64_t enqueued, delivered, acked, nacked, expired;
    uint64_t returned;        /* deliveries that never reached a socket */
    uint64_t delayed;         /* were to be delivered later, when enqueued or retried */
    uint64_t dead_lettered;   /* went from here to the dead-letter queue */
    uint64_t redriven;        /* came back here from the dead-letter queue */
    uint64_t purged;          /* removed without a delivery */
    uint64_t rejected;        /* not accepted by on_enqueue */
    uint64_t hook_errors;     /* hooks that failed or were skipped by a breaker */
    uint64_t throttle_holds;  /* lanes that became held for want of tokens or room */
    uint64_t enqueued_bytes;  /* headers and payloads, as they are on the wire */
    uint64_t delivered_bytes; /* the same; each delivery of a message counts */
    uint64_t lanes_freed;     /* with their K records */
};

struct queue_statistics {
    uint64_t id;       /* of the queue; 0: free, UINT64_MAX: the queue is being made */
    uint64_t since_ms; /* wall clock: everything below was 0 then */
    struct queue_counters counters;
    /* Milliseconds from a message's enqueueing to its first delivery, be it delayed or held on
     * purpose. Retries are not in it. */
    struct histogram *waits;
    uint64_t waited; /* 0: `waits` is not in use and may hold what another queue left */
};

/* NULL only when there is no memory. Mapped before any fork. */
struct statistics *statistics_map(struct err *err) __attribute__((warn_unused_result));
void statistics_unmap(struct statistics *statistics);

/* The entry of a queue: during a rebuild the one that it had before, otherwise a new one, all zeros
 * since `now_ms` (wall clock). `id` 0: it has no number yet and gets one with statistics_name. NULL
 * when there are more than ZONE_QUEUES. */
struct queue_statistics *statistics_take(struct statistics *statistics, uint64_t id,
                                         uint64_t now_ms) __attribute__((warn_unused_result));
void statistics_name(struct queue_statistics *entry, uint64_t id);
void statistics_give(struct statistics *statistics, struct queue_statistics *entry);

/* When they were mapped: the broker's start. */
uint64_t statistics_since_ms(const struct statistics *statistics);

/* A message had its first delivery after `wait_ms`. */
void statistics_waited(struct queue_statistics *entry, uint64_t wait_ms);
/* Copies the histogram of these times, all zeros when there was none. */
void statistics_waits(const struct queue_statistics *entry, struct histogram *waits);

/* Microseconds from the handing down of an operation that wrote to its answer, when it was durable;
 * of one worker slot, whose loop thread records. */
struct histogram *statistics_commits(struct statistics *statistics, unsigned slot);
/* The sum over all slots. */
void statistics_all_commits(const struct statistics *statistics, struct histogram *commits);

/* Around a rebuild: between the two, entries of before are found by statistics_take; those that
 * were not taken again are free after it. */
void statistics_begin(struct statistics *statistics);
void statistics_end(struct statistics *statistics);

#endif
