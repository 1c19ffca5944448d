#include "cli/top_text.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Ranges that a terminal shows in two columns, roughly: what is not here costs beauty only. */
static const struct {
    uint32_t first, last;
} wide[] = {
    {0x1100, 0x115f}, {0x2e80, 0xa4cf}, {0xac00, 0xd7a3},   {0xf900, 0xfaff},   {0xfe30, 0xfe6f},
    {0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x1f300, 0x1faff}, {0x20000, 0x3fffd},
};

/* Takes one character off; *bytes: its size, *columns: its width; false: it is shown as '?'. */
static bool next_character(const char *text, bool utf8, unsigned *bytes, unsigned *columns)
{
    unsigned char first = (unsigned char)text[0];
    unsigned size = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    uint32_t character = size == 1 ? first : first & (0xffu >> (size + 1));
    *bytes = *columns = 1;
    if (size == 1)
        return first >= 0x20 && first != 0x7f;
    if (!utf8 || first < 0xc2 || first > 0xf4)
        return false;
    for (unsigned i = 1; i < size; i++) {
        if (((unsigned char)text[i] & 0xc0) != 0x80)
            return false;
        character = character << 6 | ((unsigned char)text[i] & 0x3f);
    }
    *bytes = size;
    if (character < 0xa0 || (character >= 0x200b && character <= 0x202e))
        return false;
    if (character >= 0x300 && character <= 0x36f)
        *columns = 0;
    for (size_t i = 0; i < sizeof(wide) / sizeof(wide[0]); i++)
        if (character >= wide[i].first && character <= wide[i].last)
            *columns = 2;
    return true;
}

unsigned text_width(const char *text, bool utf8)
{
    unsigned width = 0, bytes, columns;
    for (; *text; text += bytes) {
        (void)next_character(text, utf8, &bytes, &columns);
        width += columns;
    }
    return width;
}

void text_put(struct buf *out, const char *text, unsigned width, bool pad, bool utf8)
{
    unsigned used = 0, bytes, columns;
    bool cut = text_width(text, utf8) > width;
    unsigned room = cut && width ? width - 1 : width;
    for (; *text; text += bytes) {
        bool shown = next_character(text, utf8, &bytes, &columns);
        if (used + columns > room)
            break;
        if (shown)
            buf_append(out, text, bytes);
        else
            buf_append_u8(out, '?');
        used += columns;
    }
    if (cut && width) {
        buf_append_c(out, utf8 ? "\342\200\246" : "~");
        used++;
    }
    for (; pad && used < width; used++)
        buf_append_u8(out, ' ');
}

void text_put_character(char *text, size_t size, unsigned character)
{
    char bytes[5] = "";
    if (character < 0x80) {
        bytes[0] = (char)character;
    } else if (character < 0x800) {
        bytes[0] = (char)(0xc0 | character >> 6);
        bytes[1] = (char)(0x80 | (character & 0x3f));
    } else if (character < 0x10000) {
        bytes[0] = (char)(0xe0 | character >> 12);
        bytes[1] = (char)(0x80 | (character >> 6 & 0x3f));
        bytes[2] = (char)(0x80 | (character & 0x3f));
    } else {
        bytes[0] = (char)(0xf0 | character >> 18);
        bytes[1] = (char)(0x80 | (character >> 12 & 0x3f));
        bytes[2] = (char)(0x80 | (character >> 6 & 0x3f));
        bytes[3] = (char)(0x80 | (character & 0x3f));
    }
    if (strlen(text) + strlen(bytes) < size)
        strcat(text, bytes);
}

void text_duration(char text[16], double ms)
{
    if (ms < 10)
        snprintf(text, 16, "%.1fms", ms);
    else if (ms < 1000)
        snprintf(text, 16, "%.0fms", ms);
    else if (ms < 60e3)
        snprintf(text, 16, "%.1fs", ms / 1e3);
    else if (ms < 3600e3)
        snprintf(text, 16, "%.0fmin", ms / 60e3);
    else if (ms < 48 * 3600e3)
        snprintf(text, 16, "%.0fh", ms / 3600e3);
    else
        snprintf(text, 16, "%.0fd", ms / 86400e3 < 99999 ? ms / 86400e3 : 99999);
}

void text_number(char text[16], double value)
{
    static const char units[] = "kMGTPE";
    if (value < 9.95 && value != (double)(unsigned)value) {
        snprintf(text, 16, "%.1f", value);
        return;
    }
    if (value < 9999.5) {
        snprintf(text, 16, "%.0f", value);
        return;
    }
    unsigned unit = 0;
    for (value /= 1000; value >= 999.95 && unit + 2 < sizeof(units); unit++)
        value /= 1000;
    snprintf(text, 16, value < 99.95 ? "%.1f%c" : "%.0f%c", value, units[unit]);
}

void text_sparkline(struct buf *out, const float *values, size_t count, unsigned width, bool utf8)
{
    static const char *const blocks[] = {"\342\226\201", "\342\226\202", "\342\226\203",
                                         "\342\226\204", "\342\226\205", "\342\226\206",
                                         "\342\226\207", "\342\226\210"};
    static const char ascii[] = "_.-:=+*#";
    size_t from = count > width ? count - width : 0;
    float most = 0;
    for (size_t i = from; i < count; i++)
        most = values[i] > most ? values[i] : most;
    for (size_t i = count - from; i < width; i++)
        buf_append_u8(out, ' ');
    for (size_t i = from; i < count; i++) {
        unsigned level = most > 0 && values[i] > 0 ? (unsigned)(values[i] / most * 7 + 0.5f) : 0;
        level = level > 7 ? 7 : level;
        if (values[i] > 0 && level == 0)
            level = 1; /* something is not nothing */
        if (utf8)
            buf_append_c(out, blocks[level]);
        else
            buf_append_u8(out, (uint8_t)ascii[level]);
    }
}
