#include "hook/breaker.h"

#define PLACES 16u /* where the breaker of a queue may stand, from its first place on */

_Static_assert(sizeof(struct hook_breaker) == sizeof(struct zone_breaker), "see sched/zone.h");

static struct hook_breaker *place(struct zone *zone, uint64_t queue_id, unsigned number)
{
    struct zone_breaker *place = &zone->breakers[(queue_id + number) % ZONE_BREAKERS];
    return (struct hook_breaker *)place;
}

static struct hook_breaker *find(struct zone *zone, uint64_t queue_id)
{
    for (unsigned i = 0; i < PLACES; i++) {
        struct hook_breaker *breaker = place(zone, queue_id, i);
        if (atomic_load(&breaker->queue_id) == queue_id)
            return breaker;
    }
    return NULL;
}

struct hook_breaker *breaker_of(struct zone *zone, uint64_t queue_id)
{
    struct hook_breaker *breaker = find(zone, queue_id);
    for (unsigned i = 0; i < PLACES && !breaker; i++) {
        struct hook_breaker *free = place(zone, queue_id, i);
        uint64_t nobody = 0;
        if (atomic_compare_exchange_strong(&free->queue_id, &nobody, queue_id) ||
            nobody == queue_id)
            breaker = free;
    }
    return breaker;
}

static void give_back(struct hook_breaker *breaker)
{
    atomic_store(&breaker->failures, 0);
    atomic_store(&breaker->open_until_ms, 0);
    atomic_store(&breaker->queue_id, 0);
}

void breaker_free(struct zone *zone, uint64_t queue_id)
{
    for (struct hook_breaker *breaker; (breaker = find(zone, queue_id));)
        give_back(breaker);
}

void breaker_sweep(struct zone *zone, const struct scheduler *scheduler)
{
    uint64_t kept[ZONE_BREAKERS / 64] = {0};
    for (unsigned i = 0; i < ZONE_QUEUES; i++) {
        const struct queue *queue = atomic_load(&scheduler->queues[i]);
        const struct hook_breaker *breaker = queue ? find(zone, queue->id) : NULL;
        if (breaker) {
            size_t index = (size_t)((const struct zone_breaker *)breaker - zone->breakers);
            kept[index / 64] |= UINT64_C(1) << index % 64;
        }
    }
    for (unsigned i = 0; i < ZONE_BREAKERS; i++) {
        struct hook_breaker *breaker = place(zone, i, 0);
        if (atomic_load(&breaker->queue_id) && !(kept[i / 64] >> i % 64 & 1))
            give_back(breaker);
    }
}
