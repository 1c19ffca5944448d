/* Redrive and purge as operations that take long: steps between other work. */
#include "unit/broker/large.h"

#include "os/time.h"

static struct operation_redrive redriven(struct fixture *fixture, const char *name, uint64_t limit)
{
    struct operation_redrive redrive = {
        .operation = {.kind = OPERATION_REDRIVE}, .name = str_from_c(name), .limit = limit};
    fixture_execute(fixture, &redrive.operation);
    return redrive;
}

static struct operation_purge purged(struct fixture *fixture, const char *name)
{
    struct operation_purge purge = {.operation = {.kind = OPERATION_PURGE_QUEUE},
                                    .name = str_from_c(name)};
    fixture_execute(fixture, &purge.operation);
    return purge;
}

static void expect_redriven(struct fixture *fixture, const char *name, uint64_t limit,
                            uint64_t moved)
{
    struct operation_redrive redrive = redriven(fixture, name, limit);
    assert_int_equal(redrive.operation.status, FIBP_OK);
    assert_true(redrive.operation.wrote);
    assert_int_equal(redrive.moved, moved);
}

static void refusals_come_in_their_order(void **state)
{
    struct fixture *fixture = *state;
    fixture_create(fixture, "q");
    assert_int_equal(redriven(fixture, "nowhere", 0).operation.status, FIBP_QUEUE_NOT_FOUND);
    assert_int_equal(redriven(fixture, "nowhere.dlq", 0).operation.status, FIBP_QUEUE_NOT_FOUND);
    assert_int_equal(redriven(fixture, "q", 0).operation.status, FIBP_NOT_A_DLQ);
    assert_int_equal(fixture_create(fixture, "alone.dlq"), FIBP_OK);
    assert_int_equal(redriven(fixture, "alone.dlq", 0).operation.status,
                     FIBP_PARENT_QUEUE_NOT_FOUND);
    assert_int_equal(purged(fixture, "nowhere").operation.status, FIBP_QUEUE_NOT_FOUND);
    expect_redriven(fixture, "q.dlq", 0, 0);
    assert_int_equal(purged(fixture, "q").purged, 0);
    fixture_enqueue(fixture, "q.dlq", "a", 1, 0, 3, NULL);
    atomic_store(&fixture->broker->scheduler->space_low, 1);
    assert_int_equal(redriven(fixture, "q.dlq", 0).operation.status, FIBP_STORAGE_ERROR);
    atomic_store(&fixture->broker->scheduler->space_low, 0);
    expect_redriven(fixture, "q.dlq", 0, 3);
    assert_int_equal(fixture_queue(fixture, "q")->counters->redriven, 3);
}

/* Messages of many keys by turns: those that came first go, whatever their key. */
static void the_oldest_go_first(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[64];
    char key[2] = "a";
    fixture_create(fixture, "q");
    for (uint32_t i = 0; i < 60; i++) {
        key[0] = (char)('a' + i % 7);
        fixture_enqueue(fixture, "q.dlq", key, 1, i, 1, NULL);
    }
    expect_redriven(fixture, "q.dlq", 25, 25);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 64), 25);
    for (unsigned i = 0; i < 25; i++) {
        assert_true(got[i].payload < 25);
        assert_int_equal(got[i].key, 'a' + got[i].payload % 7);
        assert_int_equal(got[i].attempt, 0);
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[i].id), FIBP_OK);
    }
    fixture_unsubscribe(fixture, &subscription);
    expect_redriven(fixture, "q.dlq", 0, 35);
    assert_int_equal(fixture_stats(fixture, "q.dlq").depth, 0);
    assert_int_equal(fixture_stats(fixture, "q").depth, 35);
}

/* Deletes a chunk of a message. */
static void lose_chunk(struct fixture *fixture, const char *queue, const struct uuid *id,
                       uint32_t number)
{
    struct local_queue *local = NULL;
    uint8_t key[RECORD_CHUNK_KEY_SIZE];
    DB_TXN *txn = NULL;
    record_chunk_key(key, id, number);
    assert_int_equal(broker_find_queue(fixture->broker, str_from_c(queue), &local), 0);
    assert_int_equal(env_begin(fixture->env, &txn), 0);
    assert_int_equal(queue_db_delete(local->db, txn, str_of(key, sizeof(key))), 0);
    assert_int_equal(env_commit(txn, ENV_COMMIT_MEMORY), 0);
}

/* What the store has lost a part of is named, and holds back nobody. */
static void damaged_ones_stay(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct uuid damaged[3];
    struct delivered got[16];
    unsigned lost = 0;
    fixture_create(fixture, "q");
    for (uint32_t i = 0; i < 12; i++) {
        struct operation_enqueue *enqueue =
            large_frame("q.dlq", i < 6 ? "a" : "b", i, i % 3 ? 100000 + i : 10 + i);
        fixture_execute(fixture, &enqueue->operation);
        assert_int_equal(enqueue->items[0].status, FIBP_OK);
        if (i == 1 || i == 2 || i == 10)
            damaged[lost++] = enqueue->items[0].id;
        fixture_frame_free(enqueue);
    }
    for (unsigned i = 0; i < 3; i++)
        lose_chunk(fixture, "q.dlq", &damaged[i], i % 2);
    expect_redriven(fixture, "q.dlq", 2, 2);
    expect_redriven(fixture, "q.dlq", 0, 7);
    expect_redriven(fixture, "q.dlq", 0, 0);
    assert_int_equal(fixture_stats(fixture, "q.dlq").depth, 3);
    assert_int_equal(fixture_stats(fixture, "q").depth, 9);
    assert_int_equal(fixture_queue(fixture, "q")->counters->redriven, 9);
    large_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 16), 9);
    fixture_unsubscribe(fixture, &subscription);
    struct large_stored stored = large_look(fixture, "q");
    assert_int_equal(stored.orphans, 0);
    assert_int_equal(stored.markers, 0);
    assert_int_equal(purged(fixture, "q.dlq").purged, 3);
    stored = large_look(fixture, "q.dlq");
    assert_int_equal(stored.markers, 0);
    assert_int_equal(stored.chunks, 0);
}

/* REDRIVE_LANES: of how many keys; 100,000 is the long form. */
static void many_lanes_cost_what_their_messages_cost(void **state)
{
    struct fixture *fixture = *state;
    const char *given = getenv("REDRIVE_LANES");
    uint32_t lanes = given ? (uint32_t)strtoul(given, NULL, 10) : 1500, count = 2 * lanes;
    char(*keys)[16] = calloc(lanes, sizeof(*keys));
    struct fixture_message *messages = calloc(count, sizeof(*messages));
    assert_true(keys && messages);
    fixture_create(fixture, "q");
    for (uint32_t i = 0; i < lanes; i++)
        snprintf(keys[i], sizeof(keys[i]), "k%u", i);
    for (uint32_t i = 0; i < count; i++)
        messages[i] = (struct fixture_message){"q.dlq", keys[i % lanes], 1, i, 4};
    for (uint32_t i = 0; i < count; i += 1000) {
        struct operation_enqueue *enqueue =
            fixture_frame(messages + i, count - i < 1000 ? count - i : 1000);
        fixture_execute(fixture, &enqueue->operation);
        fixture_frame_free(enqueue);
    }
    uint64_t began_ms = time_monotonic_ms();
    expect_redriven(fixture, "q.dlq", lanes, lanes); /* the first one of each */
    uint64_t took_ms = time_monotonic_ms() - began_ms;
    print_message("%u messages of %u lanes in %llu ms\n", lanes, lanes,
                  (unsigned long long)took_ms);
    assert_int_equal(fixture_queue(fixture, "q")->lane_count, lanes);
    assert_int_equal(fixture_stats(fixture, "q.dlq").depth, lanes);
    assert_int_equal(purged(fixture, "q.dlq").purged, lanes);
    free(messages);
    free(keys);
}

static int setup_large(void **state)
{
    return fixture_setup_sized(state, 512u << 20, 100);
}

static void leased_messages_stay_and_do_not_count(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[64];
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q.dlq", "a", 1, 0, 5, NULL);
    fixture_subscribe(fixture, "q.dlq", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 64), 5);
    fixture_unsubscribe(fixture, &subscription);
    fixture_enqueue(fixture, "q.dlq", "a", 1, 5, 5, NULL);
    expect_redriven(fixture, "q.dlq", 4, 4);
    expect_redriven(fixture, "q.dlq", 0, 1);
    assert_int_equal(fixture_settle(fixture, OPERATION_NACK, "q.dlq", &got[0].id), FIBP_OK);
    assert_int_equal(purged(fixture, "q.dlq").purged, 1);
    assert_int_equal(fixture_stats(fixture, "q.dlq").in_flight, 4);
    assert_int_equal(fixture_stats(fixture, "q.dlq").depth, 4);
    for (unsigned i = 1; i < 5; i++)
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q.dlq", &got[i].id), FIBP_OK);
    assert_int_equal(fixture_queue(fixture, "q")->ready, 5);
}

/* One step, which finishes nothing. */
static void step(struct fixture *fixture)
{
    struct operation *finished = NULL;
    bool more = false;
    assert_int_equal(broker_step(fixture->broker, &finished, &more), 0);
    assert_null(finished);
    assert_true(more);
}

static void begin(struct fixture *fixture, struct operation *operation)
{
    struct operation *rest = operation;
    operation->next = NULL;
    assert_int_equal(broker_execute(fixture->broker, operation, &rest), 0);
    assert_null(rest);
    assert_true(operation->later);
}

static void finish(struct fixture *fixture, struct operation *operation)
{
    bool more = true;
    while (more) {
        struct operation *finished = NULL;
        assert_int_equal(broker_step(fixture->broker, &finished, &more), 0);
        assert_true(!finished || finished == operation);
    }
    assert_false(operation->later);
}

static void others_go_on_between_steps(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[1024];
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q.dlq", "a", 1, 0, 700, NULL);
    struct operation_redrive redrive = {.operation = {.kind = OPERATION_REDRIVE},
                                        .name = STR("q.dlq")};
    begin(fixture, &redrive.operation);
    for (unsigned i = 0; i < 4; i++)
        step(fixture);
    assert_int_equal(redrive.moved, 200);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 1024), 200);
    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(got[i].payload, i);
    /* What comes to the dead-letter queue now does not belong to this redrive. */
    fixture_enqueue(fixture, "q.dlq", "a", 1, 700, 10, NULL);
    finish(fixture, &redrive.operation);
    assert_int_equal(redrive.moved, 700);
    assert_int_equal(fixture_stats(fixture, "q.dlq").depth, 10);
    fixture_unsubscribe(fixture, &subscription);
}

static void a_queue_goes_in_the_middle(void **state)
{
    struct fixture *fixture = *state;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q.dlq", "a", 1, 0, 300, NULL);
    struct operation_redrive redrive = {.operation = {.kind = OPERATION_REDRIVE},
                                        .name = STR("q.dlq")};
    struct operation_purge purge = {.operation = {.kind = OPERATION_PURGE_QUEUE},
                                    .name = STR("q.dlq")};
    begin(fixture, &redrive.operation);
    for (unsigned i = 0; i < 3; i++)
        step(fixture);
    begin(fixture, &purge.operation);
    step(fixture);
    assert_int_equal(fixture_delete(fixture, "q"), FIBP_OK);
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q.dlq", "a", 1, 0, 3, NULL);
    assert_int_equal(broker_refresh(fixture->broker), 0);
    bool more = true;
    while (more) {
        struct operation *finished = NULL;
        assert_int_equal(broker_step(fixture->broker, &finished, &more), 0);
    }
    assert_int_equal(redrive.operation.status, FIBP_OK); /* with what it had */
    assert_true(redrive.moved > 0 && redrive.moved < 300);
    assert_int_equal(purge.operation.status, FIBP_QUEUE_NOT_FOUND);
    assert_int_equal(fixture_stats(fixture, "q.dlq").depth, 3);
}

static void an_end_in_order_keeps_what_was_done(void **state)
{
    struct fixture *fixture = *state;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q.dlq", "a", 1, 0, 300, NULL);
    struct operation_redrive first = {.operation = {.kind = OPERATION_REDRIVE},
                                      .name = STR("q.dlq")},
                             second = first;
    begin(fixture, &first.operation);
    for (unsigned i = 0; i < 3; i++)
        step(fixture);
    begin(fixture, &second.operation);
    fixture->broker->ending = true;
    struct operation *finished = NULL;
    bool more = true;
    assert_int_equal(broker_step(fixture->broker, &finished, &more), 0);
    assert_false(more);
    assert_ptr_equal(finished, &first.operation);
    assert_ptr_equal(finished->next, &second.operation);
    assert_int_equal(first.operation.status, FIBP_OK);
    assert_int_equal(first.moved, 100);
    assert_int_equal(second.operation.status, FIBP_STORAGE_ERROR);
    fixture->broker->ending = false;
    expect_redriven(fixture, "q.dlq", 0, 200);
}

static void a_break_gives_all_back(void **state)
{
    struct fixture *fixture = *state;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q.dlq", "a", 1, 0, 300, NULL);
    struct operation_redrive redrive = {.operation = {.kind = OPERATION_REDRIVE},
                                        .name = STR("q.dlq")};
    begin(fixture, &redrive.operation);
    for (unsigned i = 0; i < 3; i++)
        step(fixture);
    assert_ptr_equal(broker_break_off(fixture->broker), &redrive.operation);
    fixture_close(fixture);
    fixture_open(fixture);
    expect_redriven(fixture, "q.dlq", 0, 200);
    assert_int_equal(fixture_queue(fixture, "q")->scan.done, 0);
}

static void two_at_one_queue(void **state)
{
    struct fixture *fixture = *state;
    struct fixture other;
    fixture_create(fixture, "q");
    for (uint32_t i = 0; i < 300; i++)
        fixture_enqueue(fixture, "q.dlq", i % 2 ? "a" : "b", 1, i, 1, NULL);
    fixture_join(&other, fixture, 1);
    struct operation_redrive redrive = {.operation = {.kind = OPERATION_REDRIVE},
                                        .name = STR("q.dlq")},
                             second = redrive, third = redrive;
    begin(fixture, &redrive.operation);
    for (unsigned i = 0; i < 2; i++)
        step(fixture);
    begin(fixture, &third.operation);
    step(fixture);
    begin(&other, &second.operation);
    for (unsigned i = 0; i < 3; i++)
        step(&other);
    bool more = true;
    while (more) {
        struct operation *finished = NULL;
        assert_int_equal(broker_step(fixture->broker, &finished, &more), 0);
    }
    finish(&other, &second.operation);
    assert_int_equal(redrive.moved + second.moved + third.moved, 300);
    assert_int_equal(fixture_stats(fixture, "q").depth, 300);
    assert_int_equal(fixture_stats(fixture, "q.dlq").depth, 0);
    fixture_leave(&other);
}

static void a_zone_that_is_full_ends_it(void **state)
{
    struct fixture *fixture = *state;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q.dlq", "a", 1, 0, 10, NULL);
    fixture_enqueue(fixture, "q", "a", 1, 0, 1, NULL);
    fixture_enqueue(fixture, "q.dlq", "b", 1, 10, 10, NULL);
    struct queue *queue = fixture_queue(fixture, "q");
    struct arena *arena = queue->scheduler->arena;
    void *taken[4096];
    unsigned count = 0;
    while (scheduler_room(queue->scheduler) && count < 4096) {
        taken[count] = arena_alloc(arena, 16384);
        if (!taken[count])
            break;
        count++;
    }
    assert_int_equal(redriven(fixture, "q.dlq", 0).operation.status, FIBP_CHANNEL_FULL);
    expect_redriven(fixture, "q.dlq", 10, 10); /* no new lane is needed for these */
    while (count > 0)
        arena_free(arena, taken[--count]);
    expect_redriven(fixture, "q.dlq", 0, 10);
}

static void what_came_after_the_purge_began_stays(void **state)
{
    struct fixture *fixture = *state;
    struct fixture_message message = {"q", "c", 1, 1000, 20000};
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "a", 1, 0, 150, NULL);
    fixture_enqueue(fixture, "q", "b", 1, 150, 150, NULL);
    for (unsigned i = 0; i < 12; i++) {
        message.size = i % 2 ? 20000 : 200000;
        assert_int_equal(fixture_enqueue_one(fixture, message), FIBP_OK);
    }
    struct operation_purge purge = {.operation = {.kind = OPERATION_PURGE_QUEUE}, .name = STR("q")};
    begin(fixture, &purge.operation);
    for (unsigned i = 0; i < 3; i++)
        step(fixture);
    assert_int_equal(purge.purged, 100);
    fixture_enqueue(fixture, "q", "a", 1, 500, 5, NULL);
    fixture_enqueue(fixture, "q", "d", 1, 505, 5, NULL);
    finish(fixture, &purge.operation);
    assert_int_equal(purge.operation.status, FIBP_OK);
    assert_int_equal(purge.purged, 312);
    assert_int_equal(fixture_queue(fixture, "q")->counters->purged, 312);
    assert_int_equal(fixture_stats(fixture, "q").depth, 10);
    assert_int_equal(large_look(fixture, "q").chunks, 0);
    assert_int_equal(large_look(fixture, "q").markers, 0);
    assert_int_equal(purged(fixture, "q").purged, 10);
    assert_int_equal(fixture_queue(fixture, "q")->ready, 0);
}

static void delayed_messages_are_purged_and_not_redriven(void **state)
{
    struct fixture *fixture = *state;
    fixture_create(fixture, "q");
    struct fixture_message messages[3] = {
        {"q.dlq", "a", 1, 0, 4}, {"q.dlq", "a", 1, 1, 4}, {"q.dlq", "a", 1, 2, 4}};
    struct operation_enqueue *enqueue = fixture_frame(messages, 3);
    enqueue->items[1].delay_ms = 100000;
    fixture_execute(fixture, &enqueue->operation);
    fixture_frame_free(enqueue);
    expect_redriven(fixture, "q.dlq", 0, 2);
    assert_int_equal(fixture_stats(fixture, "q.dlq").depth, 1);
    assert_int_equal(purged(fixture, "q.dlq").purged, 1);
    assert_int_equal(fixture_stats(fixture, "q.dlq").depth, 0);
}

/* --- peek --- */

static struct operation_peek *peek_from(struct fixture *fixture, const char *name, const char *key,
                                        uint32_t limit, struct peek_position position)
{
    struct operation_peek *peek = calloc(1, sizeof(*peek));
    *peek = (struct operation_peek){.operation = {.kind = OPERATION_PEEK_QUEUE},
                                    .name = str_from_c(name),
                                    .has_key = key,
                                    .fairness_key = str_from_c(key),
                                    .limit = limit,
                                    .payload_max = 16,
                                    .position = position};
    fixture_execute(fixture, &peek->operation);
    return peek;
}

static uint32_t number_of(const struct peek_row *row)
{
    assert_true(row->payload.size >= 4);
    return bytes_get_u32(row->payload.data);
}

/* What was found before the store failed is found again after. */
static void a_peek_that_is_broken_off_begins_anew(void **state)
{
    struct fixture *fixture = *state;
    struct operation *rest = NULL, *finished = NULL;
    bool more = false;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 200, NULL);
    struct operation_peek *peek = calloc(1, sizeof(*peek));
    *peek = (struct operation_peek){.operation = {.kind = OPERATION_PEEK_QUEUE},
                                    .name = STR("q"),
                                    .limit = 200,
                                    .payload_max = 16};
    assert_int_equal(broker_execute(fixture->broker, &peek->operation, &rest), 0);
    for (unsigned i = 0; i < 4; i++) { /* it has begun to read then */
        assert_int_equal(broker_step(fixture->broker, &finished, &more), 0);
        assert_null(finished);
    }
    assert_ptr_equal(broker_break_off(fixture->broker), &peek->operation);
    operation_reset(&peek->operation);
    fixture_execute(fixture, &peek->operation);
    assert_int_equal(peek->operation.status, FIBP_OK);
    assert_int_equal(peek->count, 200);
    assert_int_equal(number_of(peek->rows), 0);
    operation_free(&peek->operation);
}

static void a_peek_shows_the_oldest_page_by_page(void **state)
{
    struct fixture *fixture = *state;
    struct peek_position position = {.seq = 0};
    uint32_t next = 0;
    char key[2] = "a";
    bool ended = false;
    fixture_create(fixture, "q");
    struct operation_peek *peek = peek_from(fixture, "q", NULL, 10, position);
    assert_int_equal(peek->operation.status, FIBP_OK);
    assert_true(peek->ended);
    assert_int_equal(peek->count, 0);
    operation_free(&peek->operation);
    peek = peek_from(fixture, "nowhere", NULL, 10, position);
    assert_int_equal(peek->operation.status, FIBP_QUEUE_NOT_FOUND);
    operation_free(&peek->operation);
    for (uint32_t i = 0; i < 100; i++) {
        key[0] = (char)('a' + i * 7 % 9);
        fixture_enqueue(fixture, "q", key, 1, i, 1, NULL);
    }
    struct fixture_message message = {"q", "d", 1, 100, 4};
    struct operation_enqueue *enqueue = fixture_frame(&message, 1);
    enqueue->items[0].delay_ms = 100000;
    fixture_execute(fixture, &enqueue->operation);
    fixture_frame_free(enqueue);
    while (!ended) {
        peek = peek_from(fixture, "q", NULL, 7, position);
        assert_int_equal(peek->operation.status, FIBP_OK);
        for (struct peek_row *row = peek->rows; row; row = row->next, next++) {
            assert_int_equal(number_of(row), next);
            assert_int_equal(row->state, next == 100 ? PEEK_DELAYED : PEEK_READY);
            assert_int_equal(row->when_ms != 0, next == 100);
            assert_int_equal(row->payload_size, 4);
        }
        position = peek->position;
        ended = peek->ended;
        operation_free(&peek->operation);
    }
    assert_int_equal(next, 101);
    peek = peek_from(fixture, "q", "c", 1000, (struct peek_position){.seq = 0});
    assert_true(peek->ended);
    assert_int_equal(peek->count, 11);
    for (struct peek_row *row = peek->rows; row; row = row->next)
        assert_true(str_equal(row->fairness_key, STR("c")));
    operation_free(&peek->operation);
}

static void a_peek_shows_leases_and_beginnings_of_large_payloads(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct fixture_message message = {"q", "a", 1, 77, 3000000};
    fixture_create(fixture, "q");
    assert_int_equal(fixture_enqueue_one(fixture, message), FIBP_OK);
    message.size = 5000;
    message.payload = 78;
    assert_int_equal(fixture_enqueue_one(fixture, message), FIBP_OK);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    struct operation_peek *peek =
        peek_from(fixture, "q", NULL, 10, (struct peek_position){.seq = 0});
    assert_int_equal(peek->count, 2);
    assert_int_equal(number_of(peek->rows), 77);
    assert_int_equal(peek->rows->payload.size, 16);
    assert_int_equal(peek->rows->payload_size, 3000000);
    assert_int_equal(peek->rows->state, PEEK_LEASED);
    assert_true(peek->rows->when_ms > time_wall_ms() &&
                peek->rows->when_ms <= time_wall_ms() + 30000);
    assert_int_equal(number_of(peek->rows->next), 78);
    operation_free(&peek->operation);
    fixture_forget_emitted(fixture);
    fixture_unsubscribe(fixture, &subscription);
}

/* A message whose headers, `count` of them with 50,000 bytes each, are apart with its payload. */
static void enqueue_headers(struct fixture *fixture, const char *queue, uint16_t count)
{
    struct fixture_message message = {queue, "a", 1, 0, 4};
    struct operation_enqueue *enqueue = fixture_frame(&message, 1);
    size_t size = 2 + count * (size_t)50005 + 8;
    uint8_t *record = calloc(1, size), *at = record + 2;
    bytes_put_u16(record, count);
    for (uint16_t i = 0; i < count; i++, at += 50005) {
        bytes_put_u16(at, 1);
        at[2] = 'h';
        bytes_put_u16(at + 3, 50000);
        memset(at + 5, 'v', 50000);
    }
    bytes_put_u32(at, 4);
    bytes_put_u32(at + 4, count);
    free(enqueue->operation.owner);
    enqueue->operation.owner = record;
    enqueue->items[0].record = str_of(record, size);
    fixture_execute(fixture, &enqueue->operation);
    assert_int_equal(enqueue->items[0].status, FIBP_OK);
    fixture_frame_free(enqueue);
}

/* Their beginning was shown as the payload. */
static void a_peek_shows_headers_that_are_apart(void **state)
{
    struct fixture *fixture = *state;
    fixture_create(fixture, "q");
    enqueue_headers(fixture, "q", 1);
    enqueue_headers(fixture, "q", 18);
    enqueue_headers(fixture, "q", 30); /* too much to be put together */
    struct operation_peek *peek =
        peek_from(fixture, "q", NULL, 10, (struct peek_position){.seq = 0});
    assert_int_equal(peek->operation.status, FIBP_OK);
    assert_int_equal(peek->count, 3);
    struct peek_row *row = peek->rows;
    for (uint16_t count = 1; count <= 18; count = (uint16_t)(count + 17), row = row->next) {
        assert_false(row->headers_cut);
        assert_int_equal(row->headers.size, 2 + count * 50005);
        assert_int_equal(bytes_get_u16(row->headers.data), count);
        assert_int_equal(row->payload_size, 4);
        assert_int_equal(number_of(row), count);
    }
    assert_true(row->headers_cut);
    assert_int_equal(row->headers.size, 0);
    assert_int_equal(row->payload.size, 0);
    operation_free(&peek->operation);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(refusals_come_in_their_order),
        TEST(the_oldest_go_first),
        TEST(damaged_ones_stay),
        cmocka_unit_test_setup_teardown(many_lanes_cost_what_their_messages_cost, setup_large,
                                        fixture_teardown),
        TEST(leased_messages_stay_and_do_not_count),
        TEST(others_go_on_between_steps),
        TEST(a_queue_goes_in_the_middle),
        TEST(an_end_in_order_keeps_what_was_done),
        TEST(a_break_gives_all_back),
        TEST(two_at_one_queue),
        TEST(a_zone_that_is_full_ends_it),
        TEST(what_came_after_the_purge_began_stays),
        TEST(delayed_messages_are_purged_and_not_redriven),
        TEST(a_peek_that_is_broken_off_begins_anew),
        TEST(a_peek_shows_the_oldest_page_by_page),
        TEST(a_peek_shows_leases_and_beginnings_of_large_payloads),
        TEST(a_peek_shows_headers_that_are_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
