#define _GNU_SOURCE 1

#include "os/shm.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "os/calls.h"

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* To the next whole page; 0 when that does not exist. */
static size_t page_round_up(size_t size)
{
    size_t page = page_size();
    return size > SIZE_MAX - page ? 0 : (size + page - 1) & ~(page - 1);
}

void *shm_map(size_t size, struct err *err)
{
    size_t rounded = page_round_up(size);
    void *memory = MAP_FAILED;
    if (rounded == 0)
        errno = EINVAL;
    else
        memory = os_mmap(NULL, rounded, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        err_set_errno(err, errno, "map %zu bytes of shared memory", size);
        return NULL;
    }
    return memory;
}

void shm_unmap(void *memory, size_t size)
{
    munmap(memory, page_round_up(size));
}

int shm_discard(void *memory, size_t size)
{
    uintptr_t mask = (uintptr_t)page_size() - 1;
    uintptr_t start = ((uintptr_t)memory + mask) & ~mask;
    uintptr_t end = ((uintptr_t)memory + size) & ~mask;
    if (end <= start)
        return 0;
    return madvise((void *)start, end - start, MADV_REMOVE);
}
