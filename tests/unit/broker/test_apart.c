/* Messages stored apart: every size, and every way that a message goes. */
#include "unit/broker/apart.h"

#include <sys/stat.h>

static unsigned receive(struct fixture *fixture, struct delivered *got, unsigned limit)
{
    unsigned count = 0, more;
    do {
        fixture_deliver(fixture);
        more = fixture_delivered(fixture, got + count, limit - count);
        count += more;
        fixture->window.paused = 0;
        LIST_EACH(&fixture->broker->locals, entry)
        {
            broker_want_pull(fixture->broker, CONTAINER_OF(entry, struct local_queue, link));
        }
    } while (more);
    return count;
}

static void reopen(struct fixture *fixture)
{
    fixture_close(fixture);
    fixture_open(fixture);
}

/* --- sizes --- */

static const size_t sizes[] = {4,
                               4089,
                               4090,
                               4091,
                               4096,
                               4097,
                               CHUNKS_SIZE - 1,
                               CHUNKS_SIZE,
                               CHUNKS_SIZE + 1,
                               APART_SMALL - 1,
                               APART_SMALL,
                               APART_SMALL + 1,
                               MIB - 1,
                               MIB,
                               CHUNKS_STEP_COUNT *CHUNKS_SIZE,
                               CHUNKS_STEP_COUNT *CHUNKS_SIZE + 1,
                               20 * MIB,
                               4};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static void enqueue_sizes(struct fixture *fixture)
{
    fixture_create(fixture, "q");
    for (uint32_t i = 0; i < SIZES; i++)
        assert_int_equal(large_enqueue(fixture, "q", i, sizes[i]), FIBP_OK);
}

static void expect_sizes(const struct delivered *got, unsigned count, uint32_t attempt)
{
    assert_int_equal(count, SIZES);
    for (uint32_t i = 0; i < SIZES; i++) {
        assert_int_equal(got[i].payload, i);
        assert_int_equal(got[i].attempt, attempt);
    }
}

static void every_size_arrives_whole_and_goes_whole(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[64];
    enqueue_sizes(fixture);
    struct large_stored stored = large_look(fixture, "q");
    assert_int_equal(stored.messages, SIZES);
    assert_int_equal(stored.apart, SIZES - 6);
    assert_int_equal(stored.orphans, 0);
    assert_int_equal(stored.markers, 0);
    large_subscribe(fixture, "q", &subscription);
    unsigned count = receive(fixture, got, 64);
    expect_sizes(got, count, 0);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[i].id), FIBP_OK);
        large_assert_clean(fixture, "q");
    }
    large_assert_empty(fixture, "q");
    assert_int_equal(atomic_load(&fixture->zone->slots[0].working[0]), 0);
    fixture_unsubscribe(fixture, &subscription);
}

static void all_acked_in_one_frame(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[64];
    struct uuid ids[64];
    enqueue_sizes(fixture);
    large_subscribe(fixture, "q", &subscription);
    unsigned count = receive(fixture, got, 64);
    for (unsigned i = 0; i < count; i++)
        ids[i] = got[i].id;
    ids[count] = ids[count - 2]; /* a large one twice */
    struct operation_settle *acks = fixture_settle_frame(OPERATION_ACK, "q", ids, count + 1);
    fixture_execute(fixture, &acks->operation);
    for (unsigned i = 0; i <= count; i++)
        assert_int_equal(acks->items[i].status, FIBP_OK);
    free(acks);
    large_assert_empty(fixture, "q");
    fixture_unsubscribe(fixture, &subscription);
}

static void they_survive_a_restart(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[64];
    enqueue_sizes(fixture);
    reopen(fixture);
    large_subscribe(fixture, "q", &subscription);
    expect_sizes(got, receive(fixture, got, 64), 0);
    /* Leases that come back know what is apart as well. */
    reopen(fixture);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, SIZES);
    for (unsigned i = 0; i < SIZES; i++)
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[i].id), FIBP_OK);
    large_assert_empty(fixture, "q");
}

static void retried_and_expired_ones_stay_whole(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[64];
    enqueue_sizes(fixture);
    large_subscribe(fixture, "q", &subscription);
    unsigned count = receive(fixture, got, 64);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(fixture_settle(fixture, OPERATION_NACK, "q", &got[i].id), FIBP_OK);
    expect_sizes(got, receive(fixture, got, 64), 1);
    fixture_expire(fixture, time_monotonic_ms() + 31000);
    expect_sizes(got, receive(fixture, got, 64), 2);
    large_assert_clean(fixture, "q");
    fixture_unsubscribe(fixture, &subscription);
}

static void headers_count_as_well(void **state)
{
    struct fixture *fixture = *state;
    struct apart_split split;
    struct buf record;
    (void)fixture;
    buf_init(&record, 0);
    buf_append_u16(&record, 1);
    buf_append_u16(&record, 1);
    buf_append_c(&record, "h");
    buf_append_u16(&record, 4000);
    for (unsigned i = 0; i < 4000; i++)
        buf_append_u8(&record, 'v');
    size_t headers = record.size;
    buf_append_u32(&record, 4096);
    for (unsigned i = 0; i < 4096; i++)
        buf_append_u8(&record, 'p');
    apart_split(buf_str(&record), &split);
    assert_int_equal(split.apart.size, 0);
    assert_int_equal(split.inside.size, record.size);
    buf_append_u8(&record, 'p');
    bytes_put_u32(record.data + headers, 4097);
    apart_split(buf_str(&record), &split);
    assert_int_equal(split.inside.size, headers + 4);
    assert_int_equal(split.apart.size, 4097);
    /* Headers too long for the record go with the payload, however small that is. */
    buf_clear(&record);
    buf_append_u16(&record, 1);
    buf_append_u16(&record, 1);
    buf_append_c(&record, "h");
    buf_append_u16(&record, 5000);
    for (unsigned i = 0; i < 5000; i++)
        buf_append_u8(&record, 'v');
    buf_append_u32(&record, 1);
    buf_append_c(&record, "p");
    apart_split(buf_str(&record), &split);
    assert_int_equal(split.inside.size, 0);
    assert_int_equal(split.apart.size, record.size);
    buf_free(&record);
}

/* --- deliveries --- */

static void one_as_large_as_a_pull_goes_alone(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[8];
    fixture_create(fixture, "q");
    large_enqueue(fixture, "q", 0, 100);
    large_enqueue(fixture, "q", 1, 100);
    large_enqueue(fixture, "q", 2, 3 * MIB);
    large_enqueue(fixture, "q", 3, 100);
    large_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture->emitted_count, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(((struct operation_delivery *)fixture->emitted[i])->count, i == 0 ? 2 : 1);
    assert_int_equal(fixture_delivered(fixture, got, 8), 4);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(got[i].payload, i);
    fixture_unsubscribe(fixture, &subscription);
}

static struct fixture *acker;
static struct uuid acked;

/* Called between the lease and the reading of what is apart. */
static void ack_at_once(const struct subscription *subscription, struct buf *out)
{
    (void)subscription;
    (void)out;
    assert_int_equal(fixture_settle(acker, OPERATION_ACK, "q", &acked), FIBP_OK);
}

static const struct delivery_encoder late_encoder = {ack_at_once, large_add, fixture_end};

static void one_that_vanished_is_left_out(void **state)
{
    struct fixture *fixture = *state;
    struct fixture other;
    struct subscription subscription;
    struct delivered got[8];
    fixture_create(fixture, "q");
    fixture_join(&other, fixture, 1);
    struct operation_enqueue *enqueue = large_frame("q", "k", 1, 2 * MIB);
    fixture_execute(fixture, &enqueue->operation);
    acked = enqueue->items[0].id;
    acker = &other;
    fixture_frame_free(enqueue);
    fixture_subscribe(fixture, "q", &subscription);
    subscription.limit = 1;
    subscription.encoder = &late_encoder;
    fixture_deliver(fixture);
    assert_int_equal(fixture->emitted_count, 0);
    assert_int_equal(subscription.delivered, 0);
    assert_int_equal(fixture_stats(fixture, "q").depth, 0);
    /* The consumer has its limit left for the next one. */
    subscription.encoder = &large_encoder;
    large_enqueue(fixture, "q", 2, 2 * MIB);
    assert_int_equal(receive(fixture, got, 8), 1);
    assert_int_equal(got[0].payload, 2);
    fixture_unsubscribe(fixture, &subscription);
    fixture_leave(&other);
}

static void one_that_lost_its_chunks_waits_for_its_timeout(void **state)
{
    struct fixture *fixture = *state;
    struct local_queue *local = NULL;
    struct subscription subscription;
    uint8_t key[RECORD_CHUNK_KEY_SIZE];
    fixture_create(fixture, "q");
    struct operation_enqueue *enqueue = large_frame("q", "k", 1, 2 * MIB);
    fixture_execute(fixture, &enqueue->operation);
    record_chunk_key(key, &enqueue->items[0].id, 7);
    fixture_frame_free(enqueue);
    assert_int_equal(broker_find_queue(fixture->broker, STR("q"), &local), 0);
    assert_int_equal(queue_db_delete(local->db, NULL, str_of(key, sizeof(key))), 0);
    large_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture->emitted_count, 0);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 1);
    fixture_unsubscribe(fixture, &subscription);
}

static bool whole_add(const struct subscription *subscription, struct buf *out,
                      const struct delivery_message *message)
{
    (void)subscription;
    uint8_t *record = fixture_record(message);
    buf_append(out, record, message->record.size + message->rest);
    free(record);
    return true;
}

static const struct delivery_encoder whole_encoder = {fixture_begin, whole_add, fixture_end};

/* Many consumers that do not read: what is made for them together is bounded. */
static void the_worker_has_a_window_of_its_own(void **state)
{
    struct fixture *fixture = *state;
    enum { CONSUMERS = 20, LIMIT = 8 * MIB };
    struct delivery_window worker = {.limit = LIMIT}, windows[CONSUMERS];
    struct subscription subscriptions[CONSUMERS];
    struct operation_room room = {.operation.kind = OPERATION_ROOM, .window = &worker};
    unsigned count = 0, pauses = 0;
    memset(windows, 0, sizeof(windows));
    fixture_create(fixture, "q");
    for (unsigned i = 0; i < CONSUMERS; i++) {
        windows[i].limit = MIB;
        windows[i].worker = &worker;
        fixture_subscribe(fixture, "q", &subscriptions[i]);
        subscriptions[i].window = &windows[i];
        subscriptions[i].encoder = &whole_encoder;
    }
    for (uint32_t i = 0; i < CONSUMERS; i++)
        assert_int_equal(large_enqueue(fixture, "q", i, 2 * MIB), FIBP_OK);
    for (;; pauses++) {
        fixture_deliver(fixture);
        if (fixture->emitted_count == 0)
            break;
        count += fixture->emitted_count;
        assert_true(atomic_load(&worker.queued) < LIMIT + 3 * MIB);
        if (count < CONSUMERS) {
            assert_true(atomic_load(&worker.queued) >= LIMIT);
            assert_int_equal(atomic_load(&worker.paused), 1);
        }
        for (unsigned i = 0; i < fixture->emitted_count; i++) { /* it is written after all */
            struct operation_delivery *delivery = (struct operation_delivery *)fixture->emitted[i];
            assert_int_equal(delivery->count, 1);
            atomic_fetch_sub(&delivery->subscription->window->queued, delivery->size);
            atomic_fetch_sub(&worker.queued, delivery->size);
        }
        fixture_forget_emitted(fixture);
        atomic_store(&worker.paused, 0);
        fixture_execute(fixture, &room.operation);
    }
    assert_int_equal(count, CONSUMERS);
    assert_true(pauses >= 4);
    assert_int_equal(atomic_load(&worker.queued), 0);
    for (unsigned i = 0; i < CONSUMERS; i++)
        fixture_unsubscribe(fixture, &subscriptions[i]);
}

/* --- failures --- */

static void nothing_is_left_of_one_that_failed(void **state)
{
    struct fixture *fixture = *state;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 1, NULL);
    assert_int_equal(env_flush(fixture->env), 0);
    /* The chunks find room in the log's buffer, the commit of the message must write. */
    fixture->broker->options.commit = ENV_COMMIT_KERNEL;
    fixture_fill_disk();
    assert_int_equal(large_enqueue(fixture, "q", 1, 2 * MIB), FIBP_STORAGE_ERROR);
    os_calls_reset();
    large_assert_clean(fixture, "q");
    assert_int_equal(large_look(fixture, "q").messages, 1);
    /* No room for the chunks themselves; what could not be removed either is left to the keeper. */
    fixture_fill_disk();
    assert_int_equal(large_enqueue(fixture, "q", 2, 20 * MIB), FIBP_STORAGE_ERROR);
    os_calls_reset();
    assert_int_equal(atomic_load(&fixture->zone->slots[0].working[0]), 0);
    (void)keeping_sweep_once(fixture);
    large_assert_clean(fixture, "q");
    assert_int_equal(large_enqueue(fixture, "q", 3, 2 * MIB), FIBP_OK);
    assert_int_equal(large_look(fixture, "q").messages, 2);
}

static void without_room_on_the_disk_nothing_is_written(void **state)
{
    struct fixture *fixture = *state;
    fixture_create(fixture, "q");
    atomic_store(&fixture->broker->scheduler->space_low, 1);
    assert_int_equal(large_enqueue(fixture, "q", 1, 2 * MIB), FIBP_STORAGE_ERROR);
    large_assert_empty(fixture, "q");
    assert_int_equal(large_enqueue(fixture, "no such queue", 1, 2 * MIB), FIBP_QUEUE_NOT_FOUND);
    atomic_store(&fixture->broker->scheduler->space_low, 0);
}

/* --- slices --- */

/* Executes the first slice of an enqueue of so many bytes; the rest is to be given to the next
 * call.
 */
static struct operation_enqueue *begin(struct fixture *fixture, size_t size)
{
    struct operation *rest = NULL;
    struct operation_enqueue *enqueue = large_frame("q", "k", 1, size);
    assert_int_equal(broker_execute(fixture->broker, &enqueue->operation, &rest), 0);
    assert_ptr_equal(rest, &enqueue->operation);
    return enqueue;
}

static void a_large_one_leaves_time_for_others(void **state)
{
    struct fixture *fixture = *state;
    struct keeping keeping;
    struct subscription subscription;
    struct delivered got[8];
    unsigned slices = 1;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 7, 1, NULL);
    keeping_start(&keeping, fixture);
    struct operation_enqueue *enqueue = begin(fixture, 60 * MIB);
    /* It is served meanwhile, and not swept. */
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 8), 1);
    assert_true(keeping_sweep(&keeping) > 0);
    unsigned chunks = large_look(fixture, "q").chunks;
    assert_true(chunks > 0);
    struct operation *rest = &enqueue->operation;
    while (rest) {
        assert_int_equal(broker_execute(fixture->broker, rest, &rest), 0);
        slices++;
    }
    assert_true(slices >= 7);
    assert_int_equal(enqueue->items[0].status, FIBP_OK);
    (void)keeping_sweep(&keeping); /* its flag was set again; there is nothing to do */
    assert_int_equal(keeping_sweep(&keeping), 0);
    large_assert_clean(fixture, "q");
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 8), 1);
    fixture_frame_free(enqueue);
    fixture_unsubscribe(fixture, &subscription);
    keeping_stop(&keeping);
}

/* A process that dies between two slices holds nothing: no recovery follows. */
static void what_a_dead_worker_had_begun_is_swept(void **state)
{
    struct fixture *fixture = *state;
    struct fixture other;
    struct keeping keeping;
    fixture_create(fixture, "q");
    assert_int_equal(large_enqueue(fixture, "q", 1, 3 * MIB), FIBP_OK);
    fixture_join(&other, fixture, 1);
    struct operation_enqueue *enqueue = begin(&other, 20 * MIB);
    keeping_start(&keeping, fixture);
    (void)keeping_sweep(&keeping);
    assert_true(large_look(fixture, "q").orphans > 100);
    fixture_leave(&other);
    /* No more than a step under one holding of the lock. */
    assert_true(keeping_sweep(&keeping) >= 8);
    large_assert_clean(fixture, "q");
    assert_int_equal(large_look(fixture, "q").messages, 1);
    keeping_stop(&keeping);
    fixture_frame_free(enqueue);
}

/* It dies between two steps, holding nothing: no recovery follows. */
static void a_keeper_that_dies_leaves_the_rest_to_the_next(void **state)
{
    struct fixture *fixture = *state;
    struct fixture other;
    struct keeping keeping;
    fixture_create(fixture, "q");
    fixture_join(&other, fixture, 1);
    struct operation_enqueue *enqueue = begin(&other, 20 * MIB);
    fixture_leave(&other);
    keeping_start(&keeping, fixture);
    assert_int_equal(sweep_step(&keeping.maintenance, keeping.now_ms + 2000), 1);
    keeping_stop(&keeping);
    assert_true(large_look(fixture, "q").orphans > 0);
    assert_true(keeping_sweep_once(fixture) > 1);
    large_assert_clean(fixture, "q");
    fixture_frame_free(enqueue);
}

static void a_queue_can_go_meanwhile(void **state)
{
    struct fixture *fixture = *state;
    struct operation *rest = NULL;
    for (unsigned again = 0; again < 2; again++) {
        fixture_create(fixture, "q");
        struct operation_enqueue *enqueue = begin(fixture, 20 * MIB);
        struct fixture other; /* what is in slices is executed before anything else */
        fixture_join(&other, fixture, 1);
        assert_int_equal(fixture_delete(&other, "q"), FIBP_OK);
        if (again)
            fixture_create(&other, "q");
        fixture_leave(&other);
        assert_int_equal(broker_refresh(fixture->broker), 0);
        assert_int_equal(broker_execute(fixture->broker, &enqueue->operation, &rest), 0);
        assert_null(rest);
        assert_int_equal(enqueue->items[0].status,
                         again ? FIBP_STORAGE_ERROR : FIBP_QUEUE_NOT_FOUND);
        fixture_frame_free(enqueue);
    }
    large_assert_empty(fixture, "q");
}

/* The next environment begins anew. */
static void what_was_begun_is_written_again_after_a_recovery(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[8];
    fixture_create(fixture, "q");
    struct operation_enqueue *enqueue = begin(fixture, 20 * MIB);
    struct uuid id = enqueue->items[0].id;
    reopen(fixture);
    fixture_execute(fixture, &enqueue->operation);
    assert_int_equal(enqueue->items[0].status, FIBP_OK);
    assert_false(uuid_equal(&enqueue->items[0].id, &id));
    fixture_frame_free(enqueue);
    assert_true(large_look(fixture, "q").orphans > 100);
    (void)keeping_sweep_once(fixture);
    large_assert_clean(fixture, "q");
    large_subscribe(fixture, "q", &subscription);
    assert_int_equal(receive(fixture, got, 8), 1);
    fixture_unsubscribe(fixture, &subscription);
}

/* --- moves --- */

static void there_and_back(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[64];
    enqueue_sizes(fixture);
    large_subscribe(fixture, "q", &subscription);
    unsigned count = receive(fixture, got, 64);
    assert_int_equal(count, SIZES);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(move_dead_letter(fixture, "q", &got[i].id), FIBP_OK);
        large_assert_clean(fixture, "q");
        large_assert_clean(fixture, "q.dlq");
    }
    large_assert_empty(fixture, "q");
    assert_int_equal(move_dead_letter(fixture, "q", &got[16].id), FIBP_MESSAGE_NOT_FOUND);
    assert_int_equal(move_redrive(fixture, "q"), SIZES);
    large_assert_empty(fixture, "q.dlq");
    large_assert_clean(fixture, "q");
    assert_int_equal(atomic_load(&fixture->zone->slots[0].working[0]), 0);
    expect_sizes(got, receive(fixture, got, 64), 0);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[i].id), FIBP_OK);
    large_assert_empty(fixture, "q");
    fixture_unsubscribe(fixture, &subscription);
}

static void two_at_one_message(void **state)
{
    struct fixture *fixture = *state;
    struct fixture other;
    struct local_queue *from[2], *to[2];
    struct record_message message = {.apart = 2 * MIB, .chunks = chunks_for(2 * MIB)};
    enum apart_copied outcome;
    int result = 0;
    fixture_create(fixture, "q");
    fixture_join(&other, fixture, 1);
    struct operation_enqueue *enqueue = large_frame("q", "k", 1, 2 * MIB);
    fixture_execute(fixture, &enqueue->operation);
    message.id = enqueue->items[0].id;
    fixture_frame_free(enqueue);
    struct broker *brokers[2] = {fixture->broker, other.broker};
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(broker_find_queue(brokers[i], STR("q"), &from[i]), 0);
        assert_int_equal(broker_find_queue(brokers[i], STR("q.dlq"), &to[i]), 0);
        assert_int_equal(broker_open_db(brokers[i], from[i], true), 0);
        assert_int_equal(broker_open_db(brokers[i], to[i], true), 0);
    }
    assert_int_equal(apart_copy(brokers[0], from[0], to[0], &message, &outcome, &result), 0);
    assert_int_equal(outcome, APART_COPIED);
    assert_int_equal(apart_copy(brokers[1], from[1], to[1], &message, &outcome, &result), 0);
    assert_int_equal(outcome, APART_BUSY);
    /* The other one cannot remove it either. */
    (void)apart_marker(brokers[1]);
    assert_int_equal(apart_discard(brokers[1], to[1], &message.id), 0);
    assert_int_equal(large_look(fixture, "q.dlq").chunks, message.chunks);
    /* It has given up: now it can be taken over, and the first one has no say any more. */
    apart_finish(brokers[0]);
    assert_int_equal(apart_copy(brokers[1], from[1], to[1], &message, &outcome, &result), 0);
    assert_int_equal(outcome, APART_COPIED);
    (void)apart_marker(brokers[0]);
    assert_int_equal(apart_discard(brokers[0], to[0], &message.id), 0);
    assert_int_equal(large_look(fixture, "q.dlq").chunks, message.chunks);
    assert_int_equal(apart_discard(brokers[1], to[1], &message.id), 0);
    large_assert_empty(fixture, "q.dlq");
    /* What has arrived as a message is not overwritten. */
    assert_int_equal(large_look(fixture, "q").apart, 1);
    assert_int_equal(apart_copy(brokers[1], to[1], from[1], &message, &outcome, &result), 0);
    assert_int_equal(outcome, APART_GONE);
    large_assert_clean(fixture, "q");
    apart_finish(brokers[0]);
    apart_finish(brokers[1]);
    fixture_leave(&other);
}

/* --- space --- */

static void a_drained_queue_shrinks(void **state)
{
    struct fixture *fixture = *state;
    struct keeping keeping;
    struct subscription subscription;
    struct delivered got[8];
    unsigned steps = 0;
    fixture_create(fixture, "q");
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(large_enqueue(fixture, "q", i, 20 * MIB), FIBP_OK);
    uint64_t full = fixture_file_size(fixture, "q");
    assert_true(full > 60 * MIB && full < 63 * MIB);
    large_subscribe(fixture, "q", &subscription);
    assert_int_equal(receive(fixture, got, 8), 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[i].id), FIBP_OK);
    keeping_start(&keeping, fixture);
    uint64_t longest = 0;
    assert_int_equal(compact_step(&keeping.maintenance), 0); /* it may not be at rest yet */
    for (int more = 1; more > 0; steps++) {
        uint64_t began = time_monotonic_ms();
        assert_true(steps < 10000);
        more = compact_step(&keeping.maintenance);
        assert_true(more >= 0);
        uint64_t took = time_monotonic_ms() - began;
        longest = took > longest ? took : longest;
    }
    print_message("%u steps, the longest %llu ms\n", steps, (unsigned long long)longest);
    assert_true(fixture_file_size(fixture, "q") < MIB);
    keeping_stop(&keeping);
    fixture_unsubscribe(fixture, &subscription);
}

/* --- old stores --- */

/* As every program before wrote it: whole, whatever its size. */
static void a_record_that_is_not_split_is_read(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[2];
    struct local_queue *local = NULL;
    struct record_message message = {.weight = 1};
    uint8_t header[RECORD_MESSAGE_HEADER + RECORD_MESSAGE_REFERENCE], key[RECORD_MESSAGE_KEY_SIZE];
    struct buf value;
    fixture_create(fixture, "q");
    assert_int_equal(large_enqueue(fixture, "q", 1, 10), FIBP_OK);
    assert_int_equal(broker_find_queue(fixture->broker, STR("q"), &local), 0);
    uint64_t epoch = local->queue->next_lane & ~RECORD_COUNTER_MASK;
    uint8_t *record = large_record(2, 2 * MIB);
    memset(message.id.bytes, 7, UUID_SIZE);
    buf_init(&value, 0);
    buf_append(&value, header, record_message_header(header, &message));
    buf_append(&value, record, 6 + 2 * MIB);
    record_message_key(key, epoch, local->queue->next_seq);
    assert_int_equal(queue_db_put(local->db, NULL, str_of(key, sizeof(key)), buf_str(&value)), 0);
    buf_free(&value);
    free(record);
    reopen(fixture);
    large_subscribe(fixture, "q", &subscription);
    assert_int_equal(receive(fixture, got, 2), 2);
    assert_int_equal(got[1].payload, 2);
    assert_int_equal(fixture_settle(fixture, OPERATION_NACK, "q", &got[1].id), FIBP_OK);
    assert_int_equal(receive(fixture, got, 2), 1);
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[0].id), FIBP_OK);
    fixture_unsubscribe(fixture, &subscription);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_size_arrives_whole_and_goes_whole),
        TEST(all_acked_in_one_frame),
        TEST(they_survive_a_restart),
        TEST(retried_and_expired_ones_stay_whole),
        TEST(headers_count_as_well),
        TEST(one_as_large_as_a_pull_goes_alone),
        TEST(one_that_vanished_is_left_out),
        TEST(one_that_lost_its_chunks_waits_for_its_timeout),
        TEST(the_worker_has_a_window_of_its_own),
        TEST(nothing_is_left_of_one_that_failed),
        TEST(without_room_on_the_disk_nothing_is_written),
        TEST(a_large_one_leaves_time_for_others),
        TEST(what_a_dead_worker_had_begun_is_swept),
        TEST(a_keeper_that_dies_leaves_the_rest_to_the_next),
        TEST(a_queue_can_go_meanwhile),
        TEST(what_was_begun_is_written_again_after_a_recovery),
        TEST(there_and_back),
        TEST(two_at_one_message),
        TEST(a_drained_queue_shrinks),
        TEST(a_record_that_is_not_split_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
