#include "sched/zone.h"

#include <errno.h>
#include <stddef.h>

#include "os/futex.h"
#include "os/shm.h"
#include "sched/statistics.h"

#define ARENA_ALIGN 65536u

struct zone *zone_map(uint64_t size, struct err *err)
{
    if (size < sizeof(struct zone)) {
        err_set(err, 0, "shared_memory: %llu bytes are too few, the header alone takes %zu",
                (unsigned long long)size, sizeof(struct zone));
        return NULL;
    }
    struct zone *zone = shm_map(size, err);
    if (!zone)
        return NULL;
    zone->statistics = statistics_map(err);
    if (!zone->statistics) {
        shm_unmap(zone, size);
        return NULL;
    }
    zone->magic = ZONE_MAGIC;
    zone->size = size;
    atomic_store(&zone->generation, 1);
    atomic_store(&zone->settings_generation, 1);
    atomic_store(&zone->state, ZONE_DOWN);
    return zone;
}

void zone_unmap(struct zone *zone)
{
    if (!zone)
        return;
    statistics_unmap(zone->statistics);
    shm_unmap(zone, zone->size);
}

void *zone_arena(struct zone *zone, uint64_t *size)
{
    uint64_t header = (sizeof(*zone) + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    *size = zone->size > header ? zone->size - header : 0;
    return (uint8_t *)zone + header;
}

static void clear_words(struct zone_slot *slot)
{
    for (unsigned i = 0; i < ZONE_THREADS; i++) {
        atomic_store(&slot->inside[i], 0);
        atomic_store(&slot->working[i], 0);
    }
}

void zone_slot_prepare(struct zone *zone, unsigned index)
{
    struct zone_slot *slot = &zone->slots[index];
    atomic_store(&slot->wake, 0);
    atomic_store(&slot->sleeping, 0);
    clear_words(slot);
    atomic_store(&slot->connections, 0);
    atomic_store(&slot->accepting, 0);
    atomic_store(&slot->catalog_seen, 0);
    atomic_fetch_add(&slot->incarnation, 1);
    for (unsigned i = 0; i < ZONE_QUEUES / 64; i++)
        atomic_store_explicit(&slot->ready[i], 0, memory_order_relaxed);
    for (unsigned i = 0; i < ZONE_QUEUES / 64 / 64; i++)
        atomic_store(&slot->ready_summary[i], 0);
    atomic_store(&slot->pid, -1); /* taken; the child or the master puts the real one */
}

int zone_slot_free(const struct zone *zone)
{
    for (int i = 0; i < ZONE_WORKERS; i++)
        if (atomic_load(&zone->slots[i].pid) == 0)
            return i;
    return -1;
}

bool zone_slot_inside(const struct zone *zone, unsigned slot)
{
    for (unsigned i = 0; i < ZONE_THREADS; i++)
        if (atomic_load(&zone->slots[slot].inside[i]))
            return true;
    return false;
}

void zone_slot_release(struct zone *zone, unsigned slot)
{
    clear_words(&zone->slots[slot]);
    atomic_store(&zone->slots[slot].connections, 0);
    atomic_store(&zone->slots[slot].accepting, 0);
    atomic_store(&zone->slots[slot].pid, 0);
}

void zone_slot_shed(struct zone *zone, unsigned slot, pid_t pid)
{
    clear_words(&zone->slots[slot]);
    atomic_store(&zone->slots[slot].sleeping, 0);
    atomic_store(&zone->slots[slot].pid, (int32_t)pid);
}

void zone_shut(struct zone *zone)
{
    atomic_store(&zone->state, ZONE_DOWN);
    atomic_fetch_add(&zone->generation, 1);
    for (unsigned i = 0; i < ZONE_SLOTS; i++)
        if (atomic_load(&zone->slots[i].pid) != 0)
            zone_wake(&zone->slots[i]);
    zone_wake_refill(zone);
}

bool zone_enter(struct zone *zone, unsigned slot, enum zone_thread thread, uint64_t generation)
{
    /* Sequentially consistent: the word is visible before the state is looked at, so that a master
     * which shut the zone and then finds the word clear knows that nobody is on the way in. */
    atomic_store(&zone->slots[slot].inside[thread], 1);
    if (atomic_load(&zone->state) == ZONE_UP && atomic_load(&zone->generation) == generation)
        return true;
    atomic_store(&zone->slots[slot].inside[thread], 0);
    return false;
}

void zone_leave(struct zone *zone, unsigned slot, enum zone_thread thread)
{
    atomic_store(&zone->slots[slot].inside[thread], 0);
}

void zone_wake(struct zone_slot *slot)
{
    atomic_fetch_add(&slot->wake, 1);
    if (atomic_load(&slot->sleeping))
        futex_wake(&slot->wake, 1);
}

void zone_wake_refill(struct zone *zone)
{
    atomic_fetch_add(&zone->refill_wake, 1);
    futex_wake(&zone->refill_wake, 1);
}

void zone_refill_by(struct zone *zone, uint64_t when_ns)
{
    if (when_ns < atomic_load(&zone->refill_until_ns))
        zone_wake_refill(zone);
}

void zone_sleep(struct zone_slot *slot, uint32_t seen, uint64_t timeout_ms)
{
    atomic_store(&slot->sleeping, 1);
    if (atomic_load(&slot->wake) == seen)
        futex_wait(&slot->wake, seen, timeout_ms);
    atomic_store(&slot->sleeping, 0);
}
