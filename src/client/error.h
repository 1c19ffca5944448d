/*
 * error - filling the struct fila_error of a caller.
 */
#ifndef FILAD_CLIENT_ERROR_H
#define FILAD_CLIENT_ERROR_H

#include "core/str.h"
#include "fibp/status.h"
#include "fibp/wire.h"
#include "fila.h"

/* Replaces what is in `error` (which may be NULL) and returns -1. */
int error_set(struct fila_error *error, enum fila_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "format: " before the present text. Returns -1. */
int error_prefix(struct fila_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A failure that the server reported in a result: its code, and `text` or the code's own. */
int error_set_status(struct fila_error *error, uint8_t wire_code, struct str text);

/* Decodes the body of an Error frame into `error`, metadata included. Always returns -1: a body
 * that does not decode becomes FILA_PROTOCOL. */
int error_set_frame(struct fila_error *error, struct str body);

/* FILA_PROTOCOL: an answer of the server that does not decode. */
int error_set_reader(struct fila_error *error, const char *what, const struct wire_reader *reader);

/* A deep copy; metadata is left out when there is no memory for it. */
void error_copy(struct fila_error *to, const struct fila_error *from);

/* The library's code for one of the protocol. */
enum fila_code error_code_from_wire(uint8_t wire_code);

#endif
