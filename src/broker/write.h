/*
 * write - enqueue, ack and nack: the transactions of the hot path.
 *
 * The items of a batch are grouped by queue. For each queue: its lock, one transaction, all puts
 * and deletes, commit, then the changes of the zone, unlock. Nothing in the zone that others act on
 * changes before the commit; what must be noted earlier (new lanes, marks on leases) is undone when
 * the transaction fails. A failed transaction is tried again one operation at a time, so that an
 * error hits the operation that it belongs to.
 */
#ifndef FILAD_BROKER_WRITE_H
#define FILAD_BROKER_WRITE_H

#include "broker/broker.h"

/* Executes the ENQUEUE, ACK and NACK operations from `first` up to, not including, `end`. */
int write_execute(struct broker *broker, struct operation *first, struct operation *end)
    __attribute__((warn_unused_result));

/* --- between the files of the hot path --- */

enum write_kind { WRITE_ENQUEUE, WRITE_ACK, WRITE_RETRY, WRITE_PURGE, WRITE_KINDS };

struct dead_letter;

/* One item on its way through a transaction. */
struct write_entry {
    struct write_entry *next;
    struct operation *operation; /* NULL for the keeper's retries */
    union {
        struct operation_enqueue_item *enqueue;
        struct operation_settle_item *settle;
    } item;
    uint8_t kind;      /* enum write_kind */
    bool staged;       /* its records are in the transaction */
    bool dead;         /* retry: the message is to be dead-lettered instead; nothing is staged */
    bool leftover;     /* ack: chunks are to be removed once the message is gone */
    bool counted;      /* purge: lane->ready knows of it */
    struct lane *lane; /* enqueue, purge */
    const struct operation_decision *decision; /* nack: what a script said; NULL: none was asked */
    const struct dead_letter *kept; /* retry: it could not be dead-lettered; its message */
    struct uuid id;                 /* retry, dead; purge: of the message */
    uint64_t token;                 /* ... and of its lease */
    struct lease *lease; /* ack, retry: the one that ends; NULL for a second ack of one frame */
    uint64_t seq;        /* enqueue, retry: the new position; purge: the old one */
    uint64_t apart;      /* purge: bytes of it that are stored apart */
    uint64_t due_ms;     /* enqueue, retry: when it becomes ready, wall clock; 0: at once */
};

/* A transaction on one queue. */
struct write {
    struct broker *broker;
    struct local_queue *local;
    struct queue *queue;
    DB_TXN *txn;
    uint64_t now_ns; /* wall clock, one reading */
    uint64_t monotonic_ms;
    uint64_t next_seq, next_lane; /* the queue's, not yet published */
    uint16_t ordinal;             /* of the operation in hand, counted within the transaction */
    struct lane *lanes;           /* staged: K to be written */
    struct lease_batch *batches;  /* staged: fewer leases, perhaps none left */
    uint64_t small_removed;       /* bytes of small parts removed (broker/apart) */
    uint64_t chunks_removed;      /* those are so many chunks */
};

/* How one kind of item is written. `stage` puts its records into the transaction (0, or Berkeley
 * DB's value; an item that cannot be done for a reason of its own gets its status and stays
 * unstaged), `undo` takes back what stage noted in the zone, `publish` makes it visible after the
 * commit. */
struct write_method {
    int (*stage)(struct write *write, struct write_entry *entry);
    void (*undo)(struct write *write, struct write_entry *entry);
    void (*publish)(struct write *write, struct write_entry *entry);
    void (*set_status)(struct write_entry *entry, uint8_t status);
};

extern const struct write_method write_enqueue, write_ack, write_retry, write_purge;

/* The parts of a transaction, for one that spans two queues (broker/move): begin notes the queue's
 * numbers, consequences writes lanes and batches, undo and publish leave the zone as it was or as
 * the transaction made it. */
void write_begin(struct write *write, DB_TXN *txn);
int write_consequences(struct write *write) __attribute__((warn_unused_result));
void write_undo(struct write *write);
void write_publish(struct write *write);

/* Runs the entries, which write at most ENV_MAX_RECORDS, in one transaction under the queue's lock,
 * which the caller holds. Berkeley DB's value; after anything but 0 nothing has changed. */
int write_run(struct write *write, struct write_entry *first, struct write_entry *end)
    __attribute__((warn_unused_result));

/* As write_run of the queue of `local`, whose lock it takes, with conflicts retried. *result is
 * Berkeley DB's; entries get their status but after a failure. */
int write_locked(struct broker *broker, struct local_queue *local, struct write_entry *first,
                 struct write_entry *end, int *result) __attribute__((warn_unused_result));

/* The lane for a fairness key and throttle set, made (staged) when missing; NULL: the zone is full.
 */
struct lane *write_stage_lane(struct write *write, struct str fairness_key, uint32_t weight,
                              uint16_t throttle_count, struct str throttle_keys);
/* Removes what is apart of a message in the transaction, or marks it for removal after it when it
 * is large: entry->leftover then. */
int write_remove_apart(struct write *write, struct write_entry *entry, const struct uuid *id,
                       uint64_t apart) __attribute__((warn_unused_result));
/* Notes that a lease leaves its batch. */
void write_stage_removal(struct write *write, struct lease *lease);
void write_undo_removal(struct write *write, struct lease *lease);

#endif
