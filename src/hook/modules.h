/*
 * modules - those in force with a configuration: the ones built in, then the ones that it loads, in
 * the order of its list.
 */
#ifndef FILAD_HOOK_MODULES_H
#define FILAD_HOOK_MODULES_H

#include "conf/conf.h"

/* For conf_load_with. Refuses, with the place of its path, a module that cannot be loaded, and one
 * whose name or section is taken. */
int modules_find(struct pool *pool, const struct conf_module_file *files, size_t count,
                 struct conf_modules *modules, struct conf_errors *errors)
    __attribute__((warn_unused_result));

#endif
