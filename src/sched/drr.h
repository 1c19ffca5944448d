/*
 * drr - deficit round robin over fairness keys, spec/broker.md section 4, in constant time for any
 * number of keys.
 *
 * Keys with something to deliver stand in a ring. The front key delivers up to `weight` messages (a
 * burst) and goes to the back. Every message costs one of its deficit; a key whose deficit is used
 * up waits aside until all are, then a new round gives each weight * quantum. A key that becomes
 * active gets its share of the running round at once and enters at the back of the ring. Rounds are
 * applied to a key when it is next looked at, so that starting one costs nothing per key.
 *
 * Pure data, raw pointers: lives in the zone under the queue's lock.
 */
#ifndef FILAD_SCHED_DRR_H
#define FILAD_SCHED_DRR_H

#include <stdbool.h>
#include <stdint.h>

#include "core/list.h"

struct drr_key {
    struct list ring; /* in drr.active or drr.spent */
    int64_t deficit;  /* as of `round`; read it through drr_deficit */
    uint64_t round;
    uint32_t weight; /* at least 1 */
    uint32_t burst;  /* messages since it came to the front */
    bool active;     /* in one of the two lists */
};

struct drr {
    struct list active; /* the front delivers next */
    struct list spent;  /* deficit used up in this round */
    uint64_t round;
    uint64_t count; /* active keys, both lists */
    uint32_t quantum;
};

void drr_init(struct drr *drr, uint32_t quantum);
void drr_key_init(struct drr_key *key, uint32_t weight);

/* The key has something to deliver now. No effect when it is active already. */
void drr_activate(struct drr *drr, struct drr_key *key);
/* It has nothing any more, or may not deliver: its deficit is forgotten. */
void drr_deactivate(struct drr *drr, struct drr_key *key);
/* In force with the next burst and round. 0 counts as 1. */
void drr_set_weight(struct drr_key *key, uint32_t weight);

/* The key to deliver from now, NULL when none is active. Starts a round when all are spent. */
struct drr_key *drr_front(struct drr *drr);
/* How many messages the front key may deliver before another one's turn, at least 1. */
uint32_t drr_burst_left(const struct drr_key *key);
/* The front key delivers one message: moves it on when its burst or deficit is used up. */
void drr_charge(struct drr *drr, struct drr_key *key);
/* Undoes drr_charge for a message that turned out not to be there: the deficit is given back. */
void drr_refund(struct drr_key *key);

/* Deficit as of now. */
int64_t drr_deficit(const struct drr *drr, const struct drr_key *key);

#endif
