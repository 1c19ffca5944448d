#include "filad.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "os/time.h"

#define START_SECONDS 60
#define STOP_SECONDS 60
#define POLL_NS 5000000
#define LOG_TAIL 4096

static void nap(void)
{
    struct timespec pause = {.tv_nsec = POLL_NS};
    nanosleep(&pause, NULL);
}

/* ---- configuration ---- */

/* A port that is free now; the broker is told to take it. */
static int find_port(uint16_t *port, struct err *err)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int result = 0;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        result = err_set_errno(err, errno, "find a free port");
    }
    *port = ntohs(address.sin_port);
    if (fd >= 0) {
        close(fd);
    }
    return result;
}

/* A YAML string in single quotes. */
static void put_quoted(FILE *file, const char *directory, const char *name)
{
    fputc('\'', file);
    for (const char *c = directory; *c != '\0'; c++) {
        if (*c == '\'') {
            fputc('\'', file);
        }
        fputc(*c, file);
    }
    fprintf(file, "%s'\n", name);
}

static int write_configuration(const struct filad *filad, const char *path, const char *more,
                               struct err *err)
{
    const struct arguments *arguments = filad->bench->arguments;
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        return err_set_errno(err, errno, "write %s", path);
    }
    if (geteuid() == 0) {
        fputs("user: root\ngroup: root\n", file);
    }
    fprintf(file, "worker_processes: %u\ndaemon: false\npid_file: ", arguments->workers);
    put_quoted(file, filad->directory, "/filad.pid");
    fputs("error_log:\n  level: info\n  path: ", file);
    put_quoted(file, filad->directory, "/error.log");
    fprintf(file,
            "listen:\n  - address: 127.0.0.1:%u\nstore:\n  durability: %s\n  path: ", filad->port,
            arguments->durability);
    put_quoted(file, filad->directory, "/store");
    fputs("  regions: ", file);
    put_quoted(file, filad->regions, "");
    if (more != NULL) {
        fputs(more, file);
    }
    bool bad = ferror(file) != 0;
    if (fclose(file) != 0 || bad) {
        return err_set(err, 0, "write %s", path);
    }
    return 0;
}

/* ---- the process ---- */

static void show_log(const struct filad *filad, const char *name)
{
    char path[PATH_MAX + 16], tail[LOG_TAIL + 1];
    snprintf(path, sizeof(path), "%s/%s", filad->directory, name);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return;
    }
    if (fseek(file, -LOG_TAIL, SEEK_END) != 0) {
        rewind(file);
    }
    size_t size = fread(tail, 1, LOG_TAIL, file);
    tail[size] = '\0';
    if (size > 0) {
        fprintf(stderr, "--- end of the broker's %s\n%s%s", name, tail,
                tail[size - 1] == '\n' ? "" : "\n");
    }
    fclose(file);
}

static void show_logs(const struct filad *filad)
{
    show_log(filad, "output");
    show_log(filad, "error.log");
}

/* In the child. A process group of its own: an interrupt at the terminal is for the benchmark,
 * which stops the broker in order. */
static void execute(const struct filad *filad, const char *configuration, int output)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGPIPE, SIG_DFL);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    execl(filad->bench->filad, filad->bench->filad, "-c", configuration, "-p", filad->directory,
          (char *)NULL);
    dprintf(STDERR_FILENO, "execute %s: %s\n", filad->bench->filad, strerror(errno));
    _exit(127);
}

static int spawn(struct filad *filad, const char *configuration, struct err *err)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof(path), "%s/output", filad->directory);
    int output = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (output < 0) {
        return err_set_errno(err, errno, "open %s", path);
    }
    pid_t pid = fork();
    if (pid == 0) {
        execute(filad, configuration, output);
    }
    close(output);
    if (pid < 0) {
        return err_set_errno(err, errno, "fork");
    }
    setpgid(pid, pid);
    filad->pid = pid;
    return 0;
}

static int describe_end(int status, struct err *err)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return 0;
    }
    if (WIFEXITED(status)) {
        return err_set(err, 0, "filad ended with status %d", WEXITSTATUS(status));
    }
    return err_set(err, 0, "filad ended by signal %d", WTERMSIG(status));
}

static int wait_until_ready(struct filad *filad, struct err *err)
{
    uint64_t deadline = time_monotonic_ns() + START_SECONDS * UINT64_C(1000000000);
    for (;;) {
        int status;
        if (waitpid(filad->pid, &status, WNOHANG) == filad->pid) {
            filad->pid = 0;
            if (describe_end(status, err) == 0) {
                err_set(err, 0, "filad ended at once, without a word of failure");
            }
            return -1;
        }
        struct client *client = client_open(filad->port, err);
        if (client != NULL) {
            client_close(client);
            return 0;
        }
        if (progress_interrupted()) {
            return err_set(err, 0, "interrupted");
        }
        if (time_monotonic_ns() > deadline) {
            return err_prefix(err, "filad did not get ready in %d s", START_SECONDS);
        }
        nap();
    }
}

static void configuration_path(const struct filad *filad, char path[PATH_MAX + 16])
{
    snprintf(path, PATH_MAX + 16, "%s/filad.yaml", filad->directory);
}

int filad_restart(struct filad *filad, struct err *err)
{
    char path[PATH_MAX + 16];
    configuration_path(filad, path);
    return spawn(filad, path, err) != 0 ? -1 : wait_until_ready(filad, err);
}

int filad_start(struct filad *filad, struct bench *bench, const char *name,
                const char *configuration, struct err *err)
{
    char path[PATH_MAX + 16];
    struct err ignored;
    memset(filad, 0, sizeof(*filad));
    filad->bench = bench;
    snprintf(filad->name, sizeof(filad->name), "%s", name);
    if (place_make(&bench->place, name, filad->directory, filad->regions, err) != 0 ||
        find_port(&filad->port, err) != 0) {
        return -1;
    }
    configuration_path(filad, path);
    if (write_configuration(filad, path, configuration, err) != 0 ||
        filad_restart(filad, err) != 0) {
        if (filad_stop(filad, true, &ignored) != 0) {
            fprintf(stderr, "fila-bench: %s\n", ignored.text);
        }
        return -1;
    }
    return 0;
}

void filad_kill(struct filad *filad)
{
    int status;
    kill(-filad->pid, SIGKILL);
    while (waitpid(filad->pid, &status, 0) < 0 && errno == EINTR) {
    }
    filad->pid = 0;
}

/* Waits for the master; whatever is left of its process group after the time for that is killed. */
static int wait_for_end(struct filad *filad, struct err *err)
{
    uint64_t deadline = time_monotonic_ns() + STOP_SECONDS * UINT64_C(1000000000);
    int status;
    while (waitpid(filad->pid, &status, WNOHANG) == 0) {
        if (time_monotonic_ns() > deadline) {
            kill(-filad->pid, SIGKILL);
            while (waitpid(filad->pid, &status, 0) < 0 && errno == EINTR) {
            }
            return err_set(err, 0, "filad did not stop in %d s and was killed", STOP_SECONDS);
        }
        nap();
    }
    return describe_end(status, err);
}

int filad_stop(struct filad *filad, bool failed, struct err *err)
{
    int result = 0;
    if (filad->pid > 0) {
        kill(filad->pid, SIGTERM);
        result = wait_for_end(filad, err);
        filad->pid = 0;
    }
    if (failed || result != 0) {
        show_logs(filad);
    }
    if (!filad->bench->arguments->keep) {
        place_remove(&filad->bench->place, filad->name);
    }
    return result;
}

/* ---- processor time ---- */

/* Seconds that process `entry` of /proc has used; -1 unless it is of this process group. */
static double process_seconds(const char *entry, pid_t group)
{
    char path[64], text[1024];
    int of_group;
    unsigned long user, system;
    snprintf(path, sizeof(path), "/proc/%.20s/stat", entry);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return -1;
    }
    size_t size = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[size] = '\0';
    /* The name in parentheses may hold anything; fields are counted from behind it. */
    const char *rest = strrchr(text, ')');
    if (rest == NULL ||
        sscanf(rest, ") %*c %*d %d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &of_group, &user,
               &system) != 3 ||
        of_group != group) {
        return -1;
    }
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

/* Calls `each` for every process of the group, with its name in /proc and the time it has used. */
static void for_each_process(pid_t group,
                             void (*each)(void *context, const char *entry, double used),
                             void *context)
{
    DIR *directory = opendir("/proc");
    if (directory == NULL) {
        return;
    }
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        double used = entry->d_name[0] >= '1' && entry->d_name[0] <= '9'
                          ? process_seconds(entry->d_name, group)
                          : -1;
        if (used >= 0) {
            each(context, entry->d_name, used);
        }
    }
    closedir(directory);
}

static void add_seconds(void *context, const char *entry, double used)
{
    (void)entry;
    *(double *)context += used;
}

static double group_seconds(pid_t group)
{
    double seconds = 0;
    for_each_process(group, add_seconds, &seconds);
    return seconds;
}

static double own_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

void filad_usage_begin(const struct filad *filad, struct filad_usage *usage)
{
    usage->broker = group_seconds(filad->pid);
    usage->client = own_seconds();
    usage->at_ns = time_monotonic_ns();
}

void filad_usage_end(const struct filad *filad, const struct filad_usage *begin,
                     struct outcome *outcome)
{
    double passed = (double)(time_monotonic_ns() - begin->at_ns) / 1e9;
    if (passed > 0) {
        outcome->client_cpu = (own_seconds() - begin->client) / passed;
        outcome->broker_cpu = (group_seconds(filad->pid) - begin->broker) / passed;
    }
}

/* ---- memory ---- */

struct memory_sum {
    const struct filad *filad;
    struct filad_memory memory;
    bool failed;
};

/* Goes through smaps: a line that names a mapping, then its figures. */
static void add_memory(void *context, const char *entry, double used)
{
    struct memory_sum *sum = context;
    char path[64], line[PATH_MAX + 128];
    bool of_store = false;
    (void)used;
    snprintf(path, sizeof(path), "/proc/%.20s/smaps", entry);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        sum->failed = true;
        return;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        unsigned long kib;
        if (sscanf(line, "Pss: %lu kB", &kib) == 1) {
            sum->memory.total += (uint64_t)kib * 1024;
            sum->memory.store += of_store ? (uint64_t)kib * 1024 : 0;
        } else if (line[0] < 'A' || line[0] > 'Z') { /* addresses, in lower case */
            of_store = strstr(line, sum->filad->regions) != NULL;
        }
    }
    fclose(file);
}

int filad_memory(const struct filad *filad, struct filad_memory *memory, struct err *err)
{
    struct memory_sum sum = {.filad = filad};
    for_each_process(filad->pid, add_memory, &sum);
    *memory = sum.memory;
    return sum.failed || memory->total == 0 ? err_set(err, 0, "read the memory of filad") : 0;
}
