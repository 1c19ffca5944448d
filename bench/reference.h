/*
 * reference - the figures of this benchmark under the names that the reference broker's benchmark
 * uses, so that both can be put side by side. What was measured differs where the two programs do:
 * theirs is one message a call through a client library, on another machine.
 */
#ifndef FILAD_BENCH_REFERENCE_H
#define FILAD_BENCH_REFERENCE_H

#include "session.h"

struct reference {
    const char *name; /* theirs; NULL ends the table */
    const char *unit;
    double theirs; /* as published (spec/broker.md section 20); 0: not published */
    const char *row;
    int figure;
    double factor; /* from our unit to theirs */
};

extern const struct reference reference_table[];

/* Our figure in the reference's unit. False when its row did not run. */
bool reference_value(const struct session *session, const struct reference *reference,
                     double *value);

#endif
