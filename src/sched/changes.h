/*
 * changes - the latest changes of what the loops know of the store (runtime configuration, queues
 * with scripts), so that each worker reads what has changed and not everything. In the zone; all of
 * it under the catalog lock.
 *
 * Each change has a number, which zone.settings_generation counts up.
 */
#ifndef FILAD_SCHED_CHANGES_H
#define FILAD_SCHED_CHANGES_H

#include <stdint.h>

#include "core/str.h"
#include "sched/arena.h"

#define CHANGES_KEPT 1024u

enum change_kind {
    CHANGE_CONFIG, /* of the key `name` */
    CHANGE_QUEUE,  /* of the scripts of the queue `name`: changed, or gone with it */
};

struct change {
    uint8_t kind;    /* enum change_kind */
    struct str name; /* its memory is the arena's */
};

struct changes {
    uint64_t oldest; /* number of the oldest one kept */
    uint64_t next;   /* number of the next one */
    struct change ring[CHANGES_KEPT];
};

/* Begins without any; the next one gets the number `next`. */
void changes_init(struct changes *changes, uint64_t next);
/* Adds one. When the zone is full, none is kept: whoever asks has to read everything. */
void changes_add(struct changes *changes, struct arena *arena, enum change_kind kind,
                 struct str name);
/* NULL when it is not kept. */
const struct change *changes_get(const struct changes *changes, uint64_t number);

#endif
