/*
 * buf - a growable byte buffer on malloc. Appending can fail (no memory or over the limit); after a
 * failure the buffer is unchanged and `failed` stays set, so that a run of appends can be checked
 * once at its end.
 */
#ifndef FILAD_CORE_BUF_H
#define FILAD_CORE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/str.h"

struct buf {
    uint8_t *data;   /* owned */
    size_t size;     /* bytes in use */
    size_t capacity; /* bytes allocated */
    size_t limit;    /* capacity never grows beyond it; 0: no limit */
    bool failed;
};

void buf_init(struct buf *buf, size_t limit);
void buf_free(struct buf *buf);  /* gives the memory back; the buffer is as after buf_init */
void buf_clear(struct buf *buf); /* size 0, not failed, memory kept */

/* Room for `more` bytes behind the present end; the caller writes them and adds to size. */
uint8_t *buf_reserve(struct buf *buf, size_t more) __attribute__((warn_unused_result));

void buf_append(struct buf *buf, const void *data, size_t size);
void buf_append_str(struct buf *buf, struct str s);
void buf_append_c(struct buf *buf, const char *text);
void buf_append_u8(struct buf *buf, uint8_t v);
void buf_append_u16(struct buf *buf, uint16_t v); /* big-endian, these three */
void buf_append_u32(struct buf *buf, uint32_t v);
void buf_append_u64(struct buf *buf, uint64_t v);
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Drops the first `size` bytes (at most what is there) and moves the rest to the front. */
void buf_consume(struct buf *buf, size_t size);

static inline struct str buf_str(const struct buf *buf)
{
    return str_of(buf->data, buf->size);
}

#endif
