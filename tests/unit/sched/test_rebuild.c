/* What the zone is after it was made from the store, also from a store that is damaged. */
#include "unit/broker/fixture.h"

#include "os/time.h"
#include "store/quarantine.h"

/* --- records put by hand --- */

static struct local_queue *open_queue(struct fixture *fixture, const char *name)
{
    struct local_queue *local = NULL;
    assert_int_equal(broker_find_queue(fixture->broker, str_from_c(name), &local), 0);
    assert_non_null(local);
    assert_int_equal(queue_db_open(&fixture->broker->cache, &local->db, local->queue->id, true), 0);
    return local;
}

static void put(struct fixture *fixture, const char *queue, struct str key, struct str value)
{
    DB_TXN *txn = NULL;
    struct local_queue *local = open_queue(fixture, queue);
    assert_int_equal(env_begin(fixture->env, &txn), 0);
    assert_int_equal(queue_db_put(local->db, txn, key, value), 0);
    assert_int_equal(env_commit(txn, ENV_COMMIT_MEMORY), 0);
}

static bool there_is(struct fixture *fixture, const char *queue, struct str key)
{
    struct buf value;
    buf_init(&value, 0);
    int result = queue_db_get(open_queue(fixture, queue)->db, NULL, key, &value);
    buf_free(&value);
    assert_true(result == 0 || result == DB_NOTFOUND);
    return result == 0;
}

static void put_message(struct fixture *fixture, uint64_t lane, uint64_t seq, const struct uuid *id,
                        uint32_t payload)
{
    uint8_t key[RECORD_MESSAGE_KEY_SIZE];
    uint8_t value[RECORD_MESSAGE_HEADER + RECORD_MESSAGE_REFERENCE] = {0};
    struct record_message message = {.id = *id, .weight = 1, .enqueued_ms = time_wall_ms()};
    record_message_key(key, lane, seq);
    size_t header = record_message_header(value, &message);
    bytes_put_u32(value + header + 2, 4);
    bytes_put_u32(value + header + 6, payload);
    put(fixture, "q", str_of(key, sizeof(key)), str_of(value, header + 10));
}

static void put_lane(struct fixture *fixture, uint64_t lane, const char *fairness_key)
{
    uint8_t key[RECORD_LANE_KEY_SIZE];
    struct record_lane record = {.weight = 1, .fairness_key = str_from_c(fairness_key)};
    struct buf value;
    buf_init(&value, 0);
    record_lane_append(&value, &record);
    record_lane_key(key, lane);
    put(fixture, "q", str_of(key, sizeof(key)), buf_str(&value));
    buf_free(&value);
}

/* A batch of `count` positions (lane, seq). */
static void put_leases(struct fixture *fixture, uint64_t batch, uint64_t expires_ms,
                       const uint64_t (*positions)[2], uint16_t count)
{
    uint8_t key[RECORD_LEASES_KEY_SIZE], value[RECORD_LEASES_HEADER + 16 * RECORD_POSITION_SIZE];
    record_leases_key(key, batch);
    record_leases_header(value, count, expires_ms);
    for (unsigned i = 0; i < count; i++) {
        bytes_put_u64(value + RECORD_LEASES_HEADER + i * RECORD_POSITION_SIZE, positions[i][0]);
        bytes_put_u64(value + RECORD_LEASES_HEADER + i * RECORD_POSITION_SIZE + 8, positions[i][1]);
    }
    put(fixture, "q", str_of(key, sizeof(key)),
        str_of(value, RECORD_LEASES_HEADER + (size_t)count * RECORD_POSITION_SIZE));
}

static struct uuid id_of(uint8_t number)
{
    struct uuid id = {{0}};
    id.bytes[15] = number;
    return id;
}

static bool there_is_batch(struct fixture *fixture, uint64_t batch)
{
    uint8_t key[RECORD_LEASES_KEY_SIZE];
    record_leases_key(key, batch);
    return there_is(fixture, "q", str_of(key, sizeof(key)));
}

static void reopen(struct fixture *fixture)
{
    fixture_close(fixture);
    fixture_open(fixture);
}

/* --- what survives --- */

static void lanes_leases_and_messages_are_as_before(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    static struct delivered held[64], got[128];
    struct uuid named[16];
    fixture_create(fixture, "q");
    fixture_create(fixture, "empty");
    fixture->broker->options.max_unacked = 32;
    for (unsigned i = 0; i < 4; i++)
        fixture_enqueue(fixture, "q", (const char *[]){"a", "b", "c", ""}[i], 1 + i, i * 20, 20,
                        NULL);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, held, 64), 32);
    for (unsigned i = 0; i < 16; i++) /* half of a batch */
        named[i] = held[i * 2].id;
    struct operation_settle *acks = fixture_settle_frame(OPERATION_ACK, "q", named, 16);
    fixture_execute(fixture, &acks->operation);
    free(acks);
    fixture_close(fixture);
    fixture_open_env(fixture);
    struct rebuild_result result;
    struct err err = {0};
    assert_int_equal(fixture_rebuild(fixture, &result, &err), 0);
    assert_int_equal(result.queues, 4);
    assert_int_equal(result.lanes, 4);
    assert_int_equal(result.leases, 16);
    atomic_store(&fixture->zone->state, ZONE_UP);
    fixture_open_broker(fixture, 0);
    assert_int_equal(fixture_queue(fixture, "q")->next_seq,
                     (uint64_t)result.epoch << RECORD_COUNTER_BITS);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 16);
    assert_int_equal(fixture_stats(fixture, "empty").depth, 0);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    unsigned count = fixture_delivered(fixture, got, 128);
    assert_int_equal(count, 80 - 32);
    bool seen[80] = {false};
    for (unsigned i = 0; i < 32; i++)
        seen[held[i].payload] = true;
    for (unsigned i = 0; i < count; i++) {
        assert_false(seen[got[i].payload]);
        seen[got[i].payload] = true;
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[i].id), FIBP_OK);
    }
    for (unsigned i = 0; i < 32; i++)
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &held[i].id),
                         i % 2 ? FIBP_OK : FIBP_MESSAGE_NOT_FOUND);
    fixture_unsubscribe(fixture, &subscription);
}

static void the_epoch_rises_with_every_rebuild(void **state)
{
    struct fixture *fixture = *state;
    uint64_t last = 0;
    fixture_create(fixture, "q");
    for (unsigned i = 0; i < 5; i++) {
        struct queue *queue = fixture_queue(fixture, "q");
        assert_true(queue->next_seq > last);
        fixture_enqueue(fixture, "q", "k", 1, i, 1, NULL);
        last = queue->next_seq;
        reopen(fixture);
    }
    struct subscription subscription;
    struct delivered got[8];
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 8), 5);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(got[i].payload, i);
    fixture_unsubscribe(fixture, &subscription);
}

static void a_message_delivered_twice_stands_in_the_later_batch(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[16];
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 4, NULL);
    fixture->broker->options.max_unacked = 2;
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    struct operation *delivery = fixture->emitted[0];
    fixture->emitted_count = 0;
    fixture->window.queued = 0;
    struct uuid acked = ((struct operation_delivery *)delivery)->leases[1].id;
    ((struct operation_delivery *)delivery)->count = 1; /* only the first comes back */
    delivery->kind = OPERATION_RETURN;
    fixture_execute(fixture, delivery);
    operation_free(delivery);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 16), 1);
    assert_int_equal(got[0].payload, 0);
    /* Two L records name it now; the first one also names a message that is leased still. */
    reopen(fixture);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 2);
    struct lease *lease = queue_lease_find(fixture_queue(fixture, "q"), &got[0].id);
    struct lease *other = queue_lease_find(fixture_queue(fixture, "q"), &acked);
    assert_true(lease && other);
    assert_true(lease->batch->seq > other->batch->seq);
    uint64_t first = other->batch->seq, second = lease->batch->seq;
    assert_int_equal(lease->batch->remaining, 1);
    assert_int_equal(other->batch->remaining, 1);
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[0].id), FIBP_OK);
    assert_false(there_is_batch(fixture, second));
    assert_true(there_is_batch(fixture, first));
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &acked), FIBP_OK);
    assert_false(there_is_batch(fixture, first));
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 0);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 16), 2);
    fixture_unsubscribe(fixture, &subscription);
}

/* An earlier batch all of whose messages stand in a later one says nothing any more. */
static void a_batch_that_was_redelivered_whole_goes(void **state)
{
    struct fixture *fixture = *state;
    const uint64_t positions[][2] = {{1, 10}, {1, 11}, {1, 10}};
    fixture_create(fixture, "q");
    put_lane(fixture, 1, "k");
    for (uint8_t i = 0; i < 2; i++) {
        struct uuid id = id_of(i);
        put_message(fixture, 1, 10u + i, &id, i);
    }
    put_leases(fixture, 20, time_wall_ms() + 5000, positions, 2);
    put_leases(fixture, 21, time_wall_ms() + 9000, positions, 3); /* one of them twice */
    reopen(fixture);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 2);
    for (uint8_t i = 0; i < 2; i++) {
        struct uuid id = id_of(i);
        struct lease *lease = queue_lease_find(fixture_queue(fixture, "q"), &id);
        assert_non_null(lease);
        assert_int_equal(lease->batch->seq, 21);
        assert_int_equal(lease->batch->remaining, 2);
    }
    for (uint8_t i = 0; i < 2; i++) {
        struct uuid id = id_of(i);
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &id), FIBP_OK);
    }
    assert_int_equal(fixture_stats(fixture, "q").depth, 0);
    assert_false(there_is_batch(fixture, 21));
    reopen(fixture); /* at the latest now */
    assert_false(there_is_batch(fixture, 20));
}

static void dead_batches_are_removed(void **state)
{
    struct fixture *fixture = *state;
    struct uuid id = id_of(1);
    fixture_create(fixture, "q");
    put_lane(fixture, 1, "k");
    put_message(fixture, 1, 10, &id, 0);
    for (uint64_t i = 0; i < 2100; i++) { /* more than one transaction takes */
        const uint64_t gone[][2] = {{1, 1000 + i}, {7, 10}};
        put_leases(fixture, 100 + i, time_wall_ms(), gone, 2);
    }
    const uint64_t living[][2] = {{1, 1000}, {1, 10}};
    put_leases(fixture, 5000, time_wall_ms() + 5000, living, 2);
    reopen(fixture);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 1);
    for (uint64_t i = 0; i < 2100; i += 50)
        assert_false(there_is_batch(fixture, 100 + i));
    assert_false(there_is_batch(fixture, 2199));
    assert_true(there_is_batch(fixture, 5000));
}

static void lease_times_are_clamped_to_the_timeout(void **state)
{
    struct fixture *fixture = *state;
    const uint64_t wall_ms = time_wall_ms(), day_ms = 86400000;
    const uint64_t expires[] = {wall_ms - day_ms, 0, wall_ms + day_ms, UINT64_MAX, wall_ms + 20000};
    fixture_create(fixture, "q");
    put_lane(fixture, 1, "k");
    for (uint8_t i = 0; i < 5; i++) {
        struct uuid id = id_of(i);
        const uint64_t positions[][2] = {{1, i}};
        put_message(fixture, 1, i, &id, i);
        put_leases(fixture, 100u + i, expires[i], positions, 1);
    }
    reopen(fixture);
    uint64_t now_ms = time_monotonic_ms();
    for (uint8_t i = 0; i < 5; i++) {
        struct uuid id = id_of(i);
        struct lease *lease = queue_lease_find(fixture_queue(fixture, "q"), &id);
        assert_non_null(lease);
        uint64_t when_ms = lease->wheel.when;
        if (i < 2)
            assert_true(when_ms <= now_ms + 1);
        else if (i < 4)
            assert_in_range(when_ms, now_ms + 20000, now_ms + 30002);
        else
            assert_in_range(when_ms, now_ms, now_ms + 20001);
    }
    fixture_expire(fixture, now_ms + 1);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 3);
    fixture_expire(fixture, now_ms + 30002);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 0);
}

/* --- damage --- */

/* Puts one record into the first of two queues and rebuilds; whether it was set aside. Then the
 * file is repaired and back in its place. */
static bool set_aside_with(struct fixture *fixture, struct str key, struct str value)
{
    struct rebuild_result result;
    struct err err = {0};
    char from[96], to[96];
    put(fixture, "q", key, value);
    fixture_close(fixture);
    fixture_open_env(fixture);
    if (fixture_rebuild(fixture, &result, &err) != 0)
        fail_msg("%s", err.text);
    const struct scheduler *scheduler = atomic_load(&fixture->zone->scheduler);
    const struct queue *queue = scheduler_find(scheduler, STR("q"));
    bool aside = queue->quarantined;
    assert_int_equal(result.quarantined, aside);
    if (aside) {
        assert_true(quarantine_holds(fixture->path, 1));
        assert_int_equal(queue->lane_count, 0);
        assert_int_equal(queue->leases.count, 0);
        assert_true(queue->scan.done);
        snprintf(from, sizeof(from), "%s/quarantine/1.db", fixture->path);
        snprintf(to, sizeof(to), "%s/queues/1.db", fixture->path);
        assert_int_equal(rename(from, to), 0);
    }
    assert_int_equal(scheduler_find(scheduler, STR("r"))->lane_count, 1);
    assert_int_equal(atomic_load(&scheduler->count_total), aside ? 1 : 2);
    struct queue_db_cache cache;
    struct queue_db *db = NULL;
    DB_TXN *txn = NULL;
    queue_db_cache_init(&cache, fixture->env, 1);
    assert_int_equal(queue_db_open(&cache, &db, 1, false), 0);
    assert_int_equal(env_begin(fixture->env, &txn), 0);
    int deleted = queue_db_delete(db, txn, key);
    assert_true(deleted == 0 || deleted == DB_NOTFOUND);
    assert_int_equal(env_commit(txn, ENV_COMMIT_MEMORY), 0);
    queue_db_cache_close(&cache);
    assert_int_equal(env_flush(fixture->env), 0);
    assert_int_equal(env_close(fixture->env), 0);
    zone_shut(fixture->zone);
    fixture_open(fixture);
    return aside;
}

static void a_queue_with_damaged_records_is_set_aside(void **state)
{
    static const struct {
        const char *key;
        size_t key_size;
        const char *value;
        size_t value_size;
    } damaged[] = {
        {"K\0\0\0\0\0\0\0\1", 9, "", 0},
        {"K\0\0\0\0\0\0\0\1", 9, "\1\0\0\0\0\0\0\1\0", 9},
        {"K\0\0\0\0\0\0\0\1", 9, "\2\0\0\0\0\0\0\1\0\1k", 11},
        {"K\0\0\0\0\0\0\0\1", 9, "\1\0\0\0\0\0\0\1\0\2k", 11},
        {"K\0\0\0\0\0\0\0\1", 9, "\1\0\0\1\0\0\0\1\0\1k\0\5abc", 16},
        {"K", 1, "\1\0\0\0\0\0\0\1\0\1k", 11},
        {"K\0\0\0\0\0\0\1", 8, "\1\0\0\0\0\0\0\1\0\1k", 11},
        {"K\0\0\0\0\0\0\0\0\1", 10, "\1\0\0\0\0\0\0\1\0\1k", 11},
        {"K\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 17, "\1\0\0\0\0\0\0\1\0\1k", 11},
        {"K\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 25, "\1\0\0\0\0\0\0\1\0\1k", 11},
        {"L\0\0\0\0\0\0\0\1", 9, "", 0},
        {"L\0\0\0\0\0\0\0\1", 9, "\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16},
        {"L\0\0\0\0\0\0\0\1", 9, "\1\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 19},
        {"L\0\0\0\0\0\0\1", 8, "\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16},
    };
    struct fixture *fixture = *state;
    fixture_create(fixture, "q");
    fixture_create(fixture, "r");
    fixture_enqueue(fixture, "q", "k", 1, 0, 3, NULL);
    fixture_enqueue(fixture, "r", "k", 1, 0, 3, NULL);
    for (size_t i = 0; i < sizeof(damaged) / sizeof(damaged[0]); i++) {
        if (!set_aside_with(fixture, str_of(damaged[i].key, damaged[i].key_size),
                            str_of(damaged[i].value, damaged[i].value_size)))
            fail_msg("damaged record %zu was taken", i);
    }
    /* Something unknown of a later version is no damage. */
    assert_false(set_aside_with(fixture, STR("X"), STR("whatever")));
    struct subscription subscription;
    struct delivered got[8];
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 8), 3);
    fixture_unsubscribe(fixture, &subscription);
}

/* One message that cannot be read does not hold up the others of its lane. */
static void a_damaged_message_is_passed_over(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[8];
    uint8_t key[RECORD_MESSAGE_KEY_SIZE];
    fixture_create(fixture, "q");
    put_lane(fixture, 1, "k");
    for (uint8_t i = 0; i < 4; i++) {
        struct uuid id = id_of(i);
        put_message(fixture, 1, 10u + i, &id, i);
    }
    const uint64_t positions[][2] = {{1, 11}, {1, 10}};
    put_leases(fixture, 50, time_wall_ms() + 20000, positions, 2);
    record_message_key(key, 1, 11);
    put(fixture, "q", str_of(key, sizeof(key)), STR("\7damaged"));
    reopen(fixture);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 1);
    fixture_subscribe(fixture, "q", &subscription);
    int turns = 0;
    while (broker_deliver(fixture->broker, 1) > 0)
        assert_true(++turns < 100);
    assert_int_equal(fixture_delivered(fixture, got, 8), 2);
    assert_int_equal(got[0].payload, 2);
    assert_int_equal(got[1].payload, 3);
    fixture_unsubscribe(fixture, &subscription);
}

/* --- a zone that is too small --- */

static void a_zone_too_small_is_a_clear_error(void **state)
{
    struct fixture *fixture = *state;
    char key[32];
    struct err err;
    struct rebuild_result result;
    unsigned refused = 0, built = 0;
    for (unsigned i = 0; i < 8; i++) {
        snprintf(key, sizeof(key), "queue %u", i);
        fixture_create(fixture, key);
    }
    static struct fixture_message messages[2000];
    static char keys[2000][256];
    for (unsigned i = 0; i < 2000; i++) {
        memset(keys[i], 'k', sizeof(keys[i]) - 1);
        keys[i][snprintf(keys[i], 10, "%u", i)] = 'k';
        messages[i] = (struct fixture_message){"queue 0", keys[i], 1, i, 4};
    }
    struct operation_enqueue *enqueue = fixture_frame(messages, 2000);
    fixture_execute(fixture, &enqueue->operation);
    fixture_frame_free(enqueue);
    struct subscription subscription;
    fixture_subscribe(fixture, "queue 0", &subscription);
    fixture_deliver(fixture);
    fixture_close(fixture);
    fixture_forget_emitted(fixture);
    struct zone *whole = fixture->zone;
    fixture_open_env(fixture);
    assert_null(zone_map(sizeof(struct zone) - 1, &err));
    assert_non_null(strstr(err.text, "shared_memory"));
    for (uint64_t size = sizeof(struct zone); size < 12u << 20; size += size / 20) {
        memset(&err, 0, sizeof(err));
        fixture->zone = zone_map(size, &err);
        assert_non_null(fixture->zone);
        if (fixture_rebuild(fixture, &result, &err) == 0) {
            built++;
        } else {
            refused++;
            assert_int_equal(built, 0);
            assert_non_null(strstr(err.text, "shared_memory"));
            assert_null(atomic_load(&fixture->zone->scheduler));
        }
        zone_unmap(fixture->zone);
    }
    assert_true(refused > 3);
    assert_true(built > 0);
    assert_int_equal(env_close(fixture->env), 0);
    fixture->zone = whole;
    fixture_open(fixture);
    assert_int_equal(fixture_stats(fixture, "queue 0").in_flight, 1000);
}

static void more_queues_than_the_limit_is_an_error(void **state)
{
    struct fixture *fixture = *state;
    struct rebuild_result result;
    struct err err = {0};
    fixture_create(fixture, "a");
    fixture_create(fixture, "b");
    fixture_close(fixture);
    fixture_open_env(fixture);
    fixture->max_queues = 3;
    assert_int_equal(fixture_rebuild(fixture, &result, &err), -1);
    assert_non_null(strstr(err.text, "(3)"));
    assert_int_equal(env_close(fixture->env), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lanes_leases_and_messages_are_as_before, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(the_epoch_rises_with_every_rebuild, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_message_delivered_twice_stands_in_the_later_batch,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_batch_that_was_redelivered_whole_goes, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(dead_batches_are_removed, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(lease_times_are_clamped_to_the_timeout, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_queue_with_damaged_records_is_set_aside, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_damaged_message_is_passed_over, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_zone_too_small_is_a_clear_error, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(more_queues_than_the_limit_is_an_error, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
