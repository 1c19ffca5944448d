#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/uuid.h"

#define NS_PER_MS 1000000u

static void test_version_variant_and_time(void **state)
{
    (void)state;
    struct uuid_generator generator;
    uuid_generator_init(&generator, (const uint64_t[2]){1, 2});
    uint64_t ms = 0x0123456789abu;
    struct uuid id = uuid_next(&generator, ms * NS_PER_MS + 500000);
    assert_memory_equal(id.bytes, "\x01\x23\x45\x67\x89\xab", 6);
    assert_int_equal(id.bytes[6] << 8 | id.bytes[7], 0x7800); /* version 7, half of 4096 */
    assert_int_equal(id.bytes[8] >> 6, 2);
}

static void test_strictly_increasing_also_backwards(void **state)
{
    (void)state;
    struct uuid_generator generator;
    uuid_generator_init(&generator, (const uint64_t[2]){0, 0});
    struct uuid last = {{0}};
    uint64_t now = 1700000000000ull * NS_PER_MS;
    for (unsigned i = 0; i < 200000; i++) {
        if (i % 1000 == 999)
            now -= 3600ull * 1000 * NS_PER_MS; /* the clock is set back an hour */
        else if (i % 3 == 0)
            now += 100;
        struct uuid id = uuid_next(&generator, now);
        assert_true(memcmp(id.bytes, last.bytes, 8) > 0);
        assert_int_equal(id.bytes[6] >> 4, 7);
        assert_int_equal(id.bytes[8] >> 6, 2);
        last = id;
    }
}

static void test_counter_carries_into_milliseconds(void **state)
{
    (void)state;
    struct uuid_generator generator;
    uuid_generator_init(&generator, (const uint64_t[2]){5, 6});
    struct uuid first = uuid_next(&generator, 1000ull * NS_PER_MS), id = first;
    for (unsigned i = 0; i < 4096; i++)
        id = uuid_next(&generator, 1000ull * NS_PER_MS);
    assert_int_equal(first.bytes[4] << 8 | first.bytes[5], 1000);
    assert_int_equal(id.bytes[4] << 8 | id.bytes[5], 1001);
    assert_int_equal(id.bytes[6] << 8 | id.bytes[7], 0x7000);
}

static void test_tails_differ(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    struct uuid_generator a, b;
    uuid_generator_init(&a, (const uint64_t[2]){0, 0});
    uuid_generator_init(&b, (const uint64_t[2]){0, 1});
    struct uuid *ids = calloc(2 * COUNT, sizeof(*ids));
    for (unsigned i = 0; i < COUNT; i++) {
        ids[2 * i] = uuid_next(&a, 1);
        ids[2 * i + 1] = uuid_next(&b, 1);
    }
    uint64_t ones = 0;
    for (unsigned i = 0; i < 2 * COUNT; i++) {
        for (unsigned k = 0; k < i; k++)
            assert_true(memcmp(ids[i].bytes + 8, ids[k].bytes + 8, 8) != 0);
        uint64_t tail;
        memcpy(&tail, ids[i].bytes + 8, 8);
        ones += (uint64_t)__builtin_popcountll(tail);
    }
    assert_in_range(ones, 2 * COUNT * 31, 2 * COUNT * 33);
    assert_false(uuid_equal(&ids[0], &ids[1]));
    assert_true(uuid_equal(&ids[0], &ids[0]));
    assert_true(uuid_hash(&ids[0], 1) != uuid_hash(&ids[1], 1));
    free(ids);
}

static void test_text_round_trip(void **state)
{
    (void)state;
    static const char text[] = "0192f0c1-2b3c-7d4e-8f50-6172839abcde";
    struct uuid id, upper;
    uint8_t out[UUID_TEXT_SIZE];
    assert_true(uuid_parse(str_from_c(text), &id));
    assert_memory_equal(id.bytes,
                        "\x01\x92\xf0\xc1\x2b\x3c\x7d\x4e\x8f\x50\x61\x72\x83\x9a\xbc\xde", 16);
    uuid_format(&id, out);
    assert_memory_equal(out, text, UUID_TEXT_SIZE);
    assert_true(uuid_parse(STR("0192F0C1-2B3C-7D4E-8F50-6172839ABCDE"), &upper));
    assert_true(uuid_equal(&id, &upper));
}

static void test_bad_text_is_refused(void **state)
{
    (void)state;
    static const char good[] = "0192f0c1-2b3c-7d4e-8f50-6172839abcde";
    struct uuid id = {{7}}, before = id;
    static const char bad[] = "gG-/:@`xX \x10\xff";
    for (unsigned at = 0; at < UUID_TEXT_SIZE; at++) {
        for (const char *c = bad; *c; c++) {
            char text[UUID_TEXT_SIZE + 1];
            memcpy(text, good, sizeof(text));
            if (text[at] == *c)
                continue;
            text[at] = *c;
            assert_false(uuid_parse(str_of(text, UUID_TEXT_SIZE), &id));
        }
    }
    assert_false(uuid_parse(str_of(good, 35), &id));
    assert_false(uuid_parse(STR("0192f0c1-2b3c-7d4e-8f50-6172839abcde0"), &id));
    assert_false(uuid_parse(str_of(NULL, 0), &id));
    assert_false(uuid_parse(STR("0192f0c12-b3c-7d4e-8f50-6172839abcde"), &id));
    assert_true(uuid_equal(&id, &before));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version_variant_and_time),
        cmocka_unit_test(test_strictly_increasing_also_backwards),
        cmocka_unit_test(test_counter_carries_into_milliseconds),
        cmocka_unit_test(test_tails_differ),
        cmocka_unit_test(test_text_round_trip),
        cmocka_unit_test(test_bad_text_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
