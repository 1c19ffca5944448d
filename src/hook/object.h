/*
 * object - modules in shared objects. What was loaded stays in memory as long as the process, so
 * that nothing of it goes away under those who use it.
 */
#ifndef FILAD_HOOK_OBJECT_H
#define FILAD_HOOK_OBJECT_H

#include "core/err.h"

struct hook_module;

/* The module that the object exports as `filad_module` (HOOK_MODULE with FILAD_DYNAMIC_MODULE); of
 * an object that was loaded before, the same one. NULL with the reason when it cannot be loaded: a
 * file or directory that others may write, a file that has changed since it was loaded, names that
 * this broker lacks, another signature. */
const struct hook_module *object_load(const char *path, struct err *err)
    __attribute__((warn_unused_result));

/* The file that a module came from; NULL: it is built in. */
const char *object_path(const struct hook_module *module);

#endif
