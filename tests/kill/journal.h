/*
 * journal - what the clients of a broker under test saw: which messages they sent, what was
 * confirmed, delivered, acked. Each entry is checked against the promises at once (proof.h); what
 * breaks one is kept as a violation with the history of its message.
 *
 * Thread-safe. Memory is bounded by the number of messages: about 100 bytes each, and the events of
 * those that are not acked or were within the last minute.
 */
#ifndef FILAD_KILL_JOURNAL_H
#define FILAD_KILL_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/uuid.h"
#include "kill/driver.h"

#define JOURNAL_KEYS 3 /* fairness keys of each producer */

/* As the code of a result: the answer will never come, whatever was asked was done or not. */
#define JOURNAL_NO_ANSWER 0xFD

struct journal_queue {
    const char *name;
    uint32_t visibility_ms;
    bool ordered; /* one consumer connection at a time: first deliveries must be in order */
};

struct journal_options {
    const struct journal_queue *queues; /* must outlive the journal */
    unsigned queue_count;
    unsigned producers;
    bool policy; /* the queues have the scripts of kill/policy.h */
    bool keys;   /* deliveries must carry the sender's key as fairness key */
};

enum violation {
    VIOLATION_LOST,     /* confirmed, never acked, not there any more */
    VIOLATION_RETURNED, /* delivered again after its ack was confirmed */
    VIOLATION_LEASE,    /* delivered again before its visibility timeout was over */
    VIOLATION_REFUSED,  /* ack or nack of a valid lease found no message */
    VIOLATION_ORDER,
    VIOLATION_DELAY, /* delivered before its delay was over */
    VIOLATION_ATTEMPT,
    VIOLATION_COUNTER,
    VIOLATION_PAYLOAD,  /* bytes, headers or queue are not as they were sent */
    VIOLATION_IDENTITY, /* one message with two ids, or one id for two messages */
    VIOLATION_SERVICE,  /* no answer, or not back in time */
    VIOLATIONS
};

/* Names a message; the producer and its running number, from 0. */
struct journal_ref {
    uint32_t producer, sequence;
};

struct journal;

struct journal *journal_create(const struct journal_options *options);
void journal_destroy(struct journal *journal);

/* A new message, before it is sent. `key`: below JOURNAL_KEYS. */
struct journal_ref journal_send(struct journal *journal, uint32_t producer, unsigned queue,
                                unsigned key, uint32_t connection);
/* The result of its enqueue. `id` may be NULL unless code is DRIVER_OK. */
void journal_enqueued(struct journal *journal, struct journal_ref ref, uint8_t code,
                      const struct uuid *id, uint64_t time_ns);

/* A delivery that `client` read at `time_ns`. True, and `ref` set, when it can be acked: it is one
 * of our messages and undamaged. */
bool journal_delivered(struct journal *journal, unsigned client,
                       const struct driver_delivery *delivery, uint64_t time_ns,
                       struct journal_ref *ref);

/* An ack (nack) is about to be sent; its result; or that there will be none. */
void journal_ack_sent(struct journal *journal, unsigned client, struct journal_ref ref, bool nack);
void journal_ack_result(struct journal *journal, unsigned client, struct journal_ref ref, bool nack,
                        uint8_t code, uint64_t time_ns);

/* The id and queue of a delivered message, as an ack wants them. */
struct driver_handle journal_handle(struct journal *journal, struct journal_ref ref);

/* How many messages a queue must and may hold by what is known. With nothing under way the broker's
 * depth lies between. */
struct journal_bounds {
    uint64_t must, may;
};
void journal_bounds(struct journal *journal, struct journal_bounds *bounds); /* one per queue */

/* The end: every queue was consumed until it was empty. Reports what is lost and double ids. */
void journal_finish(struct journal *journal);

/* A violation found by somebody else. */
void journal_violation(struct journal *journal, enum violation kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

struct journal_totals {
    uint64_t sent, confirmed, doubtful, refused;
    uint64_t delivered; /* deliveries read */
    uint64_t redelivered;
    uint64_t acked, nacked;
    uint64_t ack_doubts;     /* acks and nacks without an answer */
    uint64_t hidden;         /* deliveries that must have happened unseen, by the attempts */
    uint64_t worst_delay_ns; /* from the start of a lease to reading its delivery */
    uint64_t violations[VIOLATIONS];
    uint64_t violation_count;
};
void journal_totals(struct journal *journal, struct journal_totals *totals);

/* Prints every violation that was kept, with histories. */
void journal_report(struct journal *journal, FILE *out);

const char *violation_name(enum violation kind);

#endif
