#define _GNU_SOURCE 1

#include "os/proc.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/buf.h"
#include "os/io.h"

#define MAPS_LIMIT (64u << 20) /* bytes of /proc/self/maps */

/* The memory that the kernel shows as the command line. */
static char *title_start;
static size_t title_size;
static char **title_arguments; /* copies, kept reachable */
static char **title_environment;

/* Extends [*start, *end) over the strings that follow each other in memory. */
static void strings_extent(char **strings, char **start, char **end)
{
    for (; *strings; strings++) {
        if (*end && *strings != *end)
            return;
        if (!*start)
            *start = *strings;
        *end = *strings + strlen(*strings) + 1;
    }
}

static void strings_free(char **strings)
{
    if (!strings)
        return;
    for (char **s = strings; *s; s++)
        free(*s);
    free(strings);
}

static char **strings_copy(char **strings)
{
    size_t count = 0;
    while (strings[count])
        count++;
    char **copy = calloc(count + 1, sizeof(*copy));
    for (size_t i = 0; copy && i < count; i++) {
        copy[i] = strdup(strings[i]);
        if (!copy[i]) {
            strings_free(copy);
            copy = NULL;
        }
    }
    return copy;
}

char **proc_title_init(int argc, char **argv)
{
    char *start = NULL, *end = NULL;
    if (argc < 1 || !argv[0])
        return NULL;
    title_arguments = strings_copy(argv);
    title_environment = strings_copy(environ);
    if (!title_arguments || !title_environment) {
        strings_free(title_arguments);
        strings_free(title_environment);
        title_arguments = title_environment = NULL;
        return NULL;
    }
    strings_extent(argv, &start, &end);
    strings_extent(environ, &start, &end);
    environ = title_environment;
    title_start = start;
    title_size = (size_t)(end - start);
    return title_arguments;
}

void proc_title(const char *name, const char *format, ...)
{
    prctl(PR_SET_NAME, name, 0, 0, 0);
    if (title_size < 2)
        return;
    va_list args;
    va_start(args, format);
    int size = vsnprintf(title_start, title_size, format, args);
    va_end(args);
    if (size >= 0 && (size_t)size < title_size)
        memset(title_start + size, 0, title_size - (size_t)size);
}

int proc_set_subreaper(struct err *err)
{
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
        return err_set_errno(err, errno, "become a child subreaper");
    return 0;
}

int proc_set_death_signal(int signal, pid_t parent, struct err *err)
{
    if (prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0) != 0)
        return err_set_errno(err, errno, "ask for a signal at the parent's end");
    if (getppid() != parent)
        return err_set(err, ESRCH, "the parent process %d is gone", (int)parent);
    return 0;
}

uint64_t proc_nofile(void)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : UINT64_MAX;
}

int proc_raise_nofile(uint64_t wanted, uint64_t *got, struct err *err)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return err_set_errno(err, errno, "limit of open files");
    rlim_t target = wanted ? (rlim_t)wanted : limit.rlim_max;
    if (target > limit.rlim_max) {
        struct rlimit higher = {target, target};
        if (setrlimit(RLIMIT_NOFILE, &higher) == 0) {
            *got = wanted;
            return 0;
        }
        target = limit.rlim_max;
    }
    if (target > limit.rlim_cur) {
        limit.rlim_cur = target;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            return err_set_errno(err, errno, "raise the limit of open files to %llu",
                                 (unsigned long long)target);
    }
    *got = limit.rlim_cur;
    return 0;
}

int proc_each_descriptor(void (*each)(void *context, int fd, const char *target), void *context,
                         struct err *err)
{
    char target[PATH_MAX];
    DIR *dir = opendir("/proc/self/fd");
    if (!dir)
        return err_set_errno(err, errno, "open /proc/self/fd");
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        ssize_t size = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
        int fd = (int)strtol(entry->d_name, NULL, 10);
        if (size <= 0 || fd == dirfd(dir))
            continue;
        target[size] = '\0';
        each(context, fd, target);
    }
    closedir(dir);
    return 0;
}

int proc_each_mapping(void (*each)(void *context, void *start, size_t size, const char *path),
                      void *context, struct err *err)
{
    struct buf maps;
    buf_init(&maps, 0);
    /* Read as a whole first: what `each` does must not move what is read. */
    int status = io_read_file("/proc/self/maps", MAPS_LIMIT, &maps, err);
    if (status == 0)
        buf_append_u8(&maps, 0);
    if (status == 0 && maps.failed)
        status = err_set_errno(err, ENOMEM, "read /proc/self/maps");
    char *saved = NULL;
    char *line = status == 0 ? strtok_r((char *)maps.data, "\n", &saved) : NULL;
    for (; line; line = strtok_r(NULL, "\n", &saved)) {
        uintptr_t start, end;
        const char *path = strchr(line, '/');
        if (path && sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &start, &end) == 2)
            each(context, (void *)start, end - start, path);
    }
    buf_free(&maps);
    return status;
}

unsigned proc_cpu_count(void)
{
    /* The kernel refuses a set that is smaller than its own. */
    for (int cpus = 1024; cpus <= 65536; cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)cpus);
        if (!set)
            break;
        size_t size = CPU_ALLOC_SIZE((size_t)cpus);
        int failed = sched_getaffinity(0, size, set) == 0 ? 0 : errno;
        int count = failed ? 0 : CPU_COUNT_S(size, set);
        CPU_FREE(set);
        if (count > 0)
            return (unsigned)count;
        if (failed != EINVAL)
            break;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
}

const char *proc_status_text(int status, char text[PROC_STATUS_SIZE])
{
    if (WIFEXITED(status)) {
        snprintf(text, PROC_STATUS_SIZE, "exited with %d", WEXITSTATUS(status));
    } else if (WIFSIGNALED(status)) {
        int signal = WTERMSIG(status);
        const char *name = sigabbrev_np(signal);
        bool dumped = WCOREDUMP(status);
        snprintf(text, PROC_STATUS_SIZE, "killed by signal %d%s%s%s%s", signal, name ? " (SIG" : "",
                 name ? name : "", name ? ")" : "", dumped ? ", core dumped" : "");
    } else {
        snprintf(text, PROC_STATUS_SIZE, "wait status 0x%x", (unsigned)status);
    }
    return text;
}
