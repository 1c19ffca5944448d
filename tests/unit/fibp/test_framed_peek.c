/* PeekQueue: what is encoded is decoded again, and nothing that is cut short is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fibp/frame.h"
#include "fibp/framed_client.h"
#include "fibp/framed_peek.h"

static void assert_str(struct str got, struct str expected)
{
    assert_true(str_equal(got, expected));
}

static struct str body_of(const struct buf *buf)
{
    return str_of(buf->data + FRAME_OVERHEAD, buf->size - FRAME_OVERHEAD);
}

static void requests(void **state)
{
    struct framed_peek from = {.queue = STR("q"),
                               .has_key = true,
                               .fairness_key = STR("key"),
                               .limit = 7,
                               .payload_max = 9,
                               .cursor = STR("\x01\xff")},
                       to;
    struct wire_reader reader;
    struct buf buf;
    (void)state;
    buf_init(&buf, 0);
    assert_int_equal(framed_client_peek(&buf, 5, &from), 0);
    wire_reader_init(&reader, body_of(&buf));
    assert_true(framed_peek(&reader, &to));
    assert_str(to.queue, from.queue);
    assert_true(to.has_key);
    assert_str(to.fairness_key, from.fairness_key);
    assert_int_equal(to.limit, 7);
    assert_int_equal(to.payload_max, 9);
    assert_str(to.cursor, from.cursor);
    struct str body = body_of(&buf);
    for (size_t size = 0; size < body.size; size++) {
        wire_reader_init(&reader, str_of(body.data, size));
        assert_false(framed_peek(&reader, &to));
    }
    buf_free(&buf);
}

static bool decode(struct str body, struct str *cursor, struct framed_peek_item items[2])
{
    struct wire_reader reader;
    uint16_t count;
    uint8_t code;
    wire_reader_init(&reader, body);
    if (!framed_client_code(&reader, &code) || !framed_client_peek_begin(&reader, cursor, &count) ||
        count != 2)
        return false;
    return framed_client_peek_next(&reader, &items[0]) &&
           framed_client_peek_next(&reader, &items[1]) && wire_remaining(&reader) == 0;
}

static void results(void **state)
{
    struct framed_peek_item from = {.message_id = STR("0192f0c1"),
                                    .state = FRAMED_PEEK_LEASED,
                                    .headers_cut = true,
                                    .when_ms = 11,
                                    .headers = STR("\0\1\0\1h\0\1v"),
                                    .payload_size = 1000,
                                    .payload = STR("pay"),
                                    .fairness_key = STR("key"),
                                    .throttle_keys = STR("\0\1t"),
                                    .throttle_count = 1,
                                    .weight = 3,
                                    .attempt = 4,
                                    .enqueued_ms = 12,
                                    .is_dead = true,
                                    .dead_ms = 13,
                                    .reason = STR("broken"),
                                    .origin = STR("q")};
    struct framed_peek_item plain = {.message_id = STR("x")}, to[2];
    struct framed_list list;
    struct str cursor;
    struct buf buf;
    (void)state;
    buf_init(&buf, 0);
    framed_peek_begin(&buf, 5, FIBP_OK, STR("cursor"), &list);
    framed_peek_add(&buf, &list, &from);
    framed_peek_add(&buf, &list, &plain);
    assert_int_equal(framed_list_end(&buf, &list, FRAME_LENGTH_MAX), 0);
    assert_true(decode(body_of(&buf), &cursor, to));
    assert_str(cursor, STR("cursor"));
    assert_str(to[0].message_id, from.message_id);
    assert_int_equal(to[0].state, FRAMED_PEEK_LEASED);
    assert_true(to[0].headers_cut && to[0].is_dead);
    assert_int_equal(to[0].when_ms, 11);
    assert_str(to[0].headers, from.headers);
    assert_int_equal(to[0].header_count, 1);
    assert_int_equal(to[0].payload_size, 1000);
    assert_str(to[0].payload, from.payload);
    assert_str(to[0].fairness_key, from.fairness_key);
    assert_str(to[0].throttle_keys, STR("\0\1\0\1t"));
    assert_int_equal(to[0].throttle_count, 1);
    assert_int_equal(to[0].weight, 3);
    assert_int_equal(to[0].attempt, 4);
    assert_int_equal(to[0].enqueued_ms, 12);
    assert_int_equal(to[0].dead_ms, 13);
    assert_str(to[0].reason, from.reason);
    assert_str(to[0].origin, from.origin);
    assert_false(to[1].is_dead || to[1].headers_cut || to[1].header_count);
    struct str body = body_of(&buf);
    for (size_t size = 0; size < body.size; size++)
        assert_false(decode(str_of(body.data, size), &cursor, to));
    buf_free(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests),
        cmocka_unit_test(results),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
