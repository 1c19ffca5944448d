#include "process/support/measure.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

uint64_t measure_memory(pid_t pid)
{
    char path[64], line[256];
    unsigned long long kilobytes = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    while (fgets(line, sizeof line, file) && sscanf(line, "RssAnon: %llu", &kilobytes) != 1)
        ;
    fclose(file);
    return kilobytes * 1024;
}

uint64_t measure_cpu_ms(pid_t pid)
{
    char path[64], text[1024];
    unsigned long long user = 0, kernel = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    const char *end = strrchr(text, ')');
    if (!end || sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
                       &kernel) != 2)
        return 0;
    return (user + kernel) * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
}

unsigned measure_sockets(pid_t pid)
{
    char path[64], target[64];
    unsigned count = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *directory = opendir(path);
    if (!directory)
        return 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        ssize_t size = readlinkat(dirfd(directory), entry->d_name, target, sizeof target);
        count += size > 7 && memcmp(target, "socket:", 7) == 0;
    }
    closedir(directory);
    return count;
}

/* How often a thread has gone to sleep; 0 when it does not sleep. */
static uint64_t sleeps_of(pid_t pid, const char *thread)
{
    char path[320], line[256], state = '?';
    unsigned long long switches = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%s/status", (int)pid, thread);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    while (fgets(line, sizeof line, file)) {
        (void)sscanf(line, "State: %c", &state);
        (void)sscanf(line, "voluntary_ctxt_switches: %llu", &switches);
    }
    fclose(file);
    return state == 'S' ? switches : 0;
}

/* The sum over the threads; 0 when one is awake. */
static uint64_t all_sleeps(pid_t pid)
{
    char path[64];
    uint64_t total = 0, sleeps = 1;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *directory = opendir(path);
    if (!directory)
        return 0;
    for (struct dirent *entry; sleeps && (entry = readdir(directory));)
        if (entry->d_name[0] != '.')
            total += sleeps = sleeps_of(pid, entry->d_name);
    closedir(directory);
    return sleeps ? total : 0;
}

/* Each thread slept from the first look at it to the second one, between which was a moment that
 * all of them have in common. */
static bool are_asleep(const pid_t *pids, size_t count)
{
    uint64_t sleeps[BROKER_PROCESSES_MAX];
    for (size_t i = 0; i < count; i++)
        if (!(sleeps[i] = all_sleeps(pids[i])))
            return false;
    for (size_t i = 0; i < count; i++)
        if (all_sleeps(pids[i]) != sleeps[i])
            return false;
    return true;
}

bool measure_is_asleep(pid_t pid)
{
    return are_asleep(&pid, 1);
}

bool measure_role_is_asleep(struct broker *broker, enum broker_role role)
{
    struct broker_process list[BROKER_PROCESSES_MAX];
    pid_t pids[BROKER_PROCESSES_MAX];
    size_t count = broker_processes(broker, list, BROKER_PROCESSES_MAX), found = 0;
    for (size_t i = 0; i < count; i++)
        if (list[i].role == role)
            pids[found++] = list[i].pid;
    return are_asleep(pids, found);
}

static uint64_t sum(struct broker *broker, enum broker_role role, uint64_t (*of)(pid_t pid))
{
    struct broker_process list[BROKER_PROCESSES_MAX];
    size_t count = broker_processes(broker, list, BROKER_PROCESSES_MAX);
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++)
        if (list[i].role == role)
            total += of(list[i].pid);
    return total;
}

uint64_t measure_role_memory(struct broker *broker, enum broker_role role)
{
    return sum(broker, role, measure_memory);
}

uint64_t measure_role_cpu_ms(struct broker *broker, enum broker_role role)
{
    return sum(broker, role, measure_cpu_ms);
}
