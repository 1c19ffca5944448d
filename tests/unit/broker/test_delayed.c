/* Messages that are delivered later. */
#include "unit/broker/fixture.h"

#include "broker/delayed.h"
#include "keeper/maintenance.h"
#include "os/time.h"
#include "unit/broker/large.h"

#define FAR_MS (DELAYED_MAX_MS + 10000)

/* `count` messages of one frame, payloads first, first + 1, ..., message i delayed by
 * delays[i]. */
static void enqueue(struct fixture *fixture, const char *key, uint32_t first, uint32_t count,
                    const uint64_t *delays)
{
    struct fixture_message *messages = calloc(count, sizeof(*messages));
    for (uint32_t i = 0; i < count; i++)
        messages[i] = (struct fixture_message){"q", key, 1, first + i, 4};
    struct operation_enqueue *enqueue = fixture_frame(messages, count);
    for (uint32_t i = 0; i < count; i++)
        enqueue->items[i].delay_ms = delays[i];
    fixture_execute(fixture, &enqueue->operation);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(enqueue->items[i].status, FIBP_OK);
    fixture_frame_free(enqueue);
    free(messages);
}

/* Counts what the store held before, as the keeper does; the fixture's broker stands for its. */
static void count_all(struct fixture *fixture)
{
    struct maintenance maintenance = {.broker = fixture->broker};
    list_init(&maintenance.doomed);
    int step = 1;
    while (step > 0)
        step = count_step(&maintenance);
    assert_int_equal(step, 0);
    count_abandon(&maintenance);
}

static void one_comes_when_it_is_due_and_not_before(void **state)
{
    struct fixture *fixture = *state;
    struct delivered got[4];
    fixture_create(fixture, "q");
    uint64_t before_ms = time_wall_ms();
    enqueue(fixture, "k", 7, 1, (const uint64_t[]){5000});
    uint64_t after_ms = time_wall_ms();
    const struct queue *queue = fixture_queue(fixture, "q");
    assert_int_equal(queue->delayed, 1);
    assert_int_equal(queue->lane_count, 0); /* none before it is due */
    assert_int_equal(fixture_stats(fixture, "q").depth, 1);
    assert_in_range(queue->next_due_ms, before_ms + 5001, after_ms + 5001);
    assert_int_equal(fixture_due(fixture, before_ms + 5000), 0);
    assert_int_equal(fixture_take(fixture, "q", got, 4), 0);
    assert_int_not_equal(fixture_due(fixture, after_ms + 5001), 0);
    assert_int_equal(fixture_stats(fixture, "q").depth, 1);
    assert_int_equal(queue->delayed, 0);
    assert_int_equal(queue->next_due_ms, UINT64_MAX);
    assert_int_equal(fixture_take(fixture, "q", got, 4), 1);
    assert_int_equal(got[0].payload, 7);
    assert_int_equal(got[0].attempt, 0);
    assert_int_equal(got[0].key, 'k');
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[0].id), FIBP_OK);
    assert_int_equal(fixture_stats(fixture, "q").depth, 0);
}

static void the_order_is_that_of_due_times(void **state)
{
    struct fixture *fixture = *state;
    static struct delivered got[600];
    uint64_t delays[500];
    fixture_create(fixture, "q");
    for (uint32_t i = 0; i < 500; i++)
        delays[i] = 1000 + (i * 7919u) % 500;
    enqueue(fixture, "k", 0, 500, delays);
    fixture_enqueue(fixture, "q", "k", 1, 1000, 1, NULL); /* one that is ready stands before */
    assert_int_equal(fixture_due(fixture, time_wall_ms() + FAR_MS), 5); /* a hundred each */
    assert_int_equal(fixture_take(fixture, "q", got, 600), 501);
    assert_int_equal(got[0].payload, 1000);
    for (uint32_t i = 1; i < 500; i++)
        assert_true(delays[got[i].payload] <= delays[got[i + 1].payload]);
}

static void a_crash_loses_none_and_all_are_counted(void **state)
{
    struct fixture *fixture = *state;
    static struct delivered got[700];
    uint64_t delays[600];
    fixture_create(fixture, "q");
    for (uint32_t i = 0; i < 600; i++)
        delays[i] = i < 250 ? 1000 + i : DELAYED_MAX_MS * 3; /* cut */
    enqueue(fixture, "k", 0, 600, delays);
    uint64_t now_ms = time_wall_ms();
    fixture_close(fixture);
    fixture_open(fixture);
    const struct queue *queue = fixture_queue(fixture, "q");
    assert_false(queue->scan.done);
    assert_in_range(queue->next_due_ms, now_ms, now_ms + 1001);
    /* Some are due before they are counted, and some come new. */
    uint64_t due_ms = queue->next_due_ms + 149;
    assert_int_equal(fixture_due(fixture, due_ms), 2);
    enqueue(fixture, "k", 600, 2, (const uint64_t[]){500000, 1});
    count_all(fixture);
    assert_int_equal(queue->delayed, 452);
    assert_int_equal(fixture_stats(fixture, "q").depth, 602);
    assert_int_equal(fixture_take(fixture, "q", got, 700), 150);
    fixture_due(fixture, now_ms + FAR_MS + 1000);
    assert_int_equal(queue->delayed, 0);
    assert_int_equal(fixture_take(fixture, "q", got, 700), 452);
    assert_int_equal(got[0].payload, 601);
    for (uint32_t i = 1; i <= 100; i++)
        assert_int_equal(got[i].payload, 149 + i);
    assert_int_equal(got[101].payload, 600);
}

static void a_full_disk_puts_it_off(void **state)
{
    struct fixture *fixture = *state;
    struct delivered got[4];
    fixture_create(fixture, "q");
    enqueue(fixture, "k", 0, 3, (const uint64_t[]){1, 2, 3});
    uint64_t wall_ms = time_wall_ms() + 100;
    fixture->broker->options.commit = ENV_COMMIT_KERNEL;
    fixture_fill_disk();
    assert_int_equal(fixture_due(fixture, wall_ms), 1); /* and no busy wait */
    assert_int_equal(fixture_due(fixture, wall_ms), 0);
    os_calls_reset();
    struct queue *queue = NULL;
    uint64_t when_ms = 0, now_ms = time_monotonic_ms();
    assert_int_equal(scheduler_timer_next(fixture->broker->scheduler, 0, &queue, &when_ms),
                     LOCK_HELD);
    assert_in_range(when_ms, now_ms, now_ms + 1000);
    assert_int_equal(fixture_queue(fixture, "q")->delayed, 3);
    fixture_expire(fixture, now_ms + 1000);
    assert_int_not_equal(fixture_due(fixture, wall_ms), 0);
    assert_int_equal(fixture_take(fixture, "q", got, 4), 3);
}

/* Takes what room the zone has for lanes; returns how many blocks. */
static unsigned fill_zone(struct fixture *fixture, void **blocks, unsigned limit)
{
    unsigned count = 0;
    while (scheduler_room(fixture->broker->scheduler)) {
        assert_true(count < limit);
        blocks[count] = arena_alloc(fixture->broker->scheduler->arena, 16384);
        assert_non_null(blocks[count++]);
    }
    return count;
}

static void free_zone(struct fixture *fixture, void **blocks, unsigned count)
{
    while (count > 0)
        arena_free(fixture->broker->scheduler->arena, blocks[--count]);
}

static void a_full_zone_puts_it_off_but_for_lanes_that_are_there(void **state)
{
    struct fixture *fixture = *state;
    struct delivered got[8];
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "a", 1, 0, 1, NULL);
    enqueue(fixture, "b", 1, 1, (const uint64_t[]){1});
    enqueue(fixture, "a", 2, 1, (const uint64_t[]){2});
    enqueue(fixture, "b", 3, 1, (const uint64_t[]){3});
    uint64_t wall_ms = time_wall_ms() + 100;
    static void *blocks[1u << 16];
    unsigned count = fill_zone(fixture, blocks, 1u << 16);
    fixture_due(fixture, wall_ms);
    assert_int_equal(fixture_queue(fixture, "q")->delayed, 2);
    assert_int_equal(fixture_take(fixture, "q", got, 8), 2);
    assert_int_equal(got[1].payload, 2);
    free_zone(fixture, blocks, count);
    fixture_expire(fixture, time_monotonic_ms() + 1001);
    fixture_due(fixture, wall_ms);
    assert_int_equal(fixture_take(fixture, "q", got, 8), 2);
    assert_int_equal(got[0].payload, 1);
    assert_int_equal(got[1].payload, 3);
}

/* More than one read sees at once waits for a lane. */
static void a_full_zone_lets_those_behind_pass(void **state)
{
    struct fixture *fixture = *state;
    static struct delivered got[1000];
    static void *blocks[1u << 16];
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "a", 1, 0, 1, NULL);
    for (uint32_t i = 0; i < 700; i++) {
        struct fixture_message message = {"q", i < 680 ? "b" : "a", 1, 1 + i, 4000};
        struct operation_enqueue *enqueue = fixture_frame(&message, 1);
        enqueue->items[0].delay_ms = 1000 + i;
        fixture_execute(fixture, &enqueue->operation);
        fixture_frame_free(enqueue);
    }
    enqueue(fixture, "a", 701, 1, (const uint64_t[]){1000000});
    uint64_t wall_ms = time_wall_ms() + 100000;
    unsigned count = fill_zone(fixture, blocks, 1u << 16);
    const struct queue *queue = fixture_queue(fixture, "q");
    uint64_t first_ms = queue->next_due_ms;
    fixture_due(fixture, wall_ms);
    assert_int_equal(queue->delayed, 681);
    assert_int_equal(queue->next_due_ms, first_ms);
    assert_true(queue->due_again_ms > 0); /* it is not tried without pause */
    fixture->window.limit = 16u << 20;
    assert_int_equal(fixture_take(fixture, "q", got, 1000), 21);
    for (uint32_t i = 1; i < 21; i++)
        assert_int_equal(got[i].payload, 680 + i);
    free_zone(fixture, blocks, count);
    fixture_expire(fixture, time_monotonic_ms() + 1001);
    fixture_due(fixture, wall_ms);
    assert_int_equal(queue->delayed, 1);
    assert_true(queue->next_due_ms > wall_ms);
    assert_int_equal(fixture_take(fixture, "q", got, 1000), 680);
    for (uint32_t i = 0; i < 680; i++)
        assert_int_equal(got[i].payload, 1 + i);
}

static void one_that_cannot_be_read_holds_back_nobody(void **state)
{
    struct fixture *fixture = *state;
    struct delivered got[4];
    struct local_queue *local = NULL;
    DB_TXN *txn = NULL;
    uint8_t key[RECORD_DELAYED_KEY_SIZE];
    fixture_create(fixture, "q");
    enqueue(fixture, "k", 0, 2, (const uint64_t[]){1, 2});
    assert_int_equal(broker_find_queue(fixture->broker, STR("q"), &local), 0);
    assert_int_equal(env_begin(fixture->env, &txn), 0);
    record_delayed_key(key, 1, 1);
    assert_int_equal(queue_db_put(local->db, txn, str_of(key, sizeof(key)), STR("rubbish")), 0);
    assert_int_equal(env_commit(txn, ENV_COMMIT_MEMORY), 0);
    fixture_due(fixture, time_wall_ms() + 100);
    assert_int_equal(fixture_take(fixture, "q", got, 4), 2);
    assert_int_equal(local->queue->next_due_ms, UINT64_MAX);
    /* It is there still, and never due. */
    record_delayed_key(key, RECORD_DELAYED_NEVER, 1);
    struct buf value;
    buf_init(&value, 0);
    assert_int_equal(queue_db_get(local->db, NULL, str_of(key, sizeof(key)), &value), 0);
    assert_true(str_equal(buf_str(&value), STR("rubbish")));
    buf_free(&value);
    fixture_close(fixture);
    fixture_open(fixture);
    count_all(fixture);
    assert_int_equal(fixture_queue(fixture, "q")->delayed, 0);
    assert_int_equal(fixture_due(fixture, time_wall_ms() + FAR_MS), 0);
}

static void large_ones_keep_what_is_apart(void **state)
{
    struct fixture *fixture = *state;
    static const size_t sizes[] = {100, 5000, 60000, 300000};
    struct subscription subscription;
    fixture_create(fixture, "q");
    for (uint32_t i = 0; i < 4; i++) {
        struct operation_enqueue *enqueue = large_frame("q", "k", i, sizes[i]);
        enqueue->items[0].delay_ms = 1 + i;
        fixture_execute(fixture, &enqueue->operation);
        assert_int_equal(enqueue->items[0].status, FIBP_OK);
        fixture_frame_free(enqueue);
    }
    fixture_close(fixture);
    fixture_open(fixture);
    fixture_due(fixture, time_wall_ms() + 100);
    large_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    struct delivered got[4];
    assert_int_equal(fixture_delivered(fixture, got, 4), 4);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(got[i].payload, i);
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[i].id), FIBP_OK);
    }
    fixture_unsubscribe(fixture, &subscription);
    assert_int_equal(large_look(fixture, "q").chunks, 0);
}

static void a_purge_takes_them_and_what_is_apart(void **state)
{
    struct fixture *fixture = *state;
    struct local_queue *local = NULL;
    fixture_create(fixture, "q");
    uint64_t delays[150];
    for (uint32_t i = 0; i < 150; i++)
        delays[i] = 100000 + i;
    enqueue(fixture, "k", 0, 150, delays);
    for (uint32_t i = 0; i < 2; i++) {
        struct operation_enqueue *enqueue = large_frame("q", "k", i, i ? 300000 : 5000);
        enqueue->items[0].delay_ms = 50000;
        fixture_execute(fixture, &enqueue->operation);
        fixture_frame_free(enqueue);
    }
    assert_int_equal(broker_find_queue(fixture->broker, STR("q"), &local), 0);
    uint32_t purged = 0;
    int result = 0;
    struct delayed_walk walk = {.before = local->queue->next_seq};
    assert_int_equal(delayed_purge(fixture->broker, local, &walk, &purged, &result), 0);
    assert_int_equal(result, 0);
    assert_int_equal(purged, 100);
    assert_int_equal(local->queue->delayed, 52);
    assert_false(walk.ended);
    assert_int_equal(delayed_purge(fixture->broker, local, &walk, &purged, &result), 0);
    assert_int_equal(purged, 52);
    assert_int_equal(delayed_purge(fixture->broker, local, &walk, &purged, &result), 0);
    assert_int_equal(purged, 0);
    assert_int_equal(result, 0);
    assert_true(walk.ended);
    assert_int_equal(fixture_stats(fixture, "q").depth, 0);
    assert_int_equal(large_look(fixture, "q").chunks, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(one_comes_when_it_is_due_and_not_before),
        TEST(the_order_is_that_of_due_times),
        TEST(a_crash_loses_none_and_all_are_counted),
        TEST(a_full_disk_puts_it_off),
        TEST(a_full_zone_puts_it_off_but_for_lanes_that_are_there),
        TEST(a_full_zone_lets_those_behind_pass),
        TEST(one_that_cannot_be_read_holds_back_nobody),
        TEST(large_ones_keep_what_is_apart),
        TEST(a_purge_takes_them_and_what_is_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
