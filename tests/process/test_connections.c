/* Connections: how workers share them, how many there may be, what silent ones get, and how little
 * idle ones cost. FILAD_CONNECTIONS=N sets the number of idle ones (1,000). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "fibp/status.h"
#include "os/time.h"
#include "process/support/crowd.h"
#include "process/support/fixture.h"
#include "process/support/measure.h"

#define ROUND 64u      /* connections of a round, over four workers */
#define ROUND_LEAST 8u /* that none may stay below */

#define TOTAL(name) offsetof(struct crowd_totals, name)

struct addresses {
    const char *of[2];
};

static struct addresses addresses_of(const struct fixture *f)
{
    return (struct addresses){{f->broker.unix_address, f->broker.tcp_address}};
}

static struct crowd *open_crowd(struct fixture *f, size_t count)
{
    struct addresses addresses = addresses_of(f);
    struct crowd *crowd = crowd_create(count);
    MUST(f, crowd_open(crowd, count, addresses.of, 2, &f->err));
    return crowd;
}

static void shake_hands(struct crowd *crowd)
{
    for (size_t i = 0; i < crowd_size(crowd); i++)
        assert_int_equal(crowd_handshake(crowd, i), 0);
    if (!crowd_wait_total(crowd, TOTAL(handshakes), crowd_size(crowd), PEER_PATIENCE_MS))
        fail_msg("%llu of %zu handshakes", (unsigned long long)crowd_totals(crowd).handshakes,
                 crowd_size(crowd));
}

/* --- the share of each worker --- */

static int setup_four_workers(void **state)
{
    return fixture_setup_with(state, &(struct broker_options){.workers = 4}, true);
}

#define WORKERS_MAX 8

struct spread {
    struct fixture *f;
    pid_t workers[WORKERS_MAX];
    unsigned count;
    unsigned idle; /* sockets of a worker without any connection: the same in all */
};

static struct spread spread_begin(struct fixture *f)
{
    struct broker_process list[BROKER_PROCESSES_MAX];
    struct spread spread = {.f = f};
    size_t count = broker_processes(&f->broker, list, BROKER_PROCESSES_MAX);
    for (size_t i = 0; i < count && spread.count < WORKERS_MAX; i++)
        if (list[i].role == BROKER_WORKER)
            spread.workers[spread.count++] = list[i].pid;
    for (unsigned i = 0; i < spread.count; i++) {
        unsigned sockets = measure_sockets(spread.workers[i]);
        if (i == 0 || sockets < spread.idle)
            spread.idle = sockets;
    }
    return spread;
}

static bool spread_is_idle(void *context)
{
    const struct spread *spread = context;
    for (unsigned i = 0; i < spread->count; i++)
        if (measure_sockets(spread->workers[i]) != spread->idle)
            return false;
    return true;
}

/* A round; `settled`: each connection is served before the next one is opened. */
static unsigned spread_round(struct spread *spread, bool settled)
{
    struct fixture *f = spread->f;
    struct addresses addresses = addresses_of(f);
    struct crowd *crowd = crowd_create(ROUND);
    unsigned least = ROUND;
    if (!settled)
        MUST(f, crowd_open(crowd, ROUND, addresses.of, 2, &f->err));
    for (unsigned i = 0; settled && i < ROUND; i++) {
        MUST(f, crowd_open(crowd, 1, addresses.of, 2, &f->err));
        assert_int_equal(crowd_handshake(crowd, i), 0);
        assert_true(crowd_wait_total(crowd, TOTAL(handshakes), i + 1, PEER_PATIENCE_MS));
    }
    if (!settled)
        shake_hands(crowd);
    for (unsigned i = 0; i < spread->count; i++) {
        unsigned mine = measure_sockets(spread->workers[i]) - spread->idle;
        if (mine < ROUND_LEAST)
            print_error("worker %u has %u of %u connections\n", i, mine, ROUND);
        least = mine < least ? mine : least;
    }
    crowd_destroy(crowd);
    assert_true(wait_until(spread_is_idle, spread, PEER_PATIENCE_MS));
    return least;
}

static void spread_rounds(struct spread *spread, unsigned rounds)
{
    unsigned least = ROUND;
    assert_true(wait_until(spread_is_idle, spread, PEER_PATIENCE_MS));
    for (unsigned i = 0; i < rounds; i++) {
        unsigned now = spread_round(spread, i % 2);
        least = now < least ? now : least;
    }
    print_message("%u rounds: no worker had less than %u\n", rounds, least);
    assert_in_range(least, ROUND_LEAST, ROUND);
}

struct crew {
    struct fixture *f;
    pid_t gone; /* one that must not be there; 0: none */
};

/* Four workers, all of which accept. */
static bool is_complete(void *context)
{
    const struct crew *crew = context;
    struct spread now = spread_begin(crew->f);
    if (now.count != 4)
        return false;
    for (unsigned i = 0; i < now.count; i++) {
        char ready[64];
        snprintf(ready, sizeof ready, "(%d) is ready", (int)now.workers[i]);
        if (now.workers[i] == crew->gone || !broker_logged(&crew->f->broker, ready))
            return false;
    }
    return true;
}

static void test_workers_share_connections(void **state)
{
    struct fixture *f = *state;
    struct crew crew = {.f = f};
    assert_true(wait_until(is_complete, &crew, PEER_PATIENCE_MS));
    struct spread spread = spread_begin(f);
    spread_rounds(&spread, 20);
    crew.gone = spread.workers[0];
    broker_kill(&f->broker, &(struct broker_process){BROKER_WORKER, crew.gone}, 1);
    assert_true(wait_until(is_complete, &crew, PEER_PATIENCE_MS));
    MUST(f, broker_wait_ready(&f->broker, BROKER_READY_MS, &f->err));
    spread = spread_begin(f);
    spread_rounds(&spread, 6);
    f->passed = true;
}

/* --- how many there may be --- */

static int setup_few(void **state)
{
    return fixture_setup_with(state, &(struct broker_options){.extra = "worker_connections: 10\n"},
                              true);
}

struct attempt {
    struct fixture *f;
    unsigned refused;
};

/* A fresh client that wants an answer; one that is refused must hear why. */
static bool is_served(void *context)
{
    struct attempt *attempt = context;
    struct fixture *f = attempt->f;
    struct crowd *crowd = open_crowd(f, 1);
    (void)crowd_handshake(crowd, 0); /* it may be closed already */
    crowd_wait_total(crowd, TOTAL(handshakes), 1, 300);
    bool served = crowd_member(crowd, 0)->handshakes > 0;
    if (crowd_member(crowd, 0)->errors) {
        assert_int_equal(crowd_member(crowd, 0)->code, FIBP_CHANNEL_FULL);
        attempt->refused++;
    }
    crowd_destroy(crowd);
    return served;
}

static bool is_all_closed(const struct crowd *crowd, void *context)
{
    (void)context;
    return crowd_totals(crowd).open == 0;
}

static void test_full_workers_say_so(void **state)
{
    struct fixture *f = *state;
    struct attempt attempt = {.f = f};
    struct crowd *crowd = open_crowd(f, 20);
    shake_hands(crowd);
    struct crowd *late = open_crowd(f, 6);
    assert_true(crowd_wait(late, is_all_closed, NULL, PEER_PATIENCE_MS));
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(crowd_member(late, i)->errors, 1);
        assert_int_equal(crowd_member(late, i)->code, FIBP_CHANNEL_FULL);
        assert_int_equal(crowd_member(late, i)->handshakes, 0);
    }
    crowd_destroy(late);
    /* Those that are there are served on, and whoever goes leaves room. */
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(crowd_ping(crowd, i), 0);
    assert_true(crowd_wait_total(crowd, TOTAL(pongs), 20, PEER_PATIENCE_MS));
    crowd_close(crowd, 7, false);
    assert_true(wait_until(is_served, &attempt, PEER_PATIENCE_MS));
    crowd_close(crowd, 8, true);
    assert_true(wait_until(is_served, &attempt, PEER_PATIENCE_MS));
    crowd_destroy(crowd);
    f->passed = true;
}

static int setup_flooded(void **state)
{
    return fixture_setup_with(
        state,
        &(struct broker_options){.extra =
                                     "worker_connections: 300\nfibp: {handshake_timeout: 20s}\n"},
        true);
}

/* 2,000 connections that say nothing, on workers with room for 600, and again and again. */
static void test_silent_flood(void **state)
{
    struct fixture *f = *state;
    struct attempt attempt = {.f = f};
    struct peer *peer = fixture_peer(f);
    for (unsigned round = 0; round < 3; round++) {
        struct crowd *crowd = open_crowd(f, 2000);
        uint64_t begin = time_monotonic_ms();
        assert_true(wait_until(is_served, &attempt, 10000));
        print_message("served %llu ms after the flood\n",
                      (unsigned long long)(time_monotonic_ms() - begin));
        MUST(f, peer_ping(peer, &f->err));
        crowd_destroy(crowd);
    }
    f->passed = true;
}

static int setup_hasty(void **state)
{
    return fixture_setup_with(
        state, &(struct broker_options){.extra = "fibp: {handshake_timeout: 300ms}\n"}, true);
}

/* Nothing, half a handshake, and one byte at a time: all end at the same time. */
static void test_handshake_timeout(void **state)
{
    struct fixture *f = *state;
    static const uint8_t hello[] = {0, 0, 0, 9, 1, 0, 0, 0, 0, 0, 0, 1, 0};
    struct crowd *crowd = open_crowd(f, 30);
    uint64_t begin = time_monotonic_ms();
    struct peer *peer = fixture_peer(f);
    for (size_t step = 0; crowd_totals(crowd).open; step++) {
        for (size_t i = 0; i < 30; i++) {
            size_t at = i % 3 == 2 ? step / 10 : step; /* the slowest are at the 13th byte late */
            if (i % 3 && at < 12 && (i % 3 == 2 ? step % 10 == 0 : true))
                (void)!send(crowd_fd(crowd, i), hello + at, 1, MSG_NOSIGNAL);
        }
        crowd_wait_total(crowd, TOTAL(open), UINT64_MAX, 10);
        assert_true(time_monotonic_ms() - begin < 10000);
    }
    assert_true(time_monotonic_ms() - begin >= 290);
    assert_int_equal(crowd_totals(crowd).handshakes, 0);
    MUST(f, peer_ping(peer, &f->err)); /* it has shaken hands in time */
    crowd_destroy(crowd);
    f->passed = true;
}

/* --- many --- */

static size_t many;

static int setup_many(void **state)
{
    return fixture_setup_with(state,
                              &(struct broker_options){.extra = "scheduler: {max_unacked: 1}\n"
                                                                "worker_connections: 16000\n"
                                                                "fibp: {keepalive_interval: 5m}\n"},
                              true);
}

static void enqueue_and_wait(struct fixture *f, struct crowd *crowd, struct peer *peer,
                             size_t queues, size_t per_queue, const char *what)
{
    uint64_t before = crowd_totals(crowd).messages, begin = time_monotonic_ms();
    uint64_t cpu = measure_role_cpu_ms(&f->broker, BROKER_WORKER);
    char name[32];
    for (size_t i = 0; i < queues; i++) {
        snprintf(name, sizeof name, queues == 1 ? "all" : "part-%zu", i);
        MUST(f, peer_enqueue_run(peer, name, "m", per_queue, NULL, &f->err));
    }
    if (!crowd_wait_total(crowd, TOTAL(messages), before + queues * per_queue, PEER_PATIENCE_MS))
        fail_msg("%s: %llu of %zu messages came", what,
                 (unsigned long long)(crowd_totals(crowd).messages - before), queues * per_queue);
    print_message("%s: %zu messages in %llu ms, %llu ms of the workers' processor time\n", what,
                  queues * per_queue, (unsigned long long)(time_monotonic_ms() - begin),
                  (unsigned long long)(measure_role_cpu_ms(&f->broker, BROKER_WORKER) - cpu));
}

static uint64_t ping_us(struct fixture *f, struct peer *peer)
{
    uint64_t begin = time_monotonic_ns();
    for (unsigned i = 0; i < 200; i++)
        MUST(f, peer_ping(peer, &f->err));
    return (time_monotonic_ns() - begin) / 200000;
}

static void subscribe_all(struct fixture *f, struct crowd *crowd, struct peer *peer, size_t queues)
{
    char name[32];
    MUST(f, peer_create_queue(peer, "all", 0, &f->err));
    for (size_t i = 0; i < queues; i++) {
        snprintf(name, sizeof name, "part-%zu", i);
        MUST(f, peer_create_queue(peer, name, 0, &f->err));
    }
    for (size_t i = 0; i < crowd_size(crowd); i++) {
        snprintf(name, sizeof name, "part-%zu", i % queues);
        assert_int_equal(crowd_consume(crowd, i, 1, "all"), 0);
        assert_int_equal(crowd_consume(crowd, i, 2, name), 0);
    }
    if (!crowd_wait_total(crowd, TOTAL(consumes), 2 * crowd_size(crowd), PEER_PATIENCE_MS))
        fail_msg("%llu of %zu subscriptions", (unsigned long long)crowd_totals(crowd).consumes,
                 2 * crowd_size(crowd));
}

/* Each of the consumers has the one message that it may hold, and no more come until it acks. */
static void all_have(struct crowd *crowd, uint64_t messages)
{
    for (size_t i = 0; i < crowd_size(crowd); i++)
        assert_int_equal(crowd_member(crowd, i)->messages, messages);
}

/* All consumers of the queue are full; each ack makes room for one message, and costs no more with
 * many than with few of them. */
static void acks_among_the_full(struct fixture *f, struct crowd *crowd, struct peer *peer)
{
    const size_t acks = 500;
    uint64_t before = crowd_totals(crowd).messages;
    MUST(f, peer_enqueue_run(peer, "all", "m", acks, NULL, &f->err));
    uint64_t begin = time_monotonic_ms(), cpu = measure_role_cpu_ms(&f->broker, BROKER_WORKER);
    for (size_t i = 0; i < acks; i++) {
        struct uuid last = crowd_member(crowd, i)->last;
        assert_int_equal(crowd_totals(crowd).messages, before + i);
        assert_int_equal(crowd_ack(crowd, i, "all", &last), 0);
        assert_true(crowd_wait_total(crowd, TOTAL(messages), before + i + 1, PEER_PATIENCE_MS));
        assert_int_equal(crowd_member(crowd, i)->messages, 3);
    }
    print_message(
        "%zu acks with %zu full consumers: %llu us and %llu us of processor time each\n", acks,
        crowd_size(crowd), (unsigned long long)(time_monotonic_ms() - begin) * 1000 / acks,
        (unsigned long long)(measure_role_cpu_ms(&f->broker, BROKER_WORKER) - cpu) * 1000 / acks);
}

static void test_many_connections(void **state)
{
    struct fixture *f = *state;
    const size_t queues = 100;
    struct peer *peer = fixture_peer(f);
    uint64_t ping_before = ping_us(f, peer);
    uint64_t memory = measure_role_memory(&f->broker, BROKER_WORKER);
    uint64_t begin = time_monotonic_ms();

    struct crowd *crowd = open_crowd(f, many);
    shake_hands(crowd);
    uint64_t opened_ms = time_monotonic_ms() - begin;
    uint64_t each = (measure_role_memory(&f->broker, BROKER_WORKER) - memory) / many;
    print_message("%zu connections in %llu ms, %llu bytes each\n", many,
                  (unsigned long long)opened_ms, (unsigned long long)each);
#ifndef __SANITIZE_ADDRESS__
    assert_in_range(each, 0, 4096);
#endif
    uint64_t cpu = measure_role_cpu_ms(&f->broker, BROKER_WORKER);
    begin = time_monotonic_ms();
    poll(NULL, 0, 1000); /* a measurement */
    uint64_t idle_cpu = measure_role_cpu_ms(&f->broker, BROKER_WORKER) - cpu;
    print_message("idle: %llu ms of processor time in %llu ms\n", (unsigned long long)idle_cpu,
                  (unsigned long long)(time_monotonic_ms() - begin));
    assert_in_range(idle_cpu, 0, 100);
    print_message("a ping takes %llu us, %llu before\n", (unsigned long long)ping_us(f, peer),
                  (unsigned long long)ping_before);

    subscribe_all(f, crowd, peer, queues);
    each = (measure_role_memory(&f->broker, BROKER_WORKER) - memory) / many;
    print_message("with two subscriptions %llu bytes each\n", (unsigned long long)each);
    enqueue_and_wait(f, crowd, peer, 1, many, "one queue");
    all_have(crowd, 1);
    enqueue_and_wait(f, crowd, peer, queues, many / queues, "100 queues");
    all_have(crowd, 2);
    acks_among_the_full(f, crowd, peer);

    /* All go at once. */
    begin = time_monotonic_ms();
    crowd_destroy(crowd);
    MUST(f, peer_ping(peer, &f->err));
    print_message("all closed: a ping after %llu ms\n",
                  (unsigned long long)(time_monotonic_ms() - begin));
    fixture_wait_stats(f, peer, "all", UINT64_MAX, UINT64_MAX, 0);
    print_message("all forgotten after %llu ms\n",
                  (unsigned long long)(time_monotonic_ms() - begin));
    f->passed = true;
}

int main(void)
{
    const char *number = getenv("FILAD_CONNECTIONS");
    struct rlimit limit;
    many = number ? strtoul(number, NULL, 10) / 200 * 200 : 1000;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_max < many + 2200) {
        print_message("%zu descriptors are needed, %llu are allowed\n", many + 2200,
                      (unsigned long long)limit.rlim_max);
        return 77;
    }
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_workers_share_connections, setup_four_workers,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_full_workers_say_so, setup_few, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_silent_flood, setup_flooded, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_handshake_timeout, setup_hasty, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_many_connections, setup_many, fixture_teardown),
    };
    return cmocka_run_group_tests_name("connections", tests, NULL, NULL);
}
