/* Messages that failed for the last time. */
#include "unit/broker/fixture.h"

#include "fibp/framed.h"
#include "os/time.h"
#include "unit/broker/large.h"

static void set_max_attempts(struct fixture *fixture, const char *queue, uint32_t max_attempts)
{
    atomic_store(&fixture_queue(fixture, queue)->max_attempts, max_attempts);
}

static uint8_t nack(struct fixture *fixture, const char *queue, const struct uuid *id,
                    const char *error)
{
    struct operation_settle *settle = fixture_settle_frame(OPERATION_NACK, queue, id, 1);
    settle->items[0].error = str_from_c(error);
    fixture_execute(fixture, &settle->operation);
    uint8_t status = settle->items[0].status;
    free(settle);
    return status;
}

/* What the store says of the only message of a queue; slices live until the next call. */
static struct record_message stored(struct fixture *fixture, const char *queue)
{
    struct record_message message;
    struct local_queue *local = NULL;
    uint8_t key[RECORD_KEY_MAX];
    size_t size = 0;
    DBC *cursor = NULL;
    assert_int_equal(broker_find_queue(fixture->broker, str_from_c(queue), &local), 0);
    assert_int_equal(broker_open_db(fixture->broker, local, true), 0);
    assert_int_equal(queue_db_cursor(local->db, &cursor), 0);
    assert_int_equal(queue_db_read_first(cursor, STR("R"), key, &size, &fixture->broker->rewritten),
                     0);
    queue_db_cursor_close(cursor);
    assert_true(record_message_parse(buf_str(&fixture->broker->rewritten), &message));
    return message;
}

static void the_last_nack_moves_it_and_keeps_the_reason(void **state)
{
    struct fixture *fixture = *state;
    struct delivered got[4];
    struct uuid id;
    char error[RECORD_DEAD_REASON_MAX + 2];
    fixture_create(fixture, "q");
    set_max_attempts(fixture, "q", 3);
    fixture_enqueue(fixture, "q", "k", 5, 7, 1, &id);
    /* Cut where a character of two bytes would be torn. */
    memset(error, 'e', sizeof(error) - 1);
    error[sizeof(error) - 1] = 0;
    memcpy(error + RECORD_DEAD_REASON_MAX - 1, "\xc3\xa9", 2);
    for (uint32_t attempt = 0; attempt < 3; attempt++) {
        assert_int_equal(fixture_take(fixture, "q", got, 4), 1);
        assert_int_equal(got[0].attempt, attempt);
        assert_int_equal(nack(fixture, "q", &id, error), FIBP_OK);
    }
    uint64_t now_ms = time_wall_ms();
    assert_int_equal(fixture_stats(fixture, "q").depth, 0);
    assert_int_equal(fixture_stats(fixture, "q.dlq").depth, 1);
    struct record_message message = stored(fixture, "q.dlq");
    assert_true(message.is_dead);
    assert_int_equal(message.weight, 5);
    assert_int_equal(message.dead.reason.size, RECORD_DEAD_REASON_MAX - 1);
    assert_true(str_equal(message.dead.origin, STR("q")));
    assert_in_range(message.dead.dead_ms, now_ms - 10000, now_ms);
    assert_int_equal(fixture_take(fixture, "q.dlq", got, 4), 1);
    assert_true(uuid_equal(&got[0].id, &id));
    assert_int_equal(got[0].attempt, 3);
    assert_int_equal(got[0].key, 'k');
    const struct queue_counters *counters = fixture_queue(fixture, "q")->counters;
    assert_int_equal(counters->nacked, 3);
    assert_int_equal(counters->dead_lettered, 1);
    assert_int_equal(nack(fixture, "q", &id, ""), FIBP_MESSAGE_NOT_FOUND);
}

/* The number of attempts stays at its greatest. */
static void attempts_do_not_wrap(void **state)
{
    struct fixture *fixture = *state;
    struct delivered got[4];
    struct local_queue *local = NULL;
    struct buf value;
    uint8_t key[RECORD_KEY_MAX];
    size_t size = 0;
    DBC *cursor = NULL;
    DB_TXN *txn = NULL;
    buf_init(&value, 0);
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 7, 1, NULL);
    assert_int_equal(broker_find_queue(fixture->broker, STR("q"), &local), 0);
    assert_int_equal(queue_db_cursor(local->db, &cursor), 0);
    assert_int_equal(queue_db_read_first(cursor, STR("R"), key, &size, &value), 0);
    queue_db_cursor_close(cursor);
    record_message_set_attempt(value.data, UINT32_MAX);
    assert_int_equal(env_begin(fixture->env, &txn), 0);
    assert_int_equal(queue_db_put(local->db, txn, str_of(key, size), buf_str(&value)), 0);
    assert_int_equal(env_commit(txn, ENV_COMMIT_MEMORY), 0);
    buf_free(&value);
    assert_int_equal(fixture_take(fixture, "q", got, 4), 1);
    assert_int_equal(nack(fixture, "q", &got[0].id, ""), FIBP_OK); /* a retry */
    assert_int_equal(fixture_take(fixture, "q", got, 4), 1);
    assert_int_equal(got[0].attempt, UINT32_MAX);
    set_max_attempts(fixture, "q", 1);
    assert_int_equal(nack(fixture, "q", &got[0].id, ""), FIBP_OK); /* a dead letter */
    assert_int_equal(fixture_take(fixture, "q.dlq", got, 4), 1);
    assert_int_equal(got[0].attempt, UINT32_MAX);
}

static void leases_that_end_count_as_well(void **state)
{
    struct fixture *fixture = *state;
    static struct delivered got[300];
    fixture_create(fixture, "q");
    set_max_attempts(fixture, "q", 2);
    fixture_enqueue(fixture, "q", "k", 1, 0, 250, NULL);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(fixture_take(fixture, "q", got, 300), 250);
        fixture_expire(fixture, time_monotonic_ms() + 30002 + i);
    }
    assert_int_equal(fixture_stats(fixture, "q").depth, 0);
    assert_int_equal(fixture_take(fixture, "q.dlq", got, 300), 250);
    for (unsigned i = 0; i < 250; i++) {
        assert_int_equal(got[i].payload, i);
        assert_int_equal(got[i].attempt, 2);
    }
    assert_int_equal(fixture_queue(fixture, "q")->counters->expired, 500);
    assert_int_equal(fixture_queue(fixture, "q")->counters->dead_lettered, 250);
}

static void an_expired_one_says_so(void **state)
{
    struct fixture *fixture = *state;
    struct delivered got[4];
    fixture_create(fixture, "q");
    set_max_attempts(fixture, "q", 1);
    fixture_enqueue(fixture, "q", "k", 1, 0, 1, NULL);
    assert_int_equal(fixture_take(fixture, "q", got, 4), 1);
    fixture_expire(fixture, time_monotonic_ms() + 30002);
    assert_true(str_equal(stored(fixture, "q.dlq").dead.reason, DEAD_LETTER_EXPIRED));
}

static void without_a_dead_letter_queue_it_is_retried(void **state)
{
    struct fixture *fixture = *state;
    struct delivered got[4];
    struct uuid ids[2];
    fixture_create(fixture, "q");
    assert_int_equal(fixture_delete(fixture, "q.dlq"), FIBP_OK);
    set_max_attempts(fixture, "q", 1);
    fixture_enqueue(fixture, "q", "k", 1, 0, 2, ids);
    assert_int_equal(fixture_take(fixture, "q", got, 4), 2);
    assert_int_equal(nack(fixture, "q", &ids[0], "no"), FIBP_OK);
    fixture_expire(fixture, time_monotonic_ms() + 30002);
    assert_int_equal(fixture_take(fixture, "q", got, 4), 2);
    assert_int_equal(got[0].attempt, 1);
    assert_int_equal(got[1].attempt, 1);
    assert_int_equal(fixture_queue(fixture, "q")->counters->dead_lettered, 0);
    /* Nor has a dead-letter queue one itself. */
    fixture_create(fixture, "p");
    set_max_attempts(fixture, "p.dlq", 1);
    fixture_enqueue(fixture, "p.dlq", "k", 1, 0, 1, ids);
    assert_int_equal(fixture_take(fixture, "p.dlq", got, 4), 1);
    assert_int_equal(nack(fixture, "p.dlq", &ids[0], "no"), FIBP_OK);
    assert_int_equal(fixture_stats(fixture, "p.dlq").depth, 1);
    assert_int_equal(fixture_stats(fixture, "p.dlq").in_flight, 0);
}

/* Its file was set aside: it takes nothing, and must not keep what failed from others for ever. */
static void a_quarantined_dead_letter_queue_is_none(void **state)
{
    struct fixture *fixture = *state;
    struct delivered got[4];
    struct uuid ids[2];
    fixture_create(fixture, "q");
    fixture_queue(fixture, "q.dlq")->quarantined = true;
    set_max_attempts(fixture, "q", 1);
    fixture_enqueue(fixture, "q", "k", 1, 0, 2, ids);
    assert_int_equal(fixture_take(fixture, "q", got, 4), 2);
    assert_int_equal(nack(fixture, "q", &ids[0], "no"), FIBP_OK);
    fixture_expire(fixture, time_monotonic_ms() + 30002);
    assert_int_equal(fixture_take(fixture, "q", got, 4), 2);
    assert_int_equal(fixture_queue(fixture, "q")->counters->dead_lettered, 0);
}

static void twice_in_one_frame_is_once(void **state)
{
    struct fixture *fixture = *state;
    struct delivered got[4];
    struct uuid ids[4];
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 2, ids);
    assert_int_equal(fixture_take(fixture, "q", got, 4), 2);
    set_max_attempts(fixture, "q", 1);
    ids[2] = ids[0];
    ids[3] = ids[1];
    struct operation_settle *settle = fixture_settle_frame(OPERATION_NACK, "q", ids, 4);
    fixture_execute(fixture, &settle->operation);
    static const uint8_t expected[] = {FIBP_OK, FIBP_OK, FIBP_MESSAGE_NOT_FOUND,
                                       FIBP_MESSAGE_NOT_FOUND};
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(settle->items[i].status, expected[i]);
    free(settle);
    assert_int_equal(fixture_stats(fixture, "q").depth, 0);
    assert_int_equal(fixture_stats(fixture, "q.dlq").depth, 2);
}

static void what_cannot_move_holds_back_nobody(void **state)
{
    struct fixture *fixture = *state;
    struct delivered got[8];
    static void *blocks[1u << 14];
    struct arena *arena = fixture->broker->scheduler->arena;
    struct uuid ids[3];
    unsigned count = 0;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 3, ids);
    assert_int_equal(fixture_take(fixture, "q", got, 8), 3);
    assert_int_equal(nack(fixture, "q", &ids[0], "once"), FIBP_OK);
    assert_int_equal(fixture_take(fixture, "q", got, 8), 1);
    set_max_attempts(fixture, "q", 2);
    while (scheduler_room(fixture->broker->scheduler)) {
        assert_true(count < sizeof(blocks) / sizeof(blocks[0]));
        blocks[count] = arena_alloc(arena, 16384);
        assert_non_null(blocks[count++]);
    }
    assert_int_equal(nack(fixture, "q", &ids[0], "again"), FIBP_CHANNEL_FULL);
    uint64_t now_ms = time_monotonic_ms() + 30002;
    fixture_expire(fixture, now_ms);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 1);
    assert_int_equal(fixture_stats(fixture, "q").depth, 3);
    while (count > 0)
        arena_free(arena, blocks[--count]);
    fixture_expire(fixture, now_ms + 500);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 0);
    assert_int_equal(fixture_stats(fixture, "q").depth, 2);
    assert_int_equal(fixture_stats(fixture, "q.dlq").depth, 1);
}

/* Of a large message that is written in one batch with a dead letter nothing stays when it finds no
 * room: the move must not end the work under whose marker it was written. */
static void a_large_one_beside_it_is_still_ours(void **state)
{
    struct fixture *fixture = *state;
    struct arena *arena = fixture->broker->scheduler->arena;
    struct local_queue *local = NULL;
    struct delivered got[4];
    struct uuid ids[2], orphan = {{0}};
    static void *blocks[4096];
    unsigned count = 0;
    fixture_create(fixture, "q");
    fixture_create(fixture, "other");
    set_max_attempts(fixture, "q", 1);
    fixture_enqueue(fixture, "q", "k", 1, 1, 2, ids);
    assert_int_equal(fixture_take(fixture, "q", got, 4), 2);
    assert_int_equal(nack(fixture, "q", &ids[0], ""), FIBP_OK); /* its lane is there now */
    while (scheduler_room(fixture->broker->scheduler)) {
        assert_true(count < 4096);
        blocks[count] = arena_alloc(arena, 16384);
        assert_non_null(blocks[count++]);
    }
    struct operation_settle *settle = fixture_settle_frame(OPERATION_NACK, "q", &ids[1], 1);
    struct operation_enqueue *enqueue = large_frame("other", "k", 1, 200000);
    struct operation *rest = NULL;
    settle->operation.next = &enqueue->operation;
    enqueue->operation.next = NULL;
    assert_int_equal(broker_execute(fixture->broker, &settle->operation, &rest), 0);
    assert_null(rest);
    assert_int_equal(settle->items[0].status, FIBP_OK);
    assert_int_equal(enqueue->items[0].status, FIBP_CHANNEL_FULL);
    assert_int_equal(fixture_stats(fixture, "q.dlq").depth, 2);
    assert_int_equal(broker_find_queue(fixture->broker, STR("other"), &local), 0);
    assert_int_equal(broker_open_db(fixture->broker, local, true), 0);
    assert_int_equal(chunks_next_marker(local->db, &orphan), DB_NOTFOUND);
    free(settle);
    fixture_frame_free(enqueue);
    while (count)
        arena_free(arena, blocks[--count]);
}

static void large_ones_move_whole(void **state)
{
    struct fixture *fixture = *state;
    static const size_t sizes[] = {100, 5000, 60000, 300000, 9u << 20};
    struct subscription subscription;
    struct delivered got[8];
    struct uuid ids[5];
    fixture->window.limit = 64u << 20;
    fixture_create(fixture, "q");
    set_max_attempts(fixture, "q", 1);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(large_enqueue(fixture, "q", i, sizes[i]), FIBP_OK);
    assert_int_equal(fixture_take(fixture, "q", got, 8), 5);
    for (unsigned i = 0; i < 5; i++)
        ids[i] = got[i].id;
    struct operation_settle *settle = fixture_settle_frame(OPERATION_NACK, "q", ids, 5);
    fixture_execute(fixture, &settle->operation);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(settle->items[i].status, FIBP_OK);
    free(settle);
    assert_int_equal(large_look(fixture, "q").chunks, 0);
    assert_int_equal(large_look(fixture, "q").markers, 0);
    assert_int_equal(large_look(fixture, "q.dlq").markers, 0);
    assert_int_equal(large_look(fixture, "q.dlq").orphans, 0);
    large_subscribe(fixture, "q.dlq", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 8), 5);
    fixture_unsubscribe(fixture, &subscription);
}

/* --- headers --- */

static uint8_t *delivered_record;
static size_t delivered_size;

static bool keep_record(const struct subscription *subscription, struct buf *out,
                        const struct delivery_message *message)
{
    free(delivered_record);
    delivered_record = fixture_record(message);
    delivered_size = message->record.size + (size_t)message->rest;
    return delivered_record && fixture_add(subscription, out, message);
}

static const struct delivery_encoder keeping_encoder = {fixture_begin, keep_record, fixture_end};

static void take_whole(struct fixture *fixture, const char *queue)
{
    struct subscription subscription;
    struct delivered got[2];
    fixture_subscribe(fixture, queue, &subscription);
    subscription.encoder = &keeping_encoder;
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 2), 1);
    fixture_unsubscribe(fixture, &subscription);
}

/* One message with these headers (pairs) becomes a dead letter and is delivered; its record is
 * delivered_record then. */
static void die_with(struct fixture *fixture, const struct str *headers, uint16_t pairs,
                     struct str payload, bool option)
{
    struct operation_enqueue *enqueue = calloc(1, sizeof(*enqueue) + sizeof(enqueue->items[0]));
    struct buf record;
    buf_init(&record, 0);
    buf_append_u16(&record, pairs);
    for (unsigned i = 0; i < 2u * pairs; i++) {
        buf_append_u16(&record, (uint16_t)headers[i].size);
        buf_append_str(&record, headers[i]);
    }
    buf_append_u32(&record, (uint32_t)payload.size);
    buf_append_str(&record, payload);
    enqueue->operation.kind = OPERATION_ENQUEUE;
    enqueue->count = 1;
    enqueue->items[0] = (struct operation_enqueue_item){
        .queue = STR("q"), .record = buf_str(&record), .fairness_key = STR("k"), .weight = 1};
    atomic_store(&fixture_queue(fixture, "q.dlq")->dead_letter_headers, option);
    fixture_execute(fixture, &enqueue->operation);
    assert_int_equal(enqueue->items[0].status, FIBP_OK);
    take_whole(fixture, "q");
    assert_int_equal(delivered_size, record.size);
    assert_memory_equal(delivered_record, record.data, record.size);
    assert_int_equal(nack(fixture, "q", &enqueue->items[0].id, "boom"), FIBP_OK);
    take_whole(fixture, "q.dlq");
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q.dlq", &enqueue->items[0].id),
                     FIBP_OK);
    buf_free(&record);
    free(enqueue);
}

static void expect_headers(struct str payload)
{
    struct str map, body, value;
    assert_true(framed_record_split(str_of(delivered_record, delivered_size), &map, &body));
    assert_true(str_equal(body, payload));
    assert_true(framed_headers_find(map, STR("x-fila-dead-letter-reason"), &value));
    assert_true(str_equal(value, STR("boom")));
    assert_true(framed_headers_find(map, STR("x-fila-dead-letter-origin"), &value));
    assert_true(str_equal(value, STR("q")));
    assert_true(framed_headers_find(map, STR("x-fila-dead-letter-time"), &value));
    assert_int_equal(value.size, 13);
}

static void consumers_see_it_when_they_want_to(void **state)
{
    struct fixture *fixture = *state;
    static uint8_t large[300000];
    const struct str none[] = {STR("a"), STR("1")};
    const struct str forged[] = {STR("x-fila-dead-letter-reason"), STR("mine"), STR("a"), STR("1")};
    struct str map, body, value;
    struct str long_headers[] = {STR("a"), str_of(large, 60000)};
    fixture->window.limit = 16u << 20;
    fixture_create(fixture, "q");
    set_max_attempts(fixture, "q", 1);
    memset(large, 'x', sizeof(large));
    die_with(fixture, none, 1, STR("abc"), false);
    assert_true(framed_record_split(str_of(delivered_record, delivered_size), &map, &body));
    assert_int_equal(bytes_get_u16(map.data), 1);
    die_with(fixture, none, 1, STR("abc"), true);
    expect_headers(STR("abc"));
    atomic_store(&fixture_queue(fixture, "q")->dead_letter_headers, true);
    die_with(fixture, none, 1, STR("abc"), false); /* the queue it came from wants it */
    expect_headers(STR("abc"));
    atomic_store(&fixture_queue(fixture, "q")->dead_letter_headers, false);
    die_with(fixture, forged, 2, STR("abc"), true);
    expect_headers(STR("abc"));
    assert_int_equal(bytes_get_u16(delivered_record), 4);
    /* Stored apart: the payload, and headers with all that follows them. */
    die_with(fixture, none, 1, str_of(large, sizeof(large)), true);
    expect_headers(str_of(large, sizeof(large)));
    die_with(fixture, long_headers, 1, STR("abc"), true);
    expect_headers(STR("abc"));
    assert_true(framed_record_split(str_of(delivered_record, delivered_size), &map, &body));
    assert_true(framed_headers_find(map, STR("a"), &value));
    assert_int_equal(value.size, 60000);
    free(delivered_record);
    delivered_record = NULL;
}

static void a_map_that_is_full_stays_as_it_is(void **state)
{
    const struct record_dead dead = {.reason = STR("r"), .origin = STR("q")};
    struct pool *pool = pool_create(4096);
    uint8_t record[2] = {0xff, 0xfd};
    (void)state;
    struct str same = dead_letter_headers(pool, str_of(record, 2), &dead);
    assert_ptr_equal(same.data, record);
    pool_destroy(pool);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_last_nack_moves_it_and_keeps_the_reason),
        TEST(attempts_do_not_wrap),
        TEST(leases_that_end_count_as_well),
        TEST(an_expired_one_says_so),
        TEST(without_a_dead_letter_queue_it_is_retried),
        TEST(a_quarantined_dead_letter_queue_is_none),
        TEST(twice_in_one_frame_is_once),
        TEST(what_cannot_move_holds_back_nobody),
        TEST(a_large_one_beside_it_is_still_ours),
        TEST(large_ones_move_whole),
        TEST(consumers_see_it_when_they_want_to),
        cmocka_unit_test(a_map_that_is_full_stays_as_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
