#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/wait.h>
#include <unistd.h>

#include "os/futex.h"
#include "os/shm.h"
#include "os/time.h"

static void test_other_value_does_not_sleep(void **state)
{
    (void)state;
    _Atomic uint32_t word = 1;
    futex_wait(&word, 2, UINT64_MAX);
}

static void test_timeout(void **state)
{
    (void)state;
    _Atomic uint32_t word = 1;
    uint64_t start = time_monotonic_ms();
    while (time_monotonic_ms() < start + 20)
        futex_wait(&word, 1, start + 20 - time_monotonic_ms());
    assert_true(time_monotonic_ms() >= start + 20);
    futex_wait(&word, 1, 0);
}

static void test_until_a_time(void **state)
{
    (void)state;
    _Atomic uint32_t word = 1;
    uint64_t until = time_monotonic_ns() + 5000000;
    while (time_monotonic_ns() < until)
        futex_wait_until(&word, 1, until);
    futex_wait_until(&word, 1, 0);
    futex_wait_until(&word, 1, time_monotonic_ns() - 1);
    futex_wait_until(&word, 2, UINT64_MAX);
}

/* Two processes pass a turn to and fro, each asleep until the other wakes it. */
static void test_across_processes(void **state)
{
    (void)state;
    enum { TURNS = 1000 };
    struct err err;
    _Atomic uint32_t *word = shm_map(sizeof(*word), &err);
    assert_non_null(word);
    pid_t pid = fork();
    uint32_t mine = pid == 0 ? 1 : 0;
    for (uint32_t turn = mine; turn < TURNS; turn += 2) {
        uint32_t now;
        while ((now = atomic_load(word)) != turn)
            futex_wait(word, now, UINT64_MAX);
        atomic_store(word, turn + 1);
        futex_wake(word, 1);
    }
    if (pid == 0)
        _exit(7);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 7);
    assert_int_equal(atomic_load(word), TURNS);
    shm_unmap((void *)word, sizeof(*word));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_other_value_does_not_sleep),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_until_a_time),
        cmocka_unit_test(test_across_processes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
