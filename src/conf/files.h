/*
 * files - what a configuration names in the system: directories, the log, users.
 */
#ifndef FILAD_CONF_FILES_H
#define FILAD_CONF_FILES_H

#include "conf/errors.h"

struct conf;

/* Tests what the configuration names without changing it: user and group exist (when run as root),
 * directories are there or can be created, the log can be opened. -1 with every mistake added. */
int conf_check_files(const struct conf *conf, struct conf_errors *errors)
    __attribute__((warn_unused_result));

#endif
