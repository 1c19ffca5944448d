#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "os/proc.h"

#include "unit/os/scratch.h"

static char **arguments; /* of main */
static int argument_count;

static int read_proc(const char *name, char *out, size_t size)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/%s", name);
    FILE *file = fopen(path, "r");
    if (!file)
        return -1;
    size_t got = fread(out, 1, size - 1, file);
    fclose(file);
    out[got] = '\0';
    return 0;
}

static int title_body(void *argument)
{
    char got[8192], *name = argument_count > 0 ? strdup(arguments[0]) : NULL;
    (void)argument;
    if (setenv("FILAD_TITLE_TEST", "kept", 1) != 0)
        return 1;
    char **copy = proc_title_init(argument_count, arguments);
    if (!copy || strcmp(copy[0], name) != 0 || copy[argument_count])
        return 2;
    proc_title("a name longer than it may be", "filad: %s %d", "worker", 7);
    if (read_proc("cmdline", got, sizeof(got)) != 0 || strcmp(got, "filad: worker 7") != 0)
        return 3;
    if (read_proc("comm", got, sizeof(got)) != 0 || strcmp(got, "a name longer t\n") != 0)
        return 4;
    if (strcmp(copy[0], name) != 0 || !getenv("FILAD_TITLE_TEST") || !getenv("PATH"))
        return 5;
    proc_title("x", "%5000d", 1); /* longer than there is room for */
    proc_title("x", "short");
    if (read_proc("cmdline", got, sizeof(got)) != 0 || strcmp(got, "short") != 0)
        return 6;
    free(name);
    return 0;
}

static void test_title(void **state)
{
    (void)state;
    assert_int_equal(scratch_fork(title_body, NULL), 0);
}

/* The child of a child that ends is handed to the subreaper. */
static int subreaper_body(void *argument)
{
    struct err err;
    int fds[2];
    pid_t grandchild = 0;
    (void)argument;
    if (proc_set_subreaper(&err) != 0 || pipe(fds) != 0)
        return 1;
    pid_t child = fork();
    if (child == 0) {
        grandchild = fork();
        if (grandchild == 0)
            _exit(9);
        _exit(write(fds[1], &grandchild, sizeof(grandchild)) != sizeof(grandchild));
    }
    int status;
    if (waitpid(child, &status, 0) != child || status != 0)
        return 2;
    if (read(fds[0], &grandchild, sizeof(grandchild)) != sizeof(grandchild))
        return 3;
    if (waitpid(grandchild, &status, 0) != grandchild)
        return 4;
    return WEXITSTATUS(status) == 9 ? 0 : 5;
}

static void test_subreaper(void **state)
{
    (void)state;
    assert_int_equal(scratch_fork(subreaper_body, NULL), 0);
}

/* The middle process is killed; the inner one, which waits for ever, must end by itself. */
static int death_body(void *argument)
{
    struct err err;
    int fds[2];
    char byte;
    (void)argument;
    if (pipe(fds) != 0)
        return 1;
    pid_t middle = fork();
    if (middle == 0) {
        pid_t parent = getpid();
        if (fork() == 0) {
            if (proc_set_death_signal(SIGKILL, parent, &err) != 0 || write(fds[1], "r", 1) != 1)
                _exit(1);
            for (;;)
                pause();
        }
        for (;;)
            pause();
    }
    close(fds[1]);
    if (read(fds[0], &byte, 1) != 1)
        return 2;
    kill(middle, SIGKILL);
    if (waitpid(middle, NULL, 0) != middle)
        return 3;
    if (read(fds[0], &byte, 1) != 0) /* ends when the inner one has */
        return 4;
    return proc_set_death_signal(0, getpid(), &err) == -1 && err.code == ESRCH ? 0 : 5;
}

static void test_death_signal(void **state)
{
    (void)state;
    assert_int_equal(scratch_fork(death_body, NULL), 0);
}

static bool may_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return false;
    limit.rlim_max++;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

static int nofile_body(void *argument)
{
    struct err err;
    struct rlimit limit = {100, 200}, now;
    uint64_t got = 0;
    (void)argument;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 1;
    if (proc_raise_nofile(150, &got, &err) != 0 || got != 150)
        return 2;
    if (proc_raise_nofile(120, &got, &err) != 0 || got != 150) /* never lowered */
        return 3;
    if (proc_raise_nofile(0, &got, &err) != 0 || got != 200)
        return 4;
    /* The hard limit moves only with a privilege that root lacks in some containers. */
    if (proc_raise_nofile(300, &got, &err) != 0 || (got != 300 && (got != 200 || may_raise())))
        return 5;
    if (proc_raise_nofile((uint64_t)1 << 60, &got, &err) != 0 || got > 300)
        return 6;
    return getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur == got ? 0 : 7;
}

static void test_raise_nofile(void **state)
{
    (void)state;
    assert_int_equal(scratch_fork(nofile_body, NULL), 0);
}

static int one_cpu_body(void *argument)
{
    cpu_set_t set, one;
    (void)argument;
    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return 0; /* more CPUs than this test can name */
    if (proc_cpu_count() != (unsigned)CPU_COUNT(&set))
        return 1;
    size_t cpu = 0;
    while (!CPU_ISSET(cpu, &set))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(0, sizeof(one), &one) != 0)
        return 2;
    return proc_cpu_count() == 1 ? 0 : 3;
}

static void test_cpu_count_follows_affinity(void **state)
{
    (void)state;
    assert_int_equal(scratch_fork(one_cpu_body, NULL), 0);
}

static int status_after(int signal)
{
    int status;
    struct rlimit none = {0, 0};
    pid_t pid = fork();
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &none);
        if (signal)
            kill(getpid(), signal);
        _exit(2);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void test_status_in_words(void **state)
{
    (void)state;
    char text[PROC_STATUS_SIZE];
    assert_string_equal(proc_status_text(status_after(0), text), "exited with 2");
    assert_string_equal(proc_status_text(status_after(SIGKILL), text),
                        "killed by signal 9 (SIGKILL)");
    assert_string_equal(proc_status_text(SIGSEGV | 0x80, text),
                        "killed by signal 11 (SIGSEGV), core dumped");
    assert_string_equal(proc_status_text(SIGRTMIN + 1, text), "killed by signal 35");
    assert_string_equal(proc_status_text(0x137f, text), "wait status 0x137f");
}

struct sought {
    const char *path;
    int fd;
    void *start;
    unsigned descriptors, mappings;
};

static void close_sought(void *context, int fd, const char *target)
{
    struct sought *sought = context;
    if (strcmp(target, sought->path) != 0)
        return;
    assert_int_equal(fd, sought->fd);
    assert_int_equal(close(fd), 0);
    sought->descriptors++;
}

static void unmap_sought(void *context, void *start, size_t size, const char *path)
{
    struct sought *sought = context;
    if (strcmp(path, sought->path) != 0)
        return;
    assert_ptr_equal(start, sought->start);
    assert_int_equal(size, 8192);
    assert_int_equal(munmap(start, size), 0);
    sought->mappings++;
}

static void test_descriptors_and_mappings_are_found_and_let_go(void **state)
{
    struct scratch *scratch = *state;
    struct sought sought = {.path = scratch_path(scratch, "a file with blanks")};
    struct err err;
    sought.fd = open(sought.path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(sought.fd >= 0);
    assert_int_equal(ftruncate(sought.fd, 8192), 0);
    sought.start = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, sought.fd, 0);
    assert_true(sought.start != MAP_FAILED);
    assert_int_equal(proc_each_descriptor(close_sought, &sought, &err), 0);
    assert_int_equal(proc_each_mapping(unmap_sought, &sought, &err), 0);
    assert_int_equal(proc_each_descriptor(close_sought, &sought, &err), 0);
    assert_int_equal(proc_each_mapping(unmap_sought, &sought, &err), 0);
    assert_int_equal(sought.descriptors, 1);
    assert_int_equal(sought.mappings, 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_title),
        cmocka_unit_test(test_subreaper),
        cmocka_unit_test(test_death_signal),
        cmocka_unit_test(test_raise_nofile),
        cmocka_unit_test(test_cpu_count_follows_affinity),
        cmocka_unit_test(test_status_in_words),
        cmocka_unit_test_setup_teardown(test_descriptors_and_mappings_are_found_and_let_go,
                                        scratch_setup, scratch_teardown),
    };
    arguments = argv;
    argument_count = argc;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
