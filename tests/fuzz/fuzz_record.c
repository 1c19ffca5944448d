/* Records of a store that is damaged: what a parser accepts stays within its value, and is what
   writing it anew gives. */
#include <stdint.h>
#include <stdlib.h>

#include "store/record.h"

#define REQUIRE(condition) ((condition) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require_inside(struct str whole, struct str part)
{
    REQUIRE(part.size <= whole.size);
    REQUIRE(part.size == 0 ||
            (part.data >= whole.data && part.data + part.size <= whole.data + whole.size));
}

/* Both forms of a value that was rewritten are read back, with the same body. */
static void rewritten(struct str value, const struct record_message *parsed)
{
    struct record_message again;
    struct buf buf;
    for (int with = 0; with < 2; with++) {
        const struct record_dead dead = {.dead_ms = 7, .reason = STR("why"), .origin = STR("q")};
        buf_init(&buf, 0);
        record_message_append(&buf, value, parsed, with ? &dead : NULL);
        REQUIRE(!buf.failed && record_message_parse(buf_str(&buf), &again));
        REQUIRE(str_equal(again.body, parsed->body) && again.apart == parsed->apart);
        REQUIRE(again.is_dead == (with != 0) &&
                (!with || str_equal(again.dead.reason, STR("why"))));
        buf_free(&buf);
    }
}

static void message(struct str value)
{
    struct record_message parsed, again;
    uint8_t header[RECORD_MESSAGE_HEADER + RECORD_MESSAGE_REFERENCE];
    if (!record_message_parse(value, &parsed))
        return;
    require_inside(value, parsed.body);
    rewritten(value, &parsed);
    size_t size = record_message_header(header, &parsed);
    if (parsed.is_dead) {
        require_inside(value, parsed.dead.reason);
        require_inside(value, parsed.dead.origin);
        size += RECORD_DEAD_HEADER + parsed.dead.reason.size + parsed.dead.origin.size;
    }
    REQUIRE(parsed.body.size + size == value.size);
    size = record_message_header(header, &parsed);
    REQUIRE(!parsed.apart || parsed.chunks > 0);
    record_message_set_attempt(header, parsed.attempt);
    REQUIRE(record_message_parse(str_of(header, size), &again));
    REQUIRE(again.apart == parsed.apart && again.chunks == parsed.chunks);
    REQUIRE(again.attempt == parsed.attempt && again.weight == parsed.weight &&
            again.enqueued_ms == parsed.enqueued_ms && uuid_equal(&again.id, &parsed.id));
}

static void delayed(struct str value)
{
    struct record_delayed parsed;
    struct buf buf;
    if (!record_delayed_parse(value, &parsed))
        return;
    require_inside(value, parsed.value);
    require_inside(value, parsed.lane.fairness_key);
    require_inside(parsed.value, parsed.message.body);
    buf_init(&buf, 0);
    record_delayed_begin(&buf, &parsed.lane);
    buf_append_str(&buf, parsed.value);
    REQUIRE(!buf.failed && buf.size == value.size);
    REQUIRE(record_delayed_parse(buf_str(&buf), &parsed));
    buf_free(&buf);
}

static void lane(struct str value)
{
    struct record_lane parsed, again;
    struct buf buf;
    if (!record_lane_parse(value, &parsed))
        return;
    require_inside(value, parsed.fairness_key);
    require_inside(value, parsed.throttle_keys);
    struct str keys = parsed.throttle_keys;
    for (unsigned i = 0; i < parsed.throttle_count; i++) {
        struct str key = record_throttle_next(&keys);
        require_inside(value, key);
        REQUIRE(key.size <= RECORD_KEY_BYTES_MAX);
    }
    REQUIRE(keys.size == 0);
    buf_init(&buf, 0);
    record_lane_append(&buf, &parsed);
    REQUIRE(!buf.failed && record_lane_parse(buf_str(&buf), &again));
    REQUIRE(str_equal(again.fairness_key, parsed.fairness_key) && again.weight == parsed.weight &&
            str_equal(again.throttle_keys, parsed.throttle_keys));
    buf_free(&buf);
}

static void leases(struct str value)
{
    struct record_leases parsed;
    uint64_t sum = 0, lane_id = 0, seq = 0;
    if (!record_leases_parse(value, &parsed))
        return;
    REQUIRE(parsed.count > 0 && parsed.count <= RECORD_LEASES_MAX);
    for (unsigned i = 0; i < parsed.count; i++) {
        record_leases_position(&parsed, i, &lane_id, &seq);
        sum += lane_id ^ seq;
    }
    __asm__ volatile("" : : "r"(sum)); /* every position is read */
}

static void marker(struct str value)
{
    struct record_marker parsed;
    uint8_t again[RECORD_MARKER_SIZE];
    if (!record_marker_parse(value, &parsed))
        return;
    record_marker_write(again, &parsed);
    REQUIRE(str_equal(str_of(again, sizeof(again)), value));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str value = str_of(data, size);
    message(value);
    delayed(value);
    lane(value);
    leases(value);
    marker(value);
    return 0;
}
