#include "master/heartbeat.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "core/buf.h"
#include "master/process.h"
#include "os/io.h"
#include "os/log.h"

#define DESCRIBE_LIMIT 4096 /* bytes taken of one file of /proc */

/* The content of /proc/PID/task/TID/FILE, its lines joined by a space; "-" when it cannot be read.
 */
static void read_thread_file(pid_t pid, const char *thread, const char *file, char *text,
                             size_t size)
{
    char path[128];
    struct buf content;

    buf_init(&content, 0);
    snprintf(path, sizeof path, "/proc/%d/task/%.16s/%s", (int)pid, thread, file);
    if (io_read_file(path, DESCRIBE_LIMIT, &content, NULL) < 0 || content.size == 0) {
        snprintf(text, size, "-");
    } else {
        snprintf(text, size, "%.*s", STR_PRINT(buf_str(&content)));
        for (char *c = text; *c; c++)
            if (*c == '\n')
                *c = c[1] ? ' ' : '\0';
    }
    buf_free(&content);
}

/* The letter and word of "State:\tS (sleeping)" in a joined status file. */
static void find_state(const char *status, char state[32])
{
    const char *found = strstr(status, "State:");
    size_t size = 0;

    if (found) {
        found += strlen("State:");
        found += strspn(found, " \t");
        size = strcspn(found, ")") + 1;
    }
    snprintf(state, 32, "%.*s", size < 32 ? (int)size : 31, found ? found : "-");
}

static void describe_thread(pid_t pid, const char *thread, const char *name)
{
    char comm[32], status[512], state[32], wchan[64], call[192], stack[1024];

    read_thread_file(pid, thread, "comm", comm, sizeof comm);
    read_thread_file(pid, thread, "status", status, sizeof status);
    find_state(status, state);
    read_thread_file(pid, thread, "wchan", wchan, sizeof wchan);
    read_thread_file(pid, thread, "syscall", call, sizeof call);
    read_thread_file(pid, thread, "stack", stack, sizeof stack);
    log_write(LOG_ERROR, "master", "%s: thread %s (%s): %s, waits in %s, system call %s, stack %s",
              name, thread, comm, state, wchan, call, stack);
}

void heartbeat_describe(pid_t pid, const char *name)
{
    char path[64];
    struct dirent *entry;
    DIR *threads;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    threads = opendir(path);
    if (!threads)
        return;
    while ((entry = readdir(threads)))
        if (isdigit((unsigned char)entry->d_name[0]))
            describe_thread(pid, entry->d_name, name);
    closedir(threads);
}

/* A keeper may be busy with a recovery before it is ready, and is given its own time to close. */
static bool heartbeat_wanted(const struct process *process)
{
    if (process->kind == PROCESS_KEEPER)
        return process->ready && !process->leaving;
    return process->kind == PROCESS_WORKER && !process->gone;
}

static void heartbeat_check(struct master *master, struct process *process)
{
    uint64_t now = loop_now_ms(master->loop);
    char name[48];

    if (process->ping_ms == 0) {
        process->ping_ms = now;
        process_send(process, CHANNEL_PING, ++process->ping);
    } else if (now - process->ping_ms >= HEARTBEAT_LIMIT_MS && !process->expected) {
        process_name(process, name);
        log_write(LOG_ERROR, "master", "%s has not answered for %llu s and is killed", name,
                  (unsigned long long)(now - process->ping_ms) / 1000);
        heartbeat_describe(process->pid, name);
        process_kill(process);
    }
}

static void heartbeat_beat(struct loop_timer *timer)
{
    struct master *master = CONTAINER_OF(timer, struct master, heartbeat_timer);

    for (unsigned slot = 0; slot < ZONE_SLOTS; slot++)
        if (heartbeat_wanted(&master->processes[slot]))
            heartbeat_check(master, &master->processes[slot]);
    loop_timer_set(master->loop, timer, HEARTBEAT_INTERVAL_MS);
}

void heartbeat_start(struct master *master)
{
    master->heartbeat_timer.expired = heartbeat_beat;
    loop_timer_set(master->loop, &master->heartbeat_timer, HEARTBEAT_INTERVAL_MS);
}
