/*
 * producer - keeps a number of Enqueue frames in flight on one connection. Frames are encoded once;
 * only the number at the start of each payload changes. Each message has to be confirmed with code
 * 0 by the answer to its frame.
 */
#ifndef FILAD_BENCH_PRODUCER_H
#define FILAD_BENCH_PRODUCER_H

#include <stdint.h>

#include "client.h"

#define PRODUCER_PAYLOAD 1024 /* bytes; the first 8 are the message's number, big-endian */

struct producer;

/* `window` frames of `batch` messages each; message numbers count from 0. The client stays the
 * caller's. */
struct producer *producer_create(struct client *client, const char *queue, uint32_t window,
                                 uint32_t batch, struct err *err)
    __attribute__((warn_unused_result));
void producer_destroy(struct producer *producer); /* NULL is fine */

/* Sends as many frames as the window has room for, up to `limit` messages in all (a multiple of the
 * batch), then waits until at least one frame is answered, and takes in all answers that came with
 * it. Returns at once when nothing is in flight. */
int producer_step(struct producer *producer, uint64_t limit, struct err *err)
    __attribute__((warn_unused_result));

/* Messages sent, and messages confirmed so far. */
uint64_t producer_sent(const struct producer *producer);
uint64_t producer_confirmed(const struct producer *producer);

/* Makes `queue` hold `messages` (a multiple of 100), as fast as that goes. */
int producer_preload(struct client *client, const char *queue, uint64_t messages, struct err *err)
    __attribute__((warn_unused_result));

#endif
