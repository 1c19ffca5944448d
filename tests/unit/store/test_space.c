#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "os/calls.h"
#include "store/space.h"

#include "unit/os/scratch.h"

#define MIB ((uint64_t)1 << 20)

static off_t ballast_size(struct scratch *scratch)
{
    struct stat info;
    return stat(scratch_path(scratch, "ballast"), &info) == 0 ? info.st_size : -1;
}

static int full_fallocate(int fd, int mode, off_t offset, off_t size)
{
    (void)fd;
    (void)mode;
    (void)offset;
    (void)size;
    errno = ENOSPC;
    return -1;
}

static int nearly_full(const char *path, struct statvfs *result)
{
    int status = statvfs(path, result);
    result->f_bavail = MIB / result->f_frsize;
    return status;
}

static int teardown(void **state)
{
    os_calls_reset();
    return scratch_teardown(state);
}

static void the_reserve_follows_the_checkpoints(void **state)
{
    (void)state;
    assert_int_equal(space_reserve(5, 100 * MIB), 5);
    assert_int_equal(space_reserve(0, 100 * MIB), 328 * MIB);
}

static void the_ballast_is_made_and_given_up(void **state)
{
    struct scratch *scratch = *state;
    assert_true(space_is_low(scratch->dir, 4 * MIB, false));
    space_release(scratch->dir); /* there is none */
    assert_int_equal(ballast_size(scratch), -1);
    assert_true(space_restore(scratch->dir, 4 * MIB));
    assert_int_equal(ballast_size(scratch), 4 * MIB);
    assert_false(space_is_low(scratch->dir, 4 * MIB, false));
    assert_true(space_restore(scratch->dir, 4 * MIB));
    space_release(scratch->dir);
    assert_int_equal(ballast_size(scratch), 0);
    assert_true(space_is_low(scratch->dir, 4 * MIB, false));
    assert_true(space_restore(scratch->dir, 4 * MIB));
    assert_int_equal(ballast_size(scratch), 4 * MIB);
}

static void without_room_there_is_none(void **state)
{
    struct scratch *scratch = *state;
    os_calls.fallocate = full_fallocate;
    assert_false(space_restore(scratch->dir, 4 * MIB));
    assert_true(ballast_size(scratch) <= 0);
    assert_true(space_is_low(scratch->dir, 4 * MIB, false));
    os_calls_reset();
    os_calls.statvfs = nearly_full;
    assert_false(space_restore(scratch->dir, 4 * MIB));
    assert_true(ballast_size(scratch) <= 0);
    os_calls_reset();
    assert_true(space_restore(scratch->dir, 64 * MIB));
    os_calls.statvfs = nearly_full; /* 1 MiB is less than an eighth */
    assert_true(space_is_low(scratch->dir, 64 * MIB, false));
    assert_false(space_is_low(scratch->dir, 4 * MIB, false));
}

static void what_was_low_needs_more_room_to_be_well(void **state)
{
    struct scratch *scratch = *state;
    assert_true(space_restore(scratch->dir, 3 * MIB));
    os_calls.statvfs = nearly_full; /* 1 MiB is a third */
    assert_false(space_is_low(scratch->dir, 3 * MIB, false));
    assert_true(space_is_low(scratch->dir, 3 * MIB, true));
    assert_false(space_is_low(scratch->dir, 2 * MIB, true));
}

/* What the log tells the operator is what ends the refusal. */
static void what_is_wanted_is_enough(void **state)
{
    struct scratch *scratch = *state;
    uint64_t free_bytes = 0;
    assert_int_equal(space_wanted(scratch->dir, 4 * MIB, &free_bytes), 8 * MIB);
    assert_true(free_bytes > 0);
    assert_true(space_restore(scratch->dir, 3 * MIB));
    assert_int_equal(space_wanted(scratch->dir, 4 * MIB, &free_bytes), 2 * MIB);
    assert_int_equal(space_wanted(scratch->dir, 3 * MIB, &free_bytes), 3 * MIB / 2);
    os_calls.statvfs = nearly_full;
    assert_true(space_is_low(scratch->dir, 3 * MIB, true));
    (void)space_wanted(scratch->dir, 2 * MIB, &free_bytes);
    assert_int_equal(free_bytes, MIB);
    assert_false(space_is_low(scratch->dir, 2 * MIB, true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_reserve_follows_the_checkpoints, scratch_setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_ballast_is_made_and_given_up, scratch_setup, teardown),
        cmocka_unit_test_setup_teardown(without_room_there_is_none, scratch_setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_low_needs_more_room_to_be_well, scratch_setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_wanted_is_enough, scratch_setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
