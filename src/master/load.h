/*
 * load - the configuration that a command line names, with the sections of the modules that it has.
 */
#ifndef FILAD_MASTER_LOAD_H
#define FILAD_MASTER_LOAD_H

#include "conf/conf.h"
#include "conf/options.h"

/* As conf_load. NULL with every mistake in `errors`. */
struct conf *load_conf(const struct options *options, struct conf_errors *errors)
    __attribute__((warn_unused_result));

/* Checks a configuration that is to be used, and what the broker would find around it: the files it
 * names (conf_check_files) and the environment. 0, or -1 with every mistake in `errors`. */
int load_check(const struct conf *conf, struct conf_errors *errors)
    __attribute__((warn_unused_result));

/* Prints the mistakes and, unless `quiet`, the warnings on standard error. */
void load_report(struct conf_errors *errors, bool quiet);

#endif
