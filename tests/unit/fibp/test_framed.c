#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>

#include "core/bytes.h"
#include "fibp/framed.h"
#include "fibp/framed_client.h"

static void test_checked_pass(void **state)
{
    (void)state;
    struct str body = STR("\x00\x00\x00\x02"
                          "\x00\x01q"
                          "\x00\x01\x00\x01k\x00\x01v"
                          "\x00\x00\x00\x01x"
                          "\x00\x01q"
                          "\x00\x00"
                          "\x00\x00\x00\x00"
                          "trailing");
    struct framed_enqueue_item item;
    struct wire_reader reader;
    uint32_t count;

    wire_reader_init(&reader, body);
    assert_true(framed_enqueue_check(&reader, &count));
    assert_int_equal(count, 2);
    assert_true(framed_enqueue_next(&reader, &item));
    assert_true(str_equal(item.record, STR("\x00\x01\x00\x01k\x00\x01v\x00\x00\x00\x01x")));
    assert_int_equal(item.header_count, 1);
    assert_true(str_equal(item.payload, STR("x")));
    assert_true(framed_enqueue_next(&reader, &item));
    assert_true(str_equal(item.record, STR("\x00\x00\x00\x00\x00\x00")));
    assert_int_equal(wire_remaining(&reader), 8);
}

/* One bad item at the end: the check fails as a whole, and says where. */
static void test_bad_item(void **state)
{
    (void)state;
    struct str body = STR("\x00\x00\x00\x02"
                          "\x00\x01q"
                          "\x00\x00"
                          "\x00\x00\x00\x00"
                          "\x00\x01q"
                          "\x00\x01\x00\x01k\x00\x01\xff"
                          "\x00\x00\x00\x00");
    struct wire_reader reader;
    uint32_t count;
    char reason[100];
    wire_reader_init(&reader, body);
    assert_false(framed_enqueue_check(&reader, &count));
    wire_describe(&reader, reason, sizeof(reason));
    assert_string_equal(reason, "headers: not valid UTF-8");
}

static void test_headers(void **state)
{
    (void)state;
    struct wire_pair pairs[] = {
        {STR("a"), STR("1")}, {STR("b"), STR("2")}, {STR("a"), STR("3")}, {STR(""), STR("4")}};
    struct str value;
    struct buf map;
    buf_init(&map, 0);
    wire_put_map(&map, pairs, 4);
    assert_true(framed_headers_find(buf_str(&map), STR("a"), &value));
    assert_true(str_equal(value, STR("3")));
    assert_true(framed_headers_find(buf_str(&map), STR("b"), &value));
    assert_true(str_equal(value, STR("2")));
    assert_true(framed_headers_find(buf_str(&map), STR(""), &value));
    assert_false(framed_headers_find(buf_str(&map), STR("c"), &value));
    assert_int_equal(value.size, 0);
    assert_false(framed_headers_find(STR(""), STR("a"), &value));
    assert_false(framed_headers_find(STR("\xff\xff\x00"), STR("a"), &value));
    buf_free(&map);
}

static void test_record_split(void **state)
{
    (void)state;
    struct str headers, payload;
    assert_true(framed_record_split(STR("\x00\x00\x00\x00\x00\x02hi"), &headers, &payload));
    assert_int_equal(headers.size, 2);
    assert_true(str_equal(payload, STR("hi")));
    assert_false(framed_record_split(STR("\x00\x00\x00\x00\x00\x02hi!"), &headers, &payload));
    assert_false(framed_record_split(STR("\x00\x00\x00\x00\x00\x03hi"), &headers, &payload));
    assert_false(framed_record_split(STR(""), &headers, &payload));
}

static void test_cancel_forms(void **state)
{
    (void)state;
    struct framed_cancel cancel;
    struct wire_reader reader;
    wire_reader_init(&reader, STR(""));
    assert_true(framed_cancel(&reader, &cancel) && !cancel.consumer_id.size);
    wire_reader_init(&reader, STR("\x00\x02id"));
    assert_true(framed_cancel(&reader, &cancel));
    assert_true(str_equal(cancel.consumer_id, STR("id")));
    wire_reader_init(&reader, STR("\x00\x00\x00\x01\x00\x01q\x00\x02id")); /* an old Ack */
    assert_false(framed_cancel(&reader, &cancel));
}

/* Fields may be appended to each of the forms. */
static void test_cancel_with_more_behind_it(void **state)
{
    (void)state;
    static const struct str bodies[] = {STR("\x00"), STR("\x00\x00!"), STR("\x00\x05id"),
                                        STR("\xde\xad\xbe\xef"), STR("\x00\x02\xff\xfe")};
    struct framed_cancel cancel;
    struct wire_reader reader;
    wire_reader_init(&reader, STR("\x00\x02id!"));
    assert_true(framed_cancel(&reader, &cancel));
    assert_true(str_equal(cancel.consumer_id, STR("id")));
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        wire_reader_init(&reader, bodies[i]);
        assert_true(framed_cancel(&reader, &cancel) && !cancel.consumer_id.size);
    }
}

static void expect_consume(struct str body, const char *queue, uint32_t limit)
{
    struct framed_consume request = {.limit = 99};
    struct wire_reader reader;

    wire_reader_init(&reader, body);
    assert_true(framed_consume(&reader, &request));
    assert_true(str_equal(request.queue, str_from_c(queue)));
    assert_int_equal(request.limit, limit);
}

/* The limit is taken only behind its marker, and when it fills the body exactly. */
static void test_consume_limit(void **state)
{
    (void)state;
    struct wire_reader reader;
    struct framed_consume request;
    struct frame frame;
    struct buf buf;

    expect_consume(STR("\x00\x01q"), "q", 0);
    expect_consume(STR("\x00\x01qfila\x00\x00\x01\x02"), "q", 258);
    expect_consume(STR("\x00\x01qfila\x00\x00\x00\x00"), "q", 0);
    expect_consume(STR("\x00\x01qfila\x00\x00\x01"), "q", 0);
    expect_consume(STR("\x00\x01qfila\x00\x00\x01\x02\x03"), "q", 0);
    expect_consume(STR("\x00\x01qFILA\x00\x00\x01\x02"), "q", 0);
    expect_consume(STR("\x00\x01q\x00\x00\x01\x02"), "q", 0);
    wire_reader_init(&reader, STR("\x00\x02q"));
    assert_false(framed_consume(&reader, &request));

    buf_init(&buf, 0);
    assert_int_equal(framed_client_consume(&buf, 7, STR("q"), 3), 0);
    assert_int_equal(frame_parse(buf_str(&buf), FRAME_LENGTH_MAX, &frame), FRAME_READY);
    assert_int_equal(frame.request_id, 7);
    expect_consume(frame.body, "q", 3);
    buf_clear(&buf);
    assert_int_equal(framed_client_consume(&buf, 7, STR("q"), 0), 0);
    assert_int_equal(frame_parse(buf_str(&buf), FRAME_LENGTH_MAX, &frame), FRAME_READY);
    assert_int_equal(frame.body.size, 3); /* as every server knows it */
    buf_free(&buf);
}

static void expect_complaint(struct str body, const char *complaint)
{
    struct wire_reader reader;
    uint32_t count;
    char text[128];

    wire_reader_init(&reader, body);
    assert_false(framed_enqueue_begin(&reader, &count));
    wire_describe(&reader, text, sizeof(text));
    assert_string_equal(text, complaint);
}

static void test_count_complaints(void **state)
{
    (void)state;
    expect_complaint(STR("\x00\x0f\x42\x41"), "message count: above 1000000");
    expect_complaint(STR("\x00\x00\x00\x01"), "message count: more than the frame can hold");
}

/* Message ids are there only for what was stored. */
static void test_enqueue_result(void **state)
{
    (void)state;
    struct framed_client_result result;
    struct wire_reader reader;
    struct frame frame;
    struct uuid id = {{1}};
    struct buf buf;
    uint32_t count;

    buf_init(&buf, 0);
    size_t start = framed_enqueue_result_begin(&buf, 9, 2);
    framed_enqueue_result_add(&buf, FIBP_STORAGE_ERROR, &id);
    framed_enqueue_result_add(&buf, FIBP_OK, &id);
    assert_int_equal(frame_end(&buf, start, FRAME_LENGTH_MAX), 0);
    assert_int_equal(frame_parse(buf_str(&buf), FRAME_LENGTH_MAX, &frame), FRAME_READY);
    wire_reader_init(&reader, frame.body);
    assert_true(framed_client_enqueue_result_begin(&reader, &count) && count == 2);
    assert_true(framed_client_enqueue_result_next(&reader, &result));
    assert_int_equal(result.code, FIBP_STORAGE_ERROR);
    assert_int_equal(result.message_id.size, 0);
    assert_true(framed_client_enqueue_result_next(&reader, &result));
    assert_int_equal(result.message_id.size, UUID_TEXT_SIZE);
    assert_int_equal(wire_remaining(&reader), 0);
    buf_free(&buf);
}

static void test_error_texts(void **state)
{
    (void)state;
    struct framed_client_error error;
    struct wire_reader reader;
    struct frame frame;
    struct buf buf;
    char *text = malloc(70000);

    assert_non_null(text);
    memset(text, 'x', 70000);
    buf_init(&buf, 0);
    assert_int_equal(framed_error(&buf, 3, FIBP_FORBIDDEN, str_of(NULL, 0), NULL, 0), 0);
    assert_int_equal(frame_parse(buf_str(&buf), FRAME_LENGTH_MAX, &frame), FRAME_READY);
    wire_reader_init(&reader, frame.body);
    assert_true(framed_client_error(&reader, &error));
    assert_int_equal(error.status, FIBP_FORBIDDEN);
    assert_true(str_equal(error.text, STR("permission denied")));

    buf_clear(&buf);
    assert_int_equal(framed_error(&buf, 3, FIBP_INVALID_FRAME, str_of(text, 70000), NULL, 0), 0);
    assert_int_equal(frame_parse(buf_str(&buf), FRAME_LENGTH_MAX, &frame), FRAME_READY);
    wire_reader_init(&reader, frame.body);
    assert_true(framed_client_error(&reader, &error));
    assert_int_equal(error.text.size, 65535);
    buf_free(&buf);
    free(text);
}

/* An item that does not fit is left out and the frame stays good. */
static void test_delivery_add_fails(void **state)
{
    (void)state;
    struct framed_delivery_item item = {
        .queue = STR("q"), .record = STR("\x00\x00\x00\x00\x00\x00"), .fairness_key = STR("k")};
    struct framed_delivery_item large = item;
    struct wire_reader reader;
    struct frame frame;
    struct buf buf;
    uint32_t count;

    static uint8_t long_key[WIRE_STR_MAX + 1];
    buf_init(&buf, 300);
    size_t start = framed_delivery_begin(&buf, NUMBERING_S3, 1);
    assert_int_equal(framed_delivery_add(&buf, &item), 0);
    size_t size = buf.size;
    assert_int_equal(size - start - FRAME_OVERHEAD - 4, framed_delivery_item_size(&item));
    large.record = str_of(long_key, 400);
    assert_int_equal(framed_delivery_add(&buf, &large), -1); /* over the buffer's limit */
    assert_int_equal(buf.size, size);
    buf.limit = 0;
    large.record = item.record;
    large.fairness_key = str_of(long_key, sizeof(long_key));
    assert_int_equal(framed_delivery_add(&buf, &large), -1); /* over the length field */
    assert_int_equal(buf.size, size);
    assert_int_equal(framed_delivery_add(&buf, &item), 0);
    assert_int_equal(framed_delivery_end(&buf, start, 2, FRAME_LENGTH_MAX), 0);
    assert_int_equal(frame_parse(buf_str(&buf), FRAME_LENGTH_MAX, &frame), FRAME_READY);
    wire_reader_init(&reader, frame.body);
    struct framed_client_delivery delivery;
    assert_true(framed_client_delivery_begin(&reader, &count) && count == 2);
    assert_true(framed_client_delivery_next(&reader, &delivery));
    assert_true(framed_client_delivery_next(&reader, &delivery));
    assert_int_equal(wire_remaining(&reader), 0);
    buf_free(&buf);
}

/* A u16 count says 65,535 at most: the rest is left out, never wrapped. */
static void test_long_list(void **state)
{
    (void)state;
    struct framed_queue_info queue = {.name = STR("")};
    struct framed_list list;
    struct wire_reader reader;
    struct frame frame;
    struct buf buf;
    uint32_t nodes;
    uint16_t count;
    uint8_t code;

    buf_init(&buf, 0);
    framed_list_queues_begin(&buf, 1, FIBP_OK, 0, &list);
    for (int i = 0; i < 65540; i++)
        framed_list_queues_add(&buf, &list, &queue);
    assert_int_equal(framed_list_end(&buf, &list, FRAME_LENGTH_MAX), 0);
    assert_int_equal(frame_parse(buf_str(&buf), FRAME_LENGTH_MAX, &frame), FRAME_READY);
    wire_reader_init(&reader, frame.body);
    assert_true(framed_client_code(&reader, &code));
    assert_true(framed_client_list_queues_begin(&reader, &nodes, &count));
    assert_int_equal(count, 65535);
    for (uint16_t i = 0; i < count; i++)
        assert_true(framed_client_list_queues_next(&reader, &queue));
    assert_int_equal(wire_remaining(&reader), 0);
    buf_free(&buf);
}

/* What is said behind the last field: there in full, or not there. */
static void test_counted(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size, count, found;
    } cases[] = {
        {"fila\x2b\x64", 6, 2, 2},         {"", 0, 2, 0},       {"fila\x2b", 5, 2, 0},
        {"fila\x2b\x64\x00", 7, 2, 0},     {"other!", 6, 2, 0}, {"fila", 4, 0, 0},
        {"\x00\x00\x00\x02\x2b", 5, 1, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct wire_reader reader;
        struct str counted;
        wire_reader_init(&reader, str_of(cases[i].bytes, cases[i].size));
        framed_client_counted(&reader, cases[i].count, &counted);
        assert_int_equal(counted.size, cases[i].found);
        if (counted.size)
            assert_memory_equal(counted.data, cases[i].bytes + 4, counted.size);
    }
    struct buf buf;
    buf_init(&buf, 0);
    framed_counted_begin(&buf);
    framed_counted_add(&buf, 43);
    framed_counted_add(&buf, FRAMED_COUNTED_ALL);
    assert_true(str_equal(buf_str(&buf), str_of(cases[0].bytes, cases[0].size)));
    buf_free(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checked_pass),
        cmocka_unit_test(test_bad_item),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_record_split),
        cmocka_unit_test(test_cancel_forms),
        cmocka_unit_test(test_cancel_with_more_behind_it),
        cmocka_unit_test(test_enqueue_result),
        cmocka_unit_test(test_error_texts),
        cmocka_unit_test(test_delivery_add_fails),
        cmocka_unit_test(test_long_list),
        cmocka_unit_test(test_consume_limit),
        cmocka_unit_test(test_count_complaints),
        cmocka_unit_test(test_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
