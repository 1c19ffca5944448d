/*
 * framed_client - the client's half of the framed codec: requests are encoded, answers decoded. The
 * rules of fibp/framed.h hold here too: decoders allocate nothing and hand out slices of the frame,
 * encoders append whole frames and leave the buffer as it was when they return -1.
 */
#ifndef FILAD_FIBP_FRAMED_CLIENT_H
#define FILAD_FIBP_FRAMED_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/str.h"
#include "fibp/frame.h"
#include "fibp/framed.h"
#include "fibp/wire.h"

/* ---- requests ---- */

/* `api_key` may be NULL: no key. */
int framed_client_handshake(struct buf *buf, uint32_t request_id, uint16_t version,
                            const struct str *api_key) FRAMED_CHECK;

/* Requests with many items: _begin, the fitting _add `count` times, frame_end. */
size_t framed_client_batch_begin(struct buf *buf, enum opcode opcode, uint32_t request_id,
                                 uint32_t count);

struct framed_client_message {
    struct str queue;
    const struct wire_pair *headers;
    size_t header_count;
    struct str payload;
};

/* Bytes that the message takes in an Enqueue frame. */
size_t framed_client_message_size(const struct framed_client_message *message);
void framed_client_enqueue_add(struct buf *buf, const struct framed_client_message *message);
void framed_client_ack_add(struct buf *buf, struct str queue, struct str message_id);
void framed_client_nack_add(struct buf *buf, struct str queue, struct str message_id,
                            struct str error);

int framed_client_create_queue(struct buf *buf, uint32_t request_id,
                               const struct framed_create_queue *request) FRAMED_CHECK;
int framed_client_set_config(struct buf *buf, uint32_t request_id, struct str key,
                             struct str value) FRAMED_CHECK;
int framed_client_redrive(struct buf *buf, uint32_t request_id, struct str queue,
                          uint64_t limit) FRAMED_CHECK;
int framed_client_create_api_key(struct buf *buf, uint32_t request_id,
                                 const struct framed_create_api_key *request) FRAMED_CHECK;
int framed_client_set_acl(struct buf *buf, uint32_t request_id, struct str key_id,
                          const struct framed_permission *permissions, size_t count) FRAMED_CHECK;
/* `limit`: messages that are wanted at most, ever; 0: no limit. Servers that do not know the field
 * ignore it. */
int framed_client_consume(struct buf *buf, uint32_t request_id, struct str queue,
                          uint32_t limit) FRAMED_CHECK;
/* Requests that are one string: Consume without limit, DeleteQueue, GetStats, GetConfig,
 * ListConfig, RevokeApiKey, GetAcl, and CancelConsume by consumer id. Those without payload are
 * frame_empty().
 */
int framed_client_text(struct buf *buf, enum opcode opcode, uint32_t request_id,
                       struct str text) FRAMED_CHECK;

/* ---- answers ---- */

struct framed_client_handshake_ok {
    uint16_t version;
    uint64_t node_id;
    uint32_t max_frame_size; /* never 0: the protocol's default stands in for it */
};

bool framed_client_handshake_ok(struct wire_reader *reader,
                                struct framed_client_handshake_ok *answer) FRAMED_CHECK;

struct framed_client_error {
    enum fibp_status status;
    uint8_t code; /* as on the wire */
    struct str text;
    uint16_t pair_count; /* read that many with framed_client_error_pair */
};

/* Checks the whole metadata map; the reader then stands before its first pair. */
bool framed_client_error(struct wire_reader *reader,
                         struct framed_client_error *answer) FRAMED_CHECK;
bool framed_client_error_pair(struct wire_reader *reader, struct wire_pair *pair) FRAMED_CHECK;

struct framed_client_result {
    uint8_t code;          /* as on the wire */
    struct str message_id; /* Enqueue only; may be an explanation when code is not 0 */
};

/* Counts of EnqueueResult, Ack- and NackResult and Delivery; then the fitting _next `count` times.
 */
bool framed_client_enqueue_result_begin(struct wire_reader *reader, uint32_t *count) FRAMED_CHECK;
bool framed_client_enqueue_result_next(struct wire_reader *reader,
                                       struct framed_client_result *result) FRAMED_CHECK;
bool framed_client_ack_result_begin(struct wire_reader *reader, uint32_t *count) FRAMED_CHECK;
bool framed_client_ack_result_next(struct wire_reader *reader, uint8_t *code) FRAMED_CHECK;

bool framed_client_consume_ok(struct wire_reader *reader, struct str *consumer_id) FRAMED_CHECK;

struct framed_client_delivery {
    struct str message_id;
    struct str queue;
    struct str headers; /* the map with its count, checked */
    uint16_t header_count;
    struct str payload;
    struct str fairness_key;
    uint32_t weight;
    struct str throttle_keys; /* the list with its count, checked */
    uint16_t throttle_key_count;
    uint32_t attempt;
    uint64_t enqueued_ms, leased_ms;
};

bool framed_client_delivery_begin(struct wire_reader *reader, uint32_t *count) FRAMED_CHECK;
bool framed_client_delivery_next(struct wire_reader *reader,
                                 struct framed_client_delivery *delivery) FRAMED_CHECK;

/* The code that every administrative result starts with. Read it first; what follows is there also
 * when it is not 0 (with empty values), but an old server may leave it out. */
bool framed_client_code(struct wire_reader *reader, uint8_t *code) FRAMED_CHECK;

/* The reason that may follow a result's last field (framed.h); empty when there is none. */
void framed_client_reason(struct wire_reader *reader, struct str *reason);

/* The rest of CreateQueueResult (queue_id) and GetConfigResult (value). */
bool framed_client_text_result(struct wire_reader *reader, struct str *text) FRAMED_CHECK;
/* Of PurgeQueue as well. */
bool framed_client_redrive_result(struct wire_reader *reader, uint64_t *moved) FRAMED_CHECK;
bool framed_client_create_api_key_result(struct wire_reader *reader, struct str *key_id,
                                         struct str *key, bool *is_superadmin) FRAMED_CHECK;

bool framed_client_list_queues_begin(struct wire_reader *reader, uint32_t *cluster_node_count,
                                     uint16_t *count) FRAMED_CHECK;
bool framed_client_list_queues_next(struct wire_reader *reader,
                                    struct framed_queue_info *queue) FRAMED_CHECK;

/* The keys follow the numbers, then a second count, then the throttle keys. */
bool framed_client_stats_begin(struct wire_reader *reader, struct framed_stats *stats,
                               uint16_t *key_count) FRAMED_CHECK;
bool framed_client_stats_key_next(struct wire_reader *reader,
                                  struct framed_key_stats *key) FRAMED_CHECK;
bool framed_client_stats_throttles(struct wire_reader *reader, uint16_t *count) FRAMED_CHECK;
bool framed_client_stats_throttle_next(struct wire_reader *reader,
                                       struct framed_throttle_stats *throttle) FRAMED_CHECK;

/* What follows the last entry of ListQueuesResult and GetStatsResult, if anything does:
 * (*counted).size is `count`, with a byte per queue (framed.h), or 0 when the server says nothing
 * about them: all are counted then. */
void framed_client_counted(struct wire_reader *reader, size_t count, struct str *counted);

bool framed_client_list_config_begin(struct wire_reader *reader, uint16_t *count) FRAMED_CHECK;
bool framed_client_list_config_next(struct wire_reader *reader,
                                    struct wire_pair *entry) FRAMED_CHECK;
bool framed_client_list_api_keys_begin(struct wire_reader *reader, uint16_t *count) FRAMED_CHECK;
bool framed_client_list_api_keys_next(struct wire_reader *reader,
                                      struct framed_api_key_info *key) FRAMED_CHECK;
bool framed_client_get_acl_begin(struct wire_reader *reader, struct str *key_id,
                                 bool *is_superadmin, uint16_t *count) FRAMED_CHECK;
bool framed_client_get_acl_next(struct wire_reader *reader,
                                struct framed_permission *permission) FRAMED_CHECK;

#endif
