/*
 * framed - the server's half of the framed codec: requests are decoded, answers encoded. Decoders
 * work on a wire_reader over the frame's body, allocate nothing and hand out slices of it; on
 * failure the reader says which field and why (wire_describe), which belongs into Error
 * InvalidFrame. Bytes behind the last field are ignored, as the protocol's extension rule wants it.
 *
 * Encoders append whole frames to a buffer; what they return -1 for (no memory, a string that does
 * not fit its length field) leaves the buffer as it was. `max_length` is the peer's largest frame:
 * longer answers are split into CONTINUATION frames. `numbering`: the peer's, for the frames whose
 * number depends on it.
 */
#ifndef FILAD_FIBP_FRAMED_H
#define FILAD_FIBP_FRAMED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/str.h"
#include "core/uuid.h"
#include "fibp/frame.h"
#include "fibp/numbering.h"
#include "fibp/opcode.h"
#include "fibp/status.h"
#include "fibp/wire.h"

#define FRAMED_CHECK __attribute__((warn_unused_result))

/* ---- control ---- */

struct framed_handshake {
    uint16_t version;
    bool has_api_key;
    struct str api_key;
};

bool framed_handshake(struct wire_reader *reader, struct framed_handshake *request) FRAMED_CHECK;

/* HandshakeOk always carries request_id 0. `node_id`: 0 without a cluster. */
int framed_handshake_ok(struct buf *buf, uint16_t version, uint64_t node_id,
                        uint32_t max_frame_size) FRAMED_CHECK;

/* An Error frame. `text` is cut to what fits, on a character boundary; when it is empty the status'
 * own text is used. Metadata pairs may be NULL with count 0. */
int framed_error(struct buf *buf, uint32_t request_id, enum fibp_status status, struct str text,
                 const struct wire_pair *metadata, size_t metadata_count) FRAMED_CHECK;

/* ---- hot path: requests as iterators ---- */

struct framed_enqueue_item {
    struct str queue;
    struct str record;  /* `map headers` and `bytes payload` exactly as in the frame: what the store
                         * keeps and a Delivery repeats */
    struct str headers; /* the map with its count: the first part of record */
    uint16_t header_count;
    struct str payload; /* the last part of record */
};

struct framed_ack_item {
    struct str queue;
    struct str message_id; /* text as sent; one that is no UUID is a message that is not found */
};

struct framed_nack_item {
    struct str queue;
    struct str message_id;
    struct str error;
};

/* Read the count, then call _next exactly `count` times. Each item is bounded and its strings are
 * valid UTF-8 when _next returns true. */
bool framed_enqueue_begin(struct wire_reader *reader, uint32_t *count) FRAMED_CHECK;
bool framed_enqueue_next(struct wire_reader *reader, struct framed_enqueue_item *item) FRAMED_CHECK;
bool framed_ack_begin(struct wire_reader *reader, uint32_t *count) FRAMED_CHECK;
bool framed_ack_next(struct wire_reader *reader, struct framed_ack_item *item) FRAMED_CHECK;
bool framed_nack_begin(struct wire_reader *reader, uint32_t *count) FRAMED_CHECK;
bool framed_nack_next(struct wire_reader *reader, struct framed_nack_item *item) FRAMED_CHECK;

/* As _begin, and every item is checked before anything of the frame is executed. On true the reader
 * stands before the first item and the second pass over the items does not repeat the UTF-8 checks
 * and cannot fail. */
bool framed_enqueue_check(struct wire_reader *reader, uint32_t *count) FRAMED_CHECK;
bool framed_ack_check(struct wire_reader *reader, uint32_t *count) FRAMED_CHECK;
bool framed_nack_check(struct wire_reader *reader, uint32_t *count) FRAMED_CHECK;

/* The value of header `name` in a map that was validated (item.headers, or the front of a record);
 * the last of duplicates wins. False when there is none. Safe on any bytes. */
bool framed_headers_find(struct str map, struct str name, struct str *value);

/* Takes a stored record apart again; false when the bytes are no record (nothing follows the
 * payload in a record). UTF-8 is not checked. */
bool framed_record_split(struct str record, struct str *headers, struct str *payload) FRAMED_CHECK;

struct framed_consume {
    struct str queue;
    uint32_t limit; /* messages that may be delivered on the subscription, ever; 0: no limit */
};

/* `str queue`, and when exactly eight bytes follow that start with FRAMED_CONSUME_LIMIT, `u32
 * limit`: a field appended by this server and its clients (spec/fibp.md A3), marked so that nobody
 * else's field is taken for it. Anything else behind the name is ignored. */
#define FRAMED_CONSUME_LIMIT 0x66696c61u /* "fila" */
bool framed_consume(struct wire_reader *reader, struct framed_consume *request) FRAMED_CHECK;

struct framed_cancel {
    struct str consumer_id; /* the id from ConsumeOk, as text; empty: the request_id says which */
};

/* Both forms: an empty body, or `str consumer_id`. What else is there are fields behind the last
 * one, which are ignored; only what must be an Ack of S2 fails. */
bool framed_cancel(struct wire_reader *reader, struct framed_cancel *request) FRAMED_CHECK;

/* ---- hot path: answers ---- */

/* Returns the offset to pass to frame_end; then call _add `count` times. */
size_t framed_enqueue_result_begin(struct buf *buf, uint32_t request_id, uint32_t count);
/* `id` is used with FIBP_OK only and may be NULL otherwise. */
void framed_enqueue_result_add(struct buf *buf, enum fibp_status status, const struct uuid *id);

/* One that is refused with words, which stand in the place of its id (cut to fit). */
void framed_enqueue_result_reject(struct buf *buf, enum fibp_status status, struct str reason);

/* `opcode`: OPCODE_ACK_RESULT or OPCODE_NACK_RESULT. */
size_t framed_ack_result_begin(struct buf *buf, enum numbering numbering, enum opcode opcode,
                               uint32_t request_id, uint32_t count);
void framed_ack_result_add(struct buf *buf, enum fibp_status status);

/* Appends nothing in NUMBERING_S1, which has no such answer. */
int framed_consume_ok(struct buf *buf, enum numbering numbering, uint32_t request_id,
                      const struct uuid *consumer_id) FRAMED_CHECK;

struct framed_delivery_item {
    struct uuid id;
    struct str queue;
    struct str record; /* as framed_enqueue_item.record, copied verbatim; or its beginning */
    uint64_t rest;     /* bytes of it that follow and are the caller's to fill in */
    struct str fairness_key;
    uint32_t weight;
    const struct str *throttle_keys;
    uint16_t throttle_key_count;
    uint32_t attempt;     /* 0 on first delivery */
    uint64_t enqueued_ms; /* wall clock, since 1970 */
    uint64_t leased_ms;
};

/* Bytes that the item takes in a Delivery frame, and how many of them stand before its `rest`. */
size_t framed_delivery_item_size(const struct framed_delivery_item *item);
size_t framed_delivery_item_head(const struct framed_delivery_item *item);

/* The count is not known in advance: pass it to _end. An _add that fails (no memory, a string over
 * 65,535 bytes) returns -1 and leaves the frame without that item. */
size_t framed_delivery_begin(struct buf *buf, enum numbering numbering, uint32_t request_id);
int framed_delivery_add(struct buf *buf, const struct framed_delivery_item *item) FRAMED_CHECK;
int framed_delivery_end(struct buf *buf, size_t start, uint32_t count,
                        uint32_t max_length) FRAMED_CHECK;

/* ---- administration: requests ---- */

struct framed_create_queue {
    struct str name;
    bool has_on_enqueue, has_on_failure;
    struct str on_enqueue, on_failure; /* Lua source */
    uint64_t visibility_timeout_ms;    /* 0: the default */
};

struct framed_create_api_key {
    struct str name;
    uint64_t expires_at_ms; /* 0: never */
    bool is_superadmin;
};

struct framed_permission {
    struct str kind; /* produce, consume or admin; not checked here */
    struct str pattern;
};

bool framed_create_queue(struct wire_reader *reader,
                         struct framed_create_queue *request) FRAMED_CHECK;
bool framed_delete_queue(struct wire_reader *reader, struct str *queue) FRAMED_CHECK;
bool framed_get_stats(struct wire_reader *reader, struct str *queue) FRAMED_CHECK;
bool framed_set_config(struct wire_reader *reader, struct str *key, struct str *value) FRAMED_CHECK;
bool framed_get_config(struct wire_reader *reader, struct str *key) FRAMED_CHECK;
bool framed_list_config(struct wire_reader *reader, struct str *prefix) FRAMED_CHECK;
/* `limit`: how many messages to move; 0: all. */
bool framed_redrive(struct wire_reader *reader, struct str *queue, uint64_t *limit) FRAMED_CHECK;
bool framed_purge(struct wire_reader *reader, struct str *queue) FRAMED_CHECK; /* extension */
bool framed_create_api_key(struct wire_reader *reader,
                           struct framed_create_api_key *request) FRAMED_CHECK;
bool framed_revoke_api_key(struct wire_reader *reader, struct str *key_id) FRAMED_CHECK;
bool framed_get_acl(struct wire_reader *reader, struct str *key_id) FRAMED_CHECK;
/* Checks all permissions; the reader then stands before the first: call _next `count` times. */
bool framed_set_acl(struct wire_reader *reader, struct str *key_id, uint16_t *count) FRAMED_CHECK;
bool framed_set_acl_next(struct wire_reader *reader,
                         struct framed_permission *permission) FRAMED_CHECK;
/* ListQueues and ListApiKeys ignore their whole body: there is nothing to decode. */

/* ---- administration: answers ---- */

/* What this server adds behind the last field of a request or answer begins with it. */
#define FRAMED_MARK 0x66696c61u /* "fila" */

/* Answers that carry nothing but a code: Delete, SetConfig, RevokeApiKey, SetAcl results. */
int framed_status_result(struct buf *buf, enum opcode opcode, uint32_t request_id,
                         enum fibp_status status) FRAMED_CHECK;
/* As framed_status_result, and for clients that know of it, since others ignore what follows the
 * last field: `u32 FRAMED_MARK` `str reason`, unless that is empty. */
int framed_reason_result(struct buf *buf, enum opcode opcode, uint32_t request_id,
                         enum fibp_status status, struct str reason) FRAMED_CHECK;
/* `queue_id`: the name; with FIBP_LUA_COMPILATION_ERROR the compiler's message (cut to fit). */
int framed_create_queue_result(struct buf *buf, uint32_t request_id, enum fibp_status status,
                               struct str queue_id) FRAMED_CHECK;
/* A key that is not set: FIBP_OK and an empty value. */
int framed_get_config_result(struct buf *buf, uint32_t request_id, enum fibp_status status,
                             struct str value) FRAMED_CHECK;
int framed_redrive_result(struct buf *buf, uint32_t request_id, enum fibp_status status,
                          uint64_t moved) FRAMED_CHECK;
int framed_purge_result(struct buf *buf, uint32_t request_id, enum fibp_status status,
                        uint64_t purged) FRAMED_CHECK;
int framed_create_api_key_result(struct buf *buf, uint32_t request_id, enum fibp_status status,
                                 struct str key_id, struct str key,
                                 bool is_superadmin) FRAMED_CHECK;

/* Answers with a list whose length is found while it is written: _begin, _add for each entry,
 * framed_list_end. Entries beyond 65,535 are left out (the count field is a u16). An _add or _begin
 * that fails shows in framed_list_end, which returns -1 and takes the frame back. */
struct framed_list {
    size_t start;    /* offset of the frame in the buffer */
    size_t count_at; /* offset of the u16 count */
    uint16_t count;
};

/* For the encoders: begins the (next) list, ends it without ending the frame, makes room for an
 * entry: false when the list is full and the entry has to be left out. */
void framed_list_open(struct buf *buf, struct framed_list *list);
void framed_list_close(struct buf *buf, struct framed_list *list);
bool framed_list_grow(struct framed_list *list) FRAMED_CHECK;

int framed_list_end(struct buf *buf, struct framed_list *list, uint32_t max_length) FRAMED_CHECK;

struct framed_queue_info {
    struct str name;
    uint64_t depth, in_flight;
    uint32_t active_consumers;
    uint64_t leader_node_id; /* 0 without a cluster */
};

void framed_list_queues_begin(struct buf *buf, uint32_t request_id, enum fibp_status status,
                              uint32_t cluster_node_count, struct framed_list *list);
void framed_list_queues_add(struct buf *buf, struct framed_list *list,
                            const struct framed_queue_info *queue);

/* What the numbers of a queue are worth: bytes of this server behind the last field of
 * ListQueuesResult and GetStatsResult, which others ignore (spec/fibp.md A3). `u32
 * FRAMED_COUNTED_MARK`, then a u8 for each queue of the answer, in its order: the share of the
 * messages from before a crash that depth and pending include already, in percent. They are there
 * only when one of them is not FRAMED_COUNTED_ALL. */
#define FRAMED_COUNTED_MARK FRAMED_MARK
#define FRAMED_COUNTED_ALL 100u
#define FRAMED_COUNTED_PAUSED 0x80u    /* or'ed to the share: nothing is delivered */
#define FRAMED_COUNTED_QUARANTINE 255u /* nothing is known: its database was set aside */

/* Call _begin behind the last entry, then _add once for each queue, before framed_list_end. */
void framed_counted_begin(struct buf *buf);
void framed_counted_add(struct buf *buf, uint8_t counted);

struct framed_stats {
    uint64_t depth, in_flight, active_fairness_keys;
    uint32_t active_consumers, quantum;
    uint64_t leader_node_id;
    uint32_t replication_count;
};

struct framed_key_stats {
    struct str key;
    uint64_t pending;
    int64_t deficit;
    uint32_t weight;
};

struct framed_throttle_stats {
    struct str key;
    double tokens, rate_per_second, burst;
};

/* First all fairness keys, then framed_stats_throttles, then all throttle keys, then
 * framed_list_end. */
void framed_stats_begin(struct buf *buf, uint32_t request_id, enum fibp_status status,
                        const struct framed_stats *stats, struct framed_list *list);
void framed_stats_add_key(struct buf *buf, struct framed_list *list,
                          const struct framed_key_stats *key);
void framed_stats_throttles(struct buf *buf, struct framed_list *list);
void framed_stats_add_throttle(struct buf *buf, struct framed_list *list,
                               const struct framed_throttle_stats *throttle);

void framed_list_config_begin(struct buf *buf, uint32_t request_id, enum fibp_status status,
                              struct framed_list *list);
void framed_list_config_add(struct buf *buf, struct framed_list *list, struct str key,
                            struct str value);

struct framed_api_key_info {
    struct str key_id, name;
    uint64_t created_at_ms, expires_at_ms;
    bool is_superadmin;
};

void framed_list_api_keys_begin(struct buf *buf, uint32_t request_id, enum fibp_status status,
                                struct framed_list *list);
void framed_list_api_keys_add(struct buf *buf, struct framed_list *list,
                              const struct framed_api_key_info *key);

void framed_get_acl_begin(struct buf *buf, uint32_t request_id, enum fibp_status status,
                          struct str key_id, bool is_superadmin, struct framed_list *list);
void framed_get_acl_add(struct buf *buf, struct framed_list *list,
                        const struct framed_permission *permission);

#endif
