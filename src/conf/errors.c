#include "conf/errors.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/utf8.h"

/* One line is never longer than this, whatever a value holds. */
#define LINE_SIZE 1024
#define CLIP_SIZE 80

void conf_errors_init(struct conf_errors *errors)
{
    buf_init(&errors->text, 0);
    buf_init(&errors->warnings, 0);
    errors->count = 0;
    errors->warning_count = 0;
}

void conf_errors_free(struct conf_errors *errors)
{
    buf_free(&errors->text);
    buf_free(&errors->warnings);
    errors->count = 0;
    errors->warning_count = 0;
}

/* Values come from a file: no byte of theirs may steer a terminal or begin a line. */
static void append_escaped(struct buf *out, const char *line)
{
    for (const unsigned char *byte = (const unsigned char *)line; *byte != 0; byte++) {
        if (*byte < 0x20 || *byte == 0x7f)
            buf_printf(out, "\\x%02x", *byte);
        else if (byte[0] == 0xc2 && byte[1] >= 0x80 && byte[1] < 0xa0)
            buf_printf(out, "\\x%02x", *++byte);
        else
            buf_append_u8(out, *byte);
    }
}

static void add_line(struct buf *out, struct conf_place place, const char *kind, const char *format,
                     va_list arguments)
{
    char line[LINE_SIZE];
    (void)vsnprintf(line, sizeof(line), format, arguments);
    append_escaped(out, place.file);
    if (place.line > 0)
        buf_printf(out, ":%zu:%zu", place.line, place.column);
    buf_append_c(out, ": ");
    buf_append_c(out, kind);
    append_escaped(out, line);
    buf_append_u8(out, '\n');
}

int conf_errors_add(struct conf_errors *errors, struct conf_place place, const char *format, ...)
{
    if (++errors->count <= CONF_ERRORS_MAX) {
        va_list arguments;
        va_start(arguments, format);
        add_line(&errors->text, place, "", format, arguments);
        va_end(arguments);
    }
    return -1;
}

void conf_errors_warn(struct conf_errors *errors, struct conf_place place, const char *format, ...)
{
    if (++errors->warning_count <= CONF_ERRORS_MAX) {
        va_list arguments;
        va_start(arguments, format);
        add_line(&errors->warnings, place, "warning: ", format, arguments);
        va_end(arguments);
    }
}

struct str conf_errors_clip(struct str value)
{
    return str_of(value.data, utf8_truncate(value, CLIP_SIZE));
}

/* Ends the text with `tail` and a NUL behind its size, so that later lines overwrite them. */
static const char *terminated(struct buf *text, const char *tail)
{
    size_t tail_size = strlen(tail) + 1;
    uint8_t *end = buf_reserve(text, tail_size);
    if (end == NULL)
        return "out of memory\n";
    memcpy(end, tail, tail_size);
    return (const char *)text->data;
}

const char *conf_errors_text(struct conf_errors *errors)
{
    char tail[64] = "";
    if (errors->count > CONF_ERRORS_MAX)
        (void)snprintf(tail, sizeof(tail), "and %zu more\n", errors->count - CONF_ERRORS_MAX);
    return terminated(&errors->text, tail);
}

const char *conf_errors_warnings(struct conf_errors *errors)
{
    return terminated(&errors->warnings, "");
}
