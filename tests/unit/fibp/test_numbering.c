#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "fibp/numbering.h"

static const enum numbering all[] = {NUMBERING_AUTO, NUMBERING_S1, NUMBERING_S2, NUMBERING_S3};

static void test_there_and_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        for (unsigned meaning = 1; meaning < 256; meaning++) {
            uint8_t byte = numbering_byte(all[i], (enum opcode)meaning);
            if (all[i] == NUMBERING_S1 && meaning == OPCODE_CONSUME_OK)
                assert_int_equal(byte, 0);
            else
                assert_int_equal(numbering_opcode(all[i], byte), meaning);
        }
        assert_int_equal(numbering_opcode(all[i], 0), 0);
    }
}

static void test_numbers(void **state)
{
    (void)state;
    assert_int_equal(numbering_byte(NUMBERING_S2, OPCODE_CONSUME_OK), 0x19);
    assert_int_equal(numbering_byte(NUMBERING_S3, OPCODE_CONSUME_OK), 0x13);
    assert_int_equal(numbering_byte(NUMBERING_AUTO, OPCODE_CONSUME_OK), 0x13);
    for (unsigned i = 0; i < 256; i++) {
        assert_int_equal(numbering_opcode(NUMBERING_S3, (uint8_t)i), i);
        assert_int_equal(numbering_opcode(NUMBERING_AUTO, (uint8_t)i), i);
        /* Control and administration have the same numbers everywhere. */
        if (i < 0x13 || i > 0x19)
            assert_int_equal(numbering_opcode(NUMBERING_S1, (uint8_t)i), i);
    }
    for (unsigned i = 0x13; i < 0x19; i++)
        assert_int_equal(numbering_opcode(NUMBERING_S1, (uint8_t)i),
                         numbering_opcode(NUMBERING_S2, (uint8_t)i));
    assert_int_equal(numbering_opcode(NUMBERING_S2, 0x13), OPCODE_DELIVERY);
    assert_int_equal(numbering_opcode(NUMBERING_S2, 0x14), OPCODE_CANCEL_CONSUME);
    assert_int_equal(numbering_opcode(NUMBERING_S2, 0x15), OPCODE_ACK);
    assert_int_equal(numbering_opcode(NUMBERING_S2, 0x17), OPCODE_NACK);
    assert_int_equal(numbering_opcode(NUMBERING_S2, 0x19), OPCODE_CONSUME_OK);
    assert_int_equal(numbering_opcode(NUMBERING_S1, 0x19), 0);
}

static void test_what_everybody_sends_tells_nothing(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 256; i++)
        if (i != 0x14 && i != 0x15 && i != 0x16 && i != 0x17 && i != 0x18)
            assert_int_equal(numbering_of_request((uint8_t)i, STR("\0\0\0\0")), NUMBERING_AUTO);
}

static void test_what_only_some_send(void **state)
{
    (void)state;
    struct str none = {NULL, 0};
    assert_int_equal(numbering_of_request(0x14, none), NUMBERING_S2);
    assert_int_equal(numbering_of_request(0x17, none), NUMBERING_S2);
    assert_int_equal(numbering_of_request(0x16, none), NUMBERING_S3);
    assert_int_equal(numbering_of_request(0x18, none), NUMBERING_S3);
}

static void test_0x15_tells_by_its_body(void **state)
{
    (void)state;
    static const struct {
        struct str body;
        enum numbering numbering;
    } cases[] = {
        {{NULL, 0}, NUMBERING_S3},                   /* CancelConsume */
        {STR("\0\5abcde"), NUMBERING_S3},            /* with a consumer id */
        {STR("\0\0"), NUMBERING_S3},                 /* with an empty one */
        {STR("\0\0\0\0"), NUMBERING_S2},             /* Ack of nothing */
        {STR("\0\0\0\1\0\1q\0\1i"), NUMBERING_S2},   /* Ack of one */
        {STR("\0\0\377\377"), NUMBERING_S2},         /* Ack, cut */
        {STR("\0"), NUMBERING_AUTO},                 /* nobody's */
        {STR("\0\0\0"), NUMBERING_AUTO},             /* nobody's */
        {STR("\0\5abcdef"), NUMBERING_AUTO},         /* does not fill the body */
        {STR("\0\1\0\0\0\1q\0\1i"), NUMBERING_AUTO}, /* nobody acks 65,536 at once */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(numbering_of_request(0x15, cases[i].body), cases[i].numbering);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_what_everybody_sends_tells_nothing),
        cmocka_unit_test(test_what_only_some_send),
        cmocka_unit_test(test_0x15_tells_by_its_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
