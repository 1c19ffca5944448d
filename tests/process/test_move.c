/*
 * Three processes on one store move messages between a queue and its dead-letter queue in both
 * directions while leases expire under them: nobody stalls, no message is lost or made. Every tenth
 * is stored apart and arrives whole, and in the end nothing of any is left in the wrong place.
 *
 * Lasts MOVE_SECONDS (default 5; 60 for a thorough run).
 */
#include "unit/broker/large.h"

#include <signal.h>
#include <sys/wait.h>

#include "broker/move.h"
#include "os/time.h"

#define MESSAGES 300
#define PROCESSES 3
#define LEASE_MS 40
#define STALL_MS 5000

struct actor {
    struct fixture *fixture;
    unsigned number;
    unsigned seed;
    struct subscription live, dead;
    uint64_t steps;
};

static int pick(struct actor *actor, int sides)
{
    return rand_r(&actor->seed) % sides;
}

static void join_store(struct actor *actor)
{
    struct fixture *fixture = actor->fixture;
    struct err err = {0};
    struct env_options options = {
        .path = fixture->path, .regions = fixture->regions, .cache_size = 16u << 20};
    fixture->env = env_open(&options, &err);
    if (!fixture->env)
        fail_msg("%s", err.text);
    struct broker_options broker_options = {.zone = fixture->zone,
                                            .slot = actor->number + 1,
                                            .thread = ZONE_STORE_THREAD,
                                            .generation = atomic_load(&fixture->zone->generation),
                                            .env = fixture->env,
                                            .handles = 4,
                                            .visibility_timeout_ms = LEASE_MS,
                                            .max_unacked = 1000,
                                            .commit = ENV_COMMIT_MEMORY,
                                            .emit = fixture_emit,
                                            .context = fixture};
    fixture->broker = broker_open(&broker_options, &err);
    if (!fixture->broker)
        fail_msg("%s", err.text);
    assert_int_equal(broker_refresh(fixture->broker), 0);
    large_subscribe(fixture, "a", &actor->live);
    large_subscribe(fixture, "a.dlq", &actor->dead);
}

static void dead_letter(struct actor *actor, const struct uuid *id)
{
    struct local_queue *from = NULL, *to = NULL;
    uint8_t status = FIBP_INTERNAL_ERROR;
    assert_int_equal(broker_find_queue(actor->fixture->broker, STR("a"), &from), 0);
    assert_int_equal(broker_find_queue(actor->fixture->broker, STR("a.dlq"), &to), 0);
    assert_int_equal(fixture_dead_letter(actor->fixture->broker, from, to, id, &status), 0);
    assert_true(status == FIBP_OK || status == FIBP_MESSAGE_NOT_FOUND);
    pool_reset(actor->fixture->broker->scratch);
}

static void move_back(struct actor *actor)
{
    struct local_queue *from = NULL, *to = NULL;
    uint8_t status = FIBP_INTERNAL_ERROR;
    uint32_t moved = 0;
    assert_int_equal(broker_find_queue(actor->fixture->broker, STR("a.dlq"), &from), 0);
    assert_int_equal(broker_find_queue(actor->fixture->broker, STR("a"), &to), 0);
    struct order order;
    assert_int_equal(order_begin(&order, actor->fixture->broker, from->queue), 0);
    assert_int_equal(move_ready(actor->fixture->broker, from, to, &order, 20, &moved, &status), 0);
    assert_int_equal(status, FIBP_OK);
    pool_reset(actor->fixture->broker->scratch);
    order_free(&order);
}

static void expire(struct actor *actor)
{
    struct queue *queue = NULL;
    uint64_t when = 0, now_ms = time_monotonic_ms();
    bool more = true;
    assert_int_equal(scheduler_timer_next(actor->fixture->broker->scheduler, now_ms, &queue, &when),
                     LOCK_HELD);
    while (queue && more)
        assert_int_equal(broker_expire(actor->fixture->broker, queue, now_ms, &more), 0);
}

static void settle_delivered(struct actor *actor)
{
    struct delivered got[512];
    unsigned count = fixture_delivered(actor->fixture, got, 512);
    for (unsigned i = 0; i < count; i++) {
        int how = pick(actor, 4);
        if (how == 0)
            dead_letter(actor, &got[i].id);
        else if (how == 1)
            (void)fixture_settle(actor->fixture, OPERATION_NACK, "a", &got[i].id);
        else if (how == 2)
            (void)fixture_settle(actor->fixture, OPERATION_NACK, "a.dlq", &got[i].id);
    }
}

static void act(struct actor *actor)
{
    struct fixture *fixture = actor->fixture;
    switch (pick(actor, 4)) {
    case 0:
        move_back(actor);
        break;
    case 1:
        expire(actor);
        break;
    default:
        assert_true(broker_deliver(fixture->broker, 2) >= 0);
        settle_delivered(actor);
    }
    actor->steps++;
}

static void run_actor(struct fixture *fixture, unsigned number, uint64_t end_ms)
{
    struct actor actor = {.fixture = fixture, .number = number, .seed = number + 1};
    uint64_t longest_ms = 0;
    fixture->emitted_count = 0;
    join_store(&actor);
    for (uint64_t now_ms = time_monotonic_ms(); now_ms < end_ms;) {
        act(&actor);
        uint64_t after_ms = time_monotonic_ms();
        longest_ms = after_ms - now_ms > longest_ms ? after_ms - now_ms : longest_ms;
        now_ms = after_ms;
    }
    fprintf(stderr, "process %u: %llu steps, longest %llu ms\n", number,
            (unsigned long long)actor.steps, (unsigned long long)longest_ms);
    fixture_unsubscribe(fixture, &actor.live);
    fixture_unsubscribe(fixture, &actor.dead);
    broker_close(fixture->broker);
    assert_int_equal(env_close(fixture->env), 0);
    _exit(longest_ms < STALL_MS && actor.steps > 50 ? 0 : 1);
}

static void report(struct fixture *fixture, const char *name)
{
    struct local_queue *local = NULL;
    assert_int_equal(broker_find_queue(fixture->broker, str_from_c(name), &local), 0);
    const struct queue *queue = local->queue;
    fprintf(stderr, "%s: delivered %llu, nacked %llu, expired %llu\n", name,
            (unsigned long long)queue->counters->delivered,
            (unsigned long long)queue->counters->nacked,
            (unsigned long long)queue->counters->expired);
    assert_true(queue->counters->delivered > MESSAGES);
}

static void assert_clean(struct fixture *fixture, const char *name)
{
    struct large_stored stored = large_look(fixture, name);
    assert_int_equal(stored.orphans, 0);
    assert_int_equal(stored.markers, 0);
}

static void moves_in_both_directions_keep_the_sum(void **state)
{
    struct fixture *fixture = *state;
    const char *seconds = getenv("MOVE_SECONDS");
    uint64_t end_ms = time_monotonic_ms() + (seconds ? (uint64_t)atoi(seconds) : 5) * 1000;
    pid_t children[PROCESSES];
    fixture_create(fixture, "a");
    for (uint32_t i = 0; i < MESSAGES; i++) {
        char key[8];
        snprintf(key, sizeof(key), "%u", i % 7);
        if (i % 10 == 0)
            assert_int_equal(large_enqueue(fixture, "a", i, 5000 + i * 3000), FIBP_OK);
        else
            fixture_enqueue(fixture, "a", key, 1 + i % 3, i, 1, NULL);
    }
    for (unsigned i = 0; i < PROCESSES; i++) {
        zone_slot_prepare(fixture->zone, i + 1);
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0)
            run_actor(fixture, i, end_ms);
    }
    for (unsigned i = 0; i < PROCESSES; i++) {
        int status = 0;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
        zone_slot_release(fixture->zone, i + 1);
    }
    report(fixture, "a");
    report(fixture, "a.dlq");
    struct operation_queue_row live = fixture_stats(fixture, "a");
    struct operation_queue_row dead = fixture_stats(fixture, "a.dlq");
    assert_int_equal(live.depth + dead.depth, MESSAGES);
    assert_clean(fixture, "a");
    assert_clean(fixture, "a.dlq");

    /* What the zone says is what the store holds: built anew, the same messages come out once each.
     */
    struct subscription subscriptions[2];
    static struct delivered got[2 * MESSAGES];
    bool seen[MESSAGES] = {false};
    fixture_close(fixture);
    fixture_open(fixture);
    fixture_expire(fixture, time_monotonic_ms() + 60000);
    large_subscribe(fixture, "a", &subscriptions[0]);
    large_subscribe(fixture, "a.dlq", &subscriptions[1]);
    fixture_deliver(fixture);
    unsigned count = fixture_delivered(fixture, got, 2 * MESSAGES);
    assert_int_equal(count, MESSAGES);
    for (unsigned i = 0; i < count; i++) {
        assert_true(got[i].payload < MESSAGES && !seen[got[i].payload]);
        seen[got[i].payload] = true;
    }
    fixture_unsubscribe(fixture, &subscriptions[0]);
    fixture_unsubscribe(fixture, &subscriptions[1]);
}

static int setup(void **state)
{
    int status = fixture_setup(state);
    if (status == 0)
        ((struct fixture *)*state)->broker->options.visibility_timeout_ms = LEASE_MS;
    return status;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(moves_in_both_directions_keep_the_sum, setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
