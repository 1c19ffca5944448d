/*
 * wheel - a hierarchical timer wheel: O(1) insertion and removal for any number of entries. Times
 * are unsigned ticks of the caller's choice (leases: milliseconds of the monotonic clock). Raw
 * pointers and no allocation: it also lives in shared memory.
 *
 * Entries come out at or after their time, never before. Times beyond the horizon
 * (WHEEL_SLOTS ^ WHEEL_LEVELS ticks ahead) are parked in the last slot and looked at again.
 */
#ifndef FILAD_CORE_WHEEL_H
#define FILAD_CORE_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/list.h"

#define WHEEL_BITS 6
#define WHEEL_SLOTS (1u << WHEEL_BITS)
#define WHEEL_LEVELS 5 /* 2^30 ms: 12 days */

struct wheel_link {
    struct list list;
    uint64_t when; /* tick at which it is due */
};

struct wheel {
    uint64_t now;   /* all that is due before it is out; what is due at it may remain */
    uint64_t count; /* entries */
    uint64_t occupied[WHEEL_LEVELS]; /* bit per slot that holds entries */
    struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

void wheel_init(struct wheel *wheel, uint64_t now);
/* A `when` in the past is due at the next advance. */
void wheel_insert(struct wheel *wheel, struct wheel_link *link, uint64_t when);
void wheel_remove(struct wheel *wheel, struct wheel_link *link); /* it must be in the wheel */

/* Moves time on to `now` and appends at most `limit` due entries to `due` (their list member; they
 * are out of the wheel then). Returns how many; when it returns `limit`, call again: there may be
 * more. Time that goes back is ignored. */
uint32_t wheel_advance(struct wheel *wheel, uint64_t now, struct list *due, uint32_t limit);

/* The tick at which wheel_advance should be called next: never later than the first due time, and
 * possibly earlier. UINT64_MAX when empty. O(levels). */
uint64_t wheel_next(const struct wheel *wheel);

#endif
