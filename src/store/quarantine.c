#include "store/quarantine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/calls.h"
#include "os/io.h"
#include "os/log.h"
#include "store/env.h"

#define PATH_SIZE 4096
#define MAGIC_AT 12 /* of a B-tree's first page, in the byte order of the machine that made it */
#define MAGIC 0x053162u
#define PAGE_SIZE_AT 20

static int file_path(char path[PATH_SIZE], const char *store, const char *folder, uint64_t id,
                     struct err *err)
{
    char name[64];
    snprintf(name, sizeof(name), "%s/%" PRIu64 ".db", folder, id);
    return io_path_join(path, PATH_SIZE, store, name, err);
}

bool quarantine_holds(const char *store, uint64_t id)
{
    char path[PATH_SIZE];
    return file_path(path, store, "quarantine", id, NULL) == 0 && access(path, F_OK) == 0;
}

static int sync_folder(const char *store, const char *folder, struct err *err)
{
    char path[PATH_SIZE];
    return io_path_join(path, sizeof(path), store, folder, err) != 0 ? -1 : io_sync_dir(path, err);
}

int quarantine_put(const char *store, uint64_t id, struct err *err)
{
    char from[PATH_SIZE], to[PATH_SIZE];
    if (file_path(from, store, "queues", id, err) != 0 ||
        file_path(to, store, "quarantine", id, err) != 0)
        return -1;
    if (os_rename(from, to) != 0)
        return err_set_errno(err, errno, "set %s aside", from);
    return sync_folder(store, "quarantine", err) == 0 ? sync_folder(store, "queues", err) : -1;
}

/* Whether it starts like a B-tree of ours. A file that is not there, or cannot be read for reasons
 * of its own, is not judged. */
static bool is_readable(const char *path)
{
    uint8_t page[512];
    uint32_t magic = 0, page_size = 0;
    int fd = os_open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return true;
    ssize_t size = io_read_all(fd, page, sizeof(page));
    bool failed = size < 0 && errno != EIO;
    (void)os_close(fd);
    if (failed)
        return true;
    if (size < (ssize_t)sizeof(page))
        return false;
    memcpy(&magic, page + MAGIC_AT, sizeof(magic));
    memcpy(&page_size, page + PAGE_SIZE_AT, sizeof(page_size));
    return magic == MAGIC && page_size >= 512 && page_size <= 65536 &&
           (page_size & (page_size - 1)) == 0;
}

/* The id of queues/<id>.db; 0 for any other name. */
static uint64_t id_of(const char *name)
{
    char *end = NULL;
    uint64_t id = name[0] >= '1' && name[0] <= '9' ? strtoull(name, &end, 10) : 0;
    return id && strcmp(end, ".db") == 0 ? id : 0;
}

int quarantine_scan(const char *store, struct err *err)
{
    char folder[PATH_SIZE], path[PATH_SIZE];
    int count = 0;
    if (io_path_join(folder, sizeof(folder), store, "queues", err) != 0)
        return -1;
    DIR *dir = opendir(folder);
    if (!dir)
        return err_set_errno(err, errno, "open %s", folder);
    for (struct dirent *entry = readdir(dir); entry && count >= 0; entry = readdir(dir)) {
        uint64_t id = id_of(entry->d_name);
        if (!id || file_path(path, store, "queues", id, err) != 0 || is_readable(path))
            continue;
        log_write(LOG_ERROR, "store", "queues/%s is no database: it is set aside", entry->d_name);
        count = quarantine_put(store, id, err) == 0 ? count + 1 : -1;
    }
    closedir(dir);
    return count;
}

bool quarantine_is_damage(int result)
{
    static const int damage[] = {EINVAL,           EIO,           EFBIG,          EUCLEAN,
                                 DB_PAGE_NOTFOUND, DB_VERIFY_BAD, DB_CHKSUM_FAIL, DB_OLD_VERSION,
                                 DB_RUNRECOVERY};
    for (unsigned i = 0; i < sizeof(damage) / sizeof(damage[0]); i++)
        if (result == damage[i])
            return true;
    return false;
}
