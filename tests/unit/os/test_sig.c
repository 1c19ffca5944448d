#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>

#include "os/sig.h"

#include "unit/os/scratch.h"

static int read_body(void *argument)
{
    static const int signals[] = {SIGHUP, SIGUSR1, SIGTERM};
    struct err err;
    (void)argument;
    signal(SIGHUP, SIG_IGN); /* as nohup leaves it */
    int fd = sig_open(signals, 3, &err);
    if (fd < 0 || !(fcntl(fd, F_GETFD) & FD_CLOEXEC))
        return 1;
    if (sig_read(fd) != 0)
        return 2;
    raise(SIGTERM);
    raise(SIGHUP);
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    if (poll(&entry, 1, 5000) != 1)
        return 3;
    int first = sig_read(fd), second = sig_read(fd);
    if (first + second != SIGTERM + SIGHUP || first == 0 || second == 0)
        return 4;
    return sig_read(fd) == 0 ? 0 : 5;
}

static void test_signals_are_read(void **state)
{
    (void)state;
    assert_int_equal(scratch_fork(read_body, NULL), 0);
}

static int reset_body(void *argument)
{
    static const int signals[] = {SIGTERM};
    struct err err;
    (void)argument;
    sig_ignore(SIGPIPE);
    if (sig_open(signals, 1, &err) < 0)
        return 1;
    raise(SIGPIPE);
    raise(SIGTERM); /* blocked: pending until the reset lets it through */
    sig_reset();
    return 2;
}

static void test_reset_unblocks_and_restores(void **state)
{
    (void)state;
    assert_int_equal(scratch_fork(reset_body, NULL), 256 + SIGTERM);
}

static int default_body(void *argument)
{
    (void)argument;
    sig_ignore(SIGPIPE);
    sig_reset();
    raise(SIGPIPE);
    return 1;
}

static void test_reset_ends_ignoring(void **state)
{
    (void)state;
    assert_int_equal(scratch_fork(default_body, NULL), 256 + SIGPIPE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signals_are_read),
        cmocka_unit_test(test_reset_unblocks_and_restores),
        cmocka_unit_test(test_reset_ends_ignoring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
