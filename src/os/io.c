#define _GNU_SOURCE 1

#include "os/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "os/calls.h"

int io_write_all(int fd, const void *data, size_t size)
{
    const uint8_t *p = data;
    while (size > 0) {
        ssize_t written = os_write(fd, p, size);
        if (written < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        if (written == 0) {
            errno = EIO;
            return -1;
        }
        p += written;
        size -= (size_t)written;
    }
    return 0;
}

ssize_t io_read_all(int fd, void *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t got = os_read(fd, (uint8_t *)data + done, size - done);
        if (got < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

int io_read_file(const char *path, size_t limit, struct buf *buf, struct err *err)
{
    enum { STEP = 16384 };
    int result = -1;
    size_t before = buf->size;
    int fd = os_open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return err_set_errno(err, errno, "open %s", path);
    for (;;) {
        /* One byte beyond the limit is asked for, to tell a file that ends there. */
        size_t left = limit - (buf->size - before);
        size_t step = left < STEP ? left + 1 : STEP;
        uint8_t *end = buf_reserve(buf, step);
        if (!end) {
            err_set_errno(err, ENOMEM, "read %s", path);
            break;
        }
        ssize_t got = io_read_all(fd, end, step);
        if (got < 0) {
            err_set_errno(err, errno, "read %s", path);
            break;
        }
        if ((size_t)got > left) {
            err_set(err, EFBIG, "read %s: larger than %zu bytes", path, limit);
            break;
        }
        buf->size += (size_t)got;
        if ((size_t)got < step) {
            result = 0;
            break;
        }
    }
    if (result != 0)
        buf->size = before;
    os_close(fd);
    return result;
}

/* The directory that holds `path`. */
static void path_parent(const char *path, char parent[PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    size_t size = slash ? (size_t)(slash - path) : 0;
    if (!slash)
        snprintf(parent, PATH_MAX, ".");
    else if (size == 0)
        snprintf(parent, PATH_MAX, "/");
    else
        snprintf(parent, PATH_MAX, "%.*s", (int)size, path);
}

int io_sync_dir(const char *path, struct err *err)
{
    int fd = os_open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_set_errno(err, errno, "open directory %s", path);
    int failed = os_fsync_all(fd) != 0 ? errno : 0;
    os_close(fd);
    return failed ? err_set_errno(err, failed, "sync directory %s", path) : 0;
}

static int file_fill(const char *path, struct str content, mode_t mode, struct err *err)
{
    /* One that a crash left behind is in the way of nobody. */
    int fd = os_open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW, mode);
    if (fd < 0)
        return err_set_errno(err, errno, "create %s", path);
    int result = -1;
    if (fchmod(fd, mode) != 0)
        err_set_errno(err, errno, "chmod %s", path);
    else if (io_write_all(fd, content.data, content.size) != 0)
        err_set_errno(err, errno, "write %s", path);
    else if (os_fsync(fd) != 0)
        err_set_errno(err, errno, "sync %s", path);
    else
        result = 0;
    if (os_close(fd) != 0 && result == 0)
        result = err_set_errno(err, errno, "close %s", path);
    if (result != 0)
        os_unlink(path);
    return result;
}

int io_write_file_atomic(const char *path, struct str content, mode_t mode, struct err *err)
{
    char temporary[PATH_MAX], parent[PATH_MAX];
    if ((size_t)snprintf(temporary, sizeof(temporary), "%s.tmp", path) >= sizeof(temporary))
        return err_set_errno(err, ENAMETOOLONG, "write %.64s...", path);
    if (file_fill(temporary, content, mode, err) != 0)
        return -1;
    if (os_rename(temporary, path) != 0) {
        err_set_errno(err, errno, "rename %s to %s", temporary, path);
        os_unlink(temporary);
        return -1;
    }
    path_parent(path, parent);
    return io_sync_dir(parent, err);
}

/* Creates one directory; 1: made, 0: was there, -1. */
static int dir_make(const char *path, struct err *err)
{
    if (mkdir(path, 0755) == 0)
        return 1;
    int failed = errno;
    struct stat st;
    if (failed == EEXIST && stat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            return 0;
        failed = ENOTDIR;
    }
    return err_set_errno(err, failed, "create directory %s", path);
}

int io_make_dirs(const char *path, mode_t mode, uid_t uid, gid_t gid, struct err *err)
{
    char part[PATH_MAX];
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/')
        size--;
    if (size == 0 || size >= sizeof(part))
        return err_set_errno(err, size ? ENAMETOOLONG : ENOENT, "create directory %.64s", path);
    memcpy(part, path, size);
    part[size] = '\0';

    struct stat st;
    for (size_t i = 1; i < size; i++) {
        if (part[i] != '/')
            continue;
        part[i] = '\0';
        /* Looked at first: above may be directories in which nothing can be created. */
        if (stat(part, &st) != 0 && dir_make(part, err) < 0)
            return -1;
        part[i] = '/';
    }
    int made = dir_make(part, err);
    if (made <= 0)
        return made;
    if (chown(part, uid, gid) != 0)
        return err_set_errno(err, errno, "chown %s", part);
    if (chmod(part, mode) != 0)
        return err_set_errno(err, errno, "chmod %s", part);
    return 0;
}

int io_free_space(const char *path, uint64_t *bytes, struct err *err)
{
    struct statvfs st;
    if (os_statvfs(path, &st) != 0)
        return err_set_errno(err, errno, "free space of %s", path);
    *bytes = (uint64_t)st.f_bavail * st.f_frsize;
    return 0;
}

int io_is_tmpfs(const char *path, bool *is, struct err *err)
{
    struct statfs st;
    if (statfs(path, &st) != 0)
        return err_set_errno(err, errno, "file system of %s", path);
    *is = (unsigned long)st.f_type == TMPFS_MAGIC || (unsigned long)st.f_type == RAMFS_MAGIC;
    return 0;
}

int io_path_join(char *out, size_t size, const char *dir, const char *name, struct err *err)
{
    size_t dir_size = strlen(dir);
    bool alone = name[0] == '/' || dir_size == 0;
    const char *slash = alone || dir[dir_size - 1] == '/' ? "" : "/";
    int wanted = snprintf(out, size, "%s%s%s", alone ? "" : dir, slash, name);
    if (wanted < 0 || (size_t)wanted >= size)
        return err_set_errno(err, ENAMETOOLONG, "path %.64s%s%.64s", dir, slash, name);
    return 0;
}
