#include "sched/drr.h"

void drr_init(struct drr *drr, uint32_t quantum)
{
    list_init(&drr->active);
    drr->count = 0;
    drr->quantum = quantum ? quantum : 1;
}

void drr_key_init(struct drr_key *key, uint32_t weight)
{
    list_init(&key->ring);
    key->deficit = 0;
    key->weight = weight ? weight : 1;
    key->burst = 0;
    key->active = false;
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

void drr_set_weight(struct drr *drr, struct drr_key *key, uint32_t weight)
{
    key->weight = weight ? weight : 1;
    if (key->deficit > share(drr, key))
        key->deficit = share(drr, key);
}

struct drr_key *drr_front(const struct drr *drr)
{
    if (list_empty(&drr->active))
        return NULL;
    return CONTAINER_OF(drr->active.next, struct drr_key, ring);
}

void drr_charge(struct drr *drr, struct drr_key *key)
{
    key->deficit--;
    key->burst++;
    if (key->deficit > 0 && key->burst < key->weight)
        return;
    if (key->deficit <= 0)
        key->deficit += share(drr, key);
    key->burst = 0;
    list_remove(&key->ring);
    list_append(&drr->active, &key->ring);
}

void drr_refund(struct drr_key *key)
{
    if (key->active)
        key->deficit++;
}
