#include "core/utf8.h"

/* What may follow a lead byte: the count of continuation bytes and the range of the first of them,
 * which is what rules out overlong forms, surrogates and values above U+10FFFF. */
struct utf8_lead {
    uint8_t first, last;     /* lead bytes this row is for */
    uint8_t more;            /* continuation bytes */
    uint8_t lowest, highest; /* of the first continuation byte */
};

static const struct utf8_lead leads[] = {
    {0xc2, 0xdf, 1, 0x80, 0xbf}, {0xe0, 0xe0, 2, 0xa0, 0xbf}, {0xe1, 0xec, 2, 0x80, 0xbf},
    {0xed, 0xed, 2, 0x80, 0x9f}, {0xee, 0xef, 2, 0x80, 0xbf}, {0xf0, 0xf0, 3, 0x90, 0xbf},
    {0xf1, 0xf3, 3, 0x80, 0xbf}, {0xf4, 0xf4, 3, 0x80, 0x8f},
};

static bool utf8_is_continuation(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

/* The size of the character of two or more bytes at `p`; 0 when it is none. */
static size_t utf8_long_character(const uint8_t *p, size_t left)
{
    for (size_t i = 0; i < sizeof(leads) / sizeof(leads[0]); i++) {
        const struct utf8_lead *lead = &leads[i];
        if (*p < lead->first || *p > lead->last)
            continue;
        size_t size = 1 + (size_t)lead->more;
        if (left < size || p[1] < lead->lowest || p[1] > lead->highest)
            return 0;
        for (size_t k = 2; k < size; k++)
            if (!utf8_is_continuation(p[k]))
                return 0;
        return size;
    }
    return 0;
}

bool utf8_valid(struct str s)
{
    size_t at = 0;
    while (at < s.size) {
        uint64_t word;
        if (s.size - at >= sizeof(word)) {
            memcpy(&word, s.data + at, sizeof(word));
            if (!(word & 0x8080808080808080u)) {
                at += sizeof(word);
                continue;
            }
        }
        if (s.data[at] < 0x80) {
            at++;
            continue;
        }
        size_t size = utf8_long_character(s.data + at, s.size - at);
        if (size == 0)
            return false;
        at += size;
    }
    return true;
}

size_t utf8_truncate(struct str s, size_t limit)
{
    if (s.size <= limit)
        return s.size;
    size_t size = limit;
    while (size > 0 && utf8_is_continuation(s.data[size]))
        size--;
    return size;
}

size_t utf8_control(struct str s)
{
    if (s.size == 0)
        return 0;
    if (s.data[0] < 0x20 || s.data[0] == 0x7f)
        return 1;
    return s.size > 1 && s.data[0] == 0xc2 && s.data[1] >= 0x80 && s.data[1] < 0xa0 ? 2 : 0;
}

bool utf8_has_control(struct str s)
{
    for (size_t i = 0; i < s.size; i++)
        if (utf8_control(str_of(s.data + i, s.size - i)))
            return true;
    return false;
}
