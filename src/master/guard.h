/*
 * guard - the recovery machine at work on real processes: what it decides is done here.
 */
#ifndef FILAD_MASTER_GUARD_H
#define FILAD_MASTER_GUARD_H

#include "core/err.h"
#include "master/state.h"

/* Makes master->recovery; nothing happens before its first event. */
int guard_create(struct master *master, struct err *err) __attribute__((warn_unused_result));

#endif
