#include "store/space.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/calls.h"
#include "os/io.h"

#define AUTO_EXTRA (128u << 20) /* four files of the log: what is acked fast before one can go */
#define PATH_SIZE 4096

uint64_t space_reserve(uint64_t setting, uint64_t checkpoint_bytes)
{
    return setting ? setting : 2 * checkpoint_bytes + AUTO_EXTRA;
}

static int ballast_open(const char *store_path, int flags)
{
    char path[PATH_SIZE];
    if (io_path_join(path, sizeof(path), store_path, "ballast", NULL) != 0)
        return -1;
    return os_open(path, flags | O_CLOEXEC, 0600);
}

static uint64_t ballast_size(const char *store_path)
{
    struct stat info;
    int fd = ballast_open(store_path, O_RDONLY);
    if (fd < 0)
        return 0;
    uint64_t size = fstat(fd, &info) == 0 && info.st_size > 0 ? (uint64_t)info.st_size : 0;
    (void)os_close(fd);
    return size;
}

bool space_release(const char *store_path)
{
    if (ballast_size(store_path) == 0)
        return false;
    int fd = ballast_open(store_path, O_WRONLY);
    if (fd < 0)
        return false;
    bool released = os_ftruncate(fd, 0) == 0;
    (void)os_close(fd);
    return released;
}

bool space_restore(const char *store_path, uint64_t reserve)
{
    uint64_t have = ballast_size(store_path), free_bytes = 0;
    if (have >= reserve)
        return true;
    if (io_free_space(store_path, &free_bytes, NULL) != 0 || free_bytes < 2 * (reserve - have))
        return false;
    int fd = ballast_open(store_path, O_WRONLY | O_CREAT);
    if (fd < 0)
        return false;
    bool made = os_fallocate(fd, 0, 0, (off_t)reserve) == 0;
    if (!made && ftruncate(fd, 0) != 0)
        made = false;
    (void)os_close(fd);
    return made;
}

uint64_t space_wanted(const char *store_path, uint64_t reserve, uint64_t *free_bytes)
{
    uint64_t have = ballast_size(store_path);
    if (io_free_space(store_path, free_bytes, NULL) != 0)
        *free_bytes = 0;
    return have < reserve ? 2 * (reserve - have) : reserve / 2;
}

bool space_is_low(const char *store_path, uint64_t reserve, bool was_low)
{
    uint64_t free_bytes = 0;
    if (ballast_size(store_path) < reserve)
        return true;
    return io_free_space(store_path, &free_bytes, NULL) == 0 &&
           free_bytes < reserve / (was_low ? 2 : 4);
}

bool space_is_scarce(const char *store_path, uint64_t reserve)
{
    uint64_t free_bytes = 0;
    return io_free_space(store_path, &free_bytes, NULL) == 0 && free_bytes < reserve / 8;
}
