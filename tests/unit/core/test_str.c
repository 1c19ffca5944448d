#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/str.h"

static void test_compare_is_byte_order(void **state)
{
    (void)state;
    assert_true(str_compare(STR("a"), STR("b")) < 0);
    assert_true(str_compare(STR("b"), STR("a")) > 0);
    assert_true(str_compare(STR("a"), STR("ab")) < 0);
    assert_true(str_compare(STR("ab"), STR("a")) > 0);
    assert_true(str_compare(STR("\xff"), STR("a")) > 0);
    assert_int_equal(str_compare(STR("ab"), STR("ab")), 0);
    assert_int_equal(str_compare(str_of(NULL, 0), STR("")), 0);
    assert_true(str_compare(str_of(NULL, 0), STR("a")) < 0);
}

static void test_starts_and_ends(void **state)
{
    (void)state;
    struct str s = STR("orders.dlq"), none = str_of(NULL, 0);
    assert_true(str_starts_with(s, STR("orders")));
    assert_false(str_starts_with(s, STR("order.")));
    assert_true(str_ends_with(s, STR(".dlq")));
    assert_false(str_ends_with(s, STR("s.dl")));
    assert_true(str_starts_with(s, none));
    assert_true(str_ends_with(s, none));
    assert_true(str_ends_with(none, none));
    assert_false(str_starts_with(none, s));
    assert_false(str_ends_with(STR("dlq"), STR(".dlq")));
}

static void test_equal_looks_at_nul_bytes(void **state)
{
    (void)state;
    assert_true(str_equal(STR("a\0b"), STR("a\0b")));
    assert_false(str_equal(STR("a\0b"), STR("a\0c")));
    assert_true(str_equal(str_of(NULL, 0), STR("")));
}

static void test_dup_ends_with_nul(void **state)
{
    (void)state;
    char *copy = str_dup_c(str_of("abcdef", 3));
    assert_string_equal(copy, "abc");
    free(copy);
    copy = str_dup_c(str_of(NULL, 0));
    assert_string_equal(copy, "");
    free(copy);
    assert_null(str_dup_c(str_of("", SIZE_MAX)));
}

/* Short similar keys must not pile up in few buckets, whichever bits choose the bucket. */
static void test_hash_spreads(void **state)
{
    (void)state;
    enum { KEYS = 65536, BUCKETS = 4096 };
    unsigned *low = calloc(BUCKETS, sizeof(*low)), *high = calloc(BUCKETS, sizeof(*high));
    for (uint32_t i = 0; i < KEYS; i++) {
        char key[16];
        int size = snprintf(key, sizeof(key), "t%u", i);
        uint64_t h = str_hash(str_of(key, (size_t)size), 42);
        low[h % BUCKETS]++;
        high[h >> 52]++;
    }
    for (unsigned i = 0; i < BUCKETS; i++) {
        assert_true(low[i] < 48); /* 16 on average */
        assert_true(high[i] < 48);
    }
    free(low);
    free(high);
    assert_true(str_hash(STR("a"), 1) != str_hash(STR("a"), 2));
    assert_true(str_hash(STR("a"), 1) == str_hash(STR("a"), 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compare_is_byte_order),
        cmocka_unit_test(test_starts_and_ends),
        cmocka_unit_test(test_equal_looks_at_nul_bytes),
        cmocka_unit_test(test_dup_ends_with_nul),
        cmocka_unit_test(test_hash_spreads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
