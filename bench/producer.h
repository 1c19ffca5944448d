/*
 * producer - keeps a number of Enqueue frames in flight on one connection. Frames are encoded once;
 * only the number at the start of each payload and the fairness key change. Each message has to be
 * confirmed with code 0 by the answer to its frame.
 */
#ifndef FILAD_BENCH_PRODUCER_H
#define FILAD_BENCH_PRODUCER_H

#include <stdint.h>

#include "client.h"

#define PRODUCER_PAYLOAD 1024 /* bytes that most workloads send */

struct producer_options {
    const char *queue;
    uint32_t window;  /* frames in flight */
    uint32_t batch;   /* messages of a frame */
    uint32_t payload; /* bytes, at least 8: the first 8 are the message's number, big-endian */
    uint32_t keys;    /* fairness keys that the messages go round in; 0: no key at all */
    bool weighted;    /* the weight of a key is its number plus one; at most 9 keys then */
    uint64_t first;   /* number of the first message ... */
    uint64_t stride;  /* ... and from each to the next; 0: 1 */
};

struct producer;

/* The client stays the caller's. */
struct producer *producer_create(struct client *client, const struct producer_options *options,
                                 struct err *err) __attribute__((warn_unused_result));
void producer_destroy(struct producer *producer); /* NULL is fine */

/* Sends as many frames as the window has room for, up to `limit` messages in all (a multiple of the
 * batch), and takes in all answers that are there; with `wait` it waits for the first one. Returns
 * at once when nothing is in flight. */
int producer_step(struct producer *producer, uint64_t limit, bool wait, struct err *err)
    __attribute__((warn_unused_result));

/* Messages sent, and messages confirmed so far. */
uint64_t producer_sent(const struct producer *producer);
uint64_t producer_confirmed(const struct producer *producer);

/* Enqueues `messages` (a multiple of 100) as fast as that goes; window and batch of `options` do
 * not matter. */
int producer_preload(struct client *client, const struct producer_options *options,
                     uint64_t messages, struct err *err) __attribute__((warn_unused_result));

#endif
