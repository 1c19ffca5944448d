#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <string.h>

#include "fibp/status.h"

static void test_all_have_words(void **state)
{
    (void)state;
    for (unsigned code = 0; code < 256; code++) {
        enum fibp_status status = status_from_wire((uint8_t)code);
        assert_non_null(status_name(status));
        assert_true(status_text(status).size > 0);
        assert_int_equal(status, code <= 0x10 ? code : FIBP_INTERNAL_ERROR);
    }
    assert_string_equal(status_name(FIBP_QUEUE_NOT_FOUND), "QueueNotFound");
    assert_string_equal(status_name(FIBP_NODE_NOT_READY), "NodeNotReady");
    assert_string_equal(status_name(FIBP_INTERNAL_ERROR), "InternalError");
    assert_true(str_equal(status_text(FIBP_MESSAGE_NOT_FOUND), STR("message not found")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_have_words)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
