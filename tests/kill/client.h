/*
 * client - what producers and consumers of the load have in common: a connection that comes and
 * goes, and the requests on it that are not answered yet. Internal to the load.
 */
#ifndef FILAD_KILL_CLIENT_H
#define FILAD_KILL_CLIENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "kill/driver.h"
#include "kill/journal.h"
#include "kill/load.h"

#define CLIENT_BATCH 50u    /* messages or acks in one frame */
#define CLIENT_REQUESTS 32u /* open at a time */

enum client_request_kind { CLIENT_FREE, CLIENT_ENQUEUE, CLIENT_ACK, CLIENT_NACK, CLIENT_CONSUME };

struct client_request {
    enum client_request_kind kind;
    uint32_t number;
    uint64_t sent_ns;
    unsigned count;
    struct journal_ref refs[CLIENT_BATCH];
};

/* What the clients of a load share. */
struct load_shared {
    struct load_options options;
    atomic_bool stop_producers, stop_consumers;
    atomic_bool drain;
    _Atomic uint64_t probe_last_ns; /* last confirmation for the prober */
    _Atomic uint64_t probe_gap_ns;  /* longest gap that has ended */
    _Atomic uint32_t probe_count;
};

struct client {
    struct load_shared *shared;
    unsigned index;  /* which producer or consumer: the number in the journal */
    uint64_t random; /* state of the generator */
    pthread_t thread;
    bool running;

    struct driver_connection *connection; /* NULL: none at present */
    uint32_t connection_number;
    uint64_t connected_ns;
    struct client_request requests[CLIENT_REQUESTS];
};

void client_init(struct client *client, struct load_shared *shared, unsigned index, uint64_t seed);

/* 0 to below - 1. */
uint32_t client_random(struct client *client, uint32_t below);

/* True when there is a connection; tries once, and waits a few milliseconds when that fails. */
bool client_connected(struct client *client);

/* Gives the connection up: whatever is open will never be answered. */
void client_close(struct client *client, bool politely);

/* A free entry, NULL when too many are open. */
struct client_request *client_request(struct client *client);
unsigned client_open(const struct client *client);

/* Settles the request that `event` answers in the journal; NULL when it is none of ours. The entry
 * is free then, its content readable until the next request. */
const struct client_request *client_settle(struct client *client, const struct driver_event *event);

/* Reports requests that were not answered in time and gives the connection up. */
void client_check_overdue(struct client *client);

void client_sleep(unsigned ms);

void *producer_main(void *argument); /* struct client * */
void *prober_main(void *argument);
void *consumer_main(void *argument); /* struct consumer * */

#define CONSUMER_LATE 256u

struct consumer {
    struct client client;
    unsigned queues[8]; /* subscriptions */
    unsigned queue_count;
    bool ordered; /* the only consumer of its queue: never leaves by itself */
    struct {
        uint64_t due_ns;
        struct journal_ref ref;
    } late[CONSUMER_LATE]; /* to be acked later */
    unsigned late_count;
};

#endif
