/*
 * faults - preloaded into filad: fails or delays syncs, makes the disk full, moves the wall clock,
 * as the control file says.
 *
 * The disk is counted by the sizes of files: writing beyond the end takes space, fallocate does,
 * truncating and unlinking give it back. Writing inside a file always works, as it does on most
 * disks.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "process/shim/control.h"

static struct shim_control *control;
static const char *store;
static size_t store_size;

static struct {
    int (*fsync)(int);
    int (*fdatasync)(int);
    ssize_t (*write)(int, const void *, size_t);
    ssize_t (*pwrite)(int, const void *, size_t, off_t);
    int (*ftruncate)(int, off_t);
    int (*fallocate)(int, int, off_t, off_t);
    int (*unlink)(const char *);
    int (*statvfs)(const char *, struct statvfs *);
    int (*fstatvfs)(int, struct statvfs *);
    int (*clock_gettime)(clockid_t, struct timespec *);
} real;

#define FIND(name) (real.name = (__typeof__(real.name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void shim_start(void)
{
    FIND(fsync);
    FIND(fdatasync);
    FIND(write);
    FIND(pwrite);
    FIND(ftruncate);
    FIND(fallocate);
    FIND(unlink);
    FIND(statvfs);
    FIND(fstatvfs);
    FIND(clock_gettime);
    store = getenv("FILAD_SHIM_STORE");
    store_size = store ? strlen(store) : 0;
    const char *path = getenv("FILAD_SHIM_CONTROL");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0 || !store) {
        fprintf(stderr, "shim: no control file\n");
        _exit(125);
    }
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped == MAP_FAILED)
        _exit(125);
    control = mapped;
    /* The variables vanish when the program writes its title over them. */
    store = strdup(store);
}

static bool path_in_store(const char *path)
{
    return strncmp(path, store, store_size) == 0 && path[store_size] == '/';
}

/* Finds the path of an open file of the store. */
static bool store_path_of(int fd, char path[PATH_MAX])
{
    char link[64];
    if (!control)
        return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    if (size < 0)
        return false;
    path[size] = '\0';
    return path_in_store(path);
}

static bool in_store(int fd)
{
    char path[PATH_MAX];
    return store_path_of(fd, path);
}

/* ---- syncs ---- */

static void pause_ms(long ms)
{
    struct timespec time = {.tv_nsec = ms * 1000000};
    nanosleep(&time, NULL);
}

/* Takes one from a counter; false when there was none. */
static bool take_one(_Atomic uint32_t *counter)
{
    uint32_t left = atomic_load(counter);
    while (left > 0)
        if (atomic_compare_exchange_weak(counter, &left, left - 1))
            return true;
    return false;
}

static bool is_store_thread(void)
{
    char name[16];
    return prctl(PR_GET_NAME, name, 0, 0, 0) == 0 && strcmp(name, "store") == 0;
}

static int sync_file(int fd, int (*sync)(int))
{
    if (!in_store(fd))
        return sync(fd);
    if (atomic_load(&control->stop_not) != getpid() && take_one(&control->sync_stop)) {
        atomic_store(&control->stopped_pid, getpid());
        raise(SIGSTOP);
    }
    if (atomic_load(&control->hang_pid) == getpid() && is_store_thread()) {
        atomic_fetch_add(&control->hanging, 1);
        while (atomic_load(&control->hang_pid) == getpid())
            pause_ms(1);
    }
    if (atomic_load(&control->sync_gate)) {
        atomic_fetch_add(&control->sync_waiting, 1);
        while (atomic_load(&control->sync_gate))
            pause_ms(1);
        atomic_fetch_sub(&control->sync_waiting, 1);
    }
    if (take_one(&control->sync_failures)) {
        atomic_fetch_add(&control->syncs_failed, 1);
        errno = EIO;
        return -1;
    }
    return sync(fd);
}

int fsync(int fd)
{
    return sync_file(fd, real.fsync);
}

int fdatasync(int fd)
{
    return sync_file(fd, real.fdatasync);
}

/* ---- space ---- */

static bool disk_limited(int fd)
{
    return control && atomic_load(&control->disk_limited) && in_store(fd);
}

/* Takes `bytes` from the disk; false, and errno set, when it has less. */
static bool disk_take(int64_t bytes)
{
    int64_t left = atomic_load(&control->disk_free);
    while (bytes > 0) {
        if (left < bytes) {
            atomic_fetch_add(&control->disk_refusals, 1);
            errno = ENOSPC;
            return false;
        }
        if (atomic_compare_exchange_weak(&control->disk_free, &left, left - bytes))
            break;
    }
    return true;
}

static int64_t file_size(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 ? status.st_size : 0;
}

static bool disk_grow(int fd, int64_t end)
{
    if (!disk_limited(fd))
        return true;
    return disk_take(end - file_size(fd));
}

/* Dies in the middle of writing a page, as a process may that is killed there. */
static void tear(int fd, const void *data, size_t size, off_t offset)
{
    char path[PATH_MAX];
    if (size < 8192 || !control || !atomic_load(&control->tear_pages) || !store_path_of(fd, path))
        return;
    size_t length = strlen(path);
    if (length < 3 || strcmp(path + length - 3, ".db") != 0 || !take_one(&control->tear_pages))
        return;
    (void)!real.pwrite(fd, data, size / 2, offset);
    atomic_fetch_add(&control->pages_torn, 1);
    raise(SIGKILL);
}

ssize_t write(int fd, const void *data, size_t size)
{
    if (control && atomic_load(&control->tear_pages))
        tear(fd, data, size, lseek(fd, 0, SEEK_CUR));
    if (control && atomic_load(&control->disk_limited) && in_store(fd)) {
        off_t at = (fcntl(fd, F_GETFL) & O_APPEND) ? file_size(fd) : lseek(fd, 0, SEEK_CUR);
        if (!disk_grow(fd, at + (int64_t)size))
            return -1;
    }
    return real.write(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    tear(fd, data, size, offset);
    if (!disk_grow(fd, offset + (int64_t)size))
        return -1;
    return real.pwrite(fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset);
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    return pwrite(fd, data, size, offset);
}

int ftruncate(int fd, off_t size)
{
    if (disk_limited(fd)) {
        int64_t before = file_size(fd);
        if (size < before)
            atomic_fetch_add(&control->disk_free, before - size);
    }
    return real.ftruncate(fd, size);
}

int ftruncate64(int fd, off64_t size);
int ftruncate64(int fd, off64_t size)
{
    return ftruncate(fd, size);
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
    if (mode == 0 && !disk_grow(fd, offset + size))
        return -1;
    return real.fallocate(fd, mode, offset, size);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t size);
int fallocate64(int fd, int mode, off64_t offset, off64_t size)
{
    return fallocate(fd, mode, offset, size);
}

int posix_fallocate(int fd, off_t offset, off_t size)
{
    return fallocate(fd, 0, offset, size) == 0 ? 0 : errno;
}

int unlink(const char *path)
{
    struct stat status;
    char full[PATH_MAX];
    bool counted = control && atomic_load(&control->disk_limited) && stat(path, &status) == 0 &&
                   S_ISREG(status.st_mode) && realpath(path, full) && path_in_store(full);
    int result = real.unlink(path);
    if (result == 0 && counted)
        atomic_fetch_add(&control->disk_free, status.st_size);
    return result;
}

static void limit_statvfs(struct statvfs *status)
{
    int64_t left = atomic_load(&control->disk_free);
    fsblkcnt_t blocks = (fsblkcnt_t)((uint64_t)left / status->f_frsize);
    if (blocks < status->f_bavail)
        status->f_bavail = blocks;
    if (blocks < status->f_bfree)
        status->f_bfree = blocks;
}

int statvfs(const char *path, struct statvfs *status)
{
    char full[PATH_MAX];
    int result = real.statvfs(path, status);
    if (result == 0 && control && atomic_load(&control->disk_limited) && realpath(path, full) &&
        (strcmp(full, store) == 0 || path_in_store(full)))
        limit_statvfs(status);
    return result;
}

int fstatvfs(int fd, struct statvfs *status)
{
    int result = real.fstatvfs(fd, status);
    if (result == 0 && disk_limited(fd))
        limit_statvfs(status);
    return result;
}

/* ---- the wall clock ---- */

int clock_gettime(clockid_t clock, struct timespec *time)
{
    if (!real.clock_gettime)
        FIND(clock_gettime);
    int result = real.clock_gettime(clock, time);
    if (result == 0 && control && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        time->tv_sec += atomic_load(&control->clock_offset_s);
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result)
        *result = now.tv_sec;
    return now.tv_sec;
}
