/*
 * settings - what the loop of a worker knows of the store: runtime configuration and the scripts of
 * queues, in tables of its own, which the store thread's messages keep up to date. Loop thread
 * only.
 *
 * A change has a number in the zone before it is answered. While the loop has not heard of the
 * latest, no hook may run: what was answered is in force everywhere.
 */
#ifndef FILAD_WORKER_SETTINGS_H
#define FILAD_WORKER_SETTINGS_H

#include "broker/operation.h"
#include "core/err.h"
#include "hook/hook.h"
#include "sched/zone.h"

struct settings;

struct settings *settings_create(struct zone *zone, struct err *err)
    __attribute__((warn_unused_result));
void settings_destroy(struct settings *settings); /* NULL is fine */

/* Acts on an OPERATION_SETTINGS and takes what it holds; tells `hooks` (may be NULL) of queues that
 * are gone. The operation stays the caller's. */
void settings_take(struct settings *settings, struct operation_settings *operation,
                   const struct hook_set *hooks);

/* True when nothing has changed that is not known here. */
bool settings_is_current(const struct settings *settings);

/* NULL when the queue has no scripts or is not there. Valid until settings_take. */
const struct hook_queue *settings_queue(const struct settings *settings, struct str name);
/* False when the key is not set. The value is valid until settings_take. */
bool settings_config(const struct settings *settings, struct str key, struct str *value);

/* What modules may ask for; `settings` must outlive them. */
struct hook_services settings_services(struct settings *settings);

#endif
