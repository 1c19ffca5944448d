/* Golden vectors of the framed dialect: every request decoded and encoded again, every answer
 * decoded and encoded again, byte for byte; and the values in those that matter most. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "fibp/framed.h"
#include "fibp/framed_client.h"
#include "vectors.h"

static enum numbering numbering; /* of the vector that is echoed */

/* Takes the body of one frame apart and appends the same frame to `out`; false: does not decode. */
typedef bool (*echo_function)(const struct frame *frame, struct wire_reader *reader,
                              struct buf *out);

struct echo {
    uint8_t opcode;
    echo_function function;
};

static bool echo_empty(const struct frame *frame, struct wire_reader *reader, struct buf *out)
{
    (void)reader;
    return frame_empty(out, frame->opcode, frame->request_id) == 0;
}

static bool echo_handshake(const struct frame *frame, struct wire_reader *reader, struct buf *out)
{
    struct framed_handshake request;
    return framed_handshake(reader, &request) &&
           framed_client_handshake(out, frame->request_id, request.version,
                                   request.has_api_key ? &request.api_key : NULL) == 0;
}

static bool echo_enqueue(const struct frame *frame, struct wire_reader *reader, struct buf *out)
{
    uint32_t count;
    if (!framed_enqueue_check(reader, &count))
        return false;
    size_t start = framed_client_batch_begin(out, OPCODE_ENQUEUE, frame->request_id, count);
    for (uint32_t i = 0; i < count; i++) {
        struct framed_enqueue_item item;
        struct wire_reader map;
        struct wire_pair pairs[8];
        uint16_t pair_count;
        assert_true(framed_enqueue_next(reader, &item));
        wire_reader_init(&map, item.headers);
        assert_true(wire_u16(&map, "count", &pair_count));
        assert_int_equal(pair_count, item.header_count);
        assert_true(pair_count <= 8);
        for (uint16_t p = 0; p < pair_count; p++)
            assert_true(wire_pair_next(&map, "pair", &pairs[p]));
        assert_int_equal(item.record.size, item.headers.size + 4 + item.payload.size);
        assert_ptr_equal(item.record.data, item.headers.data);
        struct framed_client_message message = {item.queue, pairs, pair_count, item.payload};
        size_t before = out->size;
        framed_client_enqueue_add(out, &message);
        assert_int_equal(out->size - before, framed_client_message_size(&message));
    }
    return frame_end(out, start, FRAME_LENGTH_MAX) == 0;
}

static bool echo_ack(const struct frame *frame, struct wire_reader *reader, struct buf *out)
{
    uint32_t count;
    struct framed_ack_item item;
    if (!framed_ack_check(reader, &count))
        return false;
    size_t start = framed_client_batch_begin(out, OPCODE_ACK, frame->request_id, count);
    for (uint32_t i = 0; i < count && framed_ack_next(reader, &item); i++)
        framed_client_ack_add(out, item.queue, item.message_id);
    return frame_end(out, start, FRAME_LENGTH_MAX) == 0;
}

static bool echo_nack(const struct frame *frame, struct wire_reader *reader, struct buf *out)
{
    uint32_t count;
    struct framed_nack_item item;
    if (!framed_nack_check(reader, &count))
        return false;
    size_t start = framed_client_batch_begin(out, OPCODE_NACK, frame->request_id, count);
    for (uint32_t i = 0; i < count && framed_nack_next(reader, &item); i++)
        framed_client_nack_add(out, item.queue, item.message_id, item.error);
    return frame_end(out, start, FRAME_LENGTH_MAX) == 0;
}

static bool echo_cancel(const struct frame *frame, struct wire_reader *reader, struct buf *out)
{
    struct framed_cancel request;
    if (!framed_cancel(reader, &request))
        return false;
    if (!request.consumer_id.size)
        return frame_empty(out, frame->opcode, frame->request_id) == 0;
    return framed_client_text(out, OPCODE_CANCEL_CONSUME, frame->request_id, request.consumer_id) ==
           0;
}

static bool echo_consume(const struct frame *frame, struct wire_reader *reader, struct buf *out)
{
    struct framed_consume request;
    return framed_consume(reader, &request) &&
           framed_client_consume(out, frame->request_id, request.queue, request.limit) == 0;
}

/* Requests that are one string; each decoder is asked in its turn. */
static bool echo_text(const struct frame *frame, struct wire_reader *reader, struct buf *out)
{
    struct str text = {NULL, 0};
    bool ok = false;
    switch (frame->opcode) {
    case OPCODE_DELETE_QUEUE:
        ok = framed_delete_queue(reader, &text);
        break;
    case OPCODE_GET_STATS:
        ok = framed_get_stats(reader, &text);
        break;
    case OPCODE_GET_CONFIG:
        ok = framed_get_config(reader, &text);
        break;
    case OPCODE_LIST_CONFIG:
        ok = framed_list_config(reader, &text);
        break;
    case OPCODE_REVOKE_API_KEY:
        ok = framed_revoke_api_key(reader, &text);
        break;
    case OPCODE_GET_ACL:
        ok = framed_get_acl(reader, &text);
        break;
    default:
        fail();
    }
    return ok && framed_client_text(out, frame->opcode, frame->request_id, text) == 0;
}

static bool echo_create_queue(const struct frame *frame, struct wire_reader *reader,
                              struct buf *out)
{
    struct framed_create_queue request;
    return framed_create_queue(reader, &request) &&
           framed_client_create_queue(out, frame->request_id, &request) == 0;
}

static bool echo_set_config(const struct frame *frame, struct wire_reader *reader, struct buf *out)
{
    struct str key, value;
    return framed_set_config(reader, &key, &value) &&
           framed_client_set_config(out, frame->request_id, key, value) == 0;
}

static bool echo_redrive(const struct frame *frame, struct wire_reader *reader, struct buf *out)
{
    struct str queue;
    uint64_t limit;
    return framed_redrive(reader, &queue, &limit) &&
           framed_client_redrive(out, frame->request_id, queue, limit) == 0;
}

static bool echo_create_api_key(const struct frame *frame, struct wire_reader *reader,
                                struct buf *out)
{
    struct framed_create_api_key request;
    return framed_create_api_key(reader, &request) &&
           framed_client_create_api_key(out, frame->request_id, &request) == 0;
}

static bool echo_set_acl(const struct frame *frame, struct wire_reader *reader, struct buf *out)
{
    struct framed_permission permissions[8];
    struct str key_id;
    uint16_t count;
    if (!framed_set_acl(reader, &key_id, &count))
        return false;
    assert_true(count <= 8);
    for (uint16_t i = 0; i < count; i++)
        assert_true(framed_set_acl_next(reader, &permissions[i]));
    return framed_client_set_acl(out, frame->request_id, key_id, permissions, count) == 0;
}

static bool echo_handshake_ok(const struct frame *frame, struct wire_reader *reader,
                              struct buf *out)
{
    struct framed_client_handshake_ok answer;
    assert_int_equal(frame->request_id, 0);
    return framed_client_handshake_ok(reader, &answer) &&
           framed_handshake_ok(out, answer.version, answer.node_id, answer.max_frame_size) == 0;
}

static bool echo_error(const struct frame *frame, struct wire_reader *reader, struct buf *out)
{
    struct framed_client_error answer;
    struct wire_pair pairs[8];
    if (!framed_client_error(reader, &answer))
        return false;
    assert_true(answer.pair_count <= 8);
    for (uint16_t i = 0; i < answer.pair_count; i++)
        assert_true(framed_client_error_pair(reader, &pairs[i]));
    return framed_error(out, frame->request_id, answer.status, answer.text, pairs,
                        answer.pair_count) == 0;
}

static bool echo_enqueue_result(const struct frame *frame, struct wire_reader *reader,
                                struct buf *out)
{
    uint32_t count;
    if (!framed_client_enqueue_result_begin(reader, &count))
        return false;
    size_t start = framed_enqueue_result_begin(out, frame->request_id, count);
    for (uint32_t i = 0; i < count; i++) {
        struct framed_client_result result;
        struct uuid id;
        if (!framed_client_enqueue_result_next(reader, &result))
            return false;
        assert_int_equal(result.code == FIBP_OK, uuid_parse(result.message_id, &id));
        framed_enqueue_result_add(out, status_from_wire(result.code), &id);
    }
    return frame_end(out, start, FRAME_LENGTH_MAX) == 0;
}

static bool echo_ack_result(const struct frame *frame, struct wire_reader *reader, struct buf *out)
{
    uint32_t count;
    uint8_t code;
    if (!framed_client_ack_result_begin(reader, &count))
        return false;
    size_t start = framed_ack_result_begin(out, numbering, frame->opcode, frame->request_id, count);
    for (uint32_t i = 0; i < count && framed_client_ack_result_next(reader, &code); i++)
        framed_ack_result_add(out, status_from_wire(code));
    return frame_end(out, start, FRAME_LENGTH_MAX) == 0;
}

static bool echo_consume_ok(const struct frame *frame, struct wire_reader *reader, struct buf *out)
{
    struct str text;
    struct uuid id;
    return framed_client_consume_ok(reader, &text) && uuid_parse(text, &id) &&
           framed_consume_ok(out, numbering, frame->request_id, &id) == 0;
}

static bool echo_delivery(const struct frame *frame, struct wire_reader *reader, struct buf *out)
{
    uint32_t count;
    if (!framed_client_delivery_begin(reader, &count))
        return false;
    size_t start = framed_delivery_begin(out, numbering, frame->request_id);
    for (uint32_t i = 0; i < count; i++) {
        struct framed_client_delivery in;
        struct wire_reader keys;
        struct str throttle_keys[8];
        uint16_t key_count;
        if (!framed_client_delivery_next(reader, &in))
            return false;
        wire_reader_init(&keys, in.throttle_keys);
        assert_true(wire_u16(&keys, "count", &key_count) && key_count <= 8);
        for (uint16_t k = 0; k < key_count; k++)
            assert_true(wire_str(&keys, "key", &throttle_keys[k]));
        struct framed_delivery_item item = {
            .queue = in.queue,
            .record = str_of(in.headers.data, in.headers.size + 4 + in.payload.size),
            .fairness_key = in.fairness_key,
            .weight = in.weight,
            .throttle_keys = throttle_keys,
            .throttle_key_count = key_count,
            .attempt = in.attempt,
            .enqueued_ms = in.enqueued_ms,
            .leased_ms = in.leased_ms,
        };
        assert_true(uuid_parse(in.message_id, &item.id));
        size_t before = out->size;
        assert_int_equal(framed_delivery_add(out, &item), 0);
        assert_int_equal(out->size - before, framed_delivery_item_size(&item));
    }
    return framed_delivery_end(out, start, count, FRAME_LENGTH_MAX) == 0;
}

static bool echo_status_result(const struct frame *frame, struct wire_reader *reader,
                               struct buf *out)
{
    uint8_t code;
    return framed_client_code(reader, &code) &&
           framed_status_result(out, frame->opcode, frame->request_id, status_from_wire(code)) == 0;
}

static bool echo_text_result(const struct frame *frame, struct wire_reader *reader, struct buf *out)
{
    uint8_t code;
    struct str text;
    if (!framed_client_code(reader, &code) || !framed_client_text_result(reader, &text))
        return false;
    enum fibp_status status = status_from_wire(code);
    if (frame->opcode == OPCODE_CREATE_QUEUE_RESULT)
        return framed_create_queue_result(out, frame->request_id, status, text) == 0;
    return framed_get_config_result(out, frame->request_id, status, text) == 0;
}

static bool echo_redrive_result(const struct frame *frame, struct wire_reader *reader,
                                struct buf *out)
{
    uint8_t code;
    uint64_t moved;
    return framed_client_code(reader, &code) && framed_client_redrive_result(reader, &moved) &&
           framed_redrive_result(out, frame->request_id, status_from_wire(code), moved) == 0;
}

static bool echo_create_api_key_result(const struct frame *frame, struct wire_reader *reader,
                                       struct buf *out)
{
    uint8_t code;
    struct str key_id, key;
    bool superadmin;
    return framed_client_code(reader, &code) &&
           framed_client_create_api_key_result(reader, &key_id, &key, &superadmin) &&
           framed_create_api_key_result(out, frame->request_id, status_from_wire(code), key_id, key,
                                        superadmin) == 0;
}

static bool echo_list_queues_result(const struct frame *frame, struct wire_reader *reader,
                                    struct buf *out)
{
    struct framed_queue_info queue;
    struct framed_list list;
    uint32_t nodes;
    uint16_t count;
    uint8_t code;
    if (!framed_client_code(reader, &code) ||
        !framed_client_list_queues_begin(reader, &nodes, &count))
        return false;
    framed_list_queues_begin(out, frame->request_id, status_from_wire(code), nodes, &list);
    for (uint16_t i = 0; i < count && framed_client_list_queues_next(reader, &queue); i++)
        framed_list_queues_add(out, &list, &queue);
    return framed_list_end(out, &list, FRAME_LENGTH_MAX) == 0;
}

static bool echo_stats_result(const struct frame *frame, struct wire_reader *reader,
                              struct buf *out)
{
    struct framed_stats stats;
    struct framed_key_stats key;
    struct framed_throttle_stats throttle;
    struct framed_list list;
    uint16_t count;
    uint8_t code;
    if (!framed_client_code(reader, &code) || !framed_client_stats_begin(reader, &stats, &count))
        return false;
    framed_stats_begin(out, frame->request_id, status_from_wire(code), &stats, &list);
    for (uint16_t i = 0; i < count && framed_client_stats_key_next(reader, &key); i++)
        framed_stats_add_key(out, &list, &key);
    framed_stats_throttles(out, &list);
    if (!framed_client_stats_throttles(reader, &count))
        return false;
    for (uint16_t i = 0; i < count && framed_client_stats_throttle_next(reader, &throttle); i++)
        framed_stats_add_throttle(out, &list, &throttle);
    return framed_list_end(out, &list, FRAME_LENGTH_MAX) == 0;
}

static bool echo_list_config_result(const struct frame *frame, struct wire_reader *reader,
                                    struct buf *out)
{
    struct wire_pair entry;
    struct framed_list list;
    uint16_t count;
    uint8_t code;
    if (!framed_client_code(reader, &code) || !framed_client_list_config_begin(reader, &count))
        return false;
    framed_list_config_begin(out, frame->request_id, status_from_wire(code), &list);
    for (uint16_t i = 0; i < count && framed_client_list_config_next(reader, &entry); i++)
        framed_list_config_add(out, &list, entry.key, entry.value);
    return framed_list_end(out, &list, FRAME_LENGTH_MAX) == 0;
}

static bool echo_list_api_keys_result(const struct frame *frame, struct wire_reader *reader,
                                      struct buf *out)
{
    struct framed_api_key_info key;
    struct framed_list list;
    uint16_t count;
    uint8_t code;
    if (!framed_client_code(reader, &code) || !framed_client_list_api_keys_begin(reader, &count))
        return false;
    framed_list_api_keys_begin(out, frame->request_id, status_from_wire(code), &list);
    for (uint16_t i = 0; i < count && framed_client_list_api_keys_next(reader, &key); i++)
        framed_list_api_keys_add(out, &list, &key);
    return framed_list_end(out, &list, FRAME_LENGTH_MAX) == 0;
}

static bool echo_get_acl_result(const struct frame *frame, struct wire_reader *reader,
                                struct buf *out)
{
    struct framed_permission permission;
    struct framed_list list;
    struct str key_id;
    bool superadmin;
    uint16_t count;
    uint8_t code;
    if (!framed_client_code(reader, &code) ||
        !framed_client_get_acl_begin(reader, &key_id, &superadmin, &count))
        return false;
    framed_get_acl_begin(out, frame->request_id, status_from_wire(code), key_id, superadmin, &list);
    for (uint16_t i = 0; i < count && framed_client_get_acl_next(reader, &permission); i++)
        framed_get_acl_add(out, &list, &permission);
    return framed_list_end(out, &list, FRAME_LENGTH_MAX) == 0;
}

static const struct echo echoes[] = {
    {OPCODE_HANDSHAKE, echo_handshake},
    {OPCODE_HANDSHAKE_OK, echo_handshake_ok},
    {OPCODE_PING, echo_empty},
    {OPCODE_PONG, echo_empty},
    {OPCODE_DISCONNECT, echo_empty},
    {OPCODE_ENQUEUE, echo_enqueue},
    {OPCODE_ENQUEUE_RESULT, echo_enqueue_result},
    {OPCODE_CONSUME, echo_consume},
    {OPCODE_CONSUME_OK, echo_consume_ok},
    {OPCODE_DELIVERY, echo_delivery},
    {OPCODE_CANCEL_CONSUME, echo_cancel},
    {OPCODE_ACK, echo_ack},
    {OPCODE_ACK_RESULT, echo_ack_result},
    {OPCODE_NACK, echo_nack},
    {OPCODE_NACK_RESULT, echo_ack_result},
    {OPCODE_ERROR, echo_error},
    {OPCODE_CREATE_QUEUE, echo_create_queue},
    {OPCODE_CREATE_QUEUE_RESULT, echo_text_result},
    {OPCODE_DELETE_QUEUE, echo_text},
    {OPCODE_DELETE_QUEUE_RESULT, echo_status_result},
    {OPCODE_GET_STATS, echo_text},
    {OPCODE_GET_STATS_RESULT, echo_stats_result},
    {OPCODE_LIST_QUEUES, echo_empty},
    {OPCODE_LIST_QUEUES_RESULT, echo_list_queues_result},
    {OPCODE_SET_CONFIG, echo_set_config},
    {OPCODE_SET_CONFIG_RESULT, echo_status_result},
    {OPCODE_GET_CONFIG, echo_text},
    {OPCODE_GET_CONFIG_RESULT, echo_text_result},
    {OPCODE_LIST_CONFIG, echo_text},
    {OPCODE_LIST_CONFIG_RESULT, echo_list_config_result},
    {OPCODE_REDRIVE, echo_redrive},
    {OPCODE_REDRIVE_RESULT, echo_redrive_result},
    {OPCODE_CREATE_API_KEY, echo_create_api_key},
    {OPCODE_CREATE_API_KEY_RESULT, echo_create_api_key_result},
    {OPCODE_REVOKE_API_KEY, echo_text},
    {OPCODE_REVOKE_API_KEY_RESULT, echo_status_result},
    {OPCODE_LIST_API_KEYS, echo_empty},
    {OPCODE_LIST_API_KEYS_RESULT, echo_list_api_keys_result},
    {OPCODE_SET_ACL, echo_set_acl},
    {OPCODE_SET_ACL_RESULT, echo_status_result},
    {OPCODE_GET_ACL, echo_text},
    {OPCODE_GET_ACL_RESULT, echo_get_acl_result},
};

static echo_function echo_find(uint8_t opcode)
{
    for (size_t i = 0; i < sizeof(echoes) / sizeof(echoes[0]); i++)
        if (echoes[i].opcode == opcode)
            return echoes[i].function;
    return NULL;
}

/* The numberings that a vector has to be checked in, ended by NUMBERING_AUTO. */
static const enum numbering *numberings_of(const char *comment)
{
    static const enum numbering s1_and_s2[] = {NUMBERING_S1, NUMBERING_S2, NUMBERING_AUTO};
    static const enum numbering s2[] = {NUMBERING_S2, NUMBERING_AUTO};
    static const enum numbering s3[] = {NUMBERING_S3, NUMBERING_AUTO};

    if (strstr(comment, "S1/S2"))
        return s1_and_s2;
    return strstr(comment, "(S2/doc") ? s2 : s3;
}

static void check_vector(const struct vector *vector, struct buf *out)
{
    struct frame frame;
    struct wire_reader reader;
    struct str bytes = str_of(vector->bytes, vector->size);

    assert_int_equal(frame_parse(bytes, FRAME_LENGTH_MAX, &frame), FRAME_READY);
    assert_int_equal(frame.size, bytes.size);
    frame.opcode = numbering_opcode(numbering, frame.opcode);
    echo_function function = echo_find(frame.opcode);
    wire_reader_init(&reader, frame.body);
    buf_clear(out);
    if (!function || !function(&frame, &reader, out)) {
        char reason[256];
        wire_describe(&reader, reason, sizeof(reason));
        fail_msg("\"%s\" does not decode: %s", vector->comment, reason);
    }
    /* The encoders of requests know only S3. */
    if (opcode_find(frame.opcode)->direction == OPCODE_TO_SERVER)
        out->data[4] = numbering_byte(numbering, out->data[4]);
    if (strstr(vector->comment, "payload must be ignored"))
        assert_int_equal(out->size, FRAME_OVERHEAD);
    else if (!str_equal(buf_str(out), bytes))
        fail_msg("\"%s\" encodes to other bytes", vector->comment);
}

static void check_file(const char *name, size_t at_least)
{
    struct vectors vectors;
    struct buf out;
    size_t checked = 0;

    buf_init(&out, 0);
    assert_true(vectors_load(&vectors, name));
    for (size_t i = 0; i < vectors.count; i++) {
        const struct vector *vector = &vectors.items[i];
        const enum numbering *list = numberings_of(vector->comment);
        for (; *list != NUMBERING_AUTO; list++, checked++) {
            numbering = *list;
            check_vector(vector, &out);
        }
    }
    assert_true(checked >= at_least);
    buf_free(&out);
    vectors_free(&vectors);
}

static void test_hot_path(void **state)
{
    (void)state;
    check_file("framed.txt", 49);
}

static void test_admin(void **state)
{
    (void)state;
    check_file("framed_admin.txt", 38);
}

/* Field by field, so that two fields of one type cannot be swapped in decoder and encoder alike. */
static void test_delivery_values(void **state)
{
    (void)state;
    struct vectors vectors;
    struct frame frame;
    struct wire_reader reader;
    struct framed_client_delivery delivery;
    struct str value;
    uint32_t count;

    assert_true(vectors_load(&vectors, "framed.txt"));
    struct str bytes = vectors_find(&vectors, "framed S->C Delivery (S3) 2 messages");
    assert_int_equal(frame_parse(bytes, FRAME_LENGTH_MAX, &frame), FRAME_READY);
    wire_reader_init(&reader, frame.body);
    assert_true(framed_client_delivery_begin(&reader, &count));
    assert_int_equal(count, 2);
    assert_true(framed_client_delivery_next(&reader, &delivery));
    assert_true(str_equal(delivery.queue, STR("orders")));
    assert_true(str_equal(delivery.payload, STR("hello")));
    assert_true(str_equal(delivery.fairness_key, STR("acme")));
    assert_true(framed_headers_find(delivery.headers, STR("tenant"), &value));
    assert_true(str_equal(value, STR("acme")));
    assert_int_equal(delivery.weight, 3);
    assert_int_equal(delivery.throttle_key_count, 1);
    assert_int_equal(delivery.attempt, 0);
    assert_int_equal(delivery.enqueued_ms, 0x19d463e9600);
    assert_int_equal(delivery.leased_ms, 0x19d463e9605);
    assert_true(framed_client_delivery_next(&reader, &delivery));
    assert_int_equal(delivery.attempt, 1);
    assert_int_equal(wire_remaining(&reader), 0);
    vectors_free(&vectors);
}

static void test_stats_values(void **state)
{
    (void)state;
    struct vectors vectors;
    struct frame frame;
    struct wire_reader reader;
    struct framed_stats stats;
    struct framed_key_stats key;
    struct framed_throttle_stats throttle;
    uint16_t count;
    uint8_t code;

    assert_true(vectors_load(&vectors, "framed_admin.txt"));
    struct str bytes = vectors_find(&vectors, "framed S->C GetStatsResult depth 3 in_flight 1");
    assert_int_equal(frame_parse(bytes, FRAME_LENGTH_MAX, &frame), FRAME_READY);
    wire_reader_init(&reader, frame.body);
    assert_true(framed_client_code(&reader, &code));
    assert_true(framed_client_stats_begin(&reader, &stats, &count));
    assert_int_equal(stats.depth, 3);
    assert_int_equal(stats.in_flight, 1);
    assert_int_equal(stats.active_fairness_keys, 1);
    assert_int_equal(stats.active_consumers, 2);
    assert_int_equal(stats.quantum, 1000);
    assert_int_equal(count, 1);
    assert_true(framed_client_stats_key_next(&reader, &key));
    assert_int_equal(key.pending, 2);
    assert_true(key.deficit == -2);
    assert_int_equal(key.weight, 3);
    assert_true(framed_client_stats_throttles(&reader, &count));
    assert_true(framed_client_stats_throttle_next(&reader, &throttle));
    assert_true(throttle.tokens == 1.5 && throttle.rate_per_second == 10 && throttle.burst == 20);
    vectors_free(&vectors);
}

/* What malformed.txt says about single frames that the codec has to judge. */
struct malformed {
    const char *part; /* of the comment */
    bool decodes;
};

static const struct malformed malformed_frames[] = {
    {"Handshake with 2-byte body", false},
    {"Handshake with empty body", false},
    {"Handshake api key not UTF-8", false},
    {"Enqueue empty body", false},
    {"Enqueue count 1000001", false},
    {"Enqueue count 1000000", false},
    {"Enqueue count 2 but one item", false},
    {"Enqueue payload length 0xFFFFFFFF", false},
    {"Enqueue header map count 65535", false},
    {"Enqueue queue name is not UTF-8", false},
    {"Consume with string length past the end", false},
    {"Ack item without message id", false},
    {"Enqueue with 3 trailing bytes", true},
    {"ListQueues with garbage body", true},
    {"Ping with reserved flag bits", true},
    {"CreateQueue presence byte 0x02", true},
};

static void test_malformed_frames(void **state)
{
    (void)state;
    struct vectors vectors;
    struct buf out;
    size_t total = sizeof(malformed_frames) / sizeof(malformed_frames[0]), checked = 0;

    buf_init(&out, 0);
    assert_true(vectors_load(&vectors, "malformed.txt"));
    for (size_t i = 0; i < vectors.count; i++) {
        for (size_t m = 0; m < total; m++) {
            if (strncmp(vectors.items[i].comment, "framed", 6) != 0 ||
                !strstr(vectors.items[i].comment, malformed_frames[m].part))
                continue;
            struct frame frame;
            struct wire_reader reader;
            struct str bytes = str_of(vectors.items[i].bytes, vectors.items[i].size);
            assert_int_equal(frame_parse(bytes, FRAME_LENGTH_MAX, &frame), FRAME_READY);
            wire_reader_init(&reader, frame.body);
            buf_clear(&out);
            bool decodes = echo_find(frame.opcode)(&frame, &reader, &out);
            if (decodes != malformed_frames[m].decodes)
                fail_msg("\"%s\": decodes %d", vectors.items[i].comment, decodes);
            assert_true(decodes || reader.reason);
            checked++;
        }
    }
    assert_int_equal(checked, total);
    buf_free(&out);
    vectors_free(&vectors);
}

static void test_malformed_lengths(void **state)
{
    (void)state;
    struct vectors vectors;
    struct frame frame;

    assert_true(vectors_load(&vectors, "malformed.txt"));
    assert_int_equal(frame_parse(vectors_find(&vectors, "framed C->S MALFORMED: length 16777217"),
                                 FRAME_LENGTH_MAX, &frame),
                     FRAME_TOO_LONG);
    assert_int_equal(frame_parse(vectors_find(&vectors, "framed C->S MALFORMED: length 0xFFFFFFFF"),
                                 FRAME_LENGTH_MAX, &frame),
                     FRAME_TOO_LONG);
    assert_int_equal(frame_parse(vectors_find(&vectors, "framed C->S MALFORMED: length 0 "),
                                 FRAME_LENGTH_MAX, &frame),
                     FRAME_TOO_SHORT);
    assert_int_equal(frame_parse(vectors_find(&vectors, "framed C->S MALFORMED: length 5"),
                                 FRAME_LENGTH_MAX, &frame),
                     FRAME_TOO_SHORT);
    assert_int_equal(frame_parse(vectors_find(&vectors, "framed C->S MALFORMED: truncated frame"),
                                 FRAME_LENGTH_MAX, &frame),
                     FRAME_MORE);
    assert_int_equal(frame.size, 24);
    vectors_free(&vectors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hot_path),         cmocka_unit_test(test_admin),
        cmocka_unit_test(test_delivery_values),  cmocka_unit_test(test_stats_values),
        cmocka_unit_test(test_malformed_frames), cmocka_unit_test(test_malformed_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
