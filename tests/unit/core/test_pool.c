#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/pool.h"

static void test_memory_is_aligned_and_separate(void **state)
{
    (void)state;
    struct pool *pool = pool_create(1024);
    uint8_t *parts[200];
    for (unsigned i = 0; i < 200; i++) {
        size_t size = (size_t)i * 7 % 400;
        parts[i] = pool_alloc(pool, size);
        assert_non_null(parts[i]);
        assert_int_equal((uintptr_t)parts[i] % 16, 0);
        memset(parts[i], (int)i, size);
    }
    for (unsigned i = 0; i < 200; i++)
        for (size_t k = 0; k < (size_t)i * 7 % 400; k++)
            assert_int_equal(parts[i][k], i);
    pool_destroy(pool);
}

static void test_large_request_keeps_the_chunk_in_use(void **state)
{
    (void)state;
    struct pool *pool = pool_create(1024);
    uint8_t *first = pool_alloc(pool, 64);
    uint8_t *large = pool_alloc(pool, 100000);
    assert_non_null(large);
    memset(large, 1, 100000);
    uint8_t *second = pool_alloc(pool, 64);
    assert_ptr_equal(second, first + 64);
    pool_destroy(pool);

    pool = pool_create(1024); /* the large one first */
    large = pool_alloc(pool, 5000);
    memset(large, 1, 5000);
    first = pool_alloc(pool, 16);
    memset(first, 2, 16);
    assert_int_equal(large[4999], 1);
    pool_destroy(pool);
}

static void test_reset_keeps_one_chunk(void **state)
{
    (void)state;
    struct pool *pool = pool_create(4096);
    size_t empty = pool_size(pool);
    assert_non_null(pool_alloc(pool, 16));
    size_t one = pool_size(pool);
    assert_true(one >= empty + 4096);
    for (unsigned i = 0; i < 100; i++)
        assert_non_null(pool_alloc(pool, 1000));
    assert_non_null(pool_alloc(pool, 1 << 20));
    assert_true(pool_size(pool) > one + (1 << 20));
    pool_reset(pool);
    assert_int_equal(pool_size(pool), one);
    for (unsigned i = 0; i < 4096 / 16; i++)
        assert_non_null(pool_alloc(pool, 16));
    assert_int_equal(pool_size(pool), one);
    pool_destroy(pool);

    pool = pool_create(4096); /* nothing but a block of its own: nothing to keep */
    assert_non_null(pool_alloc(pool, 1 << 20));
    pool_reset(pool);
    assert_int_equal(pool_size(pool), empty);
    pool_reset(pool);
    pool_destroy(pool);
    pool_destroy(NULL);
}

static void test_zalloc_clears_used_memory(void **state)
{
    (void)state;
    struct pool *pool = pool_create(1024);
    void *memory = pool_alloc(pool, 500);
    memset(memory, 0xff, 500);
    pool_reset(pool);
    uint8_t *again = pool_zalloc(pool, 500);
    for (unsigned i = 0; i < 500; i++)
        assert_int_equal(again[i], 0);
    pool_destroy(pool);
}

static void test_copies(void **state)
{
    (void)state;
    struct pool *pool = pool_create(0);
    char source[] = "fair\0ness";
    struct str copy = pool_str(pool, str_of(source, 9));
    char *text = pool_strdup(pool, str_of(source, 4));
    source[0] = 'X';
    assert_true(str_equal(copy, STR("fair\0ness")));
    assert_string_equal(text, "fair");
    struct str none = pool_str(pool, str_of(NULL, 0));
    assert_int_equal(none.size, 0);
    assert_non_null(none.data); /* NULL means failure */
    assert_string_equal(pool_strdup(pool, none), "");
    pool_destroy(pool);
}

static void test_absurd_sizes_fail(void **state)
{
    (void)state;
    struct pool *pool = pool_create(SIZE_MAX);
    assert_null(pool_alloc(pool, SIZE_MAX));
    assert_null(pool_alloc(pool, (size_t)PTRDIFF_MAX));
    assert_null(pool_zalloc(pool, SIZE_MAX - 8));
    assert_null(pool_str(pool, str_of("", SIZE_MAX)).data);
    assert_null(pool_strdup(pool, str_of("", SIZE_MAX)));
    pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_aligned_and_separate),
        cmocka_unit_test(test_large_request_keeps_the_chunk_in_use),
        cmocka_unit_test(test_reset_keeps_one_chunk),
        cmocka_unit_test(test_zalloc_clears_used_memory),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_absurd_sizes_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
