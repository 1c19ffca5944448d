/*
 * fixture - what most process tests need: a broker of their own, started before and removed after,
 * and words for what went wrong. With cmocka; include it behind cmocka.h.
 */
#ifndef FILAD_TESTS_FIXTURE_H
#define FILAD_TESTS_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "fila.h"
#include "process/support/broker.h"
#include "process/support/crowd.h"
#include "process/support/peer.h"

#define FIXTURE_PEERS 16

struct fixture {
    struct broker broker;
    struct err err;                    /* for every call */
    struct peer *peers[FIXTURE_PEERS]; /* closed by the teardown */
    unsigned peer_count;
    bool passed; /* set at the end of a test: without it the log is shown */
};

/* Setups: a started broker; the same with the fault shim; a broker that was only configured. */
int fixture_setup(void **state);
int fixture_setup_faults(void **state);
int fixture_setup_stopped(void **state);
/* As these, for setups with options of their own. */
int fixture_setup_with(void **state, const struct broker_options *options, bool start);
int fixture_teardown(void **state);

/* A new connection after the handshake; the test fails without one. By turns through the unix and
 * the TCP socket. */
struct peer *fixture_peer(struct fixture *fixture);
/* Closes it now. */
void fixture_close(struct fixture *fixture, struct peer *peer, bool politely);
/* Forgets all connections, for instance because the broker was killed. */
void fixture_close_all(struct fixture *fixture);

/* A connection of libfila, which the test closes; the test fails without one. Its requests may take
 * two minutes. */
struct fila *fixture_client(struct fixture *fixture);

void fixture_start(struct fixture *fixture);
/* kill -9 for everything, then a start on the same store. */
void fixture_crash(struct fixture *fixture);

/* The next delivery on a connection; the test fails when none comes within `timeout_ms`. */
void fixture_receive(struct fixture *fixture, struct peer *peer, unsigned timeout_ms,
                     struct peer_delivery *delivery);
/* Fails the test when a message comes within `timeout_ms`. */
void fixture_receive_nothing(struct fixture *fixture, struct peer *peer, unsigned timeout_ms);

/* Waits until the statistics of a queue are so; UINT64_MAX: whatever. */
void fixture_wait_stats(struct fixture *fixture, struct peer *peer, const char *queue,
                        uint64_t depth, uint64_t in_flight, uint64_t consumers);

/* The same while a crowd goes on: what it is to send, acks for instance, may not be sent yet. */
void fixture_wait_crowd_stats(struct fixture *fixture, struct crowd *crowd, struct peer *peer,
                              const char *queue, uint64_t depth, uint64_t in_flight,
                              uint32_t consumers);

/* Waits until a fresh connection gets a message confirmed in `queue`; fails the test after the
 * time. */
void fixture_wait_service(struct fixture *fixture, const char *queue, unsigned timeout_ms);

/* Fails the test, naming the call and the reason, unless `code` is what is expected. */
void fixture_expect(struct fixture *fixture, int code, int expected, const char *call,
                    const char *file, int line);

#define MUST(fixture, call) fixture_expect(fixture, call, 0, #call, __FILE__, __LINE__)
#define MUST_GIVE(fixture, code, call)                                                             \
    fixture_expect(fixture, call, code, #call, __FILE__, __LINE__)

/* A row of tests: with a broker that runs, and with a configuration for one that does not yet. */
#define WITH_BROKER(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
#define WITH_CONF(test)                                                                            \
    cmocka_unit_test_setup_teardown(test, fixture_setup_stopped, fixture_teardown)

#endif
