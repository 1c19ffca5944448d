/*
 * config_rule - keys of the runtime configuration that mean something to the broker itself, by
 * prefix. All others are only kept, for scripts.
 */
#ifndef FILAD_SCHED_CONFIG_RULE_H
#define FILAD_SCHED_CONFIG_RULE_H

#include <stdbool.h>

#include "core/str.h"

struct scheduler;

struct config_rule {
    const char *prefix; /* "throttle." */
    /* NULL when `name`, the key behind its prefix, may have this value; else why not, static. */
    const char *(*fault)(struct str name, struct str value);
    /* Makes the zone act on it, under the catalog lock; an empty value: it was removed. A value
     * that has a fault comes from an older program and is not applied. False: the zone is full. */
    bool (*apply)(struct scheduler *scheduler, struct str name, struct str value);
};

/* NULL when the value may be set: it has no fault, or no rule is about the key. */
const char *config_rule_fault(struct str key, struct str value);
/* Under the catalog lock. True also when no rule is about the key. */
bool config_rule_apply(struct scheduler *scheduler, struct str key, struct str value)
    __attribute__((warn_unused_result));

#endif
