#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/utf8.h"

/* The encoding of `code` as RFC 3629 section 3 draws it, also of what is not allowed. */
static size_t encode(uint32_t code, size_t size, uint8_t *out)
{
    static const uint8_t marks[] = {0, 0, 0xc0, 0xe0, 0xf0};
    if (size == 1) {
        out[0] = (uint8_t)code;
        return 1;
    }
    for (size_t i = size - 1; i > 0; i--) {
        out[i] = (uint8_t)(0x80 | (code & 0x3f));
        code >>= 6;
    }
    out[0] = (uint8_t)(marks[size] | code);
    return size;
}

static size_t shortest(uint32_t code)
{
    return code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
}

static void test_every_code_in_every_size(void **state)
{
    (void)state;
    static const uint32_t limits[] = {0, 0x80, 0x800, 0x10000, 0x200000};
    for (size_t size = 1; size <= 4; size++) {
        for (uint32_t code = 0; code < limits[size]; code++) {
            uint8_t bytes[4];
            encode(code, size, bytes);
            bool allowed =
                size == shortest(code) && code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff);
            if (utf8_valid(str_of(bytes, size)) != allowed)
                fail_msg("U+%04X in %zu bytes", code, size);
        }
    }
}

static void test_cut_and_stray_bytes(void **state)
{
    (void)state;
    static const uint8_t euro_clef[] = "\xe2\x82\xac\xf0\x9d\x84\x9e";
    assert_true(utf8_valid(str_of(euro_clef, 7)));
    for (size_t size = 1; size < 7; size++)
        assert_int_equal(utf8_valid(str_of(euro_clef, size)), size == 3);
    for (unsigned byte = 0x80; byte < 0x100; byte++) {
        uint8_t alone[16] = "abcdefghijklmno";
        alone[9] = (uint8_t)byte;
        assert_false(utf8_valid(str_of(alone, 15)));
        assert_false(utf8_valid(str_of(alone + 9, 1)));
    }
    assert_true(utf8_valid(str_of(NULL, 0)));
    assert_true(utf8_valid(STR("a\0b and more ASCII than a word")));
}

static void test_every_position_in_a_long_text(void **state)
{
    (void)state;
    uint8_t text[40];
    for (size_t at = 0; at + 2 <= sizeof(text); at++) {
        memset(text, 'x', sizeof(text));
        memcpy(text + at, "\xc3\xa9", 2);
        assert_true(utf8_valid(str_of(text, sizeof(text))));
        text[at + 1] = 'x';
        assert_false(utf8_valid(str_of(text, sizeof(text))));
    }
}

static void test_truncate_between_characters(void **state)
{
    (void)state;
    struct str s = STR("a\xc3\xa9\xe2\x82\xac\xf0\x9d\x84\x9ez"); /* 1 + 2 + 3 + 4 + 1 */
    static const size_t expected[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};
    for (size_t limit = 0; limit < sizeof(expected) / sizeof(expected[0]); limit++)
        assert_int_equal(utf8_truncate(s, limit), expected[limit]);
    assert_int_equal(utf8_truncate(str_of(NULL, 0), 0), 0);
}

static void test_control_characters_of_one_and_two_bytes(void **state)
{
    (void)state;
    assert_int_equal(utf8_control(STR("")), 0);
    assert_int_equal(utf8_control(STR(" ")), 0);
    assert_int_equal(utf8_control(STR("\x1b[2J")), 1);
    assert_int_equal(utf8_control(STR("\x7f")), 1);
    assert_int_equal(utf8_control(STR("\xc2\x80")), 2);
    assert_int_equal(utf8_control(STR("\xc2\x9bm")), 2);
    assert_int_equal(utf8_control(STR("\xc2\xa0")), 0);
    assert_int_equal(utf8_control(STR("\xc2")), 0);
    assert_int_equal(utf8_control(STR("\xc3\x9b")), 0);
    assert_true(utf8_has_control(STR("a\0")) && utf8_has_control(STR("ab\xc2\x85")));
    assert_false(utf8_has_control(STR("\xe4\xb8\x9b \xc3\xa9"))); /* 9b as a continuation */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_in_every_size),
        cmocka_unit_test(test_cut_and_stray_bytes),
        cmocka_unit_test(test_every_position_in_a_long_text),
        cmocka_unit_test(test_truncate_between_characters),
        cmocka_unit_test(test_control_characters_of_one_and_two_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
