/*
 * broker - what operations mean. One `struct broker` belongs to one thread that may touch the
 * store: a worker's store thread, the keeper's timers or maintenance thread. It knows no socket and
 * no dialect.
 *
 * Every function here but broker_open and broker_close must be called inside a section
 * (zone_enter). A function that returns -1 has met the end of the environment: `broker->failure`
 * tells why, nothing it was doing is confirmed, and the thread must leave the section and let go.
 */
#ifndef FILAD_BROKER_BROKER_H
#define FILAD_BROKER_BROKER_H

#include "broker/operation.h"
#include "broker/read_ahead.h"
#include "core/pool.h"
#include "sched/scheduler.h"
#include "store/catalog.h"
#include "store/queue_db.h"

#define BROKER_WARN_EVERY_MS 60000 /* what may be so for long is said once in this time */

/* One queue as this thread knows it; valid until the catalog changes. */
struct local_queue {
    struct hash_link by_name;
    struct list link;  /* in broker.locals */
    struct list pulls; /* in broker.pulls while a delivery is to be tried */
    struct queue *queue;
    struct queue_db *db;       /* NULL while closed */
    struct list open;          /* local_subscription.link: may have room, next one first */
    struct list paused;        /* those without room, until something gives them room */
    struct write_group *group; /* private to a batch of writes */
    size_t record_size;        /* running mean of messages, for how many the next pull takes */
    size_t value_size;         /* and of their values, for the size of the next read */
    bool starved;              /* the last pull found the zone full, and the log says so */
};

/* subscription->store */
struct local_subscription {
    struct list link; /* in local_queue.open or .paused */
    struct list all;  /* in broker.subscriptions */
    struct list wait; /* in delivery_window.waiting while it is the window that has no room */
    struct subscription *subscription;
    struct local_queue *local;
    struct consumer *consumer;           /* in the zone */
    struct operation_delivery *delivery; /* being built by the pull that runs */
    uint32_t assigned;                   /* messages the pull that runs gave it */
    bool sated;                          /* these will fill its window */
};

struct broker_options {
    struct zone *zone;
    unsigned slot;
    enum zone_thread thread;
    uint64_t generation;            /* of the zone */
    struct env *env;                /* of this process; outlives the broker */
    unsigned handles;               /* databases kept open at most */
    uint64_t visibility_timeout_ms; /* of queues that name none */
    uint32_t max_unacked;
    _Atomic uint64_t *deciding_bytes; /* broker/decide: what the loop has of it; or NULL */
    enum env_commit commit;           /* of writes that will be confirmed */
    /* Takes what the broker has for the loop: deliveries and ended subscriptions. */
    void (*emit)(void *context, struct operation *operation);
    void *context;
};

/* Where the writing of a large frame stands that is done in slices, and the number under which this
 * thread writes and removes what is stored apart (broker/apart). */
struct apart_progress {
    struct operation *operation; /* NULL: none; otherwise it is executed before any other */
    uint32_t item, chunk;        /* next one to be written */
    uint64_t work;               /* 0: none */
};

struct broker {
    struct broker_options options;
    struct scheduler *scheduler;
    struct env *env;
    struct catalog *catalog;
    struct queue_db_cache cache;
    struct hash names; /* local_queue.by_name */
    struct list locals;
    struct local_queue **by_index; /* ZONE_QUEUES entries */
    struct list pulls;             /* local_queue.pulls */
    struct list later;             /* local_queue.pulls of those that failed */
    uint64_t later_ms;             /* monotonic: when they are tried again */
    struct list subscriptions;     /* local_subscription.all */
    uint64_t catalog_seen;
    uint64_t settings_seen; /* of the zone's settings_generation: emitted; 0: nothing yet */
    struct uuid_generator ids;
    struct pool *scratch; /* of the operation in hand */
    struct buf value;     /* what was read */
    struct buf rewritten; /* and what is made of it, where it is not changed in place */
    struct queue_db_bulk bulk;
    struct read_ahead ahead; /* of deliveries */
    struct apart_progress apart;
    struct list tasks;            /* task.link */
    bool ending;                  /* tasks stop with what they have */
    uint64_t next_dlq_warning_ms; /* monotonic */
    uint64_t room_again_ms;       /* monotonic: see broker_make_room */
    uint64_t next_key_warning_ms; /* monotonic: of keys that were refused */
    struct err failure;
};

struct broker *broker_open(const struct broker_options *options, struct err *err)
    __attribute__((warn_unused_result));
/* Closes all handles. Subscriptions must have been detached. */
void broker_close(struct broker *broker);

/* Executes a chain (through operation->next) in order and sets the outcome of each; *rest is NULL
 * then. A chain with large messages is not executed at once: *rest is the first operation that has
 * to be given to the next call, before any other, so that answers and deliveries do not wait for
 * all of it. After -1 *rest is the first operation that had no effect and can be executed in the
 * next environment; of those before it, the ones whose fate is unknown have FIBP_STORAGE_ERROR. */
int broker_execute(struct broker *broker, struct operation *first, struct operation **rest)
    __attribute__((warn_unused_result));

/* Gives back what is kept to make the next deliveries fast; for a thread that has nothing to do. */
void broker_rest(struct broker *broker);

/* Does a step, of bounded time, of operations that take long and have `later` set; *finished is a
 * chain of those that are done. *more: there are others. Between two steps anything else may be
 * done. */
int broker_step(struct broker *broker, struct operation **finished, bool *more)
    __attribute__((warn_unused_result));
/* Breaks off all of them, whose fate is unknown then, and returns the chain. */
struct operation *broker_break_off(struct broker *broker);

/* Acts on changes of the catalog: lets go of deleted queues and ends their subscriptions. It frees
 * the `struct local_queue` of deleted queues and tells the keeper that their zone queues may be
 * freed: call it while holding none of either, and at least once between two sleeps. Cheap when
 * there are none. */
int broker_refresh(struct broker *broker) __attribute__((warn_unused_result));

/* Emits what has changed of the settings since the last call, at first all of them; cheap when
 * nothing has. For the store threads of workers. */
int broker_send_settings(struct broker *broker) __attribute__((warn_unused_result));

/* Tries deliveries, `pulls` queues at most. 1: there may be more to do; 0: none; -1: as above. */
int broker_deliver(struct broker *broker, unsigned pulls) __attribute__((warn_unused_result));

/* Takes all subscriptions off before broker_close; broker_attach announces one anew in the next
 * environment, with the FIBP status that it had for a new one. `valid`: the zone is, and forgets
 * the consumers. */
void broker_detach(struct broker *broker, bool valid);
int broker_attach(struct broker *broker, struct subscription *subscription, uint8_t *status)
    __attribute__((warn_unused_result));

/* Keeper: retries what expired of `queue` by now, at most `limit` leases, and frees lanes that were
 * empty for long. *more: call again. */
int broker_expire(struct broker *broker, struct queue *queue, uint64_t now_ms, bool *more)
    __attribute__((warn_unused_result));

/* Keeper: puts what of `queue` is due by now, at most a hundred delayed messages, at the end of
 * their lanes, in the order of their due times. *more: call again; otherwise the queue's timer is
 * set. */
int broker_due(struct broker *broker, struct queue *queue, uint64_t wall_ms, bool *more)
    __attribute__((warn_unused_result));

/* --- for the files of this layer --- */

/* The queue of a name, through this thread's cache. *local NULL: there is none. */
int broker_find_queue(struct broker *broker, struct str name, struct local_queue **local)
    __attribute__((warn_unused_result));
/* As broker_find_queue by the zone's queue. */
int broker_local(struct broker *broker, struct queue *queue, struct local_queue **local)
    __attribute__((warn_unused_result));

/* Takes a lock of the zone; -1 (with the failure set) when the zone is gone. */
int broker_lock(struct broker *broker, struct lock *lock) __attribute__((warn_unused_result));

/* Counts a queue's lock that was held for long, since `began_ms`; call it after the release, while
 * the queue cannot go. */
void broker_note_lock(struct broker *broker, const struct queue *queue, uint64_t began_ms);

/* Opens the database of a queue; Berkeley DB's value. Without `create` ENOENT means that nothing
 * was ever written to it. EUCLEAN: it is in quarantine, nothing can be done with the queue. */
int broker_open_db(struct broker *broker, struct local_queue *local, bool create)
    __attribute__((warn_unused_result));

/* After a full disk: gives up the reserve. True when that made room, or somebody else may have made
 * it meanwhile, and the work may be tried again. */
bool broker_make_room(struct broker *broker, int result);

/* Ends an operation whose work on the store gave `result`. 0, after a failure with
 * FIBP_STORAGE_ERROR in the operation and what was attempted in the log; -1 when the environment is
 * at its end. */
int broker_finish(struct broker *broker, struct operation *operation, int result,
                  const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Records the end of the environment; returns -1. */
int broker_fail(struct broker *broker, int result, const char *what);
/* True for results after which the environment must not be used. */
bool broker_is_fatal(int result);

/* Puts a queue on the list of those to try a delivery for: now, or after a second because it
 * failed. */
void broker_want_pull(struct broker *broker, struct local_queue *local);
void broker_want_pull_later(struct broker *broker, struct local_queue *local);

/* How each kind of operation but the writes (broker/write.h) is executed. */
typedef int broker_executor(struct broker *broker, struct operation *operation);
broker_executor broker_subscribe, broker_unsubscribe, broker_room;
broker_executor broker_return;
broker_executor broker_redrive, broker_purge, broker_peek;
broker_executor broker_create_queue, broker_delete_queue, broker_list_queues, broker_get_stats,
    broker_queue_details;
broker_executor broker_update_queue, broker_get_settings;
broker_executor broker_set_config, broker_get_config, broker_list_config;

#endif
