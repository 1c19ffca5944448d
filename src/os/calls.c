#define _GNU_SOURCE 1

#include "os/calls.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define LIBC_CALLS                                                                                 \
    {                                                                                              \
        .open = open, .close = close, .read = read, .pread = pread, .write = write,                \
        .pwrite = pwrite, .fsync = fsync, .fdatasync = fdatasync, .syncfs = syncfs,                \
        .ftruncate = ftruncate, .fallocate = fallocate, .rename = rename, .unlink = unlink,        \
        .statvfs = statvfs, .accept4 = accept4, .mmap = mmap,                                      \
    }

struct os_calls os_calls = LIBC_CALLS;

void os_calls_reset(void)
{
    os_calls = (struct os_calls)LIBC_CALLS;
}

int os_open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) {
        va_list args;
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    return os_calls.open(path, flags, mode);
}

int os_close(int fd)
{
    return os_calls.close(fd);
}

ssize_t os_read(int fd, void *data, size_t size)
{
    return os_calls.read(fd, data, size);
}

ssize_t os_pread(int fd, void *data, size_t size, off_t offset)
{
    return os_calls.pread(fd, data, size, offset);
}

ssize_t os_write(int fd, const void *data, size_t size)
{
    return os_calls.write(fd, data, size);
}

ssize_t os_pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return os_calls.pwrite(fd, data, size, offset);
}

int os_fsync(int fd)
{
    return os_calls.fdatasync(fd);
}

int os_fsync_all(int fd)
{
    return os_calls.fsync(fd);
}

int os_syncfs(int fd)
{
    return os_calls.syncfs(fd);
}

int os_ftruncate(int fd, off_t size)
{
    return os_calls.ftruncate(fd, size);
}

int os_fallocate(int fd, int mode, off_t offset, off_t size)
{
    return os_calls.fallocate(fd, mode, offset, size);
}

int os_rename(const char *from, const char *to)
{
    return os_calls.rename(from, to);
}

int os_unlink(const char *path)
{
    return os_calls.unlink(path);
}

int os_statvfs(const char *path, struct statvfs *result)
{
    return os_calls.statvfs(path, result);
}

int os_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
    return os_calls.accept4(fd, address, size, flags);
}

void *os_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    return os_calls.mmap(address, size, protection, flags, fd, offset);
}
