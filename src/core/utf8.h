/*
 * utf8 - validation by RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
 */
#ifndef FILAD_CORE_UTF8_H
#define FILAD_CORE_UTF8_H

#include <stdbool.h>

#include "core/str.h"

bool utf8_valid(struct str s);

/* The size of the control character that `s` begins with: U+0000 to U+001F, U+007F, or, of two
 * bytes, U+0080 to U+009F, which terminals obey as well; 0 when it begins with none. */
size_t utf8_control(struct str s);
bool utf8_has_control(struct str s);

/* The longest prefix of at most `limit` bytes that does not cut a character of valid `s`. */
size_t utf8_truncate(struct str s, size_t limit);

#endif
