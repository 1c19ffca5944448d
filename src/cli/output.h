/*
 * output - what fila prints: JSON, and tables for people.
 */
#ifndef FILAD_CLI_OUTPUT_H
#define FILAD_CLI_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ---- JSON ----
 * Values are written one after the other; commas come by themselves. `name` is NULL inside an
 * array. */

#define OUTPUT_DEPTH_MAX 8

struct output_json {
    FILE *file;
    unsigned depth;
    bool filled[OUTPUT_DEPTH_MAX]; /* by depth: something stands before the next value */
};

void output_json_init(struct output_json *json, FILE *file);
void output_object(struct output_json *json, const char *name);
void output_object_end(struct output_json *json);
void output_array(struct output_json *json, const char *name);
void output_array_end(struct output_json *json);
void output_text(struct output_json *json, const char *name, const void *text, size_t size);
void output_c_text(struct output_json *json, const char *name, const char *text);
void output_unsigned(struct output_json *json, const char *name, uint64_t value);
void output_signed(struct output_json *json, const char *name, int64_t value);
void output_bool(struct output_json *json, const char *name, bool value);
void output_null(struct output_json *json, const char *name);
void output_double(struct output_json *json, const char *name, double value);
/* A string under `name` when the bytes are valid UTF-8, else base64 under `name`_base64. */
void output_bytes(struct output_json *json, const char *name, const void *data, size_t size);
/* Ends a line: one JSON value a line. */
void output_line(struct output_json *json);

/* ---- for people ---- */

/* Text of others in a terminal: control bytes are shown as \xNN, so that it cannot move the cursor.
 * Padded with blanks on the right to `width` characters. */
void output_safe(FILE *file, const char *text, size_t width);
/* The characters that output_safe prints for it without padding. */
size_t output_safe_width(const char *text);
/* The larger of that and `width`: for a column that all its texts fit. */
size_t output_safe_widest(size_t width, const char *text);

#endif
