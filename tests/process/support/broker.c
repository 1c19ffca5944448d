#include "process/support/broker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "os/time.h"
#include "process/support/files.h"
#include "process/support/peer.h"

bool wait_until(bool (*condition)(void *context), void *context, unsigned timeout_ms)
{
    uint64_t end_ns = time_monotonic_ns() + timeout_ms * 1000000ull;
    while (!condition(context)) {
        if (time_monotonic_ns() > end_ns)
            return condition(context);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    return true;
}

/* ---- files and configuration ---- */

static int free_port(struct err *err)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), port = -1;
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        err_set_errno(err, errno, "free port");
    else
        port = ntohs(address.sin_port);
    if (fd >= 0)
        close(fd);
    return port;
}

static void find_program(char path[BROKER_PATH_SIZE], const char *chosen, const char *variable,
                         const char *name)
{
    const char *given = chosen ? chosen : getenv(variable);
    const char *objs = getenv("FILAD_OBJS");
    if (given)
        snprintf(path, BROKER_PATH_SIZE, "%s", given);
    else
        snprintf(path, BROKER_PATH_SIZE, "%s/%s", objs ? objs : "objs", name);
    char *full = realpath(path, NULL);
    if (full)
        snprintf(path, BROKER_PATH_SIZE, "%s", full);
    free(full);
}

int broker_write_text(const char *path, const char *text, struct err *err)
{
    FILE *file = fopen(path, "w");
    if (!file)
        return err_set_errno(err, errno, "open %s", path);
    fputs(text, file);
    if (fclose(file) != 0)
        return err_set_errno(err, errno, "write %s", path);
    return 0;
}

static bool names_section(const char *lines, const char *section)
{
    return lines && strstr(lines, section);
}

int broker_write_conf(struct broker *broker, const char *extra, struct err *err)
{
    /* A client of a test may be silent for as long as a loaded machine makes it. */
    static const char patient[] = "fibp: {keepalive_interval: 10m, handshake_timeout: 2m}\n";
    const struct broker_options *options = &broker->options;
    FILE *file = fopen(broker->conf, "w");
    if (!file)
        return err_set_errno(err, errno, "open %s", broker->conf);
    if (geteuid() == 0)
        fputs("user: nobody\ngroup: nogroup\n", file);
    fprintf(file,
            "listen:\n"
            "  - address: %s\n"
            "  - address: %s\n",
            broker->unix_address, broker->tcp_address);
    if (options->numbering)
        fprintf(file, "  - {address: \"%s\", numbering: %s}\n", broker->numbered_address,
                options->numbering);
    fprintf(file,
            "worker_processes: %u\n"
            "daemon: false\n"
            "pid_file: %s\n"
            "error_log: {path: %s, level: info}\n"
            "worker_shutdown_timeout: 5s\n"
            "store:\n"
            "  path: %s\n"
            "  regions: %s\n"
            "  cache_size: %s\n"
            "  reserve: %s\n"
            "%s"
            "shared_memory: %s\n"
            "header_key: {fairness: tenant, weight: weight}\n"
            "%s%s%s",
            options->workers ? options->workers : 2, broker->pid_file, broker->log, broker->store,
            broker->regions, options->cache_size ? options->cache_size : "32m",
            options->reserve ? options->reserve : "16m", options->store ? options->store : "",
            options->shared_memory ? options->shared_memory : "256m",
            names_section(options->extra, "fibp:") || names_section(extra, "fibp:") ? "" : patient,
            options->extra ? options->extra : "", extra ? extra : "");
    if (fclose(file) != 0)
        return err_set_errno(err, errno, "write %s", broker->conf);
    return 0;
}

__attribute__((format(printf, 2, 3))) static void path_in(char path[BROKER_PATH_SIZE],
                                                          const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (vsnprintf(path, BROKER_PATH_SIZE, format, arguments) >= BROKER_PATH_SIZE)
        abort();
    va_end(arguments);
}

/* The control file of the shim is written by processes of another user, too. */
static int map_control(struct broker *broker, struct err *err)
{
    int fd = open(broker->control, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    void *mapped = MAP_FAILED;
    if (fd >= 0 && fchmod(fd, 0666) == 0 && ftruncate(fd, sizeof *broker->shim) == 0)
        mapped = mmap(NULL, sizeof *broker->shim, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED)
        err_set_errno(err, errno, "map %s", broker->control);
    else
        broker->shim = mapped;
    if (fd >= 0)
        close(fd);
    return broker->shim ? 0 : -1;
}

/* A path without blanks for LD_PRELOAD, which takes them for separators. */
static int link_shim(struct broker *broker, struct err *err)
{
    char shim[BROKER_PATH_SIZE], link[BROKER_PATH_SIZE];
    const char *objs = getenv("FILAD_OBJS");
    path_in(shim, "%s/tests/process/shim_%s.so", objs ? objs : "objs", broker->options.shim);
    path_in(link, "%s/shim.so", broker->directory);
    char *full = realpath(shim, NULL);
    if (!full) /* the loader would only warn, and the test wait for faults */
        return err_set_errno(err, errno, "%s", shim);
    int result = symlink(full, link);
    free(full);
    return result == 0 || errno == EEXIST ? 0 : err_set_errno(err, errno, "link %s", link);
}

int broker_init(struct broker *broker, const struct broker_options *options, struct err *err)
{
    memset(broker, 0, sizeof *broker);
    if (options)
        broker->options = *options;
    find_program(broker->filad, broker->options.filad, "FILAD", "filad");
    find_program(broker->fila, NULL, "FILA", "fila");
    if (access(broker->filad, X_OK) != 0)
        return err_set_errno(err, errno, "%s", broker->filad);
    if (files_make_directory(broker->directory, broker->options.parent, err) != 0)
        return -1;
    const char *name = strrchr(broker->directory, '/') + 1;
    path_in(broker->conf, "%s/filad.yaml", broker->directory);
    path_in(broker->pid_file, "%s/run/filad.pid", broker->directory);
    path_in(broker->log, "%s/log/error.log", broker->directory);
    path_in(broker->output, "%s/output", broker->directory);
    path_in(broker->store, "%s/store", broker->directory);
    path_in(broker->control, "%s/shim", broker->directory);
    if (broker->options.regions)
        path_in(broker->regions, "%s", broker->options.regions);
    else if (access("/dev/shm", W_OK) == 0)
        path_in(broker->regions, "/dev/shm/%s", name);
    else
        path_in(broker->regions, "%s/regions", broker->directory);
    int port = free_port(err);
    if (port < 0)
        return -1;
    path_in(broker->unix_address, "unix:%s/socket", broker->directory);
    path_in(broker->numbered_address, "unix:%s/numbered", broker->directory);
    snprintf(broker->tcp_address, sizeof broker->tcp_address, "127.0.0.1:%d", port);
    if (map_control(broker, err) != 0 || (broker->options.shim && link_shim(broker, err) != 0))
        return -1;
    return broker_write_conf(broker, NULL, err);
}

/* ---- start ---- */

static void preload_shim(const struct broker *broker)
{
    char link[BROKER_PATH_SIZE];
    path_in(link, "%s/shim.so", broker->directory);
    setenv("LD_PRELOAD", link, 1);
    setenv("FILAD_SHIM_CONTROL", broker->control, 1);
    setenv("FILAD_SHIM_STORE", broker->store, 1);
}

static void exec_master(struct broker *broker, int output)
{
    setsid();
    /* A test that is killed cleans nothing up; without a master the other processes leave too. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (dup2(output, 1) < 0 || dup2(output, 2) < 0 || chdir(broker->directory) != 0)
        _exit(126);
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (nothing >= 0)
        dup2(nothing, 0);
    if (broker->options.shim)
        preload_shim(broker);
    execl(broker->filad, broker->filad, "-c", broker->conf, (char *)NULL);
    dprintf(2, "exec %s: %s\n", broker->filad, strerror(errno));
    _exit(127);
}

int broker_spawn(struct broker *broker, struct err *err)
{
    char objs[BROKER_PATH_SIZE];
    if (!getenv("FILAD_OBJS") && realpath("objs", objs))
        setenv("FILAD_OBJS", objs, 1);
    int output = open(broker->output, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (output < 0)
        return err_set_errno(err, errno, "open %s", broker->output);
    pid_t pid = fork();
    if (pid == 0)
        exec_master(broker, output);
    close(output);
    if (pid < 0)
        return err_set_errno(err, errno, "fork");
    broker->pid = broker->session = pid;
    return 0;
}

bool broker_running(struct broker *broker)
{
    if (broker->pid && waitpid(broker->pid, &broker->status, WNOHANG) == broker->pid)
        broker->pid = 0;
    return broker->pid != 0;
}

/* Adds the end of the output to a reason. */
static int explain(const struct broker *broker, struct err *err)
{
    char end[300];
    files_tail(broker->output, end, sizeof end);
    if (end[0] == '\0')
        files_tail(broker->log, end, sizeof end);
    for (char *at = end; *at; at++)
        if (*at == '\n')
            *at = ' ';
    struct err reason = *err;
    return err_set(err, reason.code, "%.150s; it said: %s", reason.text, end);
}

int broker_wait_ready(struct broker *broker, unsigned timeout_ms, struct err *err)
{
    uint64_t end_ns = time_monotonic_ns() + timeout_ms * 1000000ull;
    for (;;) {
        struct peer *peer = peer_open(broker->unix_address, err);
        struct framed_stats stats;
        /* Any answer of the store will do. */
        int code = peer ? peer_stats(peer, "no-such-queue", &stats, err) : -1;
        peer_close(peer, true);
        if (code >= 0 && code != FIBP_STORAGE_ERROR)
            return 0;
        if (!broker_running(broker)) {
            err_set(
                err, 0, "filad ended with %s %d", WIFEXITED(broker->status) ? "status" : "signal",
                WIFEXITED(broker->status) ? WEXITSTATUS(broker->status) : WTERMSIG(broker->status));
            return explain(broker, err);
        }
        if (time_monotonic_ns() > end_ns) {
            err_prefix(err, "filad did not become ready");
            return explain(broker, err);
        }
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
}

int broker_start(struct broker *broker, struct err *err)
{
    if (broker_spawn(broker, err) != 0)
        return -1;
    return broker_wait_ready(broker, BROKER_READY_MS, err);
}

/* ---- end ---- */

static bool nobody_left(void *context)
{
    struct broker *broker = context;
    struct broker_process list[BROKER_PROCESSES_MAX];
    return !broker_running(broker) && broker_processes(broker, list, BROKER_PROCESSES_MAX) == 0;
}

int broker_wait_end(struct broker *broker, unsigned timeout_ms, struct err *err)
{
    if (wait_until(nobody_left, broker, timeout_ms))
        return 0;
    err_set(err, 0, "filad did not end within %u ms", timeout_ms);
    return explain(broker, err);
}

int broker_stop(struct broker *broker, int signal, struct err *err)
{
    if (!broker_running(broker))
        return err_set(err, 0, "there is no master to stop");
    kill(broker->pid, signal);
    if (broker_wait_end(broker, BROKER_READY_MS, err) != 0)
        return -1;
    if (!WIFEXITED(broker->status) || WEXITSTATUS(broker->status) != 0) {
        err_set(err, 0, "the master ended with wait status %x", (unsigned)broker->status);
        return explain(broker, err);
    }
    return 0;
}

void broker_kill(struct broker *broker, const struct broker_process *victims, size_t count)
{
    bool master = false;
    for (size_t i = 0; i < count; i++) {
        kill(victims[i].pid, SIGKILL);
        master |= victims[i].pid == broker->pid;
    }
    if (master && broker->pid) {
        waitpid(broker->pid, &broker->status, 0);
        broker->pid = 0;
    }
}

void broker_kill_all(struct broker *broker)
{
    struct broker_process list[BROKER_PROCESSES_MAX];
    size_t count = broker_processes(broker, list, BROKER_PROCESSES_MAX);
    broker_kill(broker, list, count);
}

void broker_cleanup(struct broker *broker, bool keep)
{
    if (broker->session) {
        /* A stopped process takes SIGKILL too; repeated for what is forked meanwhile. */
        for (int i = 0; i < 200 && !nobody_left(broker); i++) {
            broker_kill_all(broker);
            nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        }
        broker->session = 0;
    }
    if (broker->shim)
        munmap(broker->shim, sizeof *broker->shim);
    broker->shim = NULL;
    if (broker->directory[0] && !keep) {
        files_remove_tree(broker->regions);
        files_remove_tree(broker->directory);
    }
    broker->directory[0] = '\0';
}

/* ---- programs, shim, log ---- */

int broker_run(struct broker *broker, const char *program, const char *const *arguments,
               char *output, size_t size)
{
    const char *path = strcmp(program, "filad") == 0 ? broker->filad : broker->fila;
    const char *argv[32] = {path};
    for (size_t i = 0; i < 30 && arguments[i]; i++)
        argv[i + 1] = arguments[i];
    char capture[BROKER_PATH_SIZE];
    path_in(capture, "%s/capture-XXXXXX", broker->directory);
    int fd = mkostemp(capture, O_CLOEXEC), status = -1;
    if (fd < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (dup2(nothing, 0) < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
            _exit(126);
        setenv("FILA_ADDR", broker->tcp_address, 1);
        execv(path, (char *const *)(uintptr_t)argv);
        dprintf(2, "exec %s: %s\n", path, strerror(errno));
        _exit(127);
    }
    if (pid > 0 && waitpid(pid, &status, 0) == pid)
        status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    ssize_t got = pread(fd, output, size - 1, 0);
    output[got > 0 ? got : 0] = '\0';
    close(fd);
    unlink(capture);
    return status;
}

bool broker_logged(const struct broker *broker, const char *text)
{
    return files_contain(broker->log, text) || files_contain(broker->output, text);
}

bool broker_unsound(const struct broker *broker)
{
    return broker->directory[0] && (files_contain(broker->output, "Sanitizer: ") ||
                                    files_contain(broker->output, "runtime error: "));
}

void broker_print_log(const struct broker *broker, FILE *out)
{
    if (broker->directory[0] == '\0')
        return;
    fprintf(out, "---- the end of %s\n", broker->log);
    files_print_tail(broker->log, out);
    fprintf(out, "---- the end of %s\n", broker->output);
    files_print_tail(broker->output, out);
    fprintf(out, "----\n");
}
