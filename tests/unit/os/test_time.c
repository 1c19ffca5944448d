#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <time.h>

#include "os/time.h"

static void test_clocks_agree_with_libc(void **state)
{
    (void)state;
    uint64_t wall = time_wall_ns() / 1000000000u, libc = (uint64_t)time(NULL);
    assert_in_range(libc + 1, wall, wall + 61);
    assert_in_range(time_wall_ms() / 1000, wall, wall + 60);
    uint64_t ms = time_monotonic_ms();
    assert_in_range(time_monotonic_ns() / 1000000, ms, ms + 60000);
}

static void test_monotonic_does_not_go_back(void **state)
{
    (void)state;
    uint64_t last = time_monotonic_ns();
    for (int i = 0; i < 10000; i++) {
        uint64_t now = time_monotonic_ns();
        assert_true(now >= last);
        last = now;
    }
}

static void test_entropy_differs(void **state)
{
    (void)state;
    uint64_t a[2] = {0}, b[2] = {0};
    time_entropy(a);
    time_entropy(b);
    assert_true(a[0] != b[0] && a[1] != b[1] && a[0] != a[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clocks_agree_with_libc),
        cmocka_unit_test(test_monotonic_does_not_go_back),
        cmocka_unit_test(test_entropy_differs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
