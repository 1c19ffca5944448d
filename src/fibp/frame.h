/*
 * frame - the envelope of the framed dialect:
 *
 *   u32 length (of all that follows)   u8 opcode   u8 flags   u32 request_id   payload
 */
#ifndef FILAD_FIBP_FRAME_H
#define FILAD_FIBP_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/str.h"

#define FRAME_OVERHEAD 10u            /* bytes of a frame that are not payload */
#define FRAME_LENGTH_MIN 6u           /* smallest legal value of the length field */
#define FRAME_LENGTH_MAX 16777216u    /* largest one in the protocol; a listener may allow less */
#define FRAME_FLAG_CONTINUATION 0x01u /* more of this operation follows; other bits are ignored */
#define FRAME_PROTOCOL_VERSION 1u

struct frame {
    uint8_t opcode; /* not checked against the table */
    uint8_t flags;
    uint32_t request_id;
    struct str body; /* points into the parsed bytes */
    size_t size;     /* bytes of the stream that belong to it, length field included */
};

enum frame_result {
    FRAME_READY,     /* `frame` is filled */
    FRAME_MORE,      /* incomplete; frame->size is how many bytes are needed before it can go on.
                      * What stands before the body is filled once FRAME_OVERHEAD bytes are there */
    FRAME_TOO_LONG,  /* length above max_length: the stream is out of step, Error 0E and close */
    FRAME_TOO_SHORT, /* length below 6: the same */
};

/* Looks at the first frame of a stream. `max_length` bounds the length field (a configured
 * max_frame_size); a bad length is reported as soon as its four bytes are there. */
enum frame_result frame_parse(struct str bytes, uint32_t max_length, struct frame *frame);

/* What to say in the Error frame for a bad length; static. */
const char *frame_result_text(enum frame_result result);

/* Starts a frame at the end of `buf` and returns its offset there; the payload is appended next. */
size_t frame_begin(struct buf *buf, uint8_t opcode, uint32_t request_id);

/* Completes the frame begun at `start`: sets its length, or, when it is longer than `max_length`
 * allows, splits it in place into CONTINUATION frames. Returns -1 when the buffer has failed since
 * (no memory, a string too long): the frame is gone then, what stood before it is intact and the
 * buffer is usable again. Also when `max_length` leaves no room for payload. */
int frame_end(struct buf *buf, size_t start, uint32_t max_length)
    __attribute__((warn_unused_result));

/* Takes an unfinished frame back; the buffer is as before frame_begin. */
void frame_abort(struct buf *buf, size_t start);

/* A frame without payload: Ping, Pong, Disconnect. -1 without memory (nothing appended). */
int frame_empty(struct buf *buf, uint8_t opcode, uint32_t request_id)
    __attribute__((warn_unused_result));

#endif
