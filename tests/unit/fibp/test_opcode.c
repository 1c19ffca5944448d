#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <string.h>

#include "fibp/opcode.h"

static void test_table(void **state)
{
    (void)state;
    unsigned known = 0, requests = 0;
    for (unsigned i = 0; i < 256; i++) {
        const struct opcode_entry *entry = opcode_find((uint8_t)i);
        if (!entry)
            continue;
        known++;
        assert_int_equal(entry->opcode, i);
        requests += entry->is_request;
        if (entry->is_request) {
            const struct opcode_entry *result = opcode_find(entry->result);
            assert_non_null(result);
            assert_int_not_equal(result->direction, OPCODE_TO_SERVER);
            assert_int_equal(result->result, 0);
        } else {
            assert_int_equal(entry->result, 0);
        }
    }
    assert_int_equal(known, 54);
    assert_int_equal(requests, 25);
}

static void test_numbers(void **state)
{
    (void)state;
    assert_int_equal(opcode_find(0x10)->result, 0x11);
    assert_int_equal(opcode_find(0x12)->result, 0x13);
    assert_int_equal(opcode_find(0x16)->result, 0x17);
    assert_int_equal(opcode_find(0x18)->result, 0x19);
    assert_int_equal(opcode_find(0xfd)->result, 0xfc);
    assert_int_equal(opcode_find(0xe5)->result, 0xe4);
    assert_string_equal(opcode_name(0xf7), "ListQueues");
    assert_string_equal(opcode_name(0xf6), "ListQueuesResult");
    assert_string_equal(opcode_name(0x1a), "unknown");
    assert_null(opcode_find(0x40));
}

static void test_accepted(void **state)
{
    (void)state;
    assert_true(opcode_is_accepted(OPCODE_ENQUEUE));
    assert_true(opcode_is_accepted(OPCODE_PING));
    assert_true(opcode_is_accepted(OPCODE_PONG));
    assert_true(opcode_is_accepted(OPCODE_DISCONNECT));
    assert_true(opcode_is_accepted(OPCODE_CANCEL_CONSUME));
    assert_true(opcode_is_accepted(OPCODE_GET_ACL));
    assert_false(opcode_is_accepted(OPCODE_HANDSHAKE));
    assert_false(opcode_is_accepted(OPCODE_ENQUEUE_RESULT));
    assert_false(opcode_is_accepted(OPCODE_DELIVERY));
    assert_false(opcode_is_accepted(OPCODE_ERROR));
    assert_false(opcode_is_accepted(0x4c));
    assert_false(opcode_is_accepted(0x00));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
