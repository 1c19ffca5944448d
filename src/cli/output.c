#include "cli/output.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/utf8.h"

void output_json_init(struct output_json *json, FILE *file)
{
    *json = (struct output_json){.file = file};
}

static void json_string(FILE *file, const uint8_t *text, size_t size)
{
    static const char escapes[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    fputc('"', file);
    for (size_t i = 0; i < size; i++) {
        const char *escape = text[i] ? strchr(escapes, text[i]) : NULL;
        /* Pairs of a byte and its letter: only the first of a pair is a match. */
        if (escape && (escape - escapes) % 2 == 0)
            fprintf(file, "\\%c", escape[1]);
        else if (utf8_control(str_of(text + i, size - i)) == 1)
            fprintf(file, "\\u%04x", text[i]);
        else if (utf8_control(str_of(text + i, size - i)) == 2)
            fprintf(file, "\\u%04x", text[++i]); /* U+0080 to U+009F are in their second byte */
        else
            fputc(text[i], file);
    }
    fputc('"', file);
}

static void json_before(struct output_json *json, const char *name)
{
    if (json->filled[json->depth])
        fputs(", ", json->file);
    json->filled[json->depth] = true;
    if (name) {
        json_string(json->file, (const uint8_t *)name, strlen(name));
        fputs(": ", json->file);
    }
}

static void json_open(struct output_json *json, const char *name, char bracket)
{
    json_before(json, name);
    fputc(bracket, json->file);
    if (json->depth + 1 < OUTPUT_DEPTH_MAX)
        json->depth++;
    json->filled[json->depth] = false;
}

static void json_close(struct output_json *json, char bracket)
{
    fputc(bracket, json->file);
    if (json->depth > 0)
        json->depth--;
}

void output_object(struct output_json *json, const char *name)
{
    json_open(json, name, '{');
}

void output_object_end(struct output_json *json)
{
    json_close(json, '}');
}

void output_array(struct output_json *json, const char *name)
{
    json_open(json, name, '[');
}

void output_array_end(struct output_json *json)
{
    json_close(json, ']');
}

void output_text(struct output_json *json, const char *name, const void *text, size_t size)
{
    json_before(json, name);
    json_string(json->file, text, size);
}

void output_c_text(struct output_json *json, const char *name, const char *text)
{
    output_text(json, name, text, strlen(text));
}

void output_unsigned(struct output_json *json, const char *name, uint64_t value)
{
    json_before(json, name);
    fprintf(json->file, "%" PRIu64, value);
}

void output_signed(struct output_json *json, const char *name, int64_t value)
{
    json_before(json, name);
    fprintf(json->file, "%" PRId64, value);
}

void output_bool(struct output_json *json, const char *name, bool value)
{
    json_before(json, name);
    fputs(value ? "true" : "false", json->file);
}

void output_null(struct output_json *json, const char *name)
{
    json_before(json, name);
    fputs("null", json->file);
}

void output_double(struct output_json *json, const char *name, double value)
{
    json_before(json, name);
    if (isfinite(value))
        fprintf(json->file, "%.17g", value);
    else
        fputs("null", json->file); /* JSON has no other word for it */
}

static void json_base64(FILE *file, const uint8_t *data, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    fputc('"', file);
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t group = (uint32_t)data[i] << 16;
        if (left > 1)
            group |= (uint32_t)data[i + 1] << 8;
        if (left > 2)
            group |= data[i + 2];
        fputc(digits[group >> 18], file);
        fputc(digits[group >> 12 & 63], file);
        fputc(left > 1 ? digits[group >> 6 & 63] : '=', file);
        fputc(left > 2 ? digits[group & 63] : '=', file);
    }
    fputc('"', file);
}

void output_bytes(struct output_json *json, const char *name, const void *data, size_t size)
{
    char longer[64];
    if (utf8_valid(str_of(data, size))) {
        output_text(json, name, data, size);
        return;
    }
    snprintf(longer, sizeof(longer), "%s_base64", name);
    json_before(json, longer);
    json_base64(json->file, data, size);
}

void output_line(struct output_json *json)
{
    fputc('\n', json->file);
    json->depth = 0;
    json->filled[0] = false;
}

/* How many bytes of the text are shown as numbers. */
static size_t safe_hides(const char *text)
{
    return utf8_control(str_of(text, text[0] ? 1 + (text[1] != 0) : 0));
}

size_t output_safe_width(const char *text)
{
    size_t width = 0;
    while (*text) {
        size_t hidden = safe_hides(text);
        width += 4 * hidden;
        if (!hidden && ((unsigned char)*text & 0xc0) != 0x80)
            width++; /* continuation bytes of a character take no column */
        text += hidden ? hidden : 1;
    }
    return width;
}

size_t output_safe_widest(size_t width, const char *text)
{
    size_t own = output_safe_width(text);
    return own > width ? own : width;
}

void output_safe(FILE *file, const char *text, size_t width)
{
    size_t used = output_safe_width(text);
    while (*text) {
        size_t hidden = safe_hides(text);
        if (!hidden)
            fputc(*text++, file);
        for (; hidden; hidden--)
            fprintf(file, "\\x%02x", (unsigned char)*text++);
    }
    for (; used < width; used++)
        fputc(' ', file);
}
