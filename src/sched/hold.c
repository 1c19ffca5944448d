#include "sched/hold.h"

#include <stdlib.h>
#include <string.h>

#include "os/futex.h"
#include "os/time.h"

#define KEY_THROTTLES 2  /* of each throttle key: a bucket and a limit */
#define RELEASE_BATCH 64 /* lanes under one holding of a queue's lock */
#define COUNT_BATCH 500  /* lanes looked at under one */
#define ROUNDS_MAX 1000  /* of one throttle in one run */
#define NS_PER_MS 1000000u
#define AT_ONCE 0 /* a time that is past */

/* --- which throttles concern a lane --- */

static unsigned room_for(const struct lane *lane)
{
    return KEY_THROTTLES * lane->throttle_count + 1u;
}

static unsigned add(struct throttle **found, unsigned count, struct throttle *throttle,
                    struct scheduler *scheduler)
{
    if (!throttle)
        return count;
    for (unsigned i = 0; i < count; i++)
        if (found[i] == throttle) { /* a key that is named twice takes one */
            throttle_release(scheduler, throttle);
            return count;
        }
    found[count] = throttle;
    return count + 1;
}

/* Each with a reference. */
static unsigned find_throttles(struct scheduler *scheduler, const struct lane *lane,
                               struct throttle **found)
{
    struct str name = str_of(lane->key->name, lane->key->name_size);
    struct str packed = str_of(lane->throttle_keys, lane->throttle_size);
    unsigned count = 0;
    if (!atomic_load(&scheduler->throttles.count))
        return 0;
    count = add(found, count, throttle_acquire(scheduler, THROTTLE_LIMIT, name), scheduler);
    for (unsigned i = 0; i < lane->throttle_count; i++) {
        name = record_throttle_next(&packed);
        count = add(found, count, throttle_acquire(scheduler, THROTTLE_LIMIT, name), scheduler);
        count = add(found, count, throttle_acquire(scheduler, THROTTLE_BUCKET, name), scheduler);
    }
    return count;
}

/* Changes what a limit counts; others may go on when it counts less. */
static void count_in_flight(struct scheduler *scheduler, struct throttle *throttle, uint64_t less,
                            uint64_t more)
{
    if (throttle->kind != THROTTLE_LIMIT || less == more || !throttle_lock(scheduler, throttle))
        return;
    throttle->limit.in_flight += more - less;
    if (throttle->waiting_count && throttle_available(throttle, AT_ONCE))
        throttle_arm(scheduler, throttle, AT_ONCE);
    throttle_unlock(scheduler, throttle);
}

static void forget(struct scheduler *scheduler, struct throttle *const *throttles, unsigned count,
                   uint64_t counted)
{
    for (unsigned i = 0; i < count; i++) {
        count_in_flight(scheduler, throttles[i], counted, 0);
        throttle_release(scheduler, throttles[i]);
    }
}

static bool contains(struct throttle *const *throttles, unsigned count,
                     const struct throttle *throttle)
{
    for (unsigned i = 0; i < count; i++)
        if (throttles[i] == throttle)
            return true;
    return false;
}

static struct hold *make(struct queue *queue, struct lane *lane)
{
    struct hold *hold = arena_alloc(queue->scheduler->arena,
                                    sizeof(*hold) + room_for(lane) * sizeof(struct throttle *));
    if (!hold)
        return NULL;
    memset(hold, 0, sizeof(*hold));
    list_init(&hold->wait);
    list_init(&hold->held);
    list_append(&queue->throttled, &hold->link);
    hold->queue = queue;
    hold->lane = lane;
    hold->counted = lane->leased;
    lane->hold = hold;
    return hold;
}

/* --- being held --- */

static void begin_hold(struct hold *hold, struct throttle *throttle)
{
    struct queue *queue = hold->queue;
    hold->at = throttle;
    hold->pass = false;
    queue->held_lanes++;
    queue->held += hold->lane->ready;
    queue->counters->throttle_holds++;
    list_append(&queue->held_list, &hold->held);
}

/* It is in no throttle's list any more. The lane has to be updated after. */
static void end_hold(struct hold *hold)
{
    struct queue *queue = hold->queue;
    hold->at = NULL;
    queue->held_lanes--;
    queue->held -= hold->lane->ready;
    list_remove(&hold->held);
}

/* Under the throttle's lock. */
static void leave_list(struct hold *hold, struct throttle *throttle)
{
    if (list_empty(&hold->wait)) /* taken out because its queue was deleted */
        return;
    list_remove(&hold->wait);
    throttle->waiting_count--;
}

static void stop_waiting(struct hold *hold)
{
    struct scheduler *scheduler = hold->queue->scheduler;
    struct throttle *throttle = hold->at;
    if (!throttle)
        return;
    if (throttle_lock(scheduler, throttle)) {
        leave_list(hold, throttle);
        throttle_unlock(scheduler, throttle);
    }
    end_hold(hold);
}

/* It was taken off its throttle's list. */
static void let_go(struct hold *hold, uint64_t now_ms)
{
    end_hold(hold);
    hold->pass = true;
    queue_lane_update(hold->queue, hold->lane, now_ms);
}

void hold_drop(struct lane *lane)
{
    stop_waiting(lane->hold);
    lane->hold->pass = false;
}

void hold_free(struct lane *lane)
{
    struct hold *hold = lane->hold;
    struct scheduler *scheduler = hold->queue->scheduler;
    stop_waiting(hold);
    forget(scheduler, hold->throttles, hold->count, hold->counted);
    list_remove(&hold->link);
    lane->hold = NULL;
    arena_free(scheduler->arena, hold);
}

bool hold_resolve(struct queue *queue, struct lane *lane)
{
    struct scheduler *scheduler = queue->scheduler;
    struct throttle *found[KEY_THROTTLES * RECORD_THROTTLE_KEYS_MAX + 1];
    struct throttle *old[KEY_THROTTLES * RECORD_THROTTLE_KEYS_MAX + 1];
    /* Read first: what changes while we look is looked at again. */
    uint32_t generation = atomic_load(&scheduler->throttles.generation);
    unsigned count = find_throttles(scheduler, lane, found), old_count = 0;
    struct hold *hold = lane->hold;
    if (!hold && count)
        hold = make(queue, lane);
    if (!hold && count) {
        forget(scheduler, found, count, 0);
        return false;
    }
    lane->hold_generation = generation;
    if (!hold)
        return true;
    old_count = hold->count;
    memcpy(old, hold->throttles, old_count * sizeof(struct throttle *));
    memcpy(hold->throttles, found, count * sizeof(struct throttle *));
    hold->count = (uint8_t)count;
    for (unsigned i = 0; i < count; i++)
        count_in_flight(scheduler, found[i], 0, hold->counted);
    if (hold->at && !contains(found, count, hold->at)) {
        stop_waiting(hold);
        queue_lane_update(queue, lane, time_monotonic_ms());
    }
    forget(scheduler, old, old_count, hold->counted);
    if (!count && !hold->taken)
        hold_free(lane);
    return true;
}

/* --- taking --- */

enum taking { TAKEN, REFUSED, STALE };

static enum taking take_or_wait(struct hold *hold, struct throttle *throttle, uint64_t now_ns)
{
    struct scheduler *scheduler = hold->queue->scheduler;
    enum taking taking = REFUSED;
    if (!throttle_lock(scheduler, throttle))
        return STALE;
    uint64_t available = throttle_available(throttle, now_ns);
    if (available > (hold->pass ? 0 : throttle->waiting_count)) {
        throttle_take(throttle, now_ns);
        taking = TAKEN;
        if (throttle->waiting_count && (available == 1 || !throttle->timer.linked))
            throttle_arm(scheduler, throttle, throttle_next(throttle, now_ns));
    } else {
        /* One who has waited here or elsewhere, and still cannot go, is the next. */
        list_insert(hold->pass ? &throttle->waiting : throttle->waiting.prev, &hold->wait);
        throttle->waiting_count++;
        throttle_note_hungry(throttle, now_ns);
        uint64_t next_ns = throttle_next(throttle, now_ns);
        if (!throttle->timer.linked || next_ns < throttle->timer.key)
            throttle_arm(scheduler, throttle, next_ns);
    }
    throttle_unlock(scheduler, throttle);
    return taking;
}

static void give_back(struct scheduler *scheduler, struct throttle *throttle, uint32_t count)
{
    if (!throttle_lock(scheduler, throttle))
        return;
    throttle_give_back(throttle, count);
    if (throttle->waiting_count)
        throttle_arm(scheduler, throttle, AT_ONCE);
    throttle_unlock(scheduler, throttle);
}

enum hold_result hold_take(struct queue *queue, struct lane *lane, uint64_t now_ns)
{
    struct scheduler *scheduler = queue->scheduler;
    if (lane->hold_generation != atomic_load(&scheduler->throttles.generation) &&
        !hold_resolve(queue, lane))
        return HOLD_NO_ROOM;
    struct hold *hold = lane->hold;
    if (!hold)
        return HOLD_GO;
    enum taking taking = TAKEN;
    unsigned taken = 0;
    while (taken < hold->count && taking == TAKEN) {
        taking = take_or_wait(hold, hold->throttles[taken], now_ns);
        taken += taking == TAKEN;
    }
    if (taking == TAKEN) {
        hold->pass = false;
        hold->counted++;
        hold->taken++;
        return HOLD_GO;
    }
    if (taking == REFUSED) {
        begin_hold(hold, hold->throttles[taken]);
        queue_lane_update(queue, lane, now_ns / NS_PER_MS);
    }
    while (taken-- > 0)
        give_back(scheduler, hold->throttles[taken], 1);
    return taking == REFUSED ? HOLD_HELD : HOLD_NO_ROOM;
}

void hold_give_back(struct lane *lane, uint32_t count)
{
    struct hold *hold = lane->hold;
    if (count > hold->taken) /* some were picked before a throttle concerned the lane */
        count = hold->taken;
    if (!count)
        return;
    hold->taken -= count;
    hold->counted -= count;
    for (unsigned i = 0; i < hold->count; i++)
        give_back(hold->queue->scheduler, hold->throttles[i], count);
}

/* --- leases --- */

void hold_lease_began(struct lane *lane)
{
    struct hold *hold = lane->hold;
    if (hold->taken) {
        hold->taken--;
        return;
    }
    hold->counted++;
    for (unsigned i = 0; i < hold->count; i++)
        count_in_flight(hold->queue->scheduler, hold->throttles[i], 0, 1);
}

/* One of `queue` that may go on now; others are the refill thread's matter. Under the throttle's
 * lock. */
static struct hold *next_of_queue(struct scheduler *scheduler, struct throttle *throttle,
                                  const struct queue *queue)
{
    struct hold *hold = NULL;
    if (!throttle->waiting_count || !throttle_available(throttle, AT_ONCE))
        return NULL;
    hold = CONTAINER_OF(throttle->waiting.next, struct hold, wait);
    if (hold->queue != queue) {
        throttle_arm(scheduler, throttle, AT_ONCE);
        return NULL;
    }
    leave_list(hold, throttle);
    if (throttle->waiting_count && !throttle->timer.linked)
        throttle_arm(scheduler, throttle, throttle_next(throttle, time_monotonic_ns()));
    return hold;
}

void hold_lease_ended(struct queue *queue, struct lane *lane)
{
    struct hold *hold = lane->hold;
    struct scheduler *scheduler = queue->scheduler;
    hold->counted--;
    for (unsigned i = 0; i < hold->count; i++) {
        struct throttle *throttle = hold->throttles[i];
        if (throttle->kind != THROTTLE_LIMIT || !throttle_lock(scheduler, throttle))
            continue;
        throttle->limit.in_flight--;
        struct hold *next = next_of_queue(scheduler, throttle, queue);
        throttle_unlock(scheduler, throttle);
        if (next)
            let_go(next, time_monotonic_ms());
    }
}

/* Under the queue's lock: resolves lanes of a few buckets of its table; false: no room. */
static bool count_some(struct queue *queue, uint32_t *bucket, bool *more)
{
    uint32_t generation = atomic_load(&queue->scheduler->throttles.generation);
    unsigned seen = 0;
    uint32_t at = *bucket;
    struct hash_link *link = hash_next(&queue->lanes, &at, NULL);
    while (link && (seen < COUNT_BATCH || at == *bucket)) {
        struct lane *lane = CONTAINER_OF(link, struct lane, link);
        *bucket = at;
        link = hash_next(&queue->lanes, &at, link);
        seen++;
        if (lane->leased && lane->hold_generation != generation && !hold_resolve(queue, lane))
            return false;
    }
    *bucket = at;
    *more = link != NULL;
    return true;
}

enum lock_result hold_count_leases(struct scheduler *scheduler, bool *full)
{
    *full = false;
    for (uint32_t i = 0; i < ZONE_QUEUES; i++) {
        struct queue *queue = atomic_load_explicit(&scheduler->queues[i], memory_order_relaxed);
        uint32_t bucket = 0;
        bool more = queue != NULL;
        /* A table that grows meanwhile moves lanes to buckets further back only. */
        while (more && !*full) {
            enum lock_result result = scheduler_lock(scheduler, &queue->lock);
            if (result != LOCK_HELD)
                return result;
            more = false;
            if (!atomic_load(&queue->dead) && queue->leased)
                *full = !count_some(queue, &bucket, &more);
            queue_wake_waiters(queue);
            lock_release(&queue->lock);
        }
    }
    return LOCK_HELD;
}

/* --- releasing --- */

/* Under the queue's lock: releases those in front that are of this queue. Returns how many. */
static uint64_t release_lanes(struct queue *queue, struct throttle *throttle, uint64_t most,
                              uint64_t now_ns)
{
    struct scheduler *scheduler = queue->scheduler;
    struct list released;
    uint64_t count = 0;
    list_init(&released);
    if (!throttle_lock(scheduler, throttle))
        return 0;
    while (count < most && !list_empty(&throttle->waiting)) {
        struct hold *hold = CONTAINER_OF(throttle->waiting.next, struct hold, wait);
        if (hold->queue != queue)
            break;
        leave_list(hold, throttle);
        list_append(&released, &hold->wait);
        count++;
    }
    throttle_unlock(scheduler, throttle);
    LIST_EACH_SAFE(&released, entry)
    {
        list_remove(entry);
        let_go(CONTAINER_OF(entry, struct hold, wait), now_ns / NS_PER_MS);
    }
    queue_wake_for(queue, count);
    return count;
}

/* Under the throttle's lock: the queue of the first that waits, pinned; NULL when none does. */
static struct queue *first_queue(struct throttle *throttle)
{
    while (!list_empty(&throttle->waiting)) {
        struct hold *hold = CONTAINER_OF(throttle->waiting.next, struct hold, wait);
        struct queue *queue = hold->queue;
        /* Pinned first, looked at after: either who frees it sees the pin, or we see that it is
         * dead, and `hold` is there as long as we have the lock. */
        atomic_fetch_add(&queue->pins, 1);
        if (!atomic_load(&queue->dead))
            return queue;
        atomic_fetch_sub(&queue->pins, 1);
        leave_list(hold, throttle);
    }
    return NULL;
}

/* How many lanes to release now. Those that were released and did not take within the time they
 * have, since no consumer of theirs has room, must not keep others from what is there: each time
 * twice as many get a chance. */
static uint64_t releases(struct throttle *throttle, uint64_t now_ns)
{
    uint64_t available = throttle_available(throttle, now_ns);
    uint64_t waiting = throttle->waiting_count;
    if (!available)
        return 0;
    throttle_note_hungry(throttle, now_ns);
    if (throttle->misses < 31)
        throttle->misses++;
    available = available >= waiting ? waiting : available << (throttle->misses - 1);
    return available < waiting ? available : waiting;
}

static enum lock_result release_waiting(struct scheduler *scheduler, struct throttle *throttle,
                                        uint64_t now_ns)
{
    enum lock_result result = LOCK_HELD;
    if (!throttle_lock(scheduler, throttle))
        return LOCK_STALE;
    uint64_t left = releases(throttle, now_ns);
    for (unsigned round = 0; left && round < ROUNDS_MAX; round++) {
        struct queue *queue = first_queue(throttle);
        if (!queue)
            break;
        throttle_unlock(scheduler, throttle);
        result = scheduler_lock(scheduler, &queue->lock);
        if (result != LOCK_HELD)
            return result;
        uint64_t count =
            release_lanes(queue, throttle, left < RELEASE_BATCH ? left : RELEASE_BATCH, now_ns);
        left -= count;
        lock_release(&queue->lock);
        atomic_fetch_sub(&queue->pins, 1);
        if (!throttle_lock(scheduler, throttle))
            return LOCK_STALE;
    }
    throttle_arm(scheduler, throttle,
                 left && throttle->waiting_count ? AT_ONCE : throttle_next(throttle, now_ns));
    throttle_unlock(scheduler, throttle);
    throttle_release(scheduler, throttle);
    return result;
}

enum lock_result hold_run(struct scheduler *scheduler, uint64_t now_ns, uint64_t *when_ns)
{
    *when_ns = AT_ONCE;
    for (unsigned i = 0; i < THROTTLE_SHARDS; i++) {
        bool stale = false;
        struct throttle *throttle = throttle_due(scheduler, i, now_ns, &stale);
        for (unsigned round = 0; throttle && round < ROUNDS_MAX; round++) {
            enum lock_result result = release_waiting(scheduler, throttle, now_ns);
            if (result != LOCK_HELD)
                return result;
            throttle = throttle_due(scheduler, i, now_ns, &stale);
        }
        if (stale)
            return LOCK_STALE;
    }
    *when_ns = throttle_first_due(scheduler);
    return LOCK_HELD;
}

void hold_sleep(struct scheduler *scheduler, uint32_t seen, uint64_t until_ns)
{
    struct zone *zone = scheduler->zone;
    atomic_store(&zone->refill_until_ns, until_ns);
    /* Said first, looked again after: who arms a timer looks when we wake. */
    if (throttle_first_due(scheduler) >= until_ns)
        futex_wait_until(&zone->refill_wake, seen, until_ns);
    atomic_store(&zone->refill_until_ns, 0);
}

/* --- statistics --- */

static int compare_pointers(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t) * (void *const *)a, y = (uintptr_t) * (void *const *)b;
    return x < y ? -1 : x > y;
}

/* Each once, malloc; NULL without memory. *names: bytes of their names. */
static struct throttle **collect(const struct queue *queue, enum throttle_kind kind,
                                 uint32_t *count, size_t *names)
{
    size_t room = 1, found = 0;
    LIST_EACH(&queue->throttled, entry)
    room += CONTAINER_OF(entry, struct hold, link)->count;
    struct throttle **throttles = malloc(room * sizeof(struct throttle *));
    if (!throttles)
        return NULL;
    LIST_EACH(&queue->throttled, entry)
    {
        const struct hold *hold = CONTAINER_OF(entry, struct hold, link);
        for (unsigned i = 0; i < hold->count; i++)
            if (hold->throttles[i]->kind == kind)
                throttles[found++] = hold->throttles[i];
    }
    qsort(throttles, found, sizeof(struct throttle *), compare_pointers);
    *count = 0;
    *names = 0;
    for (size_t i = 0; i < found && *count < HOLD_ROWS_MAX; i++) {
        if (i && throttles[i] == throttles[*count - 1])
            continue;
        *names += throttles[i]->name_size;
        throttles[(*count)++] = throttles[i];
    }
    return throttles;
}

struct fairness_key **hold_keys(const struct queue *queue, uint32_t *count)
{
    struct fairness_key **keys = malloc((queue->held_lanes + 1) * sizeof(struct fairness_key *));
    uint32_t found = 0;
    *count = 0;
    if (!keys)
        return NULL;
    LIST_EACH(&queue->held_list, entry)
    {
        struct fairness_key *key = CONTAINER_OF(entry, struct hold, held)->lane->key;
        if (!key->drr.active)
            keys[found++] = key;
    }
    qsort(keys, found, sizeof(struct fairness_key *), compare_pointers);
    for (uint32_t i = 0; i < found; i++)
        if (!*count || keys[i] != keys[*count - 1])
            keys[(*count)++] = keys[i];
    return keys;
}

/* False when it is not in force any more. */
static bool fill_row(struct scheduler *scheduler, struct throttle *throttle, uint64_t now_ns,
                     struct hold_row *row)
{
    if (!throttle_lock(scheduler, throttle))
        return false;
    bool configured = throttle->configured;
    (void)throttle_available(throttle, now_ns); /* refills */
    row->waiting = throttle->waiting_count;
    if (throttle->kind == THROTTLE_BUCKET) {
        row->tokens = throttle->bucket.tokens;
        row->rate = throttle->bucket.rate;
        row->burst = throttle->bucket.burst;
    } else {
        row->most = throttle->limit.most;
        row->in_flight = throttle->limit.in_flight;
    }
    throttle_unlock(scheduler, throttle);
    return configured;
}

struct hold_row *hold_rows(const struct queue *queue, enum throttle_kind kind, uint64_t now_ns,
                           uint32_t *count)
{
    uint32_t found = 0;
    size_t names = 0;
    *count = 0;
    struct throttle **throttles = collect(queue, kind, &found, &names);
    struct hold_row *rows = throttles ? malloc(found * sizeof(*rows) + names + 1) : NULL;
    uint8_t *name = rows ? (uint8_t *)(rows + found) : NULL;
    for (uint32_t i = 0; rows && i < found; i++) {
        struct throttle *throttle = throttles[i];
        struct hold_row *row = &rows[*count];
        memset(row, 0, sizeof(*row));
        if (!fill_row(queue->scheduler, throttle, now_ns, row))
            continue;
        memcpy(name, throttle->name, throttle->name_size);
        row->key = str_of(name, throttle->name_size);
        name += throttle->name_size;
        (*count)++;
    }
    free(throttles);
    return rows;
}
