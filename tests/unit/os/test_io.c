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
#include <stdbool.h>
#include <sys/stat.h>

#include "os/calls.h"
#include "os/io.h"

#include "unit/os/scratch.h"

static int io_teardown(void **state)
{
    os_calls_reset();
    return scratch_teardown(state);
}

/* Calls that do a little at a time, interrupted every other time, and fail when `budget` is used
 * up. */
static struct {
    unsigned calls;
    size_t budget;
    int failure;
} trickle;

static ssize_t trickle_write(int fd, const void *data, size_t size)
{
    if (trickle.calls++ % 2) {
        errno = EINTR;
        return -1;
    }
    if (trickle.budget == 0) {
        errno = trickle.failure;
        return -1;
    }
    size_t part = size < 3 ? size : 3;
    if (part > trickle.budget)
        part = trickle.budget;
    trickle.budget -= part;
    return write(fd, data, part);
}

static ssize_t trickle_read(int fd, void *data, size_t size)
{
    if (trickle.calls++ % 2) {
        errno = EINTR;
        return -1;
    }
    return read(fd, data, size < 5 ? size : 5);
}

static int failing_call(int fd)
{
    (void)fd;
    errno = EIO;
    return -1;
}

static int failing_rename(const char *from, const char *to)
{
    (void)from;
    (void)to;
    errno = EACCES;
    return -1;
}

static void check_content(const char *path, const char *expected)
{
    struct buf buf;
    struct err err;
    buf_init(&buf, 0);
    assert_int_equal(io_read_file(path, 1 << 20, &buf, &err), 0);
    assert_true(str_equal(buf_str(&buf), str_from_c(expected)));
    buf_free(&buf);
}

static void test_atomic_write_and_read(void **state)
{
    struct scratch *scratch = *state;
    struct err err;
    struct stat st;
    const char *path = scratch_path(scratch, "file");
    umask(077);
    assert_int_equal(io_write_file_atomic(path, STR("first"), 0644, &err), 0);
    check_content(path, "first");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_int_equal(io_write_file_atomic(path, STR(""), 0600, &err), 0);
    check_content(path, "");
    umask(022);

    trickle.calls = 0;
    trickle.budget = SIZE_MAX;
    os_calls.write = trickle_write;
    os_calls.read = trickle_read;
    assert_int_equal(io_write_file_atomic(path, STR("in many small parts"), 0600, &err), 0);
    check_content(path, "in many small parts");
    os_calls_reset();
    assert_int_equal(access(scratch_path(scratch, "file.tmp"), F_OK), -1);
}

static void test_failed_write_keeps_the_old_file(void **state)
{
    struct scratch *scratch = *state;
    char path[PATH_MAX];
    struct err err;
    snprintf(path, sizeof(path), "%s", scratch_path(scratch, "file"));
    assert_int_equal(io_write_file_atomic(path, STR("old"), 0600, &err), 0);
    static const int codes[] = {ENOSPC, EIO, EACCES, EIO};
    for (int i = 0; i < 4; i++) {
        trickle.calls = 0;
        trickle.budget = 4;
        trickle.failure = ENOSPC;
        if (i == 0)
            os_calls.write = trickle_write;
        else if (i == 1)
            os_calls.fdatasync = failing_call;
        else if (i == 2)
            os_calls.rename = failing_rename;
        else
            os_calls.fsync = failing_call;
        assert_int_equal(io_write_file_atomic(path, STR("new content"), 0600, &err), -1);
        assert_int_equal(err.code, codes[i]);
        assert_non_null(strstr(err.text, scratch->dir));
        os_calls_reset();
        assert_int_equal(access(scratch_path(scratch, "file.tmp"), F_OK), -1);
        check_content(path, i < 3 ? "old" : "new content");
    }
    assert_int_equal(io_write_file_atomic("/nonexistent/x", STR("y"), 0600, &err), -1);
    assert_int_equal(err.code, ENOENT);
}

static void test_leftover_of_a_crash_is_no_obstacle(void **state)
{
    struct scratch *scratch = *state;
    struct err err;
    int fd = open(scratch_path(scratch, "file.tmp"), O_WRONLY | O_CREAT, 0600);
    assert_int_equal(io_write_all(fd, "a longer text than what comes", 29), 0);
    close(fd);
    const char *path = scratch_path(scratch, "file");
    assert_int_equal(io_write_file_atomic(path, STR("short"), 0600, &err), 0);
    check_content(path, "short");
}

static void test_read_limit(void **state)
{
    struct err err;
    struct buf buf;
    const char *path = scratch_path(*state, "file");
    size_t size = 50000;
    uint8_t *content = malloc(size);
    for (size_t i = 0; i < size; i++)
        content[i] = (uint8_t)(i * 7);
    assert_int_equal(io_write_file_atomic(path, str_of(content, size), 0600, &err), 0);
    buf_init(&buf, 0);
    buf_append_c(&buf, "before");
    assert_int_equal(io_read_file(path, size - 1, &buf, &err), -1);
    assert_int_equal(err.code, EFBIG);
    assert_int_equal(buf.size, 6);
    assert_int_equal(io_read_file(path, size, &buf, &err), 0);
    assert_int_equal(buf.size, 6 + size);
    assert_memory_equal(buf.data, "before", 6);
    assert_memory_equal(buf.data + 6, content, size);
    buf_free(&buf);

    buf_init(&buf, 1000); /* the buffer's own limit */
    assert_int_equal(io_read_file(path, size, &buf, &err), -1);
    assert_int_equal(err.code, ENOMEM);
    buf_free(&buf);
    free(content);

    buf_init(&buf, 0);
    assert_int_equal(io_read_file("/nonexistent", 10, &buf, &err), -1);
    assert_int_equal(err.code, ENOENT);
    assert_int_equal(io_read_file("/tmp", 10, &buf, &err), -1);
    assert_int_equal(err.code, EISDIR);
    buf_free(&buf);
}

static void test_make_dirs(void **state)
{
    struct scratch *scratch = *state;
    struct err err;
    struct stat st;
    const uid_t same_uid = (uid_t)-1;
    const gid_t same_gid = (gid_t)-1;
    umask(077);
    const char *path = scratch_path(scratch, "a//b/c/");
    assert_int_equal(io_make_dirs(path, 0751, same_uid, same_gid, &err), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(st.st_mode & 07777, 0751);
    umask(022);
    assert_int_equal(io_make_dirs(path, 0700, same_uid, same_gid, &err), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0751); /* left as it was */
    if (geteuid() == 0) {
        assert_int_equal(io_make_dirs(scratch_path(scratch, "owned"), 0700, 12345, 23456, &err), 0);
        assert_int_equal(stat(scratch->path, &st), 0);
        assert_int_equal(st.st_uid, 12345);
        assert_int_equal(st.st_gid, 23456);
    }
    close(open(scratch_path(scratch, "file"), O_WRONLY | O_CREAT, 0600));
    assert_int_equal(io_make_dirs(scratch->path, 0700, same_uid, same_gid, &err), -1);
    assert_int_equal(err.code, ENOTDIR);
    assert_int_equal(
        io_make_dirs(scratch_path(scratch, "file/below"), 0700, same_uid, same_gid, &err), -1);
    assert_int_equal(err.code, ENOTDIR);
    assert_int_equal(io_make_dirs("", 0700, same_uid, same_gid, &err), -1);
    assert_int_equal(io_make_dirs("/", 0700, same_uid, same_gid, &err), 0);
}

static int small_statvfs(const char *path, struct statvfs *result)
{
    (void)path;
    *result = (struct statvfs){.f_frsize = 4096, .f_bsize = 1 << 20, .f_bavail = 3, .f_bfree = 9};
    return 0;
}

static void test_free_space(void **state)
{
    struct scratch *scratch = *state;
    struct err err;
    uint64_t bytes = 0;
    assert_int_equal(io_free_space(scratch->dir, &bytes, &err), 0);
    assert_true(bytes > 0);
    os_calls.statvfs = small_statvfs;
    assert_int_equal(io_free_space(scratch->dir, &bytes, &err), 0);
    assert_int_equal(bytes, 3 * 4096);
    os_calls_reset();
    assert_int_equal(io_free_space("/nonexistent", &bytes, &err), -1);
    assert_int_equal(err.code, ENOENT);
}

static void test_is_tmpfs(void **state)
{
    (void)state;
    struct err err;
    bool is = true;
    assert_int_equal(io_is_tmpfs("/proc", &is, &err), 0);
    assert_false(is);
    assert_int_equal(io_is_tmpfs("/dev/shm", &is, &err), 0);
    assert_true(is);
    assert_int_equal(io_is_tmpfs("/nonexistent", &is, &err), -1);
}

static void test_path_join(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"/a", "b", "/a/b"}, {"/a/", "b/c", "/a/b/c"}, {"/a", "/b", "/b"},
        {"", "b", "b"},      {"/", "b", "/b"},         {".", "", "./"},
    };
    char out[16];
    struct err err;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(io_path_join(out, sizeof(out), cases[i][0], cases[i][1], &err), 0);
        assert_string_equal(out, cases[i][2]);
    }
    assert_int_equal(io_path_join(out, 5, "/a", "b", &err), 0);
    assert_int_equal(io_path_join(out, 4, "/a", "b", &err), -1);
    assert_int_equal(err.code, ENAMETOOLONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_atomic_write_and_read, scratch_setup, io_teardown),
        cmocka_unit_test_setup_teardown(test_failed_write_keeps_the_old_file, scratch_setup,
                                        io_teardown),
        cmocka_unit_test_setup_teardown(test_leftover_of_a_crash_is_no_obstacle, scratch_setup,
                                        io_teardown),
        cmocka_unit_test_setup_teardown(test_read_limit, scratch_setup, io_teardown),
        cmocka_unit_test_setup_teardown(test_make_dirs, scratch_setup, io_teardown),
        cmocka_unit_test_setup_teardown(test_free_space, scratch_setup, io_teardown),
        cmocka_unit_test(test_is_tmpfs),
        cmocka_unit_test(test_path_join),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
