#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/mman.h>

#include "os/calls.h"
#include "os/shm.h"

#include "unit/os/scratch.h"

static int write_byte(void *argument)
{
    *(volatile uint8_t *)argument = 42;
    return 0;
}

static void test_children_share_it(void **state)
{
    (void)state;
    struct err err;
    uint8_t *memory = shm_map(5000, &err);
    assert_non_null(memory);
    assert_int_equal(memory[4999], 0);
    assert_int_equal(scratch_fork(write_byte, memory + 4999), 0);
    assert_int_equal(memory[4999], 42);
    shm_unmap(memory, 5000);
}

static void test_size_is_only_reserved(void **state)
{
    (void)state;
    struct err err;
    size_t size = (size_t)1 << 36;
    uint8_t *memory = shm_map(size, &err);
    assert_non_null(memory);
    memory[size - 1] = 1;
    shm_unmap(memory, size);
}

static void test_discard_takes_whole_pages_only(void **state)
{
    (void)state;
    struct err err;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *memory = shm_map(4 * page, &err);
    assert_non_null(memory);
    memset(memory, 7, 4 * page);
    assert_int_equal(shm_discard(memory + 1, 3 * page), 0); /* pages 1 and 2 */
    for (size_t i = 0; i < 4 * page; i++)
        assert_int_equal(memory[i], i >= page && i < 3 * page ? 0 : 7);
    assert_int_equal(shm_discard(memory + 1, page), 0); /* none */
    assert_int_equal(memory[1], 7);
    shm_unmap(memory, 4 * page);
}

static void *failing_mmap(void *address, size_t size, int protection, int flags, int fd,
                          off_t offset)
{
    (void)address, (void)size, (void)protection, (void)flags, (void)fd, (void)offset;
    errno = ENOMEM;
    return MAP_FAILED;
}

static void test_failures(void **state)
{
    (void)state;
    struct err err;
    assert_null(shm_map(SIZE_MAX, &err));
    assert_null(shm_map(0, &err));
    os_calls.mmap = failing_mmap;
    assert_null(shm_map(4096, &err));
    assert_int_equal(err.code, ENOMEM);
    assert_non_null(strstr(err.text, "4096"));
    os_calls_reset();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_children_share_it),
        cmocka_unit_test(test_size_is_only_reserved),
        cmocka_unit_test(test_discard_takes_whole_pages_only),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
