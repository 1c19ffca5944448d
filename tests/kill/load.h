/*
 * load - the clients that work on the broker while its processes are killed: producers with several
 * frames in flight, consumers that ack most, nack some, forget some and leave at random, and a
 * prober that sends one message at a time and measures how long nothing is confirmed. Everything
 * they see goes to the journal.
 */
#ifndef FILAD_KILL_LOAD_H
#define FILAD_KILL_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "kill/driver.h"
#include "kill/journal.h"

struct load_options {
    struct driver *driver;
    struct journal *journal;
    const struct journal_queue *queues;
    unsigned queue_count;
    unsigned producers; /* beside the prober; the journal needs producers + 1 */
    unsigned
        consumers; /* of the queues that are not ordered; each ordered queue has one of its own */
    unsigned rate; /* messages a second of all producers together; 0: no limit */
    unsigned backlog; /* producers pause while so many confirmed messages are not acked; 0: never */
    unsigned payload_max; /* bytes of most payloads at most; one in 100 is up to 20 KiB */
    unsigned
        answer_limit_ms; /* an answer that takes longer on a living connection is a violation */
    uint64_t seed;
};

struct load;

struct load *load_create(const struct load_options *options);
/* All clients must have been stopped. */
void load_destroy(struct load *load);

void load_start_producers(struct load *load);
void load_stop_producers(struct load *load); /* waits until they are gone */
/* `drain`: they ack everything at once and stay until stopped. */
void load_start_consumers(struct load *load, bool drain);
void load_stop_consumers(struct load *load);

/* Outage: begins to measure; the longest time without a confirmation for the prober since then, in
 * nanoseconds (including the present moment); confirmations it got since then. */
void load_outage_begin(struct load *load);
uint64_t load_outage(struct load *load, unsigned *confirmed);

#endif
