/* Workers that shed their store threads, as the master sees them. */
#include "pretended.h"

/* Kills the keeper and waits until both workers have gone on as other processes. */
static void shed_both(void)
{
    int before[2] = {worker(0), worker(1)};

    atomic_store(&stage->shedding, true);
    kill(atomic_load(&stage->keeper_pid), SIGKILL);
    WAIT_FOR(atomic_load(&stage->left_pid[0]) == before[0] &&
             atomic_load(&stage->left_pid[1]) == before[1]);
    WAIT_FOR(atomic_load(&stage->worker_pid[0]) != before[0] &&
             atomic_load(&stage->worker_pid[1]) != before[1]);
}

static void test_worker_that_sheds_goes_on(void **state)
{
    int first;

    (void)state;
    start();
    atomic_store(&stage->inside_pid, worker(0));
    poll(NULL, 0, 20);
    for (unsigned round = 2; round < 5; round++) {
        first = worker(0);
        atomic_store(&stage->shedding, true);
        kill(atomic_load(&stage->keeper_pid), SIGKILL);
        WAIT_FOR(atomic_load(&stage->keepers) == round);
        WAIT_FOR(attached() == 2);
        assert_int_not_equal(worker(0), first);
    }
    assert_int_equal(atomic_load(&stage->workers), 2); /* none was forked by the master */
    first = worker(0);
    kill(first, SIGKILL);
    WAIT_FOR(atomic_load(&stage->workers) == 3 && attached() == 2);
    stop();
    assert_int_equal(atomic_load(&stage->stopped), 2);
}

/* What a worker left is waited for and killed; the worker itself is not. */
static void test_what_was_left_is_killed_alone(void **state)
{
    int now[2];

    (void)state;
    start();
    atomic_store(&stage->left_stays, true);
    shed_both();
    now[0] = atomic_load(&stage->worker_pid[0]);
    now[1] = atomic_load(&stage->worker_pid[1]);
    assert_int_equal(atomic_load(&stage->keepers), 1);
    WAIT_FOR(atomic_load(&stage->keepers) == 2);
    WAIT_FOR(attached() == 2);
    assert_int_equal(worker(0), now[0]);
    assert_int_equal(worker(1), now[1]);
    assert_int_equal(atomic_load(&stage->workers), 2);
    stop();
}

/* One that dies before what it left keeps its place until that is gone. */
static void test_worker_that_sheds_and_dies(void **state)
{
    (void)state;
    start();
    atomic_store(&stage->left_stays, true);
    shed_both();
    kill(atomic_load(&stage->worker_pid[0]), SIGKILL);
    WAIT_FOR(atomic_load(&stage->keepers) == 2);
    WAIT_FOR(attached() == 2);
    assert_int_equal(atomic_load(&stage->workers), 3);
    stop();
}

static void test_stop_while_workers_shed(void **state)
{
    (void)state;
    start();
    atomic_store(&stage->left_stays, true);
    shed_both();
    stop();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_worker_that_sheds_goes_on),
        TEST(test_what_was_left_is_killed_alone),
        TEST(test_worker_that_sheds_and_dies),
        TEST(test_stop_while_workers_shed),
    };

    note_inherited();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
