/*
 * daemon - going to the background, the pid file, and the lock on a store.
 */
#ifndef FILAD_OS_DAEMON_H
#define FILAD_OS_DAEMON_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/err.h"

/* Goes on in the background: returns in a new process without a terminal, the leader of nothing,
 * with standard input and output on /dev/null. The process that was started does not return: it
 * waits and exits with 0 after daemon_ready, or with 1 after daemon_failed, whose text it prints on
 * standard error, or when the background process ends without a word. The new process is in the
 * directory / and has nothing open but standard input, output and error: call it before anything is
 * opened and before any thread exists. The descriptor for the two functions below (close-on-exec),
 * or -1 in the process that called. */
int daemon_detach(struct err *err) __attribute__((warn_unused_result));

/* All is well. Unless `keep_stderr` (the log goes there), standard error goes to /dev/null. Closes
 * `fd`; -1, for a process in the foreground, does nothing. */
void daemon_ready(int fd, bool keep_stderr);
/* It did not work: `text`, one line without its end. Closes `fd`; -1 prints it here. The caller
 * ends the process. */
void daemon_failed(int fd, const char *text);

/* Writes the pid of this process to a pid file and keeps it locked through the descriptor
 * returned; -1 when another running process has it, or on failure. A file left by a process that is
 * gone is taken over. Forked children close the descriptor, otherwise they hold the lock too. */
int daemon_pid_open(const char *path, struct err *err) __attribute__((warn_unused_result));
/* Removes the pid file, if it still is the one opened as `fd`, and closes `fd`. */
void daemon_pid_remove(int fd, const char *path);
/* Whether a running process holds the pid file open as `fd`. It only asks: a start at the same
 * moment finds the file free. */
bool daemon_pid_held(int fd);
/* The pid in a pid file. Whether such a process runs is not looked at. */
int daemon_pid_read(const char *path, pid_t *pid, struct err *err)
    __attribute__((warn_unused_result));

/* Locks a file (flock on `path`, created 0600; never removed) and writes the pid of this process
 * into it. Waits up to `wait_ms` for the present holder; then the error names it. The lock is held
 * by every process that inherits the descriptor, until the last of them has ended: it is not closed
 * by fork. The descriptor, or -1. */
int daemon_lock(const char *path, uint64_t wait_ms, struct err *err)
    __attribute__((warn_unused_result));

#endif
