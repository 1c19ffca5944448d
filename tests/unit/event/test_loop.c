/* Unit tests of src/event/loop.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "event/loop.h"
#include "os/time.h"

#define WATCHES 8

struct fixture {
    struct loop *loop;
    struct loop_watch watches[WATCHES];
    int ready_count;
    uint32_t last_events;
    char order[64];
    struct loop_timer timers[4];
    struct loop_hook hooks[3];
};

static struct fixture *fixture;

static int setup(void **state)
{
    static struct fixture memory;
    struct err err;

    memset(&memory, 0, sizeof memory);
    fixture = &memory;
    fixture->loop = loop_create(&err);
    for (int i = 0; i < WATCHES; i++)
        fixture->watches[i].fd = -1;
    *state = fixture;
    return fixture->loop ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < WATCHES; i++)
        if (fixture->watches[i].fd >= 0)
            close(fixture->watches[i].fd);
    loop_destroy(fixture->loop);
    return 0;
}

static void note(char mark)
{
    size_t size = strlen(fixture->order);

    assert_true(size + 1 < sizeof fixture->order);
    fixture->order[size] = mark;
}

static void run(void)
{
    struct err err;

    assert_int_equal(loop_run(fixture->loop, &err), 0);
}

static void stop_expired(struct loop_timer *timer)
{
    (void)timer;
    loop_stop(fixture->loop);
}

/* Bounds a test that waits for something that must not come. */
static void stop_after(uint64_t delay_ms)
{
    fixture->timers[3].expired = stop_expired;
    loop_timer_set(fixture->loop, &fixture->timers[3], delay_ms);
}

static void watch_event(int i, void (*ready)(struct loop_watch *, uint32_t), unsigned value)
{
    struct loop_watch *watch = &fixture->watches[i];
    struct err err;

    watch->fd = eventfd(value, EFD_NONBLOCK | EFD_CLOEXEC);
    assert_true(watch->fd >= 0);
    watch->ready = ready;
    assert_int_equal(loop_watch(fixture->loop, watch, EPOLLIN, &err), 0);
}

static void unwatch_all_ready(struct loop_watch *watch, uint32_t events)
{
    (void)watch;
    (void)events;
    fixture->ready_count++;
    for (int i = 0; i < WATCHES; i++)
        loop_unwatch(fixture->loop, &fixture->watches[i]);
}

static void test_fetched_event_of_unwatched_is_dropped(void **state)
{
    (void)state;
    for (int i = 0; i < WATCHES; i++)
        watch_event(i, unwatch_all_ready, 1);
    stop_after(20);
    run();
    assert_int_equal(fixture->ready_count, 1);
    for (int i = 0; i < WATCHES; i++)
        assert_int_equal(fixture->watches[i].events, 0);
}

static void narrow_ready(struct loop_watch *watch, uint32_t events)
{
    struct err err;

    fixture->ready_count++;
    fixture->last_events |= events;
    /* Whoever comes first asks everyone, itself included, for nothing that is there. */
    for (int i = 0; i < 2; i++)
        assert_int_equal(loop_watch(fixture->loop, &fixture->watches[i], EPOLLPRI, &err), 0);
    (void)watch;
}

static void test_event_no_longer_asked_for_is_not_delivered(void **state)
{
    (void)state;
    watch_event(0, narrow_ready, 1);
    watch_event(1, narrow_ready, 1);
    stop_after(20);
    run();
    assert_int_equal(fixture->ready_count, 1);
    assert_int_equal(fixture->last_events, EPOLLIN);
}

static void stop_ready(struct loop_watch *watch, uint32_t events)
{
    (void)watch;
    (void)events;
    fixture->ready_count++;
    loop_stop(fixture->loop);
}

static void test_stop_ends_the_tick_and_the_loop_runs_again(void **state)
{
    (void)state;
    watch_event(0, stop_ready, 1);
    watch_event(1, stop_ready, 1);
    run();
    assert_int_equal(fixture->ready_count, 1);
    loop_unwatch(fixture->loop, &fixture->watches[0]);
    run();
    assert_int_equal(fixture->ready_count, 2);
}

static void test_exclusive_watch_can_change(void **state)
{
    struct err err;

    (void)state;
    watch_event(0, stop_ready, 0);
    assert_int_equal(
        loop_watch(fixture->loop, &fixture->watches[0], EPOLLIN | (uint32_t)EPOLLEXCLUSIVE, &err),
        0);
    assert_int_equal(loop_watch(fixture->loop, &fixture->watches[0], EPOLLIN, &err), 0);
    assert_int_equal(eventfd_write(fixture->watches[0].fd, 1), 0);
    run();
    assert_int_equal(fixture->ready_count, 1);
}

static void test_watch_of_bad_descriptor_fails(void **state)
{
    struct loop_watch watch = {.fd = 1000000};
    struct err err;

    (void)state;
    assert_int_equal(loop_watch(fixture->loop, &watch, EPOLLIN, &err), -1);
    assert_int_equal(watch.events, 0);
    assert_non_null(strstr(err.text, "Bad file descriptor"));
}

static void timer_0(struct loop_timer *timer)
{
    (void)timer;
    note('0');
    loop_timer_cancel(fixture->loop, &fixture->timers[1]);
    if (strlen(fixture->order) < 3)
        loop_timer_set(fixture->loop, &fixture->timers[0], 0);
    else
        loop_timer_set(fixture->loop, &fixture->timers[2], 30);
}

static void timer_1(struct loop_timer *timer)
{
    (void)timer;
    note('1');
}

static void timer_2(struct loop_timer *timer)
{
    (void)timer;
    note('2');
    loop_stop(fixture->loop);
}

static void test_timers_expire_in_order_and_not_early(void **state)
{
    uint64_t started = time_monotonic_ms();

    (void)state;
    fixture->timers[0].expired = timer_0;
    fixture->timers[1].expired = timer_1;
    fixture->timers[2].expired = timer_2;
    loop_timer_set(fixture->loop, &fixture->timers[1], 10);
    loop_timer_set(fixture->loop, &fixture->timers[0], 5);
    run();
    assert_string_equal(fixture->order, "0002");
    assert_true(time_monotonic_ms() - started >= 30);
}

static void test_far_timer_does_not_overflow(void **state)
{
    (void)state;
    fixture->timers[0].expired = timer_0;
    loop_timer_set(fixture->loop, &fixture->timers[0], UINT64_MAX);
    stop_after(5);
    run();
    assert_string_equal(fixture->order, "");
}

static void hook_0(struct loop_hook *hook)
{
    note('a');
    loop_hook_remove(fixture->loop, &fixture->hooks[1]);
    loop_hook_remove(fixture->loop, hook);
}

static void hook_1(struct loop_hook *hook)
{
    (void)hook;
    note('b');
}

static void hook_2(struct loop_hook *hook)
{
    (void)hook;
    note('c');
    loop_stop(fixture->loop);
}

static void test_hooks_may_remove_themselves_and_the_next(void **state)
{
    void (*const run_of[])(struct loop_hook *) = {hook_0, hook_1, hook_2};

    (void)state;
    for (int i = 0; i < 3; i++) {
        fixture->hooks[i].run = run_of[i];
        loop_hook_add(fixture->loop, &fixture->hooks[i]);
    }
    stop_after(5);
    run();
    assert_string_equal(fixture->order, "ac");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_fetched_event_of_unwatched_is_dropped, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_event_no_longer_asked_for_is_not_delivered, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_stop_ends_the_tick_and_the_loop_runs_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_exclusive_watch_can_change, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watch_of_bad_descriptor_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timers_expire_in_order_and_not_early, setup, teardown),
        cmocka_unit_test_setup_teardown(test_far_timer_does_not_overflow, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hooks_may_remove_themselves_and_the_next, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
