#define _GNU_SOURCE 1 /* pipe2 */

#include "worker/shed.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "event/channel.h"
#include "os/log.h"
#include "os/proc.h"
#include "worker/worker.h"

static void close_socket(void *context, int fd, const char *target)
{
    (void)context;
    if (strncmp(target, "socket:", strlen("socket:")) == 0)
        close(fd);
}

/* A thread in the middle of a system call ends when the call does, and until then keeps this
 * process's descriptors: without the sockets among them, so that what the child closes is closed.
 * The others are left alone: a thread that still runs must not meet another file under a number
 * that it uses. */
static _Noreturn void leave(void)
{
    struct err err;
    if (proc_each_descriptor(close_socket, NULL, &err) != 0)
        log_write(LOG_WARN, "worker", "connections stay open until this ends: %s", err.text);
    _exit(EXIT_SHED);
}

static int tell(int channel, int gate, pid_t child, struct err *err)
{
    if (channel_send(channel, CHANNEL_SHED, (uint64_t)child, NULL, err) != 0)
        return -1;
    if (write(gate, "", 1) != 1) /* it has died already, as the master will hear */
        log_errno(LOG_WARN, "worker", errno, "process %d cannot go on", (int)child);
    return 0;
}

/* Without the parent's word the master knows nothing of this process. */
static void wait_for_word(int gate)
{
    char byte;
    ssize_t size;
    do {
        size = read(gate, &byte, 1);
    } while (size < 0 && errno == EINTR);
    if (size != 1)
        _exit(EXIT_STORE_STUCK);
}

int shed_threads(struct pipeline *pipeline, int channel, struct err *err)
{
    int gate[2];
    pid_t child;
    if (pipe2(gate, O_CLOEXEC) != 0)
        return err_set_errno(err, errno, "make a pipe");
    int status = pipeline_shed(pipeline, &child, err);
    if (status == 0 && child == 0) {
        close(gate[1]);
        wait_for_word(gate[0]);
        close(gate[0]);
        return 0;
    }
    close(gate[0]);
    if (status == 0 && tell(channel, gate[1], child, err) == 0)
        leave();
    close(gate[1]); /* ends the child */
    return -1;
}
