#include "sched/statistics.h"

#include <stdatomic.h>
#include <string.h>

#include "os/shm.h"
#include "os/time.h"

#define UNNAMED UINT64_MAX

struct statistics {
    uint64_t since_ms; /* wall clock */
    uint32_t first;    /* words of `taken` below this have no free bit */
    uint32_t used;     /* entries from here on were never taken: their pages are not touched */
    uint64_t taken[ZONE_QUEUES / 64];
    struct queue_statistics entries[ZONE_QUEUES];
    struct histogram waits[ZONE_QUEUES];
    struct histogram commits[ZONE_WORKERS];
    /* Used by a rebuild alone. Chains by id: index + 1 of the first one and of the next. */
    uint32_t heads[ZONE_QUEUES], next[ZONE_QUEUES];
};

struct statistics *statistics_map(struct err *err)
{
    struct statistics *statistics = shm_map(sizeof(*statistics), err);
    if (statistics)
        statistics->since_ms = time_wall_ms();
    return statistics;
}

void statistics_unmap(struct statistics *statistics)
{
    if (statistics)
        shm_unmap(statistics, sizeof(*statistics));
}

static void take(struct statistics *statistics, uint32_t index)
{
    statistics->taken[index / 64] |= UINT64_C(1) << index % 64;
}

/* Index + 1 of the one that the queue had before the rebuild, 0: none. */
static uint32_t find(const struct statistics *statistics, uint64_t id)
{
    uint32_t at = statistics->heads[id % ZONE_QUEUES];
    while (at && statistics->entries[at - 1].id != id)
        at = statistics->next[at - 1];
    return at;
}

/* The lowest one, so that few pages are used. During a rebuild those of before are not free. */
static uint32_t find_free(struct statistics *statistics)
{
    for (uint32_t word = statistics->first; word < ZONE_QUEUES / 64; word++) {
        for (uint64_t free = ~statistics->taken[word]; free; free &= free - 1) {
            uint32_t index = word * 64 + (uint32_t)__builtin_ctzll(free);
            if (!statistics->entries[index].id)
                return index + 1;
        }
        if (statistics->taken[word] == UINT64_MAX && word == statistics->first)
            statistics->first++;
    }
    return 0;
}

struct queue_statistics *statistics_take(struct statistics *statistics, uint64_t id,
                                         uint64_t now_ms)
{
    uint32_t at = id ? find(statistics, id) : 0;
    struct queue_statistics *entry = at ? &statistics->entries[at - 1] : NULL;
    if (!entry) {
        at = find_free(statistics);
        if (!at)
            return NULL;
        entry = &statistics->entries[at - 1];
        if (at > statistics->used)
            statistics->used = at;
        /* A process that dies here leaves no id beyond `used`, where a rebuild does not look. */
        atomic_signal_fence(memory_order_seq_cst);
        memset(entry, 0, sizeof(*entry));
        entry->since_ms = now_ms;
        entry->waits = &statistics->waits[at - 1];
        entry->id = id ? id : UNNAMED;
    }
    take(statistics, at - 1);
    return entry;
}

void statistics_name(struct queue_statistics *entry, uint64_t id)
{
    entry->id = id;
}

void statistics_give(struct statistics *statistics, struct queue_statistics *entry)
{
    uint32_t index = (uint32_t)(entry - statistics->entries);
    entry->id = 0;
    statistics->taken[index / 64] &= ~(UINT64_C(1) << index % 64);
    if (index / 64 < statistics->first)
        statistics->first = index / 64;
}

uint64_t statistics_since_ms(const struct statistics *statistics)
{
    return statistics->since_ms;
}

void statistics_waited(struct queue_statistics *entry, uint64_t wait_ms)
{
    if (!entry->waited++)
        memset(entry->waits, 0, sizeof(*entry->waits));
    histogram_record(entry->waits, wait_ms);
}

void statistics_waits(const struct queue_statistics *entry, struct histogram *waits)
{
    memset(waits, 0, sizeof(*waits));
    if (entry->waited)
        histogram_add(waits, entry->waits);
}

struct histogram *statistics_commits(struct statistics *statistics, unsigned slot)
{
    return &statistics->commits[slot];
}

void statistics_all_commits(const struct statistics *statistics, struct histogram *commits)
{
    memset(commits, 0, sizeof(*commits));
    for (unsigned i = 0; i < ZONE_WORKERS; i++)
        histogram_add(commits, &statistics->commits[i]);
}

void statistics_begin(struct statistics *statistics)
{
    statistics->first = 0;
    memset(statistics->taken, 0, sizeof(statistics->taken));
    memset(statistics->heads, 0, sizeof(statistics->heads));
    for (uint32_t i = 0; i < statistics->used; i++) {
        struct queue_statistics *entry = &statistics->entries[i];
        if (entry->id == UNNAMED)
            entry->id = 0;
        if (!entry->id)
            continue;
        uint32_t *head = &statistics->heads[entry->id % ZONE_QUEUES];
        statistics->next[i] = *head;
        *head = i + 1;
    }
}

void statistics_end(struct statistics *statistics)
{
    for (uint32_t i = 0; i < statistics->used; i++)
        if (!(statistics->taken[i / 64] >> i % 64 & 1))
            statistics->entries[i].id = 0;
    memset(statistics->heads, 0, sizeof(statistics->heads));
}
