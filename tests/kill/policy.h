/*
 * policy - a run with everything switched on that decides when and whether a message is delivered:
 * scripts that delay, hold, reject, retry later and dead-letter, throttles, concurrency limits,
 * `max_attempts`, and redrives that never pause. What the scripts decide follows from the number of
 * a message and of its attempt, so that the checker knows it too.
 */
#ifndef FILAD_KILL_POLICY_H
#define FILAD_KILL_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "kill/driver.h"
#include "kill/journal.h"

/* Lines for the configuration: limits that no script of ours meets, however slow the machine is. */
extern const char policy_configuration[];

/* --- what the scripts decide --- */

/* The producer gets an error for the message. */
bool policy_rejects(uint32_t sequence);
/* Not delivered earlier after its enqueueing; 0: at once. Messages of ordered queues never wait. */
uint32_t policy_delay_ms(const struct journal_queue *queue, uint32_t sequence);
/* A nack that brings the attempts to this number: not delivered earlier after it. */
uint32_t policy_retry_delay_ms(uint32_t attempts);

/* --- on a broker that serves --- */

/* Creates the queue with its scripts and options. */
int policy_create_queue(struct driver *driver, const struct journal_queue *queue, struct err *err);
/* Sets the rates and limits. */
int policy_configure(struct driver *driver, struct err *err);

/* Moves dead letters back, queue after queue, until it is stopped. */
struct redriver;
struct redriver *redriver_start(struct driver *driver, const struct journal_queue *queues,
                                unsigned count);
/* How many redrives the broker has answered. NULL is fine, and nothing. */
uint64_t redriver_stop(struct redriver *redriver);

#endif
