/*
 * tell - `filad -s`: tells the running master what to do and waits for what comes of it.
 */
#ifndef FILAD_MASTER_TELL_H
#define FILAD_MASTER_TELL_H

#include "conf/options.h"

/* Finds the master of the configuration by its control socket, or else by its pid file, and sends
 * what options->signal says. stop and quit return when the master has ended, reload with its
 * verdict. The exit status; a failure has been said on standard error. */
int tell_run(const struct options *options);

#endif
