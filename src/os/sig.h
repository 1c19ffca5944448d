/*
 * sig - signals as something to read from a descriptor.
 */
#ifndef FILAD_OS_SIG_H
#define FILAD_OS_SIG_H

#include "core/err.h"

/* Blocks `signals` in this thread (and in those it makes) and returns a non-blocking, close-on-exec
 * descriptor that becomes readable when one is pending; -1 on failure. Ones that were ignored when
 * the program was started are made deliverable. After a fork the child makes a descriptor of its
 * own. */
int sig_open(const int *signals, unsigned count, struct err *err)
    __attribute__((warn_unused_result));

/* The next pending signal; 0 when there is none. */
int sig_read(int fd) __attribute__((warn_unused_result));

/* Ignores a signal; for SIGPIPE. */
void sig_ignore(int signal);

/* For a child that is to start afresh: all signals as by default, none blocked. */
void sig_reset(void);

#endif
