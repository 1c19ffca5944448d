/*
 * crowd - producers and consumers on connections of their own, driven by one thread: whatever has
 * something to read is stepped.
 */
#ifndef FILAD_BENCH_CROWD_H
#define FILAD_BENCH_CROWD_H

#include "consumer.h"
#include "producer.h"

#define CROWD_MAX 128 /* connections */

struct crowd {
    struct client *clients[CROWD_MAX]; /* owned: those of the producers, then of the consumers */
    struct producer *producers[CROWD_MAX];
    struct consumer *consumers[CROWD_MAX];
    unsigned producer_count, consumer_count;
    struct ledger ledger; /* of all consumers */
};

struct crowd_options {
    uint16_t port;
    unsigned producers, consumers;    /* CROWD_MAX at most, together */
    struct producer_options producer; /* first and stride are set here: numbers do not meet */
    struct consumer_options consumer; /* the ledger is the crowd's */
};

/* Connects everybody; the consumers are subscribed by crowd_consume. On failure crowd_close is due
 * as well. */
int crowd_open(struct crowd *crowd, const struct crowd_options *options, struct err *err)
    __attribute__((warn_unused_result));
int crowd_consume(struct crowd *crowd, struct err *err) __attribute__((warn_unused_result));
void crowd_close(struct crowd *crowd);

/* Waits until somebody has something to read and lets everybody who has take it in. With `produce`
 * producers go on sending, otherwise they only wait for their answers. */
int crowd_step(struct crowd *crowd, bool produce, struct err *err)
    __attribute__((warn_unused_result));

/* Messages, of all together. */
uint64_t crowd_sent(const struct crowd *crowd);
uint64_t crowd_confirmed(const struct crowd *crowd);
uint64_t crowd_delivered(const struct crowd *crowd);
uint64_t crowd_acked(const struct crowd *crowd);

#endif
