#include "stored.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>

#include "os/time.h"
#include "store/page_guard.h"

#define PAGE 16384

/* A database file of two pages; the first 8 bytes of a page are its log sequence number. */
static int make_file(const struct stored *stored, uint8_t fill)
{
    char path[128];
    uint8_t page[PAGE];
    memset(page, fill, sizeof(page));
    memset(page, 0, 8);
    snprintf(path, sizeof(path), "%s/queues/1.db", stored->path);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, page, PAGE, 0), PAGE);
    assert_int_equal(pwrite(fd, page, PAGE, PAGE), PAGE);
    return fd;
}

static void fill_page(uint8_t *page, uint8_t fill, uint32_t lsn)
{
    uint32_t words[2] = {1, lsn};
    memset(page, fill, PAGE);
    memcpy(page, words, sizeof(words));
}

static void check_page(int fd, uint8_t fill, uint32_t lsn)
{
    uint8_t page[PAGE], expected[PAGE];
    fill_page(expected, fill, lsn);
    assert_int_equal(pread(fd, page, PAGE, PAGE), PAGE);
    assert_memory_equal(page, expected, PAGE);
}

/* Writes the first half of a page and is killed, as by a signal inside pwrite. */
static ssize_t die_half_way(int fd, const void *data, size_t size, off_t offset)
{
    if (pwrite(fd, data, size / 2, offset) == (ssize_t)size / 2)
        kill(getpid(), SIGKILL);
    return -1;
}

static void kill_in_write(const struct stored *stored, int fd, uint32_t lsn)
{
    int status = 0;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        uint8_t page[PAGE];
        struct err err;
        fill_page(page, 'n', lsn);
        if (page_guard_attach(stored->regions, &err) != 0)
            _exit(1);
        os_calls.pwrite = die_half_way;
        (void)page_guard_pwrite(fd, page, PAGE, PAGE);
        _exit(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
}

static void a_page_that_was_half_written_is_written_again(void **state)
{
    const struct stored *stored = *state;
    struct err err = {0};
    int fd = make_file(stored, 'o');
    kill_in_write(stored, fd, 7);
    assert_int_equal(page_guard_recover(stored->regions, stored->path, &err), 0);
    check_page(fd, 'n', 7);
    close(fd);
}

static void *no_mapping(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    (void)address;
    (void)size;
    (void)protection;
    (void)flags;
    (void)fd;
    (void)offset;
    errno = ENOMEM;
    return MAP_FAILED;
}

/* What cannot be looked at is not thrown away. */
static void a_guard_that_cannot_be_read_is_kept(void **state)
{
    const struct stored *stored = *state;
    struct err err = {0};
    int fd = make_file(stored, 'o');
    kill_in_write(stored, fd, 7);
    os_calls.mmap = no_mapping;
    assert_int_equal(page_guard_recover(stored->regions, stored->path, &err), -1);
    assert_int_equal(err.code, ENOMEM);
    os_calls_reset();
    assert_int_equal(page_guard_recover(stored->regions, stored->path, &err), 0);
    check_page(fd, 'n', 7);
    close(fd);
}

static void a_newer_page_stays(void **state)
{
    const struct stored *stored = *state;
    struct err err = {0};
    uint8_t page[PAGE];
    int fd = make_file(stored, 'o');
    kill_in_write(stored, fd, 7);
    fill_page(page, 'x', 8);
    assert_int_equal(pwrite(fd, page, PAGE, PAGE), PAGE);
    assert_int_equal(page_guard_recover(stored->regions, stored->path, &err), 0);
    check_page(fd, 'x', 8);
    close(fd);
}

static void a_guard_for_a_file_that_is_gone_is_no_error(void **state)
{
    const struct stored *stored = *state;
    struct err err = {0};
    char path[128];
    int fd = make_file(stored, 'o');
    kill_in_write(stored, fd, 7);
    close(fd);
    snprintf(path, sizeof(path), "%s/queues/1.db", stored->path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(page_guard_recover(stored->regions, stored->path, &err), 0);
}

static void a_missing_or_short_guard_is_made_anew(void **state)
{
    const struct stored *stored = *state;
    struct err err = {0};
    char path[128];
    snprintf(path, sizeof(path), "%s/pages", stored->regions);
    assert_int_equal(truncate(path, 100), 0);
    assert_int_equal(page_guard_recover(stored->regions, stored->path, &err), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(page_guard_recover(stored->regions, stored->path, &err), 0);
    assert_int_equal(access(path, F_OK), 0);
}

static int no_room(int fd, int mode, off_t offset, off_t size)
{
    (void)fd;
    (void)mode;
    (void)offset;
    (void)size;
    errno = ENOSPC;
    return -1;
}

static void a_full_disk_refuses_a_page_as_a_whole(void **state)
{
    const struct stored *stored = *state;
    uint8_t page[PAGE];
    struct stat before, after;
    int fd = make_file(stored, 'o');
    fill_page(page, 'n', 7);
    assert_int_equal(fstat(fd, &before), 0);
    os_calls.fallocate = no_room;
    assert_int_equal(page_guard_pwrite(fd, page, PAGE, 16 << 20), -1);
    assert_int_equal(errno, ENOSPC);
    os_calls_reset();
    assert_int_equal(fstat(fd, &after), 0);
    assert_int_equal(after.st_size, before.st_size);
    assert_int_equal(page_guard_pwrite(fd, page, PAGE, 16 << 20), PAGE);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_page_that_was_half_written_is_written_again, stored_setup,
                                        stored_teardown),
        cmocka_unit_test_setup_teardown(a_guard_that_cannot_be_read_is_kept, stored_setup,
                                        stored_teardown),
        cmocka_unit_test_setup_teardown(a_newer_page_stays, stored_setup, stored_teardown),
        cmocka_unit_test_setup_teardown(a_guard_for_a_file_that_is_gone_is_no_error, stored_setup,
                                        stored_teardown),
        cmocka_unit_test_setup_teardown(a_missing_or_short_guard_is_made_anew, stored_setup,
                                        stored_teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_refuses_a_page_as_a_whole, stored_setup,
                                        stored_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
