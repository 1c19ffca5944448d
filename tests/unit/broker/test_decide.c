/* Nacks of queues with a script: what is up for a decision is nobody else's. */
#include "unit/broker/fixture.h"

#include "broker/decide.h"
#include "fibp/framed.h"
#include "os/time.h"
#include "unit/broker/large.h"

static _Atomic uint64_t account;

/* A queue with a script, and a process behind the fixture's slot. */
static void prepare(struct fixture *fixture, const char *queue)
{
    atomic_store(&fixture->zone->slots[fixture->broker->options.slot].pid, getpid());
    fixture->broker->options.deciding_bytes = &account;
    fixture_create(fixture, queue);
    atomic_store(&fixture_queue(fixture, queue)->has_on_failure, true);
}

static const struct lease *lease_of(struct fixture *fixture, const char *queue,
                                    const struct uuid *id)
{
    return queue_lease_find(fixture_queue(fixture, queue), id);
}

static void decide_all(struct operation_settle *settle, bool dead_letter, uint64_t delay_ms)
{
    assert_true(settle->operation.undecided);
    for (uint32_t i = 0; i < settle->deciding->count; i++) {
        settle->deciding->decisions[i].dead_letter = dead_letter;
        settle->deciding->decisions[i].delay_ms = delay_ms;
    }
}

static void one_is_in_hand_until_it_is_decided(void **state)
{
    struct fixture *fixture = *state;
    struct delivered got[4];
    struct uuid id;
    prepare(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 7, 1, &id);
    assert_int_equal(fixture_take(fixture, "q", got, 4), 1);
    struct operation_settle *settle = fixture_settle_frame(OPERATION_NACK, "q", &id, 1);
    fixture_execute(fixture, &settle->operation);
    assert_true(settle->operation.undecided);
    assert_false(settle->operation.wrote); /* no flush for this trip */
    assert_int_equal(settle->deciding->count, 1);
    assert_int_equal(settle->deciding->decisions[0].attempts, 1);
    assert_int_equal(settle->deciding->decisions[0].header_count, 0);
    assert_int_equal(settle->deciding->decisions[0].headers.size, 2);
    /* Neither others nor time end it. */
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &id), FIBP_MESSAGE_NOT_FOUND);
    assert_int_equal(fixture_settle(fixture, OPERATION_NACK, "q", &id), FIBP_MESSAGE_NOT_FOUND);
    fixture_expire(fixture, time_monotonic_ms() + 100000);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 1);
    decide_all(settle, false, 5000);
    uint64_t now_ms = time_wall_ms();
    fixture_execute(fixture, &settle->operation);
    assert_false(settle->operation.undecided);
    assert_true(settle->operation.wrote);
    assert_int_equal(settle->items[0].status, FIBP_OK);
    assert_int_equal(atomic_load(&account), 0);
    operation_free(&settle->operation);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 0);
    assert_int_equal(fixture_stats(fixture, "q").depth, 1);
    fixture_due(fixture, now_ms + 5000);
    assert_int_equal(fixture_take(fixture, "q", got, 4), 0);
    fixture_close(fixture);
    fixture_open(fixture);
    fixture_due(fixture, time_wall_ms() + 5001);
    assert_int_equal(fixture_take(fixture, "q", got, 4), 1);
    assert_int_equal(got[0].payload, 7);
    assert_int_equal(got[0].attempt, 1);
    assert_int_equal(got[0].key, 'k');
}

static void a_dead_letter_is_moved(void **state)
{
    struct fixture *fixture = *state;
    struct delivered got[4];
    struct uuid id;
    prepare(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 7, 1, &id);
    assert_int_equal(fixture_take(fixture, "q", got, 4), 1);
    struct operation_settle *settle = fixture_settle_frame(OPERATION_NACK, "q", &id, 1);
    fixture_execute(fixture, &settle->operation);
    decide_all(settle, true, 0);
    fixture_execute(fixture, &settle->operation);
    assert_int_equal(settle->items[0].status, FIBP_OK);
    operation_free(&settle->operation);
    assert_int_equal(fixture_stats(fixture, "q").depth, 0);
    assert_int_equal(fixture_take(fixture, "q.dlq", got, 4), 1);
    assert_int_equal(got[0].attempt, 1);
}

static void without_its_queue_a_dead_letter_is_retried(void **state)
{
    struct fixture *fixture = *state;
    struct delivered got[4];
    struct uuid id;
    prepare(fixture, "q");
    assert_int_equal(fixture_delete(fixture, "q.dlq"), FIBP_OK);
    fixture_enqueue(fixture, "q", "k", 1, 7, 1, &id);
    assert_int_equal(fixture_take(fixture, "q", got, 4), 1);
    struct operation_settle *settle = fixture_settle_frame(OPERATION_NACK, "q", &id, 1);
    fixture_execute(fixture, &settle->operation);
    decide_all(settle, true, 0);
    fixture_execute(fixture, &settle->operation);
    assert_int_equal(settle->items[0].status, FIBP_OK);
    operation_free(&settle->operation);
    assert_int_equal(fixture_take(fixture, "q", got, 4), 1);
    assert_int_equal(got[0].attempt, 1);
}

/* A script of 9 ms, leases of 5 ms, and somebody else who acks, at every point between. */
static void a_slow_script_and_a_second_acker_have_one_outcome(void **state)
{
    struct fixture *fixture = *state;
    struct fixture other;
    struct delivered got[4];
    struct uuid id;
    prepare(fixture, "q");
    atomic_store(&fixture_queue(fixture, "q")->visibility_timeout_ms, 5);
    fixture_join(&other, fixture, 1);
    for (unsigned when = 0; when < 40; when++) {
        bool dead = when % 2;
        fixture_enqueue(fixture, "q", "k", 1, when, 1, &id);
        assert_int_equal(fixture_take(fixture, "q", got, 4), 1);
        struct operation_settle *settle = fixture_settle_frame(OPERATION_NACK, "q", &id, 1);
        uint64_t began_ms = time_monotonic_ms();
        if (when / 2 % 2)
            fixture_execute(fixture, &settle->operation);
        bool acked = fixture_settle(&other, OPERATION_ACK, "q", &id) == FIBP_OK;
        if (!(when / 2 % 2))
            fixture_execute(fixture, &settle->operation);
        while (time_monotonic_ms() < began_ms + 9)
            fixture_expire(&other, time_monotonic_ms());
        decide_all(settle, dead, 0);
        acked = fixture_settle(&other, OPERATION_ACK, "q", &id) == FIBP_OK || acked;
        fixture_execute(fixture, &settle->operation);
        bool nacked = settle->items[0].status == FIBP_OK;
        operation_free(&settle->operation);
        assert_int_equal(acked + nacked, 1);
        assert_int_equal(fixture_stats(fixture, "q").depth, nacked && !dead);
        assert_int_equal(fixture_stats(fixture, "q.dlq").depth, nacked && dead);
        for (unsigned i = 0; i < 2; i++) {
            const char *queue = i ? "q.dlq" : "q";
            unsigned count = fixture_take(fixture, queue, got, 4);
            if (count) {
                assert_int_equal(got[0].attempt, 1);
                assert_int_equal(fixture_settle(fixture, OPERATION_ACK, queue, &got[0].id),
                                 FIBP_OK);
            }
        }
    }
    fixture_leave(&other);
}

static void a_worker_that_dies_lets_go(void **state)
{
    struct fixture *fixture = *state;
    struct fixture other;
    struct delivered got[4];
    struct uuid ids[3];
    prepare(fixture, "q");
    fixture_join(&other, fixture, 1);
    atomic_store(&fixture->zone->slots[1].pid, getpid());
    fixture_enqueue(fixture, "q", "k", 1, 0, 3, ids);
    assert_int_equal(fixture_take(fixture, "q", got, 4), 3);
    struct operation_settle *settle = fixture_settle_frame(OPERATION_NACK, "q", ids, 3);
    fixture_execute(&other, &settle->operation);
    assert_int_equal(settle->deciding->count, 3);
    fixture_expire(fixture, time_monotonic_ms() + 100000);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 3);
    fixture_leave(&other);
    /* Another process has the slot now; the first one's word does not count. */
    fixture_join(&other, fixture, 1);
    atomic_store(&fixture->zone->slots[1].pid, getpid());
    decide_all(settle, true, 0);
    fixture_execute(&other, &settle->operation);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(settle->items[i].status, FIBP_MESSAGE_NOT_FOUND);
    operation_free(&settle->operation);
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &ids[0]), FIBP_OK);
    fixture_expire(fixture, time_monotonic_ms() + 200000);
    assert_int_equal(fixture_stats(fixture, "q").in_flight, 0);
    assert_int_equal(fixture_stats(fixture, "q").depth, 2);
    fixture_leave(&other);
}

static void after_a_recovery_it_is_asked_again(void **state)
{
    struct fixture *fixture = *state;
    struct delivered got[4];
    struct uuid id;
    prepare(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 1, &id);
    assert_int_equal(fixture_take(fixture, "q", got, 4), 1);
    struct operation_settle *settle = fixture_settle_frame(OPERATION_NACK, "q", &id, 1);
    fixture_execute(fixture, &settle->operation);
    decide_all(settle, true, 0);
    fixture_close(fixture);
    fixture_open(fixture);
    atomic_store(&fixture_queue(fixture, "q")->has_on_failure, true);
    assert_int_equal(lease_of(fixture, "q", &id)->state, LEASE_HELD);
    fixture_execute(fixture, &settle->operation);
    decide_all(settle, false, 0);
    assert_int_equal(settle->deciding->count, 1);
    fixture_execute(fixture, &settle->operation);
    assert_int_equal(settle->items[0].status, FIBP_OK);
    operation_free(&settle->operation);
    assert_int_equal(fixture_take(fixture, "q", got, 4), 1);
    assert_int_equal(got[0].attempt, 1);
}

static void what_cannot_be_done_is_nobodys_again(void **state)
{
    struct fixture *fixture = *state;
    struct delivered got[4];
    struct uuid id;
    prepare(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 1, &id);
    assert_int_equal(fixture_take(fixture, "q", got, 4), 1);
    for (unsigned dead = 0; dead < 2; dead++) {
        struct operation_settle *settle = fixture_settle_frame(OPERATION_NACK, "q", &id, 1);
        fixture_execute(fixture, &settle->operation);
        assert_int_equal(lease_of(fixture, "q", &id)->state, LEASE_DECIDING);
        decide_all(settle, dead, 0);
        fixture->broker->options.commit = ENV_COMMIT_KERNEL;
        fixture_fill_disk();
        fixture_execute(fixture, &settle->operation);
        os_calls_reset();
        assert_int_equal(settle->items[0].status, FIBP_STORAGE_ERROR);
        operation_free(&settle->operation);
        assert_int_equal(lease_of(fixture, "q", &id)->state, LEASE_HELD);
    }
    assert_int_equal(fixture_settle(fixture, OPERATION_ACK, "q", &id), FIBP_OK);
}

static void a_frame_of_many_kinds_keeps_its_order(void **state)
{
    struct fixture *fixture = *state;
    static struct delivered got[8];
    struct uuid asked[3], plain[2], ids[8];
    static const char *const queues[] = {"q", "p", "q", "q", "none", "p", "q", "q"};
    static const uint8_t expected[] = {FIBP_OK,
                                       FIBP_OK,
                                       FIBP_OK,
                                       FIBP_MESSAGE_NOT_FOUND, /* twice */
                                       FIBP_MESSAGE_NOT_FOUND,
                                       FIBP_OK,
                                       FIBP_MESSAGE_NOT_FOUND, /* no UUID */
                                       FIBP_OK};
    prepare(fixture, "q");
    fixture_create(fixture, "p");
    fixture_enqueue(fixture, "q", "k", 1, 0, 3, asked);
    fixture_enqueue(fixture, "p", "k", 1, 0, 2, plain);
    assert_int_equal(fixture_take(fixture, "q", got, 8), 3);
    assert_int_equal(fixture_take(fixture, "p", got, 8), 2);
    ids[0] = ids[3] = asked[0];
    ids[1] = plain[0];
    ids[2] = asked[1];
    ids[4] = ids[6] = asked[2];
    ids[5] = plain[1];
    ids[7] = asked[2];
    struct operation_settle *settle = fixture_settle_frame(OPERATION_NACK, "q", ids, 8);
    for (unsigned i = 0; i < 8; i++)
        settle->items[i].queue = str_from_c(queues[i]);
    settle->items[6].id_valid = false;
    fixture_execute(fixture, &settle->operation);
    assert_int_equal(settle->deciding->count, 3);
    assert_int_equal(settle->deciding->decisions[1].item, 2);
    assert_int_equal(fixture_stats(fixture, "p").in_flight, 2); /* all of the frame goes together */
    settle->deciding->decisions[1].dead_letter = true;
    fixture_execute(fixture, &settle->operation);
    assert_false(settle->operation.undecided);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(settle->items[i].status, expected[i]);
    operation_free(&settle->operation);
    assert_int_equal(fixture_stats(fixture, "q").depth, 2);
    assert_int_equal(fixture_stats(fixture, "q.dlq").depth, 1);
    assert_int_equal(fixture_stats(fixture, "p").in_flight, 0);
}

static void many_are_decided_in_slices(void **state)
{
    struct fixture *fixture = *state;
    static struct delivered got[2500];
    static struct uuid ids[2500];
    unsigned trips = 0, asked = 0;
    fixture->max_unacked = 5000;
    fixture->broker->options.max_unacked = 5000;
    prepare(fixture, "q");
    fixture_enqueue(fixture, "q", "k", 1, 0, 2500, ids);
    assert_int_equal(fixture_take(fixture, "q", got, 2500), 2500);
    struct operation_settle *settle = fixture_settle_frame(OPERATION_NACK, "q", ids, 2500);
    for (;; trips++) {
        fixture_execute(fixture, &settle->operation);
        if (!settle->operation.undecided)
            break;
        asked += settle->deciding->count;
        assert_true(settle->deciding->count <= DECIDE_ITEMS);
        assert_int_equal(settle->operation.wrote, trips > 0);
        decide_all(settle, true, 0);
    }
    assert_int_equal(trips, 3);
    assert_int_equal(asked, 2500);
    assert_int_equal(atomic_load(&account), 0);
    operation_free(&settle->operation);
    assert_int_equal(fixture_stats(fixture, "q").depth, 0);
    assert_int_equal(fixture_stats(fixture, "q.dlq").depth, 2500);
}

/* A message whose only header has `size` bytes. */
static struct uuid enqueue_header(struct fixture *fixture, size_t size)
{
    struct operation_enqueue *enqueue = calloc(1, sizeof(*enqueue) + sizeof(enqueue->items[0]));
    size_t pairs = (size + 59999) / 60000, at = 2;
    uint8_t *record = calloc(1, size + pairs * 8 + 64);
    bytes_put_u16(record, (uint16_t)pairs);
    for (size_t i = 0; i < pairs; i++) {
        size_t part = size > 60000 ? 60000 : size;
        bytes_put_u16(record + at, 1);
        record[at + 2] = (uint8_t)('a' + i);
        bytes_put_u16(record + at + 3, (uint16_t)part);
        memset(record + at + 5, 'v', part);
        at += 5 + part;
        size -= part;
    }
    bytes_put_u32(record + at, 4);
    enqueue->operation.kind = OPERATION_ENQUEUE;
    enqueue->count = 1;
    enqueue->items[0] = (struct operation_enqueue_item){
        .queue = STR("q"), .record = str_of(record, at + 8), .fairness_key = STR("k"), .weight = 1};
    fixture_execute(fixture, &enqueue->operation);
    assert_int_equal(enqueue->items[0].status, FIBP_OK);
    struct uuid id = enqueue->items[0].id;
    free(record);
    free(enqueue);
    return id;
}

static void scripts_see_headers_of_any_size_but_huge_ones(void **state)
{
    struct fixture *fixture = *state;
    static const size_t sizes[] = {10, 5000, 500000, 2u << 20};
    struct uuid ids[4];
    struct str value;
    struct delivered got[8];
    fixture->window.limit = 64u << 20;
    prepare(fixture, "q");
    for (unsigned i = 0; i < 4; i++)
        ids[i] = enqueue_header(fixture, sizes[i]);
    assert_int_equal(fixture_take(fixture, "q", got, 8), 4);
    struct operation_settle *settle = fixture_settle_frame(OPERATION_NACK, "q", ids, 4);
    fixture_execute(fixture, &settle->operation);
    assert_int_equal(settle->deciding->count, 4);
    assert_true(atomic_load(&account) > 500000);
    for (unsigned i = 0; i < 3; i++) {
        const struct operation_decision *decision = &settle->deciding->decisions[i];
        assert_true(framed_headers_find(decision->headers, STR("a"), &value));
        assert_int_equal(value.size, sizes[i] > 60000 ? 60000 : sizes[i]);
        assert_int_equal(decision->header_count, (sizes[i] + 59999) / 60000);
    }
    assert_int_equal(settle->deciding->decisions[3].header_count, 0);
    decide_all(settle, true, 0);
    fixture_execute(fixture, &settle->operation);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(settle->items[i].status, FIBP_OK);
    operation_free(&settle->operation);
    assert_int_equal(atomic_load(&account), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(one_is_in_hand_until_it_is_decided),
        TEST(a_dead_letter_is_moved),
        TEST(without_its_queue_a_dead_letter_is_retried),
        TEST(a_slow_script_and_a_second_acker_have_one_outcome),
        TEST(a_worker_that_dies_lets_go),
        TEST(after_a_recovery_it_is_asked_again),
        TEST(what_cannot_be_done_is_nobodys_again),
        TEST(a_frame_of_many_kinds_keeps_its_order),
        TEST(many_are_decided_in_slices),
        TEST(scripts_see_headers_of_any_size_but_huge_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
