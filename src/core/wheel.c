/*
 * An entry stands on the level of the highest group of WHEEL_BITS bits in which its time differs
 * from `now`, in the slot which that group names. So a level only holds slots ahead of the present
 * one, all of a level's slots start before any slot of the level above, and the next slot to look
 * at is the first occupied one of the lowest occupied level. The top level is a ring: a slot there
 * is 1 to WHEEL_SLOTS - 1 steps ahead.
 *
 * The present slot of level 0 holds what is due already.
 */
#include "core/wheel.h"

#include <stddef.h>

#define SLOT_MASK (WHEEL_SLOTS - 1)
#define TOP (WHEEL_LEVELS - 1)

static unsigned level_shift(unsigned level)
{
    return level * WHEEL_BITS;
}

void wheel_init(struct wheel *wheel, uint64_t now)
{
    wheel->now = now;
    wheel->count = 0;
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        wheel->occupied[level] = 0;
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++)
            list_init(&wheel->slots[level][slot]);
    }
}

static void wheel_place(struct wheel *wheel, struct wheel_link *link)
{
    uint64_t when = link->when > wheel->now ? link->when : wheel->now;
    uint64_t differs = when ^ wheel->now;
    unsigned level = differs ? (63u - (unsigned)__builtin_clzll(differs)) / WHEEL_BITS : 0;
    uint64_t slot;
    if (level < TOP) {
        slot = when >> level_shift(level);
    } else {
        level = TOP;
        uint64_t present = wheel->now >> level_shift(TOP);
        uint64_t steps = (when >> level_shift(TOP)) - present;
        slot = present + (steps < SLOT_MASK ? steps : SLOT_MASK);
    }
    slot &= SLOT_MASK;
    list_append(&wheel->slots[level][slot], &link->list);
    wheel->occupied[level] |= 1ull << slot;
}

void wheel_insert(struct wheel *wheel, struct wheel_link *link, uint64_t when)
{
    link->when = when;
    wheel_place(wheel, link);
    wheel->count++;
}

void wheel_remove(struct wheel *wheel, struct wheel_link *link)
{
    struct list *next = link->list.next;
    if (next == link->list.prev) {
        /* The last of its slot: its neighbour on both sides is the head, which tells the slot. */
        size_t index = (size_t)(next - &wheel->slots[0][0]);
        wheel->occupied[index / WHEEL_SLOTS] &= ~(1ull << (index % WHEEL_SLOTS));
    }
    list_remove(&link->list);
    wheel->count--;
}

/* The first occupied slot of `level` ahead of the present one (or, on level 0, the present one
 * too): the tick at which it starts. The level must have one. */
static uint64_t level_next(const struct wheel *wheel, unsigned level)
{
    uint64_t present = wheel->now >> level_shift(level);
    unsigned at = (unsigned)(present & SLOT_MASK);
    uint64_t ahead = wheel->occupied[level];
    ahead = at ? ahead >> at | ahead << (WHEEL_SLOTS - at) : ahead;
    return (present + (unsigned)__builtin_ctzll(ahead)) << level_shift(level);
}

uint64_t wheel_next(const struct wheel *wheel)
{
    for (unsigned level = 0; level < WHEEL_LEVELS; level++)
        if (wheel->occupied[level])
            return level_next(wheel, level);
    return UINT64_MAX;
}

/* Hands out of the present slot of level 0. */
static uint32_t wheel_drain(struct wheel *wheel, struct list *due, uint32_t limit)
{
    unsigned slot = (unsigned)(wheel->now & SLOT_MASK);
    struct list *head = &wheel->slots[0][slot];
    uint32_t taken = 0;
    while (taken < limit && !list_empty(head)) {
        struct list *entry = head->next;
        list_remove(entry);
        list_append(due, entry);
        taken++;
    }
    if (list_empty(head))
        wheel->occupied[0] &= ~(1ull << slot);
    wheel->count -= taken;
    return taken;
}

/* Moves on to the next occupied slot at tick `now`; what it holds goes to lower levels. */
static void wheel_step(struct wheel *wheel, uint64_t now)
{
    unsigned level = 0;
    while (!wheel->occupied[level])
        level++;
    wheel->now = now;
    if (level == 0)
        return;
    unsigned slot = (unsigned)(now >> level_shift(level) & SLOT_MASK);
    struct list entries;
    list_init(&entries);
    list_splice(&entries, &wheel->slots[level][slot]);
    wheel->occupied[level] &= ~(1ull << slot);
    while (!list_empty(&entries)) {
        struct list *entry = entries.next;
        list_remove(entry);
        wheel_place(wheel, CONTAINER_OF(entry, struct wheel_link, list));
    }
}

uint32_t wheel_advance(struct wheel *wheel, uint64_t now, struct list *due, uint32_t limit)
{
    uint32_t taken = 0;
    for (;;) {
        taken += wheel_drain(wheel, due, limit - taken);
        if (taken == limit)
            return taken;
        uint64_t next = wheel_next(wheel);
        if (wheel->count == 0 || next > now)
            break;
        wheel_step(wheel, next);
    }
    if (now > wheel->now)
        wheel->now = now;
    return taken;
}
