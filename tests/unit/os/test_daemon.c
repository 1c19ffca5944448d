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
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "os/daemon.h"
#include "os/time.h"

#include "unit/os/scratch.h"

/* What the process in the background does. */
enum ending { SAYS_READY_AND_STAYS, SAYS_FAILED, DIES };

/* In memory that both share: a pipe to the test would not survive. */
struct note {
    pid_t pid;
    bool leader, in_root, stdin_null, stderr_null, inherited;
    atomic_bool written;
};

static bool is_null_device(int fd)
{
    struct stat st, null;
    return fstat(fd, &st) == 0 && stat("/dev/null", &null) == 0 && st.st_rdev == null.st_rdev;
}

/* In the background; `given` was open when it detached. */
static _Noreturn void background(enum ending ending, int ready, int given, struct note *note)
{
    char now[PATH_MAX];
    note->pid = getpid();
    note->leader = getsid(0) == getpid();
    note->in_root = getcwd(now, sizeof(now)) && strcmp(now, "/") == 0;
    note->stdin_null = is_null_device(0) && is_null_device(1);
    note->inherited = given != ready && fcntl(given, F_GETFD) >= 0;
    if (ending == SAYS_FAILED)
        daemon_failed(ready, "open store: no room");
    if (ending == SAYS_READY_AND_STAYS)
        daemon_ready(ready, false);
    note->stderr_null = is_null_device(2);
    atomic_store(&note->written, true);
    if (ending == SAYS_READY_AND_STAYS)
        for (;;)
            pause();
    _exit(3);
}

/* Detaches in a child process; returns the exit status that the child's starter sees. */
static int launch(enum ending ending, struct note *note, char *said, size_t said_size)
{
    int errors[2];
    struct note *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(shared, MAP_FAILED);
    assert_int_equal(pipe(errors), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct err err;
        dup2(errors[1], 2);
        int ready = daemon_detach(&err);
        if (ready < 0)
            _exit(99);
        background(ending, ready, errors[1], shared);
    }
    close(errors[1]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    /* Ends although the daemon lives on: it let go of standard error. */
    ssize_t size = 0, got;
    while ((got = read(errors[0], said + size, said_size - 1 - (size_t)size)) > 0)
        size += got;
    said[size] = '\0';
    close(errors[0]);
    while (!atomic_load(&shared->written))
        sched_yield();
    *note = *shared;
    munmap(shared, sizeof(*shared));
    return WEXITSTATUS(status);
}

static void test_ready(void **state)
{
    (void)state;
    struct note note;
    char said[256];
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0); /* to reap what it leaves */
    assert_int_equal(launch(SAYS_READY_AND_STAYS, &note, said, sizeof(said)), 0);
    assert_string_equal(said, "");
    assert_int_equal(kill(note.pid, 0), 0);
    assert_false(note.leader);
    assert_true(note.in_root);
    assert_false(note.inherited);
    assert_true(note.stdin_null);
    assert_true(note.stderr_null);
    assert_int_equal(kill(note.pid, SIGKILL), 0);
    assert_int_equal(waitpid(note.pid, NULL, 0), note.pid);
}

static void test_failed(void **state)
{
    (void)state;
    struct note note;
    char said[256];
    assert_int_equal(launch(SAYS_FAILED, &note, said, sizeof(said)), 1);
    assert_string_equal(said, "filad: open store: no room\n");
    assert_int_equal(waitpid(note.pid, NULL, 0), note.pid);
}

static void test_dies_without_a_word(void **state)
{
    (void)state;
    struct note note;
    char said[256];
    assert_int_equal(launch(DIES, &note, said, sizeof(said)), 1);
    assert_string_equal(said, "filad: the background process ended before it was ready\n");
    assert_int_equal(waitpid(note.pid, NULL, 0), note.pid);
}

static void test_foreground(void **state)
{
    int saved = dup(2);
    int fd = open(scratch_path(*state, "stderr"), O_RDWR | O_CREAT, 0600);
    char got[64] = {0};
    dup2(fd, 2);
    daemon_ready(-1, false);
    daemon_failed(-1, "no room");
    dup2(saved, 2);
    close(saved);
    assert_int_equal(pread(fd, got, sizeof(got) - 1, 0), 15);
    assert_string_equal(got, "filad: no room\n");
    close(fd);
}

static void test_pid_file(void **state)
{
    struct err err;
    pid_t pid = 0;
    struct stat st;
    const char *path = scratch_path(*state, "pid");
    assert_int_equal(daemon_pid_read(path, &pid, &err), -1);
    assert_int_equal(err.code, ENOENT);
    umask(022);
    int fd = daemon_pid_open(path, &err);
    assert_true(fd >= 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0644);
    assert_int_equal(daemon_pid_read(path, &pid, &err), 0);
    assert_int_equal(pid, getpid());

    char expected[256];
    snprintf(expected, sizeof(expected), "pid file %s is held by process %d", path, getpid());
    assert_int_equal(daemon_pid_open(path, &err), -1);
    assert_string_equal(err.text, expected);
    daemon_pid_remove(fd, path);
    assert_int_equal(access(path, F_OK), -1);
}

static void test_asking_for_a_pid_file_takes_nothing(void **state)
{
    struct err err;
    const char *path = scratch_path(*state, "pid");
    FILE *file = fopen(path, "w");
    fclose(file);
    int asking = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(asking >= 0);
    assert_false(daemon_pid_held(asking));
    int fd = daemon_pid_open(path, &err); /* while `asking` is open */
    assert_true(fd >= 0);
    assert_true(daemon_pid_held(asking));
    pid_t pid = fork();
    if (pid == 0)
        _exit(daemon_pid_held(asking) ? 0 : 1);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    daemon_pid_remove(fd, path);
    assert_false(daemon_pid_held(asking));
    close(asking);
}

static void test_stale_pid_file_is_taken_over(void **state)
{
    struct err err;
    pid_t pid = 0;
    const char *path = scratch_path(*state, "pid");
    FILE *file = fopen(path, "w");
    fputs("1\nand much more text than a pid needs\n", file); /* pid 1 is alive */
    fclose(file);
    int fd = daemon_pid_open(path, &err);
    assert_true(fd >= 0);
    assert_int_equal(daemon_pid_read(path, &pid, &err), 0);
    assert_int_equal(pid, getpid());
    daemon_pid_remove(fd, path);
}

static void test_another_pid_file_is_not_removed(void **state)
{
    struct err err;
    char path[PATH_MAX], old[PATH_MAX];
    snprintf(path, sizeof(path), "%s", scratch_path(*state, "pid"));
    snprintf(old, sizeof(old), "%s", scratch_path(*state, "pid.old"));
    int first = daemon_pid_open(path, &err);
    assert_true(first >= 0);
    assert_int_equal(rename(path, old), 0); /* as for an upgrade */
    int second = daemon_pid_open(path, &err);
    assert_true(second >= 0);
    daemon_pid_remove(first, path);
    assert_int_equal(access(path, F_OK), 0);
    daemon_pid_remove(second, path);
    assert_int_equal(access(path, F_OK), -1);
}

static void test_nonsense_in_a_pid_file(void **state)
{
    static const char *const cases[] = {"", "x\n", "0\n", "-5\n", "12x\n", "99999999999999\n"};
    const char *path = scratch_path(*state, "pid");
    struct err err;
    pid_t pid;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        FILE *file = fopen(path, "w");
        fputs(cases[i], file);
        fclose(file);
        assert_int_equal(daemon_pid_read(path, &pid, &err), -1);
    }
    int fd = open(scratch_path(*state, "target"), O_WRONLY | O_CREAT, 0600);
    close(fd);
    assert_int_equal(symlink("target", scratch_path(*state, "link")), 0);
    assert_int_equal(daemon_pid_open(scratch_path(*state, "link"), &err), -1);
    assert_int_equal(err.code, ELOOP);
}

/* A child that inherited the lock keeps it after the parent has let go; the pipe ends it. */
static void test_lock_lives_as_long_as_its_last_heir(void **state)
{
    struct err err;
    int hold[2];
    char expected[256];
    const char *path = scratch_path(*state, "lock");
    int fd = daemon_lock(path, 0, &err);
    assert_true(fd >= 0);
    assert_int_equal(pipe(hold), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        close(hold[1]);
        _exit(read(hold[0], &byte, 1) == 0 ? 0 : 1);
    }
    close(hold[0]);
    close(fd);

    uint64_t start = time_monotonic_ms();
    assert_int_equal(daemon_lock(path, 50, &err), -1);
    assert_in_range(time_monotonic_ms() - start, 50, 5000);
    assert_int_equal(err.code, EWOULDBLOCK);
    snprintf(expected, sizeof(expected), "lock %s is held by process %d", path, getpid());
    assert_string_equal(err.text, expected);

    close(hold[1]);
    fd = daemon_lock(path, 10000, &err); /* gets it when the heir has ended */
    assert_true(fd >= 0);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    pid_t owner;
    assert_int_equal(daemon_pid_read(path, &owner, &err), 0);
    assert_int_equal(owner, getpid());
    close(fd);
}

static void test_lock_failures(void **state)
{
    struct err err;
    assert_int_equal(daemon_lock(scratch_path(*state, "missing/lock"), 0, &err), -1);
    assert_int_equal(err.code, ENOENT);
    const char *path = scratch_path(*state, "lock");
    int other = open(path, O_RDWR | O_CREAT, 0600); /* held by something that wrote no pid */
    assert_int_equal(flock(other, LOCK_EX), 0);
    assert_int_equal(daemon_lock(path, 0, &err), -1);
    assert_non_null(strstr(err.text, "held by another process"));
    close(other);
}

#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ready),
        cmocka_unit_test(test_failed),
        cmocka_unit_test(test_dies_without_a_word),
        WITH_SCRATCH(test_foreground),
        WITH_SCRATCH(test_pid_file),
        WITH_SCRATCH(test_asking_for_a_pid_file_takes_nothing),
        WITH_SCRATCH(test_stale_pid_file_is_taken_over),
        WITH_SCRATCH(test_another_pid_file_is_not_removed),
        WITH_SCRATCH(test_nonsense_in_a_pid_file),
        WITH_SCRATCH(test_lock_lives_as_long_as_its_last_heir),
        WITH_SCRATCH(test_lock_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
