/*
 * calls - the system calls that tests must be able to fail, behind one table.
 *
 * Code of this program calls the os_* functions; they go through `os_calls`, which starts as
 * libc's. A test replaces an entry ("this fdatasync fails", "the disk is full") and puts it back.
 * All keep the conventions of the call they stand for: -1 and errno. None retries after EINTR.
 *
 * The prototypes are those that db_env_set_func_open and its like of Berkeley DB expect.
 */
#ifndef FILAD_OS_CALLS_H
#define FILAD_OS_CALLS_H

#include <stddef.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/types.h>

struct os_calls {
    int (*open)(const char *path, int flags, ...);
    int (*close)(int fd);
    ssize_t (*read)(int fd, void *data, size_t size);
    ssize_t (*pread)(int fd, void *data, size_t size, off_t offset);
    ssize_t (*write)(int fd, const void *data, size_t size);
    ssize_t (*pwrite)(int fd, const void *data, size_t size, off_t offset);
    int (*fsync)(int fd);
    int (*fdatasync)(int fd);
    int (*syncfs)(int fd);
    int (*ftruncate)(int fd, off_t size);
    int (*fallocate)(int fd, int mode, off_t offset, off_t size);
    int (*rename)(const char *from, const char *to);
    int (*unlink)(const char *path);
    int (*statvfs)(const char *path, struct statvfs *result);
    int (*accept4)(int fd, struct sockaddr *address, socklen_t *size, int flags);
    void *(*mmap)(void *address, size_t size, int protection, int flags, int fd, off_t offset);
};

/* Not to be changed while other threads run, except by a test that knows what it does. */
extern struct os_calls os_calls;

/* Puts libc's functions back. */
void os_calls_reset(void);

int os_open(const char *path, int flags, ...) __attribute__((warn_unused_result));
int os_close(int fd);
ssize_t os_read(int fd, void *data, size_t size) __attribute__((warn_unused_result));
ssize_t os_pread(int fd, void *data, size_t size, off_t offset) __attribute__((warn_unused_result));
ssize_t os_write(int fd, const void *data, size_t size) __attribute__((warn_unused_result));
ssize_t os_pwrite(int fd, const void *data, size_t size, off_t offset)
    __attribute__((warn_unused_result));
/* Syncs the data of a file and what is needed to find it again (fdatasync): the size, not the
 * times. */
int os_fsync(int fd) __attribute__((warn_unused_result));
/* fsync proper, for directories. */
int os_fsync_all(int fd) __attribute__((warn_unused_result));
/* Syncs the whole file system that an open file or directory is on. */
int os_syncfs(int fd) __attribute__((warn_unused_result));
int os_ftruncate(int fd, off_t size) __attribute__((warn_unused_result));
int os_fallocate(int fd, int mode, off_t offset, off_t size) __attribute__((warn_unused_result));
int os_rename(const char *from, const char *to) __attribute__((warn_unused_result));
int os_unlink(const char *path);
int os_statvfs(const char *path, struct statvfs *result) __attribute__((warn_unused_result));
int os_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
    __attribute__((warn_unused_result));
void *os_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
    __attribute__((warn_unused_result));

#endif
