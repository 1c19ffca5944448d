/* What is left of the region directory when the broker has ended. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "master/regions.h"

static char directory[64];

static bool exists(const char *name)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s", directory, name);
    return access(path, F_OK) == 0;
}

static void make_file(const char *name)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s", directory, name);
    assert_int_equal(close(open(path, O_WRONLY | O_CREAT, 0600)), 0);
}

static int setup(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/filad-test-regions-XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    make_file("__db.001");
    make_file("__db.register");
    make_file("pages");
    make_file("empty-queue.db");
    return 0;
}

static int teardown(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}

static void test_clean(void **state)
{
    struct conf conf = {.worker_processes = 1};

    (void)state;
    regions_remove(&conf, directory, true);
    assert_int_equal(access(directory, F_OK), -1);
}

/* The next recovery needs the pages. */
static void test_not_clean(void **state)
{
    struct conf conf = {.worker_processes = 1};

    (void)state;
    regions_remove(&conf, directory, false);
    assert_false(exists("__db.001") || exists("__db.register"));
    assert_true(exists("pages"));
    regions_remove(&conf, directory, true);
    assert_int_equal(access(directory, F_OK), -1);
}

/* A directory that the configuration names stays, and so does what is not ours. */
static void test_configured(void **state)
{
    struct conf conf = {.store.regions = directory};

    (void)state;
    make_file("pages.txt");
    regions_remove(&conf, directory, true);
    assert_false(exists("__db.001") || exists("__db.register") || exists("pages"));
    assert_false(exists("empty-queue.db"));
    assert_true(exists("pages.txt"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_clean),
        TEST(test_not_clean),
        TEST(test_configured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
