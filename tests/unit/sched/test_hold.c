/* Lanes that throttles hold: who waits, who is released when, by a pretended clock. */
#include "unit/sched/scheduled.h"

#include "sched/concurrency.h"
#include "sched/hold.h"

#define SECOND UINT64_C(1000000000)
#define MS UINT64_C(1000000)
#define START (1000 * SECOND)

static struct queue *make_queue(struct scheduled *scheduled, const char *name)
{
    static uint64_t id = 0;
    struct queue *queue = queue_create(scheduled->scheduler, str_from_c(name), ++id, 30000);
    assert_non_null(queue);
    assert_true(scheduler_add(scheduled->scheduler, queue));
    assert_true(queue_expiry_prepare(queue, 1000));
    return queue;
}

/* A lane of fairness key `key` and the throttle keys in `keys`, each of one character. */
static struct lane *make_lane(struct queue *queue, const char *key, const char *keys,
                              uint64_t messages)
{
    static uint64_t id = 0;
    uint8_t packed[3 * 64];
    size_t count = strlen(keys);
    for (size_t i = 0; i < count; i++) {
        packed[3 * i] = 0;
        packed[3 * i + 1] = 1;
        packed[3 * i + 2] = (uint8_t)keys[i];
    }
    struct lane *lane = queue_lane_create(queue, ++id, 1, str_from_c(key), (uint16_t)count,
                                          str_of(packed, 3 * count));
    assert_non_null(lane);
    lane->next = id;
    queue_ready_add(queue, lane, (int64_t)messages);
    queue_lane_update(queue, lane, 1);
    return lane;
}

static void throttle(struct scheduled *scheduled, const char *key, double rate, double burst,
                     uint64_t now_ns)
{
    assert_int_equal(throttle_configure(scheduled->scheduler, str_from_c(key), rate, burst, now_ns),
                     THROTTLE_DONE);
}

static void limit(struct scheduled *scheduled, const char *key, uint64_t most, uint64_t now_ns)
{
    assert_int_equal(concurrency_configure(scheduled->scheduler, str_from_c(key), most, now_ns),
                     THROTTLE_DONE);
}

static struct lease *begin_lease(struct queue *queue, struct lane *lane)
{
    static uint32_t number = 0;
    struct lease *lease = queue_lease_alloc(queue);
    assert_non_null(lease);
    number++;
    memcpy(lease->id.bytes, &number, sizeof(number));
    lease->seq = number;
    lease->lane = lane;
    queue_lease_start(queue, lease, 1000000);
    return lease;
}

static void end_lease(struct queue *queue, struct lease *lease)
{
    struct lane *lane = lease->lane;
    queue_lease_end(queue, lease);
    queue_lane_update(queue, lane, 1);
}

/* What a pull does: as many as `room`, by the round robin. Delivered lanes go into `lanes`, when
 * there is one; leases into `leases`, or they end at once. Returns how many. */
static unsigned pull(struct queue *queue, uint64_t now_ns, unsigned room, struct lane **lanes,
                     struct lease **leases)
{
    unsigned count = 0;
    while (count < room) {
        struct drr_key *front = drr_front(&queue->drr);
        if (!front)
            break;
        struct lane *lane = queue_key_first(CONTAINER_OF(front, struct fairness_key, drr));
        assert_non_null(lane);
        if (hold_concerns(queue->scheduler, lane)) {
            enum hold_result result = hold_take(queue, lane, now_ns);
            assert_true(result != HOLD_NO_ROOM);
            assert_int_equal(hold_is_held(lane), result == HOLD_HELD);
            if (result == HOLD_HELD)
                continue;
        }
        drr_charge(&queue->drr, front);
        queue_ready_add(queue, lane, -1);
        struct lease *lease = begin_lease(queue, lane);
        lane->next++;
        if (lanes)
            lanes[count] = lane;
        if (leases)
            leases[count] = lease;
        else
            queue_lease_end(queue, lease);
        queue_lane_update(queue, lane, now_ns / MS);
        count++;
    }
    return count;
}

/* The refill thread's turn; when it wants the next one. */
static uint64_t run(struct scheduled *scheduled, uint64_t now_ns)
{
    uint64_t when_ns = 0;
    assert_int_equal(hold_run(scheduled->scheduler, now_ns, &when_ns), LOCK_HELD);
    return when_ns;
}

/* --- holding --- */

static void nothing_configured_costs_nothing(void **state)
{
    struct queue *queue = make_queue(*state, "q");
    struct lane *lane = make_lane(queue, "k", "xy", 3);
    assert_false(hold_concerns(queue->scheduler, lane));
    assert_int_equal(pull(queue, START, 32, NULL, NULL), 3);
    assert_null(lane->hold);
}

static void a_held_lane_lets_others_of_its_key_go_on(void **state)
{
    struct queue *queue = make_queue(*state, "q");
    struct lane *lanes[10];
    throttle(*state, "x", 1, 1, START);
    struct lane *held = make_lane(queue, "k", "x", 3);
    struct lane *other = make_lane(queue, "k", "y", 2), *plain = make_lane(queue, "k", "", 1);
    struct lane *key = make_lane(queue, "l", "", 2);
    assert_int_equal(pull(queue, START, 32, lanes, NULL), 6);
    unsigned of[4] = {0};
    for (unsigned i = 0; i < 6; i++)
        of[lanes[i] == held ? 0 : lanes[i] == other ? 1 : lanes[i] == plain ? 2 : 3]++;
    assert_int_equal(of[0], 1);
    assert_int_equal(of[1], 2);
    assert_int_equal(of[2], 1);
    assert_int_equal(of[3], 2);
    assert_ptr_equal(lanes[0], held); /* the oldest head of the key */
    assert_true(hold_is_held(held) && !hold_is_held(other) && key);
    assert_int_equal(queue->held, 2);
    assert_int_equal(queue->held_lanes, 1);
    assert_int_equal(queue->counters->throttle_holds, 1);
    assert_int_equal(queue->ready, 2);
    assert_int_equal(queue->drr.count, 0);
}

static void it_comes_back_when_its_token_does(void **state)
{
    struct queue *queue = make_queue(*state, "q");
    throttle(*state, "x", 10, 1, START);
    make_lane(queue, "k", "x", 3);
    assert_int_equal(pull(queue, START, 32, NULL, NULL), 1);
    uint64_t when_ns = run(*state, START);
    assert_in_range(when_ns, START + 99 * MS, START + 101 * MS);
    assert_true(run(*state, when_ns - MS) == when_ns); /* not before */
    assert_int_equal(queue->held_lanes, 1);
    (void)run(*state, when_ns);
    assert_int_equal(queue->held_lanes, 0);
    assert_int_equal(queue->held, 0);
    assert_int_equal(pull(queue, when_ns, 32, NULL, NULL), 1);
    assert_int_equal(queue->held, 1);
}

static void all_keys_of_a_message_must_have_a_token(void **state)
{
    struct queue *queue = make_queue(*state, "q");
    throttle(*state, "x", 10, 5, START);
    throttle(*state, "y", 1, 1, START);
    struct lane *lane = make_lane(queue, "k", "xyz", 10);
    assert_int_equal(pull(queue, START, 32, NULL, NULL), 1);
    assert_ptr_equal(lane->hold->at->name, lane->hold->throttles[1]->name);
    /* What x had was not taken for the message that y refused. */
    make_lane(queue, "k", "x", 10);
    assert_int_equal(pull(queue, START, 32, NULL, NULL), 4);
    /* After a second y has one, and x has long since. */
    (void)run(*state, START + SECOND);
    assert_int_equal(pull(queue, START + SECOND, 1, NULL, NULL), 1);
}

static void a_key_that_is_named_twice_takes_one(void **state)
{
    struct queue *queue = make_queue(*state, "q");
    throttle(*state, "x", 1, 4, START);
    make_lane(queue, "k", "xx", 10);
    assert_int_equal(pull(queue, START, 32, NULL, NULL), 4);
}

static void what_is_given_back_can_be_taken_again(void **state)
{
    struct queue *queue = make_queue(*state, "q");
    throttle(*state, "x", 0, 2, START);
    struct lane *lane = make_lane(queue, "k", "x", 5);
    struct lane *other = make_lane(queue, "l", "x", 5);
    assert_int_equal(hold_take(queue, lane, START), HOLD_GO);
    assert_int_equal(hold_take(queue, lane, START), HOLD_GO);
    assert_int_equal(hold_take(queue, other, START), HOLD_HELD);
    hold_give_back(lane, 2);
    (void)run(*state, START); /* the one that waits is released at once */
    assert_false(hold_is_held(other));
    assert_int_equal(pull(queue, START, 32, NULL, NULL), 2);
}

/* Its messages were moved away, purged, or it goes with its queue. */
static void a_lane_without_messages_stops_waiting(void **state)
{
    struct queue *queue = make_queue(*state, "q");
    throttle(*state, "x", 0, 0, START);
    struct lane *lane = make_lane(queue, "k", "x", 5), *next = make_lane(queue, "k", "x", 5);
    assert_int_equal(pull(queue, START, 32, NULL, NULL), 0);
    assert_int_equal(queue->held, 10);
    queue_ready_add(queue, lane, -5);
    queue_lane_update(queue, lane, 1);
    assert_false(hold_is_held(lane));
    assert_int_equal(queue->held, 5);
    assert_int_equal(next->hold->at->waiting_count, 1);
    queue_lane_free(queue, lane);
    queue_ready_add(queue, next, -5);
    queue_lane_update(queue, next, 1);
    queue_lane_free(queue, next);
    assert_int_equal(queue->held_lanes, 0);
    assert_true(list_empty(&queue->throttled) && list_empty(&queue->held_list));
}

/* --- who comes first --- */

static void lanes_of_a_bucket_wait_in_turn(void **state)
{
    enum { LANES = 50 };
    struct queue *queue = make_queue(*state, "q");
    struct lane *lanes[LANES], *got[8];
    char key[16];
    uint64_t now = START;
    throttle(*state, "x", 1000, 1, START);
    for (unsigned i = 0; i < LANES; i++) {
        snprintf(key, sizeof(key), "%u", i);
        lanes[i] = make_lane(queue, key, "x", 4);
    }
    for (unsigned i = 0; i < 4 * LANES; i++) {
        assert_int_equal(pull(queue, now, 8, got, NULL), 1);
        assert_ptr_equal(got[0], lanes[i % LANES]);
        now = run(*state, now);
        (void)run(*state, now);
    }
}

/* A lane whose messages come all the time must not pass those that wait. */
static void who_comes_new_queues_up(void **state)
{
    struct queue *queue = make_queue(*state, "q");
    struct lane *got[4];
    uint64_t now = START;
    throttle(*state, "x", 100, 1, START);
    struct lane *patient = make_lane(queue, "a", "x", 3);
    struct lane *second = make_lane(queue, "b", "x", 3);
    assert_int_equal(pull(queue, now, 4, got, NULL), 1);
    assert_ptr_equal(got[0], patient);
    assert_int_equal(queue->held_lanes, 2); /* second, patient */
    now += 10 * MS;                         /* a token is there, the refill thread is late */
    struct lane *fresh = make_lane(queue, "c", "x", 1);
    assert_int_equal(pull(queue, now, 4, got, NULL), 0);
    assert_true(hold_is_held(fresh));
    (void)run(*state, now);
    assert_int_equal(pull(queue, now, 4, got, NULL), 1);
    assert_ptr_equal(got[0], second);
}

static void ten_thousand_lanes_make_no_herd(void **state)
{
    enum { LANES = 10000, DELIVERED = 3000 };
    struct queue *queue = make_queue(*state, "q");
    char key[16];
    uint64_t now = START;
    throttle(*state, "x", 1000, 1, START);
    for (unsigned i = 0; i < LANES; i++) {
        snprintf(key, sizeof(key), "%u", i);
        make_lane(queue, key, "x", 2);
    }
    unsigned count = pull(queue, now, 32, NULL, NULL);
    uint64_t holds = queue->counters->throttle_holds;
    assert_in_range(holds, LANES - 1, LANES);
    while (count < DELIVERED) {
        now = run(*state, now);
        (void)run(*state, now);
        assert_true(queue->drr.count <= 2); /* released: no more than there are tokens for */
        count += pull(queue, now, 32, NULL, NULL);
    }
    assert_in_range(queue->counters->throttle_holds - holds, 0, DELIVERED);
    assert_in_range((now - START) / MS, DELIVERED * 98 / 100, DELIVERED * 102 / 100);
}

/* Lanes of a queue that nobody takes from do not keep the bucket from another queue. */
static void a_queue_without_consumers_does_not_block_others(void **state)
{
    struct queue *idle = make_queue(*state, "idle"), *busy = make_queue(*state, "busy");
    char key[16];
    throttle(*state, "x", 1, 1, START);
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(key, sizeof(key), "%u", i);
        make_lane(idle, key, "x", 1);
    }
    assert_int_equal(pull(idle, START, 32, NULL, NULL), 1);
    make_lane(busy, "k", "x", 5);
    assert_int_equal(pull(busy, START, 32, NULL, NULL), 0);
    uint64_t now = run(*state, START);
    for (unsigned i = 0; i < 100 && busy->held_lanes; i++) {
        (void)run(*state, now);
        if (busy->held_lanes)
            now = run(*state, now);
    }
    assert_int_equal(busy->held_lanes, 0);
    assert_in_range(now, START + SECOND, START + SECOND + 300 * MS);
    assert_int_equal(pull(busy, now, 32, NULL, NULL), 1);
}

/* --- rates --- */

/* Delivered within ten pretended seconds, when each wake-up is `late_ns` late and two pulls with
 * some time between share what there is. */
static double measure(struct scheduled *scheduled, struct queue *queue, uint64_t late_ns)
{
    uint64_t now = START, when_ns = START, count = 0;
    while (now < START + 10 * SECOND) {
        unsigned got;
        do {
            got = pull(queue, now, 32, NULL, NULL);
            count += got;
            now += 50000;
        } while (got == 32);
        (void)run(scheduled, now);
        when_ns = run(scheduled, now);
        if (!queue->drr.count && when_ns != THROTTLE_NEVER && when_ns > now) {
            now = when_ns + late_ns;
            (void)run(scheduled, now);
        }
    }
    return (double)count / ((double)(now - START) / 1e9);
}

static void rates_hold_with_small_bursts_and_late_wake_ups(void **state)
{
    static const double rates[] = {1, 10, 100, 1000, 10000, 50000};
    static const uint64_t late_ns[] = {0, 50000, 3 * MS, 40 * MS};
    unsigned number = 0;
    for (unsigned i = 0; i < 6; i++)
        for (unsigned j = 0; j < 4; j++)
            for (unsigned burst = 1; burst <= 10; burst += 9) {
                char name[16], key[2] = {(char)('A' + number++), 0};
                snprintf(name, sizeof(name), "q%u", number);
                struct queue *queue = make_queue(*state, name);
                throttle(*state, key, rates[i], burst, START);
                make_lane(queue, "a", key, 1000000);
                make_lane(queue, "b", key, 1000000);
                double rate = measure(*state, queue, late_ns[j]);
                double most = rates[i] * 1.02 + burst / 10.0 + 0.1;
                if (rate < rates[i] * 0.98 - 0.1 || rate > most)
                    fail_msg("rate %g, burst %u, late %g ms: %g", rates[i], burst,
                             (double)late_ns[j] / 1e6, rate);
                assert_int_equal(throttle_remove(queue->scheduler, str_from_c(key), START),
                                 THROTTLE_DONE);
                queue_destroy(queue);
            }
}

/* --- changes while lanes wait --- */

static void a_removed_bucket_frees_at_once(void **state)
{
    struct scheduled *scheduled = *state;
    struct queue *queue = make_queue(*state, "q");
    throttle(*state, "x", 0, 0, START);
    for (unsigned i = 0; i < 300; i++)
        make_lane(queue, i % 2 ? "a" : "b", "x", 1);
    assert_int_equal(pull(queue, START, 32, NULL, NULL), 0);
    assert_int_equal(queue->held_lanes, 300);
    assert_true(run(*state, START + SECOND) == THROTTLE_NEVER);
    assert_int_equal(throttle_remove(scheduled->scheduler, STR("x"), START), THROTTLE_DONE);
    assert_true(run(*state, START) == THROTTLE_NEVER);
    assert_int_equal(queue->held_lanes, 0);
    assert_int_equal(pull(queue, START, 1000, NULL, NULL), 300);
    assert_true(list_empty(&queue->throttled));
}

static void a_changed_bucket_times_anew(void **state)
{
    struct queue *queue = make_queue(*state, "q");
    throttle(*state, "x", 0.001, 1, START);
    make_lane(queue, "k", "x", 10);
    assert_int_equal(pull(queue, START, 32, NULL, NULL), 1);
    assert_true(run(*state, START) > START + 900 * SECOND);
    throttle(*state, "x", 100, 1, START + SECOND);
    uint64_t when_ns = run(*state, START + SECOND);
    assert_in_range(when_ns, START + SECOND + 9 * MS, START + SECOND + 10 * MS);
    throttle(*state, "x", 0, 1, START + SECOND);
    assert_true(run(*state, START + SECOND) == THROTTLE_NEVER);
}

/* A lane that never was looked at finds a bucket that came later; one that waits for another key
 * finds it when its turn comes. */
static void a_new_bucket_concerns_lanes_that_are_there(void **state)
{
    struct scheduled *scheduled = *state;
    struct queue *queue = make_queue(*state, "q");
    throttle(*state, "y", 1, 1, START);
    struct lane *lane = make_lane(queue, "k", "xy", 10);
    assert_int_equal(pull(queue, START, 32, NULL, NULL), 1);
    assert_int_equal(lane->hold->count, 1);
    throttle(*state, "x", 0, 2, START);
    for (unsigned i = 1; i <= 5; i++) {
        (void)run(*state, START + i * SECOND);
        assert_int_equal(pull(queue, START + i * SECOND, 32, NULL, NULL), i <= 2);
    }
    assert_int_equal(lane->hold->count, 2);
    assert_int_equal(throttle_remove(scheduled->scheduler, STR("x"), START), THROTTLE_DONE);
    assert_int_equal(throttle_remove(scheduled->scheduler, STR("y"), START), THROTTLE_DONE);
    (void)run(*state, START + 6 * SECOND);
    assert_int_equal(pull(queue, START, 32, NULL, NULL), 7);
    assert_null(lane->hold);
}

static void a_deleted_queue_leaves_no_waiters(void **state)
{
    struct scheduled *scheduled = *state;
    struct queue *queue = make_queue(*state, "q"), *other = make_queue(*state, "other");
    throttle(*state, "x", 10, 1, START);
    make_lane(queue, "k", "x", 5);
    make_lane(queue, "l", "x", 5);
    assert_int_equal(pull(queue, START, 32, NULL, NULL), 1);
    make_lane(other, "k", "x", 5);
    assert_int_equal(pull(other, START, 32, NULL, NULL), 0);
    scheduler_kill(scheduled->scheduler, queue);
    (void)run(*state, START + SECOND / 10);
    assert_int_equal(other->held_lanes, 0); /* the dead one's were passed over */
    assert_int_equal(pull(other, START + SECOND / 10, 32, NULL, NULL), 1);
    assert_int_equal(queue->pins, 0);
    queue_destroy(queue);
    (void)run(*state, START + SECOND / 5);
    assert_int_equal(pull(other, START + SECOND / 5, 32, NULL, NULL), 1);
}

/* --- concurrency --- */

static void a_limit_bounds_what_is_leased_at_once(void **state)
{
    struct queue *queue = make_queue(*state, "q");
    struct lease *leases[32];
    limit(*state, "k", 3, START); /* a fairness key */
    struct lane *lane = make_lane(queue, "k", "", 10);
    make_lane(queue, "other", "", 2);
    assert_int_equal(pull(queue, START, 32, NULL, leases), 5);
    assert_true(hold_is_held(lane));
    assert_int_equal(queue->held, 7);
    assert_true(run(*state, START + SECOND) == THROTTLE_NEVER); /* no time releases it */
    for (unsigned i = 0; i < 5; i++)
        if (leases[i]->lane == lane) {
            end_lease(queue, leases[i]);
            assert_false(hold_is_held(lane)); /* at once, by whoever ends the lease */
            assert_int_equal(pull(queue, START, 32, NULL, NULL), 7);
            break;
        }
}

static void a_limit_counts_over_all_queues(void **state)
{
    struct queue *first = make_queue(*state, "first"), *second = make_queue(*state, "second");
    struct lease *leases[32];
    limit(*state, "x", 2, START); /* a throttle key */
    make_lane(first, "k", "x", 10);
    struct lane *lane = make_lane(second, "l", "x", 10);
    assert_int_equal(pull(first, START, 32, NULL, leases), 2);
    assert_int_equal(pull(second, START, 32, NULL, NULL), 0);
    assert_true(hold_is_held(lane));
    /* The first that waits is of `first`; the second one's turn comes with the next. */
    end_lease(first, leases[0]);
    end_lease(first, leases[1]);
    (void)run(*state, START);
    assert_false(hold_is_held(lane));
    assert_int_equal(pull(second, START, 1, NULL, NULL), 1);
}

static void a_new_limit_counts_what_is_leased_already(void **state)
{
    struct queue *queue = make_queue(*state, "q");
    struct lease *leases[1200];
    char key[16];
    for (unsigned i = 0; i < 1200; i++) {
        snprintf(key, sizeof(key), "%u", i);
        make_lane(queue, key, "x", 1);
    }
    assert_int_equal(pull(queue, START, 2000, NULL, leases), 1200);
    limit(*state, "x", 1201, START);
    struct lane *lane = make_lane(queue, "late", "x", 5);
    assert_int_equal(pull(queue, START, 32, NULL, leases), 1);
    assert_true(hold_is_held(lane));
    uint32_t count = 0;
    struct hold_row *rows = hold_rows(queue, THROTTLE_LIMIT, START, &count);
    assert_int_equal(count, 1);
    assert_true(str_equal(rows[0].key, STR("x")));
    assert_int_equal(rows[0].in_flight, 1201);
    assert_int_equal(rows[0].most, 1201);
    assert_int_equal(rows[0].waiting, 1);
    free(rows);
}

static void a_limit_changes_in_both_directions(void **state)
{
    struct scheduled *scheduled = *state;
    struct queue *queue = make_queue(*state, "q");
    struct lease *leases[32];
    limit(*state, "k", 4, START);
    make_lane(queue, "k", "", 20);
    assert_int_equal(pull(queue, START, 32, NULL, leases), 4);
    limit(*state, "k", 1, START);
    (void)run(*state, START);
    assert_int_equal(pull(queue, START, 32, NULL, NULL), 0);
    for (unsigned i = 0; i < 3; i++) {
        end_lease(queue, leases[i]);
        assert_int_equal(pull(queue, START, 32, NULL, NULL), 0);
    }
    limit(*state, "k", 3, START);
    (void)run(*state, START);
    assert_int_equal(pull(queue, START, 32, NULL, leases + 4), 2);
    limit(*state, "k", 0, START);
    (void)run(*state, START);
    end_lease(queue, leases[3]);
    end_lease(queue, leases[4]);
    end_lease(queue, leases[5]);
    (void)run(*state, START + SECOND);
    assert_int_equal(pull(queue, START, 32, NULL, NULL), 0);
    assert_int_equal(concurrency_remove(scheduled->scheduler, STR("k"), START), THROTTLE_DONE);
    (void)run(*state, START + SECOND);
    assert_int_equal(pull(queue, START, 32, NULL, NULL), 14);
}

static void a_returned_lease_does_not_count(void **state)
{
    struct queue *queue = make_queue(*state, "q");
    struct lease *leases[4];
    limit(*state, "k", 1, START);
    struct lane *lane = make_lane(queue, "k", "", 3);
    assert_int_equal(pull(queue, START, 4, NULL, leases), 1);
    assert_true(hold_is_held(lane));
    queue_lease_return(queue, leases[0]);
    queue_lane_update(queue, lane, 1);
    assert_false(hold_is_held(lane));
    assert_int_equal(lane->hold->throttles[0]->limit.in_flight, 0);
}

/* A limit and a bucket together, random comings and goings: the count is what is leased. */
static void counts_stay_true_through_everything(void **state)
{
    enum { LANES = 40, STEPS = 20000, HELD = 64 };
    struct scheduled *scheduled = *state;
    struct queue *queue = make_queue(*state, "q");
    struct lease *held[HELD] = {NULL};
    static const char *const keys[] = {"", "x", "y", "xy", "xyz", "zz"};
    struct lane *lanes[LANES];
    uint64_t now = START;
    char key[16];
    srandom(7);
    for (unsigned i = 0; i < LANES; i++) {
        snprintf(key, sizeof(key), "%u", i % 7);
        lanes[i] = make_lane(queue, key, keys[i % 6], 5);
    }
    for (unsigned step = 0; step < STEPS; step++) {
        struct lease **place = &held[random() % HELD];
        char name[2] = {"xyz03"[random() % 5], 0};
        now += (uint64_t)(random() % 3) * MS;
        switch (random() % 8) {
        case 0:
            throttle(*state, name, (double)(random() % 500), (double)(random() % 4), now);
            break;
        case 1:
            assert_int_equal(throttle_remove(scheduled->scheduler, str_from_c(name), now),
                             THROTTLE_DONE);
            break;
        case 2:
            limit(*state, name, (uint64_t)(random() % 10), now);
            break;
        case 3:
            assert_int_equal(concurrency_remove(scheduled->scheduler, str_from_c(name), now),
                             THROTTLE_DONE);
            break;
        case 4: {
            struct lane *lane = lanes[random() % LANES];
            queue_ready_add(queue, lane, 1);
            queue_lane_update(queue, lane, now / MS);
            break;
        }
        case 5:
            (void)run(*state, now);
            break;
        case 6:
            if (*place)
                end_lease(queue, *place);
            *place = NULL;
            break;
        default:
            if (!*place && pull(queue, now, 1, NULL, place) == 0)
                *place = NULL;
        }
        uint64_t lanes_held = 0, messages = 0;
        for (unsigned i = 0; i < LANES; i++) {
            lanes_held += hold_is_held(lanes[i]);
            messages += hold_is_held(lanes[i]) ? lanes[i]->ready : 0;
            if (lanes[i]->hold) {
                assert_int_equal(lanes[i]->hold->counted, lanes[i]->leased);
                assert_int_equal(lanes[i]->hold->taken, 0);
            }
        }
        assert_int_equal(queue->held_lanes, lanes_held);
        assert_int_equal(queue->held, messages);
    }
    /* All limits that are in force count what is leased, once all lanes have seen them. */
    limit(*state, "q", 1, now);
    uint32_t count = 0;
    struct hold_row *rows = hold_rows(queue, THROTTLE_LIMIT, now, &count);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t leased = 0;
        for (unsigned j = 0; j < LANES; j++)
            for (unsigned k = 0; lanes[j]->hold && k < lanes[j]->hold->count; k++) {
                struct throttle *of = lanes[j]->hold->throttles[k];
                if (of->kind == THROTTLE_LIMIT &&
                    str_equal(str_of(of->name, of->name_size), rows[i].key))
                    leased += lanes[j]->leased;
            }
        assert_int_equal(rows[i].in_flight, leased);
    }
    free(rows);
    queue_destroy(queue);
    for (unsigned i = 0; i < 5; i++) {
        char name[2] = {"xyz03"[i], 0};
        assert_int_equal(throttle_remove(scheduled->scheduler, str_from_c(name), now),
                         THROTTLE_DONE);
        assert_int_equal(concurrency_remove(scheduled->scheduler, str_from_c(name), now),
                         THROTTLE_DONE);
    }
    assert_int_equal(concurrency_remove(scheduled->scheduler, STR("q"), now), THROTTLE_DONE);
    for (unsigned i = 0; i < THROTTLE_SHARDS; i++)
        assert_int_equal(scheduled->scheduler->throttles.shards[i].table.count, 0);
}

static void rows_name_the_queues_buckets(void **state)
{
    struct queue *queue = make_queue(*state, "q"), *other = make_queue(*state, "other");
    uint32_t count = 0;
    struct hold_row *rows = hold_rows(queue, THROTTLE_BUCKET, START, &count);
    assert_int_equal(count, 0);
    free(rows);
    throttle(*state, "x", 10, 5, START);
    throttle(*state, "y", 20, 6, START);
    throttle(*state, "z", 30, 7, START);
    make_lane(queue, "a", "xy", 1);
    make_lane(queue, "b", "x", 2);
    make_lane(other, "b", "z", 2);
    assert_int_equal(pull(queue, START, 32, NULL, NULL), 3);
    assert_int_equal(pull(other, START, 32, NULL, NULL), 2);
    rows = hold_rows(queue, THROTTLE_BUCKET, START, &count);
    assert_int_equal(count, 2);
    for (uint32_t i = 0; i < 2; i++) {
        bool x = str_equal(rows[i].key, STR("x"));
        assert_true(x || str_equal(rows[i].key, STR("y")));
        assert_true(rows[i].tokens == (x ? 2 : 5));
        assert_true(rows[i].rate == (x ? 10 : 20) && rows[i].burst == (x ? 5 : 6));
    }
    free(rows);
}

#define SCHEDULED(test) cmocka_unit_test_setup_teardown(test, scheduled_setup, scheduled_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCHEDULED(nothing_configured_costs_nothing),
        SCHEDULED(a_held_lane_lets_others_of_its_key_go_on),
        SCHEDULED(it_comes_back_when_its_token_does),
        SCHEDULED(all_keys_of_a_message_must_have_a_token),
        SCHEDULED(a_key_that_is_named_twice_takes_one),
        SCHEDULED(what_is_given_back_can_be_taken_again),
        SCHEDULED(a_lane_without_messages_stops_waiting),
        SCHEDULED(lanes_of_a_bucket_wait_in_turn),
        SCHEDULED(who_comes_new_queues_up),
        SCHEDULED(ten_thousand_lanes_make_no_herd),
        SCHEDULED(a_queue_without_consumers_does_not_block_others),
        SCHEDULED(rates_hold_with_small_bursts_and_late_wake_ups),
        SCHEDULED(a_removed_bucket_frees_at_once),
        SCHEDULED(a_changed_bucket_times_anew),
        SCHEDULED(a_new_bucket_concerns_lanes_that_are_there),
        SCHEDULED(a_deleted_queue_leaves_no_waiters),
        SCHEDULED(a_limit_bounds_what_is_leased_at_once),
        SCHEDULED(a_limit_counts_over_all_queues),
        SCHEDULED(a_new_limit_counts_what_is_leased_already),
        SCHEDULED(a_limit_changes_in_both_directions),
        SCHEDULED(a_returned_lease_does_not_count),
        SCHEDULED(counts_stay_true_through_everything),
        SCHEDULED(rows_name_the_queues_buckets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
