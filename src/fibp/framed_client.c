#include "fibp/framed_client.h"

#define RESULT_ITEM_MIN 3u
#define DELIVERY_ITEM_MIN 38u
#define QUEUE_INFO_MIN 30u
#define KEY_STATS_MIN 22u
#define THROTTLE_STATS_MIN 26u
#define CONFIG_ENTRY_MIN 4u
#define API_KEY_INFO_MIN 21u
#define PERMISSION_MIN 4u

/* Requests other than batches are small: the protocol's limit is the only one that matters. */
static int client_end(struct buf *buf, size_t start)
{
    return frame_end(buf, start, FRAME_LENGTH_MAX);
}

int framed_client_handshake(struct buf *buf, uint32_t request_id, uint16_t version,
                            const struct str *api_key)
{
    size_t start = frame_begin(buf, OPCODE_HANDSHAKE, request_id);
    buf_append_u16(buf, version);
    wire_put_opt_str(buf, api_key != NULL, api_key ? *api_key : (struct str){NULL, 0});
    return client_end(buf, start);
}

size_t framed_client_batch_begin(struct buf *buf, enum opcode opcode, uint32_t request_id,
                                 uint32_t count)
{
    size_t start = frame_begin(buf, (uint8_t)opcode, request_id);
    buf_append_u32(buf, count);
    return start;
}

size_t framed_client_message_size(const struct framed_client_message *message)
{
    size_t size = 2 + message->queue.size + 2 + 4 + message->payload.size;
    for (size_t i = 0; i < message->header_count; i++)
        size += 4 + message->headers[i].key.size + message->headers[i].value.size;
    return size;
}

void framed_client_enqueue_add(struct buf *buf, const struct framed_client_message *message)
{
    wire_put_str(buf, message->queue);
    wire_put_map(buf, message->headers, message->header_count);
    wire_put_bytes(buf, message->payload);
}

void framed_client_ack_add(struct buf *buf, struct str queue, struct str message_id)
{
    wire_put_str(buf, queue);
    wire_put_str(buf, message_id);
}

void framed_client_nack_add(struct buf *buf, struct str queue, struct str message_id,
                            struct str error)
{
    framed_client_ack_add(buf, queue, message_id);
    wire_put_text(buf, error);
}

int framed_client_create_queue(struct buf *buf, uint32_t request_id,
                               const struct framed_create_queue *request)
{
    size_t start = frame_begin(buf, OPCODE_CREATE_QUEUE, request_id);
    wire_put_str(buf, request->name);
    wire_put_opt_str(buf, request->has_on_enqueue, request->on_enqueue);
    wire_put_opt_str(buf, request->has_on_failure, request->on_failure);
    buf_append_u64(buf, request->visibility_timeout_ms);
    return client_end(buf, start);
}

int framed_client_set_config(struct buf *buf, uint32_t request_id, struct str key, struct str value)
{
    size_t start = frame_begin(buf, OPCODE_SET_CONFIG, request_id);
    wire_put_str(buf, key);
    wire_put_str(buf, value);
    return client_end(buf, start);
}

int framed_client_redrive(struct buf *buf, uint32_t request_id, struct str queue, uint64_t limit)
{
    size_t start = frame_begin(buf, OPCODE_REDRIVE, request_id);
    wire_put_str(buf, queue);
    buf_append_u64(buf, limit);
    return client_end(buf, start);
}

int framed_client_create_api_key(struct buf *buf, uint32_t request_id,
                                 const struct framed_create_api_key *request)
{
    size_t start = frame_begin(buf, OPCODE_CREATE_API_KEY, request_id);
    wire_put_str(buf, request->name);
    buf_append_u64(buf, request->expires_at_ms);
    wire_put_bool(buf, request->is_superadmin);
    return client_end(buf, start);
}

int framed_client_set_acl(struct buf *buf, uint32_t request_id, struct str key_id,
                          const struct framed_permission *permissions, size_t count)
{
    size_t start = frame_begin(buf, OPCODE_SET_ACL, request_id);
    wire_put_str(buf, key_id);
    if (count > WIRE_STR_MAX)
        buf->failed = true;
    buf_append_u16(buf, (uint16_t)count);
    for (size_t i = 0; i < count && !buf->failed; i++) {
        wire_put_str(buf, permissions[i].kind);
        wire_put_str(buf, permissions[i].pattern);
    }
    return client_end(buf, start);
}

int framed_client_consume(struct buf *buf, uint32_t request_id, struct str queue, uint32_t limit)
{
    size_t start = frame_begin(buf, OPCODE_CONSUME, request_id);
    wire_put_str(buf, queue);
    if (limit > 0) {
        buf_append_u32(buf, FRAMED_CONSUME_LIMIT);
        buf_append_u32(buf, limit);
    }
    return client_end(buf, start);
}

int framed_client_text(struct buf *buf, enum opcode opcode, uint32_t request_id, struct str text)
{
    size_t start = frame_begin(buf, (uint8_t)opcode, request_id);
    wire_put_str(buf, text);
    return client_end(buf, start);
}

bool framed_client_handshake_ok(struct wire_reader *reader,
                                struct framed_client_handshake_ok *answer)
{
    if (!wire_u16(reader, "negotiated version", &answer->version) ||
        !wire_u64(reader, "node id", &answer->node_id) ||
        !wire_u32(reader, "max frame size", &answer->max_frame_size))
        return false;
    if (answer->max_frame_size == 0)
        answer->max_frame_size = FRAME_LENGTH_MAX;
    return true;
}

bool framed_client_error(struct wire_reader *reader, struct framed_client_error *answer)
{
    *answer = (struct framed_client_error){.status = FIBP_INTERNAL_ERROR};
    if (!wire_u8(reader, "error code", &answer->code) ||
        !wire_str(reader, "error message", &answer->text))
        return false;
    answer->status = status_from_wire(answer->code);
    const uint8_t *map = reader->at;
    if (!wire_map(reader, "error metadata", NULL, &answer->pair_count))
        return false;
    reader->at = map + 2;
    return true;
}

bool framed_client_error_pair(struct wire_reader *reader, struct wire_pair *pair)
{
    return wire_pair_next(reader, "error metadata", pair);
}

bool framed_client_enqueue_result_begin(struct wire_reader *reader, uint32_t *count)
{
    return wire_count32(reader, "result count", RESULT_ITEM_MIN, count);
}

bool framed_client_enqueue_result_next(struct wire_reader *reader,
                                       struct framed_client_result *result)
{
    return wire_u8(reader, "result code", &result->code) &&
           wire_str(reader, "message id", &result->message_id);
}

bool framed_client_ack_result_begin(struct wire_reader *reader, uint32_t *count)
{
    return wire_count32(reader, "result count", 1, count);
}

bool framed_client_ack_result_next(struct wire_reader *reader, uint8_t *code)
{
    return wire_u8(reader, "result code", code);
}

bool framed_client_consume_ok(struct wire_reader *reader, struct str *consumer_id)
{
    return wire_str(reader, "consumer id", consumer_id);
}

bool framed_client_delivery_begin(struct wire_reader *reader, uint32_t *count)
{
    return wire_count32(reader, "delivery count", DELIVERY_ITEM_MIN, count);
}

bool framed_client_delivery_next(struct wire_reader *reader,
                                 struct framed_client_delivery *delivery)
{
    return wire_str(reader, "message id", &delivery->message_id) &&
           wire_str(reader, "queue", &delivery->queue) &&
           wire_map(reader, "headers", &delivery->headers, &delivery->header_count) &&
           wire_bytes(reader, "payload", &delivery->payload) &&
           wire_str(reader, "fairness key", &delivery->fairness_key) &&
           wire_u32(reader, "weight", &delivery->weight) &&
           wire_strs(reader, "throttle keys", &delivery->throttle_keys,
                     &delivery->throttle_key_count) &&
           wire_u32(reader, "attempt count", &delivery->attempt) &&
           wire_u64(reader, "enqueued at", &delivery->enqueued_ms) &&
           wire_u64(reader, "leased at", &delivery->leased_ms);
}

bool framed_client_code(struct wire_reader *reader, uint8_t *code)
{
    return wire_u8(reader, "result code", code);
}

void framed_client_reason(struct wire_reader *reader, struct str *reason)
{
    struct wire_reader extension = *reader;
    uint32_t mark = 0;
    if (!wire_u32(&extension, "extension", &mark) || mark != FRAMED_MARK ||
        !wire_str(&extension, "reason", reason))
        *reason = str_of(NULL, 0);
}

bool framed_client_text_result(struct wire_reader *reader, struct str *text)
{
    return wire_str(reader, "result text", text);
}

bool framed_client_redrive_result(struct wire_reader *reader, uint64_t *moved)
{
    return wire_u64(reader, "redriven", moved);
}

bool framed_client_create_api_key_result(struct wire_reader *reader, struct str *key_id,
                                         struct str *key, bool *is_superadmin)
{
    return wire_str(reader, "key id", key_id) && wire_str(reader, "key", key) &&
           wire_bool(reader, "superadmin", is_superadmin);
}

bool framed_client_list_queues_begin(struct wire_reader *reader, uint32_t *cluster_node_count,
                                     uint16_t *count)
{
    return wire_u32(reader, "cluster node count", cluster_node_count) &&
           wire_count16(reader, "queue count", QUEUE_INFO_MIN, count);
}

bool framed_client_list_queues_next(struct wire_reader *reader, struct framed_queue_info *queue)
{
    return wire_str(reader, "queue name", &queue->name) &&
           wire_u64(reader, "depth", &queue->depth) &&
           wire_u64(reader, "in flight", &queue->in_flight) &&
           wire_u32(reader, "active consumers", &queue->active_consumers) &&
           wire_u64(reader, "leader", &queue->leader_node_id);
}

bool framed_client_stats_begin(struct wire_reader *reader, struct framed_stats *stats,
                               uint16_t *key_count)
{
    return wire_u64(reader, "depth", &stats->depth) &&
           wire_u64(reader, "in flight", &stats->in_flight) &&
           wire_u64(reader, "active fairness keys", &stats->active_fairness_keys) &&
           wire_u32(reader, "active consumers", &stats->active_consumers) &&
           wire_u32(reader, "quantum", &stats->quantum) &&
           wire_u64(reader, "leader", &stats->leader_node_id) &&
           wire_u32(reader, "replication count", &stats->replication_count) &&
           wire_count16(reader, "fairness key count", KEY_STATS_MIN, key_count);
}

bool framed_client_stats_key_next(struct wire_reader *reader, struct framed_key_stats *key)
{
    return wire_str(reader, "fairness key", &key->key) &&
           wire_u64(reader, "pending", &key->pending) &&
           wire_i64(reader, "deficit", &key->deficit) && wire_u32(reader, "weight", &key->weight);
}

bool framed_client_stats_throttles(struct wire_reader *reader, uint16_t *count)
{
    return wire_count16(reader, "throttle key count", THROTTLE_STATS_MIN, count);
}

bool framed_client_stats_throttle_next(struct wire_reader *reader,
                                       struct framed_throttle_stats *throttle)
{
    return wire_str(reader, "throttle key", &throttle->key) &&
           wire_f64(reader, "tokens", &throttle->tokens) &&
           wire_f64(reader, "rate", &throttle->rate_per_second) &&
           wire_f64(reader, "burst", &throttle->burst);
}

void framed_client_counted(struct wire_reader *reader, size_t count, struct str *counted)
{
    uint32_t mark = 0;
    *counted = str_of(NULL, 0);
    if (wire_remaining(reader) == sizeof(mark) + count && wire_u32(reader, "extension", &mark) &&
        mark == FRAMED_COUNTED_MARK)
        *counted = str_of(reader->at, count);
}

bool framed_client_list_config_begin(struct wire_reader *reader, uint16_t *count)
{
    return wire_count16(reader, "entry count", CONFIG_ENTRY_MIN, count);
}

bool framed_client_list_config_next(struct wire_reader *reader, struct wire_pair *entry)
{
    return wire_pair_next(reader, "entry", entry);
}

bool framed_client_list_api_keys_begin(struct wire_reader *reader, uint16_t *count)
{
    return wire_count16(reader, "key count", API_KEY_INFO_MIN, count);
}

bool framed_client_list_api_keys_next(struct wire_reader *reader, struct framed_api_key_info *key)
{
    return wire_str(reader, "key id", &key->key_id) && wire_str(reader, "name", &key->name) &&
           wire_u64(reader, "created at", &key->created_at_ms) &&
           wire_u64(reader, "expires at", &key->expires_at_ms) &&
           wire_bool(reader, "superadmin", &key->is_superadmin);
}

bool framed_client_get_acl_begin(struct wire_reader *reader, struct str *key_id,
                                 bool *is_superadmin, uint16_t *count)
{
    return wire_str(reader, "key id", key_id) && wire_bool(reader, "superadmin", is_superadmin) &&
           wire_count16(reader, "permission count", PERMISSION_MIN, count);
}

bool framed_client_get_acl_next(struct wire_reader *reader, struct framed_permission *permission)
{
    return wire_str(reader, "permission kind", &permission->kind) &&
           wire_str(reader, "permission pattern", &permission->pattern);
}
