/*
 * hostile - bytes that no good client sends, and what the broker has to answer to each. A case is
 * played on a connection of its own.
 */
#ifndef FILAD_TESTS_HOSTILE_H
#define FILAD_TESTS_HOSTILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"
#include "core/str.h"

enum hostile_answer {
    HOSTILE_FRAME,   /* one frame of `opcode`, with `code` when it is an Error */
    HOSTILE_SILENCE, /* none */
    HOSTILE_GOAWAY,  /* the preface dialect's refusal, in whose words `text` occurs */
    /* Frames of any kind that are well formed; the connection is shut for writing after the input
     * and has to end. */
    HOSTILE_ANYTHING,
};

enum hostile_way {
    HOSTILE_WHOLE,    /* as few segments as it takes */
    HOSTILE_BYTEWISE, /* a segment for each byte */
    HOSTILE_HALF,     /* whole, then shut for writing: the connection ends after the answer */
    HOSTILE_RESET,    /* whole, then reset: nothing can be expected */
};

struct hostile_expected {
    enum hostile_answer answer;
    uint8_t opcode, code;
    uint32_t request_id;
    bool closes; /* the broker ends the connection then; else a Ping is answered on it */
    const char *text;
};

struct hostile_case {
    char name[160];
    struct buf input;
    struct hostile_expected expected;
    enum hostile_way way;
    bool greeted; /* the handshake comes first */
    bool heavy;   /* so large that it is played less often */
};

struct hostile_table {
    struct hostile_case *cases;
    size_t count, room;
};

/* All cases: the vectors of tests/vectors/malformed.txt and those made here. -1 when a vector
 * cannot be read or nothing is known about what it should do. They use the queues named in
 * hostile_queues and none else, but for those that mutated requests may create. */
int hostile_table_make(struct hostile_table *table, struct err *err);
void hostile_table_free(struct hostile_table *table);

/* Queues to be created before, NULL ends. */
extern const char *const hostile_queues[];

/* A new case; its input is to be filled. */
struct hostile_case *hostile_add(struct hostile_table *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* One frame at the end of the buffer. */
void hostile_frame(struct buf *out, uint8_t opcode, uint8_t flags, uint32_t request_id,
                   struct str body);

/* Plays one case against a listener. -1 with what was wrong; the error starts with its name. */
int hostile_play(const struct hostile_case *item, const char *address, struct err *err);

/* What every case leaves behind has to be a broker that serves: a new client stores, receives and
 * confirms a message in `queue`. The time that took goes to *ns. */
int hostile_serve(const char *address, const char *queue, uint64_t *ns, struct err *err);

#endif
