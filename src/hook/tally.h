/*
 * tally - the statistics that modules contribute, in memory shared by all processes. The master
 * makes it before it forks and enters modules in it; each process counts in values of its own, and
 * whoever reads adds them up. Entries stay as long as the broker, so that counters go on through a
 * reload.
 */
#ifndef FILAD_HOOK_TALLY_H
#define FILAD_HOOK_TALLY_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#define TALLY_ROWS 512 /* of all modules that were ever loaded */

struct hook_module;
struct hook_statistic;
struct tally;

/* For processes with the numbers 0 to `slots` - 1. NULL without memory. */
struct tally *tally_create(unsigned slots, struct err *err) __attribute__((warn_unused_result));
void tally_destroy(struct tally *tally); /* NULL is fine; in this process only */

/* Enters the rows of the modules (ended by NULL); those that are no longer among them are shown no
 * more, until they come back. In the master only. -1 when a name is bad or there are too many. */
int tally_enter(struct tally *tally, const struct hook_module *const *modules, struct err *err)
    __attribute__((warn_unused_result));

/* The values of a module in one process; NULL: it was not entered, or has no statistics. */
_Atomic uint64_t *tally_values(const struct tally *tally, const struct hook_module *module,
                               unsigned slot);

/* The process of the slot has ended: what it said in gauges is no more. */
void tally_ended(const struct tally *tally, unsigned slot);

/* Calls `visit` for each row of the modules entered last, with the sum over all processes. */
void tally_visit(const struct tally *tally,
                 void (*visit)(void *context, const struct hook_module *module,
                               const struct hook_statistic *row, uint64_t value),
                 void *context);

#endif
