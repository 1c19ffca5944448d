#include "fibp/framed_details.h"

#define NAME_MIN 3u
#define BUCKET_SIZE 24u
#define LIMIT_MIN 26u

struct named {
    const char *name;
    enum framed_detail_kind kind;
};

#define GAUGE(text)                                                                                \
    {                                                                                              \
        text, DETAIL_GAUGE                                                                         \
    }
#define COUNTER(text)                                                                              \
    {                                                                                              \
        text, DETAIL_COUNTER                                                                       \
    }

static const struct named queue_names[DETAILS] = {
    [DETAIL_DEPTH] = GAUGE("depth"),
    [DETAIL_READY] = GAUGE("ready"),
    [DETAIL_IN_FLIGHT] = GAUGE("in_flight"),
    [DETAIL_DELAYED] = GAUGE("delayed"),
    [DETAIL_HELD] = GAUGE("held"),
    [DETAIL_CONSUMERS] = GAUGE("consumers"),
    [DETAIL_FAIRNESS_KEYS] = GAUGE("active_fairness_keys"),
    [DETAIL_LANES] = GAUGE("lanes"),
    [DETAIL_HELD_LANES] = GAUGE("held_lanes"),
    [DETAIL_DEAD_LETTERS] = GAUGE("dead_letters"),
    [DETAIL_COUNTED_PERCENT] = GAUGE("counted_percent"),
    [DETAIL_QUARANTINED] = GAUGE("quarantined"),
    [DETAIL_PAUSED] = GAUGE("paused"),
    [DETAIL_MAX_ATTEMPTS] = GAUGE("max_attempts"),
    [DETAIL_VISIBILITY_TIMEOUT_MS] = GAUGE("visibility_timeout_ms"),
    [DETAIL_SINCE_MS] = GAUGE("since_ms"),
    [DETAIL_ENQUEUED] = COUNTER("enqueued_total"),
    [DETAIL_DELIVERED] = COUNTER("delivered_total"),
    [DETAIL_ACKED] = COUNTER("acked_total"),
    [DETAIL_NACKED] = COUNTER("nacked_total"),
    [DETAIL_EXPIRED] = COUNTER("expired_total"),
    [DETAIL_RETURNED] = COUNTER("returned_total"),
    [DETAIL_DELAYED_TOTAL] = COUNTER("delayed_total"),
    [DETAIL_DEAD_LETTERED] = COUNTER("dead_lettered_total"),
    [DETAIL_REDRIVEN] = COUNTER("redriven_total"),
    [DETAIL_PURGED] = COUNTER("purged_total"),
    [DETAIL_REJECTED] = COUNTER("rejected_total"),
    [DETAIL_HOOK_ERRORS] = COUNTER("hook_errors_total"),
    [DETAIL_THROTTLE_HOLDS] = COUNTER("throttle_holds_total"),
    [DETAIL_ENQUEUED_BYTES] = COUNTER("enqueued_bytes_total"),
    [DETAIL_DELIVERED_BYTES] = COUNTER("delivered_bytes_total"),
    [DETAIL_WAIT_COUNT] = COUNTER("time_in_queue_count"),
    [DETAIL_WAIT_SUM_MS] = COUNTER("time_in_queue_sum_ms"),
    [DETAIL_WAIT_P50_MS] = GAUGE("time_in_queue_p50_ms"),
    [DETAIL_WAIT_P90_MS] = GAUGE("time_in_queue_p90_ms"),
    [DETAIL_WAIT_P99_MS] = GAUGE("time_in_queue_p99_ms"),
    [DETAIL_WAIT_MAX_MS] = GAUGE("time_in_queue_max_ms"),
};

static const struct named broker_names[BROKER_DETAILS] = {
    [BROKER_NOW_MS] = GAUGE("now_ms"),
    [BROKER_SINCE_MS] = GAUGE("since_ms"),
    [BROKER_QUEUES] = GAUGE("queues"),
    [BROKER_CONNECTIONS] = GAUGE("connections"),
    [BROKER_MEMORY_BYTES] = GAUGE("shared_memory_bytes"),
    [BROKER_MEMORY_USED_BYTES] = GAUGE("shared_memory_used_bytes"),
    [BROKER_LOCKS_HELD_LONG] = COUNTER("locks_held_long_total"),
    [BROKER_COMMIT_COUNT] = COUNTER("commit_count"),
    [BROKER_COMMIT_SUM_US] = COUNTER("commit_sum_us"),
    [BROKER_COMMIT_P50_US] = GAUGE("commit_p50_us"),
    [BROKER_COMMIT_P90_US] = GAUGE("commit_p90_us"),
    [BROKER_COMMIT_P99_US] = GAUGE("commit_p99_us"),
    [BROKER_COMMIT_MAX_US] = GAUGE("commit_max_us"),
};

bool framed_details(struct wire_reader *reader, struct framed_details_request *request)
{
    uint8_t flags = 0;
    if (!wire_str(reader, "queue", &request->queue) ||
        !wire_str(reader, "after", &request->after) ||
        !wire_u16(reader, "limit", &request->limit) || !wire_u8(reader, "flags", &flags))
        return false;
    request->histograms = flags & FRAMED_DETAILS_HISTOGRAMS;
    return true;
}

static void put_name(struct buf *buf, const struct named *named)
{
    wire_put_str(buf, str_from_c(named->name));
    buf_append_u8(buf, (uint8_t)named->kind);
}

/* The buckets that hold something; none without a histogram. */
static void put_buckets(struct buf *buf, const struct histogram *histogram)
{
    struct framed_list list;
    framed_list_open(buf, &list);
    for (unsigned i = 0; histogram && i < HISTOGRAM_BUCKETS; i++) {
        uint64_t count = atomic_load_explicit(&histogram->buckets[i], memory_order_relaxed);
        if (!count || !framed_list_grow(&list))
            continue;
        buf_append_u64(buf, histogram_lower(i));
        buf_append_u64(buf, histogram_lower(i + 1));
        buf_append_u64(buf, count);
    }
    framed_list_close(buf, &list);
}

void framed_details_begin(struct buf *buf, uint32_t request_id,
                          const uint64_t numbers[BROKER_DETAILS], const struct histogram *commits,
                          bool more, struct framed_list *list)
{
    list->start = frame_begin(buf, OPCODE_QUEUE_DETAILS_RESULT, request_id);
    buf_append_u8(buf, FIBP_OK);
    buf_append_u16(buf, BROKER_DETAILS);
    for (unsigned i = 0; i < BROKER_DETAILS; i++) {
        put_name(buf, &broker_names[i]);
        buf_append_u64(buf, numbers[i]);
    }
    put_buckets(buf, commits);
    buf_append_u16(buf, DETAILS);
    for (unsigned i = 0; i < DETAILS; i++)
        put_name(buf, &queue_names[i]);
    wire_put_bool(buf, more);
    framed_list_open(buf, list);
}

void framed_details_add(struct buf *buf, struct framed_list *list, struct str name,
                        const uint64_t numbers[DETAILS], const struct histogram *waits)
{
    if (!framed_list_grow(list))
        return;
    wire_put_str(buf, name);
    for (unsigned i = 0; i < DETAILS; i++)
        buf_append_u64(buf, numbers[i]);
    put_buckets(buf, waits);
}

void framed_details_limits(struct buf *buf, struct framed_list *list)
{
    framed_list_close(buf, list);
    framed_list_open(buf, list);
}

void framed_details_add_limit(struct buf *buf, struct framed_list *list,
                              const struct framed_limit *limit)
{
    if (!framed_list_grow(list))
        return;
    wire_put_str(buf, limit->key);
    buf_append_u64(buf, limit->most);
    buf_append_u64(buf, limit->in_flight);
    buf_append_u64(buf, limit->waiting);
}

int framed_client_details(struct buf *buf, uint32_t request_id,
                          const struct framed_details_request *request)
{
    size_t start = frame_begin(buf, OPCODE_QUEUE_DETAILS, request_id);
    wire_put_str(buf, request->queue);
    wire_put_str(buf, request->after);
    buf_append_u16(buf, request->limit);
    buf_append_u8(buf, request->histograms ? FRAMED_DETAILS_HISTOGRAMS : 0);
    return frame_end(buf, start, FRAME_LENGTH_MAX);
}

bool framed_client_details_count(struct wire_reader *reader, uint16_t *count)
{
    return wire_count16(reader, "number count", NAME_MIN, count);
}

bool framed_client_details_name(struct wire_reader *reader, struct framed_number *number)
{
    return wire_str(reader, "name of a number", &number->name) &&
           wire_u8(reader, "kind of a number", &number->kind);
}

bool framed_client_details_number(struct wire_reader *reader, struct framed_number *number)
{
    return framed_client_details_name(reader, number) && wire_u64(reader, "number", &number->value);
}

bool framed_client_details_queues(struct wire_reader *reader, size_t names, bool *more,
                                  uint16_t *count)
{
    return wire_bool(reader, "more", more) &&
           wire_count16(reader, "queue count", 2 + names * sizeof(uint64_t) + 2, count);
}

bool framed_client_details_queue(struct wire_reader *reader, struct str *name)
{
    return wire_str(reader, "queue name", name);
}

bool framed_client_details_value(struct wire_reader *reader, uint64_t *value)
{
    return wire_u64(reader, "number of a queue", value);
}

bool framed_client_details_buckets(struct wire_reader *reader, uint16_t *count)
{
    return wire_count16(reader, "bucket count", BUCKET_SIZE, count);
}

bool framed_client_details_bucket(struct wire_reader *reader, struct framed_bucket *bucket)
{
    return wire_u64(reader, "bucket", &bucket->from) &&
           wire_u64(reader, "bucket", &bucket->below) && wire_u64(reader, "bucket", &bucket->count);
}

bool framed_client_details_limits(struct wire_reader *reader, uint16_t *count)
{
    return wire_count16(reader, "limit count", LIMIT_MIN, count);
}

bool framed_client_details_limit(struct wire_reader *reader, struct framed_limit *limit)
{
    return wire_str(reader, "key of a limit", &limit->key) &&
           wire_u64(reader, "limit", &limit->most) &&
           wire_u64(reader, "in flight", &limit->in_flight) &&
           wire_u64(reader, "waiting", &limit->waiting);
}
