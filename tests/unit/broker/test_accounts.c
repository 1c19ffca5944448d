/* Whatever is counted in several places of the zone is the same in all of them, and nothing of it
 * is left when the last message has gone: random operations of several workers on queues whose
 * messages have limits and buckets, with deletions, configuration that changes and restarts.
 *
 * ACCOUNTS_SEED runs one seed, ACCOUNTS_STEPS more steps than the short form. */
#include "unit/broker/throttled.h"

#include "keeper/maintenance.h"
#include "os/log.h"

#define WORKERS 3u
#define QUEUES 4u /* two and their dead-letter queues */
#define NAMES 4u  /* of fairness and throttle keys */
#define HELD_MAX 4000u
#define SOON_MS 1000000u

struct held {
    unsigned queue;
    struct uuid id;
};

struct accounts {
    struct fixture *workers[WORKERS]; /* the first one is the keeper, too */
    struct fixture others[WORKERS - 1];
    struct subscription subscriptions[WORKERS][QUEUES];
    bool subscribed[WORKERS][QUEUES];
    struct held held[HELD_MAX]; /* delivered and, as far as is known, neither acked nor nacked */
    uint32_t held_count;
    uint32_t payload;
    uint64_t later_ms; /* the clock of leases goes on with each expiry */
    bool paused[QUEUES];
    unsigned random;
};

static const char *const queues[QUEUES] = {"a", "a.dlq", "b", "b.dlq"};
static const char *const names[NAMES] = {"x", "y", "z", "w"};

static unsigned draw(struct accounts *accounts, unsigned limit)
{
    return (unsigned)rand_r(&accounts->random) % limit;
}

static struct scheduler *scheduler_of(struct accounts *accounts)
{
    return accounts->workers[0]->broker->scheduler;
}

static struct fixture *worker(struct accounts *accounts)
{
    return accounts->workers[draw(accounts, WORKERS)];
}

/* --- what has to be the same --- */

static void check_lane(const struct queue *queue, const struct lane *lane)
{
    uint64_t returned = 0, before = 0;
    LIST_EACH(&lane->returned, entry)
    {
        const struct lease *lease = CONTAINER_OF(entry, struct lease, wheel.list);
        assert_int_equal(lease->state, LEASE_RETURNED);
        assert_ptr_equal(lease->lane, lane);
        assert_true(lease->seq > before);
        before = lease->seq;
        returned++;
    }
    assert_true(lane->ready >= returned);
    bool held = hold_is_held(lane), runnable = queue_lane_runnable(lane);
    assert_false(held && !runnable);
    assert_int_equal(lane->order.linked, runnable && !held);
    assert_int_equal(!list_empty(&lane->idle), !lane->ready && !lane->leased && !lane->unscanned);
    assert_false(lane->staged);
    if (!lane->hold)
        return;
    assert_ptr_equal(lane->hold->lane, lane);
    assert_ptr_equal(lane->hold->queue, queue);
    assert_int_equal(lane->hold->taken, 0);
    assert_int_equal(lane->hold->counted, lane->leased);
    assert_int_equal(!list_empty(&lane->hold->held), held);
}

static void check_leases(struct queue *queue)
{
    uint32_t bucket = 0;
    uint64_t leased = 0, unacked = 0;
    for (struct hash_link *link = hash_next(&queue->leases, &bucket, NULL); link;
         link = hash_next(&queue->leases, &bucket, link)) {
        const struct lease *lease = CONTAINER_OF(link, struct lease, by_id);
        assert_int_equal(lease->staged, 0);
        assert_true(!lease->batch || lease->batch->remaining > 0);
        assert_true(!lease->batch || lease->batch->staged_removals == 0);
        leased += lease->state != LEASE_RETURNED;
        unacked += lease->consumer != NULL;
    }
    assert_int_equal(leased, queue->leased);
    assert_true(unacked <= leased);
    assert_int_equal(leased, queue->expiry ? queue->expiry->count : 0);
}

static void check_queue(struct queue *queue)
{
    uint64_t lanes = 0, ready = 0, leased = 0, held = 0, held_lanes = 0, active = 0;
    uint32_t bucket = 0;
    for (struct hash_link *link = hash_next(&queue->lanes, &bucket, NULL); link;
         link = hash_next(&queue->lanes, &bucket, link)) {
        const struct lane *lane = CONTAINER_OF(link, struct lane, link);
        check_lane(queue, lane);
        lanes++;
        ready += lane->ready;
        leased += lane->leased;
        held += hold_is_held(lane) ? lane->ready : 0;
        held_lanes += hold_is_held(lane);
    }
    assert_int_equal(lanes, queue->lane_count);
    assert_int_equal(ready, queue->ready);
    assert_int_equal(leased, queue->leased);
    assert_int_equal(held, queue->held);
    assert_int_equal(held_lanes, queue->held_lanes);
    ready = lanes = bucket = 0;
    for (struct hash_link *link = hash_next(&queue->keys, &bucket, NULL); link;
         link = hash_next(&queue->keys, &bucket, link)) {
        struct fairness_key *key = CONTAINER_OF(link, struct fairness_key, link);
        assert_int_equal(key->drr.active, heap_first(&key->heads) != NULL);
        active += key->drr.active;
        ready += key->ready;
        lanes += key->lane_count;
    }
    assert_int_equal(ready, queue->ready);
    assert_int_equal(lanes, queue->lane_count);
    assert_int_equal(active, queue->drr.count);
    check_leases(queue);
}

/* What lanes of all queues, dead ones too, say of a throttle. */
struct seen {
    const struct throttle *throttle;
    uint64_t references, waiting, in_flight;
};

static void look_at_lanes(struct queue *queue, struct seen *seen)
{
    LIST_EACH(&queue->throttled, entry)
    {
        const struct hold *hold = CONTAINER_OF(entry, struct hold, link);
        for (unsigned i = 0; i < hold->count; i++) {
            if (hold->throttles[i] != seen->throttle)
                continue;
            seen->references++;
            seen->in_flight += hold->counted;
        }
        seen->waiting += hold->at == seen->throttle && !list_empty(&hold->wait);
    }
}

static void check_throttle(struct scheduler *scheduler, const struct throttle *throttle)
{
    struct seen seen = {.throttle = throttle};
    uint64_t listed = 0;
    for (uint32_t i = 0; i < ZONE_QUEUES; i++) {
        struct queue *queue = atomic_load(&scheduler->queues[i]);
        if (queue)
            look_at_lanes(queue, &seen);
    }
    LIST_EACH(&throttle->waiting, entry)
    listed++;
    assert_int_equal(throttle->references, seen.references);
    assert_int_equal(throttle->waiting_count, listed);
    assert_int_equal(listed, seen.waiting);
    if (throttle->kind == THROTTLE_LIMIT)
        assert_int_equal(throttle->limit.in_flight, seen.in_flight);
    assert_true(throttle->configured || throttle->references);
}

static void check(struct accounts *accounts)
{
    struct scheduler *scheduler = scheduler_of(accounts);
    uint32_t configured = 0;
    for (uint32_t i = 0; i < ZONE_QUEUES; i++) {
        struct queue *queue = atomic_load(&scheduler->queues[i]);
        if (queue && !atomic_load(&queue->dead))
            check_queue(queue);
    }
    for (unsigned i = 0; i < THROTTLE_SHARDS; i++) {
        const struct hash *table = &scheduler->throttles.shards[i].table;
        uint32_t bucket = 0;
        for (struct hash_link *link = hash_next(table, &bucket, NULL); link;
             link = hash_next(table, &bucket, link)) {
            const struct throttle *throttle = CONTAINER_OF(link, struct throttle, link);
            check_throttle(scheduler, throttle);
            configured += throttle->configured;
        }
    }
    assert_int_equal(configured, atomic_load(&scheduler->throttles.count));
}

/* --- steps --- */

static void step_enqueue(struct accounts *accounts)
{
    struct fixture_message messages[8];
    struct str keys[2];
    uint32_t count = 1 + draw(accounts, 8);
    const char *queue = queues[draw(accounts, QUEUES)], *key = names[draw(accounts, NAMES)];
    uint16_t throttles = (uint16_t)draw(accounts, 3);
    for (uint16_t i = 0; i < throttles; i++)
        keys[i] = str_from_c(names[draw(accounts, NAMES)]);
    for (uint32_t i = 0; i < count; i++)
        messages[i] =
            (struct fixture_message){queue, key, 1 + draw(accounts, 3), accounts->payload++, 4};
    struct operation_enqueue *enqueue = fixture_frame(messages, count);
    for (uint32_t i = 0; i < count; i++) {
        enqueue->items[i].throttle_keys = keys;
        enqueue->items[i].throttle_count = throttles;
        enqueue->items[i].delay_ms = draw(accounts, 5) ? 0 : SOON_MS;
    }
    fixture_execute(worker(accounts), &enqueue->operation);
    fixture_frame_free(enqueue);
}

static unsigned index_of(struct str name)
{
    unsigned queue = 0;
    while (!str_equal(name, str_from_c(queues[queue])))
        queue++;
    return queue;
}

/* Notes what came, or gives it back as the loop does when the connection is gone. */
static void take(struct accounts *accounts, struct fixture *fixture, bool give_back)
{
    for (unsigned i = 0; i < fixture->emitted_count; i++) {
        struct operation *operation = fixture->emitted[i];
        struct operation_delivery *delivery = (struct operation_delivery *)operation;
        if (operation->kind != OPERATION_DELIVERY)
            continue;
        unsigned queue = index_of(delivery->subscription->queue);
        for (uint32_t j = 0; j < delivery->count && !give_back; j++) {
            assert_true(accounts->held_count < HELD_MAX);
            accounts->held[accounts->held_count++] = (struct held){queue, delivery->leases[j].id};
        }
        atomic_fetch_sub(&fixture->window.queued, delivery->size);
        operation->kind = give_back ? OPERATION_RETURN : OPERATION_DELIVERY;
        if (give_back)
            fixture_execute(fixture, operation);
    }
    fixture_forget_emitted(fixture);
}

static void step_deliver(struct accounts *accounts)
{
    struct fixture *fixture = worker(accounts);
    fixture_deliver(fixture);
    take(accounts, fixture, !draw(accounts, 4));
}

static void settle(struct accounts *accounts, uint32_t index, bool ack)
{
    struct held held = accounts->held[index];
    accounts->held[index] = accounts->held[--accounts->held_count];
    (void)fixture_settle(worker(accounts), ack ? OPERATION_ACK : OPERATION_NACK, queues[held.queue],
                         &held.id);
}

static void step_settle(struct accounts *accounts)
{
    for (unsigned i = 1 + draw(accounts, 20); i && accounts->held_count; i--)
        settle(accounts, draw(accounts, accounts->held_count), draw(accounts, 3) > 0);
}

static void step_expire(struct accounts *accounts)
{
    accounts->later_ms += draw(accounts, 3) ? 31000 : 62000; /* lanes that are idle go, too */
    fixture_expire(accounts->workers[0], time_monotonic_ms() + accounts->later_ms);
}

static void step_due(struct accounts *accounts)
{
    fixture_due(accounts->workers[0], time_wall_ms() + 2 * SOON_MS);
}

static void step_refill(struct accounts *accounts)
{
    (void)throttled_run(accounts->workers[0]);
}

static void step_configure(struct accounts *accounts)
{
    static const char *const limits[] = {"0", "1", "3", "1000000000", "", ""};
    static const char *const buckets[] = {"0,0", "1000,1", "5,3", "1e9,1e9", "", ""};
    char key[64];
    bool limit = draw(accounts, 2);
    unsigned value = draw(accounts, 6);
    snprintf(key, sizeof(key), "%s.%s", limit ? "concurrency" : "throttle",
             names[draw(accounts, NAMES)]);
    throttled_set(worker(accounts), key, limit ? limits[value] : buckets[value]);
}

static void set_paused(struct accounts *accounts, unsigned queue, bool paused)
{
    struct operation_update_queue update = {.operation = {.kind = OPERATION_UPDATE_QUEUE},
                                            .name = str_from_c(queues[queue]),
                                            .sets_max_attempts = true,
                                            .max_attempts = draw(accounts, 4),
                                            .sets_paused = true,
                                            .paused = paused};
    fixture_execute(worker(accounts), &update.operation);
    assert_int_equal(update.operation.status, FIBP_OK);
    accounts->paused[queue] = paused;
}

static void step_update(struct accounts *accounts)
{
    unsigned queue = draw(accounts, QUEUES);
    set_paused(accounts, queue, !accounts->paused[queue]);
}

static void subscribe(struct accounts *accounts, unsigned at, unsigned queue, bool wanted)
{
    struct subscription *subscription = &accounts->subscriptions[at][queue];
    if (wanted == accounts->subscribed[at][queue])
        return;
    if (wanted)
        fixture_subscribe(accounts->workers[at], queues[queue], subscription);
    else
        fixture_unsubscribe(accounts->workers[at], subscription);
    accounts->subscribed[at][queue] = wanted;
}

static void step_subscribe(struct accounts *accounts)
{
    unsigned at = draw(accounts, WORKERS), queue = draw(accounts, QUEUES);
    subscribe(accounts, at, queue, !accounts->subscribed[at][queue]);
}

static void step_redrive(struct accounts *accounts)
{
    struct operation_redrive redrive = {.operation = {.kind = OPERATION_REDRIVE},
                                        .name = str_from_c(queues[1 + 2 * draw(accounts, 2)]),
                                        .limit = draw(accounts, 30)};
    fixture_execute(worker(accounts), &redrive.operation);
    assert_int_equal(redrive.operation.status, FIBP_OK);
}

static void step_purge(struct accounts *accounts)
{
    struct operation_purge purge = {.operation = {.kind = OPERATION_PURGE_QUEUE},
                                    .name = str_from_c(queues[draw(accounts, QUEUES)])};
    fixture_execute(worker(accounts), &purge.operation);
    assert_int_equal(purge.operation.status, FIBP_OK);
}

static void freed(void *context, uint64_t id)
{
    (void)context;
    (void)id;
}

/* As purge_step of the keeper, when all workers have let go. */
static void reap(struct accounts *accounts)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_int_equal(broker_refresh(accounts->workers[i]->broker), 0);
        take(accounts, accounts->workers[i], true);
    }
    scheduler_reap(scheduler_of(accounts), freed, NULL);
    assert_true(list_empty(&scheduler_of(accounts)->dead));
}

static void step_delete(struct accounts *accounts)
{
    unsigned first = 2 * draw(accounts, 2);
    assert_int_equal(fixture_delete(worker(accounts), queues[first]), FIBP_OK);
    assert_int_equal(fixture_create(worker(accounts), queues[first]), FIBP_OK);
    for (unsigned i = 0; i < WORKERS; i++)
        accounts->subscribed[i][first] = accounts->subscribed[i][first + 1] = false;
    accounts->paused[first] = accounts->paused[first + 1] = false;
    for (unsigned i = draw(accounts, 3); i; i--) /* the dead one is there meanwhile */
        step_refill(accounts);
    reap(accounts);
}

static void join(struct accounts *accounts)
{
    for (unsigned i = 1; i < WORKERS; i++) {
        accounts->workers[i] = &accounts->others[i - 1];
        fixture_join(accounts->workers[i], accounts->workers[0], i);
    }
}

static void leave(struct accounts *accounts)
{
    for (unsigned i = 1; i < WORKERS; i++)
        fixture_leave(accounts->workers[i]);
}

static uint64_t in_flight_of(struct accounts *accounts, const char *name)
{
    struct throttle *throttle =
        throttle_acquire(scheduler_of(accounts), THROTTLE_LIMIT, str_from_c(name));
    uint64_t in_flight = throttle ? throttle->limit.in_flight : UINT64_MAX;
    if (throttle)
        throttle_release(scheduler_of(accounts), throttle);
    return in_flight;
}

/* The zone that is built anew says what the old one said. */
static void step_restart(struct accounts *accounts)
{
    struct fixture *fixture = accounts->workers[0];
    struct operation_queue_row before[QUEUES];
    uint64_t in_flight[NAMES];
    for (unsigned i = 0; i < QUEUES; i++)
        before[i] = fixture_stats(fixture, queues[i]);
    for (unsigned i = 0; i < NAMES; i++)
        in_flight[i] = in_flight_of(accounts, names[i]);
    leave(accounts);
    fixture_close(fixture);
    fixture_open(fixture);
    join(accounts);
    memset(accounts->subscribed, 0, sizeof(accounts->subscribed));
    accounts->later_ms = 0;
    check(accounts);
    struct maintenance maintenance = {.broker = fixture->broker};
    list_init(&maintenance.doomed);
    while (count_step(&maintenance) > 0)
        check(accounts);
    count_abandon(&maintenance);
    for (unsigned i = 0; i < QUEUES; i++) {
        struct operation_queue_row after = fixture_stats(fixture, queues[i]);
        assert_int_equal(after.depth, before[i].depth);
        /* Those that were given back undelivered count as leased again: the store says so. */
        assert_true(after.in_flight >= before[i].in_flight);
    }
    for (unsigned i = 0; i < NAMES; i++) {
        uint64_t after = in_flight_of(accounts, names[i]);
        assert_int_equal(after == UINT64_MAX, in_flight[i] == UINT64_MAX);
        assert_true(after >= in_flight[i]);
    }
}

/* --- the run --- */

static const struct {
    void (*run)(struct accounts *accounts);
    unsigned share;
} steps[] = {
    {step_enqueue, 30}, {step_deliver, 40}, {step_settle, 25},    {step_refill, 15},
    {step_expire, 4},   {step_due, 6},      {step_configure, 12}, {step_update, 6},
    {step_redrive, 4},  {step_purge, 1},    {step_subscribe, 10}, {step_delete, 1},
    {step_restart, 1},
};

static void run_step(struct accounts *accounts)
{
    unsigned total = 0, which = 0;
    for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        total += steps[i].share;
    unsigned at = draw(accounts, total);
    while (at >= steps[which].share)
        at -= steps[which++].share;
    steps[which].run(accounts);
}

static bool is_empty(struct accounts *accounts)
{
    bool empty = true;
    for (unsigned i = 0; i < QUEUES; i++)
        empty = empty && fixture_stats(accounts->workers[0], queues[i]).depth == 0;
    return empty;
}

/* Takes and acks all there is with the limits as they are, but for those that let nothing pass:
 * nobody is held for ever. */
static void drain(struct accounts *accounts)
{
    for (unsigned i = 0; i < NAMES; i++) {
        char key[64];
        snprintf(key, sizeof(key), "throttle.%s", names[i]);
        throttled_set(accounts->workers[0], key, "1e6,10");
        snprintf(key, sizeof(key), "concurrency.%s", names[i]);
        throttled_set(accounts->workers[0], key, "2");
    }
    for (unsigned i = 0; i < QUEUES; i++) {
        set_paused(accounts, i, false);
        for (unsigned j = 0; j < WORKERS; j++)
            subscribe(accounts, j, i, true);
    }
    step_due(accounts);
    accounts->later_ms += 31000; /* leases that nobody knows of any more */
    fixture_expire(accounts->workers[0], time_monotonic_ms() + accounts->later_ms);
    accounts->held_count = 0;
    for (unsigned round = 0; !is_empty(accounts); round++) {
        assert_true(round < 20000);
        step_refill(accounts);
        for (unsigned i = 0; i < WORKERS; i++) {
            fixture_deliver(accounts->workers[i]);
            take(accounts, accounts->workers[i], false);
        }
        while (accounts->held_count)
            settle(accounts, 0, true);
        check(accounts);
    }
    for (unsigned i = 0; i < NAMES; i++)
        assert_int_equal(in_flight_of(accounts, names[i]), 0);
}

static void run(struct fixture *fixture, unsigned seed, unsigned count)
{
    struct accounts *accounts = calloc(1, sizeof(*accounts));
    assert_non_null(accounts);
    accounts->workers[0] = fixture;
    accounts->random = seed;
    join(accounts);
    print_message("ACCOUNTS_SEED=%u\n", seed);
    for (unsigned n = 0; n < count; n++) {
        run_step(accounts);
        check(accounts);
    }
    drain(accounts);
    for (unsigned i = 0; i < WORKERS; i++)
        for (unsigned j = 0; j < QUEUES; j++)
            subscribe(accounts, i, j, false);
    leave(accounts);
    free(accounts);
}

static void all_counts_agree(void **state)
{
    struct fixture *fixture = *state;
    const char *seed = getenv("ACCOUNTS_SEED"), *count = getenv("ACCOUNTS_STEPS");
    unsigned number = count ? (unsigned)strtoul(count, NULL, 10) : 500;
    log_set_level(LOG_ERROR);
    fixture_create(fixture, "a");
    fixture_create(fixture, "b");
    if (seed)
        run(fixture, (unsigned)strtoul(seed, NULL, 10), number);
    for (unsigned i = 1; !seed && i <= 4; i++)
        run(fixture, i, number);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_counts_agree, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
