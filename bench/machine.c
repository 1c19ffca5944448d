#include "machine.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static void find_processor(char *text, size_t size)
{
    char line[512];
    snprintf(text, size, "unknown processor");
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (file == NULL) {
        return;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        char *value = strchr(line, ':');
        if (value != NULL && strncmp(line, "model name", 10) == 0) {
            value += strspn(value, ": \t");
            value[strcspn(value, "\n")] = '\0';
            snprintf(text, size, "%s", value);
            break;
        }
    }
    fclose(file);
}

void machine_describe(struct machine *machine)
{
    struct utsname name;
    cpu_set_t cores;
    struct tm parts;
    time_t now = time(NULL);

    memset(machine, 0, sizeof(*machine));
    find_processor(machine->processor, sizeof(machine->processor));
    machine->cores = sched_getaffinity(0, sizeof(cores), &cores) == 0
                         ? CPU_COUNT(&cores)
                         : sysconf(_SC_NPROCESSORS_ONLN);
    machine->memory_gib =
        (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / (double)(1u << 30);
    if (uname(&name) == 0) {
        snprintf(machine->kernel, sizeof(machine->kernel), "%s %s", name.sysname, name.release);
    }
    if (gmtime_r(&now, &parts) != NULL) {
        strftime(machine->date, sizeof(machine->date), "%Y-%m-%dT%H:%M:%SZ", &parts);
    }
}
