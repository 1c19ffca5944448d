/*
 * top_model - what fila top shows: the newest numbers of all queues with their rates, in which
 * order and from where on they are seen, and how that looks on a screen of some size. It knows no
 * terminal and no connection.
 */
#ifndef FILAD_CLI_TOP_MODEL_H
#define FILAD_CLI_TOP_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"

#define TOP_HISTORY 60 /* rates that are kept of each queue */
#define TOP_FILTER_MAX 64
#define TOP_BUCKETS_MAX 256 /* of the histogram of commit times; more are left out */

enum top_field {
    TOP_DEPTH,
    TOP_IN_FLIGHT,
    TOP_DELAYED,
    TOP_HELD,
    TOP_CONSUMERS,
    TOP_DEAD_LETTERS,
    TOP_PAUSED,
    TOP_WAIT_P99_MS,
    TOP_SINCE_MS,
    TOP_ENQUEUED, /* counters */
    TOP_ACKED,
    TOP_FIELDS
};

/* The names under which the broker sends them. */
extern const char *const top_fields[TOP_FIELDS];

struct top_queue {
    char *name;
    uint64_t numbers[TOP_FIELDS];
    float enqueue_rate, ack_rate; /* per second, since the sample before */
    float enqueue_history[TOP_HISTORY], ack_history[TOP_HISTORY]; /* newest last */
    uint8_t history;                                              /* how many are there */
};

struct top_bucket {
    uint64_t from, below, count;
};

/* All that was asked for at one time. */
struct top_sample {
    uint64_t at_ms; /* monotonic */
    uint64_t connections, up_ms;
    struct top_bucket commits[TOP_BUCKETS_MAX];
    size_t commit_count;
    struct top_queue *queues; /* in byte order of names */
    size_t count, room;
};

/* The next queue of a sample, zeros under a copy of `name`; NULL without memory. */
struct top_queue *top_sample_add(struct top_sample *sample, const char *name);
void top_sample_free(struct top_sample *sample); /* its content */

/* Not characters: above all code points. */
enum top_key {
    TOP_KEY_UP = 0x110000,
    TOP_KEY_DOWN,
    TOP_KEY_LEFT,
    TOP_KEY_RIGHT,
    TOP_KEY_PAGE_UP,
    TOP_KEY_PAGE_DOWN,
    TOP_KEY_HOME,
    TOP_KEY_END,
    TOP_KEY_ESCAPE,
    TOP_KEY_ENTER,
    TOP_KEY_BACKSPACE,
};

struct top_model;

/* `address` is shown and must outlive the model. NULL without memory. */
struct top_model *top_model_create(const char *address);
void top_model_free(struct top_model *model);

/* Takes the sample over. While it is paused, or the sample is of no use, it is dropped. */
void top_model_update(struct top_model *model, struct top_sample *sample);
/* There was no sample: what stands is old. */
void top_model_failed(struct top_model *model, const char *reason);
/* Samples that were taken over. */
unsigned top_model_samples(const struct top_model *model);

/* The newest one. */
const struct top_sample *top_model_now(const struct top_model *model);

/* A key was pressed; true: the user wants to leave. */
bool top_model_key(struct top_model *model, unsigned key);

struct top_look {
    unsigned columns, rows; /* rows 0: as many as there are queues, without the line of keys */
    bool utf8;              /* other than ASCII may be printed */
    bool colour;            /* with escape sequences for bold, reverse and colours */
};

/* Appends the screen: `rows` lines, each at most `columns` wide, with '\n' between them. */
void top_model_render(struct top_model *model, const struct top_look *look, struct buf *out);

#endif
