/* Messages stored apart: a death after each commit. */
#define env_commit(txn, how) env_commit_proper(txn, how)
#include "store/env.c"
#undef env_commit

#include "unit/broker/apart.h"

#include <sys/wait.h>

/* --- a death at a chosen commit --- */

static unsigned commits_left; /* 0: no death */

int env_commit(DB_TXN *txn, enum env_commit how);

/* In a process that is going to die each commit survives it: the harder case. */
int env_commit(DB_TXN *txn, enum env_commit how)
{
    if (!commits_left)
        return env_commit_proper(txn, how);
    int result = env_commit_proper(txn, ENV_COMMIT_KERNEL);
    if (--commits_left == 0)
        kill(getpid(), SIGKILL);
    return result;
}

/* --- deaths --- */

#define DEATHS_MAX 200
#define DYING (3 * MIB + 5)

/* Closing an environment may hang on what the dead held: it stays open to the end, and here is
 * where the leak checker finds it. */
static struct fixture kept[DEATHS_MAX] __attribute__((used));
static unsigned deaths;

struct scenario {
    const char *name;
    void (*before)(struct fixture *fixture, const char *queue); /* in the parent */
    void (*run)(struct fixture *fixture, const char *queue);    /* in the process that dies */
    unsigned least, most; /* messages in the queue and its dead-letter queue afterwards */
};

static void open_in_child(struct fixture *fixture)
{
    struct err err = {0};
    struct env_options options = {
        .path = fixture->path, .regions = fixture->regions, .cache_size = 16u << 20};
    fixture->emitted_count = 0;
    fixture->window.limit = UINT64_MAX;
    fixture->env = env_open(&options, &err);
    if (!fixture->env)
        _exit(2);
    fixture_open_broker(fixture, 1);
}

/* True when the process came to its end before its `number`th commit. */
static bool run_and_die(struct fixture *fixture, const struct scenario *scenario, const char *queue,
                        unsigned number)
{
    int status = 0;
    zone_slot_prepare(fixture->zone, 1);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        open_in_child(fixture);
        commits_left = number;
        scenario->run(fixture, queue);
        _exit(env_flush(fixture->env) == 0 ? 0 : 6);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    zone_slot_release(fixture->zone, 1);
    assert_true((WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
                (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
    return WIFEXITED(status);
}

static void recover(struct fixture *fixture)
{
    assert_true(deaths < DEATHS_MAX);
    kept[deaths++] = *fixture;
    zone_shut(fixture->zone);
    fixture_open(fixture);
}

static void check_after_death(struct fixture *fixture, const struct scenario *scenario,
                              const char *queue)
{
    char dead[32];
    snprintf(dead, sizeof(dead), "%s.dlq", queue);
    struct large_stored before = large_look(fixture, queue), there = large_look(fixture, dead);
    unsigned messages = before.messages + there.messages;
    if (messages < scenario->least || messages > scenario->most)
        fail_msg("%s: %u messages are left", scenario->name, messages);
    if (before.orphans && !before.markers)
        fail_msg("%s: chunks without message and marker", scenario->name);
    (void)keeping_sweep_once(fixture);
    large_assert_clean(fixture, queue);
    large_assert_clean(fixture, dead);
    assert_int_equal(large_look(fixture, queue).messages, before.messages);
    assert_int_equal(large_look(fixture, dead).messages, there.messages);
}

static void die_after_every_commit(struct fixture *fixture, const struct scenario *scenario)
{
    unsigned number = 1;
    char queue[24];
    for (bool ended = false; !ended; number++) {
        snprintf(queue, sizeof(queue), "%s-%u", scenario->name, number);
        fixture_create(fixture, queue);
        if (scenario->before)
            scenario->before(fixture, queue);
        assert_int_equal(env_flush(fixture->env), 0);
        ended = run_and_die(fixture, scenario, queue, number);
        recover(fixture);
        check_after_death(fixture, scenario, queue);
    }
    print_message("%s: %u commits\n", scenario->name, number - 2);
    assert_true(number > 4);
}

static void enqueue_one(struct fixture *fixture, const char *queue)
{
    if (large_enqueue(fixture, queue, 1, DYING) != FIBP_OK)
        _exit(3);
}

static void lease_all(struct fixture *fixture, const char *queue, struct subscription *subscription,
                      struct delivered *got, unsigned count)
{
    large_subscribe(fixture, queue, subscription);
    fixture_deliver(fixture);
    if (fixture_delivered(fixture, got, count) != count)
        _exit(4);
}

static void ack_one(struct fixture *fixture, const char *queue)
{
    struct subscription subscription;
    struct delivered got[1];
    lease_all(fixture, queue, &subscription, got, 1);
    if (fixture_settle(fixture, OPERATION_ACK, queue, &got[0].id) != FIBP_OK)
        _exit(5);
}

static void dead_letter_one(struct fixture *fixture, const char *queue)
{
    struct subscription subscription;
    struct delivered got[1];
    lease_all(fixture, queue, &subscription, got, 1);
    if (move_dead_letter(fixture, queue, &got[0].id) != FIBP_OK)
        _exit(5);
}

static void three_dead_letters(struct fixture *fixture, const char *queue)
{
    char dead[32];
    snprintf(dead, sizeof(dead), "%s.dlq", queue);
    assert_int_equal(large_enqueue(fixture, dead, 1, 50), FIBP_OK);
    assert_int_equal(large_enqueue(fixture, dead, 2, DYING), FIBP_OK);
    assert_int_equal(large_enqueue(fixture, dead, 3, 20000), FIBP_OK);
}

static void redrive_all(struct fixture *fixture, const char *queue)
{
    if (move_redrive(fixture, queue) != 3)
        _exit(5);
}

/* Somebody died in the middle of an enqueue; the keeper that removes what he left dies as well. */
static void leave_orphans(struct fixture *fixture, const char *queue)
{
    static const struct scenario enqueue = {.name = "leave", .run = enqueue_one};
    assert_false(run_and_die(fixture, &enqueue, queue, 3));
    recover(fixture);
    assert_true(large_look(fixture, queue).orphans > 30);
}

static void sweep_all(struct fixture *fixture, const char *queue)
{
    (void)queue;
    (void)keeping_sweep_once(fixture);
}

static void a_death_at_any_commit_leaves_all_or_nothing(void **state)
{
    static const struct scenario scenarios[] = {
        {"enqueue", NULL, enqueue_one, 0, 1},
        {"ack", enqueue_one, ack_one, 0, 1},
        {"dead", enqueue_one, dead_letter_one, 1, 1},
        {"redrive", three_dead_letters, redrive_all, 3, 3},
        {"sweep", leave_orphans, sweep_all, 0, 0},
    };
    struct fixture *fixture = *state;
    for (unsigned i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++)
        die_after_every_commit(fixture, &scenarios[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_death_at_any_commit_leaves_all_or_nothing, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
