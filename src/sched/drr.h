/*
 * drr - deficit round robin over fairness keys, spec/broker.md section 4, in constant time for any
 * number of keys.
 *
 * Keys with something to deliver stand in a ring. The front key delivers up to `weight` messages (a
 * burst) and goes to the back. Every message costs one of its deficit; a key whose deficit is used
 * up gets weight * quantum anew and goes to the back, too. A key that becomes active gets its share
 * at once and enters at the back. No key waits for others to use up theirs: with a barrier between
 * rounds, keys that come and go would keep the round, and everybody who is done with it, waiting
 * for ever.
 *
 * Pure data, raw pointers: lives in the zone under the queue's lock.
 */
#ifndef FILAD_SCHED_DRR_H
#define FILAD_SCHED_DRR_H

#include <stdbool.h>
#include <stdint.h>

#include "core/list.h"

struct drr_key {
    struct list ring; /* in drr.active */
    int64_t deficit;  /* messages until the next share; 0 while not active */
    uint32_t weight;  /* at least 1 */
    uint32_t burst;   /* messages since it came to the front */
    bool active;      /* in the ring */
};

struct drr {
    struct list active; /* the front delivers next */
    uint64_t count;     /* active keys */
    uint32_t quantum;
};

void drr_init(struct drr *drr, uint32_t quantum);
void drr_key_init(struct drr_key *key, uint32_t weight);

/* The key has something to deliver now. No effect when it is active already. */
void drr_activate(struct drr *drr, struct drr_key *key);
/* It has nothing any more, or may not deliver: its deficit is forgotten. */
void drr_deactivate(struct drr *drr, struct drr_key *key);
/* In force at once: a deficit above the new share is cut to it. 0 counts as 1. */
void drr_set_weight(struct drr *drr, struct drr_key *key, uint32_t weight);

/* The key to deliver from now, NULL when none is active. */
struct drr_key *drr_front(const struct drr *drr);
/* The front key delivers one message: moves it on when its burst or deficit is used up. */
void drr_charge(struct drr *drr, struct drr_key *key);
/* Undoes drr_charge for a message that turned out not to be there: the deficit is given back. */
void drr_refund(struct drr_key *key);

#endif
