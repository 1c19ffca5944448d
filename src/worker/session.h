/*
 * session - one client connection: its states, limits and timers. What its bytes mean is the
 * business of a dialect; the first one recognises the others from the first bytes.
 *
 * A session is closed when its connection is; it lives on until every operation that refers to it
 * is back.
 */
#ifndef FILAD_WORKER_SESSION_H
#define FILAD_WORKER_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/operation.h"
#include "core/list.h"
#include "event/chunk.h"
#include "event/conn.h"
#include "event/loop.h"
#include "fibp/numbering.h"
#include "fibp/status.h"
#include "worker/sessions.h"

#define SESSION_MAGIC 0x73657373u

/* Beyond these nothing more is read from the connection until half of it is left. */
#define SESSION_OUTSTANDING_MAX 1000u
#define SESSION_BYTES_MAX (32u << 20)  /* request bytes and operations under way */
#define SESSION_ANSWERS_MAX (4u << 20) /* answers not yet in the socket */

#define SESSION_LARGE_FRAME 65536u /* one above it does not wait in the input: see assembly.h */
/* A new session has so long for its handshake on a full worker. */
#define SESSION_GRACE_MS 1000u
/* One that ends has so long to get rid of its answers, and so long for the peer to close then. */
#define SESSION_FINISH_MS 5000u
#define SESSION_LINGER_MS 1000u

enum session_state {
    SESSION_NEW, /* before the end of the handshake */
    SESSION_OPEN,
    SESSION_DRAINING,  /* takes what has arrived in part, then finishes */
    SESSION_FINISHING, /* takes nothing more; answers what is under way */
    SESSION_LINGERING, /* everything is sent; waits for the peer to close */
    SESSION_CLOSED,
};

enum session_take {
    SESSION_TAKEN, /* look again: there may be more */
    SESSION_MORE,  /* session->wanted bytes are needed before it can go on */
};

struct session;

struct session_dialect {
    /* Handles what stands at the start of the input. */
    enum session_take (*take)(struct session *session);
    /* Appends an answer that says no. `text` empty: the status' own words. */
    void (*error)(struct session *session, uint32_t request_id, enum fibp_status status,
                  struct str text);
    void (*ping)(struct session *session);     /* appends a sign of life that the peer answers */
    void (*farewell)(struct session *session); /* appends what says that the server leaves */
};

struct assembly;

/* A request that takes several turns before it can be submitted; embedded in its owner. */
struct session_work {
    void (*give_up)(struct session_work *work); /* the session is closed: free it */
};

struct session {
    uint32_t magic;
    uint8_t state;            /* enum session_state */
    bool paused;              /* not reading because of a limit */
    bool full;                /* the limit is this session's */
    bool eof;                 /* the peer sends nothing more */
    bool farewell;            /* say it before closing */
    bool pinged;              /* nothing arrived since our last Ping */
    bool extra;               /* only here to be refused: not counted */
    uint8_t line;             /* of its operations (operation.line) */
    enum numbering numbering; /* framed: of the listener, or AUTO until a request tells */
    struct sessions *sessions;
    const struct session_dialect *dialect;
    struct list list;      /* in sessions->all or closed */
    struct list fresh;     /* in sessions->fresh until the handshake is done */
    struct list dirty;     /* in sessions->dirty */
    struct list hold;      /* in sessions->held, resuming or waiting; later in dead */
    struct list unread;    /* in sessions->unread while there are answers to be taken */
    uint64_t unread_bytes; /* of them, as it was counted last */
    struct conn conn;
    struct loop_timer timer; /* handshake, keepalive or the end, by state */
    uint64_t opened_ms;
    uint64_t last_traffic_ms;
    uint64_t pinged_ms;
    uint64_t paused_ms; /* since when, while it is paused */
    size_t wanted;      /* bytes that the frame at the start of the input takes, as far as known */
    struct assembly *assembly; /* owned; NULL: no large request is unfinished */
    uint64_t reserved;         /* of sessions->large */
    uint64_t awaited;          /* what it is to become, while the session waits for that */
    struct chunk *body; /* where the request lies that is being dispatched; NULL: in the input */
    struct session_work *work; /* it takes nothing more before that is done; or NULL */
    struct chunk_account account;
    uint32_t outstanding; /* operations submitted and not back, and `work` */
    struct list subscribers;
    uint32_t subscriber_count;
    struct list deliveries; /* queued on the connection */
    struct list kept;       /* deliveries that must not overtake the answer of a write */
    struct list writes;     /* Enqueue and Nack requests that are not answered, oldest first */
    uint64_t write_count;   /* of them, ever */
    struct delivery_window window;
};

/* Takes the socket in any case. `listen`: the listener it came from, not kept. */
void session_create(struct sessions *sessions, int fd, const struct conf_listen *listen,
                    bool refuse);

/* The handshake is not done, and its time on a full worker is over. */
bool session_is_silent(const struct session *session);
/* Ends one whose handshake is not done: from now on it is only there to be told so. */
void session_refuse(struct session *session);

/* Appends to the chain of this tick; the answer comes back through request_back. */
void session_submit(struct session *session, struct operation *operation);
/* To be called when one is back: goes on reading, ends, or is freed, as is due. */
void session_settle(struct session *session);

/* The session reads no more until the work is done, and does not end before. At most one. */
void session_work_begin(struct session *session, struct session_work *work);
void session_work_done(struct session *session);

/* The buffer for answers; it will be sent at the end of the tick. */
struct buf *session_answers(struct session *session);
/* To be called when something was queued or has to be looked at before the tick ends. */
void session_touch(struct session *session);
/* Ends the session when an answer could not be made: for the result of encoders. */
void session_check(struct session *session, int result);

/* Reads no more until it is resumed. */
void session_pause(struct session *session);

/* Takes no more from the peer, answers what is under way, and closes. */
void session_finish(struct session *session);
/* An Error that ends the session. */
void session_fail(struct session *session, uint32_t request_id, enum fibp_status status,
                  struct str text);
/* Ends in good order, with a farewell. */
void session_drain(struct session *session);
/* Closes now. `reason` is for the log at debug level. */
void session_close(struct session *session, const char *reason);

/* The handshake is done. */
void session_opened(struct session *session);

/* What the turn of the tick does with a dirty, a resumed and a dead session. */
void session_flush(struct session *session);
void session_resume(struct session *session);
void session_free(struct session *session);

/* True when the peer can still be told something. */
static inline bool session_is_live(const struct session *session)
{
    return session->state < SESSION_LINGERING;
}

#endif
