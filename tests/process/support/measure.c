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
