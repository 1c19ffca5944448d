/*
 * sessions - all client connections of a worker and what they share: the way to the pipeline, the
 * limits of the whole worker, and the work of a tick. One thread, the loop's.
 *
 * Once per tick the operations of all sessions go down as one chain, and each session with
 * something to send writes it with one system call.
 */
#ifndef FILAD_WORKER_SESSIONS_H
#define FILAD_WORKER_SESSIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/operation.h"
#include "conf/conf.h"
#include "core/err.h"
#include "core/list.h"
#include "core/uuid.h"
#include "event/chunk.h"
#include "event/loop.h"
#include "hook/hook.h"
#include "worker/decider.h"
#include "worker/pipeline.h"

/* Beyond these connections that have something under way are not read until half of it is left. */
#define SESSIONS_OUTSTANDING_MAX 20000u
#define SESSIONS_BYTES_MAX (256u << 20) /* request bytes and operations under way */
/* Up to these a session that has nothing under way is still read, so that producers that outrun the
 * store do not shut up everybody else. */
#define SESSIONS_OUTSTANDING_LAST (SESSIONS_OUTSTANDING_MAX + SESSIONS_OUTSTANDING_MAX / 4)
#define SESSIONS_BYTES_LAST (SESSIONS_BYTES_MAX + SESSIONS_BYTES_MAX / 4)
/* What unfinished large requests (worker/assembly.h) may occupy, all together; more when the
 * configuration allows so large ones that two would not fit. */
#define SESSIONS_LARGE_MAX (256u << 20)

/* Answers of all connections that their clients do not take. Beyond it the connection that has
 * taken nothing for the longest time is closed. */
#define SESSIONS_UNREAD_MAX (256u << 20)

/* Deliveries of all connections that are not written yet: delivery to any of them pauses at it, and
 * goes beyond it by one message at most. */
#define SESSIONS_DELIVERIES_MAX (256u << 20)

struct session;
struct settings;

struct sessions {
    struct loop *loop;
    struct pipeline *pipeline;
    const struct conf *conf;
    const struct hook_set *hooks;
    struct settings *settings; /* worker/settings.h; NULL: none, hooks may always run */
    struct uuid_generator ids; /* of consumers */
    struct loop_hook turn;

    struct list all;   /* every session that is not closed */
    struct list dirty; /* those to be flushed or looked at in this tick */
    struct list held;  /* paused until the worker's limits are met again */
    struct list resuming;
    struct list waiting;  /* for room for a large request, first come first served */
    struct list fresh;    /* before the end of their handshake, oldest first */
    struct list closed;   /* wait for their operations */
    struct list unread;   /* those with answers to be taken, first who took some longest ago */
    struct list dead;     /* those of them that have all of them back */
    struct list hookings; /* hooking.list: what waits to run hooks */
    uint64_t hooking_ns;  /* that hooks took in this turn */
    struct loop_timer hooking_timer;
    struct decider decider;
    uint32_t count;      /* of `all`, without extras */
    uint32_t extras;     /* of `all`, those that are only there to be refused */
    uint32_t extras_max; /* at once; more are closed without a word */
    uint8_t next_line;   /* session.line of the next one */

    struct operation *first, *last; /* to be submitted, through operation->next */
    uint64_t outstanding;           /* requests submitted and not back */
    struct chunk_account account;
    uint64_t large;                /* bytes reserved by sessions for requests that arrive */
    uint64_t large_max;            /* what they may be */
    uint64_t large_claim;          /* of those, what one session may count on */
    struct session *favoured;      /* the one that does at present; or NULL */
    uint64_t unread_bytes;         /* answers of those in `unread` */
    uint64_t unread_max;           /* what they may be */
    struct delivery_window window; /* of all connections */
    bool full;
    bool ending;   /* nothing is decided any more */
    bool draining; /* new sessions end at once */
};

/* `hooks` may be NULL. The rest must outlive the sessions. */
void sessions_init(struct sessions *sessions, struct loop *loop, struct pipeline *pipeline,
                   const struct conf *conf, const struct hook_set *hooks);

/* Only when the threads of the pipeline are away: closes what is open and frees everything. */
void sessions_destroy(struct sessions *sessions);

/* Takes a connected non-blocking socket, which came from `listen`, and serves it. */
void sessions_add(struct sessions *sessions, int fd, const struct conf_listen *listen);
/* Takes it, and tells the client that there is no room for it. */
void sessions_refuse(struct sessions *sessions, int fd, const struct conf_listen *listen);

/* Whether a connection that has been silent for long can give way to a new one. */
bool sessions_can_yield(const struct sessions *sessions);
/* Tells the oldest of those that there is no room for it. */
void sessions_yield(struct sessions *sessions);

/* Appends to the chain of this tick. */
void sessions_submit(struct sessions *sessions, struct operation *operation);

/* Hands out what the pipeline has finished. To be called when its descriptor is readable. */
void sessions_take(struct sessions *sessions);

/* The store is gone and will not come back: what waits for the latest settings is submitted without
 * them, to be refused. */
void sessions_give_up_settings(struct sessions *sessions);

/* The process has shed its store threads, with what they had on its way up. */
void sessions_recount(struct sessions *sessions);

/* True when the worker has more under way than it may, for this session. */
bool sessions_full_for(struct sessions *sessions, const struct session *session);

enum sessions_room {
    SESSIONS_ROOM,    /* the session has it */
    SESSIONS_WAIT,    /* it waits in line and is resumed when it has it */
    SESSIONS_NO_ROOM, /* it has too much already to wait for more */
};

/* Room for the large requests of a session, `total` bytes instead of what it has at present.
 *
 * Nobody waits for ever, although those who wait have some room already: a part of all room, large
 * enough for any one session, is given only to one session at a time, which therefore always can go
 * on. Beyond that part no session waits, it only takes what is free. */
enum sessions_room sessions_reserve(struct sessions *sessions, struct session *session,
                                    uint64_t total) __attribute__((warn_unused_result));
/* Gives back what is beyond `total`. */
void sessions_release(struct sessions *sessions, struct session *session, uint64_t total);
/* A session that waits is resumed without room. */
void sessions_stop_waiting(struct sessions *sessions, struct session *session);

/* Every session ends in good order: answers what has begun, says farewell, closes. */
void sessions_drain(struct sessions *sessions);
/* Every session is closed now. */
void sessions_close(struct sessions *sessions);

#endif
