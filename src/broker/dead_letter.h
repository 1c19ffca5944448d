/*
 * dead_letter - leased messages that failed for the last time: they move to the dead-letter queue
 * of their queue, and what is known of the failure is kept beside them (struct record_dead). The
 * dead-letter queue of "q" is "q.dlq", found by its name; where there is none a message is retried
 * instead.
 */
#ifndef FILAD_BROKER_DEAD_LETTER_H
#define FILAD_BROKER_DEAD_LETTER_H

#include "broker/write.h"

struct dead_letter {
    struct uuid id;
    uint64_t token;                            /* of its lease */
    struct str reason;                         /* at most RECORD_DEAD_REASON_MAX bytes */
    struct operation_settle_item *item;        /* the nack that gets the status; NULL: it expired */
    const struct operation_decision *decision; /* of the nack; or NULL */
    uint8_t status; /* out: FIBP_OK also when it was retried; otherwise nothing has changed */
};

/* Moves them, or retries what cannot be moved because there is no dead-letter queue. Without the
 * queue's lock; -1: the end of the environment. */
int dead_letter_run(struct broker *broker, struct local_queue *local, struct dead_letter *letters,
                    uint32_t count) __attribute__((warn_unused_result));

/* The same for those of the entries from `first` up to, not including, `end` that are marked. */
int dead_letter_entries(struct broker *broker, struct local_queue *local, struct write_entry *first,
                        struct write_entry *end) __attribute__((warn_unused_result));

/* Why a nacked message is dead-lettered, in the words of its consumer or ours. */
struct str dead_letter_reason(const struct operation_settle_item *item, bool decided);
#define DEAD_LETTER_EXPIRED STR("visibility timeout expired")

/* The beginning of a record (wire bytes of `map headers` ...) with headers that tell what is known
 * of a dead-lettering, in place of the client's own of these names; `record` itself when they find
 * no room in the map. In memory of `pool`; data NULL without memory. */
struct str dead_letter_headers(struct pool *pool, struct str record,
                               const struct record_dead *dead);

#endif
