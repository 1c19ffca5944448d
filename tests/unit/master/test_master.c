/* The master with processes that only pretend. The real daemon is tested in tests/process. */
#include "pretended.h"

/* --- start and stop --- */

static void test_starts_and_stops_and_leaves_nothing(void **state)
{
    (void)state;
    start();
    assert_true(exists("filad.pid") && exists("control.sock") && exists("listen.sock"));
    stop();
    assert_int_equal(atomic_load(&stage->stopped), 2);
    assert_true(atomic_load(&stage->keeper_stopped));
    assert_false(exists("filad.pid") || exists("control.sock") || exists("listen.sock"));
}

static void test_pages_go_with_a_clean_stop(void **state)
{
    (void)state;
    make_regions();
    start();
    stop();
    assert_true(exists("regions"));
    assert_false(exists("regions/pages") || exists("regions/__db.001"));
}

static void test_api_key_is_refused(void **state)
{
    (void)state;
    assert_int_equal(setenv("FILA_BOOTSTRAP_APIKEY", "secret", 1), 0);
    launch();
    assert_int_equal(unsetenv("FILA_BOOTSTRAP_APIKEY"), 0);
    assert_int_equal(wait_master(), 1);
    assert_true(file_has(play.output, "filad: FILA_BOOTSTRAP_APIKEY is set in the environment"));
    assert_false(file_has(play.output, "secret") || exists("filad.pid"));
}

static void stop_by(enum options_signal signal, const char *name)
{
    pid_t teller;
    int status;

    start();
    fflush(NULL);
    teller = fork();
    if (teller == 0)
        _exit(tell(signal, name));
    assert_int_equal(wait_master(), 0);
    assert_int_equal(waitpid(teller, &status, 0), teller);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(atomic_load(&stage->keeper_stopped));
}

static void test_told_to_stop(void **state)
{
    (void)state;
    stop_by(OPTIONS_SIGNAL_STOP, "stop");
    assert_int_equal(atomic_load(&stage->stopped), 2);
}

static void test_told_to_quit(void **state)
{
    (void)state;
    stop_by(OPTIONS_SIGNAL_QUIT, "quit");
    assert_int_equal(atomic_load(&stage->drained), 2);
}

static void test_told_to_stop_without_control_socket(void **state)
{
    char path[128];
    pid_t teller;
    int status;

    (void)state;
    start();
    snprintf(path, sizeof path, "%s/control.sock", play.directory);
    assert_int_equal(unlink(path), 0);
    fflush(NULL);
    teller = fork();
    if (teller == 0)
        _exit(tell(OPTIONS_SIGNAL_STOP, "stop"));
    assert_int_equal(wait_master(), 0);
    assert_int_equal(waitpid(teller, &status, 0), teller);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_nobody_to_tell(void **state)
{
    (void)state;
    assert_int_equal(tell(OPTIONS_SIGNAL_STOP, "stop"), 1);
    assert_true(file_has(play.output, "no broker is running"));
    /* A file left behind by a dead master names a pid that may be anyone's. */
    start();
    kill(play.master, SIGKILL);
    assert_int_equal(wait_master(), -SIGKILL);
    assert_true(exists("filad.pid"));
    assert_int_equal(tell(OPTIONS_SIGNAL_RELOAD, "reload"), 1);
    WAIT_FOR(attached() == 0);
}

static void test_dead_master_is_followed_by_another(void **state)
{
    (void)state;
    start();
    kill(play.master, SIGKILL);
    assert_int_equal(wait_master(), -SIGKILL);
    launch();
    WAIT_FOR(atomic_load(&stage->keepers) == 2);
    WAIT_FOR(attached() == 2);
    assert_int_equal(tell(OPTIONS_SIGNAL_REOPEN, "reopen"), 0);
    stop();
}

static void test_second_broker_on_a_pid_file_is_refused(void **state)
{
    pid_t first;

    (void)state;
    start();
    first = play.master;
    launch();
    assert_int_equal(wait_master(), 1);
    assert_true(file_has(play.output, "is held by process"));
    play.master = first;
    assert_true(exists("filad.pid"));
    stop();
}

static void test_keeper_that_cannot_start(void **state)
{
    (void)state;
    atomic_store(&stage->keeper_fails, true);
    launch();
    assert_int_equal(wait_master(), 1);
    assert_true(file_has(play.output, "filad: the disk is made of cheese"));
    assert_int_equal(atomic_load(&stage->workers), 0);
    assert_false(exists("filad.pid") || exists("control.sock") || exists("listen.sock"));
}

static void test_keeper_that_keeps_dying(void **state)
{
    (void)state;
    atomic_store(&stage->keeper_dies, true);
    make_regions();
    launch();
    assert_int_equal(wait_master(), 1);
    assert_int_equal(atomic_load(&stage->keepers), RECOVERY_QUICK_MAX);
    assert_true(file_has(play.output, "the store could not be opened"));
    assert_true(exists("regions/pages")); /* the next start needs them */
}

static void test_worker_that_cannot_start(void **state)
{
    (void)state;
    atomic_store(&stage->workers_fail, true);
    launch();
    assert_int_equal(wait_master(), 1);
    assert_true(file_has(play.output, "no such certificate"));
}

static void test_workers_that_keep_dying(void **state)
{
    (void)state;
    atomic_store(&stage->workers_die, true);
    launch();
    assert_int_equal(wait_master(), 1);
    assert_true(file_has(play.output, "ends again and again"));
    assert_true(atomic_load(&stage->workers) >= 5);
}

static void test_stop_while_starting(void **state)
{
    (void)state;
    atomic_store(&stage->workers_silent, true);
    launch();
    WAIT_FOR(atomic_load(&stage->workers) == 2);
    assert_int_equal(kill(play.master, SIGINT), 0);
    assert_int_equal(wait_master(), 0);
    assert_int_equal(atomic_load(&stage->stopped), 2);
}

static void test_address_in_use_is_named(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char overlay[128], text[64];

    (void)state;
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    snprintf(text, sizeof text, "127.0.0.1:%u", sock_port(fd));
    snprintf(overlay, sizeof overlay, "listen: [{address: \"%s\"}]", text);
    play.options.overlay = overlay;
    launch();
    assert_int_equal(wait_master(), 1);
    close(fd);
    assert_true(file_has(play.output, text));
    assert_int_equal(atomic_load(&stage->keepers), 0);
}

/* --- deaths --- */

static void test_killed_worker_is_replaced(void **state)
{
    int killed;

    (void)state;
    start();
    killed = worker(0);
    kill(killed, SIGKILL);
    WAIT_FOR(atomic_load(&stage->workers) == 3 && attached() == 2);
    assert_int_equal(atomic_load(&stage->helpers), 1);
    assert_int_equal(atomic_load(&stage->keepers), 1);
    stop();
}

static void expect_recovery(void)
{
    WAIT_FOR(atomic_load(&stage->keepers) == 2);
    WAIT_FOR(attached() == 2);
    stop();
}

static void test_worker_killed_inside_is_a_recovery(void **state)
{
    int inside;

    (void)state;
    start();
    inside = worker(0);
    atomic_store(&stage->inside_pid, inside);
    poll(NULL, 0, 20); /* whether the word is set in time or not, both must end well */
    kill(inside, SIGKILL);
    WAIT_FOR(atomic_load(&stage->workers) == 3 && attached() == 2);
    stop();
}

static void test_bad_check_is_a_recovery(void **state)
{
    (void)state;
    start();
    atomic_store(&stage->helper_bad, true);
    kill(worker(1), SIGKILL);
    expect_recovery();
}

static void test_hanging_check_is_a_recovery(void **state)
{
    (void)state;
    start();
    atomic_store(&stage->helper_hangs, true);
    kill(worker(1), SIGKILL);
    expect_recovery();
}

static void test_killed_keeper_is_a_recovery(void **state)
{
    unsigned workers;

    (void)state;
    start();
    workers = atomic_load(&stage->workers);
    kill(atomic_load(&stage->keeper_pid), SIGKILL);
    WAIT_FOR(atomic_load(&stage->keepers) == 2);
    WAIT_FOR(attached() == 2);
    assert_int_equal(atomic_load(&stage->workers), workers);
    stop();
}

static void test_failed_store_is_a_recovery(void **state)
{
    (void)state;
    start();
    atomic_store(&stage->failing_pid, worker(1));
    expect_recovery();
}

static void test_stuck_worker_is_killed(void **state)
{
    int stuck;

    (void)state;
    start();
    stuck = worker(0);
    atomic_store(&stage->stuck_pid, stuck);
    kill(atomic_load(&stage->keeper_pid), SIGKILL);
    WAIT_FOR(atomic_load(&stage->keepers) == 2);
    assert_false(is_alive(stuck));
    WAIT_FOR(attached() == 2);
    stop();
}

static void test_stopped_process_is_waited_for(void **state)
{
    int frozen;

    (void)state;
    start();
    frozen = worker(0);
    kill(frozen, SIGSTOP);
    kill(atomic_load(&stage->keeper_pid), SIGKILL);
    WAIT_FOR(atomic_load(&stage->keepers) == 2);
    assert_false(is_alive(frozen));
    WAIT_FOR(attached() == 2);
    stop();
}

static void test_workers_that_give_up_end_the_broker(void **state)
{
    (void)state;
    start();
    atomic_store(&stage->workers_fail, true);
    kill(worker(1), SIGKILL);
    WAIT_FOR(log_has("is not started again"));
    assert_int_equal(waitpid(play.master, NULL, WNOHANG), 0);
    kill(worker(0), SIGKILL);
    assert_int_equal(wait_master(), 1);
    assert_true(atomic_load(&stage->keeper_stopped));
}

/* --- reload --- */

static void test_reload_exchanges_the_workers(void **state)
{
    int old;

    (void)state;
    start();
    old = worker(0);
    write_conf(&(struct settings){.more = "scheduler: {quantum: 77}"});
    assert_int_equal(tell(OPTIONS_SIGNAL_RELOAD, "reload"), 0);
    WAIT_FOR(atomic_load(&stage->drained) == 2);
    WAIT_FOR(!is_alive(old));
    WAIT_FOR(attached() == 2);
    for (unsigned slot = 0; slot < ZONE_WORKERS; slot++)
        if (atomic_load(&stage->attached[slot]))
            assert_int_equal(atomic_load(&stage->marker[slot]), 77);
    assert_int_equal(atomic_load(&stage->keepers), 1);
    /* The new ones are kept alive as the old ones were. */
    kill(worker(0), SIGKILL);
    WAIT_FOR(atomic_load(&stage->workers) == 5 && attached() == 2);
    stop();
}

static void test_reload_by_signal_changes_listeners_and_numbers(void **state)
{
    (void)state;
    start();
    write_conf(&(struct settings){.workers = "4", .listen = "other.sock"});
    kill(play.master, SIGHUP);
    WAIT_FOR(atomic_load(&stage->drained) == 2);
    WAIT_FOR(attached() == 4);
    assert_true(exists("other.sock"));
    WAIT_FOR(!exists("listen.sock"));
    stop();
    assert_false(exists("other.sock"));
}

static void expect_refused_reload(const char *reason)
{
    int first = worker(0), second = worker(1);

    assert_int_equal(tell(OPTIONS_SIGNAL_RELOAD, "reload"), 1);
    assert_true(file_has(play.output, reason));
    assert_true(is_alive(first) && is_alive(second));
    assert_int_equal(atomic_load(&stage->keepers), 1);
    WAIT_FOR(attached() == 2);
    assert_true(exists("listen.sock"));
}

static void test_reload_of_a_fixed_setting_is_refused(void **state)
{
    (void)state;
    start();
    write_conf(&(struct settings){.shared_memory = "128m", .cache_size = "99m"});
    expect_refused_reload("`shared_memory` cannot be changed by a reload");
    assert_true(file_has(play.output, "`store.cache_size` cannot be changed by a reload"));
    assert_true(file_has(play.output, "filad.yaml:9:16: `shared_memory`"));
    stop();
}

static void test_reload_tells_warnings_line_by_line(void **state)
{
    (void)state;
    start();
    write_conf(&(struct settings){.more = "worker_connections: 65500"});
    assert_int_equal(tell(OPTIONS_SIGNAL_RELOAD, "reload"), 0);
    assert_true(log_has("filad.yaml:10:21: warning: `worker_connections` (65500) leaves"));
    assert_false(log_has("\\x0a"));
    stop();
}

static void test_reload_whose_workers_fail_changes_nothing(void **state)
{
    (void)state;
    start();
    atomic_store(&stage->workers_fail, true);
    expect_refused_reload("no such certificate");
    atomic_store(&stage->workers_fail, false);
    atomic_store(&stage->workers_die, true);
    expect_refused_reload("a new worker has ended before it was ready");
    atomic_store(&stage->workers_die, false);
    assert_int_equal(tell(OPTIONS_SIGNAL_RELOAD, "reload"), 0);
    stop();
}

static void test_stop_during_a_reload(void **state)
{
    pid_t teller;
    int status;

    (void)state;
    start();
    atomic_store(&stage->workers_silent, true);
    fflush(NULL);
    teller = fork();
    if (teller == 0)
        _exit(tell(OPTIONS_SIGNAL_RELOAD, "reload"));
    WAIT_FOR(atomic_load(&stage->workers) == 4);
    stop();
    assert_int_equal(waitpid(teller, &status, 0), teller);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    assert_true(file_has(play.output, "the broker is stopping"));
}

/* --- at random --- */

static uint64_t random_state = 88172645463325252u;

static unsigned random_below(unsigned bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 33) % bound;
}

static void test_random_deaths(void **state)
{
    (void)state;
    atomic_store(&stage->inside_at_random, true);
    atomic_store(&stage->shed_ms, 40);
    start();
    for (int round = 0; round < 60; round++) {
        int victim = random_below(4) ? worker(random_below(2)) : atomic_load(&stage->keeper_pid);

        switch (random_below(10)) {
        case 0:
            atomic_store(&stage->failing_pid, worker(0));
            break;
        case 1:
            atomic_store(&stage->stuck_pid, worker(1));
            break;
        case 2:
            atomic_store(&stage->helper_bad, random_below(2) != 0);
            break;
        case 3:
            kill(play.master, SIGHUP);
            break;
        case 4:
            atomic_store(&stage->shedding, random_below(3) != 0);
            atomic_store(&stage->left_stays, random_below(4) == 0);
            break;
        case 5:
            victim = atomic_load(&stage->left_pid[random_below(3)]);
            if (is_alive(victim))
                kill(victim, random_below(4) ? SIGKILL : SIGSTOP);
            break;
        default:
            if (victim > 0)
                kill(victim, random_below(8) ? SIGKILL : SIGSTOP);
            break;
        }
        poll(NULL, 0, (int)random_below(60));
        assert_int_equal(waitpid(play.master, NULL, WNOHANG), 0);
        assert_int_equal(atomic_load(&stage->violations), 0);
    }
    /* Frozen ones are found when a recovery asks them. */
    kill(atomic_load(&stage->keeper_pid), SIGKILL);
    atomic_store(&stage->helper_bad, false);
    atomic_store(&stage->left_stays, false);
    atomic_store(&stage->stuck_pid, 0);
    WAIT_FOR(attached() >= 2);
    stop();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    note_inherited();

    const struct CMUnitTest tests[] = {
        TEST(test_starts_and_stops_and_leaves_nothing),
        TEST(test_pages_go_with_a_clean_stop),
        TEST(test_api_key_is_refused),
        TEST(test_told_to_stop),
        TEST(test_told_to_quit),
        TEST(test_told_to_stop_without_control_socket),
        TEST(test_nobody_to_tell),
        TEST(test_dead_master_is_followed_by_another),
        TEST(test_second_broker_on_a_pid_file_is_refused),
        TEST(test_keeper_that_cannot_start),
        TEST(test_keeper_that_keeps_dying),
        TEST(test_worker_that_cannot_start),
        TEST(test_workers_that_keep_dying),
        TEST(test_stop_while_starting),
        TEST(test_address_in_use_is_named),
        TEST(test_killed_worker_is_replaced),
        TEST(test_worker_killed_inside_is_a_recovery),
        TEST(test_bad_check_is_a_recovery),
        TEST(test_hanging_check_is_a_recovery),
        TEST(test_killed_keeper_is_a_recovery),
        TEST(test_failed_store_is_a_recovery),
        TEST(test_stuck_worker_is_killed),
        TEST(test_stopped_process_is_waited_for),
        TEST(test_workers_that_give_up_end_the_broker),
        TEST(test_reload_exchanges_the_workers),
        TEST(test_reload_by_signal_changes_listeners_and_numbers),
        TEST(test_reload_of_a_fixed_setting_is_refused),
        TEST(test_reload_tells_warnings_line_by_line),
        TEST(test_reload_whose_workers_fail_changes_nothing),
        TEST(test_stop_during_a_reload),
        TEST(test_random_deaths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
