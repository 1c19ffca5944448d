/*
 * assembly - the requests of a session that are too large to wait for in its input: those in
 * several CONTINUATION frames (spec/fibp.md A6) and single frames above SESSION_LARGE_FRAME. Their
 * bytes are taken out of the input as they come and gathered in a chunk of their own, which grows
 * with what has arrived, never with what is claimed; the operation's slices point into it. A
 * session has an assembly only while such a request is unfinished.
 *
 * Chunks of a session beyond SESSION_LARGE_FRAME occupy room that all sessions of the worker share
 * (sessions_reserve). A session that waits for room in vain is told ChannelFull, and the rest of
 * that request is passed over.
 */
#ifndef FILAD_WORKER_ASSEMBLY_H
#define FILAD_WORKER_ASSEMBLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/list.h"
#include "core/str.h"
#include "event/chunk.h"
#include "event/loop.h"
#include "fibp/frame.h"
#include "worker/session.h"

/* A request has to come at a fair pace, or its connection ends: so long, plus a millisecond for so
 * many bytes; and never so long without any. Time in which nothing is read does not count. */
#define ASSEMBLY_MS 30000u
#define ASSEMBLY_PACE 64u
#define ASSEMBLY_ROOM_MS 15000u /* how long a session waits for room */
#define ASSEMBLY_LOOK_MS 1000u  /* how often these times are looked at */

enum assembly_fate {
    ASSEMBLY_GATHERED,
    ASSEMBLY_COUNTED, /* its end will be dispatched, but nobody wants its bytes */
    ASSEMBLY_REFUSED, /* answered already: passed over */
};

/* One request. */
struct assembly_stream {
    struct list list; /* in assembly->streams */
    uint32_t request_id;
    uint8_t opcode;
    uint8_t fate;        /* enum assembly_fate */
    bool continued;      /* begun by a CONTINUATION frame; counts as pending */
    uint32_t empty;      /* frames without a byte */
    uint64_t size;       /* bytes of all its frames so far, present one as a whole included */
    size_t taken;        /* bytes of it that have come; they are in `chunk` when gathered */
    struct chunk *chunk; /* held; NULL: none yet, or none wanted */
    uint64_t since_ms;   /* when it began and when its last byte came, by the loop's clock; */
    uint64_t last_ms;    /* later by the times in which nothing was read */
};

struct assembly {
    struct session *session;
    struct list streams;
    uint32_t pending;                /* continued ones of `streams` */
    struct assembly_stream *current; /* whose frame is arriving; NULL: none */
    size_t left;                     /* bytes of that frame that are not taken yet */
    bool last;                       /* it is the last one of its request */
    uint64_t capacity;               /* bytes of all chunks */
    uint64_t waits_ms;               /* since when the session waits for room; 0: it does not */
    struct loop_timer timer;
};

enum assembly_result {
    ASSEMBLY_MORE,  /* all that is here is taken, or the session waits for room */
    ASSEMBLY_TAKEN, /* the frame is taken and there is nothing to dispatch */
    ASSEMBLY_READY, /* a request is complete */
};

/* A request that is complete; to be given to assembly_done. */
struct assembly_request {
    struct frame frame; /* as if it had come in one */
    struct chunk *chunk;
};

/* True when a frame whose header has come (`complete`: all of it) is a matter for the assembly. */
bool assembly_wants(const struct session *session, const struct frame *header, bool complete);

/* Notes that the body of this frame is what comes next. `wanted`: whether the bytes of such
 * requests are of use to anybody. False when the session has ended over it. */
bool assembly_begin(struct session *session, const struct frame *header, bool wanted)
    __attribute__((warn_unused_result));
/* Whether a body is being taken. */
static inline bool assembly_is_taking(const struct session *session)
{
    return session->assembly && session->assembly->current;
}
/* Takes what there is of it from the input. Only when assembly_is_taking(). */
enum assembly_result assembly_take(struct session *session, struct assembly_request *request)
    __attribute__((warn_unused_result));
/* To be called when the request was dispatched: what nobody has pinned is freed. */
void assembly_done(struct assembly_request *request);

/* The session reads again after so long. */
void assembly_resumed(struct session *session, uint64_t paused_ms);
/* Drops everything that is unfinished. */
void assembly_free(struct session *session);

#endif
