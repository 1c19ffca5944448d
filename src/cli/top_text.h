/*
 * top_text - pieces of text of a known width on the screen.
 */
#ifndef FILAD_CLI_TOP_TEXT_H
#define FILAD_CLI_TOP_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"

/* Columns that the text takes with text_put. Bytes that are no printable text, and without `utf8`
 * all that is not ASCII, take one each. */
unsigned text_width(const char *text, bool utf8);

/* Appends at most `width` columns of it; longer text ends with a mark. `pad`: exactly as many.
 * Control characters become '?': text of others cannot move the cursor. */
void text_put(struct buf *out, const char *text, unsigned width, bool pad, bool utf8);

/* Appends one character, UTF-8, to a string of `size` bytes, when it fits. */
void text_put_character(char *text, size_t size, unsigned character);

/* "0.3 ms", "12 ms", "1.5 s", "3 min", "2 h", "5 d". */
void text_duration(char text[16], double ms);

/* "7", "9999", "12.3k", "450M": at most 5 characters up to 10^20. */
void text_number(char text[16], double value);

/* The newest `width` of the values as a line of blocks (ASCII without `utf8`), to the right; from 0
 * to the largest of them. */
void text_sparkline(struct buf *out, const float *values, size_t count, unsigned width, bool utf8);

#endif
