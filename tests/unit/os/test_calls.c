#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "os/calls.h"

#include "unit/os/scratch.h"

static int failing_sync(int fd)
{
    (void)fd;
    errno = EIO;
    return -1;
}

static int calls_teardown(void **state)
{
    os_calls_reset();
    return scratch_teardown(state);
}

static void test_they_do_what_libc_does(void **state)
{
    struct scratch *scratch = *state;
    char moved[PATH_MAX], data[16] = {0};
    struct stat st;
    struct statvfs vfs;
    umask(022);
    int fd = os_open(scratch_path(scratch, "file"), O_RDWR | O_CREAT | O_EXCL, 0640);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_int_equal(os_write(fd, "abcdef", 6), 6);
    assert_int_equal(os_pwrite(fd, "XY", 2, 1), 2);
    assert_int_equal(os_pread(fd, data, sizeof(data), 0), 6);
    assert_string_equal(data, "aXYdef");
    assert_int_equal(os_fsync(fd), 0);
    assert_int_equal(os_fsync_all(fd), 0);
    assert_int_equal(os_ftruncate(fd, 3), 0);
    assert_int_equal(os_fallocate(fd, 0, 0, 8192), 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 8192);
    assert_int_equal(os_close(fd), 0);

    fd = os_open(scratch->path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(os_read(fd, data, 3), 3);
    assert_int_equal(os_close(fd), 0);
    snprintf(moved, sizeof(moved), "%s/moved", scratch->dir);
    assert_int_equal(os_rename(scratch->path, moved), 0);
    assert_int_equal(os_statvfs(moved, &vfs), 0);
    assert_int_equal(os_unlink(moved), 0);
    assert_int_equal(os_open(moved, O_RDONLY), -1);
    assert_int_equal(errno, ENOENT);
    void *memory = os_mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    munmap(memory, 4096);
}

static void test_an_entry_can_be_replaced(void **state)
{
    int fd = os_open(scratch_path(*state, "file"), O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    os_calls.fdatasync = failing_sync;
    assert_int_equal(os_fsync(fd), -1);
    assert_int_equal(errno, EIO);
    assert_int_equal(os_fsync_all(fd), 0);
    os_calls_reset();
    assert_int_equal(os_fsync(fd), 0);
    os_close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_they_do_what_libc_does, scratch_setup, calls_teardown),
        cmocka_unit_test_setup_teardown(test_an_entry_can_be_replaced, scratch_setup,
                                        calls_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
