#include "sched/scheduler.h"

#include <errno.h>
#include <string.h>

#include "os/shm.h"
#include "os/time.h"

struct scheduler *scheduler_create(struct zone *zone, uint32_t epoch, uint32_t quantum,
                                   uint32_t max_queues, struct err *err)
{
    uint64_t size = 0, seed[2];
    uint8_t *memory = zone_arena(zone, &size);
    atomic_store(&zone->scheduler, NULL);
    if (shm_discard(memory, size) != 0) {
        err_set_errno(err, errno, "clear the shared memory");
        return NULL;
    }
    uint64_t root = (sizeof(struct scheduler) + 4095) / 4096 * 4096;
    struct scheduler *scheduler = (struct scheduler *)(void *)memory;
    struct arena *arena =
        size > root ? arena_create(memory + root, size - root, &zone->generation) : NULL;
    if (!arena) {
        err_set(err, 0, "shared_memory: %llu bytes are too few for the scheduler",
                (unsigned long long)zone->size);
        return NULL;
    }
    time_entropy(seed);
    scheduler->magic = SCHEDULER_MAGIC;
    scheduler->epoch = epoch;
    scheduler->zone = zone;
    scheduler->arena = arena;
    scheduler->allocator = arena_hash_allocator(arena);
    scheduler->generation = atomic_load(&zone->generation);
    scheduler->seed = seed[0];
    scheduler->quantum = quantum;
    scheduler->max_queues = max_queues < ZONE_QUEUES ? max_queues : ZONE_QUEUES;
    lock_init(&scheduler->catalog_lock);
    lock_init(&scheduler->timer_lock);
    list_init(&scheduler->dead);
    changes_init(&scheduler->changes, atomic_load(&zone->settings_generation) + 1);
    heap_init(&scheduler->timers);
    heap_init(&scheduler->due);
    if (hash_init(&scheduler->names, &scheduler->allocator) != 0 ||
        throttle_table_init(scheduler) != 0) {
        err_set(err, 0, "shared_memory is too small");
        return NULL;
    }
    return scheduler;
}

enum lock_result scheduler_lock(struct scheduler *scheduler, struct lock *lock)
{
    enum lock_result result =
        lock_acquire(lock, &scheduler->zone->generation, scheduler->generation);
    if (result == LOCK_DIRTY) {
        /* Only a process that died with its word set can leave a lock like this; the master is
         * about to find out. Until then nobody may confirm anything. */
        uint32_t up = ZONE_UP;
        atomic_compare_exchange_strong(&scheduler->zone->state, &up, ZONE_DEAD);
    }
    return result;
}

bool scheduler_is_over(const struct scheduler *scheduler)
{
    return atomic_load(&scheduler->zone->generation) != scheduler->generation;
}

uint64_t scheduler_room(const struct scheduler *scheduler)
{
    uint64_t size = arena_size(scheduler->arena), used = arena_used(scheduler->arena);
    size -= size / 8;
    return used < size ? size - used : 0;
}

uint64_t scheduler_lease_room(const struct scheduler *scheduler)
{
    uint64_t size = arena_size(scheduler->arena), used = arena_used(scheduler->arena);
    return used < size ? size - used : 0;
}

bool scheduler_is_tight(const struct scheduler *scheduler)
{
    uint64_t size = arena_size(scheduler->arena);
    return arena_used(scheduler->arena) > size - size / 4;
}

struct queue *scheduler_find(const struct scheduler *scheduler, struct str name)
{
    struct hash_link *link = hash_find(&scheduler->names, str_hash(name, scheduler->seed));
    for (; link; link = hash_find_next(link)) {
        struct queue *queue = CONTAINER_OF(link, struct queue, by_name);
        if (str_equal(queue->name, name))
            return queue;
    }
    return NULL;
}

bool scheduler_add(struct scheduler *scheduler, struct queue *queue)
{
    if (scheduler->queue_count >= scheduler->max_queues)
        return false;
    for (uint32_t tried = 0; tried < ZONE_QUEUES; tried++) {
        uint32_t index = (scheduler->next_index + tried) % ZONE_QUEUES;
        if (atomic_load_explicit(&scheduler->queues[index], memory_order_relaxed))
            continue;
        queue->index = index;
        statistics_name(queue->statistics, queue->id);
        scheduler->next_index = (index + 1) % ZONE_QUEUES;
        hash_insert(&scheduler->names, &scheduler->allocator,
                    str_hash(queue->name, scheduler->seed), &queue->by_name);
        atomic_store(&scheduler->queues[index], queue);
        scheduler->queue_count++;
        return true;
    }
    return false;
}

static void wake_all(struct zone *zone)
{
    for (unsigned i = 0; i < ZONE_SLOTS; i++)
        if (atomic_load(&zone->slots[i].pid) != 0)
            zone_wake(&zone->slots[i]);
}

void scheduler_catalog_changed(struct scheduler *scheduler)
{
    atomic_fetch_add(&scheduler->zone->catalog_generation, 1);
    wake_all(scheduler->zone);
}

void scheduler_settings_changed(struct scheduler *scheduler, enum change_kind kind, struct str name)
{
    changes_add(&scheduler->changes, scheduler->arena, kind, name);
    atomic_store(&scheduler->zone->settings_generation, scheduler->changes.next - 1);
    wake_all(scheduler->zone);
}

void scheduler_settings_reset(struct scheduler *scheduler)
{
    uint64_t generation = atomic_load(&scheduler->zone->settings_generation) + 1;
    changes_init(&scheduler->changes, generation + 1);
    atomic_store(&scheduler->zone->settings_generation, generation);
}

void scheduler_kill(struct scheduler *scheduler, struct queue *queue)
{
    hash_remove(&scheduler->names, &queue->by_name);
    atomic_store(&queue->dead, true);
    queue->dead_since = atomic_load(&scheduler->zone->catalog_generation) + 1;
    list_append(&scheduler->dead, &queue->dead_link);
    if (scheduler_lock(scheduler, &scheduler->timer_lock) == LOCK_HELD) {
        heap_remove(&scheduler->timers, &queue->timer);
        heap_remove(&scheduler->due, &queue->due);
        lock_release(&scheduler->timer_lock);
    }
    scheduler->queue_count--;
    scheduler_catalog_changed(scheduler);
}

static bool let_go_by_all(const struct scheduler *scheduler, const struct queue *queue)
{
    if (atomic_load(&queue->pins))
        return false;
    for (unsigned i = 0; i < ZONE_SLOTS; i++) {
        const struct zone_slot *slot = &scheduler->zone->slots[i];
        if (i != ZONE_SLOT_HELPER && atomic_load(&slot->pid) != 0 &&
            atomic_load(&slot->catalog_seen) < queue->dead_since)
            return false;
    }
    return true;
}

void scheduler_reap(struct scheduler *scheduler, void (*freed)(void *context, uint64_t id),
                    void *context)
{
    LIST_EACH_SAFE(&scheduler->dead, entry)
    {
        struct queue *queue = CONTAINER_OF(entry, struct queue, dead_link);
        if (!let_go_by_all(scheduler, queue))
            continue;
        uint64_t id = queue->id;
        list_remove(&queue->dead_link);
        atomic_store(&scheduler->queues[queue->index], NULL);
        queue_destroy(queue);
        freed(context, id);
    }
}

void scheduler_want_sweep(struct scheduler *scheduler, struct queue *queue)
{
    atomic_store(&queue->sweep, QUEUE_SWEEP_WANTED);
    atomic_store(&scheduler->sweep, true);
}

bool scheduler_marker_holds(const struct scheduler *scheduler, const struct record_marker *marker)
{
    if (marker->epoch != scheduler->epoch || marker->slot >= ZONE_SLOTS ||
        marker->thread >= ZONE_THREADS)
        return false;
    uint64_t working = atomic_load(&scheduler->zone->slots[marker->slot].working[marker->thread]);
    return working && marker->work >= working;
}

void scheduler_notify(struct scheduler *scheduler, unsigned slot_index, uint32_t index)
{
    struct zone_slot *slot = &scheduler->zone->slots[slot_index];
    atomic_fetch_or(&slot->ready[index / 64], UINT64_C(1) << (index % 64));
    atomic_fetch_or(&slot->ready_summary[index / 4096], UINT64_C(1) << (index / 64 % 64));
    zone_wake(slot);
}

int scheduler_next_ready(struct scheduler *scheduler, unsigned slot_index)
{
    struct zone_slot *slot = &scheduler->zone->slots[slot_index];
    for (unsigned top = 0; top < ZONE_QUEUES / 4096; top++) {
        uint64_t summary = atomic_load_explicit(&slot->ready_summary[top], memory_order_relaxed);
        while (summary) {
            unsigned word = top * 64 + (unsigned)__builtin_ctzll(summary);
            /* The summary bit is cleared before the word is read: a bit set after is announced
             * anew. */
            atomic_fetch_and(&slot->ready_summary[top], ~(UINT64_C(1) << (word % 64)));
            uint64_t bits = atomic_load(&slot->ready[word]);
            if (bits) {
                unsigned bit = (unsigned)__builtin_ctzll(bits);
                atomic_fetch_and(&slot->ready[word], ~(UINT64_C(1) << bit));
                if (bits & (bits - 1))
                    atomic_fetch_or(&slot->ready_summary[top], UINT64_C(1) << (word % 64));
                return (int)(word * 64 + bit);
            }
            summary &= summary - 1;
        }
    }
    return -1;
}

void scheduler_timer_set(struct scheduler *scheduler, struct heap *heap, struct heap_node *node,
                         uint64_t when)
{
    if (when == UINT64_MAX || (node->linked && node->key <= when))
        return;
    if (scheduler_lock(scheduler, &scheduler->timer_lock) != LOCK_HELD)
        return;
    if (!node->linked || when < node->key) {
        bool first = !heap_first(heap) || when < heap_first(heap)->key;
        heap_update(heap, node, when);
        if (first)
            zone_wake(&scheduler->zone->slots[ZONE_SLOT_KEEPER]);
    }
    lock_release(&scheduler->timer_lock);
}

/* *node: the first one when it is due, taken out; else NULL. */
static enum lock_result take_due(struct scheduler *scheduler, struct heap *heap, uint64_t now,
                                 struct heap_node **node, uint64_t *when)
{
    *node = NULL;
    *when = UINT64_MAX;
    enum lock_result result = scheduler_lock(scheduler, &scheduler->timer_lock);
    if (result != LOCK_HELD)
        return result;
    struct heap_node *first = heap_first(heap);
    if (first)
        *when = first->key;
    if (first && first->key <= now) {
        heap_remove(heap, first);
        *node = first;
    }
    lock_release(&scheduler->timer_lock);
    return LOCK_HELD;
}

enum lock_result scheduler_timer_next(struct scheduler *scheduler, uint64_t now_ms,
                                      struct queue **queue, uint64_t *when_ms)
{
    struct heap_node *node = NULL;
    enum lock_result result = take_due(scheduler, &scheduler->timers, now_ms, &node, when_ms);
    *queue = node ? CONTAINER_OF(node, struct queue, timer) : NULL;
    return result;
}

enum lock_result scheduler_due_next(struct scheduler *scheduler, uint64_t wall_ms,
                                    struct queue **queue, uint64_t *when_ms)
{
    struct heap_node *node = NULL;
    enum lock_result result = take_due(scheduler, &scheduler->due, wall_ms, &node, when_ms);
    *queue = node ? CONTAINER_OF(node, struct queue, due) : NULL;
    return result;
}
