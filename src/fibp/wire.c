#include "fibp/wire.h"

#include <stdio.h>

#include "core/bytes.h"
#include "core/utf8.h"

static const char wire_truncated[] = "truncated";

bool wire_fail(struct wire_reader *reader, const char *field, const char *reason)
{
    if (!reader->reason) {
        reader->reason = reason;
        reader->field = field;
    }
    return false;
}

void wire_describe(const struct wire_reader *reader, char *text, size_t size)
{
    if (reader->reason)
        snprintf(text, size, "%s: %s", reader->field, reader->reason);
    else
        snprintf(text, size, "no error");
}

/* The next `size` bytes, or NULL. */
static const uint8_t *wire_take(struct wire_reader *reader, const char *field, size_t size,
                                const char *reason)
{
    if (reader->reason)
        return NULL;
    if (size > wire_remaining(reader)) {
        wire_fail(reader, field, reason);
        return NULL;
    }
    const uint8_t *bytes = reader->at;
    reader->at += size;
    return bytes;
}

bool wire_u8(struct wire_reader *reader, const char *field, uint8_t *value)
{
    const uint8_t *bytes = wire_take(reader, field, 1, wire_truncated);
    *value = bytes ? bytes[0] : 0;
    return bytes != NULL;
}

bool wire_u16(struct wire_reader *reader, const char *field, uint16_t *value)
{
    const uint8_t *bytes = wire_take(reader, field, 2, wire_truncated);
    *value = bytes ? bytes_get_u16(bytes) : 0;
    return bytes != NULL;
}

bool wire_u32(struct wire_reader *reader, const char *field, uint32_t *value)
{
    const uint8_t *bytes = wire_take(reader, field, 4, wire_truncated);
    *value = bytes ? bytes_get_u32(bytes) : 0;
    return bytes != NULL;
}

bool wire_u64(struct wire_reader *reader, const char *field, uint64_t *value)
{
    const uint8_t *bytes = wire_take(reader, field, 8, wire_truncated);
    *value = bytes ? bytes_get_u64(bytes) : 0;
    return bytes != NULL;
}

bool wire_i64(struct wire_reader *reader, const char *field, int64_t *value)
{
    uint64_t bits;
    bool ok = wire_u64(reader, field, &bits);
    memcpy(value, &bits, sizeof(bits));
    return ok;
}

bool wire_f64(struct wire_reader *reader, const char *field, double *value)
{
    uint64_t bits;
    bool ok = wire_u64(reader, field, &bits);
    memcpy(value, &bits, sizeof(bits));
    return ok;
}

bool wire_bool(struct wire_reader *reader, const char *field, bool *value)
{
    uint8_t byte;
    bool ok = wire_u8(reader, field, &byte);
    *value = byte != 0;
    return ok;
}

bool wire_str(struct wire_reader *reader, const char *field, struct str *value)
{
    uint16_t size;
    *value = (struct str){NULL, 0};
    if (!wire_u16(reader, field, &size))
        return false;
    const uint8_t *bytes = wire_take(reader, field, size, "string runs past the end");
    if (!bytes)
        return false;
    if (!reader->trusted && !utf8_valid(str_of(bytes, size)))
        return wire_fail(reader, field, "not valid UTF-8");
    *value = str_of(bytes, size);
    return true;
}

bool wire_bytes(struct wire_reader *reader, const char *field, struct str *value)
{
    uint32_t size;
    *value = (struct str){NULL, 0};
    if (!wire_u32(reader, field, &size))
        return false;
    const uint8_t *bytes = wire_take(reader, field, size, "bytes run past the end");
    if (!bytes)
        return false;
    *value = str_of(bytes, size);
    return true;
}

bool wire_opt_str(struct wire_reader *reader, const char *field, bool *present, struct str *value)
{
    *value = (struct str){NULL, 0};
    if (!wire_bool(reader, field, present))
        return false;
    if (*present && !wire_str(reader, field, value)) {
        *present = false;
        return false;
    }
    return true;
}

bool wire_count32(struct wire_reader *reader, const char *field, size_t item_min, uint32_t *count)
{
    if (!wire_u32(reader, field, count))
        return false;
    if (*count > WIRE_COUNT_MAX) {
        *count = 0;
        return wire_fail(reader, field, "above 1000000");
    }
    if (*count > wire_remaining(reader) / item_min) {
        *count = 0;
        return wire_fail(reader, field, "more than the frame can hold");
    }
    return true;
}

bool wire_count16(struct wire_reader *reader, const char *field, size_t item_min, uint16_t *count)
{
    if (!wire_u16(reader, field, count))
        return false;
    if (*count > wire_remaining(reader) / item_min) {
        *count = 0;
        return wire_fail(reader, field, "more than the frame can hold");
    }
    return true;
}

/* Passes over `count` groups of `group` strings each. */
static bool wire_skip_strings(struct wire_reader *reader, const char *field, size_t group,
                              struct str *all, uint16_t *count)
{
    const uint8_t *start = reader->at;
    uint16_t found;
    struct str ignored;
    bool ok = wire_count16(reader, field, 2 * group, &found);
    for (size_t i = 0; ok && i < found * group; i++)
        ok = wire_str(reader, field, &ignored);
    if (all)
        *all = ok ? str_of(start, (size_t)(reader->at - start)) : (struct str){NULL, 0};
    if (count)
        *count = ok ? found : 0;
    return ok;
}

bool wire_map(struct wire_reader *reader, const char *field, struct str *map, uint16_t *count)
{
    return wire_skip_strings(reader, field, 2, map, count);
}

bool wire_strs(struct wire_reader *reader, const char *field, struct str *list, uint16_t *count)
{
    return wire_skip_strings(reader, field, 1, list, count);
}

bool wire_pair_next(struct wire_reader *reader, const char *field, struct wire_pair *pair)
{
    bool ok = wire_str(reader, field, &pair->key);
    return wire_str(reader, field, &pair->value) && ok;
}

void wire_put_str(struct buf *buf, struct str value)
{
    if (value.size > WIRE_STR_MAX) {
        buf->failed = true;
        return;
    }
    buf_append_u16(buf, (uint16_t)value.size);
    buf_append_str(buf, value);
}

void wire_put_text(struct buf *buf, struct str value)
{
    if (value.size > WIRE_STR_MAX)
        value.size = utf8_truncate(value, WIRE_STR_MAX);
    wire_put_str(buf, value);
}

void wire_put_bytes(struct buf *buf, struct str value)
{
    if (value.size > UINT32_MAX) {
        buf->failed = true;
        return;
    }
    buf_append_u32(buf, (uint32_t)value.size);
    buf_append_str(buf, value);
}

void wire_put_opt_str(struct buf *buf, bool present, struct str value)
{
    wire_put_bool(buf, present);
    if (present)
        wire_put_str(buf, value);
}

void wire_put_bool(struct buf *buf, bool value)
{
    buf_append_u8(buf, value ? 1 : 0);
}

void wire_put_i64(struct buf *buf, int64_t value)
{
    buf_append_u64(buf, (uint64_t)value);
}

void wire_put_f64(struct buf *buf, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    buf_append_u64(buf, bits);
}

void wire_put_map(struct buf *buf, const struct wire_pair *pairs, size_t count)
{
    if (count > WIRE_STR_MAX) {
        buf->failed = true;
        return;
    }
    buf_append_u16(buf, (uint16_t)count);
    for (size_t i = 0; i < count; i++) {
        wire_put_str(buf, pairs[i].key);
        wire_put_str(buf, pairs[i].value);
    }
}

void wire_put_strs(struct buf *buf, const struct str *values, size_t count)
{
    if (count > WIRE_STR_MAX) {
        buf->failed = true;
        return;
    }
    buf_append_u16(buf, (uint16_t)count);
    for (size_t i = 0; i < count; i++)
        wire_put_str(buf, values[i]);
}
