#include "sched/drr.h"

void drr_init(struct drr *drr, uint32_t quantum)
{
    list_init(&drr->active);
    list_init(&drr->spent);
    drr->round = 0;
    drr->count = 0;
    drr->quantum = quantum ? quantum : 1;
}

void drr_key_init(struct drr_key *key, uint32_t weight)
{
    list_init(&key->ring);
    key->deficit = 0;
    key->round = 0;
    key->burst = 0;
    key->active = false;
    drr_set_weight(key, weight);
}

static int64_t share(const struct drr *drr, const struct drr_key *key)
{
    return (int64_t)key->weight * drr->quantum;
}

void drr_activate(struct drr *drr, struct drr_key *key)
{
    if (key->active)
        return;
    key->active = true;
    key->burst = 0;
    key->round = drr->round;
    key->deficit = share(drr, key);
    list_append(&drr->active, &key->ring);
    drr->count++;
}

void drr_deactivate(struct drr *drr, struct drr_key *key)
{
    if (!key->active)
        return;
    list_remove(&key->ring);
    key->active = false;
    key->deficit = 0;
    key->burst = 0;
    drr->count--;
}

void drr_set_weight(struct drr_key *key, uint32_t weight)
{
    key->weight = weight ? weight : 1;
}

int64_t drr_deficit(const struct drr *drr, const struct drr_key *key)
{
    /* A key in a ring is at most one round behind: the next one starts only when all were spent. */
    return key->active && key->round < drr->round ? key->deficit + share(drr, key) : key->deficit;
}

struct drr_key *drr_front(struct drr *drr)
{
    if (list_empty(&drr->active)) {
        if (list_empty(&drr->spent))
            return NULL;
        list_splice(&drr->active, &drr->spent);
        drr->round++;
    }
    struct drr_key *key = CONTAINER_OF(drr->active.next, struct drr_key, ring);
    key->deficit = drr_deficit(drr, key);
    key->round = drr->round;
    return key;
}

uint32_t drr_burst_left(const struct drr_key *key)
{
    uint32_t left = key->weight > key->burst ? key->weight - key->burst : 1;
    if (key->deficit < (int64_t)left)
        left = key->deficit > 0 ? (uint32_t)key->deficit : 1;
    return left;
}

void drr_charge(struct drr *drr, struct drr_key *key)
{
    key->deficit--;
    key->burst++;
    if (key->deficit > 0 && key->burst < key->weight)
        return;
    key->burst = 0;
    list_remove(&key->ring);
    list_append(key->deficit > 0 ? &drr->active : &drr->spent, &key->ring);
}

void drr_refund(struct drr_key *key)
{
    if (key->active)
        key->deficit++;
}
