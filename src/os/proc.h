/*
 * proc - what a process is to the kernel and to the user who looks at it with ps.
 */
#ifndef FILAD_OS_PROC_H
#define FILAD_OS_PROC_H

#include <stdint.h>
#include <sys/types.h>

#include "core/err.h"

/* Makes room for titles, which are written over the arguments and the environment; both are copied
 * first. Call it once, before another thread exists. Returns the arguments to use from then on
 * (owned here); NULL without memory, then titles only change the name below. */
char **proc_title_init(int argc, char **argv);
/* What ps shows: "filad: worker 0"; `name` is the short form of at most 15 bytes (top,
 * /proc/N/comm). */
void proc_title(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Orphans below this process become its children, so that it can wait for them. */
int proc_set_subreaper(struct err *err) __attribute__((warn_unused_result));
/* `signal` for this process when the thread that forked it ends. Changing the user clears it: call
 * it after priv_drop. -1 also when `parent` is gone already. */
int proc_set_death_signal(int signal, pid_t parent, struct err *err)
    __attribute__((warn_unused_result));

/* The limit of open files of this process. */
uint64_t proc_nofile(void);
/* Raises the limit of open files to `wanted` (0: as far as it goes; never lowers it), the hard
 * limit too where that is allowed. *got: the limit then, which may be less than wanted. */
int proc_raise_nofile(uint64_t wanted, uint64_t *got, struct err *err)
    __attribute__((warn_unused_result));

/* Calls `each` for every open descriptor of this process with what it leads to: a path, to which
 * " (deleted)" may be added, or words such as "socket:[4711]". `each` may close it. */
int proc_each_descriptor(void (*each)(void *context, int fd, const char *target), void *context,
                         struct err *err) __attribute__((warn_unused_result));
/* Calls `each` for every mapping of a file in this process's memory. `each` may unmap it. */
int proc_each_mapping(void (*each)(void *context, void *start, size_t size, const char *path),
                      void *context, struct err *err) __attribute__((warn_unused_result));

/* CPUs that this process may run on; at least 1. */
unsigned proc_cpu_count(void);

#define PROC_STATUS_SIZE 64

/* A status of waitpid in words: "exited with 2", "killed by signal 9 (SIGKILL)". Returns `text`. */
const char *proc_status_text(int status, char text[PROC_STATUS_SIZE]);

#endif
