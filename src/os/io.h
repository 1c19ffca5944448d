/*
 * io - small files, directories and what is known about a file system.
 */
#ifndef FILAD_OS_IO_H
#define FILAD_OS_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/buf.h"
#include "core/err.h"
#include "core/str.h"

/* Writes all of it, however often the kernel takes only a part; 0, or -1 with errno. */
int io_write_all(int fd, const void *data, size_t size) __attribute__((warn_unused_result));

/* Reads until `size` bytes are there or the end is met; the bytes read, or -1 with errno. */
ssize_t io_read_all(int fd, void *data, size_t size) __attribute__((warn_unused_result));

/* Appends the content of a file to `buf`. More than `limit` bytes are an error (EFBIG). */
int io_read_file(const char *path, size_t limit, struct buf *buf, struct err *err)
    __attribute__((warn_unused_result));

/* Replaces the file at `path`, so that after a crash at any moment it is there with the old content
 * or the new one: writes `path`.tmp with `mode`, syncs it, renames it, syncs the directory. When it
 * fails the old content stays (but for a failed sync of the directory, when either may be there)
 * and nothing else is left behind. */
int io_write_file_atomic(const char *path, struct str content, mode_t mode, struct err *err)
    __attribute__((warn_unused_result));

/* Makes what was created, renamed or removed in this directory durable. */
int io_sync_dir(const char *path, struct err *err) __attribute__((warn_unused_result));

/* Creates a directory and what is missing above it. The last one gets `mode` whatever the umask
 * says and belongs to `uid` and `gid` ((uid_t)-1: as it comes); those above it are made 0755. One
 * that is there already is left as it is. */
int io_make_dirs(const char *path, mode_t mode, uid_t uid, gid_t gid, struct err *err)
    __attribute__((warn_unused_result));

/* Bytes that an unprivileged process can still write to the file system of `path`. */
int io_free_space(const char *path, uint64_t *bytes, struct err *err)
    __attribute__((warn_unused_result));

/* Whether `path` is on a file system that lives in memory. */
int io_is_tmpfs(const char *path, bool *is, struct err *err) __attribute__((warn_unused_result));

/* `name` as seen from `dir`: itself when it starts with a slash, else dir/name. ENAMETOOLONG when
 * it does not fit in `size` bytes. */
int io_path_join(char *out, size_t size, const char *dir, const char *name, struct err *err)
    __attribute__((warn_unused_result));

#endif
