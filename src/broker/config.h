/*
 * config - what a key and a value of the runtime configuration may be.
 */
#ifndef FILAD_BROKER_CONFIG_H
#define FILAD_BROKER_CONFIG_H

#include "core/str.h"

#define CONFIG_VALUE_MAX 65535u /* bytes: what a str of the protocol holds */

/* NULL when the key may be set to this value (empty: removed), else why not, static. A key is 1 to
 * CATALOG_CONFIG_KEY_MAX bytes of plain text; a value any text without NUL, unless a rule says more
 * of its key (sched/config_rule.h). */
const char *config_fault(struct str key, struct str value);

#endif
