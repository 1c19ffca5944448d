/* Nacks that come up undecided: asked within the time for hooks, submitted again, answered once. */
#include "harness.h"

static void said_by_test(const struct hook_set *set, const struct hook_failure *failure,
                         struct hook_decision *decision);

#define hook_set_on_failure said_by_test
#define malloc(size) NULL /* no lease is left to nobody for want of memory */
#include "worker/decider.c"
#undef malloc
#undef hook_set_on_failure

static unsigned asked;
static uint64_t takes_ms;

/* Odd attempts are dead, even ones delayed. */
static void said_by_test(const struct hook_set *set, const struct hook_failure *failure,
                         struct hook_decision *decision)
{
    uint64_t end_ms = time_monotonic_ms() + takes_ms;
    (void)set;
    asked++;
    assert_true(str_equal(failure->queue, STR("orders")));
    assert_true(str_equal(failure->error, STR("boom")));
    assert_int_equal(failure->header_count, 0);
    decision->action = failure->attempts % 2 ? HOOK_DEAD_LETTER : HOOK_RETRY;
    decision->delay_ms = 100 * failure->attempts;
    while (time_monotonic_ms() < end_ms)
        ;
}

static int setup(void **state)
{
    asked = 0;
    takes_ms = 0;
    if (harness_setup(state) != 0)
        return -1;
    harness->sessions.hooks = (const struct hook_set *)harness; /* not looked at */
    harness->answering = false;
    return 0;
}

static int teardown(void **state)
{
    harness->sessions.hooks = NULL;
    return harness_teardown(state);
}

/* A nack of `count` messages as it is when it came up: attempts 1, 2, ... */
static struct operation_settle *send_nack(uint32_t id, uint32_t count)
{
    struct buf body;
    buf_init(&body, 0);
    buf_append_u32(&body, count);
    for (uint32_t i = 0; i < count; i++) {
        wire_put_str(&body, STR("orders"));
        wire_put_str(&body, STR("01890a5d-ac96-774b-bcce-b302099a8057"));
        wire_put_str(&body, STR("boom"));
    }
    harness_request(OPCODE_NACK, id, buf_str(&body));
    buf_free(&body);
    HARNESS_UNTIL(harness->submitted_count == 1);
    struct operation_settle *nack = harness_pick(0);
    assert_int_equal(nack->operation.kind, OPERATION_NACK);
    assert_null(nack->deciding);
    nack->deciding = calloc(1, sizeof(*nack->deciding));
    nack->deciding->decisions = calloc(count, sizeof(*nack->deciding->decisions));
    nack->deciding->count = nack->deciding->to = count;
    for (uint32_t i = 0; i < count; i++)
        nack->deciding->decisions[i] = (struct operation_decision){.item = i, .attempts = i + 1};
    nack->operation.undecided = true;
    return nack;
}

static void answer(struct operation_settle *nack)
{
    nack->operation.undecided = false;
    for (uint32_t i = 0; i < nack->count; i++)
        nack->items[i].status = FIBP_OK;
    harness_complete(&nack->operation);
}

static void a_decision_goes_down_and_the_answer_comes_after(void **state)
{
    (void)state;
    harness_handshake();
    struct operation_settle *nack = send_nack(6, 2);
    harness_complete(&nack->operation);
    HARNESS_UNTIL(harness->submitted_count == 1);
    assert_ptr_equal(harness_pick(0), nack);
    assert_int_equal(asked, 2);
    assert_true(nack->deciding->decisions[0].dead_letter);
    assert_int_equal(nack->deciding->decisions[0].delay_ms, 0);
    assert_false(nack->deciding->decisions[1].dead_letter);
    assert_int_equal(nack->deciding->decisions[1].delay_ms, 200);
    harness_ping(7); /* no answer came before */
    answer(nack);
    assert_int_equal(harness_expect(OPCODE_NACK_RESULT, 6).body.size, 4 + 2);
}

static void a_turn_asks_for_20_ms_and_others_are_served_between(void **state)
{
    (void)state;
    harness_handshake();
    takes_ms = 9;
    struct operation_settle *nack = send_nack(6, 10);
    harness_complete(&nack->operation);
    unsigned before = 0, turns = 0;
    while (asked < 10) {
        harness_tick();
        assert_true(asked - before <= 3);
        turns += asked > before;
        before = asked;
        if (asked < 10)
            assert_int_equal(harness->submitted_count, 0);
    }
    assert_true(turns >= 4);
    HARNESS_UNTIL(harness->submitted_count == 1);
    assert_ptr_equal(harness_pick(0), nack);
    answer(nack);
    harness_expect(OPCODE_NACK_RESULT, 6);
}

static void a_failure_is_answered_and_nobody_is_asked(void **state)
{
    (void)state;
    harness_handshake();
    struct operation_settle *nack = send_nack(6, 1);
    nack->operation.status = FIBP_STORAGE_ERROR;
    harness_complete(&nack->operation);
    assert_int_equal(harness_expect(OPCODE_NACK_RESULT, 6).body.data[4], FIBP_STORAGE_ERROR);
    assert_int_equal(asked, 0);
}

static void a_client_that_leaves_has_said_it_all_the_same(void **state)
{
    (void)state;
    harness_handshake();
    takes_ms = 25;
    struct operation_settle *nack = send_nack(6, 3);
    harness_complete(&nack->operation);
    harness_tick();
    harness_hang_up();
    HARNESS_UNTIL(harness->submitted_count == 1);
    assert_int_equal(asked, 3);
    answer(harness_pick(0));
    HARNESS_UNTIL(list_empty(&harness->sessions.closed) && list_empty(&harness->sessions.all));
}

/* Each has its turn, and none needs memory to wait. */
static void several_wait_in_line(void **state)
{
    (void)state;
    struct operation_settle *nacks[3];
    harness_handshake();
    takes_ms = 9;
    for (uint32_t i = 0; i < 3; i++)
        nacks[i] = send_nack(i + 1, 5 - 2 * i);
    for (unsigned i = 0; i < 3; i++)
        harness_complete(&nacks[i]->operation);
    HARNESS_UNTIL(harness->submitted_count == 3);
    assert_int_equal(asked, 9);
    assert_true(list_empty(&harness->sessions.hookings));
    unsigned at[3] = {0};
    for (unsigned i = 0; i < 3; i++) {
        while (harness->submitted[at[i]] != &nacks[i]->operation)
            assert_true(++at[i] < 3);
        for (uint32_t j = 0; j < nacks[i]->count; j++)
            assert_int_equal(nacks[i]->deciding->decisions[j].dead_letter, j % 2 == 0);
    }
    assert_true(at[2] < at[0]); /* the first one needs more than one turn */
    takes_ms = 0;
    harness->submitted_count = 0;
    for (unsigned i = 0; i < 3; i++)
        answer(nacks[i]);
    for (uint32_t i = 0; i < 3; i++)
        harness_expect(OPCODE_NACK_RESULT, i + 1);
}

/* The end of a worker leaves nothing in line; the teardown looks. */
static void the_end_is_answered_without_a_decision(void **state)
{
    (void)state;
    harness_handshake();
    takes_ms = 25;
    struct operation_settle *nack = send_nack(6, 3);
    harness_complete(&nack->operation);
    harness_tick();
    assert_true(asked < 3);
    takes_ms = 0;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_decision_goes_down_and_the_answer_comes_after),
        TEST(a_turn_asks_for_20_ms_and_others_are_served_between),
        TEST(a_failure_is_answered_and_nobody_is_asked),
        TEST(a_client_that_leaves_has_said_it_all_the_same),
        TEST(several_wait_in_line),
        TEST(the_end_is_answered_without_a_decision),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
