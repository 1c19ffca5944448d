/*
 * proof - the promises of a broker as checks on the history of one message. Each returns NULL or a
 * static text that says what is wrong; pure functions, no locking.
 *
 * Lease times travel in whole milliseconds, so comparisons with them allow PROOF_GRAIN_NS; there is
 * no other tolerance.
 */
#ifndef FILAD_KILL_PROOF_H
#define FILAD_KILL_PROOF_H

#include <stdbool.h>
#include <stdint.h>

#include "kill/message.h"

#define PROOF_GRAIN_NS 1500000u

/* The event at `index` is a delivery that was just recorded: it must not fall into the lease of
 * another one, unless a nack ended that. `visibility_ns`: of the queue. */
const char *proof_lease(const struct message *message, unsigned index, uint64_t visibility_ns);

/* Its attempt must be more than that of the delivery before, by no more than what nacks and expired
 * leases explain. */
/* `resets`: a redrive may have set it to 0 in between. */
const char *proof_attempt(const struct message *message, unsigned index, uint64_t visibility_ns,
                          bool resets);
/* By how much the attempts exceed what was seen; 0 when proof_attempt finds nothing. */
uint32_t proof_hidden(const struct message *message, unsigned index);

/* The delivery at `index` is not earlier than the delay of its message allows, nor than that of a
 * nack which was executed while its own delivery was the last one: `retry_delay_ms` tells the delay
 * by the number of attempts, the nacked one included. */
const char *proof_delay(const struct message *message, unsigned index, uint64_t delay_ns,
                        uint64_t visibility_ns, uint32_t (*retry_delay_ms)(uint32_t attempts));

/* No lease begins after an ack was confirmed. */
const char *proof_acked(const struct message *message);

/* The ack or nack at `index` was answered with "not found" although its lease must have been valid.
 */
const char *proof_refused(const struct message *message, unsigned index, uint64_t visibility_ns);

/* What must be true of the broker's store: the message is in it, may be in it, or is not. */
enum proof_existence { PROOF_GONE, PROOF_MAYBE, PROOF_THERE };
enum proof_existence proof_existence(const struct message *message);

#endif
