/* When hooks run: with the latest settings only, and not for long in one turn of the loop. */
#include "unit/worker/harness.h"

#include "broker/settings.h"
#include "worker/settings.h"

#define HOOK_MS 6u

static struct zone *zone;
static struct hook_set *hooks;
static unsigned hooked;     /* messages that were shown to the module */
static uint64_t version;    /* of the settings it saw with the last one; 0: none */
static unsigned turn_count; /* turns in which hooks ran */
static unsigned in_turn, most_in_turn;

static void take_time(void *state, const struct hook_message *message, struct hook_memory *memory,
                      struct hook_verdict *verdict)
{
    uint64_t until_ns = time_monotonic_ns() + HOOK_MS * 1000000;
    (void)state;
    (void)memory;
    (void)verdict;
    version = message->settings ? message->settings->version : 0;
    hooked++;
    in_turn++;
    while (message->settings && time_monotonic_ns() < until_ns) {
    }
}

static const struct hook_signature signature = HOOK_SIGNATURE;
static const struct hook_module module = {
    .signature = &signature, .name = "slow", .on_enqueue = take_time};

static void count_turn(struct loop_hook *hook)
{
    (void)hook;
    turn_count += in_turn > 0;
    most_in_turn = in_turn > most_in_turn ? in_turn : most_in_turn;
    in_turn = 0;
}

static struct loop_hook counter = {.run = count_turn};

/* A queue "slow" whose scripts have this version. */
static void tell(uint64_t generation, uint64_t number)
{
    struct operation_settings *settings = calloc(1, sizeof(*settings));
    struct setting *setting = calloc(1, sizeof(*setting));
    setting->kind = CHANGE_QUEUE;
    setting->name = STR("slow");
    setting->queue = (struct hook_queue){.id = 1, .version = number, .name = setting->name};
    settings->operation.kind = OPERATION_SETTINGS;
    settings->first = setting;
    settings->generation = generation;
    harness_complete(&settings->operation);
}

static int setup(void **state)
{
    static const struct hook_module *const modules[] = {&module, NULL};
    struct hook_services services = {.context = NULL};
    struct err err;
    int status = harness_setup(state);
    hooked = turn_count = in_turn = most_in_turn = 0;
    zone = zone_map(8u << 20, &err);
    harness->sessions.settings = settings_create(zone, &err);
    hooks = hook_set_create(modules, &harness->conf, &services, &err);
    assert_non_null(hooks);
    harness->sessions.hooks = hooks;
    loop_hook_add(harness->loop, &counter);
    harness_handshake();
    harness->answering = false;
    return status;
}

static int teardown(void **state)
{
    struct settings *settings = harness->sessions.settings;
    loop_hook_remove(harness->loop, &counter);
    int status = harness_teardown(state);
    hook_set_destroy(hooks);
    settings_destroy(settings);
    zone_unmap(zone);
    return status;
}

static void enqueue(uint32_t id, struct str queue, uint32_t count)
{
    struct buf buf;
    buf_init(&buf, 0);
    size_t start = frame_begin(&buf, OPCODE_ENQUEUE, id);
    buf_append_u32(&buf, count);
    for (uint32_t i = 0; i < count; i++) {
        wire_put_str(&buf, queue);
        buf_append_u16(&buf, 0);
        wire_put_bytes(&buf, STR("payload"));
    }
    assert_int_equal(frame_end(&buf, start, FRAME_LENGTH_MAX), 0);
    harness_send(buf_str(&buf));
    buf_free(&buf);
}

static void wait_for_line(void)
{
    HARNESS_UNTIL(!list_empty(&harness->sessions.hookings));
}

static void no_hook_runs_with_old_settings(void **state)
{
    (void)state;
    enqueue(1, STR("slow"), 2);
    wait_for_line(); /* nothing is known yet */
    for (unsigned i = 0; i < 5; i++)
        harness_tick();
    assert_int_equal(hooked, 0);
    assert_int_equal(harness->submitted_count, 0);
    tell(1, 7);
    HARNESS_UNTIL(harness->submitted_count == 1);
    assert_true(hooked == 2 && version == 7);
    atomic_store(&zone->settings_generation, 2);
    enqueue(2, STR("slow"), 1);
    wait_for_line();
    assert_int_equal(hooked, 2);
    tell(2, 8);
    HARNESS_UNTIL(harness->submitted_count == 2);
    assert_true(hooked == 3 && version == 8);
    harness_answer_all();
    harness_expect(OPCODE_ENQUEUE_RESULT, 1);
    harness_expect(OPCODE_ENQUEUE_RESULT, 2);
    harness_ping(3);
}

static void a_long_request_takes_several_turns(void **state)
{
    (void)state;
    tell(1, 1);
    enqueue(1, STR("slow"), 20);
    HARNESS_UNTIL(harness->submitted_count == 1);
    assert_int_equal(hooked, 20);
    /* 20 ms and the one that was under way; on a loaded machine fewer fit in. */
    assert_true(most_in_turn <= 4);
    assert_true(turn_count >= 5);
    struct operation_enqueue *frame = harness_pick(0);
    assert_int_equal(frame->count, 20);
    assert_true(str_equal(frame->items[19].queue, STR("slow")));
    harness_execute(&frame->operation);
    harness_complete(&frame->operation);
    harness_expect(OPCODE_ENQUEUE_RESULT, 1);
}

/* Requests behind it wait, in order; queues without scripts cost nothing. */
static void order_is_kept(void **state)
{
    (void)state;
    tell(1, 1);
    enqueue(1, STR("slow"), 8);
    enqueue(2, STR("quick"), 1000);
    harness_request_str(OPCODE_GET_STATS, 3, STR("slow"));
    HARNESS_UNTIL(harness->submitted_count == 3);
    assert_int_equal(hooked, 1008);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(harness->submitted[i]->request_id, i + 1);
    assert_int_equal(version, 0);
}

static void the_peer_may_go_meanwhile(void **state)
{
    (void)state;
    enqueue(1, STR("slow"), 3);
    wait_for_line();
    assert_int_equal(harness->sessions.outstanding, 1);
    session_close(harness_session(), "the test wants it");
    assert_true(list_empty(&harness->sessions.hookings));
    tell(1, 1);
    for (unsigned i = 0; i < 3; i++)
        harness_tick();
    assert_int_equal(harness->submitted_count, 0);
    assert_int_equal(hooked, 0);
}

static void a_drain_waits_for_it(void **state)
{
    (void)state;
    enqueue(1, STR("slow"), 3);
    wait_for_line();
    sessions_drain(&harness->sessions);
    for (unsigned i = 0; i < 3; i++)
        harness_tick();
    tell(1, 1);
    HARNESS_UNTIL(harness->submitted_count == 1);
    harness_answer_all();
    harness_expect(OPCODE_ENQUEUE_RESULT, 1);
    harness_expect(OPCODE_DISCONNECT, 0);
    harness_expect_close();
}

/* The store does not come back: the pipeline refuses what it gets then. */
static void the_end_comes_without_settings(void **state)
{
    (void)state;
    enqueue(1, STR("slow"), 3);
    wait_for_line();
    struct settings *settings = harness->sessions.settings;
    sessions_give_up_settings(&harness->sessions);
    HARNESS_UNTIL(harness->submitted_count == 1);
    assert_int_equal(version, 0);
    harness_answer_all();
    harness_expect(OPCODE_ENQUEUE_RESULT, 1);
    harness->sessions.settings = settings; /* for the teardown */
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(no_hook_runs_with_old_settings),
        TEST(a_long_request_takes_several_turns),
        TEST(order_is_kept),
        TEST(the_peer_may_go_meanwhile),
        TEST(a_drain_waits_for_it),
        TEST(the_end_comes_without_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
