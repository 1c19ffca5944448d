/*
 * err - a failure in words for a person, carried up from where it happened.
 *
 * Functions that can fail take a `struct err *` as last argument and return -1 (or NULL) after
 * filling it. Callers add what they were attempting with err_prefix() and pass it on, so that the
 * line that reaches the log reads from the outside in: "open store: catalog.db: Permission denied".
 */
#ifndef FILAD_CORE_ERR_H
#define FILAD_CORE_ERR_H

#define ERR_TEXT_SIZE 512

struct err {
    int code;                 /* errno or Berkeley DB return value; 0 when neither applies */
    char text[ERR_TEXT_SIZE]; /* NUL-terminated, one line, UTF-8, truncated when too long */
};

/* Fills `err` (which may be NULL) and returns -1, so that `return err_set(...)` reads well. */
int err_set(struct err *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* As err_set, and appends ": " and the text of errno value `number`. */
int err_set_errno(struct err *err, int number, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "format: " before the present text; the code stays. Returns -1. */
int err_prefix(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
