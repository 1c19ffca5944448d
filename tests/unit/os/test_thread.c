#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>

#include "os/thread.h"

struct report {
    int argument;
    sigset_t mask;
    char name[32];
};

static void look_around(void *argument)
{
    struct report *report = argument;
    report->argument = 1;
    pthread_sigmask(SIG_BLOCK, NULL, &report->mask);
    pthread_getname_np(pthread_self(), report->name, sizeof(report->name));
}

static void test_name_and_signals(void **state)
{
    (void)state;
    struct report report = {0};
    struct thread thread;
    struct err err;
    sigset_t before, after;
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    assert_int_equal(thread_create(&thread, "store thread of 7", look_around, &report, &err), 0);
    thread_join(&thread);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    assert_int_equal(report.argument, 1);
    assert_string_equal(report.name, "store thread of");
    static const int signals[] = {SIGTERM, SIGHUP, SIGINT, SIGUSR1, SIGCHLD, SIGPIPE};
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        assert_true(sigismember(&report.mask, signals[i]));
        assert_int_equal(sigismember(&after, signals[i]), sigismember(&before, signals[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_name_and_signals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
