/* Out of descriptors: nobody spins, the log does not fill, and all goes on when there are some. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "process/support/crowd.h"
#include "process/support/files.h"
#include "process/support/fixture.h"
#include "process/support/measure.h"

/* The lowest number that a process has no descriptor of. */
static rlim_t lowest_free(pid_t pid)
{
    char path[64];
    rlim_t fd = 0;
    do
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, (int)fd++);
    while (faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
    return fd - 1;
}

static unsigned count_logged(const struct fixture *f, const char *text)
{
    static char log[1 << 20];
    unsigned count = 0;
    files_tail(f->broker.log, log, sizeof log);
    for (const char *at = log; (at = strstr(at, text)); at++)
        count++;
    return count;
}

struct logged {
    const struct fixture *f;
    const char *text;
};

static bool is_logged(void *context)
{
    const struct logged *logged = context;
    return count_logged(logged->f, logged->text) > 0;
}

static int connect_control(const struct fixture *f)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *slash = strrchr(f->broker.pid_file, '/');
    snprintf(address.sun_path, sizeof address.sun_path, "%.*s/control.sock",
             (int)(slash - f->broker.pid_file), f->broker.pid_file);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void test_master_without_descriptors_rests(void **state)
{
    struct fixture *f = *state;
    struct logged logged = {f, "accept on the control socket"};
    struct rlimit old, none;
    assert_int_equal(prlimit(f->broker.pid, RLIMIT_NOFILE, NULL, &old), 0);
    none = (struct rlimit){lowest_free(f->broker.pid), old.rlim_max};
    assert_int_equal(prlimit(f->broker.pid, RLIMIT_NOFILE, &none, NULL), 0);
    int control = connect_control(f);
    assert_true(wait_until(is_logged, &logged, PEER_PATIENCE_MS));
    uint64_t cpu = measure_cpu_ms(f->broker.pid);
    poll(NULL, 0, 1500); /* a measurement, over more than one rest */
    assert_in_range(measure_cpu_ms(f->broker.pid) - cpu, 0, 300);
    assert_int_equal(count_logged(f, logged.text), 1);
    /* Who waits is served when there are descriptors again. */
    assert_int_equal(prlimit(f->broker.pid, RLIMIT_NOFILE, &old, NULL), 0);
    char answer[8] = "";
    assert_int_equal(write(control, "reopen\n", 7), 7);
    struct pollfd entry = {control, POLLIN, 0};
    assert_int_equal(poll(&entry, 1, (int)PEER_PATIENCE_MS), 1);
    assert_int_equal(read(control, answer, sizeof answer - 1), 3);
    assert_string_equal(answer, "ok\n");
    close(control);
    f->passed = true;
}

/* 256 descriptors for each of two workers. */
static int setup_few(void **state)
{
    struct rlimit old, few;
    if (getrlimit(RLIMIT_NOFILE, &old) != 0)
        return -1;
    few = (struct rlimit){256, old.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &few) != 0)
        return -1;
    int status = fixture_setup_with(
        state, &(struct broker_options){.extra = "worker_rlimit_nofile: 256\n"}, true);
    (void)setrlimit(RLIMIT_NOFILE, &old);
    return status;
}

static bool is_decided(const struct crowd *crowd, void *context)
{
    struct crowd_totals totals = crowd_totals(crowd);
    (void)context;
    return totals.handshakes == totals.open;
}

/* Workers with few descriptors take fewer connections than they are configured for, and keep enough
 * of them for all else. */
static void test_few_descriptors_mean_few_connections(void **state)
{
    struct fixture *f = *state;
    const char *addresses[] = {f->broker.unix_address, f->broker.tcp_address};
    struct peer *peer = fixture_peer(f);
    struct crowd *crowd = crowd_create(1000);
    MUST(f, crowd_open(crowd, 1000, addresses, 2, &f->err));
    for (size_t i = 0; i < 1000; i++)
        (void)crowd_handshake(crowd, i); /* many are closed already */
    assert_true(crowd_wait(crowd, is_decided, NULL, PEER_PATIENCE_MS));
    print_message("%llu connections with 256 descriptors for each of 2 workers\n",
                  (unsigned long long)crowd_totals(crowd).open);
    assert_in_range(crowd_totals(crowd).open, 200, 300);
    for (unsigned i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "q%u", i);
        MUST(f, peer_create_queue(peer, name, 0, &f->err));
        MUST(f, peer_enqueue(peer, name, "m", NULL, &f->err));
    }
    assert_int_equal(count_logged(f, "Too many open files"), 0);
    crowd_destroy(crowd);
    f->passed = true;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_master_without_descriptors_rests, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_few_descriptors_mean_few_connections, setup_few,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests_name("descriptors", tests, NULL, NULL);
}
