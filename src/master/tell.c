#include "master/tell.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "master/control.h"
#include "master/load.h"
#include "master/recovery.h"
#include "master/reload.h"
#include "master/state.h"
#include "os/daemon.h"
#include "os/io.h"
#include "os/sock.h"
#include "os/time.h"

#define TELL_CONNECT_MS 5000
#define TELL_GRACE_MS 10000 /* on top of what the master allows itself */
#define TELL_POLL_MS 20

/* What a signal's sender has to know. */
struct tell_signal {
    enum options_signal signal;
    int number;
    bool ends; /* the master ends */
};

static const struct tell_signal signals[] = {
    {OPTIONS_SIGNAL_STOP, SIGTERM, true},
    {OPTIONS_SIGNAL_QUIT, SIGQUIT, true},
    {OPTIONS_SIGNAL_RELOAD, SIGHUP, false},
    {OPTIONS_SIGNAL_REOPEN, SIGUSR1, false},
};

/* -x: only by the control socket. */
static const struct tell_signal execute = {.signal = OPTIONS_SIGNAL_NONE};

struct tell {
    const struct options *options;
    const struct tell_signal *signal;
    const struct conf *conf;
    pid_t pid;         /* of the master */
    int pid_file;      /* its lock lives as long as the master */
    uint64_t deadline; /* monotonic milliseconds */
};

static int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

static int fail(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    fputs("filad: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return EXIT_FAILURE;
}

static uint64_t tell_time_ms(const struct conf *conf, enum options_signal signal)
{
    uint64_t keeper = RECOVERY_CLOSE_MS + RECOVERY_ABANDON_MS + TELL_GRACE_MS;

    if (signal == OPTIONS_SIGNAL_STOP)
        return MASTER_STOP_MS + keeper;
    if (signal == OPTIONS_SIGNAL_QUIT)
        return conf->worker_shutdown_timeout_ms + MASTER_DRAIN_GRACE_MS + keeper;
    if (signal == OPTIONS_SIGNAL_RELOAD) /* behind another one, at worst */
        return 2 * RELOAD_READY_MS + TELL_GRACE_MS;
    return TELL_GRACE_MS;
}

/* The master has its pid file locked as long as it lives. */
static bool master_alive(const struct tell *tell)
{
    return daemon_pid_held(tell->pid_file);
}

static int find_master(struct tell *tell)
{
    const char *path = tell->conf->pid_file;
    struct err err;

    tell->pid_file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (tell->pid_file < 0 && errno != ENOENT)
        return fail("open pid file %s: %s", path, strerror(errno));
    if (tell->pid_file < 0 || !master_alive(tell))
        return fail("no broker is running with pid file %s", path);
    if (daemon_pid_read(path, &tell->pid, &err) < 0)
        return fail("%s", err.text);
    return EXIT_SUCCESS;
}

static int wait_for_end(const struct tell *tell)
{
    while (master_alive(tell)) {
        if (time_monotonic_ms() >= tell->deadline)
            return fail("the broker has not ended in time (%s)", tell->conf->pid_file);
        poll(NULL, 0, TELL_POLL_MS);
    }
    return EXIT_SUCCESS;
}

/* --- by the control socket --- */

/* The socket of this master and no other's; -1 when there is none. */
static int control_connect(const struct tell *tell)
{
    struct sock_address address = {.kind = SOCK_KIND_UNIX};
    struct ucred peer;
    socklen_t size = sizeof peer;
    int fd;

    if (control_path(tell->conf->pid_file, address.path, sizeof address.path, NULL) < 0)
        return -1;
    fd = sock_connect(&address, TELL_CONNECT_MS, NULL);
    if (fd < 0)
        return -1;
    /* Brokers whose pid files share a directory compete for the name; 0: from another namespace. */
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ||
        (peer.pid != 0 && peer.pid != tell->pid)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* One line without its end; false when there is none in time. */
static bool read_line(int fd, uint64_t deadline, char *line, size_t size)
{
    size_t used = 0;

    while (used < size - 1) {
        struct pollfd entry = {.fd = fd, .events = POLLIN};
        uint64_t now = time_monotonic_ms();
        ssize_t got;

        if (now >= deadline || poll(&entry, 1, (int)(deadline - now)) == 0)
            return false;
        got = recv(fd, line + used, size - 1 - used, MSG_DONTWAIT);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got <= 0)
            return false;
        used += (size_t)got;
        if (line[used - 1] == '\n') {
            line[used - 1] = '\0';
            return true;
        }
    }
    return false;
}

static int tell_by_control(const struct tell *tell, int fd)
{
    static const char error[] = "error: ";
    static char line[CONTROL_LINE_MAX + 1]; /* read_line fills all but the last byte */
    static const char text[] = "ok: ";
    bool executes = tell->signal == &execute;
    char command[CONTROL_REQUEST_MAX];
    int size = snprintf(command, sizeof command, "%s%s\n", executes ? CONTROL_EXECUTE : "",
                        executes ? tell->options->command : tell->options->signal_name);

    if (size < 0 || (size_t)size >= sizeof command)
        return fail("%s", "the command is too long");

    if (send(fd, command, (size_t)size, MSG_NOSIGNAL) != size)
        return fail("the control socket: %s", strerror(errno));
    if (!read_line(fd, tell->deadline, line, sizeof line)) {
        /* A master that was about to end anyway. */
        if (tell->signal->ends && !master_alive(tell))
            return EXIT_SUCCESS;
        return fail("%s", "the broker does not answer");
    }
    if (strncmp(line, error, sizeof error - 1) == 0) {
        control_unescape(line);
        return fail("%s", line + sizeof error - 1);
    }
    if (executes && strncmp(line, text, sizeof text - 1) == 0) {
        control_unescape(line);
        return printf("%s%s", line + sizeof text - 1, line[sizeof text - 1] ? "\n" : "") < 0 ||
                       fflush(stdout) != 0
                   ? fail("%s", "the output could not be written")
                   : EXIT_SUCCESS;
    }
    if (strcmp(line, "ok") != 0)
        return fail("the broker answers: %s", line);
    return tell->signal->ends ? wait_for_end(tell) : EXIT_SUCCESS;
}

/* --- by a signal --- */

static int tell_by_signal(const struct tell *tell)
{
    if (tell->signal == &execute)
        return fail("%s", "the broker has no control socket");
    if (kill(tell->pid, tell->signal->number) < 0)
        return fail("signal process %d: %s", (int)tell->pid, strerror(errno));
    if (tell->signal->ends)
        return wait_for_end(tell);
    if (!tell->options->quiet)
        fprintf(stderr, "filad: signalled process %d; its log says what came of it\n",
                (int)tell->pid);
    return EXIT_SUCCESS;
}

static int tell_master(struct tell *tell)
{
    int status, fd;

    if (find_master(tell) != EXIT_SUCCESS)
        return EXIT_FAILURE;
    fd = control_connect(tell);
    if (fd < 0)
        return tell_by_signal(tell);
    status = tell_by_control(tell, fd);
    close(fd);
    return status;
}

int tell_run(const struct options *options)
{
    struct tell tell = {.options = options, .pid_file = -1};
    struct conf_errors errors;
    struct conf *conf;
    int status = EXIT_FAILURE;

    conf_errors_init(&errors);
    conf = load_conf(options, &errors);
    load_report(&errors, true);
    conf_errors_free(&errors);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        if (signals[i].signal == options->signal)
            tell.signal = &signals[i];
    if (options->action == OPTIONS_EXECUTE)
        tell.signal = &execute;
    if (conf && tell.signal) {
        tell.conf = conf;
        tell.deadline = time_monotonic_ms() + tell_time_ms(conf, options->signal);
        status = tell_master(&tell);
    }
    if (tell.pid_file >= 0)
        close(tell.pid_file);
    conf_free(conf);
    return status;
}
