/* Processes: what dies is replaced, what is told to reload, reopen, stop and quit does so, and
 * mistakes are told with their place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/time.h"
#include "process/support/files.h"
#include "process/support/fixture.h"

#define RECOVERY_MS 30000u /* 2 s, and patience with a loaded machine */

static void kill_one(struct fixture *f, enum broker_role role)
{
    struct broker_process victim = {role, broker_find(&f->broker, role)};
    assert_int_not_equal(victim.pid, 0);
    broker_kill(&f->broker, &victim, 1);
}

struct population {
    struct fixture *f;
    enum broker_role role;
    unsigned count;
    pid_t not_pid; /* this one must not be among them */
};

static bool is_populated(void *context)
{
    struct population *wanted = context;
    struct broker_process list[BROKER_PROCESSES_MAX];
    size_t total = broker_processes(&wanted->f->broker, list, BROKER_PROCESSES_MAX);
    unsigned count = 0;
    for (size_t i = 0; i < total; i++) {
        if (list[i].pid == wanted->not_pid)
            return false;
        count += list[i].role == wanted->role;
    }
    return count == wanted->count;
}

static void wait_population(struct fixture *f, enum broker_role role, unsigned count, pid_t not_pid)
{
    struct population wanted = {f, role, count, not_pid};
    if (!wait_until(is_populated, &wanted, RECOVERY_MS))
        fail_msg("%u processes of role %d instead of %u, or %d still lives",
                 broker_count(&f->broker, role), role, count, (int)not_pid);
}

static void make_queue(struct fixture *f, const char *name, uint64_t visibility_ms)
{
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_create_queue(peer, name, visibility_ms, &f->err));
    fixture_close(f, peer, true);
}

static void test_processes(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(broker_count(&f->broker, BROKER_MASTER), 1);
    assert_int_equal(broker_count(&f->broker, BROKER_KEEPER), 1);
    assert_int_equal(broker_count(&f->broker, BROKER_WORKER), 2);
    struct stat status;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d", (int)broker_find(&f->broker, BROKER_WORKER));
    assert_int_equal(stat(path, &status), 0);
    if (geteuid() == 0) /* privileges are dropped */
        assert_int_not_equal(status.st_uid, 0);
    char *end, text[64];
    files_tail(f->broker.pid_file, text, sizeof text);
    assert_int_equal(strtol(text, &end, 10), f->broker.pid);
    f->passed = true;
}

static void test_killed_worker_is_replaced(void **state)
{
    struct fixture *f = *state;
    make_queue(f, "work", 0);
    for (unsigned i = 0; i < 3; i++) {
        pid_t worker = broker_find(&f->broker, BROKER_WORKER);
        kill_one(f, BROKER_WORKER);
        fixture_wait_service(f, "work", RECOVERY_MS);
        wait_population(f, BROKER_WORKER, 2, worker);
    }
    fixture_wait_stats(f, fixture_peer(f), "work", 3, 0, 0);
    f->passed = true;
}

static void test_killed_keeper_is_replaced(void **state)
{
    struct fixture *f = *state;
    struct peer_delivery first, second;
    uint32_t subscription;
    make_queue(f, "keep", 3000);
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_enqueue(peer, "keep", "m", NULL, &f->err));
    MUST(f, peer_consume(peer, "keep", &subscription, &f->err));
    fixture_receive(f, peer, PEER_PATIENCE_MS, &first);
    pid_t keeper = broker_find(&f->broker, BROKER_KEEPER);
    kill_one(f, BROKER_KEEPER);
    wait_population(f, BROKER_KEEPER, 1, keeper);
    fixture_close_all(f); /* it may have been lost with a worker */
    fixture_wait_service(f, "keep", RECOVERY_MS);
    /* The new one expires leases. */
    peer = fixture_peer(f);
    MUST(f, peer_consume(peer, "keep", &subscription, &f->err));
    do {
        fixture_receive(f, peer, PEER_PATIENCE_MS, &second);
    } while (strcmp(second.payload, "m") != 0);
    assert_memory_equal(second.id.bytes, first.id.bytes, UUID_SIZE);
    assert_int_equal(second.attempt, 1);
    assert_true(second.leased_ms + 1 >= first.leased_ms + 3000);
    f->passed = true;
}

static void test_death_of_the_master_ends_all(void **state)
{
    struct fixture *f = *state;
    make_queue(f, "orphan", 0);
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_enqueue(peer, "orphan", "m", NULL, &f->err));
    kill_one(f, BROKER_MASTER);
    fixture_close_all(f);
    MUST(f, broker_wait_end(&f->broker, RECOVERY_MS, &f->err));
    fixture_start(f);
    fixture_wait_stats(f, fixture_peer(f), "orphan", 1, 0, 0);
    f->passed = true;
}

static void test_new_master_waits_for_orphans(void **state)
{
    struct fixture *f = *state;
    make_queue(f, "handover", 0);
    for (unsigned i = 0; i < 3; i++) {
        struct peer *peer = fixture_peer(f);
        MUST(f, peer_enqueue(peer, "handover", "m", NULL, &f->err));
        kill_one(f, BROKER_MASTER);
        fixture_close_all(f);
        fixture_start(f); /* at once, while the old workers may still be about to leave */
    }
    fixture_wait_stats(f, fixture_peer(f), "handover", 3, 0, 0);
    f->passed = true;
}

static void stop_with(struct fixture *f, int signal, const char *queue)
{
    make_queue(f, queue, 0);
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_enqueue_run(peer, queue, "m", 10, NULL, &f->err));
    MUST(f, broker_stop(&f->broker, signal, &f->err));
    fixture_close_all(f);
    /* A clean store says so. */
    char path[BROKER_PATH_SIZE + 8];
    snprintf(path, sizeof path, "%s/clean", f->broker.store);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_not_equal(access(f->broker.pid_file, F_OK), 0);
    fixture_start(f);
    assert_int_not_equal(access(path, F_OK), 0);
    fixture_wait_stats(f, fixture_peer(f), queue, 10, 0, 0);
}

static void test_signals_that_stop(void **state)
{
    struct fixture *f = *state;
    stop_with(f, SIGTERM, "term");
    stop_with(f, SIGINT, "int");
    stop_with(f, SIGQUIT, "quit");
    f->passed = true;
}

/* `filad -s SIGNAL`; its exit status, what it said in `output`. */
static int tell(struct fixture *f, const char *signal, char *output, size_t size)
{
    const char *const arguments[] = {"-c", f->broker.conf, "-s", signal, NULL};
    return broker_run(&f->broker, "filad", arguments, output, size);
}

struct telling {
    struct fixture *fixture;
    const char *signal;
    int status;
    char output[2048];
};

/* A broker serves as soon as its first worker is there, and says so while others still come. */
static bool is_told(void *context)
{
    struct telling *telling = context;
    telling->status =
        tell(telling->fixture, telling->signal, telling->output, sizeof telling->output);
    return telling->status == 0 || !strstr(telling->output, "the broker is starting");
}

static void must_tell(struct fixture *f, const char *signal)
{
    struct telling telling = {.fixture = f, .signal = signal};
    if (!wait_until(is_told, &telling, RECOVERY_MS) || telling.status != 0)
        fail_msg("filad -s %s: status %d: %s", signal, telling.status, telling.output);
}

static void test_quit_says_goodbye(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct peer_frame *frame = NULL;
    must_tell(f, "quit");
    MUST_GIVE(f, 1, peer_read(peer, PEER_PATIENCE_MS, &frame, &f->err));
    assert_int_equal(frame->opcode, OPCODE_DISCONNECT);
    free(frame);
    MUST(f, broker_wait_end(&f->broker, RECOVERY_MS, &f->err));
    assert_true(WIFEXITED(f->broker.status));
    assert_int_equal(WEXITSTATUS(f->broker.status), 0);
    f->passed = true;
}

static void test_stop_by_command(void **state)
{
    struct fixture *f = *state;
    char output[2048];
    must_tell(f, "stop");
    MUST(f, broker_wait_end(&f->broker, RECOVERY_MS, &f->err));
    assert_int_equal(f->broker.status, 0);
    /* Nobody is there any more. */
    assert_int_equal(tell(f, "stop", output, sizeof output), 1);
    assert_true(strlen(output) > 0);
    f->passed = true;
}

static void test_reload_with_another_number_of_workers(void **state)
{
    struct fixture *f = *state;
    make_queue(f, "reload", 0);
    struct peer *peer = fixture_peer(f);
    f->broker.options.workers = 4;
    MUST(f, broker_write_conf(&f->broker, NULL, &f->err));
    must_tell(f, "reload");
    fixture_wait_service(f, "reload", RECOVERY_MS);
    fixture_close(f, peer, true); /* the old workers need not wait for it */
    wait_population(f, BROKER_WORKER, 4, 0);
    f->broker.options.workers = 1;
    MUST(f, broker_write_conf(&f->broker, NULL, &f->err));
    assert_int_equal(kill(f->broker.pid, SIGHUP), 0);
    wait_population(f, BROKER_WORKER, 1, 0);
    fixture_wait_service(f, "reload", RECOVERY_MS);
    f->passed = true;
}

static void test_reload_answers_what_is_under_way(void **state)
{
    struct fixture *f = *state;
    enum { ROUNDS = 10 };
    make_queue(f, "busy", 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct peer *peer = fixture_peer(f);
        struct peer_message message = {.queue = "busy", .payload = STR("m")};
        uint32_t requests[50];
        struct peer_frame *frame = NULL;
        for (unsigned i = 0; i < 50; i++)
            MUST(f, peer_enqueue_send(peer, &message, 1, &requests[i], &f->err));
        if (round % 3 == 1)
            must_tell(f, "reload");
        for (unsigned i = 0; i < 50; i++) {
            MUST_GIVE(f, 1, peer_answer(peer, requests[i], PEER_PATIENCE_MS, &frame, &f->err));
            assert_int_equal(frame->opcode, OPCODE_ENQUEUE_RESULT);
            free(frame);
        }
        fixture_close(f, peer, true);
    }
    fixture_wait_stats(f, fixture_peer(f), "busy", 50 * ROUNDS, 0, 0);
    f->passed = true;
}

static void test_invalid_reload_changes_nothing(void **state)
{
    struct fixture *f = *state;
    char output[2048], place[BROKER_PATH_SIZE + 8];
    make_queue(f, "same", 0);
    struct peer *peer = fixture_peer(f);
    pid_t worker = broker_find(&f->broker, BROKER_WORKER);
    MUST(f, broker_write_conf(&f->broker, "worker_prozesses: 3\n", &f->err));
    assert_int_equal(tell(f, "reload", output, sizeof output), 1);
    snprintf(place, sizeof place, "%s:", f->broker.conf);
    if (!strstr(output, place) || !strstr(output, "worker_prozesses"))
        fail_msg("the reason does not name the place: %s", output);
    MUST(f, peer_enqueue(peer, "same", "m", NULL, &f->err));
    assert_int_equal(kill(worker, 0), 0);
    assert_int_equal(broker_count(&f->broker, BROKER_WORKER), 2);
    /* By signal it is only logged. */
    assert_int_equal(kill(f->broker.pid, SIGHUP), 0);
    MUST(f, peer_enqueue(peer, "same", "m", NULL, &f->err));
    MUST(f, broker_write_conf(&f->broker, NULL, &f->err));
    must_tell(f, "reload");
    f->passed = true;
}

static bool log_exists(void *context)
{
    struct fixture *f = context;
    return files_contain(f->broker.log, "[");
}

static void reopen(struct fixture *f, bool by_signal)
{
    char moved[BROKER_PATH_SIZE + 8];
    snprintf(moved, sizeof moved, "%s.1", f->broker.log);
    assert_true(log_exists(f));
    assert_int_equal(rename(f->broker.log, moved), 0);
    if (by_signal)
        assert_int_equal(kill(f->broker.pid, SIGUSR1), 0);
    else
        must_tell(f, "reopen");
    kill_one(f, BROKER_WORKER); /* something to log about */
    if (!wait_until(log_exists, f, RECOVERY_MS))
        fail_msg("no new log");
    fixture_wait_service(f, "log", RECOVERY_MS);
}

static void test_reopen(void **state)
{
    struct fixture *f = *state;
    make_queue(f, "log", 0);
    reopen(f, true);
    reopen(f, false);
    f->passed = true;
}

/* ---- mistakes ---- */

static void test_test_of_configuration(void **state)
{
    struct fixture *f = *state;
    char output[4096], expected[BROKER_PATH_SIZE + 64];
    const char *const good[] = {"-t", "-c", f->broker.conf, NULL};
    const char *const dump[] = {"-T", "-c", f->broker.conf, NULL};
    snprintf(expected, sizeof expected, "configuration file %s test is successful", f->broker.conf);
    int status = broker_run(&f->broker, "filad", good, output, sizeof output);
    if (status != 0 || !strstr(output, expected))
        fail_msg("-t: status %d: %s", status, output);
    status = broker_run(&f->broker, "filad", dump, output, sizeof output);
    if (status != 0 || !strstr(output, "worker_processes: 2"))
        fail_msg("-T: status %d: %s", status, output);
    f->passed = true;
}

static void test_mistakes_in_the_configuration(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text;
        unsigned line; /* 0: anywhere */
    } mistakes[] = {
        {"no_such_key: 1\n", 1},
        {"daemon: false\nworker_processes: many\n", 2},
        {"worker_processes: 0\n", 1},
        {"worker_connections: -4\n", 1},
        {"daemon: maybe\n", 1},
        {"daemon: false\ndaemon: true\n", 2},
        {"store: {path: /tmp, no_such: 2}\n", 1},
        {"store:\n  cache_size: 3 apples\n", 2},
        {"store: [1, 2]\n", 1},
        {"listen:\n  - address: nonsense\n", 2},
        {"listen:\n  - address: 0.0.0.0:99999\n", 2},
        {"listen:\n  - {address: 127.0.0.1:5555, tls: true}\n", 2},
        {"auth: {bootstrap_api_key: k}\n", 1},
        {"error_log: {level: loud}\n", 1},
        {"daemon: [\n", 0},
        {"\tdaemon: false\n", 0},
        {"a: &x\n  b: *x\n", 0},
    };
    const char *const arguments[] = {"-t", "-c", f->broker.conf, NULL};
    char output[4096], place[BROKER_PATH_SIZE + 32];
    for (unsigned i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        MUST(f, broker_write_text(f->broker.conf, mistakes[i].text, &f->err));
        int status = broker_run(&f->broker, "filad", arguments, output, sizeof output);
        if (mistakes[i].line)
            snprintf(place, sizeof place, "%s:%u:", f->broker.conf, mistakes[i].line);
        else
            snprintf(place, sizeof place, "%s:", f->broker.conf);
        unsigned line, column;
        const char *found = strstr(output, place);
        if (status != 1 || !found ||
            sscanf(found + strlen(f->broker.conf), ":%u:%u: ", &line, &column) != 2)
            fail_msg("%s gives status %d and: %s", mistakes[i].text, status, output);
    }
    f->passed = true;
}

static void test_usage(void **state)
{
    struct fixture *f = *state;
    char output[4096];
    const char *const wrong[] = {"--frobnicate", NULL};
    const char *const signal[] = {"-s", "dance", NULL};
    const char *const missing[] = {"-t", "-c", "/nowhere/filad.yaml", NULL};
    const char *const version[] = {"-v", NULL};
    assert_int_equal(broker_run(&f->broker, "filad", wrong, output, sizeof output), 1);
    assert_true(strlen(output) > 0);
    assert_int_equal(broker_run(&f->broker, "filad", signal, output, sizeof output), 1);
    assert_int_equal(broker_run(&f->broker, "filad", missing, output, sizeof output), 1);
    assert_non_null(strstr(output, "/nowhere/filad.yaml"));
    assert_int_equal(broker_run(&f->broker, "filad", version, output, sizeof output), 0);
    f->passed = true;
}

static void test_unknown_user(void **state)
{
    struct fixture *f = *state;
    char output[4096];
    if (geteuid() != 0)
        skip(); /* the setting is ignored then */
    const char *const arguments[] = {"-t", "-c", f->broker.conf, "-g", "user: nobody-of-this-name",
                                     NULL};
    assert_int_equal(broker_run(&f->broker, "filad", arguments, output, sizeof output), 1);
    assert_non_null(strstr(output, "nobody-of-this-name"));
    f->passed = true;
}

/* The same store under another pid file, other sockets and another directory for regions. */
static void test_second_broker_is_refused(void **state)
{
    struct fixture *f = *state;
    struct broker second;
    char output[4096], pid[24];
    make_queue(f, "mine", 0);
    MUST(f, broker_init(&second, NULL, &f->err));
    char own_store[BROKER_PATH_SIZE];
    memcpy(own_store, second.store, sizeof own_store);
    memcpy(second.store, f->broker.store, sizeof second.store);
    int status = broker_write_conf(&second, NULL, &f->err);
    const char *const arguments[] = {"-c", second.conf, NULL};
    uint64_t start_ns = time_monotonic_ns();
    if (status == 0)
        status = broker_run(&second, "filad", arguments, output, sizeof output);
    uint64_t took_ms = (time_monotonic_ns() - start_ns) / 1000000u;
    char log[2048];
    files_tail(second.log, log, sizeof log);
    memcpy(second.store, own_store, sizeof second.store);
    broker_cleanup(&second, false);
    assert_int_equal(status, 1);
    snprintf(pid, sizeof pid, "%d", (int)f->broker.pid);
    if (!strstr(output, pid))
        fail_msg("the reason does not name the master %s: %s", pid, output);
    assert_in_range(took_ms, 5000, 60000); /* it waited for an old one to go */
    fixture_wait_service(f, "mine", RECOVERY_MS);
    f->passed = true;
}

/* The same pid file: told at once. */
static void test_address_in_use(void **state)
{
    struct fixture *f = *state;
    struct broker second;
    char output[4096];
    MUST(f, broker_init(&second, NULL, &f->err));
    memcpy(second.tcp_address, f->broker.tcp_address, sizeof second.tcp_address);
    int status = broker_write_conf(&second, NULL, &f->err);
    const char *const arguments[] = {"-c", second.conf, NULL};
    if (status == 0)
        status = broker_run(&second, "filad", arguments, output, sizeof output);
    broker_cleanup(&second, false);
    assert_int_equal(status, 1);
    assert_non_null(strstr(output, f->broker.tcp_address));
    f->passed = true;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_BROKER(test_processes),
        WITH_BROKER(test_killed_worker_is_replaced),
        WITH_BROKER(test_killed_keeper_is_replaced),
        WITH_BROKER(test_death_of_the_master_ends_all),
        WITH_BROKER(test_new_master_waits_for_orphans),
        WITH_BROKER(test_signals_that_stop),
        WITH_BROKER(test_quit_says_goodbye),
        WITH_BROKER(test_stop_by_command),
        WITH_BROKER(test_reload_with_another_number_of_workers),
        WITH_BROKER(test_reload_answers_what_is_under_way),
        WITH_BROKER(test_invalid_reload_changes_nothing),
        WITH_BROKER(test_reopen),
        WITH_CONF(test_test_of_configuration),
        WITH_CONF(test_mistakes_in_the_configuration),
        WITH_CONF(test_usage),
        WITH_CONF(test_unknown_user),
        WITH_BROKER(test_second_broker_is_refused),
        WITH_BROKER(test_address_in_use),
    };
    return cmocka_run_group_tests_name("supervision", tests, NULL, NULL);
}
