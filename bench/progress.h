/*
 * progress - what is going on, on standard error: one line rewritten once a second on a terminal,
 * otherwise a line when something begins, every ten seconds while it goes on, and when it ends.
 * Also the place where SIGINT and SIGTERM are noticed.
 */
#ifndef FILAD_BENCH_PROGRESS_H
#define FILAD_BENCH_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

struct progress {
    bool terminal;
    char what[96];    /* what runs now: "W2 enqueue, 100 in flight" */
    const char *unit; /* of what is counted; static */
    uint64_t began_ns;
    uint64_t shown_ns; /* when the line was written last */
    uint64_t shown_count;
};

/* Also catches SIGINT and SIGTERM, whose only effect is that progress_tick fails, and ignores
 * SIGPIPE. */
void progress_init(struct progress *progress);

void progress_begin(struct progress *progress, const char *unit, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* To be called often with everything counted since progress_begin. -1 ("interrupted") after a
 * signal to stop. */
int progress_tick(struct progress *progress, uint64_t now_ns, uint64_t count, struct err *err)
    __attribute__((warn_unused_result));

/* Replaces the line of what ran by a lasting one. */
void progress_end(struct progress *progress, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* True after SIGINT or SIGTERM. */
bool progress_interrupted(void);

#endif
