#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "conf/errors.h"

static void test_lines_and_counts(void **state)
{
    (void)state;
    struct conf_errors errors;
    conf_errors_init(&errors);
    assert_string_equal(conf_errors_text(&errors), "");
    assert_string_equal(conf_errors_warnings(&errors), "");
    struct conf_place place = {"a.yaml", 3, 7};
    assert_int_equal(conf_errors_add(&errors, place, "bad %s", "thing"), -1);
    place.line = 0;
    assert_int_equal(conf_errors_add(&errors, place, "whole file"), -1);
    conf_errors_warn(&errors, place, "unwise");
    assert_int_equal(errors.count, 2);
    assert_int_equal(errors.warning_count, 1);
    assert_string_equal(conf_errors_text(&errors), "a.yaml:3:7: bad thing\na.yaml: whole file\n");
    assert_string_equal(conf_errors_warnings(&errors), "a.yaml: warning: unwise\n");
    conf_errors_free(&errors);
}

static void test_only_fifty_are_kept(void **state)
{
    (void)state;
    struct conf_errors errors;
    conf_errors_init(&errors);
    for (size_t i = 0; i < 53; i++) {
        struct conf_place place = {"f", i + 1, 1};
        (void)conf_errors_add(&errors, place, "x");
    }
    const char *text = conf_errors_text(&errors);
    assert_non_null(strstr(text, "f:50:1: x\nand 3 more\n"));
    assert_null(strstr(text, "f:51:1"));
    assert_int_equal(errors.count, 53);
    /* Asking again, also after more lines, does not repeat the last line. */
    struct conf_place place = {"f", 54, 1};
    (void)conf_errors_add(&errors, place, "x");
    text = conf_errors_text(&errors);
    assert_null(strstr(text, "and 3 more"));
    assert_non_null(strstr(text, "f:50:1: x\nand 4 more\n"));
    conf_errors_free(&errors);
}

static void test_control_bytes_are_escaped(void **state)
{
    (void)state;
    struct conf_errors errors;
    conf_errors_init(&errors);
    struct conf_place place = {"a\nb", 1, 1};
    (void)conf_errors_add(&errors, place, "%s", "x\x1b[31m\xc2\x9b\x7f\xc3\xa9");
    assert_string_equal(conf_errors_text(&errors), "a\\x0ab:1:1: x\\x1b[31m\\x9b\\x7f\xc3\xa9\n");
    conf_errors_free(&errors);
}

static void test_clip_keeps_characters_whole(void **state)
{
    (void)state;
    char text[101];
    for (size_t i = 0; i < 100; i++)
        text[i] = i < 79 ? 'a' : i % 2 ? '\xc3' : '\xa9';
    text[100] = 0;
    struct str clipped = conf_errors_clip(str_from_c(text));
    assert_int_equal(clipped.size, 79);
    assert_int_equal(conf_errors_clip(STR("short")).size, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_and_counts),
        cmocka_unit_test(test_only_fifty_are_kept),
        cmocka_unit_test(test_control_bytes_are_escaped),
        cmocka_unit_test(test_clip_keeps_characters_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
