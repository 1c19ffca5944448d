/* The processes of a broker, from /proc: all that share the session of its master. */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "process/support/broker.h"

static bool read_proc(pid_t pid, const char *name, char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, text, size - 1);
    close(fd);
    text[got > 0 ? got : 0] = '\0';
    return got > 0;
}

/* State letter and session of a process. */
static bool read_stat(pid_t pid, char *state, pid_t *session)
{
    char text[512];
    int parent, group, id;
    if (!read_proc(pid, "stat", text, sizeof text))
        return false;
    const char *end = strrchr(text, ')'); /* the name before it may hold anything */
    if (!end || sscanf(end + 1, " %c %d %d %d", state, &parent, &group, &id) != 4)
        return false;
    *session = id;
    return true;
}

static enum broker_role role_of(const struct broker *broker, pid_t pid)
{
    char title[256];
    if (pid == broker->session)
        return BROKER_MASTER;
    if (!read_proc(pid, "cmdline", title, sizeof title) || strncmp(title, "filad: ", 7) != 0)
        if (!read_proc(pid, "comm", title, sizeof title))
            return BROKER_OTHER;
    if (strstr(title, "worker"))
        return BROKER_WORKER;
    return strstr(title, "keeper") ? BROKER_KEEPER : BROKER_OTHER;
}

size_t broker_processes(struct broker *broker, struct broker_process *list, size_t room)
{
    size_t count = 0;
    DIR *proc = opendir("/proc");
    if (!proc || !broker->session) {
        if (proc)
            closedir(proc);
        return 0;
    }
    for (struct dirent *entry; count < room && (entry = readdir(proc));) {
        char state;
        pid_t session, pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (!isdigit((unsigned char)entry->d_name[0]) || !read_stat(pid, &state, &session) ||
            session != broker->session || state == 'Z' || state == 'X')
            continue;
        list[count++] = (struct broker_process){role_of(broker, pid), pid};
    }
    closedir(proc);
    return count;
}

pid_t broker_find(struct broker *broker, enum broker_role role)
{
    struct broker_process list[BROKER_PROCESSES_MAX];
    size_t count = broker_processes(broker, list, BROKER_PROCESSES_MAX);
    for (size_t i = 0; i < count; i++)
        if (list[i].role == role)
            return list[i].pid;
    return 0;
}

unsigned broker_count(struct broker *broker, enum broker_role role)
{
    struct broker_process list[BROKER_PROCESSES_MAX];
    size_t count = broker_processes(broker, list, BROKER_PROCESSES_MAX);
    unsigned found = 0;
    for (size_t i = 0; i < count; i++)
        found += list[i].role == role;
    return found;
}
