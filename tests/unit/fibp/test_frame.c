#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/bytes.h"
#include "fibp/frame.h"
#include "fibp/opcode.h"

static const uint8_t ping[] = {0, 0, 0, 6, OPCODE_PING, 0xfe, 1, 2, 3, 4};

static void test_parse(void **state)
{
    (void)state;
    struct frame frame;
    for (size_t size = 0; size < sizeof(ping); size++) {
        assert_int_equal(frame_parse(str_of(ping, size), FRAME_LENGTH_MAX, &frame), FRAME_MORE);
        assert_int_equal(frame.size, size < 4 ? 4 : sizeof(ping));
    }
    assert_int_equal(frame_parse(str_of(ping, sizeof(ping)), FRAME_LENGTH_MAX, &frame),
                     FRAME_READY);
    assert_int_equal(frame.opcode, OPCODE_PING);
    assert_int_equal(frame.flags, 0xfe);
    assert_int_equal(frame.request_id, 0x01020304);
    assert_int_equal(frame.body.size, 0);
    assert_int_equal(frame.size, sizeof(ping));
}

/* What stands before the body is known before the body is there. */
static void test_parse_header(void **state)
{
    static const uint8_t begun[] = {0, 0, 0, 9, OPCODE_ENQUEUE, 1, 1, 2, 3, 4, 'a', 'b'};
    struct frame frame;

    (void)state;
    assert_int_equal(frame_parse(str_of(begun, 9), 100, &frame), FRAME_MORE);
    assert_int_equal(frame.opcode, 0);
    for (size_t size = FRAME_OVERHEAD; size <= sizeof(begun); size++) {
        assert_int_equal(frame_parse(str_of(begun, size), 100, &frame), FRAME_MORE);
        assert_int_equal(frame.opcode, OPCODE_ENQUEUE);
        assert_int_equal(frame.flags, FRAME_FLAG_CONTINUATION);
        assert_int_equal(frame.request_id, 0x01020304);
        assert_int_equal(frame.size, 13);
        assert_int_equal(frame.body.size, 0);
    }
}

static void test_length_bounds(void **state)
{
    (void)state;
    struct frame frame;
    uint8_t length[4];
    bytes_put_u32(length, 100);
    assert_int_equal(frame_parse(str_of(length, 4), 100, &frame), FRAME_MORE);
    assert_int_equal(frame.size, 104);
    bytes_put_u32(length, 101);
    assert_int_equal(frame_parse(str_of(length, 4), 100, &frame), FRAME_TOO_LONG);
    bytes_put_u32(length, 5);
    assert_int_equal(frame_parse(str_of(length, 4), 100, &frame), FRAME_TOO_SHORT);
    bytes_put_u32(length, FRAME_LENGTH_MAX);
    assert_int_equal(frame_parse(str_of(length, 4), FRAME_LENGTH_MAX, &frame), FRAME_MORE);
    bytes_put_u32(length, FRAME_LENGTH_MAX + 1);
    assert_int_equal(frame_parse(str_of(length, 4), FRAME_LENGTH_MAX, &frame), FRAME_TOO_LONG);
}

/* Behind something else in the buffer, as answers are. */
static void begin_with(struct buf *buf, size_t *start, size_t payload)
{
    buf_append_c(buf, "before");
    *start = frame_begin(buf, OPCODE_DELIVERY, 7);
    for (size_t i = 0; i < payload; i++)
        buf_append_u8(buf, (uint8_t)i);
}

static void test_write(void **state)
{
    (void)state;
    struct frame frame;
    struct buf buf;
    size_t start;
    buf_init(&buf, 0);
    begin_with(&buf, &start, 5);
    assert_int_equal(frame_end(&buf, start, 11), 0);
    assert_int_equal(buf.size, 6 + 15);
    assert_int_equal(
        frame_parse(str_of(buf.data + start, buf.size - start), FRAME_LENGTH_MAX, &frame),
        FRAME_READY);
    assert_int_equal(frame.request_id, 7);
    assert_int_equal(frame.flags, 0);
    assert_true(str_equal(frame.body, STR("\x00\x01\x02\x03\x04")));
    buf_free(&buf);
}

/* Every payload size around the bounds of the pieces, put together again by hand. */
static void test_split(void **state)
{
    (void)state;
    const uint32_t max_length = 6 + 10;
    for (size_t payload = 1; payload <= 41; payload++) {
        struct buf buf, whole;
        size_t start, frames = 0;
        buf_init(&buf, 0);
        buf_init(&whole, 0);
        begin_with(&buf, &start, payload);
        assert_int_equal(frame_end(&buf, start, max_length), 0);
        struct str rest = str_of(buf.data + start, buf.size - start);
        while (rest.size > 0) {
            struct frame frame;
            assert_int_equal(frame_parse(rest, max_length, &frame), FRAME_READY);
            rest = str_of(rest.data + frame.size, rest.size - frame.size);
            assert_int_equal(frame.opcode, OPCODE_DELIVERY);
            assert_int_equal(frame.request_id, 7);
            assert_int_equal(frame.flags, rest.size ? FRAME_FLAG_CONTINUATION : 0);
            buf_append_str(&whole, frame.body);
            frames++;
        }
        assert_int_equal(frames, (payload + 9) / 10);
        assert_int_equal(whole.size, payload);
        for (size_t i = 0; i < payload; i++)
            assert_int_equal(whole.data[i], i);
        assert_memory_equal(buf.data, "before", 6);
        buf_free(&buf);
        buf_free(&whole);
    }
}

/* A frame that could not be written leaves no trace. */
static void test_failure(void **state)
{
    (void)state;
    struct buf buf;
    size_t start;
    buf_init(&buf, 64);
    begin_with(&buf, &start, 100);
    assert_true(buf.failed);
    assert_int_equal(frame_end(&buf, start, FRAME_LENGTH_MAX), -1);
    assert_false(buf.failed);
    assert_int_equal(buf.size, 6);
    assert_int_equal(frame_empty(&buf, OPCODE_PONG, 1), 0);
    assert_int_equal(buf.size, 16);
    /* Splitting needs room of its own. */
    buf_clear(&buf);
    begin_with(&buf, &start, 40);
    assert_int_equal(frame_end(&buf, start, 7), -1);
    assert_int_equal(buf.size, 6);
    assert_false(buf.failed);
    frame_abort(&buf, 0);
    assert_int_equal(buf.size, 0);
    buf_free(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),         cmocka_unit_test(test_parse_header),
        cmocka_unit_test(test_length_bounds), cmocka_unit_test(test_write),
        cmocka_unit_test(test_split),         cmocka_unit_test(test_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
