#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "fibp/opcode.h"
#include "fibp/reassembly.h"
#include "vectors.h"

static struct frame piece(uint32_t id, uint8_t opcode, bool more, const char *text)
{
    return (struct frame){
        .opcode = opcode,
        .flags = more ? FRAME_FLAG_CONTINUATION : 0,
        .request_id = id,
        .body = str_from_c(text),
    };
}

static enum reassembly_result take(struct reassembly *reassembly, uint32_t id, uint8_t opcode,
                                   bool more, const char *text)
{
    struct frame frame = piece(id, opcode, more, text);
    return reassembly_take(reassembly, &frame);
}

static void test_interleaved(void **state)
{
    (void)state;
    struct reassembly reassembly;
    reassembly_init(&reassembly, 64, 1000, 1000);
    assert_int_equal(take(&reassembly, 1, 0x10, true, "one "), REASSEMBLY_HELD);
    assert_int_equal(take(&reassembly, 2, 0x10, true, "two "), REASSEMBLY_HELD);
    assert_int_equal(take(&reassembly, 3, OPCODE_PING, false, ""), REASSEMBLY_READY);
    assert_int_equal(take(&reassembly, 1, 0x10, true, ""), REASSEMBLY_HELD);
    struct frame frame = piece(2, 0x10, false, "halves");
    assert_int_equal(reassembly_take(&reassembly, &frame), REASSEMBLY_READY);
    assert_true(str_equal(frame.body, STR("two halves")));
    assert_int_equal(frame.flags, 0);
    frame = piece(1, 0x10, false, ""); /* an empty end */
    assert_int_equal(reassembly_take(&reassembly, &frame), REASSEMBLY_READY);
    assert_true(str_equal(frame.body, STR("one ")));
    assert_int_equal(reassembly.count, 0);
    assert_int_equal(reassembly.total, 0);
    reassembly_free(&reassembly);
}

static void test_limits(void **state)
{
    (void)state;
    struct reassembly reassembly;
    reassembly_init(&reassembly, 2, 10, 15);
    assert_int_equal(take(&reassembly, 1, 0x10, true, "12345"), REASSEMBLY_HELD);
    assert_int_equal(take(&reassembly, 1, 0x10, true, "67890"), REASSEMBLY_HELD);
    assert_int_equal(take(&reassembly, 2, 0x10, true, "12345"), REASSEMBLY_HELD);
    assert_int_equal(take(&reassembly, 3, 0x10, true, ""), REASSEMBLY_TOO_MANY);
    assert_int_equal(take(&reassembly, 2, 0x10, true, "6"), REASSEMBLY_TOO_LARGE); /* all */
    assert_int_equal(reassembly.total, 10);
    assert_int_equal(take(&reassembly, 1, 0x10, false, "1"), REASSEMBLY_TOO_LARGE); /* this one */
    assert_int_equal(reassembly.count, 0);
    assert_int_equal(take(&reassembly, 4, 0x10, true, "12345678901"), REASSEMBLY_TOO_LARGE);
    assert_int_equal(take(&reassembly, 4, 0x10, true, "x"), REASSEMBLY_HELD);
    assert_int_equal(take(&reassembly, 4, OPCODE_PING, false, ""), REASSEMBLY_MISMATCH);
    assert_int_equal(reassembly.count, 0);
    for (unsigned i = 0; i < REASSEMBLY_EMPTY_MAX; i++)
        assert_int_equal(take(&reassembly, 5, 0x10, true, ""), REASSEMBLY_HELD);
    assert_int_equal(take(&reassembly, 5, 0x10, true, "x"), REASSEMBLY_HELD);
    assert_int_equal(take(&reassembly, 5, 0x10, false, ""), REASSEMBLY_TOO_MANY_EMPTY);
    assert_int_equal(reassembly.count, 0);
    reassembly_free(&reassembly);
}

/* The golden streams: what is dispatched, by request_id. */
static void check_stream(const struct vectors *vectors, const char *comment, const uint32_t *ids,
                         size_t count)
{
    struct reassembly reassembly;
    struct frame frame;
    struct str rest = vectors_find(vectors, comment);
    size_t seen = 0;

    assert_non_null(rest.data);
    reassembly_init(&reassembly, 64, 1000, 1000);
    while (rest.size > 0) {
        assert_int_equal(frame_parse(rest, FRAME_LENGTH_MAX, &frame), FRAME_READY);
        rest = str_of(rest.data + frame.size, rest.size - frame.size);
        enum reassembly_result result = reassembly_take(&reassembly, &frame);
        if (result == REASSEMBLY_HELD)
            continue;
        assert_int_equal(result, REASSEMBLY_READY);
        assert_true(seen < count);
        assert_int_equal(frame.request_id, ids[seen]);
        seen++;
    }
    assert_int_equal(seen, count);
    reassembly_free(&reassembly);
}

static void test_vectors(void **state)
{
    (void)state;
    struct vectors vectors;
    assert_true(vectors_load(&vectors, "framed_continuation.txt"));
    check_stream(&vectors, "framed C->S the same Enqueue as ONE byte string", (uint32_t[]){51}, 1);
    check_stream(&vectors, "framed C->S two interleaved split Enqueues", (uint32_t[]){54, 53, 52},
                 3);
    check_stream(&vectors, "framed C->S split Enqueue whose final chunk is empty", (uint32_t[]){55},
                 1);
    check_stream(&vectors, "framed S->C Delivery split in 2", (uint32_t[]){10}, 1);
    vectors_free(&vectors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_interleaved),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
