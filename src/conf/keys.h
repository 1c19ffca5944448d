/*
 * keys - the table of every configuration key that belongs to no module.
 */
#ifndef FILAD_CONF_KEYS_H
#define FILAD_CONF_KEYS_H

#include "conf/schema.h"

/* Offsets are into struct conf (conf/conf.h). Ended by a row of type SCHEMA_END. */
extern const struct schema_key conf_keys[];

#endif
