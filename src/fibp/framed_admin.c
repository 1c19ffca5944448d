/* Administration: queues, statistics, runtime configuration, redrive, API keys, ACLs. */
#include "core/bytes.h"
#include "fibp/framed.h"

#define PERMISSION_MIN 4u

bool framed_create_queue(struct wire_reader *reader, struct framed_create_queue *request)
{
    return wire_str(reader, "queue", &request->name) &&
           wire_opt_str(reader, "on_enqueue script", &request->has_on_enqueue,
                        &request->on_enqueue) &&
           wire_opt_str(reader, "on_failure script", &request->has_on_failure,
                        &request->on_failure) &&
           wire_u64(reader, "visibility timeout", &request->visibility_timeout_ms);
}

bool framed_delete_queue(struct wire_reader *reader, struct str *queue)
{
    return wire_str(reader, "queue", queue);
}

bool framed_get_stats(struct wire_reader *reader, struct str *queue)
{
    return wire_str(reader, "queue", queue);
}

bool framed_set_config(struct wire_reader *reader, struct str *key, struct str *value)
{
    return wire_str(reader, "key", key) && wire_str(reader, "value", value);
}

bool framed_get_config(struct wire_reader *reader, struct str *key)
{
    return wire_str(reader, "key", key);
}

bool framed_list_config(struct wire_reader *reader, struct str *prefix)
{
    return wire_str(reader, "prefix", prefix);
}

bool framed_redrive(struct wire_reader *reader, struct str *queue, uint64_t *limit)
{
    return wire_str(reader, "dead-letter queue", queue) && wire_u64(reader, "count", limit);
}

bool framed_purge(struct wire_reader *reader, struct str *queue)
{
    return wire_str(reader, "queue", queue);
}

bool framed_create_api_key(struct wire_reader *reader, struct framed_create_api_key *request)
{
    return wire_str(reader, "name", &request->name) &&
           wire_u64(reader, "expiry", &request->expires_at_ms) &&
           wire_bool(reader, "superadmin", &request->is_superadmin);
}

bool framed_revoke_api_key(struct wire_reader *reader, struct str *key_id)
{
    return wire_str(reader, "key id", key_id);
}

bool framed_get_acl(struct wire_reader *reader, struct str *key_id)
{
    return wire_str(reader, "key id", key_id);
}

bool framed_set_acl(struct wire_reader *reader, struct str *key_id, uint16_t *count)
{
    if (!wire_str(reader, "key id", key_id) ||
        !wire_count16(reader, "permission count", PERMISSION_MIN, count))
        return false;
    const uint8_t *first = reader->at;
    struct framed_permission permission;
    for (uint16_t i = 0; i < *count; i++)
        if (!framed_set_acl_next(reader, &permission))
            return false;
    reader->at = first;
    return true;
}

bool framed_set_acl_next(struct wire_reader *reader, struct framed_permission *permission)
{
    return wire_str(reader, "permission kind", &permission->kind) &&
           wire_str(reader, "permission pattern", &permission->pattern);
}

/* Every result starts with its code. */
static size_t framed_result_begin(struct buf *buf, enum opcode opcode, uint32_t request_id,
                                  enum fibp_status status)
{
    size_t start = frame_begin(buf, (uint8_t)opcode, request_id);
    buf_append_u8(buf, (uint8_t)status);
    return start;
}

int framed_status_result(struct buf *buf, enum opcode opcode, uint32_t request_id,
                         enum fibp_status status)
{
    return frame_end(buf, framed_result_begin(buf, opcode, request_id, status), FRAME_LENGTH_MAX);
}

int framed_reason_result(struct buf *buf, enum opcode opcode, uint32_t request_id,
                         enum fibp_status status, struct str reason)
{
    size_t start = framed_result_begin(buf, opcode, request_id, status);
    if (reason.size) {
        buf_append_u32(buf, FRAMED_MARK);
        wire_put_text(buf, reason);
    }
    return frame_end(buf, start, FRAME_LENGTH_MAX);
}

int framed_create_queue_result(struct buf *buf, uint32_t request_id, enum fibp_status status,
                               struct str queue_id)
{
    size_t start = framed_result_begin(buf, OPCODE_CREATE_QUEUE_RESULT, request_id, status);
    wire_put_text(buf, queue_id);
    return frame_end(buf, start, FRAME_LENGTH_MAX);
}

int framed_get_config_result(struct buf *buf, uint32_t request_id, enum fibp_status status,
                             struct str value)
{
    size_t start = framed_result_begin(buf, OPCODE_GET_CONFIG_RESULT, request_id, status);
    wire_put_str(buf, value);
    return frame_end(buf, start, FRAME_LENGTH_MAX);
}

/* A code and how many messages it was. */
static int framed_number_result(struct buf *buf, enum opcode opcode, uint32_t request_id,
                                enum fibp_status status, uint64_t messages)
{
    size_t start = framed_result_begin(buf, opcode, request_id, status);
    buf_append_u64(buf, messages);
    return frame_end(buf, start, FRAME_LENGTH_MAX);
}

int framed_redrive_result(struct buf *buf, uint32_t request_id, enum fibp_status status,
                          uint64_t moved)
{
    return framed_number_result(buf, OPCODE_REDRIVE_RESULT, request_id, status, moved);
}

int framed_purge_result(struct buf *buf, uint32_t request_id, enum fibp_status status,
                        uint64_t purged)
{
    return framed_number_result(buf, OPCODE_PURGE_QUEUE_RESULT, request_id, status, purged);
}

int framed_create_api_key_result(struct buf *buf, uint32_t request_id, enum fibp_status status,
                                 struct str key_id, struct str key, bool is_superadmin)
{
    size_t start = framed_result_begin(buf, OPCODE_CREATE_API_KEY_RESULT, request_id, status);
    wire_put_str(buf, key_id);
    wire_put_str(buf, key);
    wire_put_bool(buf, is_superadmin);
    return frame_end(buf, start, FRAME_LENGTH_MAX);
}

/* Begins the (next) list of a frame: a count that is filled in when the list is complete. */
void framed_list_open(struct buf *buf, struct framed_list *list)
{
    list->count_at = buf->size;
    list->count = 0;
    buf_append_u16(buf, 0);
}

void framed_list_close(struct buf *buf, struct framed_list *list)
{
    if (!buf->failed)
        bytes_put_u16(buf->data + list->count_at, list->count);
}

/* False when the list is full: the entry is left out. */
bool framed_list_grow(struct framed_list *list)
{
    if (list->count == UINT16_MAX)
        return false;
    list->count++;
    return true;
}

int framed_list_end(struct buf *buf, struct framed_list *list, uint32_t max_length)
{
    framed_list_close(buf, list);
    return frame_end(buf, list->start, max_length);
}

void framed_list_queues_begin(struct buf *buf, uint32_t request_id, enum fibp_status status,
                              uint32_t cluster_node_count, struct framed_list *list)
{
    list->start = framed_result_begin(buf, OPCODE_LIST_QUEUES_RESULT, request_id, status);
    buf_append_u32(buf, cluster_node_count);
    framed_list_open(buf, list);
}

void framed_list_queues_add(struct buf *buf, struct framed_list *list,
                            const struct framed_queue_info *queue)
{
    if (!framed_list_grow(list))
        return;
    wire_put_str(buf, queue->name);
    buf_append_u64(buf, queue->depth);
    buf_append_u64(buf, queue->in_flight);
    buf_append_u32(buf, queue->active_consumers);
    buf_append_u64(buf, queue->leader_node_id);
}

void framed_counted_begin(struct buf *buf)
{
    buf_append_u32(buf, FRAMED_COUNTED_MARK);
}

void framed_counted_add(struct buf *buf, uint8_t counted)
{
    buf_append_u8(buf, counted);
}

void framed_stats_begin(struct buf *buf, uint32_t request_id, enum fibp_status status,
                        const struct framed_stats *stats, struct framed_list *list)
{
    list->start = framed_result_begin(buf, OPCODE_GET_STATS_RESULT, request_id, status);
    buf_append_u64(buf, stats->depth);
    buf_append_u64(buf, stats->in_flight);
    buf_append_u64(buf, stats->active_fairness_keys);
    buf_append_u32(buf, stats->active_consumers);
    buf_append_u32(buf, stats->quantum);
    buf_append_u64(buf, stats->leader_node_id);
    buf_append_u32(buf, stats->replication_count);
    framed_list_open(buf, list);
}

void framed_stats_add_key(struct buf *buf, struct framed_list *list,
                          const struct framed_key_stats *key)
{
    if (!framed_list_grow(list))
        return;
    wire_put_str(buf, key->key);
    buf_append_u64(buf, key->pending);
    wire_put_i64(buf, key->deficit);
    buf_append_u32(buf, key->weight);
}

void framed_stats_throttles(struct buf *buf, struct framed_list *list)
{
    framed_list_close(buf, list);
    framed_list_open(buf, list);
}

void framed_stats_add_throttle(struct buf *buf, struct framed_list *list,
                               const struct framed_throttle_stats *throttle)
{
    if (!framed_list_grow(list))
        return;
    wire_put_str(buf, throttle->key);
    wire_put_f64(buf, throttle->tokens);
    wire_put_f64(buf, throttle->rate_per_second);
    wire_put_f64(buf, throttle->burst);
}

void framed_list_config_begin(struct buf *buf, uint32_t request_id, enum fibp_status status,
                              struct framed_list *list)
{
    list->start = framed_result_begin(buf, OPCODE_LIST_CONFIG_RESULT, request_id, status);
    framed_list_open(buf, list);
}

void framed_list_config_add(struct buf *buf, struct framed_list *list, struct str key,
                            struct str value)
{
    if (!framed_list_grow(list))
        return;
    wire_put_str(buf, key);
    wire_put_str(buf, value);
}

void framed_list_api_keys_begin(struct buf *buf, uint32_t request_id, enum fibp_status status,
                                struct framed_list *list)
{
    list->start = framed_result_begin(buf, OPCODE_LIST_API_KEYS_RESULT, request_id, status);
    framed_list_open(buf, list);
}

void framed_list_api_keys_add(struct buf *buf, struct framed_list *list,
                              const struct framed_api_key_info *key)
{
    if (!framed_list_grow(list))
        return;
    wire_put_str(buf, key->key_id);
    wire_put_str(buf, key->name);
    buf_append_u64(buf, key->created_at_ms);
    buf_append_u64(buf, key->expires_at_ms);
    wire_put_bool(buf, key->is_superadmin);
}

void framed_get_acl_begin(struct buf *buf, uint32_t request_id, enum fibp_status status,
                          struct str key_id, bool is_superadmin, struct framed_list *list)
{
    list->start = framed_result_begin(buf, OPCODE_GET_ACL_RESULT, request_id, status);
    wire_put_str(buf, key_id);
    wire_put_bool(buf, is_superadmin);
    framed_list_open(buf, list);
}

void framed_get_acl_add(struct buf *buf, struct framed_list *list,
                        const struct framed_permission *permission)
{
    if (!framed_list_grow(list))
        return;
    wire_put_str(buf, permission->kind);
    wire_put_str(buf, permission->pattern);
}
