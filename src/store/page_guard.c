#include "store/page_guard.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/calls.h"
#include "os/io.h"
#include "os/log.h"

#define GUARD_SLOTS 64
#define GUARD_STEP_MIN (16 << 10) /* room that is taken ahead: as much as the file has, */
#define GUARD_STEP_MAX (1 << 20)  /* within these bounds */
#define GUARD_PAGE (64u << 10)    /* the largest page of Berkeley DB */

enum slot_state { SLOT_FREE, SLOT_TAKEN, SLOT_FULL };

struct slot {
    _Atomic uint32_t state; /* SLOT_FULL: the rest is valid and its page may be half written */
    uint32_t size;
    uint64_t device, inode; /* of the database */
    uint64_t offset;
    uint8_t page[GUARD_PAGE];
};

struct guard {
    struct slot slots[GUARD_SLOTS];
};

/* Of this process; Berkeley DB's write function has no context of its own. */
static struct guard *guard;

static int open_file(const char *regions, int flags, struct err *err)
{
    char path[4096];
    if (io_path_join(path, sizeof(path), regions, PAGE_GUARD_FILE, err) != 0)
        return -1;
    int fd = os_open(path, flags | O_CLOEXEC, 0600);
    if (fd < 0)
        err_set_errno(err, errno, "open %s", path);
    return fd;
}

static struct guard *map_file(int fd, struct err *err)
{
    void *memory = os_mmap(NULL, sizeof(struct guard), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory != MAP_FAILED)
        return memory;
    err_set_errno(err, errno, "map the page guard");
    return NULL;
}

int page_guard_attach(const char *regions, struct err *err)
{
    if (guard)
        return 0;
    int fd = open_file(regions, O_RDWR, err);
    if (fd < 0)
        return -1;
    guard = map_file(fd, err);
    (void)os_close(fd);
    return guard ? 0 : -1;
}

void page_guard_detach(void)
{
    if (guard)
        (void)munmap(guard, sizeof(*guard));
    guard = NULL;
}

/* --- writing --- */

static struct slot *take_slot(void)
{
    for (unsigned i = 0; i < GUARD_SLOTS; i++) {
        uint32_t expected = SLOT_FREE;
        if (atomic_compare_exchange_strong(&guard->slots[i].state, &expected, SLOT_TAKEN))
            return &guard->slots[i];
    }
    return NULL; /* processes died with them all: until the recovery that follows */
}

/* Room for what the file does not have yet, so that the write cannot end half way. It is allocated
 * from the end of the file on, so that there are no holes, and in steps, so that few pages ask for
 * it. */
static int allocate(int fd, const struct stat *info, size_t size, off_t offset)
{
    off_t end = offset + (off_t)size, allocated = info->st_blocks * 512;
    if (allocated >= end && allocated >= info->st_size)
        return 0;
    off_t from = info->st_size < offset ? info->st_size : offset;
    off_t ahead = end < GUARD_STEP_MIN ? GUARD_STEP_MIN : end;
    if (ahead > GUARD_STEP_MAX)
        ahead = GUARD_STEP_MAX;
    if (os_fallocate(fd, FALLOC_FL_KEEP_SIZE, from, end - from + ahead) == 0 ||
        os_fallocate(fd, FALLOC_FL_KEEP_SIZE, from, end - from) == 0)
        return 0;
    return errno == EOPNOTSUPP ? 0 : -1;
}

ssize_t page_guard_pwrite(int fd, const void *data, size_t size, off_t offset)
{
    struct stat info;
    struct slot *slot = guard && size <= GUARD_PAGE ? take_slot() : NULL;
    if (fstat(fd, &info) != 0 || allocate(fd, &info, size, offset) != 0) {
        if (slot)
            atomic_store(&slot->state, SLOT_FREE);
        return -1;
    }
    if (!slot)
        return os_pwrite(fd, data, size, offset);
    slot->size = (uint32_t)size;
    slot->device = info.st_dev;
    slot->inode = info.st_ino;
    slot->offset = (uint64_t)offset;
    memcpy(slot->page, data, size);
    atomic_store(&slot->state, SLOT_FULL);
    ssize_t written = os_pwrite(fd, data, size, offset);
    int error = errno;
    atomic_store(&slot->state, SLOT_FREE);
    errno = error;
    return written;
}

/* --- repairing --- */

/* Whether the page in place is newer than the slot's: another process has written it since, as a
 * whole. A page starts with its log sequence number, file and offset. */
static bool is_newer(int fd, const struct slot *slot)
{
    uint32_t in_place[2], in_slot[2];
    if (os_pread(fd, in_place, sizeof(in_place), (off_t)slot->offset) != (ssize_t)sizeof(in_place))
        return false;
    memcpy(in_slot, slot->page, sizeof(in_slot));
    return in_place[0] > in_slot[0] || (in_place[0] == in_slot[0] && in_place[1] > in_slot[1]);
}

/* Writes the slot's page where the directory holds its file. 1: done; 0: the file is not there. */
static int repair_in(const char *directory, const struct slot *slot, struct err *err)
{
    DIR *dir = opendir(directory);
    int status = 0;
    if (!dir)
        return errno == ENOENT ? 0 : err_set_errno(err, errno, "open %s", directory);
    for (struct dirent *entry = readdir(dir); entry && status == 0; entry = readdir(dir)) {
        struct stat info;
        if (fstatat(dirfd(dir), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISREG(info.st_mode) || info.st_dev != slot->device || info.st_ino != slot->inode)
            continue;
        int fd = openat(dirfd(dir), entry->d_name, O_RDWR | O_CLOEXEC);
        status = 1;
        if (fd >= 0 && is_newer(fd, slot))
            log_write(LOG_NOTICE, "store", "%s/%s: the page at %llu is newer than its guard",
                      directory, entry->d_name, (unsigned long long)slot->offset);
        else if (fd < 0 ||
                 os_pwrite(fd, slot->page, slot->size, (off_t)slot->offset) != (ssize_t)slot->size)
            status = err_set_errno(err, errno, "repair a page of %s/%s", directory, entry->d_name);
        else
            log_write(LOG_NOTICE, "store", "%s/%s: wrote the page at %llu again", directory,
                      entry->d_name, (unsigned long long)slot->offset);
        if (fd >= 0)
            (void)os_close(fd);
    }
    closedir(dir);
    return status;
}

static int repair(const struct guard *old, const char *store_path, struct err *err)
{
    char queues[4096];
    if (io_path_join(queues, sizeof(queues), store_path, "queues", err) != 0)
        return -1;
    for (unsigned i = 0; i < GUARD_SLOTS; i++) {
        const struct slot *slot = &old->slots[i];
        if (atomic_load(&slot->state) != SLOT_FULL || slot->size > GUARD_PAGE)
            continue;
        int found = repair_in(queues, slot, err);
        if (found == 0)
            found = repair_in(store_path, slot, err);
        if (found < 0)
            return -1;
    }
    return 0;
}

/* *old NULL: there is none, or none of this size. One that cannot be looked at is kept: what was
 * being written may be in it. */
static int map_old(const char *regions, struct guard **old, struct err *err)
{
    struct stat info;
    struct err failure;
    int status = 0;
    *old = NULL;
    int fd = open_file(regions, O_RDWR, &failure);
    if (fd < 0 && failure.code == ENOENT)
        return 0;
    if (fd < 0) {
        *err = failure;
        return -1;
    }
    if (fstat(fd, &info) != 0)
        status = err_set_errno(err, errno, "size of the page guard in %s", regions);
    else if (info.st_size == (off_t)sizeof(struct guard))
        status = (*old = map_file(fd, err)) ? 0 : -1;
    (void)os_close(fd);
    return status;
}

int page_guard_recover(const char *regions, const char *store_path, struct err *err)
{
    struct guard *old = NULL;
    int status = map_old(regions, &old, err);
    if (old) {
        status = repair(old, store_path, err);
        (void)munmap(old, sizeof(*old));
    }
    if (status != 0)
        return -1;
    int fd = open_file(regions, O_RDWR | O_CREAT, err);
    if (fd < 0)
        return -1;
    if (os_ftruncate(fd, 0) != 0 || os_fallocate(fd, 0, 0, (off_t)sizeof(struct guard)) != 0)
        status = err_set_errno(err, errno, "make the page guard in %s", regions);
    (void)os_close(fd);
    return status;
}
