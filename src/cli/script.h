/*
 * script - options of several commands that are about the scripts and settings of queues.
 */
#ifndef FILAD_CLI_SCRIPT_H
#define FILAD_CLI_SCRIPT_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/args.h"

/* A script given as source or as @FILE. False after a complaint. *script is NULL when the option is
 * absent; otherwise it is owned by the caller. */
bool script_option(const struct args *args, const char *option, char **script);

/* --max-attempts; false after a complaint. *attempts stays when it is absent. */
bool script_attempts_option(const struct args *args, uint64_t *attempts);

#endif
