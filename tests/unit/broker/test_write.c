/* Writes with faults, limits and all that shares a transaction. */
#include "unit/broker/fixture.h"
#include "unit/broker/large.h"

#include "os/time.h"

/* --- what a queue says, to compare before and after --- */

struct look {
    struct operation_queue_row totals;
    uint64_t lanes, next_seq, next_lane, keys;
};

static struct look look_at(struct fixture *fixture, const char *name)
{
    const struct queue *queue = fixture_queue(fixture, name);
    return (struct look){.totals = fixture_stats(fixture, name),
                         .lanes = queue->lane_count,
                         .next_seq = queue->next_seq,
                         .next_lane = queue->next_lane,
                         .keys = queue->keys.count};
}

static void assert_unchanged(struct fixture *fixture, const char *name, const struct look *before)
{
    struct look now = look_at(fixture, name);
    assert_int_equal(now.totals.depth, before->totals.depth);
    assert_int_equal(now.totals.in_flight, before->totals.in_flight);
    assert_int_equal(now.lanes, before->lanes);
    assert_int_equal(now.keys, before->keys);
    assert_int_equal(now.next_seq, before->next_seq);
    assert_int_equal(now.next_lane, before->next_lane);
}

static uint64_t group_size(const struct delivered *got, unsigned count, char key)
{
    uint64_t of_key = 0;
    for (unsigned i = 0; i < count; i++)
        of_key += got[i].key == key;
    return of_key;
}

/* All that can be delivered, acknowledged. */
static unsigned drain(struct fixture *fixture, const char *queue, struct delivered *got,
                      unsigned limit)
{
    struct subscription subscription;
    fixture_subscribe(fixture, queue, &subscription);
    unsigned count = 0, more = 1;
    while (more) {
        fixture_deliver(fixture);
        more = fixture_delivered(fixture, got + count, limit - count);
        for (unsigned i = count; i < count + more; i++)
            assert_int_equal(fixture_settle(fixture, OPERATION_ACK, queue, &got[i].id), FIBP_OK);
        count += more;
    }
    fixture_unsubscribe(fixture, &subscription);
    return count;
}

/* --- faults --- */

/* Puts that need a B-tree page fail for one queue's file: one operation of three has no room. */
static size_t refused_size;

static ssize_t refuse_large(int fd, const void *data, size_t size)
{
    if (size >= refused_size) {
        errno = ENOSPC;
        return -1;
    }
    return write(fd, data, size);
}

static ssize_t refuse_large_at(int fd, const void *data, size_t size, off_t offset)
{
    if (size >= refused_size) {
        errno = ENOSPC;
        return -1;
    }
    return pwrite(fd, data, size, offset);
}

static void a_full_disk_fails_what_needs_it_and_nothing_else(void **state)
{
    struct fixture *fixture = *state;
    static struct delivered got[64];
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 3, NULL);
    assert_int_equal(env_flush(fixture->env), 0);
    struct look before = look_at(fixture, "q");
    /* More than the log buffer: it must be written while its records are put. */
    struct operation_enqueue *small =
        fixture_frame(&(struct fixture_message){"q", "new", 1, 10, 4}, 1);
    struct operation_enqueue *large =
        fixture_frame(&(struct fixture_message){"q", "large", 1, 11, 40u << 20}, 1);
    struct operation_enqueue *last =
        fixture_frame(&(struct fixture_message){"q", "k", 7, 12, 4}, 1);
    struct operation *rest = NULL;
    small->operation.next = &large->operation;
    large->operation.next = &last->operation;
    refused_size = 1u << 20;
    os_calls.write = refuse_large;
    os_calls.pwrite = refuse_large_at;
    rest = &small->operation;
    while (rest)
        assert_int_equal(broker_execute(fixture->broker, rest, &rest), 0);
    os_calls_reset();
    assert_int_equal(small->items[0].status, FIBP_OK);
    assert_int_equal(large->items[0].status, FIBP_STORAGE_ERROR);
    assert_int_equal(last->items[0].status, FIBP_OK);
    struct look after = look_at(fixture, "q");
    assert_int_equal(after.totals.depth, before.totals.depth + 2);
    assert_int_equal(after.lanes, before.lanes + 1);
    assert_int_equal(after.keys, before.keys + 1);
    fixture_frame_free(small);
    fixture_frame_free(large);
    fixture_frame_free(last);
    fixture_enqueue(fixture, "q", "k", 1, 20, 1, NULL);
    assert_int_equal(env_flush(fixture->env), 0);
    assert_int_equal(drain(fixture, "q", got, 64), 6);
}

static void a_refused_commit_changes_nothing(void **state)
{
    struct fixture *fixture = *state;
    static struct delivered got[64];
    struct subscription subscription;
    struct uuid ids[6];
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 6, ids);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 64), 6);
    struct look before = look_at(fixture, "q");

    fixture->broker->options.commit = ENV_COMMIT_KERNEL;
    fixture_fill_disk();
    struct operation_settle *acks = fixture_settle_frame(OPERATION_ACK, "q", ids, 2);
    struct operation_settle *nacks = fixture_settle_frame(OPERATION_NACK, "q", ids + 2, 2);
    struct operation_enqueue *enqueue =
        fixture_frame(&(struct fixture_message){"q", "new", 3, 9, 4}, 1);
    struct operation *rest = NULL;
    acks->operation.next = &nacks->operation;
    nacks->operation.next = &enqueue->operation;
    int status = broker_execute(fixture->broker, &acks->operation, &rest);
    os_calls_reset();
    assert_int_equal(status, 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(acks->items[i].status, FIBP_STORAGE_ERROR);
        assert_int_equal(nacks->items[i].status, FIBP_STORAGE_ERROR);
    }
    assert_int_equal(enqueue->items[0].status, FIBP_STORAGE_ERROR);
    assert_unchanged(fixture, "q", &before);
    fixture_frame_free(enqueue);
    free(nacks);
    free(acks);

    /* And now all of it works. */
    fixture_enqueue(fixture, "q", "new", 3, 9, 1, NULL);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &ids[i]), FIBP_OK);
    assert_int_equal(fixture_stats(fixture, "q").depth, 1);
    fixture_unsubscribe(fixture, &subscription);
}

/* What compaction is told of removed chunks: an ack that fails and is repeated removes them once.
 */
static void chunks_of_a_refused_ack_are_not_counted(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct local_queue *local = NULL;
    struct delivered got[2];
    fixture_create(fixture, "q");
    assert_int_equal(large_enqueue(fixture, "q", 1, 40000), FIBP_OK);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 2), 1);
    assert_int_equal(broker_find_queue(fixture->broker, STR("q"), &local), 0);
    fixture->broker->options.commit = ENV_COMMIT_KERNEL;
    fixture_fill_disk();
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[0].id), FIBP_STORAGE_ERROR);
    os_calls_reset();
    assert_int_equal(atomic_load(&local->queue->chunks_removed), 0);
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[0].id), FIBP_OK);
    assert_int_equal(atomic_load(&local->queue->chunks_removed), chunks_for(40000));
    fixture_unsubscribe(fixture, &subscription);
}

/* Another process meets the full disk at the same time, and is the one that gives up the reserve.
 */
static ssize_t late_write(int fd, const void *data, size_t size)
{
    ssize_t written = fixture_tight_write(fd, data, size);
    if (written < 0)
        assert_int_equal(truncate(fixture_ballast, 0), 0);
    return written;
}

static ssize_t late_pwrite(int fd, const void *data, size_t size, off_t offset)
{
    ssize_t written = fixture_tight_pwrite(fd, data, size, offset);
    if (written < 0)
        assert_int_equal(truncate(fixture_ballast, 0), 0);
    return written;
}

static void room_that_another_process_made_is_used(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[2];
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 1, NULL);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 2), 1);
    fixture->broker->options.commit = ENV_COMMIT_KERNEL;
    fixture_fill_disk_but_reserve(fixture);
    os_calls.write = late_write;
    os_calls.pwrite = late_pwrite;
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[0].id), FIBP_OK);
    os_calls_reset();
    assert_int_equal(fixture_stats(fixture, "q").depth, 0);
    fixture_unsubscribe(fixture, &subscription);
}

static void low_space_refuses_new_messages_only(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct delivered got[8];
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 2, NULL);
    atomic_store(&fixture->broker->scheduler->space_low, 1);
    assert_int_equal(fixture_enqueue_one(fixture, (struct fixture_message){"q", "k", 1, 2, 4}),
                     FIBP_STORAGE_ERROR);
    assert_int_equal(fixture_create(fixture, "another"), FIBP_STORAGE_ERROR);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 8), 2);
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[0].id), FIBP_OK);
    assert_int_equal(fixture_settle(fixture, OPERATION_NACK, "q", &got[1].id), FIBP_OK);
    atomic_store(&fixture->broker->scheduler->space_low, 0);
    fixture_enqueue(fixture, "q", "k", 1, 3, 1, NULL);
    fixture_unsubscribe(fixture, &subscription);
}

/* --- what shares a frame or a batch --- */

static void deliver_some(struct fixture *fixture, uint32_t count, struct subscription *subscription,
                         struct uuid *ids)
{
    static struct delivered got[64];
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, count, ids);
    fixture_subscribe(fixture, "q", subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 64), count);
}

static void the_same_ack_twice_in_a_frame_is_one_ack(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct uuid ids[2], named[4];
    deliver_some(fixture, 2, &subscription, ids);
    named[0] = named[2] = named[3] = ids[0];
    named[1] = ids[1];
    struct operation_settle *acks = fixture_settle_frame(OPERATION_ACK, "q", named, 4);
    fixture_execute(fixture, &acks->operation);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(acks->items[i].status, FIBP_OK);
    free(acks);
    assert_int_equal(fixture_stats(fixture, "q").depth, 0);
    assert_int_equal(fixture_queue(fixture, "q")->counters->acked, 2);
    fixture_unsubscribe(fixture, &subscription);
}

/* Two frames in one transaction: the second was late, as it would be in a transaction of its own.
 */
static void the_same_ack_in_two_frames_is_found_once(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct uuid ids[1];
    struct operation *rest = NULL;
    deliver_some(fixture, 1, &subscription, ids);
    struct operation_settle *first = fixture_settle_frame(OPERATION_ACK, "q", ids, 1);
    struct operation_settle *second = fixture_settle_frame(OPERATION_ACK, "q", ids, 1);
    first->operation.next = &second->operation;
    assert_int_equal(broker_execute(fixture->broker, &first->operation, &rest), 0);
    assert_int_equal(first->items[0].status, FIBP_OK);
    assert_int_equal(second->items[0].status, FIBP_MESSAGE_NOT_FOUND);
    free(first);
    free(second);
    fixture_unsubscribe(fixture, &subscription);
}

static void the_first_of_ack_and_nack_counts(void **state)
{
    struct fixture *fixture = *state;
    struct subscription subscription;
    struct uuid ids[2];
    struct operation *rest = NULL;
    deliver_some(fixture, 2, &subscription, ids);
    struct operation_settle *nack = fixture_settle_frame(OPERATION_NACK, "q", ids, 1);
    struct operation_settle *acks = fixture_settle_frame(OPERATION_ACK, "q", ids, 2);
    struct operation_settle *late = fixture_settle_frame(OPERATION_NACK, "q", ids, 2);
    nack->operation.next = &acks->operation;
    acks->operation.next = &late->operation;
    assert_int_equal(broker_execute(fixture->broker, &nack->operation, &rest), 0);
    assert_int_equal(nack->items[0].status, FIBP_OK);
    assert_int_equal(acks->items[0].status, FIBP_MESSAGE_NOT_FOUND);
    assert_int_equal(acks->items[1].status, FIBP_OK);
    assert_int_equal(late->items[0].status, FIBP_MESSAGE_NOT_FOUND);
    assert_int_equal(late->items[1].status, FIBP_MESSAGE_NOT_FOUND);
    free(nack);
    free(acks);
    free(late);
    assert_int_equal(fixture_stats(fixture, "q").depth, 1);
    fixture_unsubscribe(fixture, &subscription);
}

static void items_name_queues_of_their_own(void **state)
{
    struct fixture *fixture = *state;
    static const struct fixture_message messages[] = {
        {"a", "k", 1, 0, 4}, {"none", "k", 1, 1, 4}, {"b", "k", 1, 2, 4}, {"a", "k", 1, 3, 4}};
    fixture_create(fixture, "a");
    fixture_create(fixture, "b");
    struct operation_enqueue *enqueue = fixture_frame(messages, 4);
    fixture_execute(fixture, &enqueue->operation);
    assert_int_equal(enqueue->items[0].status, FIBP_OK);
    assert_int_equal(enqueue->items[1].status, FIBP_QUEUE_NOT_FOUND);
    assert_int_equal(enqueue->items[2].status, FIBP_OK);
    assert_int_equal(enqueue->items[3].status, FIBP_OK);
    struct operation_settle *ack =
        fixture_settle_frame(OPERATION_ACK, "none", &enqueue->items[0].id, 1);
    fixture_execute(fixture, &ack->operation);
    assert_int_equal(ack->items[0].status, FIBP_MESSAGE_NOT_FOUND);
    ack->items[0].queue = STR("a");
    ack->items[0].id_valid = false;
    fixture_execute(fixture, &ack->operation);
    assert_int_equal(ack->items[0].status, FIBP_MESSAGE_NOT_FOUND);
    free(ack);
    fixture_frame_free(enqueue);
    assert_int_equal(fixture_stats(fixture, "a").depth, 2);
    assert_int_equal(fixture_stats(fixture, "b").depth, 1);
}

static void a_large_frame_is_split(void **state)
{
    struct fixture *fixture = *state;
    static struct delivered got[5000];
    static struct uuid ids[5000];
    fixture_create(fixture, "q");
    fixture->max_unacked = fixture->broker->options.max_unacked = 10000;
    fixture_enqueue(fixture, "q", "k", 1, 0, 5000, ids);
    assert_int_equal(fixture_stats(fixture, "q").depth, 5000);
    struct subscription subscription;
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 5000), 5000);
    for (uint32_t i = 0; i < 5000; i++)
        assert_int_equal(got[i].payload, i);
    struct operation_settle *nacks = fixture_settle_frame(OPERATION_NACK, "q", ids, 2500);
    struct operation_settle *acks = fixture_settle_frame(OPERATION_ACK, "q", ids + 2500, 2500);
    struct operation *rest = NULL;
    nacks->operation.next = &acks->operation;
    assert_int_equal(broker_execute(fixture->broker, &nacks->operation, &rest), 0);
    for (uint32_t i = 0; i < 2500; i++) {
        assert_int_equal(nacks->items[i].status, FIBP_OK);
        assert_int_equal(acks->items[i].status, FIBP_OK);
    }
    free(nacks);
    free(acks);
    assert_int_equal(fixture_stats(fixture, "q").depth, 2500);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 0);
    fixture_unsubscribe(fixture, &subscription);
}

/* --- lanes and weights --- */

/* As the store has it. */
static uint32_t stored_weight(struct fixture *fixture, const char *queue_name, const char *key_name,
                              unsigned *lanes)
{
    struct local_queue *local = NULL;
    struct queue_db_bulk bulk;
    struct str key, value;
    DBC *cursor = NULL;
    uint32_t weight = 0;
    *lanes = 0;
    assert_int_equal(broker_find_queue(fixture->broker, str_from_c(queue_name), &local), 0);
    assert_int_equal(queue_db_open(&fixture->broker->cache, &local->db, local->queue->id, true), 0);
    queue_db_bulk_init(&bulk);
    assert_int_equal(queue_db_cursor(local->db, &cursor), 0);
    assert_int_equal(queue_db_bulk_read(cursor, &bulk, STR("K"), 0), 0);
    while (queue_db_bulk_next(&bulk, &key, &value)) {
        struct record_lane lane;
        if (key.data[0] != RECORD_TAG_LANE)
            break;
        assert_true(record_lane_parse(value, &lane));
        if (str_equal(lane.fairness_key, str_from_c(key_name))) {
            weight = lane.weight;
            (*lanes)++;
        }
    }
    queue_db_cursor_close(cursor);
    queue_db_bulk_free(&bulk);
    return weight;
}

static void a_new_weight_is_stored_and_in_force(void **state)
{
    struct fixture *fixture = *state;
    static struct delivered got[64];
    struct subscription subscription;
    unsigned lanes = 0;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "a", 1, 0, 10, NULL);
    fixture_enqueue(fixture, "q", "b", 1, 10, 10, NULL);
    assert_int_equal(stored_weight(fixture, "q", "a", &lanes), 1);
    fixture_enqueue(fixture, "q", "a", 4, 20, 1, NULL);
    assert_int_equal(stored_weight(fixture, "q", "a", &lanes), 4);
    assert_int_equal(lanes, 1);
    fixture_enqueue(fixture, "q", "c", 0, 30, 1, NULL);
    assert_int_equal(stored_weight(fixture, "q", "c", &lanes), 0);
    fixture_close(fixture);
    fixture_open(fixture);
    fixture_subscribe(fixture, "q", &subscription);
    fixture_deliver(fixture);
    assert_int_equal(fixture_delivered(fixture, got, 64), 22);
    char order[10] = {0};
    for (unsigned i = 0; i < 9; i++)
        order[i] = got[i].key;
    assert_string_equal(order, "aaaabcaaa");
    assert_int_equal(group_size(got, 22, 'a'), 11);
    fixture_unsubscribe(fixture, &subscription);
}

/* The first message of a lane and one with any other weight in one transaction: its K is written.
 */
static void a_lane_is_stored_whatever_weights_come_together(void **state)
{
    static const uint32_t weights[] = {0,          1,          2,          1000,
                                       0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
    struct fixture *fixture = *state;
    unsigned count = 0;
    fixture_create(fixture, "q");
    for (unsigned i = 0; i < 8; i++) {
        for (unsigned j = 0; j < 8; j++, count++) {
            char key[16];
            unsigned lanes = 0;
            snprintf(key, sizeof(key), "%u-%u", i, j);
            const struct fixture_message messages[] = {{"q", key, weights[i], 0, 4},
                                                       {"q", key, weights[j], 1, 4}};
            struct operation_enqueue *enqueue = fixture_frame(messages, 2);
            fixture_execute(fixture, &enqueue->operation);
            assert_int_equal(enqueue->items[1].status, FIBP_OK);
            fixture_frame_free(enqueue);
            assert_int_equal(stored_weight(fixture, "q", key, &lanes), weights[j]);
            assert_int_equal(lanes, 1);
        }
    }
}

static uint8_t enqueue_throttled(struct fixture *fixture, const char *key, uint32_t weight,
                                 const char *throttle_key, uint32_t payload)
{
    struct str throttle = str_from_c(throttle_key);
    struct operation_enqueue *enqueue =
        fixture_frame(&(struct fixture_message){"q", key, weight, payload, 4}, 1);
    enqueue->items[0].throttle_keys = &throttle;
    enqueue->items[0].throttle_count = 1;
    fixture_execute(fixture, &enqueue->operation);
    uint8_t status = enqueue->items[0].status;
    fixture_frame_free(enqueue);
    return status;
}

/* spec/broker.md 4: the weight of a key is that of its newest message, whichever lane it is in. */
static void the_newest_weight_of_a_key_counts_over_its_lanes(void **state)
{
    struct fixture *fixture = *state;
    fixture_create(fixture, "q");
    assert_int_equal(enqueue_throttled(fixture, "a", 1, "x", 0), FIBP_OK);
    assert_int_equal(enqueue_throttled(fixture, "a", 5, "y", 1), FIBP_OK);
    struct queue *queue = fixture_queue(fixture, "q");
    assert_int_equal(queue->lane_count, 2);
    struct drr_key *key = drr_front(&queue->drr);
    assert_int_equal(key->weight, 5);
    assert_int_equal(enqueue_throttled(fixture, "a", 1, "x", 2), FIBP_OK);
    assert_int_equal(key->weight, 1);
}

/* --- a full zone --- */

static int small_setup(void **state)
{
    return fixture_setup_sized(state, 4u << 20, 100);
}

static void a_full_zone_says_so_and_recovers(void **state)
{
    struct fixture *fixture = *state;
    static struct delivered got[32];
    struct subscription subscription;
    char key[1000];
    uint32_t made = 0;
    uint8_t status = FIBP_OK;
    memset(key, 'k', sizeof(key));
    key[sizeof(key) - 1] = 0;
    fixture_create(fixture, "q");
    fixture_enqueue(fixture, "q", "old", 1, 0, 1, NULL);
    fixture->broker->options.max_unacked = 0; /* there, and takes nothing yet */
    fixture_subscribe(fixture, "q", &subscription);
    while (status == FIBP_OK && made < 20000) {
        int digits = snprintf(key, 9, "%08u", made);
        key[digits] = 'k';
        status = fixture_enqueue_one(fixture, (struct fixture_message){"q", key, 1, made, 4});
        made += status == FIBP_OK;
    }
    assert_int_equal(status, FIBP_CHANNEL_FULL);
    assert_true(made > 100);
    struct look before = look_at(fixture, "q");
    assert_int_equal(before.totals.depth, made + 1);
    /* One of a frame has no room, the others have. */
    struct fixture_message messages[] = {
        {"q", "old", 1, 1, 4}, {"q", key, 1, 2, 4}, {"q", "old", 1, 3, 4}};
    key[0] = 'x';
    struct operation_enqueue *enqueue = fixture_frame(messages, 3);
    fixture_execute(fixture, &enqueue->operation);
    assert_int_equal(enqueue->items[0].status, FIBP_OK);
    assert_int_equal(enqueue->items[1].status, FIBP_CHANNEL_FULL);
    assert_int_equal(enqueue->items[2].status, FIBP_OK);
    fixture_frame_free(enqueue);
    assert_int_equal(fixture_stats(fixture, "q").depth, before.totals.depth + 2);

    /* When some are gone and their lanes freed there is room again. */
    fixture->broker->options.max_unacked = 8;
    for (unsigned i = 0; i < 400; i++) {
        struct operation_room room = {.operation = {.kind = OPERATION_ROOM},
                                      .window = subscription.window};
        fixture_execute(fixture, &room.operation);
        fixture_deliver(fixture);
        unsigned count = fixture_delivered(fixture, got, 32);
        assert_true(count > 0 || fixture_stats(fixture, "q").depth == 0);
        for (unsigned j = 0; j < count; j++)
            assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &got[j].id), FIBP_OK);
    }
    assert_int_equal(fixture_stats(fixture, "q").depth,
                     before.totals.depth + 2 > 3200 ? before.totals.depth + 2 - 3200 : 0);
    fixture_expire(fixture, time_monotonic_ms() + QUEUE_LANE_IDLE_MS + 1000);
    assert_int_equal(fixture_enqueue_one(fixture, (struct fixture_message){"q", key, 1, 4, 4}),
                     FIBP_OK);
    fixture_unsubscribe(fixture, &subscription);
}

/* --- deleted while in use --- */

static void a_queue_deleted_by_another_worker_refuses(void **state)
{
    struct fixture *fixture = *state;
    static struct fixture other;
    static const struct fixture_message messages[] = {
        {"a", "k", 1, 0, 4}, {"b", "k", 1, 1, 4}, {"a", "k", 1, 2, 4}, {"b", "k", 1, 3, 4}};
    fixture_join(&other, fixture, 1);
    fixture_create(fixture, "a");
    fixture_create(fixture, "b");
    fixture_enqueue(fixture, "a", "k", 1, 0, 1, NULL);
    fixture_enqueue(fixture, "b", "k", 1, 0, 1, NULL);
    assert_int_equal(fixture_delete(&other, "b"), FIBP_OK);
    struct operation_enqueue *enqueue = fixture_frame(messages, 4);
    fixture_execute(fixture, &enqueue->operation);
    assert_int_equal(enqueue->items[0].status, FIBP_OK);
    assert_int_equal(enqueue->items[1].status, FIBP_QUEUE_NOT_FOUND);
    assert_int_equal(enqueue->items[2].status, FIBP_OK);
    assert_int_equal(enqueue->items[3].status, FIBP_QUEUE_NOT_FOUND);
    fixture_frame_free(enqueue);
    fixture_leave(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_full_disk_fails_what_needs_it_and_nothing_else,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_refused_commit_changes_nothing, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(chunks_of_a_refused_ack_are_not_counted, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(room_that_another_process_made_is_used, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(low_space_refuses_new_messages_only, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(the_same_ack_twice_in_a_frame_is_one_ack, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(the_same_ack_in_two_frames_is_found_once, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(the_first_of_ack_and_nack_counts, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(items_name_queues_of_their_own, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_large_frame_is_split, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_new_weight_is_stored_and_in_force, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_lane_is_stored_whatever_weights_come_together,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(the_newest_weight_of_a_key_counts_over_its_lanes,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_full_zone_says_so_and_recovers, small_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_queue_deleted_by_another_worker_refuses, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
