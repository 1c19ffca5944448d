/*
 * process - the master's table of children: their messages, their ends, and telling them things.
 */
#ifndef FILAD_MASTER_PROCESS_H
#define FILAD_MASTER_PROCESS_H

#include <stdint.h>

#include "event/channel.h"
#include "master/state.h"

/* Callbacks of struct process, for spawn.c. */
void process_ready(struct loop_watch *watch, uint32_t events);
void process_deadline(struct loop_timer *timer);

/* Sends; a child that cannot be told anything is killed. */
void process_send(struct process *process, enum channel_type type, uint64_t value);
/* To every child. */
void process_send_all(struct master *master, enum channel_type type, uint64_t value);

/* SIGKILL. Its end comes by process_reap, as all do. */
void process_kill(struct process *process);
/* The same for what may still touch the store: of a worker that shed its threads, what it left. */
void process_kill_store(struct process *process);

/* Tells a worker to stop or to drain and gives it `deadline_ms` for it. */
void process_retire(struct process *process, enum channel_type type, uint64_t deadline_ms);

/* "worker 0 (4711)". Returns `text`. */
const char *process_name(const struct process *process, char text[48]);

/* Meets every child that has ended. */
void process_reap(struct master *master);

/* Workers that live, those that drain included. */
unsigned process_count_workers(const struct master *master);

#endif
