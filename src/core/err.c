#define _GNU_SOURCE 1 /* strerror_r */

#include "core/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/utf8.h"

/* Formatting happens in a buffer a little larger than the result, so that a truncated text shows
 * whether its last character was cut. */
#define WORK_SIZE (ERR_TEXT_SIZE + 8)

/* Writes into `work` behind `used` bytes; returns the bytes in use after that. */
static size_t work_append(char work[WORK_SIZE], size_t used, const char *format, va_list args)
{
    int wanted = vsnprintf(work + used, WORK_SIZE - used, format, args);
    if (wanted < 0) {
        work[used] = '\0';
        return used;
    }
    size_t room = WORK_SIZE - used - 1;
    return used + ((size_t)wanted < room ? (size_t)wanted : room);
}

static size_t work_append_c(char work[WORK_SIZE], size_t used, const char *text)
{
    size_t room = WORK_SIZE - used - 1;
    size_t size = strlen(text);
    if (size > room)
        size = room;
    memcpy(work + used, text, size);
    work[used + size] = '\0';
    return used + size;
}

/* Makes `work` the text of `err`: one line, whole characters. */
static void err_take(struct err *err, const char work[WORK_SIZE], size_t size)
{
    size = utf8_truncate(str_of(work, size), ERR_TEXT_SIZE - 1);
    for (size_t i = 0; i < size; i++)
        err->text[i] = work[i] == '\n' || work[i] == '\r' ? ' ' : work[i];
    err->text[size] = '\0';
}

int err_set(struct err *err, int code, const char *format, ...)
{
    if (!err)
        return -1;
    char work[WORK_SIZE];
    va_list args;
    va_start(args, format);
    size_t size = work_append(work, 0, format, args);
    va_end(args);
    err->code = code;
    err_take(err, work, size);
    return -1;
}

int err_set_errno(struct err *err, int number, const char *format, ...)
{
    if (!err)
        return -1;
    char work[WORK_SIZE], reason[128];
    va_list args;
    va_start(args, format);
    size_t size = work_append(work, 0, format, args);
    va_end(args);
    size = work_append_c(work, size, ": ");
    size = work_append_c(work, size, strerror_r(number, reason, sizeof(reason)));
    err->code = number;
    err_take(err, work, size);
    return -1;
}

int err_prefix(struct err *err, const char *format, ...)
{
    if (!err)
        return -1;
    char work[WORK_SIZE];
    va_list args;
    va_start(args, format);
    size_t size = work_append(work, 0, format, args);
    va_end(args);
    size = work_append_c(work, size, ": ");
    size = work_append_c(work, size, err->text);
    err_take(err, work, size);
    return -1;
}
