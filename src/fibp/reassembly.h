/*
 * reassembly - puts operations together that arrive as several CONTINUATION frames (framed
 * dialect). Keyed by request_id alone; frames of other ids may come in between. One per connection.
 */
#ifndef FILAD_FIBP_REASSEMBLY_H
#define FILAD_FIBP_REASSEMBLY_H

#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "fibp/frame.h"

#define REASSEMBLY_STREAMS_MAX 64u
#define REASSEMBLY_EMPTY_MAX 65536u /* frames without a byte that one operation may have */

struct reassembly_stream;

struct reassembly {
    struct reassembly_stream *streams; /* owned; allocated when the first operation is split */
    size_t count;                      /* streams in use */
    size_t streams_max;                /* at most REASSEMBLY_STREAMS_MAX */
    size_t message_max;                /* bytes of one operation */
    size_t total_max;                  /* bytes of all unfinished operations */
    size_t total;
    struct buf complete; /* the body last handed out */
};

enum reassembly_result {
    REASSEMBLY_READY,          /* dispatch the frame, whose body and flags may have been replaced */
    REASSEMBLY_HELD,           /* kept, more is to come */
    REASSEMBLY_TOO_MANY,       /* too many unfinished operations */
    REASSEMBLY_TOO_LARGE,      /* one operation, or all together, beyond the limit */
    REASSEMBLY_MISMATCH,       /* the opcode is not that of the first frame */
    REASSEMBLY_TOO_MANY_EMPTY, /* frames without a byte, of one operation */
    REASSEMBLY_NO_MEMORY,
};

void reassembly_init(struct reassembly *reassembly, size_t streams_max, size_t message_max,
                     size_t total_max);
void reassembly_free(struct reassembly *reassembly);

/* Takes the next frame of the connection. With REASSEMBLY_READY `frame` is what to dispatch: as it
 * came, or with the whole body, which stays valid until the next call. After an error nothing of
 * that request_id is kept; the protocol wants the connection closed (REASSEMBLY_NO_MEMORY too: a
 * part of an operation is lost). */
enum reassembly_result reassembly_take(struct reassembly *reassembly, struct frame *frame)
    __attribute__((warn_unused_result));

/* For the Error frame; static. */
const char *reassembly_result_text(enum reassembly_result result);

#endif
