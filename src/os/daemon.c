#define _GNU_SOURCE 1

#include "os/daemon.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "os/io.h"
#include "os/time.h"

/* First byte of what the background process writes to the one that waits. */
#define SAYS_READY 'R'
#define SAYS_FAILED 'F'

#define LOCK_POLL_MS 20

static void print_line(const char *text)
{
    char line[ERR_TEXT_SIZE + 64];
    int size = snprintf(line, sizeof(line), "filad: %s\n", text);
    if (size >= (int)sizeof(line)) {
        size = (int)sizeof(line) - 1;
        line[size - 1] = '\n';
    }
    if (io_write_all(STDERR_FILENO, line, (size_t)size) != 0) {
        /* Standard error is gone; the exit status has to do. */
    }
}

/* The started process: waits for the verdict and exits with it. */
static _Noreturn void launcher_wait(int fd)
{
    char said[ERR_TEXT_SIZE + 32];
    ssize_t size = io_read_all(fd, said, sizeof(said) - 1);
    if (size > 0 && said[0] == SAYS_READY)
        _exit(EXIT_SUCCESS);
    if (size > 1 && said[0] == SAYS_FAILED) {
        said[size] = '\0';
        print_line(said + 1);
    } else {
        print_line("the background process ended before it was ready");
    }
    _exit(EXIT_FAILURE);
}

/* What the caller had open, but for `keep`, is no business of a process that outlives it. */
static void close_inherited(int keep)
{
    const int first = STDERR_FILENO + 1;
    if ((keep == first || close_range((unsigned)first, (unsigned)keep - 1, 0) == 0) &&
        close_range((unsigned)keep + 1, UINT_MAX, 0) == 0)
        return;
    /* A kernel before 5.9. */
    DIR *directory = opendir("/proc/self/fd");
    if (!directory)
        return;
    for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
        int fd = atoi(entry->d_name);
        if (fd >= first && fd != keep && fd != dirfd(directory))
            close(fd);
    }
    closedir(directory);
}

static void stdio_to_null(int first, int last)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return;
    for (int fd = first; fd <= last; fd++)
        dup2(null, fd);
    if (null > STDERR_FILENO)
        close(null);
}

int daemon_detach(struct err *err)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0)
        return err_set_errno(err, errno, "go to the background");
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        err_set_errno(err, errno, "go to the background");
        close(fds[0]);
        close(fds[1]);
        return -1;
    }
    if (pid > 0) {
        close(fds[1]);
        waitpid(pid, NULL, 0);
        launcher_wait(fds[0]);
    }
    close(fds[0]);
    setsid();
    /* Not the leader of its session, it cannot get a terminal again. */
    pid = fork();
    if (pid < 0) {
        char text[128];
        snprintf(text, sizeof(text), "go to the background: %s", strerror(errno));
        daemon_failed(fds[1], text);
        _exit(EXIT_FAILURE);
    }
    if (pid > 0)
        _exit(EXIT_SUCCESS);
    close_inherited(fds[1]);
    stdio_to_null(STDIN_FILENO, STDOUT_FILENO);
    if (chdir("/") != 0) {
        /* It stays where it is, and keeps that file system in use. */
    }
    return fds[1];
}

void daemon_ready(int fd, bool keep_stderr)
{
    if (fd < 0)
        return;
    if (!keep_stderr)
        stdio_to_null(STDERR_FILENO, STDERR_FILENO);
    const char said = SAYS_READY;
    if (io_write_all(fd, &said, 1) != 0) {
        /* Nobody waits any more: fine. */
    }
    close(fd);
}

void daemon_failed(int fd, const char *text)
{
    if (fd < 0) {
        print_line(text);
        return;
    }
    const char said = SAYS_FAILED;
    if (io_write_all(fd, &said, 1) != 0 || io_write_all(fd, text, strlen(text)) != 0) {
        /* Nobody waits any more; the log has it. */
    }
    close(fd);
}

/* The pid written in an open file; 0 when there is none. */
static pid_t pid_in_file(int fd)
{
    char text[32];
    ssize_t size = pread(fd, text, sizeof(text) - 1, 0);
    if (size <= 0)
        return 0;
    text[size] = '\0';
    char *end;
    long value = strtol(text, &end, 10);
    return end != text && (*end == '\n' || *end == '\0') && value > 0 && value <= INT32_MAX
               ? (pid_t)value
               : 0;
}

static int pid_into_file(int fd, const char *path, struct err *err)
{
    char text[32];
    int size = snprintf(text, sizeof(text), "%d\n", (int)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)size, 0) != size)
        return err_set_errno(err, errno, "write %s", path);
    return 0;
}

static int refused_by_owner(int fd, const char *what, const char *path, struct err *err)
{
    pid_t pid = pid_in_file(fd);
    if (pid == 0)
        return err_set(err, EWOULDBLOCK, "%s %s is held by another process", what, path);
    return err_set(err, EWOULDBLOCK, "%s %s is held by process %d", what, path, (int)pid);
}

static bool same_file(int fd, const char *path)
{
    struct stat open_one, named_one;
    return fstat(fd, &open_one) == 0 && lstat(path, &named_one) == 0 &&
           open_one.st_dev == named_one.st_dev && open_one.st_ino == named_one.st_ino;
}

/* A lock of the open file description: as flock, and others can ask for it without taking it. */
static int pid_lock(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_SETLK, &lock);
}

bool daemon_pid_held(int fd)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

int daemon_pid_open(const char *path, struct err *err)
{
    for (;;) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0644);
        if (fd < 0)
            return err_set_errno(err, errno, "open pid file %s", path);
        int result = 0;
        if (pid_lock(fd) != 0)
            result = errno == EAGAIN || errno == EACCES
                         ? refused_by_owner(fd, "pid file", path, err)
                         : err_set_errno(err, errno, "lock pid file %s", path);
        else if (!same_file(fd, path))
            result = 1; /* its owner removed it between our open and our lock */
        else
            result = pid_into_file(fd, path, err);
        if (result == 0)
            return fd;
        close(fd);
        if (result < 0)
            return -1;
    }
}

void daemon_pid_remove(int fd, const char *path)
{
    if (same_file(fd, path))
        unlink(path);
    close(fd);
}

int daemon_pid_read(const char *path, pid_t *pid, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return err_set_errno(err, errno, "open pid file %s", path);
    *pid = pid_in_file(fd);
    close(fd);
    return *pid ? 0 : err_set(err, EINVAL, "pid file %s holds no pid", path);
}

int daemon_lock(const char *path, uint64_t wait_ms, struct err *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
    if (fd < 0)
        return err_set_errno(err, errno, "open lock %s", path);
    uint64_t started = time_monotonic_ms();
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int failed = errno;
        if (failed == EINTR)
            continue;
        if (failed != EWOULDBLOCK) {
            err_set_errno(err, failed, "lock %s", path);
            goto fail;
        }
        uint64_t waited = time_monotonic_ms() - started;
        if (waited >= wait_ms) {
            refused_by_owner(fd, "lock", path, err);
            goto fail;
        }
        uint64_t left = wait_ms - waited;
        struct timespec pause = {.tv_nsec =
                                     (long)(left < LOCK_POLL_MS ? left : LOCK_POLL_MS) * 1000000};
        nanosleep(&pause, NULL);
    }
    if (pid_into_file(fd, path, err) != 0)
        goto fail;
    return fd;

fail:
    close(fd);
    return -1;
}
