/*
 * workers - keeps as many workers alive as the configuration asks for; those that fail quickly come
 * back after growing pauses, those that end for their configuration do not.
 */
#ifndef FILAD_MASTER_WORKERS_H
#define FILAD_MASTER_WORKERS_H

#include "master/state.h"

#define WORKERS_PAUSE_MS 100
#define WORKERS_PAUSE_MAX_MS 5000
#define WORKERS_QUICK_MAX 5 /* quick failures in a row that end a start */

/* Forks what is missing, as far as the store and the pauses allow; arms a timer for the rest. */
void workers_fill(struct master *master);

void workers_ready(struct process *process);

/* `process` is the entry in the table, free already; `ended` what was in it. A reason when the
 * broker cannot go on without it, else NULL. */
const char *workers_ended(struct master *master, const struct process *process,
                          const struct process *ended, int status);

/* True when every worker that is asked for has said READY. */
bool workers_all_ready(const struct master *master);

#endif
