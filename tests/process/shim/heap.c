/*
 * heap - preloaded into filad: when the control file asks, each process reports how many bytes its
 * malloc has handed out, the next time that its loop turns.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "process/shim/control.h"

static struct shim_control *control;
static int (*real_epoll_wait)(int, struct epoll_event *, int, int);
static uint32_t answered; /* the question of which number */

__attribute__((constructor)) static void shim_start(void)
{
    real_epoll_wait = (__typeof__(real_epoll_wait))dlsym(RTLD_NEXT, "epoll_wait");
    const char *path = getenv("FILAD_SHIM_CONTROL");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *mapped = MAP_FAILED;
    if (fd >= 0)
        mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED)
        _exit(125);
    close(fd);
    control = mapped;
}

static void report(void)
{
    struct mallinfo2 info = mallinfo2();
    uint32_t at = atomic_fetch_add(&control->heap_reports, 1);
    if (at >= SHIM_HEAPS)
        return;
    atomic_store(&control->heaps[at].bytes, info.uordblks + info.hblkhd);
    atomic_store(&control->heaps[at].pid, (int32_t)getpid());
}

int epoll_wait(int fd, struct epoll_event *events, int room, int timeout)
{
    int count = real_epoll_wait(fd, events, room, timeout);
    uint32_t asked = atomic_load(&control->heap_asked);
    if (asked != answered) {
        answered = asked;
        report();
    }
    return count;
}
