#include "store/record.h"

size_t record_message_header(uint8_t header[RECORD_MESSAGE_HEADER + RECORD_MESSAGE_REFERENCE],
                             const struct record_message *message)
{
    header[0] = RECORD_MESSAGE_VERSION;
    header[1] = message->apart ? RECORD_MESSAGE_APART : 0;
    header[2] = header[3] = 0;
    bytes_put_u32(header + 4, message->attempt);
    bytes_put_u32(header + 8, message->weight);
    bytes_put_u32(header + 12, 0);
    bytes_put_u64(header + 16, message->enqueued_ms);
    memcpy(header + 24, message->id.bytes, UUID_SIZE);
    if (!message->apart)
        return RECORD_MESSAGE_HEADER;
    bytes_put_u64(header + 40, message->apart);
    bytes_put_u32(header + 48, message->chunks);
    bytes_put_u32(header + 52, 0);
    return RECORD_MESSAGE_HEADER + RECORD_MESSAGE_REFERENCE;
}

static bool parse_reference(struct str reference, struct record_message *message)
{
    if (reference.size < RECORD_MESSAGE_REFERENCE)
        return false;
    message->apart = bytes_get_u64(reference.data);
    message->chunks = bytes_get_u32(reference.data + 8);
    return message->chunks > 0 && message->apart >= message->chunks &&
           message->apart <= (uint64_t)message->chunks * RECORD_CHUNK_MAX;
}

/* Takes the block off the front of `body`. */
static bool parse_dead(struct str *body, struct record_dead *dead)
{
    if (body->size < RECORD_DEAD_HEADER)
        return false;
    size_t reason = bytes_get_u16(body->data + 8), origin = bytes_get_u16(body->data + 10);
    if (reason > RECORD_DEAD_REASON_MAX || origin > RECORD_DEAD_ORIGIN_MAX ||
        reason + origin > body->size - RECORD_DEAD_HEADER)
        return false;
    const uint8_t *texts = body->data + RECORD_DEAD_HEADER;
    dead->dead_ms = bytes_get_u64(body->data);
    dead->reason = str_of(texts, reason);
    dead->origin = str_of(texts + reason, origin);
    size_t size = RECORD_DEAD_HEADER + reason + origin;
    *body = str_of(body->data + size, body->size - size);
    return true;
}

bool record_message_parse(struct str value, struct record_message *message)
{
    size_t at = RECORD_MESSAGE_HEADER;
    if (value.size < at || value.data[0] != RECORD_MESSAGE_VERSION ||
        (value.data[1] & ~(RECORD_MESSAGE_APART | RECORD_MESSAGE_DEAD)) != 0)
        return false;
    message->attempt = bytes_get_u32(value.data + 4);
    message->weight = bytes_get_u32(value.data + 8);
    message->enqueued_ms = bytes_get_u64(value.data + 16);
    memcpy(message->id.bytes, value.data + 24, UUID_SIZE);
    message->apart = 0;
    message->chunks = 0;
    if (value.data[1] & RECORD_MESSAGE_APART) {
        if (!parse_reference(str_of(value.data + at, value.size - at), message))
            return false;
        at += RECORD_MESSAGE_REFERENCE;
    }
    message->body = str_of(value.data + at, value.size - at);
    message->is_dead = (value.data[1] & RECORD_MESSAGE_DEAD) != 0;
    message->dead = (struct record_dead){.dead_ms = 0};
    return !message->is_dead || parse_dead(&message->body, &message->dead);
}

void record_message_set_attempt(uint8_t *value, uint32_t attempt)
{
    bytes_put_u32(value + 4, attempt);
}

void record_message_append(struct buf *out, struct str value, const struct record_message *message,
                           const struct record_dead *dead)
{
    uint8_t header[RECORD_MESSAGE_HEADER + RECORD_MESSAGE_REFERENCE];
    size_t size = RECORD_MESSAGE_HEADER + (message->apart ? RECORD_MESSAGE_REFERENCE : 0);
    memcpy(header, value.data, size);
    header[1] = (uint8_t)((header[1] & ~RECORD_MESSAGE_DEAD) | (dead ? RECORD_MESSAGE_DEAD : 0));
    buf_append(out, header, size);
    if (dead) {
        buf_append_u64(out, dead->dead_ms);
        buf_append_u16(out, (uint16_t)dead->reason.size);
        buf_append_u16(out, (uint16_t)dead->origin.size);
        buf_append_u32(out, 0);
        buf_append_str(out, dead->reason);
        buf_append_str(out, dead->origin);
    }
    buf_append_str(out, message->body);
}

void record_lane_append(struct buf *out, const struct record_lane *lane)
{
    buf_append_u8(out, RECORD_LANE_VERSION);
    buf_append_u8(out, 0);
    buf_append_u16(out, lane->throttle_count);
    buf_append_u32(out, lane->weight);
    buf_append_u16(out, (uint16_t)lane->fairness_key.size);
    buf_append_str(out, lane->fairness_key);
    buf_append_str(out, lane->throttle_keys);
}

bool record_lane_parse(struct str value, struct record_lane *lane)
{
    if (value.size < 10 || value.data[0] != RECORD_LANE_VERSION)
        return false;
    size_t key_size = bytes_get_u16(value.data + 8), at = 10 + key_size;
    if (key_size > RECORD_KEY_BYTES_MAX || at > value.size)
        return false;
    lane->throttle_count = bytes_get_u16(value.data + 2);
    lane->weight = bytes_get_u32(value.data + 4);
    lane->fairness_key = str_of(value.data + 10, key_size);
    lane->throttle_keys = str_of(value.data + at, value.size - at);
    if (lane->throttle_count > RECORD_THROTTLE_KEYS_MAX)
        return false;
    for (unsigned i = 0; i < lane->throttle_count; i++) {
        if (value.size - at < 2)
            return false;
        size_t size = bytes_get_u16(value.data + at);
        at += 2;
        if (size > RECORD_KEY_BYTES_MAX || size > value.size - at)
            return false;
        at += size;
    }
    return at == value.size;
}

struct str record_throttle_next(struct str *keys)
{
    size_t size = bytes_get_u16(keys->data);
    struct str key = str_of(keys->data + 2, size);
    *keys = str_of(keys->data + 2 + size, keys->size - 2 - size);
    return key;
}

void record_delayed_begin(struct buf *out, const struct record_lane *lane)
{
    size_t size = 10 + lane->fairness_key.size + lane->throttle_keys.size;
    buf_append_u8(out, RECORD_DELAYED_VERSION);
    buf_append_u8(out, 0);
    buf_append_u16(out, 0);
    buf_append_u32(out, (uint32_t)size);
    record_lane_append(out, lane);
}

bool record_delayed_parse(struct str value, struct record_delayed *delayed)
{
    if (value.size < RECORD_DELAYED_HEADER || value.data[0] != RECORD_DELAYED_VERSION)
        return false;
    size_t size = bytes_get_u32(value.data + 4);
    if (size > value.size - RECORD_DELAYED_HEADER)
        return false;
    const uint8_t *lane = value.data + RECORD_DELAYED_HEADER;
    delayed->value = str_of(lane + size, value.size - RECORD_DELAYED_HEADER - size);
    return record_lane_parse(str_of(lane, size), &delayed->lane) &&
           record_message_parse(delayed->value, &delayed->message);
}

void record_leases_header(uint8_t header[RECORD_LEASES_HEADER], uint16_t count, uint64_t expires_ms)
{
    header[0] = RECORD_LEASES_VERSION;
    header[1] = 0;
    bytes_put_u16(header + 2, count);
    bytes_put_u32(header + 4, 0);
    bytes_put_u64(header + 8, expires_ms);
}

bool record_leases_parse(struct str value, struct record_leases *leases)
{
    if (value.size < RECORD_LEASES_HEADER || value.data[0] != RECORD_LEASES_VERSION)
        return false;
    leases->count = bytes_get_u16(value.data + 2);
    leases->expires_ms = bytes_get_u64(value.data + 8);
    leases->positions = value.data + RECORD_LEASES_HEADER;
    return leases->count > 0 && leases->count <= RECORD_LEASES_MAX &&
           value.size == RECORD_LEASES_HEADER + (size_t)leases->count * RECORD_POSITION_SIZE;
}

void record_leases_position(const struct record_leases *leases, unsigned index, uint64_t *lane,
                            uint64_t *seq)
{
    const uint8_t *position = leases->positions + (size_t)index * RECORD_POSITION_SIZE;
    *lane = bytes_get_u64(position);
    *seq = bytes_get_u64(position + 8);
}

void record_marker_write(uint8_t value[RECORD_MARKER_SIZE], const struct record_marker *marker)
{
    value[0] = RECORD_MARKER_VERSION;
    value[1] = marker->thread;
    bytes_put_u16(value + 2, marker->slot);
    bytes_put_u32(value + 4, marker->epoch);
    bytes_put_u64(value + 8, marker->work);
}

bool record_marker_parse(struct str value, struct record_marker *marker)
{
    if (value.size != RECORD_MARKER_SIZE || value.data[0] != RECORD_MARKER_VERSION)
        return false;
    marker->thread = value.data[1];
    marker->slot = bytes_get_u16(value.data + 2);
    marker->epoch = bytes_get_u32(value.data + 4);
    marker->work = bytes_get_u64(value.data + 8);
    return true;
}
