/* Going to the background, what ps shows, and what a service manager is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "process/support/files.h"
#include "process/support/fixture.h"
#include "unit/os/manager.h"

#define MANAGER_MS 60000
#define CONF_NAME(f) (strrchr((f)->broker.conf, '/') + 1)

/* Runs filad with these arguments; the test fails unless it ends with `status`. `output` has 4096
 * bytes. */
static void must_run(struct fixture *f, int status, const char *const *arguments, char *output)
{
    int got = broker_run(&f->broker, "filad", arguments, output, 4096);
    if (got != status)
        fail_msg("filad: status %d instead of %d: %s", got, status, output);
}

/* The master that has the pid file becomes the fixture's. */
static void adopt(struct fixture *f)
{
    char text[64], *end;
    files_tail(f->broker.pid_file, text, sizeof text);
    f->broker.pid = (pid_t)strtol(text, &end, 10);
    assert_true(f->broker.pid > 0 && strcmp(end, "\n") == 0);
    f->broker.session = getsid(f->broker.pid);
    assert_true(f->broker.session > 0);
}

static int setup(void **state)
{
    /* What goes to the background is reaped here. */
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
        return -1;
    return fixture_setup_stopped(state);
}

static int teardown(void **state)
{
    unsetenv("NOTIFY_SOCKET");
    return fixture_teardown(state);
}

/* ---- in the background ---- */

static void read_title(pid_t pid, char *title, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t got = fread(title, 1, size - 1, file);
    title[got] = '\0';
    fclose(file);
}

/* Whether a process has `file` open. */
static bool has_open(pid_t pid, const struct stat *file)
{
    char path[64], entry[320];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *directory = opendir(path);
    assert_non_null(directory);
    for (struct dirent *name; (name = readdir(directory)) != NULL;) {
        struct stat st;
        snprintf(entry, sizeof entry, "%s/%s", path, name->d_name);
        if (stat(entry, &st) == 0 && st.st_dev == file->st_dev && st.st_ino == file->st_ino)
            found = true;
    }
    closedir(directory);
    return found;
}

static void check_detached(pid_t pid)
{
    char path[64], target[64];
    struct stat null, st;
    assert_int_equal(stat("/dev/null", &null), 0);
    for (int fd = 0; fd <= 2; fd++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, fd);
        assert_int_equal(stat(path, &st), 0);
        assert_true(st.st_rdev == null.st_rdev);
    }
    snprintf(path, sizeof path, "/proc/%d/cwd", (int)pid);
    ssize_t size = readlink(path, target, sizeof target - 1);
    assert_int_equal(size, 1);
    assert_int_equal(target[0], '/');
    assert_int_not_equal(getsid(pid), getsid(0));
    assert_int_not_equal(getsid(pid), pid);
}

static void check_processes(struct fixture *f, const struct stat *inherited)
{
    struct broker_process list[BROKER_PROCESSES_MAX];
    size_t count = broker_processes(&f->broker, list, BROKER_PROCESSES_MAX);
    static const char *const children[] = {"filad: keeper", "filad: worker 0", "filad: worker 1"};
    unsigned seen[3] = {0};
    char title[512], expected[512];
    assert_int_equal(count, 4);
    snprintf(expected, sizeof expected, "filad: master process %s", CONF_NAME(f));
    for (size_t i = 0; i < count; i++) {
        assert_false(has_open(list[i].pid, inherited));
        check_detached(list[i].pid);
        read_title(list[i].pid, title, sizeof title);
        if (list[i].pid == f->broker.pid)
            assert_string_equal(title, expected);
        for (unsigned child = 0; child < 3; child++)
            seen[child] += strcmp(title, children[child]) == 0;
    }
    for (unsigned child = 0; child < 3; child++)
        assert_int_equal(seen[child], 1);
}

/* Started from its own directory with a relative path, which a reload finds again. */
static void test_background(void **state)
{
    struct fixture *f = *state;
    char output[4096], inherited[BROKER_PATH_SIZE + 16];
    struct stat st;
    const char *const start[] = {"-c", CONF_NAME(f), "-g", "daemon: true", NULL};
    const char *const reload[] = {"-c", f->broker.conf, "-s", "reload", NULL};
    const char *const stop[] = {"-c", f->broker.conf, "-s", "stop", NULL};
    snprintf(inherited, sizeof inherited, "%s/inherited", f->broker.directory);
    int fd = open(inherited, O_RDWR | O_CREAT, 0600); /* not closed by exec */
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    int home = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(chdir(f->broker.directory), 0);
    must_run(f, 0, start, output);
    assert_int_equal(fchdir(home), 0);
    assert_string_equal(output, "");
    adopt(f);
    /* It serves when the command has ended. */
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_create_queue(peer, "background", 0, &f->err));
    check_processes(f, &st);
    must_run(f, 0, reload, output);
    must_run(f, 0, stop, output);
    MUST(f, broker_wait_end(&f->broker, BROKER_READY_MS, &f->err));
    assert_int_equal(access(f->broker.pid_file, F_OK), -1);
    close(fd);
    close(home);
    f->passed = true;
}

static void test_log_on_stderr_in_the_background(void **state)
{
    struct fixture *f = *state;
    char output[4096];
    const char *const start[] = {"-c", f->broker.conf, "-g",
                                 "{daemon: true, error_log: {path: stderr}}", NULL};
    must_run(f, 0, start, output);
    adopt(f);
    assert_non_null(strstr(output, "serves with 2 workers"));
    assert_int_equal(access(f->broker.log, F_OK), -1);
    MUST(f, broker_stop(&f->broker, SIGTERM, &f->err));
    f->passed = true;
}

/* Whether or not somebody listens there. */
static void test_log_in_syslog(void **state)
{
    struct fixture *f = *state;
    char output[4096];
    static const char overlay[] = "{daemon: true, error_log: {path: syslog}}";
    const char *const start[] = {"-c", f->broker.conf, "-g", overlay, NULL};
    const char *const reopen[] = {"-c", f->broker.conf, "-g", overlay, "-s", "reopen", NULL};
    must_run(f, 0, start, output);
    adopt(f);
    assert_string_equal(output, "");
    must_run(f, 0, reopen, output);
    assert_int_equal(access(f->broker.log, F_OK), -1);
    MUST(f, broker_stop(&f->broker, SIGTERM, &f->err));
    f->passed = true;
}

/* What the command says of a start that does not work, and that nothing of it stays. */
static void must_refuse(struct fixture *f, const char *overlay, const char *reason)
{
    char output[4096];
    const char *const start[] = {"-c", f->broker.conf, "-g", overlay, NULL};
    must_run(f, 1, start, output);
    if (!strstr(output, reason) || strncmp(output, "filad: ", 7) != 0)
        fail_msg("instead of '%s': %s", reason, output);
    assert_int_equal(access(f->broker.pid_file, F_OK), -1);
    while (waitpid(-1, NULL, 0) > 0)
        ; /* ends: whatever was started ends by itself */
}

static void test_mistakes_at_start_reach_the_terminal(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)atoi(strrchr(f->broker.tcp_address, ':') + 1)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    must_refuse(f, "daemon: true", "Address already in use");
    close(fd);
    f->passed = true;
}

/* ---- the service manager ---- */

static void must_hear(struct manager *manager, const char *expected)
{
    const char *said = manager_receive(manager, MANAGER_MS);
    if (strncmp(said, expected, strlen(expected)) != 0)
        fail_msg("the manager hears '%s' instead of '%s'", said, expected);
}

static void check_notifications(struct fixture *f, struct manager *manager)
{
    char output[4096];
    const char *const reload[] = {"-c", f->broker.conf, "-s", "reload", NULL};
    MUST(f, broker_start(&f->broker, &f->err));
    must_hear(manager, "READY=1");
    must_hear(manager, "STATUS=serving with 2 workers");
    must_run(f, 0, reload, output);
    must_hear(manager, "RELOADING=1\nMONOTONIC_USEC=");
    must_hear(manager, "READY=1");
    /* One that fails ends as well. */
    MUST(f, broker_write_conf(&f->broker, "nonsense: 1\n", &f->err));
    assert_int_equal(kill(f->broker.pid, SIGHUP), 0);
    must_hear(manager, "RELOADING=1\n");
    must_hear(manager, "READY=1");
    MUST(f, broker_write_conf(&f->broker, NULL, &f->err));
    MUST(f, broker_stop(&f->broker, SIGQUIT, &f->err));
    must_hear(manager, "STOPPING=1");
    assert_int_equal(recv(manager->fd, manager->got, sizeof manager->got, 0), -1);
    close(manager->fd);
}

static void test_notifications(void **state)
{
    struct fixture *f = *state;
    struct manager manager;
    char path[BROKER_PATH_SIZE + 16];
    snprintf(path, sizeof path, "%s/notify", f->broker.directory);
    manager_open(&manager, path);
    check_notifications(f, &manager);
    f->passed = true;
}

static void test_notifications_to_an_abstract_socket(void **state)
{
    struct fixture *f = *state;
    struct manager manager;
    char name[64];
    snprintf(name, sizeof name, "@filad-test-daemon-%d", (int)getpid());
    manager_open(&manager, name);
    check_notifications(f, &manager);
    f->passed = true;
}

static void test_manager_hears_the_pid_of_a_background_broker(void **state)
{
    struct fixture *f = *state;
    struct manager manager;
    char path[BROKER_PATH_SIZE + 16], output[4096], expected[64];
    const char *const start[] = {"-c", f->broker.conf, "-g", "daemon: true", NULL};
    snprintf(path, sizeof path, "%s/notify", f->broker.directory);
    manager_open(&manager, path);
    must_run(f, 0, start, output);
    adopt(f);
    snprintf(expected, sizeof expected, "MAINPID=%d", (int)f->broker.pid);
    must_hear(&manager, expected);
    must_hear(&manager, "READY=1");
    MUST(f, broker_stop(&f->broker, SIGTERM, &f->err));
    close(manager.fd);
    f->passed = true;
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_background),
        TEST(test_log_on_stderr_in_the_background),
        TEST(test_log_in_syslog),
        TEST(test_mistakes_at_start_reach_the_terminal),
        TEST(test_notifications),
        TEST(test_notifications_to_an_abstract_socket),
        TEST(test_manager_hears_the_pid_of_a_background_broker),
    };
    return cmocka_run_group_tests_name("daemon", tests, NULL, NULL);
}
