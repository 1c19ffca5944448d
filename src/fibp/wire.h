/*
 * wire - the primitive types of FIBP: big-endian integers, str (u16 length, UTF-8), bytes (u32
 * length), map (u16 count of str pairs), strs (u16 count of str), opt str (u8 presence, str), bool.
 *
 * Reading moves a cursor over bytes that somebody else owns; slices handed out point into them. The
 * first failure is recorded and sticks: every later read fails too, so a run of reads may be
 * checked once at its end. Nothing here allocates.
 */
#ifndef FILAD_FIBP_WIRE_H
#define FILAD_FIBP_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/str.h"

#define WIRE_STR_MAX 65535u     /* bytes of a str, entries of a map or list */
#define WIRE_COUNT_MAX 1000000u /* items of a request or answer with a u32 count */

struct wire_reader {
    const uint8_t *at, *end;
    const char *reason; /* NULL: no failure yet; else static text: "string runs past the end" */
    const char *field;  /* static name of the field that failed; set together with reason */
    bool trusted;       /* the bytes passed a check before: skip UTF-8 validation, not bounds */
};

/* One str pair of a map. */
struct wire_pair {
    struct str key, value;
};

static inline void wire_reader_init(struct wire_reader *reader, struct str bytes)
{
    /* Never a null pointer: arithmetic on it would be undefined for an empty body. */
    static const uint8_t nothing[1];
    reader->at = bytes.size ? bytes.data : nothing;
    reader->end = reader->at + bytes.size;
    reader->reason = NULL;
    reader->field = NULL;
    reader->trusted = false;
}

static inline size_t wire_remaining(const struct wire_reader *reader)
{
    return (size_t)(reader->end - reader->at);
}

/* Records a failure (the first one stays) and returns false. Both texts must be static. */
bool wire_fail(struct wire_reader *reader, const char *field, const char *reason);

/* "queue: string runs past the end" for an Error frame; NUL-terminated, cut to `size`. */
void wire_describe(const struct wire_reader *reader, char *text, size_t size);

/* All return false when the bytes end too early or are not valid; `field` is static text that names
 * what is read. On failure the output is zero or empty. */
bool wire_u8(struct wire_reader *reader, const char *field, uint8_t *value);
bool wire_u16(struct wire_reader *reader, const char *field, uint16_t *value);
bool wire_u32(struct wire_reader *reader, const char *field, uint32_t *value);
bool wire_u64(struct wire_reader *reader, const char *field, uint64_t *value);
bool wire_i64(struct wire_reader *reader, const char *field, int64_t *value);
bool wire_f64(struct wire_reader *reader, const char *field, double *value);
bool wire_bool(struct wire_reader *reader, const char *field, bool *value);
bool wire_str(struct wire_reader *reader, const char *field, struct str *value);
bool wire_bytes(struct wire_reader *reader, const char *field, struct str *value);
/* Absent: *present false, *value empty. Any non-zero presence byte means present. */
bool wire_opt_str(struct wire_reader *reader, const char *field, bool *present, struct str *value);

/* A u32 or u16 item count that is at most what the remaining bytes can hold with `item_min` bytes
 * an item; the u32 one is at most WIRE_COUNT_MAX as well. */
bool wire_count32(struct wire_reader *reader, const char *field, size_t item_min, uint32_t *count);
bool wire_count16(struct wire_reader *reader, const char *field, size_t item_min, uint16_t *count);

/* Passes over a whole map or list and checks every string in it. `map`: the bytes from the u16
 * count to the last value; either output may be NULL. */
bool wire_map(struct wire_reader *reader, const char *field, struct str *map, uint16_t *count);
bool wire_strs(struct wire_reader *reader, const char *field, struct str *list, uint16_t *count);
bool wire_pair_next(struct wire_reader *reader, const char *field, struct wire_pair *pair);

/* Writing appends to a buffer; a failure shows in buf->failed. wire_put_str, wire_put_bytes and
 * wire_put_map refuse (failed is set) what their length field cannot express. */
void wire_put_str(struct buf *buf, struct str value);
/* For texts meant for a person: cut on a character boundary when too long. */
void wire_put_text(struct buf *buf, struct str value);
void wire_put_bytes(struct buf *buf, struct str value);
void wire_put_opt_str(struct buf *buf, bool present, struct str value);
void wire_put_bool(struct buf *buf, bool value);
void wire_put_i64(struct buf *buf, int64_t value);
void wire_put_f64(struct buf *buf, double value);
void wire_put_map(struct buf *buf, const struct wire_pair *pairs, size_t count);
void wire_put_strs(struct buf *buf, const struct str *values, size_t count);

#endif
