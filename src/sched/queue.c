#include "sched/queue.h"

#include "os/time.h"
#include "sched/hold.h"
#include "sched/scheduler.h"
#include "store/catalog.h"

#define ROOM_SHARE 3 /* times of what is left that one queue's lanes, or its leases, may take */

static struct hash_allocator *allocator(struct queue *queue)
{
    return &queue->scheduler->allocator;
}

static uint64_t key_hash(const struct queue *queue, struct str name)
{
    return str_hash(name, queue->scheduler->seed);
}

/* --- lanes and keys --- */

static struct fairness_key *key_find(const struct queue *queue, struct str name)
{
    struct hash_link *link = hash_find(&queue->keys, key_hash(queue, name));
    for (; link; link = hash_find_next(link)) {
        struct fairness_key *key = CONTAINER_OF(link, struct fairness_key, link);
        if (str_equal(str_of(key->name, key->name_size), name))
            return key;
    }
    return NULL;
}

static uint64_t key_bytes(const struct fairness_key *key)
{
    return sizeof(*key) + key->name_size;
}

static uint64_t lane_bytes(const struct lane *lane)
{
    return sizeof(*lane) + lane->throttle_size;
}

static struct fairness_key *key_create(struct queue *queue, struct str name, uint32_t weight)
{
    struct fairness_key *key = arena_alloc(queue->scheduler->arena, sizeof(*key) + name.size);
    if (!key)
        return NULL;
    memset(key, 0, sizeof(*key));
    key->magic = KEY_MAGIC;
    key->name_size = (uint32_t)name.size;
    if (name.size)
        memcpy(key->name, name.data, name.size);
    drr_key_init(&key->drr, weight);
    heap_init(&key->heads);
    hash_insert(&queue->keys, allocator(queue), key_hash(queue, name), &key->link);
    queue->lane_bytes += key_bytes(key);
    return key;
}

static void key_free(struct queue *queue, struct fairness_key *key)
{
    drr_deactivate(&queue->drr, &key->drr);
    hash_remove(&queue->keys, &key->link);
    queue->lane_bytes -= key_bytes(key);
    key->magic = 0;
    arena_free(queue->scheduler->arena, key);
}

static uint64_t lane_hash(const struct queue *queue, struct str fairness_key,
                          struct str throttle_keys)
{
    uint64_t hash = key_hash(queue, fairness_key);
    return throttle_keys.size ? str_hash(throttle_keys, hash) : hash;
}

struct lane *queue_lane_find(const struct queue *queue, struct str fairness_key,
                             struct str throttle_keys)
{
    struct hash_link *link =
        hash_find(&queue->lanes, lane_hash(queue, fairness_key, throttle_keys));
    for (; link; link = hash_find_next(link)) {
        struct lane *lane = CONTAINER_OF(link, struct lane, link);
        if (str_equal(str_of(lane->key->name, lane->key->name_size), fairness_key) &&
            str_equal(str_of(lane->throttle_keys, lane->throttle_size), throttle_keys))
            return lane;
    }
    return NULL;
}

struct lane *queue_lane_create(struct queue *queue, uint64_t id, uint32_t weight,
                               struct str fairness_key, uint16_t throttle_count,
                               struct str throttle_keys)
{
    struct lane *lane = arena_alloc(queue->scheduler->arena, sizeof(*lane) + throttle_keys.size);
    struct fairness_key *key = lane ? key_find(queue, fairness_key) : NULL;
    if (lane && !key)
        key = key_create(queue, fairness_key, weight);
    if (!key) {
        arena_free(queue->scheduler->arena, lane);
        return NULL;
    }
    memset(lane, 0, sizeof(*lane));
    lane->magic = LANE_MAGIC;
    lane->id = id;
    lane->key = key;
    lane->throttle_count = throttle_count;
    lane->throttle_size = (uint32_t)throttle_keys.size;
    if (throttle_keys.size)
        memcpy(lane->throttle_keys, throttle_keys.data, throttle_keys.size);
    list_init(&lane->idle);
    list_init(&lane->returned);
    hash_insert(&queue->lanes, allocator(queue), lane_hash(queue, fairness_key, throttle_keys),
                &lane->link);
    key->lane_count++;
    queue->lane_count++;
    queue->lane_bytes += lane_bytes(lane);
    return lane;
}

void queue_lane_free(struct queue *queue, struct lane *lane)
{
    struct fairness_key *key = lane->key;
    if (lane->hold)
        hold_free(lane);
    list_remove(&lane->idle);
    heap_remove(&key->heads, &lane->order);
    hash_remove(&queue->lanes, &lane->link);
    queue->lane_count--;
    queue->lane_bytes -= lane_bytes(lane);
    lane->magic = 0;
    arena_free(queue->scheduler->arena, lane);
    if (--key->lane_count == 0)
        key_free(queue, key);
}

bool queue_has_room(const struct queue *queue)
{
    uint64_t room = scheduler_room(queue->scheduler);
    return room && queue->lane_bytes / ROOM_SHARE <= room;
}

bool queue_is_tight(const struct queue *queue)
{
    return scheduler_is_tight(queue->scheduler) ||
           queue->lane_bytes / ROOM_SHARE > scheduler_room(queue->scheduler) / 2;
}

bool queue_lane_runnable(const struct lane *lane)
{
    return lane->ready || (lane->unscanned && !lane->drained);
}

uint64_t queue_lane_head(const struct lane *lane)
{
    if (list_empty(&lane->returned))
        return lane->next;
    uint64_t seq = CONTAINER_OF(lane->returned.next, struct lease, wheel.list)->seq;
    return seq < lane->next ? seq : lane->next;
}

struct lane *queue_key_first(const struct fairness_key *key)
{
    struct heap_node *first = heap_first(&key->heads);
    return first ? CONTAINER_OF(first, struct lane, order) : NULL;
}

void queue_key_skip(struct lane *lane)
{
    heap_remove(&lane->key->heads, &lane->order);
}

bool queue_key_has_only(const struct lane *lane)
{
    return lane->key->heads.root == &lane->order && !lane->order.child;
}

bool queue_key_place(struct lane *lane, uint64_t head)
{
    if (lane->order.key == head)
        return false;
    heap_update(&lane->key->heads, &lane->order, head);
    return true;
}

void queue_lane_update(struct queue *queue, struct lane *lane, uint64_t now_ms)
{
    struct fairness_key *key = lane->key;
    bool runnable = queue_lane_runnable(lane);
    if (lane->hold && !runnable)
        hold_drop(lane);
    if (runnable && !hold_is_held(lane))
        heap_update(&key->heads, &lane->order, queue_lane_head(lane));
    else
        heap_remove(&key->heads, &lane->order);
    if (heap_first(&key->heads))
        drr_activate(&queue->drr, &key->drr);
    else
        drr_deactivate(&queue->drr, &key->drr);

    bool idle = !lane->ready && !lane->leased && !lane->unscanned;
    if (idle && list_empty(&lane->idle)) {
        lane->idle_since_ms = now_ms;
        list_append(&queue->idle_lanes, &lane->idle);
        queue_timer_update(queue);
    } else if (!idle) {
        list_remove(&lane->idle);
    }
}

void queue_ready_add(struct queue *queue, struct lane *lane, int64_t count)
{
    lane->ready += (uint64_t)count;
    lane->key->ready += (uint64_t)count;
    queue->ready += (uint64_t)count;
    if (hold_is_held(lane))
        queue->held += (uint64_t)count;
    if (count > 0)
        lane->drained = false;
}

void queue_lane_append(struct queue *queue, struct lane *lane, uint64_t seq)
{
    if (!queue_lane_runnable(lane) && !lane->unscanned) {
        lane->next = seq;
        lane->next_is_known = true;
    }
    queue_ready_add(queue, lane, 1);
}

void queue_delayed_add(struct queue *queue, uint64_t due_ms)
{
    queue->delayed++;
    if (due_ms >= queue->next_due_ms)
        return;
    queue->next_due_ms = due_ms;
    queue_due_update(queue);
}

bool queue_scan_counted_delayed(const struct queue *queue, uint64_t due_ms, uint64_t seq)
{
    const struct queue_scan *scan = &queue->scan;
    return scan->done || scan->delayed_done || seq >= scan->limit || due_ms < scan->due_ms ||
           (due_ms == scan->due_ms && seq < scan->due_seq);
}

bool queue_scan_counted(const struct queue *queue, uint64_t lane, uint64_t seq)
{
    const struct queue_scan *scan = &queue->scan;
    return scan->done || seq >= scan->limit || lane < scan->lane ||
           (lane == scan->lane && seq < scan->seq);
}

/* --- leases --- */

struct lease *queue_lease_find(const struct queue *queue, const struct uuid *id)
{
    struct hash_link *link = hash_find(&queue->leases, uuid_hash(id, queue->scheduler->seed));
    for (; link; link = hash_find_next(link)) {
        struct lease *lease = CONTAINER_OF(link, struct lease, by_id);
        if (link->user == LEASE_MAGIC && uuid_equal(&lease->id, id))
            return lease;
    }
    return NULL;
}

bool queue_has_lease_room(const struct queue *queue)
{
    uint64_t bytes = (uint64_t)queue->leases.count * sizeof(struct lease);
    return bytes / ROOM_SHARE <= scheduler_lease_room(queue->scheduler);
}

struct lease *queue_lease_alloc(struct queue *queue)
{
    struct lease *lease = arena_alloc(queue->scheduler->arena, sizeof(*lease));
    if (lease)
        memset(lease, 0, sizeof(*lease));
    return lease;
}

void queue_lease_start(struct queue *queue, struct lease *lease, uint64_t expires_ms)
{
    lease->state = LEASE_HELD;
    lease->by_id.user = LEASE_MAGIC;
    hash_insert(&queue->leases, allocator(queue), uuid_hash(&lease->id, queue->scheduler->seed),
                &lease->by_id);
    wheel_insert(queue->expiry, &lease->wheel, expires_ms);
    lease->lane->leased++;
    queue->leased++;
    if (lease->lane->hold)
        hold_lease_began(lease->lane);
    if (lease->apart)
        atomic_store(&queue->has_apart, true);
    if (lease->consumer)
        lease->consumer->unacked++;
}

static void consumer_unacked(struct queue *queue, struct consumer *consumer)
{
    if (!consumer)
        return;
    consumer->unacked--;
    if (consumer->gone) {
        if (consumer->unacked == 0)
            arena_free(queue->scheduler->arena, consumer);
    } else if (consumer->full) {
        consumer->full = false;
        list_append(&queue->relieved[consumer->slot], &consumer->relieved);
        scheduler_notify(queue->scheduler, consumer->slot, queue->index);
    }
}

static void batch_leave(struct queue *queue, struct lease *lease)
{
    if (lease->batch && --lease->batch->remaining == 0)
        arena_free(queue->scheduler->arena, lease->batch);
    lease->batch = NULL;
}

void queue_lease_end(struct queue *queue, struct lease *lease)
{
    if (lease->state != LEASE_RETURNED) {
        wheel_remove(queue->expiry, &lease->wheel);
        lease->lane->leased--;
        queue->leased--;
        if (lease->lane->hold)
            hold_lease_ended(queue, lease->lane);
        consumer_unacked(queue, lease->consumer);
    } else {
        list_remove(&lease->wheel.list);
    }
    batch_leave(queue, lease);
    hash_remove(&queue->leases, &lease->by_id);
    lease->by_id.user = 0;
    arena_free(queue->scheduler->arena, lease);
}

void queue_lease_return(struct queue *queue, struct lease *lease)
{
    struct lane *lane = lease->lane;
    wheel_remove(queue->expiry, &lease->wheel);
    consumer_unacked(queue, lease->consumer);
    lease->consumer = NULL;
    lease->state = LEASE_RETURNED;
    lane->leased--;
    queue->leased--;
    if (lane->hold)
        hold_lease_ended(queue, lane);
    struct list *position = lane->returned.prev;
    while (position != &lane->returned &&
           CONTAINER_OF(position, struct lease, wheel.list)->seq > lease->seq)
        position = position->prev;
    list_insert(position, &lease->wheel.list);
    queue_ready_add(queue, lane, 1);
}

void queue_lease_retake(struct queue *queue, struct lease *lease)
{
    list_remove(&lease->wheel.list);
    hash_remove(&queue->leases, &lease->by_id);
    lease->by_id.user = 0;
    queue_ready_add(queue, lease->lane, -1);
}

uint64_t queue_lease_token(const struct lease *lease)
{
    return lease->batch ? lease->batch->seq : 0;
}

#define DECIDER_SLOT_SHIFT 10 /* incarnations follow each other: their end tells them apart */

_Static_assert(ZONE_WORKERS << DECIDER_SLOT_SHIFT <= 65536, "a decider fits into its field");

static uint16_t decider_of(const struct queue *queue, unsigned slot)
{
    uint32_t incarnation = atomic_load(&queue->scheduler->zone->slots[slot].incarnation);
    return (uint16_t)(slot << DECIDER_SLOT_SHIFT |
                      (incarnation & ((1u << DECIDER_SLOT_SHIFT) - 1)));
}

void queue_lease_decide(const struct queue *queue, struct lease *lease, unsigned slot)
{
    lease->state = LEASE_DECIDING;
    lease->decider = decider_of(queue, slot);
}

void queue_lease_undecide(struct lease *lease)
{
    lease->state = LEASE_HELD;
}

bool queue_lease_decided_by(const struct queue *queue, const struct lease *lease, unsigned slot)
{
    return lease->state == LEASE_DECIDING && lease->decider == decider_of(queue, slot);
}

bool queue_lease_deciding(const struct queue *queue, struct lease *lease)
{
    if (lease->state != LEASE_DECIDING)
        return false;
    unsigned slot = lease->decider >> DECIDER_SLOT_SHIFT;
    if (atomic_load(&queue->scheduler->zone->slots[slot].pid) != 0 &&
        queue_lease_decided_by(queue, lease, slot))
        return true;
    queue_lease_undecide(lease);
    return false;
}

bool queue_expiry_prepare(struct queue *queue, uint64_t now_ms)
{
    if (queue->expiry)
        return true;
    queue->expiry = arena_alloc(queue->scheduler->arena, sizeof(*queue->expiry));
    if (queue->expiry)
        wheel_init(queue->expiry, now_ms);
    return queue->expiry != NULL;
}

void queue_expiry_release(struct queue *queue)
{
    if (!queue->expiry || queue->expiry->count)
        return;
    arena_free(queue->scheduler->arena, queue->expiry);
    queue->expiry = NULL;
}

uint32_t queue_expired(struct queue *queue, uint64_t now_ms, struct list *due, uint32_t limit)
{
    return queue->expiry ? wheel_advance(queue->expiry, now_ms, due, limit) : 0;
}

void queue_expiry_restore(struct queue *queue, struct lease *lease, uint64_t when_ms)
{
    wheel_insert(queue->expiry, &lease->wheel, when_ms);
}

uint64_t queue_lane_idle_ms(const struct queue *queue)
{
    return queue_is_tight(queue) ? QUEUE_LANE_IDLE_TIGHT_MS : QUEUE_LANE_IDLE_MS;
}

void queue_timer_update(struct queue *queue)
{
    struct scheduler *scheduler = queue->scheduler;
    uint64_t when = queue->expiry ? wheel_next(queue->expiry) : UINT64_MAX;
    if (!list_empty(&queue->idle_lanes)) {
        uint64_t idle = CONTAINER_OF(queue->idle_lanes.next, struct lane, idle)->idle_since_ms +
                        queue_lane_idle_ms(queue);
        when = idle < when ? idle : when;
    }
    if (queue->due_again_ms && queue->due_again_ms < when)
        when = queue->due_again_ms;
    if (!atomic_load(&queue->dead))
        scheduler_timer_set(scheduler, &scheduler->timers, &queue->timer, when);
}

void queue_due_update(struct queue *queue)
{
    if (!atomic_load(&queue->dead) && !queue->due_again_ms)
        scheduler_timer_set(queue->scheduler, &queue->scheduler->due, &queue->due,
                            queue->next_due_ms);
}

/* --- consumers and waiters --- */

static bool make_relieved(struct queue *queue)
{
    if (queue->relieved)
        return true;
    queue->relieved = arena_alloc(queue->scheduler->arena, ZONE_WORKERS * sizeof(*queue->relieved));
    for (unsigned i = 0; queue->relieved && i < ZONE_WORKERS; i++)
        list_init(&queue->relieved[i]);
    return queue->relieved != NULL;
}

static void consumer_go(struct queue *queue, struct consumer *consumer)
{
    consumer->gone = true;
    list_remove(&consumer->relieved);
    list_remove(&consumer->link);
    if (consumer->unacked == 0)
        arena_free(queue->scheduler->arena, consumer);
}

/* A worker that died holding no lock has told nobody that its consumers are gone. */
static void forget_dead(struct queue *queue, unsigned slot, uint32_t incarnation)
{
    LIST_EACH_SAFE(&queue->subscribed, entry)
    {
        struct consumer *consumer = CONTAINER_OF(entry, struct consumer, link);
        if (consumer->slot == slot && consumer->incarnation != incarnation)
            consumer_go(queue, consumer);
    }
}

struct consumer *queue_consumer_add(struct queue *queue, unsigned slot)
{
    uint32_t incarnation = atomic_load(&queue->scheduler->zone->slots[slot].incarnation);
    if (queue->consumers[slot].incarnation != incarnation) {
        forget_dead(queue, slot, incarnation);
        queue->consumers[slot].incarnation = incarnation;
        queue->consumers[slot].count = 0;
    }
    struct consumer *consumer =
        make_relieved(queue) ? arena_alloc(queue->scheduler->arena, sizeof(*consumer)) : NULL;
    if (!consumer)
        return NULL;
    memset(consumer, 0, sizeof(*consumer));
    consumer->slot = slot;
    consumer->incarnation = incarnation;
    list_init(&consumer->relieved);
    list_append(&queue->subscribed, &consumer->link);
    queue->consumers[slot].count++;
    return consumer;
}

void queue_consumer_remove(struct queue *queue, struct consumer *consumer)
{
    unsigned slot = consumer->slot;
    consumer_go(queue, consumer);
    if (--queue->consumers[slot].count > 0)
        return;
    queue->waiting &= ~(UINT64_C(1) << slot);
    if (!atomic_load(&queue->dead))
        queue_wake_waiters(queue); /* it may have been woken and not looked yet */
}

struct consumer *queue_consumer_relieved(struct queue *queue, unsigned slot)
{
    uint32_t incarnation = atomic_load(&queue->scheduler->zone->slots[slot].incarnation);
    struct list *relieved = queue->relieved ? &queue->relieved[slot] : NULL;
    while (relieved && !list_empty(relieved)) {
        struct consumer *consumer = CONTAINER_OF(relieved->next, struct consumer, relieved);
        list_remove(&consumer->relieved);
        if (consumer->incarnation == incarnation) /* else its worker is dead */
            return consumer;
    }
    return NULL;
}

uint32_t queue_consumer_count(const struct queue *queue)
{
    uint32_t count = 0;
    for (unsigned i = 0; i < ZONE_WORKERS; i++) {
        const struct zone_slot *slot = &queue->scheduler->zone->slots[i];
        if (queue->consumers[i].count && atomic_load(&slot->pid) != 0 &&
            atomic_load(&slot->incarnation) == queue->consumers[i].incarnation)
            count += queue->consumers[i].count;
    }
    return count;
}

/* The waiting worker whose turn it is; each gets as many turns as it has consumers. */
static unsigned next_waiter(struct queue *queue)
{
    uint32_t total = 0;
    for (uint64_t left = queue->waiting; left; left &= left - 1)
        total += queue->consumers[__builtin_ctzll(left)].count;
    uint32_t turn = total ? queue->turn++ % total : 0;
    uint64_t left = queue->waiting;
    for (; left & (left - 1); left &= left - 1) {
        uint32_t count = queue->consumers[__builtin_ctzll(left)].count;
        if (turn < count)
            break;
        turn -= count;
    }
    return (unsigned)__builtin_ctzll(left);
}

void queue_wake_waiters(struct queue *queue)
{
    queue_wake_for(queue, queue->ready - queue->held);
}

void queue_wake_for(struct queue *queue, uint64_t messages)
{
    if (!queue->drr.count || atomic_load(&queue->paused))
        return;
    uint64_t workers = 1 + messages / QUEUE_PULL;
    for (; queue->waiting && workers; workers--) {
        unsigned slot = next_waiter(queue);
        queue->waiting &= ~(UINT64_C(1) << slot); /* it sets its bit again when it finds nothing */
        scheduler_notify(queue->scheduler, slot, queue->index);
    }
}

/* --- making and unmaking --- */

static void free_leases(struct queue *queue)
{
    uint32_t bucket = 0;
    struct hash_link *next = hash_next(&queue->leases, &bucket, NULL);
    while (next) {
        struct lease *lease = CONTAINER_OF(next, struct lease, by_id);
        next = hash_next(&queue->leases, &bucket, next);
        queue_lease_end(queue, lease);
    }
}

static void free_lanes(struct queue *queue)
{
    uint32_t bucket = 0;
    struct hash_link *next = hash_next(&queue->lanes, &bucket, NULL);
    while (next) {
        struct lane *lane = CONTAINER_OF(next, struct lane, link);
        next = hash_next(&queue->lanes, &bucket, next);
        queue_lane_free(queue, lane); /* its key goes with the last of them */
    }
}

static void free_hashes(struct queue *queue)
{
    hash_free(&queue->keys, allocator(queue));
    hash_free(&queue->lanes, allocator(queue));
    hash_free(&queue->leases, allocator(queue));
}

/* Tables that hash_free has not seen are empty and harmless to it. */
static int make_hashes(struct queue *queue)
{
    if (hash_init(&queue->keys, allocator(queue)) == 0 &&
        hash_init(&queue->lanes, allocator(queue)) == 0 &&
        hash_init(&queue->leases, allocator(queue)) == 0)
        return 0;
    free_hashes(queue);
    return -1;
}

struct queue *queue_create(struct scheduler *scheduler, struct str name, uint64_t id,
                           uint64_t visibility_timeout_ms)
{
    struct queue *queue = arena_alloc(scheduler->arena, sizeof(*queue) + name.size);
    if (!queue)
        return NULL;
    memset(queue, 0, sizeof(*queue));
    queue->magic = QUEUE_MAGIC;
    queue->id = id;
    queue->scheduler = scheduler;
    uint8_t *copy = (uint8_t *)(queue + 1);
    memcpy(copy, name.data, name.size);
    queue->name = str_of(copy, name.size);
    atomic_init(&queue->visibility_timeout_ms, visibility_timeout_ms);
    queue->next_seq = queue->next_lane = (uint64_t)scheduler->epoch << RECORD_COUNTER_BITS;
    queue->scan.done = true;
    queue->scan.limit = queue->next_seq;
    queue->next_due_ms = UINT64_MAX;
    list_init(&queue->due_link);
    list_init(&queue->dead_link);
    list_init(&queue->idle_lanes);
    list_init(&queue->held_list);
    list_init(&queue->throttled);
    list_init(&queue->subscribed);
    lock_init(&queue->lock);
    drr_init(&queue->drr, scheduler->quantum);
    queue->statistics = statistics_take(scheduler->zone->statistics, id, time_wall_ms());
    if (queue->statistics) {
        queue->counters = &queue->statistics->counters;
        if (make_hashes(queue) == 0)
            return queue;
        statistics_give(scheduler->zone->statistics, queue->statistics);
    }
    arena_free(scheduler->arena, queue);
    return NULL;
}

void queue_configure(struct queue *queue, const struct catalog_queue *record)
{
    atomic_store(&queue->visibility_timeout_ms, record->visibility_timeout_ms);
    atomic_store(&queue->max_attempts, record->max_attempts);
    atomic_store(&queue->paused, record->paused);
    atomic_store(&queue->has_scripts, record->on_enqueue.size > 0 || record->on_failure.size > 0);
    atomic_store(&queue->has_on_failure, record->on_failure.size > 0);
    atomic_store(&queue->dead_letter_headers, record->dead_letter_headers);
}

int queue_clear(struct queue *queue)
{
    free_leases(queue);
    free_lanes(queue);
    free_hashes(queue);
    queue_expiry_release(queue);
    queue->scan = (struct queue_scan){.done = true, .limit = queue->scan.limit};
    queue->delayed = 0;
    queue->next_due_ms = UINT64_MAX;
    return make_hashes(queue);
}

void queue_destroy(struct queue *queue)
{
    struct scheduler *scheduler = queue->scheduler;
    if (scheduler_lock(scheduler, &scheduler->timer_lock) == LOCK_HELD) {
        heap_remove(&scheduler->timers, &queue->timer);
        heap_remove(&scheduler->due, &queue->due);
        lock_release(&scheduler->timer_lock);
    }
    free_leases(queue);
    LIST_EACH_SAFE(&queue->subscribed, entry)
    {
        arena_free(scheduler->arena, CONTAINER_OF(entry, struct consumer, link));
    }
    free_lanes(queue);
    free_hashes(queue);
    arena_free(scheduler->arena, queue->expiry);
    arena_free(scheduler->arena, queue->relieved);
    statistics_give(scheduler->zone->statistics, queue->statistics);
    queue->magic = 0;
    arena_free(scheduler->arena, queue);
}
