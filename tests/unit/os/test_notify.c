#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "os/notify.h"
#include "os/time.h"

#include "unit/os/manager.h"
#include "unit/os/scratch.h"

static int notify_teardown(void **state)
{
    unsetenv("NOTIFY_SOCKET");
    return scratch_teardown(state);
}

static void test_messages(void **state)
{
    struct manager manager;
    struct err err;
    manager_open(&manager, scratch_path(*state, "notify"));
    assert_int_equal(notify_ready(&err), 0);
    assert_string_equal(manager_receive(&manager, 0), "READY=1");
    assert_int_equal(notify_stopping(&err), 0);
    assert_string_equal(manager_receive(&manager, 0), "STOPPING=1");
    assert_int_equal(notify_main_pid(4711, &err), 0);
    assert_string_equal(manager_receive(&manager, 0), "MAINPID=4711");
    assert_int_equal(notify_status(&err, "%d workers\nREADY=1", 2), 0);
    assert_string_equal(manager_receive(&manager, 0), "STATUS=2 workers READY=1");
    assert_int_equal(notify_status(&err, "%2000d", 2), 0);
    assert_int_equal(strlen(manager_receive(&manager, 0)), 511);

    uint64_t before = time_monotonic_ns() / 1000;
    assert_int_equal(notify_reloading(&err), 0);
    unsigned long long stamp;
    assert_int_equal(
        sscanf(manager_receive(&manager, 0), "RELOADING=1\nMONOTONIC_USEC=%llu", &stamp), 1);
    assert_in_range(stamp, before, before + 60000000);
    close(manager.fd);
    assert_int_equal(notify_ready(&err), -1);
    assert_int_equal(err.code, ECONNREFUSED);
}

static void test_abstract_socket(void **state)
{
    (void)state;
    struct manager manager;
    struct err err;
    char name[64];
    snprintf(name, sizeof(name), "@filad-test-%d", getpid());
    manager_open(&manager, name);
    assert_int_equal(notify_ready(&err), 0);
    assert_string_equal(manager_receive(&manager, 0), "READY=1");
    close(manager.fd);
}

static void test_without_manager(void **state)
{
    (void)state;
    struct err err;
    unsetenv("NOTIFY_SOCKET");
    assert_int_equal(notify_ready(&err), 0);
    setenv("NOTIFY_SOCKET", "", 1);
    assert_int_equal(notify_ready(&err), 0);
    setenv("NOTIFY_SOCKET", "relative/path", 1);
    assert_int_equal(notify_ready(&err), -1);
    char path[300];
    memset(path, '/', sizeof(path));
    path[sizeof(path) - 1] = '\0';
    setenv("NOTIFY_SOCKET", path, 1);
    assert_int_equal(notify_ready(&err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_messages, scratch_setup, notify_teardown),
        cmocka_unit_test_setup_teardown(test_abstract_socket, scratch_setup, notify_teardown),
        cmocka_unit_test_setup_teardown(test_without_manager, scratch_setup, notify_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
