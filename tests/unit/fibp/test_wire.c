#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>

#include "fibp/wire.h"

static struct wire_reader reader_of(struct str bytes)
{
    struct wire_reader reader;
    wire_reader_init(&reader, bytes);
    return reader;
}

static void test_numbers(void **state)
{
    (void)state;
    struct wire_reader reader =
        reader_of(STR("\x01\x02\x03\x04\x05\x06\x07\x00\x00\x00\x00\x00\x00\x00\x09\x02"));
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    bool flag;
    assert_true(wire_u8(&reader, "a", &u8) && u8 == 1);
    assert_true(wire_u16(&reader, "b", &u16) && u16 == 0x0203);
    assert_true(wire_u32(&reader, "c", &u32) && u32 == 0x04050607);
    assert_true(wire_u64(&reader, "d", &u64) && u64 == 9);
    assert_true(wire_bool(&reader, "e", &flag) && flag); /* any non-zero */
    assert_int_equal(wire_remaining(&reader), 0);
    assert_null(reader.reason);
}

static void test_first_failure_sticks(void **state)
{
    (void)state;
    struct wire_reader reader = reader_of(STR("\x00\x05hi"));
    struct str text = STR("before");
    uint8_t byte = 9;
    char reason[64], small[8];
    assert_false(wire_str(&reader, "queue", &text));
    assert_int_equal(text.size, 0);
    assert_false(wire_u8(&reader, "flag", &byte)); /* bytes are there, but out of step */
    assert_int_equal(byte, 0);
    wire_describe(&reader, reason, sizeof(reason));
    assert_string_equal(reason, "queue: string runs past the end");
    wire_describe(&reader, small, sizeof(small));
    assert_string_equal(small, "queue: ");
}

static void test_strings(void **state)
{
    (void)state;
    struct wire_reader reader = reader_of(STR("\x00\x03h\x00i\x00\x00\x00\x02\xc3\x28"));
    struct str text;
    assert_true(wire_str(&reader, "a", &text));
    assert_true(str_equal(text, STR("h\0i"))); /* NUL is legal */
    assert_true(wire_str(&reader, "b", &text));
    assert_int_equal(text.size, 0);
    struct wire_reader trusting = reader;
    assert_false(wire_str(&reader, "c", &text));
    assert_string_equal(reader.reason, "not valid UTF-8");
    trusting.trusted = true;
    assert_true(wire_str(&trusting, "c", &text));
}

static void test_optional_string(void **state)
{
    (void)state;
    struct wire_reader reader = reader_of(STR("\x00\x02\x00\x01x\x01\x00\x00\x01"));
    struct str text;
    bool present;
    assert_true(wire_opt_str(&reader, "a", &present, &text) && !present);
    assert_true(wire_opt_str(&reader, "b", &present, &text) && present);
    assert_true(str_equal(text, STR("x")));
    assert_true(wire_opt_str(&reader, "c", &present, &text) && present && text.size == 0);
    assert_false(wire_opt_str(&reader, "d", &present, &text));
    assert_false(present);
}

static void test_bytes(void **state)
{
    (void)state;
    struct wire_reader reader = reader_of(STR("\x00\x00\x00\x02\xff\xfe\xff\xff\xff\xff"));
    struct str bytes;
    assert_true(wire_bytes(&reader, "payload", &bytes));
    assert_true(str_equal(bytes, STR("\xff\xfe")));
    assert_false(wire_bytes(&reader, "payload", &bytes));
    assert_string_equal(reader.reason, "bytes run past the end");
}

static void test_counts(void **state)
{
    (void)state;
    uint32_t count;
    uint16_t small;
    struct wire_reader fits = reader_of(STR("\x00\x00\x00\x02"
                                            "12345678"));
    assert_true(wire_count32(&fits, "count", 4, &count) && count == 2);
    struct wire_reader short_by_one = reader_of(STR("\x00\x00\x00\x02"
                                                    "1234567"));
    assert_false(wire_count32(&short_by_one, "count", 4, &count));
    assert_int_equal(count, 0);
    struct wire_reader above = reader_of(STR("\x00\x0f\x42\x41"));
    assert_false(wire_count32(&above, "count", 1, &count));
    assert_string_equal(above.reason, "above 1000000");
    struct wire_reader narrow = reader_of(STR("\xff\xff"
                                              "12"));
    assert_false(wire_count16(&narrow, "count", 1, &small));
}

static void test_maps(void **state)
{
    (void)state;
    struct str map, list;
    uint16_t count;
    struct wire_reader reader = reader_of(STR("\x00\x01\x00\x01k\x00\x01v\x00\x02\x00\x01"
                                              "a\x00\x00!"));
    assert_true(wire_map(&reader, "headers", &map, &count) && count == 1);
    assert_int_equal(map.size, 8);
    assert_true(wire_strs(&reader, "keys", &list, &count) && count == 2);
    assert_int_equal(list.size, 7);
    assert_int_equal(wire_remaining(&reader), 1);

    struct wire_reader bad = reader_of(STR("\x00\x01\x00\x01k\x00\x02\xff\xff"));
    assert_false(wire_map(&bad, "headers", &map, &count));
    assert_int_equal(map.size, 0);
    assert_int_equal(count, 0);
    assert_string_equal(bad.reason, "not valid UTF-8");
}

static void test_empty_input(void **state)
{
    (void)state;
    struct wire_reader reader = reader_of(str_of(NULL, 0));
    uint8_t byte;
    assert_int_equal(wire_remaining(&reader), 0);
    assert_false(wire_u8(&reader, "a", &byte));
}

static void test_writing_round_trip(void **state)
{
    (void)state;
    struct wire_pair pairs[] = {{STR("k"), STR("v")}};
    struct str keys[] = {STR("a"), STR("b")}, text;
    struct buf buf;
    double number;
    int64_t negative;
    uint16_t count;
    bool present;

    buf_init(&buf, 0);
    wire_put_opt_str(&buf, true, STR("yes"));
    wire_put_opt_str(&buf, false, STR("ignored"));
    wire_put_map(&buf, pairs, 1);
    wire_put_strs(&buf, keys, 2);
    wire_put_f64(&buf, 1.5);
    wire_put_i64(&buf, -2);
    assert_false(buf.failed);
    struct wire_reader reader = reader_of(buf_str(&buf));
    assert_true(wire_opt_str(&reader, "a", &present, &text) && present);
    assert_true(str_equal(text, STR("yes")));
    assert_true(wire_opt_str(&reader, "b", &present, &text) && !present);
    assert_true(wire_map(&reader, "c", NULL, &count) && count == 1);
    assert_true(wire_strs(&reader, "d", NULL, &count) && count == 2);
    assert_true(wire_f64(&reader, "e", &number) && number == 1.5);
    assert_true(wire_i64(&reader, "f", &negative) && negative == -2);
    assert_int_equal(wire_remaining(&reader), 0);
    buf_free(&buf);
}

/* What a length field cannot say is refused; texts for people are cut between characters. */
static void test_writing_limits(void **state)
{
    (void)state;
    size_t size = WIRE_STR_MAX + 1;
    uint8_t *bytes = malloc(size);
    struct wire_reader reader;
    struct str text;
    struct buf buf;

    assert_non_null(bytes);
    for (size_t i = 0; i + 1 < size; i += 2) { /* two-byte characters */
        bytes[i] = 0xc3;
        bytes[i + 1] = 0xa4;
    }
    buf_init(&buf, 0);
    wire_put_str(&buf, str_of(bytes, size));
    assert_true(buf.failed);
    buf_clear(&buf);
    wire_put_map(&buf, NULL, WIRE_STR_MAX + 1);
    assert_true(buf.failed);
    buf_clear(&buf);
    wire_put_strs(&buf, NULL, WIRE_STR_MAX + 1);
    assert_true(buf.failed);
    buf_clear(&buf);
    wire_put_text(&buf, str_of(bytes, size));
    assert_false(buf.failed);
    wire_reader_init(&reader, buf_str(&buf));
    assert_true(wire_str(&reader, "text", &text));
    assert_int_equal(text.size, WIRE_STR_MAX - 1);
    buf_free(&buf);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_first_failure_sticks),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_optional_string),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_maps),
        cmocka_unit_test(test_empty_input),
        cmocka_unit_test(test_writing_round_trip),
        cmocka_unit_test(test_writing_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
