/*
 * hooking - when hooks run on the loop: not before it knows the latest settings, and for 20 ms in
 * one turn of the loop at most, so that scripts never keep other connections waiting for long. What
 * cannot go on waits in line for the next turn.
 */
#ifndef FILAD_WORKER_HOOKING_H
#define FILAD_WORKER_HOOKING_H

#include <stdbool.h>
#include <stdint.h>

#include "core/list.h"

struct sessions;

/* Work that runs hooks; embedded in its owner. */
struct hooking {
    struct list list; /* private: in sessions->hookings while it waits */
    /* Goes on while hooking_may_run. True: it is done, and may be freed already. */
    bool (*run)(struct hooking *hooking);
};

/* True when new work may run its first hook at once; otherwise it has to wait in line. */
bool hooking_may_begin(const struct sessions *sessions);
/* True when the next hook may run. */
bool hooking_may_run(const struct sessions *sessions);
/* To be called after a hook that takes time, with the monotonic ns before it. */
void hooking_ran(struct sessions *sessions, uint64_t began_ns);

/* Puts work at the end of the line. */
void hooking_wait(struct sessions *sessions, struct hooking *hooking);
/* Takes it off; it may not be in line. */
void hooking_cancel(struct hooking *hooking);

/* What the turn of the tick does: the line, as far as there is time. */
void hooking_turn(struct sessions *sessions);
/* And at its end: the next turn has all the time again. */
void hooking_end_turn(struct sessions *sessions);

#endif
