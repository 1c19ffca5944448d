#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/futex.h"
#include "os/lock.h"
#include "os/log.h"
#include "os/shm.h"
#include "os/time.h"

struct shared {
    struct lock lock;
    _Atomic uint64_t generation;
    _Atomic uint32_t stage; /* what the other process has reached */
    uint64_t counter;       /* under the lock */
};

static int setup(void **state)
{
    struct err err;
    struct shared *shared = shm_map(sizeof(*shared), &err);
    if (!shared)
        return -1;
    lock_init(&shared->lock);
    atomic_store(&shared->generation, 1);
    *state = shared;
    return 0;
}

static int teardown(void **state)
{
    shm_unmap(*state, sizeof(struct shared));
    return 0;
}

static void stage_set(struct shared *shared, uint32_t stage)
{
    atomic_store(&shared->stage, stage);
    futex_wake(&shared->stage, 100);
}

static void stage_await(struct shared *shared, uint32_t stage)
{
    uint32_t now;
    while ((now = atomic_load(&shared->stage)) < stage)
        futex_wait(&shared->stage, now, 1000);
}

/* A child that takes the lock and then does nothing until it is killed. */
static pid_t fork_owner(struct shared *shared)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (lock_acquire(&shared->lock, &shared->generation, 1) != LOCK_HELD)
            _exit(1);
        stage_set(shared, 1);
        for (;;)
            pause();
    }
    stage_await(shared, 1);
    return pid;
}

/* A child that waits for the lock and exits with what it got, plus 10. */
static pid_t fork_waiter(struct shared *shared)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(10 + (int)lock_acquire(&shared->lock, &shared->generation, 1));
    return pid;
}

static int reap(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void test_processes_exclude_each_other(void **state)
{
    struct shared *shared = *state;
    enum { CHILDREN = 3, ROUNDS = 20000 };
    pid_t pids[CHILDREN];
    for (int i = 0; i < CHILDREN; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            for (int k = 0; k < ROUNDS; k++) {
                if (lock_acquire(&shared->lock, &shared->generation, 1) != LOCK_HELD)
                    _exit(1);
                *(volatile uint64_t *)&shared->counter += 1;
                lock_release(&shared->lock);
            }
            _exit(0);
        }
    }
    for (int i = 0; i < CHILDREN; i++)
        assert_int_equal(reap(pids[i]), 0);
    assert_int_equal(shared->counter, CHILDREN * ROUNDS);
}

static void test_killed_owner_leaves_it_dirty_for_all(void **state)
{
    struct shared *shared = *state;
    pid_t owner = fork_owner(shared), waiters[3];
    for (int i = 0; i < 3; i++)
        waiters[i] = fork_waiter(shared);
    assert_int_equal(kill(owner, SIGKILL), 0);
    assert_int_equal(reap(owner), -SIGKILL);
    for (int i = 0; i < 3; i++)
        assert_int_equal(reap(waiters[i]), 10 + LOCK_DIRTY);
    /* Finding it so must not leave it locked by the finder, alive or not. */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(lock_acquire(&shared->lock, &shared->generation, 1), LOCK_DIRTY);
        assert_int_equal(reap(fork_waiter(shared)), 10 + LOCK_DIRTY);
    }

    lock_init(&shared->lock); /* what a rebuild does */
    assert_int_equal(lock_acquire(&shared->lock, &shared->generation, 1), LOCK_HELD);
    lock_release(&shared->lock);
}

static void test_killed_owner_and_nobody_waiting(void **state)
{
    struct shared *shared = *state;
    pid_t owner = fork_owner(shared);
    assert_int_equal(kill(owner, SIGKILL), 0);
    assert_int_equal(reap(owner), -SIGKILL);
    assert_int_equal(lock_acquire(&shared->lock, &shared->generation, 1), LOCK_DIRTY);
    assert_int_equal(lock_acquire(&shared->lock, &shared->generation, 1), LOCK_DIRTY);
}

static void test_killed_outside_leaves_it_clean(void **state)
{
    struct shared *shared = *state;
    pid_t pid = fork();
    if (pid == 0) {
        if (lock_acquire(&shared->lock, &shared->generation, 1) != LOCK_HELD)
            _exit(1);
        lock_release(&shared->lock);
        stage_set(shared, 1);
        for (;;)
            pause();
    }
    stage_await(shared, 1);
    kill(pid, SIGKILL);
    assert_int_equal(reap(pid), -SIGKILL);
    assert_int_equal(lock_acquire(&shared->lock, &shared->generation, 1), LOCK_HELD);
    lock_release(&shared->lock);
}

static void test_new_generation_ends_waiting(void **state)
{
    struct shared *shared = *state;
    pid_t owner = fork_owner(shared);
    pid_t waiter = fork_waiter(shared);
    atomic_store(&shared->generation, 2);
    assert_int_equal(reap(waiter), 10 + LOCK_STALE);
    kill(owner, SIGKILL);
    assert_int_equal(reap(owner), -SIGKILL);
}

static void test_old_generation_is_refused_when_free(void **state)
{
    struct shared *shared = *state;
    atomic_store(&shared->generation, 2);
    assert_int_equal(lock_acquire(&shared->lock, &shared->generation, 1), LOCK_STALE);
    assert_int_equal(lock_acquire(&shared->lock, &shared->generation, 2), LOCK_HELD);
    lock_release(&shared->lock);
}

/* A stopped owner is waited for, however many steps that takes, and nothing is lost by it. */
static void test_waits_for_a_stopped_owner(void **state)
{
    struct shared *shared = *state;
    pid_t owner = fork();
    if (owner == 0) {
        if (lock_acquire(&shared->lock, &shared->generation, 1) != LOCK_HELD)
            _exit(1);
        stage_set(shared, 1);
        raise(SIGSTOP);
        lock_release(&shared->lock);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(owner, &status, WUNTRACED), owner);
    assert_true(WIFSTOPPED(status));
    uint64_t start = time_monotonic_ms();
    pid_t waiter = fork_waiter(shared);
    do {
        assert_int_equal(waitpid(waiter, &status, WNOHANG), 0);
    } while (time_monotonic_ms() < start + 150); /* three steps of waiting */
    kill(owner, SIGCONT);
    assert_int_equal(reap(owner), 0);
    assert_int_equal(reap(waiter), 10 + LOCK_HELD);
}

/* Mistakes of ours end the process instead of hanging it. */
static void test_misuse_aborts(void **state)
{
    struct shared *shared = *state;
    struct err err;
    assert_int_equal(log_open("/dev/null", LOG_ERROR, &err), 0);
    for (int twice = 0; twice < 2; twice++) {
        pid_t pid = fork();
        if (pid == 0) {
            if (twice && lock_acquire(&shared->lock, &shared->generation, 1) == LOCK_HELD &&
                lock_acquire(&shared->lock, &shared->generation, 1) == LOCK_HELD)
                _exit(0);
            lock_release(&shared->lock);
            _exit(0);
        }
        assert_int_equal(reap(pid), -SIGABRT);
    }
    assert_int_equal(log_open("stderr", LOG_INFO, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_processes_exclude_each_other, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed_owner_leaves_it_dirty_for_all, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed_owner_and_nobody_waiting, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed_outside_leaves_it_clean, setup, teardown),
        cmocka_unit_test_setup_teardown(test_new_generation_ends_waiting, setup, teardown),
        cmocka_unit_test_setup_teardown(test_old_generation_is_refused_when_free, setup, teardown),
        cmocka_unit_test_setup_teardown(test_waits_for_a_stopped_owner, setup, teardown),
        cmocka_unit_test_setup_teardown(test_misuse_aborts, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
