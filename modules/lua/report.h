/*
 * report - keeps scripts from filling the log: a few lines at once, then one in a while, which
 * says how many were left out.
 */
#ifndef FILAD_LUA_REPORT_H
#define FILAD_LUA_REPORT_H

#include <stdbool.h>
#include <stdint.h>

struct report_rate {
    uint64_t interval_ms; /* between lines in the long run */
    uint64_t burst;       /* lines at once */
};

/* Zeros to begin with. */
struct report {
    uint64_t due_ms; /* when all that was written has been paid for */
    uint64_t left_out;
};

/* Whether a line may be written now. *left_out is how many were not, since the last that was. */
bool report_allows(struct report *report, const struct report_rate *rate, uint64_t now_ms,
                   uint64_t *left_out);

#endif
