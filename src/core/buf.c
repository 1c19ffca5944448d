#include "core/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/bytes.h"

#define BUF_MINIMUM 256 /* bytes of the first allocation, unless the limit is lower */

void buf_init(struct buf *buf, size_t limit)
{
    *buf = (struct buf){.limit = limit};
}

void buf_free(struct buf *buf)
{
    free(buf->data);
    buf_init(buf, buf->limit);
}

void buf_clear(struct buf *buf)
{
    buf->size = 0;
    buf->failed = false;
}

/* The capacity to allocate for at least `wanted` bytes; 0 when the limit does not allow it. */
static size_t buf_capacity_for(const struct buf *buf, size_t wanted)
{
    size_t limit = buf->limit ? buf->limit : (size_t)PTRDIFF_MAX;
    if (wanted > limit)
        return 0;
    size_t capacity = buf->capacity < BUF_MINIMUM / 2 ? BUF_MINIMUM / 2 : buf->capacity;
    capacity = capacity > limit / 2 ? limit : capacity * 2;
    return capacity < wanted ? wanted : capacity;
}

uint8_t *buf_reserve(struct buf *buf, size_t more)
{
    if (buf->failed)
        return NULL;
    if (buf->data && more <= buf->capacity - buf->size)
        return buf->data + buf->size;

    size_t capacity = more > SIZE_MAX - buf->size ? 0 : buf_capacity_for(buf, buf->size + more);
    uint8_t *data = capacity ? realloc(buf->data, capacity) : NULL;
    if (!data) {
        buf->failed = true;
        return NULL;
    }
    buf->data = data;
    buf->capacity = capacity;
    return data + buf->size;
}

void buf_append(struct buf *buf, const void *data, size_t size)
{
    if (size == 0)
        return;
    uint8_t *end = buf_reserve(buf, size);
    if (!end)
        return;
    memcpy(end, data, size);
    buf->size += size;
}

void buf_append_str(struct buf *buf, struct str s)
{
    buf_append(buf, s.data, s.size);
}

void buf_append_c(struct buf *buf, const char *text)
{
    buf_append(buf, text, strlen(text));
}

void buf_append_u8(struct buf *buf, uint8_t v)
{
    buf_append(buf, &v, 1);
}

void buf_append_u16(struct buf *buf, uint16_t v)
{
    uint8_t bytes[2];
    bytes_put_u16(bytes, v);
    buf_append(buf, bytes, sizeof(bytes));
}

void buf_append_u32(struct buf *buf, uint32_t v)
{
    uint8_t bytes[4];
    bytes_put_u32(bytes, v);
    buf_append(buf, bytes, sizeof(bytes));
}

void buf_append_u64(struct buf *buf, uint64_t v)
{
    uint8_t bytes[8];
    bytes_put_u64(bytes, v);
    buf_append(buf, bytes, sizeof(bytes));
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    char small[256];
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int wanted = vsnprintf(small, sizeof(small), format, args);
    va_end(args);

    if (wanted < 0) {
        buf->failed = true;
    } else if ((size_t)wanted < sizeof(small)) {
        buf_append(buf, small, (size_t)wanted);
    } else {
        char *text = malloc((size_t)wanted + 1);
        if (text) {
            vsnprintf(text, (size_t)wanted + 1, format, again);
            buf_append(buf, text, (size_t)wanted);
            free(text);
        } else {
            buf->failed = true;
        }
    }
    va_end(again);
}

void buf_consume(struct buf *buf, size_t size)
{
    if (size >= buf->size) {
        buf->size = 0;
        return;
    }
    if (size == 0)
        return;
    memmove(buf->data, buf->data + size, buf->size - size);
    buf->size -= size;
}
