/*
 * errors - the mistakes found in a configuration, each a line `FILE:LINE:COLUMN: reason`. All of
 * them are collected before anything is said, so that one run shows what has to be corrected; after
 * CONF_ERRORS_MAX only the count goes on.
 */
#ifndef FILAD_CONF_ERRORS_H
#define FILAD_CONF_ERRORS_H

#include <stddef.h>

#include "core/buf.h"

#define CONF_ERRORS_MAX 50

/* A place in a configuration text; line and column count from 1. */
struct conf_place {
    const char *file; /* owned by whoever made the place */
    size_t line;      /* 0: the file as a whole, printed as `FILE: reason` */
    size_t column;    /* in characters */
};

struct conf_errors {
    struct buf text;     /* the mistakes, each ended by a newline, control bytes escaped */
    struct buf warnings; /* the same, `FILE:LINE:COLUMN: warning: reason`, for what is
                          * accepted but unwise */
    size_t count;        /* mistakes, also those beyond CONF_ERRORS_MAX */
    size_t warning_count;
};

void conf_errors_init(struct conf_errors *errors);
void conf_errors_free(struct conf_errors *errors);

/* Adds one line. Returns -1, so that `return conf_errors_add(...)` reads well. */
int conf_errors_add(struct conf_errors *errors, struct conf_place place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void conf_errors_warn(struct conf_errors *errors, struct conf_place place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The beginning of a value, short enough to be quoted in a line. */
struct str conf_errors_clip(struct str value);

/* The lines as a C string that lives until the next call on `errors`: the mistakes, and when there
 * were more than are kept, a last line with the number left out. */
const char *conf_errors_text(struct conf_errors *errors);
const char *conf_errors_warnings(struct conf_errors *errors);

#endif
