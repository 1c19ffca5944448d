#include "unit/sched/scheduled.h"

static struct uuid id_of(uint32_t number)
{
    struct uuid id = {{0}};
    memcpy(id.bytes, &number, sizeof(number));
    return id;
}

static struct queue *make_queue(struct scheduled *scheduled)
{
    struct queue *queue = queue_create(scheduled->scheduler, STR("q"), 7, 30000);
    assert_non_null(queue);
    assert_true(scheduler_add(scheduled->scheduler, queue));
    assert_true(queue_expiry_prepare(queue, 1000));
    return queue;
}

static struct lease *hold(struct queue *queue, struct lane *lane, uint32_t number,
                          struct consumer *consumer, uint64_t expires_ms)
{
    struct lease *lease = queue_lease_alloc(queue);
    assert_non_null(lease);
    lease->id = id_of(number);
    lease->seq = number;
    lease->lane = lane;
    lease->consumer = consumer;
    queue_lease_start(queue, lease, expires_ms);
    return lease;
}

static void lanes_are_found_by_key_and_throttle_set(void **state)
{
    struct queue *queue = make_queue(*state);
    const struct str none = {NULL, 0}, x = STR("\0\1x"), xy = STR("\0\1x\0\1y");
    struct lane *plain = queue_lane_create(queue, 1, 2, STR("k"), 0, none);
    struct lane *with_x = queue_lane_create(queue, 2, 2, STR("k"), 1, x);
    struct lane *with_xy = queue_lane_create(queue, 3, 2, STR("k"), 2, xy);
    struct lane *empty = queue_lane_create(queue, 4, 2, none, 0, none);
    assert_true(plain && with_x && with_xy && empty);
    assert_ptr_equal(queue_lane_find(queue, STR("k"), none), plain);
    assert_ptr_equal(queue_lane_find(queue, STR("k"), x), with_x);
    assert_ptr_equal(queue_lane_find(queue, STR("k"), xy), with_xy);
    assert_ptr_equal(queue_lane_find(queue, none, none), empty);
    assert_null(queue_lane_find(queue, STR("k"), STR("\0\1z")));
    assert_null(queue_lane_find(queue, STR("K"), none));
    assert_int_equal(queue->keys.count, 2);
    queue_lane_free(queue, plain);
    queue_lane_free(queue, with_x);
    assert_ptr_equal(queue_lane_find(queue, STR("k"), xy), with_xy);
    queue_lane_free(queue, with_xy);
    assert_null(queue_lane_find(queue, STR("k"), xy));
    assert_int_equal(queue->keys.count, 1);
    assert_int_equal(queue->lane_count, 1);
    queue_lane_free(queue, empty);
    assert_int_equal(queue->lane_bytes, 0);
}

/* However many keys some queues have, one that has few may have more. */
static void a_queue_takes_a_share_of_the_room(void **state)
{
    struct scheduled *scheduled = *state;
    struct queue *small = queue_create(scheduled->scheduler, STR("small"), 8, 30000);
    assert_non_null(small);
    assert_true(scheduler_add(scheduled->scheduler, small));
    for (unsigned i = 0; i < 2; i++) {
        char name[16];
        snprintf(name, sizeof(name), "large %u", i);
        struct queue *large = queue_create(scheduled->scheduler, str_from_c(name), i + 1, 30000);
        assert_non_null(large);
        assert_true(scheduler_add(scheduled->scheduler, large));
        bool tight = false;
        for (uint32_t key = 0; queue_has_room(large); key++) {
            tight = tight || queue_is_tight(large);
            assert_non_null(queue_lane_create(large, key, 1, str_of((void *)&key, sizeof(key)), 0,
                                              str_of(NULL, 0)));
        }
        assert_true(tight); /* before it has no room */
        assert_true(queue_has_room(small));
        assert_true(scheduler_room(scheduled->scheduler) > 0);
    }
}

static void leases_of_a_queue_take_a_share_of_the_room(void **state)
{
    struct scheduled *scheduled = *state;
    struct queue *queue = make_queue(scheduled);
    struct queue *small = queue_create(scheduled->scheduler, STR("small"), 8, 30000);
    struct lane *lane = queue_lane_create(queue, 1, 1, STR("k"), 0, STR(""));
    uint32_t count = 0;
    assert_non_null(small);
    for (; queue_has_lease_room(queue); count++)
        hold(queue, lane, count, NULL, 30000);
    assert_int_equal(queue->leased, count);
    assert_true(queue_has_lease_room(small));
    assert_true(scheduler_lease_room(scheduled->scheduler) > 1u << 20);
    struct uuid id = id_of(0);
    for (uint32_t i = 0; !queue_has_lease_room(queue); id = id_of(++i))
        queue_lease_end(queue, queue_lease_find(queue, &id));
    assert_true(queue->leased > count / 2);
}

/* The lane with the oldest head comes first, whatever happens to any of them. */
static void lanes_of_a_key_are_in_the_order_of_their_heads(void **state)
{
    enum { LANES = 300 };
    struct queue *queue = make_queue(*state);
    struct lane *lanes[LANES];
    unsigned seed = 11;
    for (uint16_t i = 0; i < LANES; i++) {
        uint8_t throttle[4] = {0, 2, (uint8_t)(i >> 8), (uint8_t)i};
        lanes[i] = queue_lane_create(queue, i + 1u, 1, STR("k"), 1, str_of(throttle, 4));
        assert_non_null(lanes[i]);
        assert_ptr_equal(queue_lane_find(queue, STR("k"), str_of(throttle, 4)), lanes[i]);
        queue_lane_update(queue, lanes[i], 500);
    }
    const struct fairness_key *key = lanes[0]->key;
    assert_null(queue_key_first(key));
    for (unsigned step = 0; step < 5000; step++) {
        struct lane *lane = lanes[(unsigned)rand_r(&seed) % LANES];
        if (lane->ready && rand_r(&seed) % 2) {
            queue_ready_add(queue, lane, -1);
            lane->next += 1 + (unsigned)rand_r(&seed) % 1000;
        } else {
            lane->next = lane->ready ? lane->next : (unsigned)rand_r(&seed) % 100000;
            queue_ready_add(queue, lane, 1);
        }
        queue_lane_update(queue, lane, 500);
        if (step % 7 == 0 && queue_key_first(key)) { /* passed over, and looked at again */
            struct lane *skipped = queue_key_first(key);
            queue_key_skip(skipped);
            assert_true(queue_key_first(key) != skipped);
            queue_lane_update(queue, skipped, 500);
        }
        uint64_t oldest = UINT64_MAX;
        for (unsigned i = 0; i < LANES; i++)
            if (lanes[i]->ready && lanes[i]->next < oldest)
                oldest = lanes[i]->next;
        struct lane *first = queue_key_first(key);
        assert_int_equal(first ? first->next : UINT64_MAX, oldest);
        assert_int_equal(key->drr.active, first != NULL);
    }
    for (unsigned i = 0; i < LANES; i++) {
        queue_ready_add(queue, lanes[i], -(int64_t)lanes[i]->ready);
        queue_lane_free(queue, lanes[i]);
    }
    assert_int_equal(queue->lane_count, 0);
    assert_int_equal(queue->keys.count, 0);
}

static void the_ring_follows_what_is_ready(void **state)
{
    struct queue *queue = make_queue(*state);
    struct lane *lane = queue_lane_create(queue, 1, 1, STR("k"), 0, STR(""));
    struct lane *second = queue_lane_create(queue, 2, 1, STR("k"), 1, STR("\0\1x"));
    queue_lane_update(queue, lane, 500);
    assert_null(drr_front(&queue->drr));
    assert_false(list_empty(&queue->idle_lanes));
    assert_int_equal(lane->idle_since_ms, 500);
    queue_ready_add(queue, lane, 3);
    queue_lane_update(queue, lane, 600);
    queue_ready_add(queue, second, 1);
    queue_lane_update(queue, second, 600);
    assert_ptr_equal(drr_front(&queue->drr), &lane->key->drr);
    assert_int_equal(queue->drr.count, 1);
    assert_int_equal(queue->ready, 4);
    assert_int_equal(lane->key->ready, 4);
    assert_true(list_empty(&queue->idle_lanes));
    queue_ready_add(queue, lane, -3);
    queue_lane_update(queue, lane, 700);
    assert_int_equal(queue->drr.count, 1);
    queue_ready_add(queue, second, -1);
    queue_lane_update(queue, second, 800);
    assert_int_equal(queue->drr.count, 0);
    assert_ptr_equal(queue->idle_lanes.next, &lane->idle);
    /* One that is not counted yet is worth a try until a look found nothing. */
    lane->unscanned = true;
    queue_lane_update(queue, lane, 900);
    assert_int_equal(queue->drr.count, 1);
    lane->drained = true;
    queue_lane_update(queue, lane, 900);
    assert_int_equal(queue->drr.count, 0);
    queue_ready_add(queue, lane, 1);
    assert_false(lane->drained);
}

static void counting_knows_where_it_is(void **state)
{
    struct queue *queue = make_queue(*state);
    assert_true(queue_scan_counted(queue, 0, 0)); /* nothing to be counted */
    queue->scan = (struct queue_scan){.lane = 5, .seq = 10, .limit = 100};
    assert_true(queue_scan_counted(queue, 4, 50));
    assert_true(queue_scan_counted(queue, 5, 9));
    assert_false(queue_scan_counted(queue, 5, 10));
    assert_false(queue_scan_counted(queue, 6, 0));
    assert_true(queue_scan_counted(queue, 6, 100));
}

static void leases_are_counted_and_found(void **state)
{
    struct scheduled *scheduled = *state;
    struct queue *queue = make_queue(scheduled);
    struct lane *lane = queue_lane_create(queue, 1, 1, STR("k"), 0, STR(""));
    struct consumer *consumer = queue_consumer_add(queue, 0);
    struct lease *leases[100];
    for (uint32_t i = 0; i < 100; i++)
        leases[i] = hold(queue, lane, i, consumer, 31000 + i);
    assert_int_equal(queue->leased, 100);
    assert_int_equal(lane->leased, 100);
    assert_int_equal(consumer->unacked, 100);
    for (uint32_t i = 0; i < 100; i++) {
        struct uuid id = id_of(i);
        assert_ptr_equal(queue_lease_find(queue, &id), leases[i]);
    }
    struct uuid none = id_of(1000);
    assert_null(queue_lease_find(queue, &none));
    for (uint32_t i = 0; i < 100; i += 2)
        queue_lease_end(queue, leases[i]);
    assert_int_equal(queue->leased, 50);
    struct uuid gone = id_of(2), there = id_of(3);
    assert_null(queue_lease_find(queue, &gone));
    assert_non_null(queue_lease_find(queue, &there));
    /* What the consumer held counts until it ends, also when the consumer is gone. */
    queue_consumer_remove(queue, consumer);
    assert_int_equal(queue_consumer_count(queue), 0);
    for (uint32_t i = 1; i < 100; i += 2)
        queue_lease_end(queue, leases[i]);
    assert_int_equal(queue->leased, 0);
    assert_int_equal(queue->leases.count, 0);
    assert_int_equal(queue->expiry->count, 0);
}

static void returned_leases_stand_in_order(void **state)
{
    struct queue *queue = make_queue(*state);
    struct lane *lane = queue_lane_create(queue, 1, 1, STR("k"), 0, STR(""));
    struct lease *leases[5];
    static const unsigned order[] = {3, 0, 4, 1, 2};
    for (uint32_t i = 0; i < 5; i++)
        leases[i] = hold(queue, lane, 10 + i, NULL, 31000);
    for (unsigned i = 0; i < 5; i++)
        queue_lease_return(queue, leases[order[i]]);
    assert_int_equal(queue->leased, 0);
    assert_int_equal(queue->ready, 5);
    assert_int_equal(queue->expiry->count, 0);
    uint64_t expected = 10;
    LIST_EACH(&lane->returned, entry)
    {
        assert_int_equal(CONTAINER_OF(entry, struct lease, wheel.list)->seq, expected++);
    }
    assert_int_equal(expected, 15);
    queue_lease_retake(queue, leases[0]);
    assert_int_equal(queue->ready, 4);
    queue_lease_start(queue, leases[0], 40000);
    assert_int_equal(queue->leased, 1);
    assert_int_equal(leases[0]->state, LEASE_HELD);
    queue_lease_end(queue, leases[0]);
    queue_lease_end(queue, leases[1]); /* one that was returned; its message stays the caller's */
    struct uuid id = id_of(11);
    assert_null(queue_lease_find(queue, &id));
    assert_ptr_equal(lane->returned.next, &leases[2]->wheel.list);
}

static void leases_expire_at_their_time(void **state)
{
    struct scheduled *scheduled = *state;
    struct queue *queue = make_queue(scheduled), *found = NULL;
    struct lane *lane = queue_lane_create(queue, 1, 1, STR("k"), 0, STR(""));
    struct list due;
    uint64_t when_ms = 0;
    list_init(&due);
    for (uint32_t i = 0; i < 10; i++)
        (void)hold(queue, lane, i, NULL, 2000 + i * 100);
    queue_timer_update(queue);
    assert_int_equal(scheduler_timer_next(scheduled->scheduler, 1000, &found, &when_ms), LOCK_HELD);
    assert_null(found);
    assert_true(when_ms > 1000 && when_ms <= 2000);
    assert_int_equal(queue_expired(queue, 1999, &due, 100), 0);
    assert_int_equal(queue_expired(queue, 2450, &due, 3), 3);
    assert_int_equal(queue_expired(queue, 2450, &due, 100), 2);
    unsigned count = 0;
    LIST_EACH_SAFE(&due, entry)
    {
        struct lease *lease = CONTAINER_OF(entry, struct lease, wheel.list);
        assert_int_equal(lease->seq, count++);
        list_remove(entry);
        queue_expiry_restore(queue, lease, 2500);
    }
    assert_int_equal(queue_expired(queue, 2900, &due, 100), 10);
}

static void waiting_workers_are_woken_once(void **state)
{
    struct scheduled *scheduled = *state;
    struct queue *queue = make_queue(scheduled);
    struct lane *lane = queue_lane_create(queue, 1, 1, STR("k"), 0, STR(""));
    zone_slot_prepare(scheduled->zone, 3);
    struct consumer *consumer = queue_consumer_add(queue, 3);
    assert_int_equal(queue_consumer_count(queue), 1);
    queue->waiting = 1u << 3;
    queue_wake_waiters(queue); /* nothing to deliver */
    assert_int_equal(scheduler_next_ready(scheduled->scheduler, 3), -1);
    queue_ready_add(queue, lane, 1);
    queue_lane_update(queue, lane, 0);
    queue_wake_waiters(queue);
    assert_int_equal(queue->waiting, 0);
    assert_int_equal(scheduler_next_ready(scheduled->scheduler, 3), (int)queue->index);
    queue_wake_waiters(queue);
    assert_int_equal(scheduler_next_ready(scheduled->scheduler, 3), -1);
    /* A full one is told of the end of a lease, once. */
    struct lease *first = hold(queue, lane, 1, consumer, 31000);
    struct lease *second = hold(queue, lane, 2, consumer, 31000);
    consumer->full = true;
    queue_lease_end(queue, first);
    assert_int_equal(scheduler_next_ready(scheduled->scheduler, 3), (int)queue->index);
    queue_lease_end(queue, second);
    assert_int_equal(scheduler_next_ready(scheduled->scheduler, 3), -1);
    /* A new process in the slot is another consumer's. */
    zone_slot_prepare(scheduled->zone, 3);
    assert_int_equal(queue_consumer_count(queue), 0);
    assert_non_null(queue_consumer_add(queue, 3));
    assert_int_equal(queue_consumer_count(queue), 1);
}

static void destroying_gives_all_memory_back(void **state)
{
    struct scheduled *scheduled = *state;
    uint64_t before = 0;
    for (unsigned round = 0; round < 4; round++) {
        struct queue *queue = queue_create(scheduled->scheduler, STR("big"), 9, 30000);
        assert_true(queue_expiry_prepare(queue, 1000));
        for (uint32_t i = 0; i < 3000; i++) {
            char name[16];
            snprintf(name, sizeof(name), "%u", i % 1000);
            struct lane *lane = queue_lane_find(queue, str_from_c(name), STR(""));
            if (!lane)
                lane = queue_lane_create(queue, i, 1, str_from_c(name), 0, STR(""));
            struct lease *lease = hold(queue, lane, i, NULL, 5000 + i);
            if (i % 3 == 0)
                queue_lease_return(queue, lease);
            if (i % 5 == 0)
                assert_non_null(queue_lane_create(queue, i, 1, str_from_c(name), 1, STR("\0\1x")));
        }
        queue_destroy(queue);
        if (round == 0)
            before = arena_used(scheduled->scheduler->arena);
    }
    assert_int_equal(arena_used(scheduled->scheduler->arena), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lanes_are_found_by_key_and_throttle_set, scheduled_setup,
                                        scheduled_teardown),
        cmocka_unit_test_setup_teardown(a_queue_takes_a_share_of_the_room, scheduled_setup,
                                        scheduled_teardown),
        cmocka_unit_test_setup_teardown(leases_of_a_queue_take_a_share_of_the_room, scheduled_setup,
                                        scheduled_teardown),
        cmocka_unit_test_setup_teardown(lanes_of_a_key_are_in_the_order_of_their_heads,
                                        scheduled_setup, scheduled_teardown),
        cmocka_unit_test_setup_teardown(the_ring_follows_what_is_ready, scheduled_setup,
                                        scheduled_teardown),
        cmocka_unit_test_setup_teardown(counting_knows_where_it_is, scheduled_setup,
                                        scheduled_teardown),
        cmocka_unit_test_setup_teardown(leases_are_counted_and_found, scheduled_setup,
                                        scheduled_teardown),
        cmocka_unit_test_setup_teardown(returned_leases_stand_in_order, scheduled_setup,
                                        scheduled_teardown),
        cmocka_unit_test_setup_teardown(leases_expire_at_their_time, scheduled_setup,
                                        scheduled_teardown),
        cmocka_unit_test_setup_teardown(waiting_workers_are_woken_once, scheduled_setup,
                                        scheduled_teardown),
        cmocka_unit_test_setup_teardown(destroying_gives_all_memory_back, scheduled_setup,
                                        scheduled_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
