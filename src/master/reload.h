/*
 * reload - exchanging the configuration of a running broker: the new one is loaded and everything
 * it names is checked and opened, new workers are forked with it, and only when all of them are
 * READY do the old ones drain. Whatever goes wrong before that changes nothing.
 */
#ifndef FILAD_MASTER_RELOAD_H
#define FILAD_MASTER_RELOAD_H

#include "core/err.h"
#include "master/state.h"

#define RELOAD_READY_MS 30000 /* time of the new workers to become READY */

int reload_create(struct master *master, struct err *err) __attribute__((warn_unused_result));
void reload_destroy(struct master *master);

/* The number of the reload that will serve a request made now: one under way has read its
 * configuration already. */
uint64_t reload_ticket(const struct master *master);

/* Begins a reload; one that is asked for while another runs begins after it. Its end is told to
 * control_reload_done, possibly before this returns. */
void reload_request(struct master *master);

/* Workers may be forked (again): goes on with what waits for that. */
void reload_continue(struct master *master);

/* The master stops: gives a reload up. Its workers stay in the table and are stopped as all. */
void reload_abort(struct master *master);

/* About workers that are `fresh`. */
void reload_worker_ready(struct process *process);
void reload_worker_failed(struct process *process, const char *reason);
void reload_worker_ended(struct master *master, const struct process *process);

/* In a child: closes the listeners of the reload but for those of `keep`. */
void reload_forget(struct master *master, const struct listeners *keep);

#endif
