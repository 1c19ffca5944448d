/* The checksum of log records: the same as Berkeley DB's own, and the one that it calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/log_checksum.c"

#define ROOM 4096

static library_function *librarys_own(void)
{
    assert_non_null(db_version(NULL, NULL, NULL)); /* or the linker leaves the library out */
    library_function *function = (library_function *)(uintptr_t)dlsym(RTLD_NEXT, "__ham_func4");
    assert_non_null(function);
    assert_ptr_not_equal(function, __ham_func4);
    return function;
}

static void is_the_number_that_the_library_computes(void **state)
{
    library_function *library = librarys_own();
    uint8_t bytes[ROOM];
    unsigned seed = 7;
    (void)state;
    for (size_t i = 0; i < ROOM; i++)
        bytes[i] = (uint8_t)(rand_r(&seed) >> 7);
    for (uint32_t size = 0; size < ROOM - 8; size += size < 70 ? 1 : 37)
        for (unsigned start = 0; start < 8; start++)
            assert_int_equal(log_checksum(bytes + start, size), library(NULL, bytes + start, size));
}

static void has_room_for_the_largest_digits(void **state)
{
    library_function *library = librarys_own();
    uint8_t bytes[ROOM];
    (void)state;
    memset(bytes, 0xff, sizeof(bytes));
    for (uint32_t size = 0; size < 40; size++)
        assert_int_equal(log_checksum(bytes, size), library(NULL, bytes, size));
    assert_int_equal(log_checksum(bytes, ROOM), library(NULL, bytes, ROOM));
}

/* What the dynamic linker finds first is what the library's own calls go to. */
static void takes_the_librarys_place(void **state)
{
    (void)state;
    library_function *found = (library_function *)(uintptr_t)dlsym(RTLD_DEFAULT, "__ham_func4");
    assert_ptr_equal(found, __ham_func4);
    assert_true(log_checksum_init());
}

static u_int32_t another(DB *db, const void *data, u_int32_t size)
{
    (void)db;
    (void)data;
    return size + 1;
}

static void gives_way_to_a_library_that_computes_otherwise(void **state)
{
    (void)state;
    original = another;
    assert_int_equal(__ham_func4(NULL, "abc", 3), 4);
    original = NULL;
    assert_int_equal(__ham_func4(NULL, "abc", 3), log_checksum("abc", 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_the_number_that_the_library_computes),
        cmocka_unit_test(has_room_for_the_largest_digits),
        cmocka_unit_test(takes_the_librarys_place),
        cmocka_unit_test(gives_way_to_a_library_that_computes_otherwise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
