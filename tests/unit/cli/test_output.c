#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "capture.h"
#include "cli/output.h"

static void test_json(void **state)
{
    (void)state;
    struct output_json json;
    struct capture capture;
    capture_begin(&capture);
    output_json_init(&json, stdout);
    output_object(&json, NULL);
    output_c_text(&json, "te\"xt", "a\"b\\c\n\t\r\b\f\x01/\x7f\xc2\x9b\xc3\xa4");
    output_text(&json, "nul", "a\0b", 3);
    output_array(&json, "list");
    output_unsigned(&json, NULL, UINT64_MAX);
    output_signed(&json, NULL, -5);
    output_object(&json, NULL);
    output_object_end(&json);
    output_array_end(&json);
    output_array(&json, "none");
    output_array_end(&json);
    output_double(&json, "half", 0.5);
    output_double(&json, "inf", 1e308 * 10);
    output_object_end(&json);
    output_line(&json);
    output_unsigned(&json, NULL, 1);
    output_line(&json);
    capture_end(&capture);
    assert_string_equal(
        capture.out, "{\"te\\\"xt\": \"a\\\"b\\\\c\\n\\t\\r\\b\\f\\u0001/\\u007f\\u009b\xc3\xa4\", "
                     "\"nul\": \"a\\u0000b\", "
                     "\"list\": [18446744073709551615, -5, {}], \"none\": [], "
                     "\"half\": 0.5, \"inf\": null}\n1\n");
    capture_free(&capture);
}

static void test_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *json;
    } cases[] = {
        {"text", "{\"payload\": \"text\"}\n"},
        {"", "{\"payload\": \"\"}\n"},
        {"\xff", "{\"payload_base64\": \"/w==\"}\n"},
        {"\xff\xfe", "{\"payload_base64\": \"//4=\"}\n"},
        {"\xff\xfe\xfd", "{\"payload_base64\": \"//79\"}\n"},
        {"\xffman", "{\"payload_base64\": \"/21hbg==\"}\n"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct output_json json;
        struct capture capture;
        capture_begin(&capture);
        output_json_init(&json, stdout);
        output_object(&json, NULL);
        output_bytes(&json, "payload", cases[i].bytes, strlen(cases[i].bytes));
        output_object_end(&json);
        output_line(&json);
        capture_end(&capture);
        assert_string_equal(capture.out, cases[i].json);
        capture_free(&capture);
    }
}

/* Nothing from the broker may steer the terminal, and columns stay in line. */
static void test_safe(void **state)
{
    (void)state;
    struct capture capture;
    capture_begin(&capture);
    output_safe(stdout, "a\x1b[2J\n", 14);
    printf("|");
    output_safe(stdout, "\xc3\xa4", 3);
    printf("|");
    output_safe(stdout, "long", 2);
    capture_end(&capture);
    assert_string_equal(capture.out, "a\\x1b[2J\\x0a  |\xc3\xa4  |long");
    assert_int_equal(output_safe_width("a\x1b[2J\n"), 12);
    capture_free(&capture);
}

/* U+009B is what ESC [ is. */
static void test_safe_from_control_characters_of_two_bytes(void **state)
{
    (void)state;
    struct capture capture;
    capture_begin(&capture);
    output_safe(stdout,
                "\xc2\x9b"
                "31m\xc2\xa0\xc2",
                14);
    printf("|");
    capture_end(&capture);
    assert_string_equal(capture.out, "\\xc2\\x9b31m\xc2\xa0\xc2 |");
    capture_free(&capture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_safe),
        cmocka_unit_test(test_safe_from_control_characters_of_two_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
