/*
 * operation - what a client can ask of the broker, free of any socket and dialect.
 *
 * The loop thread fills operations from frames and hands them to the pipeline; the store thread
 * executes them and sets the outcome; they come back and the loop encodes the answer. Between
 * submit and return an operation and everything it points to belongs to the pipeline. Statuses are
 * those of spec/fibp.md A7 (fibp/status.h). Slices point into the frame the operation came from,
 * which its owner keeps alive until the operation is back.
 */
#ifndef FILAD_BROKER_OPERATION_H
#define FILAD_BROKER_OPERATION_H

#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/list.h"
#include "core/mailbox.h"
#include "core/str.h"
#include "core/uuid.h"
#include "fibp/framed_details.h"

enum operation_kind {
    /* from the loop, answered by the same operation coming back */
    OPERATION_ENQUEUE,
    OPERATION_ACK,
    OPERATION_NACK,
    OPERATION_SUBSCRIBE,
    OPERATION_UNSUBSCRIBE,
    OPERATION_CREATE_QUEUE,
    OPERATION_DELETE_QUEUE,
    OPERATION_LIST_QUEUES,
    OPERATION_GET_STATS,
    OPERATION_QUEUE_DETAILS,
    OPERATION_REDRIVE,
    OPERATION_PURGE_QUEUE,
    OPERATION_PEEK_QUEUE,
    OPERATION_SET_CONFIG,
    OPERATION_GET_CONFIG,
    OPERATION_LIST_CONFIG,
    OPERATION_UPDATE_QUEUE,
    OPERATION_GET_SETTINGS,
    /* from the loop without an outcome; they come back to be freed */
    OPERATION_RETURN, /* a delivery that never reached its socket */
    OPERATION_ROOM,   /* a connection, or the worker, has room for deliveries again */
    /* from the store thread */
    OPERATION_DELIVERY,           /* struct operation_delivery, new */
    OPERATION_SETTINGS,           /* struct operation_settings, new */
    OPERATION_SUBSCRIPTION_ENDED, /* struct operation_ended, new: the queue was deleted */
    OPERATION_KINDS
};

#define OPERATION_LINES 256

struct operation {
    struct mailbox_link link; /* first */
    uint8_t kind;             /* enum operation_kind */
    uint8_t status;           /* outcome as a whole, FIBP_OK unless the whole operation failed */
    bool undecided;           /* out, NACK: no answer yet; a script is to be asked (`deciding`) */
    bool wrote;               /* set by the pipeline: the answer waits for a flush of the log */
    bool later;               /* set by the pipeline: it takes long, others go on meanwhile */
    uint8_t line;             /* operations of one line are executed in order, lines in turns: a
                               * connection's are in one line, which others may be in, too */
    uint32_t request_id;      /* the owner's, not looked at */
    void *owner;              /* the owner's, not looked at */
    const char *reason;       /* words for `status` when they say more than its default; static */
    struct operation *next;   /* private to the pipeline */
    uint64_t cost;            /* private to the pipeline: operation_cost */
    struct list outstanding;  /* private to the pipeline's loop side: submitted and not back ... */
    uint64_t submitted_us;    /* ... and when, monotonic */
};

struct operation_enqueue_item {
    struct str queue;                /* name */
    struct str record;               /* wire bytes of `map headers` `bytes payload`, validated */
    struct str fairness_key;         /* from the hooks, at most 1024 bytes; empty key is legal */
    const struct str *throttle_keys; /* from the hooks */
    uint32_t weight;                 /* as the hook gave it; scheduled as at least 1 */
    uint16_t throttle_count;
    bool hook_failed;    /* a hook failed: what stands above are defaults */
    uint8_t status;      /* out */
    uint64_t delay_ms;   /* from the hooks: deliver no earlier than so long after now */
    struct str rejected; /* from the hooks: why it is answered FIBP_FORBIDDEN and not stored; data
                          * NULL: accepted */
    struct uuid id;      /* out, when status is FIBP_OK */
    uint64_t
        stored_in; /* private to the pipeline: queue that has its large part already; 0: none */
};

struct operation_enqueue {
    struct operation operation;
    uint32_t count;
    struct operation_enqueue_item items[];
};

struct operation_settle_item {
    struct str queue;
    struct uuid id;
    struct str error; /* nack: for the on_failure hook */
    bool id_valid;    /* false: the id on the wire was no UUID */
    uint8_t status;   /* out */
};

/* What is to become of a nacked message whose queue has a script for it. */
struct operation_decision {
    uint32_t item;     /* index of the one it is about */
    uint32_t attempts; /* of the message, this failure included */
    uint64_t token;    /* of the lease that is in the hands of this worker meanwhile */
    uint64_t delay_ms; /* out: of a retry */
    bool dead_letter;  /* out */
    uint16_t header_count;
    struct str headers; /* of the message: validated map, in memory behind the decisions */
};

/* A NACK on its trips (broker/decide): the part of its items that is in hand. */
struct operation_deciding {
    struct operation_decision *decisions; /* owned */
    uint32_t count, capacity;
    uint32_t from, to; /* items */
    uint32_t next;     /* loop: decisions made */
    bool wrote;        /* parts before it were executed */
    uint64_t generation;
    struct buf headers;        /* of all decisions */
    uint64_t bytes;            /* of them, as far as they are accounted for */
    _Atomic uint64_t *account; /* of all operations of the worker; NULL: none */
};

/* ACK and NACK */
struct operation_settle {
    struct operation operation;
    struct operation_deciding *deciding; /* NULL to begin with; freed by operation_free */
    uint32_t count;
    struct operation_settle_item items[];
};

struct operation_create_queue {
    struct operation operation;
    struct str name;
    uint64_t visibility_timeout_ms;    /* 0: the configured default */
    struct str on_enqueue, on_failure; /* sources that were checked; empty: none */
    uint32_t max_attempts;             /* 0: no limit */
    bool dead_letter_headers;
};

/* What is not set stays as it is. */
struct operation_update_queue {
    struct operation operation;
    struct str name;
    bool sets_on_enqueue, sets_on_failure, sets_visibility_timeout, sets_max_attempts,
        sets_dead_letter_headers, sets_paused;
    struct str on_enqueue, on_failure; /* sources that were checked; empty: none any more */
    uint64_t visibility_timeout_ms;    /* 0: the configured default */
    uint32_t max_attempts;             /* 0: no limit */
    bool dead_letter_headers, paused;
};

struct operation_get_settings {
    struct operation operation;
    struct str name;
    /* out */
    struct buf scripts;     /* both, one after the other; freed by operation_free */
    size_t on_enqueue_size; /* bytes of the first */
    uint64_t visibility_timeout_ms, created_ms, version;
    uint32_t max_attempts;
    bool dead_letter_headers, paused;
};

struct operation_delete_queue {
    struct operation operation;
    struct str name;
};

struct operation_queue_row {
    struct str name;
    uint64_t depth;     /* pending and in flight */
    uint64_t in_flight; /* leased */
    uint32_t consumers; /* subscriptions */
    uint8_t counted;    /* as in fibp/framed.h: what depth is worth */
};

struct hold_row; /* sched/hold.h */

struct operation_list_queues {
    struct operation operation;
    struct operation_queue_row *rows; /* out, byte order of names; malloc with names behind, freed
                                       * by operation_free */
    uint32_t count;
};

struct hold_row;

struct operation_key_row {
    struct str key;
    uint64_t pending;
    int64_t deficit;
    uint32_t weight;
};

struct operation_get_stats {
    struct operation operation;
    struct str name;
    struct operation_queue_row totals; /* out; its name is unset */
    uint64_t active_keys;              /* out, may exceed key_count: rows are capped at 65,535 */
    uint32_t quantum;                  /* out */
    struct operation_key_row *keys;    /* out, as rows above */
    uint32_t key_count;
    struct hold_row *throttles; /* out: token buckets of the queue's lanes (sched/hold.h), as rows
                                 * above */
    uint32_t throttle_count;
};

struct operation_details_row {
    struct str name;
    uint64_t numbers[DETAILS];
    struct histogram waits; /* all zeros unless `histograms` */
};

struct operation_queue_details {
    struct operation operation;
    struct str queue; /* one queue; empty: a page of all, FRAMED_DETAILS_PAGE at most */
    struct str after; /* ... that begins behind this name, in byte order */
    uint32_t limit;   /* rows wanted at most; 0: any */
    bool histograms;
    bool more;                          /* out: there are queues behind the last row */
    uint64_t broker[BROKER_DETAILS];    /* out */
    struct histogram commits;           /* out */
    struct operation_details_row *rows; /* out, as rows above */
    uint32_t count;
    struct hold_row *limits; /* out, as rows above, with `queue` only: concurrency limits */
    uint32_t limit_count;
};

/* Runtime configuration. SET_CONFIG with an empty value removes the key. */
struct operation_set_config {
    struct operation operation;
    struct str key, value;
};

struct operation_get_config {
    struct operation operation;
    struct str key;
    struct buf value; /* out; empty: not set. Freed by operation_free */
};

struct operation_list_config {
    struct operation operation;
    struct str prefix;
    struct buf rows; /* out; for each row `u32 bytes of the key` `u32 of the value` and both, in
                      * byte order of keys. Freed by operation_free */
    uint32_t count;  /* out */
};

/* Moves ready messages of a dead-letter queue back, oldest first. FIBP_OK also when it had to stop
 * early after it had moved some, but for the end of the environment. */
struct operation_redrive {
    struct operation operation;
    struct str name; /* of the dead-letter queue */
    uint64_t limit;  /* 0: all that it holds at the start */
    uint64_t moved;  /* out */
};

/* Deletes the ready and delayed messages that a queue holds at the start. The status as in a
 * redrive. */
struct operation_purge {
    struct operation operation;
    struct str name;
    uint64_t purged; /* out */
};

enum peek_state { PEEK_READY, PEEK_LEASED, PEEK_DELAYED, PEEK_HELD };

/* Where a walk through the messages of a queue stands: at first those in R by their numbers, then
 * the delayed ones by their due times. */
struct peek_position {
    bool delayed;
    uint64_t due_ms, seq; /* the last one seen; of those in R only `seq` */
};

struct peek_row {
    struct peek_row *next;
    struct uuid id;
    uint8_t state;         /* enum peek_state */
    bool headers_cut;      /* there are more headers */
    uint64_t when_ms;      /* wall clock: end of the lease, or when it is due; otherwise 0 */
    struct str headers;    /* wire bytes `map headers`, as many as are there */
    struct str payload;    /* or its beginning */
    uint64_t payload_size; /* of all of it */
    struct str fairness_key;
    struct str throttle_keys; /* as stored in a lane (store/record.h) */
    uint16_t throttle_count;
    uint32_t weight, attempt;
    uint64_t enqueued_ms;
    bool is_dead;
    uint64_t dead_ms;
    struct str reason, origin;
};

struct pool;

/* Browses without leasing. */
struct operation_peek {
    struct operation operation;
    struct str name;
    bool has_key;
    struct str fairness_key; /* with has_key: only messages of it */
    struct peek_position position;
    uint32_t limit;        /* messages, 1 to 1,000 */
    uint32_t payload_max;  /* bytes of each payload */
    bool ended;            /* out: there is nothing behind `position` */
    struct peek_row *rows; /* out, in `memory` */
    uint32_t count;        /* out */
    struct pool *memory;   /* out; freed by operation_free */
};

/* One message as a dialect encodes it into a delivery. */
struct delivery_message {
    struct uuid id;
    struct str queue;
    struct str record; /* wire bytes of `map headers` `bytes payload`, or their beginning */
    uint64_t rest;     /* bytes of them that follow; 0: none */
    /* Copies the rest to `to`. False: it is gone, and the message must be left out. */
    bool (*read_rest)(const struct delivery_message *message, uint8_t *to);
    void *context; /* of read_rest */
    struct str fairness_key;
    const struct str *throttle_keys;
    uint16_t throttle_count;
    uint32_t weight;
    uint32_t attempt;     /* 0 on first delivery */
    uint64_t enqueued_ms; /* wall clock, since 1970 */
    uint64_t leased_ms;
};

struct setting;
struct subscription;

/* How a dialect writes deliveries. Called on the store thread; must not touch the session but for
 * what is constant after the subscription was submitted. */
struct delivery_encoder {
    void (*begin)(const struct subscription *subscription, struct buf *out);
    /* False when read_rest failed: `out` is as before. */
    bool (*add)(const struct subscription *subscription, struct buf *out,
                const struct delivery_message *message);
    /* `count` messages were added. */
    void (*end)(const struct subscription *subscription, struct buf *out, uint32_t count);
};

/* Room for deliveries: of one connection, shared by all its subscriptions, and of all connections
 * of a worker together. */
struct delivery_window {
    _Atomic uint64_t queued; /* bytes handed up and not yet written to the socket */
    uint64_t limit;          /* at most: see delivery_window_limit */
    _Atomic uint32_t paused; /* set by the store thread when it skipped a subscription for this; the
                              * loop clears it and submits OPERATION_ROOM when queued is 0 or fell
                              * below half of the limit */
    struct delivery_window *worker; /* of the connection's: the worker's; NULL: none */
    struct list waiting; /* private to the store thread, which also makes it when it is all zeros:
                          * its subscriptions that were skipped for want of room */
};

/* Delivery pauses while `queued` is this or more, at least 1: `limit`, but of a connection's window
 * no more than an eighth of what the worker's has left. So however many connections do not take
 * their deliveries, there is room for one that does. Any thread. */
uint64_t delivery_window_limit(const struct delivery_window *window);

/* One consumer. Made by the loop, submitted with OPERATION_SUBSCRIBE, freed by the loop after the
 * answer to OPERATION_UNSUBSCRIBE (nothing refers to it then). The loop reads and writes only what
 * stands above `store`. */
struct subscription {
    void *owner;         /* the session */
    uint32_t request_id; /* of its Consume: every Delivery carries it */
    struct uuid consumer_id;
    struct str queue; /* name, owned by the loop, stays until freed */
    const struct delivery_encoder *encoder;
    struct delivery_window *window;
    uint32_t limit;   /* messages to deliver at most, ever; 0: no limit */
    bool ended;       /* loop: OPERATION_SUBSCRIPTION_ENDED came or unsubscribe was sent */
    struct list live; /* private to the pipeline's loop side: accepted and not ended */
    struct subscription *announce; /* as `live`: the next one that a new environment is told of */
    uint32_t taken;                /* loop: messages that came up */
    uint32_t delivered; /* store thread: messages delivered, counted when there is a limit */
    void *store;        /* private to the store thread */
};

/* SUBSCRIBE (status FIBP_QUEUE_NOT_FOUND when the queue is missing: then it is not registered and
 * may be freed at once), UNSUBSCRIBE. */
struct operation_subscription {
    struct operation operation;
    struct subscription *subscription;
};

/* ROOM: deliveries to all subscriptions of the window may go on. */
struct operation_room {
    struct operation operation;
    struct delivery_window *window;
};

/* A lease that a delivery carries; enough to give it back. */
struct delivery_lease {
    struct uuid id;
    uint64_t token; /* tells this delivery of the message from a later one */
};

/* DELIVERY upwards. The loop writes frame[0..size) to the socket. After it is written it subtracts
 * `size` from the window, and from the worker's, and calls operation_free. When not one byte of it
 * went to the socket and the connection is gone, it sets kind to OPERATION_RETURN and submits it:
 * the leases return to the head of their lanes without a new attempt. */
struct operation_delivery {
    struct operation operation;
    struct subscription *subscription; /* valid only while not unsubscribed */
    uint64_t queue_id;
    uint32_t queue_index; /* in the zone's table */
    uint64_t generation;  /* of the zone in which the leases stand */
    uint8_t *frame;       /* malloc, freed by operation_free */
    size_t size;
    uint32_t count;
    struct delivery_lease leases[];
};

struct operation_ended {
    struct operation operation;
    struct subscription *subscription;
};

/* SETTINGS upwards: what has changed of what the loop knows; see worker/settings.h, which takes the
 * chain over. */
struct operation_settings {
    struct operation operation;
    struct setting *first; /* broker/settings.h; what is left of it is freed by operation_free */
    uint64_t
        generation; /* of the zone's settings, which the loop knows after it; 0: more follows */
    bool anew;      /* the first of all there is: what is not named until the last is gone */
};

/* Whether an execution that broke off may have had an effect. All others can be run again. */
bool operation_changes_store(const struct operation *operation);

/* What executing it takes, about: bytes, with 512 for each record and 4096 for what is no write. */
uint64_t operation_cost(const struct operation *operation);

/* Forgets an outcome, which may be in the making by a thread that is gone, so that the operation
 * can be run again. What the outcome pointed to is not freed. */
void operation_reset(struct operation *operation);

/* Frees what stands in settle->deciding of the slice in hand. */
void operation_forget_decisions(struct operation_settle *settle);

/* Frees the operation (malloc) and what its outcome points to. */
void operation_free(struct operation *operation);

#endif
