/*
 * record - keys and values of a queue's B-tree. All integers big-endian, so that a cursor walks
 * keys in numeric order.
 *
 *   D due_ms(8) seq(8) a delayed message, by the wall clock
 *   K lane(8)          what a lane is: weight, fairness key, throttle keys
 *   L seq(8)           a delivery batch: when its leases expire, and their positions
 *   O id(16)           a marker: chunks of message `id` are being written or removed, by whom
 *   P id(16) chunk(4)  a part of a message that is stored apart, numbered from 0
 *   R lane(8) seq(8)   a ready or leased message
 *
 * A message whose payload is large has only its beginning in R; the rest is in P, written before
 * and removed after the transaction of R. While there are chunks of a message that no R refers to
 * there is a marker for it, and who changes such chunks has read the marker in the same transaction
 * (store/chunks). So the markers name what a crash leaves behind.
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

#define RECORD_TAG_DELAYED 'D'
#define RECORD_TAG_LANE 'K'
#define RECORD_TAG_LEASES 'L'
#define RECORD_TAG_MARKER 'O'
#define RECORD_TAG_CHUNK 'P'
#define RECORD_TAG_MESSAGE 'R'

#define RECORD_DELAYED_KEY_SIZE 17
#define RECORD_LANE_KEY_SIZE 9
#define RECORD_LEASES_KEY_SIZE 9
#define RECORD_MARKER_KEY_SIZE 17
#define RECORD_CHUNK_KEY_SIZE 21
#define RECORD_MESSAGE_KEY_SIZE 17
#define RECORD_KEY_MAX 21

#define RECORD_COUNTER_BITS 40
#define RECORD_COUNTER_MASK ((UINT64_C(1) << RECORD_COUNTER_BITS) - 1)

/* --- keys --- */

static inline void record_delayed_key(uint8_t key[RECORD_DELAYED_KEY_SIZE], uint64_t due_ms,
                                      uint64_t seq)
{
    key[0] = RECORD_TAG_DELAYED;
    bytes_put_u64(key + 1, due_ms);
    bytes_put_u64(key + 9, seq);
}

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

static inline void record_marker_key(uint8_t key[RECORD_MARKER_KEY_SIZE], const struct uuid *id)
{
    key[0] = RECORD_TAG_MARKER;
    memcpy(key + 1, id->bytes, UUID_SIZE);
}

static inline void record_chunk_key(uint8_t key[RECORD_CHUNK_KEY_SIZE], const struct uuid *id,
                                    uint32_t chunk)
{
    key[0] = RECORD_TAG_CHUNK;
    memcpy(key + 1, id->bytes, UUID_SIZE);
    bytes_put_u32(key + 1 + UUID_SIZE, chunk);
}

/* --- a message
 * Version 1, RECORD_MESSAGE_HEADER bytes, then the body up to the end of the value:
 *   u8 version, u8 flags, u16 zero, u32 attempt, u32 weight, u32 zero, u64 enqueued_ms, id(16)
 * With RECORD_MESSAGE_APART among the flags (catalog version 2) a reference of
 * RECORD_MESSAGE_REFERENCE bytes stands between the header and the body, and the body in the value
 * is only the beginning; the bytes of all chunks, one after the other, are the rest:
 *   u64 bytes apart, u32 chunks, u32 zero
 * How long chunks are is the writer's choice, up to RECORD_CHUNK_MAX each.
 * With RECORD_MESSAGE_DEAD (catalog version 3) what is known of the dead-lettering stands in front
 * of the body:
 *   u64 dead_ms, u16 size of the reason, u16 size of the origin, u32 zero, reason, origin
 */

#define RECORD_MESSAGE_VERSION 1
#define RECORD_MESSAGE_APART 0x01
#define RECORD_MESSAGE_DEAD 0x02
#define RECORD_MESSAGE_HEADER 40
#define RECORD_MESSAGE_REFERENCE 16
#define RECORD_CHUNK_MAX (1u << 20)
#define RECORD_DEAD_HEADER 16
#define RECORD_DEAD_REASON_MAX 1024
#define RECORD_DEAD_ORIGIN_MAX 255

/* What is kept of a dead-lettering, beside the message. */
struct record_dead {
    uint64_t dead_ms;  /* when; wall clock */
    struct str reason; /* why, UTF-8; at most RECORD_DEAD_REASON_MAX bytes */
    struct str origin; /* name of the queue it came from; at most RECORD_DEAD_ORIGIN_MAX bytes */
};

struct record_message {
    struct uuid id;
    uint32_t attempt;     /* times it was nacked or its lease expired */
    uint32_t weight;      /* as the hooks gave it; what a delivery shows */
    uint64_t enqueued_ms; /* wall clock */
    struct str body;      /* wire bytes of `map headers` `bytes payload`, or their beginning */
    uint64_t apart;       /* bytes that follow `body` and are stored apart; 0: none */
    uint32_t chunks;      /* records that they are stored in */
    bool is_dead;         /* it was dead-lettered: `dead` is set */
    struct record_dead dead;
};

/* Writes the header, and the reference when there is something apart; returns how many bytes that
 * are. The body is the caller's matter, and so is what `dead` says. */
size_t record_message_header(uint8_t header[RECORD_MESSAGE_HEADER + RECORD_MESSAGE_REFERENCE],
                             const struct record_message *message);
/* False when the value is no message of a version and with flags known here. `body` and `dead`
 * point into `value`. */
bool record_message_parse(struct str value, struct record_message *message);
/* Its attempts after one failure more; they stop at the greatest number. */
static inline uint32_t record_message_next_attempt(const struct record_message *message)
{
    return message->attempt < UINT32_MAX ? message->attempt + 1 : UINT32_MAX;
}
/* Patches the attempt of a whole value in place. */
void record_message_set_attempt(uint8_t *value, uint32_t attempt);
/* Appends a copy of a value that was parsed as `message`, with `dead` in place of what it says of a
 * dead-lettering; NULL: without that. `dead` must keep its limits. */
void record_message_append(struct buf *out, struct str value, const struct record_message *message,
                           const struct record_dead *dead);

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

/* --- a delayed message (catalog version 3)
 * Version 1: u8 version, u8 zero, u16 zero, u32 size of the lane, the lane as in a K record, then
 * the message as in an R record up to the end of the value. It names no lane by number: its lane
 * need not exist before the message is due. Due times of UINT64_MAX are those of records that
 * cannot be read: they are kept and never due. */

#define RECORD_DELAYED_VERSION 1
#define RECORD_DELAYED_HEADER 8
#define RECORD_DELAYED_NEVER UINT64_MAX

struct record_delayed {
    struct record_lane lane;
    struct str value; /* as it stands in R when it is due */
    struct record_message message;
};

/* Appends what stands before the message. */
void record_delayed_begin(struct buf *out, const struct record_lane *lane);
/* False when it, its lane or its message are not of a kind known here. Slices point into `value`.
 */
bool record_delayed_parse(struct str value, struct record_delayed *delayed);

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

/* --- a marker
 * Version 1: u8 version, u8 thread, u16 slot, u32 epoch, u64 work. It is in force as long as that
 * thread of that process says in the zone, of that epoch, that it is at this work still
 * (sched/zone.h); otherwise its chunks have no owner. */

#define RECORD_MARKER_VERSION 1
#define RECORD_MARKER_SIZE 16

struct record_marker {
    uint64_t work;
    uint32_t epoch;
    uint16_t slot;
    uint8_t thread;
};

void record_marker_write(uint8_t value[RECORD_MARKER_SIZE], const struct record_marker *marker);
bool record_marker_parse(struct str value, struct record_marker *marker);

#endif
