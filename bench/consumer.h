/*
 * consumer - consumes a queue on one connection and acks every message, in frames of up to 100 as
 * deliveries come. Every delivery is entered in a ledger, every ack has to be confirmed with code
 * 0.
 */
#ifndef FILAD_BENCH_CONSUMER_H
#define FILAD_BENCH_CONSUMER_H

#include "client.h"
#include "ledger.h"

struct consumer_options {
    const char *queue;
    uint32_t payload;      /* bytes that each message must have; the first 8 are its number */
    struct ledger *ledger; /* borrowed; numbers that come twice are failures */
    /* Is told of every delivery when it is not NULL. */
    void (*delivered)(void *context, const struct framed_client_delivery *delivery);
    void *context;
};

struct consumer;

/* The client stays the caller's. */
struct consumer *consumer_create(struct client *client, const struct consumer_options *options,
                                 struct err *err) __attribute__((warn_unused_result));
void consumer_destroy(struct consumer *consumer); /* NULL is fine */

/* Sends the Consume request, waits for its answer and acks what was delivered along with it. */
int consumer_begin(struct consumer *consumer, struct err *err) __attribute__((warn_unused_result));

/* Waits for something, takes in all that came with it and answers deliveries with acks. */
int consumer_step(struct consumer *consumer, struct err *err) __attribute__((warn_unused_result));

/* Messages received, and messages whose ack is confirmed so far. */
uint64_t consumer_delivered(const struct consumer *consumer);
uint64_t consumer_acked(const struct consumer *consumer);

#endif
