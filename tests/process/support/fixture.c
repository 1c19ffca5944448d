#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "process/support/fixture.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "os/time.h"

/* cmocka cannot show a failure in a setup: it is printed. */
static int setup_failed(struct fixture *fixture)
{
    fprintf(stderr, "setup: %s\n", fixture->err.text);
    broker_print_log(&fixture->broker, stderr);
    broker_cleanup(&fixture->broker, false);
    free(fixture);
    return -1;
}

int fixture_setup_with(void **state, const struct broker_options *options, bool start)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    if (!fixture)
        return -1;
    /* A peer whose broker died is an error to look at, not a signal. */
    signal(SIGPIPE, SIG_IGN);
    if (broker_init(&fixture->broker, options, &fixture->err) != 0 ||
        (start && broker_start(&fixture->broker, &fixture->err) != 0))
        return setup_failed(fixture);
    *state = fixture;
    return 0;
}

int fixture_setup(void **state)
{
    return fixture_setup_with(state, NULL, true);
}

int fixture_setup_faults(void **state)
{
    return fixture_setup_with(state, &(struct broker_options){.shim = "faults"}, true);
}

int fixture_setup_stopped(void **state)
{
    return fixture_setup_with(state, NULL, false);
}

int fixture_teardown(void **state)
{
    struct fixture *fixture = *state;
    bool unsound = broker_unsound(&fixture->broker);
    if (!fixture->passed || unsound)
        broker_print_log(&fixture->broker, stderr);
    fixture_close_all(fixture);
    broker_cleanup(&fixture->broker, false);
    free(fixture);
    return unsound ? -1 : 0;
}

void fixture_expect(struct fixture *fixture, int code, int expected, const char *call,
                    const char *file, int line)
{
    if (code == expected)
        return;
    print_error("%s:%d: %s: code %d instead of %d%s%s\n", file, line, call, code, expected,
                code != 0 ? ": " : "", code != 0 ? fixture->err.text : "");
    _fail(file, line);
}

struct peer *fixture_peer(struct fixture *fixture)
{
    const char *address =
        fixture->peer_count % 2 ? fixture->broker.tcp_address : fixture->broker.unix_address;
    if (fixture->peer_count == FIXTURE_PEERS)
        fail_msg("too many connections for one test");
    struct peer *peer = peer_open(address, &fixture->err);
    if (!peer)
        fail_msg("connect: %s", fixture->err.text);
    fixture->peers[fixture->peer_count++] = peer;
    return peer;
}

void fixture_close(struct fixture *fixture, struct peer *peer, bool politely)
{
    for (unsigned i = 0; i < fixture->peer_count; i++)
        if (fixture->peers[i] == peer)
            fixture->peers[i] = fixture->peers[--fixture->peer_count];
    peer_close(peer, politely);
}

void fixture_close_all(struct fixture *fixture)
{
    while (fixture->peer_count)
        peer_close(fixture->peers[--fixture->peer_count], false);
}

struct fila *fixture_client(struct fixture *fixture)
{
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_options options;
    fila_options_init(&options);
    options.address = fixture->broker.unix_address;
    options.request_timeout_ms = 120000;
    struct fila *client = fila_connect(&options, &error);
    if (!client)
        fail_msg("connect: %s", error.text);
    return client;
}

void fixture_start(struct fixture *fixture)
{
    MUST(fixture, broker_start(&fixture->broker, &fixture->err));
}

void fixture_crash(struct fixture *fixture)
{
    broker_kill_all(&fixture->broker);
    fixture_close_all(fixture);
    MUST(fixture, broker_wait_end(&fixture->broker, BROKER_READY_MS, &fixture->err));
    fixture_start(fixture);
}

void fixture_receive(struct fixture *fixture, struct peer *peer, unsigned timeout_ms,
                     struct peer_delivery *delivery)
{
    int status = peer_receive(peer, timeout_ms, delivery, &fixture->err);
    if (status == 0)
        fail_msg("no delivery within %u ms", timeout_ms);
    if (status < 0)
        fail_msg("waiting for a delivery: %s", fixture->err.text);
}

void fixture_receive_nothing(struct fixture *fixture, struct peer *peer, unsigned timeout_ms)
{
    struct peer_delivery delivery;
    int status = peer_receive(peer, timeout_ms, &delivery, &fixture->err);
    if (status < 0)
        fail_msg("waiting for nothing: %s", fixture->err.text);
    if (status > 0)
        fail_msg("'%s' was delivered from %s with attempt %u, and should not be", delivery.payload,
                 delivery.queue, delivery.attempt);
}

static bool differs(uint64_t wanted, uint64_t found)
{
    return wanted != UINT64_MAX && wanted != found;
}

void fixture_wait_stats(struct fixture *fixture, struct peer *peer, const char *queue,
                        uint64_t depth, uint64_t in_flight, uint64_t consumers)
{
    struct framed_stats stats;
    uint64_t end_ns = time_monotonic_ns() + PEER_PATIENCE_MS * 1000000ull;
    do {
        MUST(fixture, peer_stats(peer, queue, &stats, &fixture->err));
        if (!differs(depth, stats.depth) && !differs(in_flight, stats.in_flight) &&
            !differs(consumers, stats.active_consumers))
            return;
        struct peer_frame *frame = NULL; /* a pause that keeps the connection served */
        int status = peer_answer(peer, UINT32_MAX, 10, &frame, &fixture->err);
        free(frame);
        if (status < 0)
            fail_msg("waiting for statistics: %s", fixture->err.text);
    } while (time_monotonic_ns() < end_ns);
    fail_msg("queue %s has depth %llu, %llu in flight and %u consumers", queue,
             (unsigned long long)stats.depth, (unsigned long long)stats.in_flight,
             stats.active_consumers);
}

struct stats_wait {
    struct fixture *fixture;
    struct peer *peer;
    const char *queue;
    uint64_t depth, in_flight;
    uint32_t consumers;
    struct framed_stats stats;
};

static bool stats_are(const struct crowd *crowd, void *context)
{
    struct stats_wait *wait = context;
    (void)crowd;
    MUST(wait->fixture, peer_stats(wait->peer, wait->queue, &wait->stats, &wait->fixture->err));
    return wait->stats.depth == wait->depth && wait->stats.in_flight == wait->in_flight &&
           wait->stats.active_consumers == wait->consumers;
}

void fixture_wait_crowd_stats(struct fixture *fixture, struct crowd *crowd, struct peer *peer,
                              const char *queue, uint64_t depth, uint64_t in_flight,
                              uint32_t consumers)
{
    struct stats_wait wait = {fixture, peer, queue, depth, in_flight, consumers, {.depth = 0}};
    if (!crowd_wait(crowd, stats_are, &wait, PEER_PATIENCE_MS))
        fail_msg("queue %s has depth %llu, %llu in flight and %u consumers", queue,
                 (unsigned long long)wait.stats.depth, (unsigned long long)wait.stats.in_flight,
                 wait.stats.active_consumers);
}

struct service {
    struct fixture *fixture;
    const char *queue;
};

static bool served(void *context)
{
    struct service *service = context;
    struct fixture *fixture = service->fixture;
    struct peer *peer = peer_open(fixture->broker.unix_address, &fixture->err);
    bool good = peer && peer_enqueue(peer, service->queue, "is it back", NULL, &fixture->err) == 0;
    peer_close(peer, true);
    return good;
}

void fixture_wait_service(struct fixture *fixture, const char *queue, unsigned timeout_ms)
{
    struct service service = {fixture, queue};
    if (!wait_until(served, &service, timeout_ms))
        fail_msg("no service within %u ms: %s", timeout_ms, fixture->err.text);
}
