/*
 * payload - the bytes of the checker's messages: who sent it, its number, filler that follows from
 * both, and a checksum, so that any damage is seen and every delivery is traced without its id.
 */
#ifndef FILAD_KILL_PAYLOAD_H
#define FILAD_KILL_PAYLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/str.h"

#define PAYLOAD_SIZE_MIN 32u

/* Replaces what is in `buf` by the payload of this message, of `size` bytes (at least the minimum).
 */
void payload_make(struct buf *buf, uint32_t producer, uint32_t sequence, uint32_t size);

/* False when a single bit is not as payload_make wrote it. */
bool payload_read(struct str payload, uint32_t *producer, uint32_t *sequence);

#endif
