/*
 * settings - what the loop of a worker knows of the store, on its way up: runtime configuration and
 * the scripts of queues.
 */
#ifndef FILAD_BROKER_SETTINGS_H
#define FILAD_BROKER_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/hash.h"
#include "core/str.h"
#include "hook/hook.h"
#include "sched/changes.h"

/* One key, or one queue; malloc, all that it points to lies behind it. The store thread makes it,
 * the loop keeps it in its tables without copying. */
struct setting {
    struct hash_link link; /* the loop's */
    struct setting *next;
    uint64_t round;          /* the loop's */
    uint8_t kind;            /* enum change_kind */
    bool gone;               /* the key is not set; the queue is not there or has no scripts */
    struct str name;         /* key, or name of the queue */
    struct str value;        /* of a key */
    struct hook_queue queue; /* of a queue that is not gone */
};

/* Frees a chain; NULL is fine. */
void settings_free(struct setting *first);

#endif
