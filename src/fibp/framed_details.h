/*
 * framed_details - QueueDetails, an extension of this server: everything that is counted of queues,
 * and of the broker as a whole.
 *
 * The answer names its numbers, so that later ones need no other version of it: first the broker's,
 * then the histogram of commit times, then the names of what is known of each queue, then the
 * queues with a number for each of these names. The layout is in fibp(7).
 */
#ifndef FILAD_FIBP_FRAMED_DETAILS_H
#define FILAD_FIBP_FRAMED_DETAILS_H

#include "core/histogram.h"
#include "fibp/framed.h"

#define FRAMED_DETAILS_PAGE 1000u /* queues in one answer at most */
#define FRAMED_DETAILS_HISTOGRAMS 0x01u

/* Of each queue. */
enum framed_detail {
    DETAIL_DEPTH,
    DETAIL_READY,
    DETAIL_IN_FLIGHT,
    DETAIL_DELAYED,
    DETAIL_HELD,
    DETAIL_CONSUMERS,
    DETAIL_FAIRNESS_KEYS,
    DETAIL_LANES,
    DETAIL_HELD_LANES,
    DETAIL_DEAD_LETTERS,
    DETAIL_COUNTED_PERCENT,
    DETAIL_QUARANTINED,
    DETAIL_PAUSED,
    DETAIL_MAX_ATTEMPTS,
    DETAIL_VISIBILITY_TIMEOUT_MS,
    DETAIL_SINCE_MS,
    DETAIL_ENQUEUED,
    DETAIL_DELIVERED,
    DETAIL_ACKED,
    DETAIL_NACKED,
    DETAIL_EXPIRED,
    DETAIL_RETURNED,
    DETAIL_DELAYED_TOTAL,
    DETAIL_DEAD_LETTERED,
    DETAIL_REDRIVEN,
    DETAIL_PURGED,
    DETAIL_REJECTED,
    DETAIL_HOOK_ERRORS,
    DETAIL_THROTTLE_HOLDS,
    DETAIL_ENQUEUED_BYTES,
    DETAIL_DELIVERED_BYTES,
    DETAIL_WAIT_COUNT,
    DETAIL_WAIT_SUM_MS,
    DETAIL_WAIT_P50_MS,
    DETAIL_WAIT_P90_MS,
    DETAIL_WAIT_P99_MS,
    DETAIL_WAIT_MAX_MS,
    DETAILS
};

/* Of the broker. */
enum framed_broker_detail {
    BROKER_NOW_MS,
    BROKER_SINCE_MS,
    BROKER_QUEUES,
    BROKER_CONNECTIONS,
    BROKER_MEMORY_BYTES,
    BROKER_MEMORY_USED_BYTES,
    BROKER_LOCKS_HELD_LONG,
    BROKER_COMMIT_COUNT,
    BROKER_COMMIT_SUM_US,
    BROKER_COMMIT_P50_US,
    BROKER_COMMIT_P90_US,
    BROKER_COMMIT_P99_US,
    BROKER_COMMIT_MAX_US,
    BROKER_DETAILS
};

enum framed_detail_kind {
    DETAIL_GAUGE = 0,
    DETAIL_COUNTER = 1, /* goes up only, from 0 at the queue's (the broker's) `since_ms` */
};

struct framed_details_request {
    struct str queue; /* empty: all queues, a page at a time */
    struct str after; /* names in byte order behind this one */
    uint16_t limit;   /* queues wanted at most; 0: as many as come in one answer */
    bool histograms;  /* those of queues, too */
};

/* One number as it is on the wire. */
struct framed_number {
    struct str name;
    uint8_t kind;
    uint64_t value;
};

struct framed_bucket {
    uint64_t from, below, count;
};

struct framed_limit {
    struct str key;
    uint64_t most, in_flight, waiting;
};

/* --- the server's half --- */

bool framed_details(struct wire_reader *reader,
                    struct framed_details_request *request) FRAMED_CHECK;

/* Then an _add for each queue, framed_details_limits, an _add_limit for each limit,
 * framed_list_end. `more`: there are queues behind the last one. `waits` may be NULL. */
void framed_details_begin(struct buf *buf, uint32_t request_id,
                          const uint64_t numbers[BROKER_DETAILS], const struct histogram *commits,
                          bool more, struct framed_list *list);
void framed_details_add(struct buf *buf, struct framed_list *list, struct str name,
                        const uint64_t numbers[DETAILS], const struct histogram *waits);
void framed_details_limits(struct buf *buf, struct framed_list *list);
void framed_details_add_limit(struct buf *buf, struct framed_list *list,
                              const struct framed_limit *limit);

/* --- the client's half --- */

int framed_client_details(struct buf *buf, uint32_t request_id,
                          const struct framed_details_request *request) FRAMED_CHECK;

/* The parts of the answer in their order, behind the code: count, then that many numbers; buckets;
 * count, then names (their value is not set); more and count; then for each queue its name, a
 * number per name (framed_client_details_value), its buckets; count, then limits. */
bool framed_client_details_count(struct wire_reader *reader, uint16_t *count) FRAMED_CHECK;
bool framed_client_details_number(struct wire_reader *reader,
                                  struct framed_number *number) FRAMED_CHECK;
bool framed_client_details_name(struct wire_reader *reader,
                                struct framed_number *number) FRAMED_CHECK;
bool framed_client_details_queues(struct wire_reader *reader, size_t names, bool *more,
                                  uint16_t *count) FRAMED_CHECK;
bool framed_client_details_queue(struct wire_reader *reader, struct str *name) FRAMED_CHECK;
bool framed_client_details_value(struct wire_reader *reader, uint64_t *value) FRAMED_CHECK;
bool framed_client_details_buckets(struct wire_reader *reader, uint16_t *count) FRAMED_CHECK;
bool framed_client_details_bucket(struct wire_reader *reader,
                                  struct framed_bucket *bucket) FRAMED_CHECK;
bool framed_client_details_limits(struct wire_reader *reader, uint16_t *count) FRAMED_CHECK;
bool framed_client_details_limit(struct wire_reader *reader,
                                 struct framed_limit *limit) FRAMED_CHECK;

#endif
