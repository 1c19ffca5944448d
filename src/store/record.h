/*
 * record - keys and values of a queue's B-tree. All integers big-endian, so that a cursor walks
 * keys in numeric order.
 *
 *   K lane(8)          what a lane is: weight, fairness key, throttle keys
 *   L seq(8)           a delivery batch: when its leases expire, and their positions
 *   R lane(8) seq(8)   a ready or leased message
 *
 * ('D' and 'P' are kept for delayed messages and for payloads stored apart.)
 *
 * Numbers: lane and seq are epoch(24 bits).counter(40 bits); the epoch is the catalog's.
 *
 * To change a value's layout: raise its version byte, keep the reader of the old version, and write
 * the new one; a value is rewritten when its message moves (retry, expiry). A change that old
 * programs must not misread raises CATALOG_VERSION as well. To change a key's layout, take another
 * tag.
 */
#ifndef FILAD_STORE_RECORD_H
#define FILAD_STORE_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/bytes.h"
#include "core/str.h"
#include "core/uuid.h"

#define RECORD_TAG_LANE 'K'
#define RECORD_TAG_LEASES 'L'
#define RECORD_TAG_MESSAGE 'R'

#define RECORD_LANE_KEY_SIZE 9
#define RECORD_LEASES_KEY_SIZE 9
#define RECORD_MESSAGE_KEY_SIZE 17
#define RECORD_KEY_MAX 17

#define RECORD_COUNTER_BITS 40
#define RECORD_COUNTER_MASK ((UINT64_C(1) << RECORD_COUNTER_BITS) - 1)

/* --- keys --- */

static inline void record_lane_key(uint8_t key[RECORD_LANE_KEY_SIZE], uint64_t lane)
{
    key[0] = RECORD_TAG_LANE;
    bytes_put_u64(key + 1, lane);
}

static inline void record_leases_key(uint8_t key[RECORD_LEASES_KEY_SIZE], uint64_t seq)
{
    key[0] = RECORD_TAG_LEASES;
    bytes_put_u64(key + 1, seq);
}

static inline void record_message_key(uint8_t key[RECORD_MESSAGE_KEY_SIZE], uint64_t lane,
                                      uint64_t seq)
{
    key[0] = RECORD_TAG_MESSAGE;
    bytes_put_u64(key + 1, lane);
    bytes_put_u64(key + 9, seq);
}

/* --- a message
 * Version 1, RECORD_MESSAGE_HEADER bytes, then the body up to the end of the value:
 *   u8 version, u8 flags (0), u16 zero, u32 attempt, u32 weight, u32 zero, u64 enqueued_ms, id(16)
 */

#define RECORD_MESSAGE_VERSION 1
#define RECORD_MESSAGE_HEADER 40

struct record_message {
    struct uuid id;
    uint32_t attempt;     /* times it was nacked or its lease expired */
    uint32_t weight;      /* as the hooks gave it; what a delivery shows */
    uint64_t enqueued_ms; /* wall clock */
    struct str body;      /* wire bytes of `map headers` `bytes payload` */
};

/* Writes the header; the body is the caller's matter. */
void record_message_header(uint8_t header[RECORD_MESSAGE_HEADER],
                           const struct record_message *message);
/* False when the value is no message of a version known here. `body` points into `value`. */
bool record_message_parse(struct str value, struct record_message *message);
/* Patches the attempt of a whole value in place. */
void record_message_set_attempt(uint8_t *value, uint32_t attempt);

/* --- a lane
 * Version 1: u8 version, u8 zero, u16 throttle keys, u32 weight, u16 size + fairness key, then per
 * throttle key u16 size + bytes. */

#define RECORD_LANE_VERSION 1
#define RECORD_KEY_BYTES_MAX 1024 /* of a fairness or throttle key */
#define RECORD_THROTTLE_KEYS_MAX 64

struct record_lane {
    uint32_t weight;
    struct str fairness_key;
    uint16_t throttle_count;
    struct str throttle_keys; /* as stored: throttle_count times u16 size + bytes */
};

void record_lane_append(struct buf *out, const struct record_lane *lane);
bool record_lane_parse(struct str value, struct record_lane *lane);

/* Takes the first key off a slice of throttle keys that record_lane_parse has accepted. */
struct str record_throttle_next(struct str *keys);

/* --- a delivery batch
 * Version 1: u8 version, u8 zero, u16 positions, u32 zero, u64 expires_ms (wall clock), then per
 * position u64 lane, u64 seq. */

#define RECORD_LEASES_VERSION 1
#define RECORD_LEASES_HEADER 16
#define RECORD_POSITION_SIZE 16
#define RECORD_LEASES_MAX 1024 /* positions in one batch */

struct record_leases {
    uint64_t expires_ms;
    uint16_t count;
    const uint8_t *positions;
};

void record_leases_header(uint8_t header[RECORD_LEASES_HEADER], uint16_t count,
                          uint64_t expires_ms);
bool record_leases_parse(struct str value, struct record_leases *leases);
void record_leases_position(const struct record_leases *leases, unsigned index, uint64_t *lane,
                            uint64_t *seq);

#endif
