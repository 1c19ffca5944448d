#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "core/err.h"
#include "core/utf8.h"

static void test_set_formats(void **state)
{
    (void)state;
    struct err err;
    assert_int_equal(err_set(&err, 7, "queue %s has %d", "orders", 3), -1);
    assert_int_equal(err.code, 7);
    assert_string_equal(err.text, "queue orders has 3");
}

static void test_errno_text_comes_last(void **state)
{
    (void)state;
    struct err err;
    assert_int_equal(err_set_errno(&err, ENOENT, "open %s", "x"), -1);
    assert_int_equal(err.code, ENOENT);
    assert_string_equal(err.text, "open x: No such file or directory");
}

static void test_prefix_keeps_code(void **state)
{
    (void)state;
    struct err err;
    err_set(&err, -30973, "catalog.db: broken");
    assert_int_equal(err_prefix(&err, "open %s", "store"), -1);
    assert_int_equal(err.code, -30973);
    assert_string_equal(err.text, "open store: catalog.db: broken");
}

static void test_null_is_accepted(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, 1, "x"), -1);
    assert_int_equal(err_set_errno(NULL, 1, "x"), -1);
    assert_int_equal(err_prefix(NULL, "x"), -1);
}

static void test_line_breaks_become_spaces(void **state)
{
    (void)state;
    struct err err;
    err_set(&err, 0, "a\nb\r\nc");
    assert_string_equal(err.text, "a b  c");
}

static void test_long_text_is_cut_between_characters(void **state)
{
    (void)state;
    char text[2000];
    for (size_t lead = 0; lead < 4; lead++) {
        memset(text, 'x', lead);
        for (size_t i = lead; i + 3 < sizeof(text); i += 3)
            memcpy(text + i, "\xe2\x82\xac", 4); /* the euro sign */
        struct err err;
        err_set(&err, 0, "%s", text);
        size_t size = strlen(err.text);
        assert_in_range(size, ERR_TEXT_SIZE - 3, ERR_TEXT_SIZE - 1);
        assert_true(utf8_valid(str_of(err.text, size)));
        assert_memory_equal(err.text, text, size);

        err_prefix(&err, "%s", "ab");
        size = strlen(err.text);
        assert_in_range(size, ERR_TEXT_SIZE - 4, ERR_TEXT_SIZE - 1);
        assert_true(utf8_valid(str_of(err.text, size)));
        assert_memory_equal(err.text, "ab: ", 4);
    }
    struct err err;
    memset(text, 'y', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    err_set_errno(&err, ENOENT, "%s", text);
    assert_int_equal(strlen(err.text), ERR_TEXT_SIZE - 1);
    err_prefix(&err, "%s", text);
    assert_int_equal(strlen(err.text), ERR_TEXT_SIZE - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_formats),
        cmocka_unit_test(test_errno_text_comes_last),
        cmocka_unit_test(test_prefix_keeps_code),
        cmocka_unit_test(test_null_is_accepted),
        cmocka_unit_test(test_line_breaks_become_spaces),
        cmocka_unit_test(test_long_text_is_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
