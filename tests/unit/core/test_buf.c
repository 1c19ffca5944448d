#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/buf.h"
#include "core/bytes.h"

static void test_appends_big_endian(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 0);
    buf_append_u8(&buf, 1);
    buf_append_u16(&buf, 0x0203);
    buf_append_u32(&buf, 0x04050607);
    buf_append_u64(&buf, 0x08090a0b0c0d0e0f);
    buf_append_c(&buf, "xy");
    buf_append_str(&buf, STR("z"));
    static const uint8_t expected[] = "\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17xyz";
    assert_int_equal(buf.size, sizeof(expected) - 1);
    assert_memory_equal(buf.data, expected, buf.size);
    assert_int_equal(bytes_get_u16(buf.data + 1), 0x0203);
    assert_int_equal(bytes_get_u32(buf.data + 3), 0x04050607);
    assert_true(bytes_get_u64(buf.data + 7) == 0x08090a0b0c0d0e0f);
    assert_false(buf.failed);
    buf_free(&buf);
    assert_null(buf.data);
    assert_int_equal(buf.capacity, 0);
}

static void test_limit_fails_and_stays_failed(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 10);
    buf_append_c(&buf, "12345678");
    buf_append_c(&buf, "abc");
    assert_true(buf.failed);
    assert_int_equal(buf.size, 8);
    assert_true(buf.capacity <= 10);
    buf_append_c(&buf, "a"); /* would fit, but what came before it is missing */
    assert_int_equal(buf.size, 8);
    buf_clear(&buf);
    assert_false(buf.failed);
    buf_append_c(&buf, "1234567890");
    assert_false(buf.failed);
    assert_int_equal(buf.size, 10);
    assert_null(buf_reserve(&buf, 1));
    assert_true(buf.failed);
    buf_free(&buf);
    assert_int_equal(buf.limit, 10);
}

static void test_sizes_do_not_wrap(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 0);
    buf_append_c(&buf, "x");
    assert_null(buf_reserve(&buf, SIZE_MAX));
    assert_true(buf.failed);
    buf_clear(&buf);
    assert_null(buf_reserve(&buf, (size_t)PTRDIFF_MAX + 1));
    buf_free(&buf);
}

static void test_reserve_nothing_is_no_failure(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 0);
    assert_non_null(buf_reserve(&buf, 0));
    assert_false(buf.failed);
    buf_append(&buf, NULL, 0);
    assert_int_equal(buf.size, 0);
    buf_free(&buf);
}

static void test_growth_is_geometric(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 0);
    unsigned growths = 0;
    size_t capacity = 0;
    for (uint32_t i = 0; i < 1000000; i++) {
        buf_append_u8(&buf, (uint8_t)i);
        if (buf.capacity != capacity) {
            growths++;
            capacity = buf.capacity;
        }
    }
    assert_int_equal(buf.size, 1000000);
    assert_true(growths < 20);
    for (uint32_t i = 0; i < 1000000; i += 997)
        assert_int_equal(buf.data[i], (uint8_t)i);
    buf_free(&buf);
}

static void test_printf_short_and_long(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 0);
    buf_printf(&buf, "%d-%s", 5, "x");
    assert_int_equal(buf.size, 3);
    buf_printf(&buf, "%1000d", 7);
    assert_int_equal(buf.size, 1003);
    assert_memory_equal(buf.data, "5-x  ", 5);
    assert_int_equal(buf.data[1002], '7');
    for (size_t size = 250; size < 260; size++) {
        buf_clear(&buf);
        buf_printf(&buf, "%*d", (int)size, 3);
        assert_int_equal(buf.size, size);
        assert_int_equal(buf.data[size - 1], '3');
    }
    buf_free(&buf);
    buf_init(&buf, 4);
    buf_printf(&buf, "12345");
    assert_true(buf.failed);
    assert_int_equal(buf.size, 0);
    buf_free(&buf);
}

static void test_consume_moves_the_rest(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 0);
    buf_append_c(&buf, "abcdef");
    buf_consume(&buf, 2);
    assert_true(str_equal(buf_str(&buf), STR("cdef")));
    buf_consume(&buf, 0);
    assert_int_equal(buf.size, 4);
    buf_consume(&buf, 100);
    assert_int_equal(buf.size, 0);
    buf_consume(&buf, 1);
    buf_free(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_appends_big_endian),
        cmocka_unit_test(test_limit_fails_and_stays_failed),
        cmocka_unit_test(test_sizes_do_not_wrap),
        cmocka_unit_test(test_reserve_nothing_is_no_failure),
        cmocka_unit_test(test_growth_is_geometric),
        cmocka_unit_test(test_printf_short_and_long),
        cmocka_unit_test(test_consume_moves_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
