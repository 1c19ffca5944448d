#include "master/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hook/hook.h"
#include "hook/object.h"
#include "hook/tally.h"
#include "master/master.h"
#include "master/reload.h"
#include "os/log.h"
#include "os/sock.h"

#define CONTROL_CLIENTS 16
#define CONTROL_REQUEST_MS 10000 /* time of a client to send its line */
#define CONTROL_BACKLOG 16
#define CONTROL_REST_MS 1000 /* before it accepts again after it could not */

enum control_state { CONTROL_FREE, CONTROL_READING, CONTROL_WAITS_RELOAD, CONTROL_WAITS_END };

struct control_client {
    enum control_state state;
    struct master *master;
    struct loop_watch watch;
    struct loop_timer timer;
    uint64_t ticket; /* of the reload it waits for */
    size_t size;     /* bytes of `line` */
    char line[CONTROL_REQUEST_MAX];
};

struct control {
    struct loop_watch watch;
    struct loop_timer rest;
    struct log_limit failures;
    struct master *master;
    char path[SOCK_PATH_SIZE];
    struct control_client clients[CONTROL_CLIENTS];
};

int control_path(const char *pid_file, char *path, size_t size, struct err *err)
{
    const char *slash = strrchr(pid_file, '/');
    int directory = slash ? (int)(slash - pid_file) : 0;
    int written = snprintf(path, size, "%.*s/control.sock", directory, pid_file);

    if (!slash || written < 0 || (size_t)written >= size)
        return err_set(err, ENAMETOOLONG, "control.sock beside %s: the path is too long", pid_file);
    return 0;
}

void control_escape(struct buf *out, const char *reason)
{
    size_t size = strlen(reason);

    while (size && reason[size - 1] == '\n')
        size--;
    for (size_t i = 0; i < size; i++) {
        if (reason[i] == '\n')
            buf_append_c(out, "\\n");
        else if (reason[i] == '\\')
            buf_append_c(out, "\\\\");
        else
            buf_append_u8(out, (uint8_t)reason[i]);
    }
}

void control_unescape(char *text)
{
    char *out = text;

    for (const char *in = text; *in; in++) {
        if (in[0] == '\\' && in[1]) {
            in++;
            *out++ = *in == 'n' ? '\n' : *in;
        } else {
            *out++ = *in;
        }
    }
    *out = '\0';
}

/* --- answers --- */

static void client_close(struct control_client *client)
{
    loop_unwatch(client->master->loop, &client->watch);
    loop_timer_cancel(client->master->loop, &client->timer);
    close(client->watch.fd);
    *client = (struct control_client){0};
}

/* The answer is small and the first thing written: it fits the socket's buffer or the client has
 * its own problem. */
static void client_send(struct control_client *client, const char *head, const char *text)
{
    struct buf line;

    buf_init(&line, CONTROL_LINE_MAX);
    buf_append_c(&line, head);
    control_escape(&line, text);
    buf_append_u8(&line, '\n');
    if (line.failed) {
        buf_clear(&line);
        buf_append_c(&line, "error: the answer is too long\n");
    }
    if (send(client->watch.fd, line.data, line.size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_errno(LOG_NOTICE, "master", errno, "answer a control connection");
    buf_free(&line);
}

/* `reason` NULL: "ok". */
static void client_answer(struct control_client *client, const char *reason)
{
    client_send(client, reason ? "error: " : "ok", reason ? reason : "");
}

void control_reload_done(struct master *master, uint64_t number, const char *reason)
{
    for (size_t i = 0; master->control && i < CONTROL_CLIENTS; i++) {
        struct control_client *client = &master->control->clients[i];

        if (client->state != CONTROL_WAITS_RELOAD || client->ticket > number)
            continue;
        client_answer(client, reason);
        client_close(client);
    }
}

/* --- commands --- */

static void command_end(struct control_client *client, enum stop_mode mode)
{
    client->state = CONTROL_WAITS_END;
    client_answer(client, NULL);
    master_stop(client->master, mode);
}

static void command_stop(struct control_client *client)
{
    command_end(client, STOP_FAST);
}

static void command_quit(struct control_client *client)
{
    command_end(client, STOP_DRAIN);
}

static void command_reload(struct control_client *client)
{
    client->state = CONTROL_WAITS_RELOAD;
    client->ticket = reload_ticket(client->master);
    reload_request(client->master);
}

static void command_reopen(struct control_client *client)
{
    struct err err;

    client_answer(client, master_reopen(client->master, &err) < 0 ? err.text : NULL);
    client_close(client);
}

/* --- what -x executes --- */

/* In the text format of Prometheus. */
static void show_statistic(void *context, const struct hook_module *module,
                           const struct hook_statistic *row, uint64_t value)
{
    struct buf *out = context;

    buf_printf(out, "# HELP %s_%s %s\n# TYPE %s_%s %s\n%s_%s %llu\n", module->name, row->name,
               row->help, module->name, row->name, row->kind == HOOK_COUNTER ? "counter" : "gauge",
               module->name, row->name, (unsigned long long)value);
}

static void execute_statistics(struct master *master, struct buf *out)
{
    tally_visit(master->tally, show_statistic, out);
}

static void execute_modules(struct master *master, struct buf *out)
{
    for (const struct hook_module *const *module = master->conf->hooks; *module; module++) {
        const char *path = object_path(*module);

        buf_printf(out, "%s: %s\n", (*module)->name, path ? path : "built in");
        for (const struct hook_command *command = (*module)->commands; command && command->name;
             command++)
            buf_printf(out, "  %s.%s: %s\n", (*module)->name, command->name, command->help);
    }
}

static const struct {
    const char *name;
    void (*run)(struct master *master, struct buf *out);
} executables[] = {
    {"modules", execute_modules},
    {"statistics", execute_statistics},
};

static int execute(struct master *master, const char *line, struct buf *out, struct err *err)
{
    for (size_t i = 0; i < sizeof executables / sizeof executables[0]; i++) {
        const char *name = executables[i].name;
        size_t size = strlen(name);

        if (strncmp(name, line, size) != 0 || (line[size] && line[size] != ' '))
            continue;
        if (line[size])
            return err_set(err, EINVAL, "%s takes no argument", name);
        executables[i].run(master, out);
        return 0;
    }
    return hook_processes_command(master->modules, str_from_c(line), out, err);
}

static void client_execute(struct control_client *client, const char *line)
{
    struct buf out;
    struct err err;

    buf_init(&out, CONTROL_LINE_MAX);
    if (execute(client->master, line, &out, &err) < 0) {
        client_answer(client, err.text);
    } else {
        buf_append_u8(&out, 0);
        if (out.failed)
            client_answer(client, "the answer is too long");
        else
            client_send(client, "ok: ", (const char *)out.data);
    }
    buf_free(&out);
    client_close(client);
}

/* --- requests --- */

static const struct {
    const char *name;
    void (*run)(struct control_client *client);
} commands[] = {
    {"stop", command_stop},
    {"quit", command_quit},
    {"reload", command_reload},
    {"reopen", command_reopen},
};

static void client_command(struct control_client *client)
{
    loop_timer_cancel(client->master->loop, &client->timer);
    log_write(LOG_NOTICE, "master", "told to %s", client->line);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(commands[i].name, client->line) == 0) {
            commands[i].run(client);
            return;
        }
    }
    if (strncmp(client->line, CONTROL_EXECUTE, strlen(CONTROL_EXECUTE)) == 0) {
        client_execute(client, client->line + strlen(CONTROL_EXECUTE));
        return;
    }
    client_answer(client, "unknown command");
    client_close(client);
}

/* --- connections --- */

/* One that has given its command has nothing more to say: whatever comes then is its end. */
static void client_ready(struct loop_watch *watch, uint32_t events)
{
    struct control_client *client = CONTAINER_OF(watch, struct control_client, watch);
    size_t room = sizeof client->line - client->size;
    ssize_t got = recv(watch->fd, client->line + client->size, room, MSG_DONTWAIT);
    char *end;

    (void)events;
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0 || client->state != CONTROL_READING) {
        client_close(client);
        return;
    }
    client->size += (size_t)got;
    end = memchr(client->line, '\n', client->size);
    if (end) {
        *end = '\0';
        client_command(client);
    } else if (client->size == sizeof client->line) {
        client_answer(client, "the command is too long");
        client_close(client);
    }
}

static void client_late(struct loop_timer *timer)
{
    client_close(CONTAINER_OF(timer, struct control_client, timer));
}

static bool peer_allowed(int fd)
{
    uid_t uid;

    if (sock_peer_uid(fd, &uid) < 0) {
        log_errno(LOG_WARN, "master", errno, "who speaks on the control socket");
        return false;
    }
    if (uid == 0 || uid == geteuid())
        return true;
    log_write(LOG_WARN, "master", "user %u is refused on the control socket", uid);
    return false;
}

static struct control_client *client_free(struct control *control)
{
    for (size_t i = 0; i < CONTROL_CLIENTS; i++)
        if (control->clients[i].state == CONTROL_FREE)
            return &control->clients[i];
    return NULL;
}

static void control_ready(struct loop_watch *watch, uint32_t events)
{
    struct control *control = CONTAINER_OF(watch, struct control, watch);
    struct control_client *client;
    struct err err;
    int fd;

    (void)events;
    while ((fd = sock_accept(watch->fd, NULL, NULL)) >= 0) {
        client = client_free(control);
        if (!peer_allowed(fd) || !client) {
            close(fd);
            continue;
        }
        *client = (struct control_client){
            .state = CONTROL_READING,
            .master = control->master,
            .watch = {.fd = fd, .ready = client_ready},
            .timer = {.expired = client_late},
        };
        loop_timer_set(control->master->loop, &client->timer, CONTROL_REQUEST_MS);
        if (loop_watch(control->master->loop, &client->watch, EPOLLIN, &err) < 0) {
            log_write(LOG_ERROR, "master", "control connection: %s", err.text);
            client_close(client);
        }
    }
    if (errno == EAGAIN)
        return;
    log_errno_seldom(&control->failures, LOG_ERROR, "master", errno,
                     "accept on the control socket");
    loop_unwatch(control->master->loop, watch);
    loop_timer_set(control->master->loop, &control->rest, CONTROL_REST_MS);
}

static void control_rested(struct loop_timer *timer)
{
    struct control *control = CONTAINER_OF(timer, struct control, rest);
    struct err err;

    if (loop_watch(control->master->loop, &control->watch, EPOLLIN, &err) == 0)
        return;
    log_write(LOG_ERROR, "master", "control socket: %s", err.text);
    loop_timer_set(control->master->loop, timer, CONTROL_REST_MS);
}

static int control_open(struct control *control, struct err *err)
{
    struct sock_address address = {.kind = SOCK_KIND_UNIX};
    struct master *master = control->master;

    if (control_path(master->conf->pid_file, control->path, sizeof control->path, err) < 0)
        return -1;
    memcpy(address.path, control->path, sizeof address.path);
    control->watch.fd = sock_listen(&address, CONTROL_BACKLOG, err);
    if (control->watch.fd < 0)
        return -1;
    /* Whoever comes before this is refused by peer_allowed. */
    if (chmod(control->path, 0600) < 0) {
        err_set_errno(err, errno, "chmod %s", control->path);
    } else if (loop_watch(master->loop, &control->watch, EPOLLIN, err) == 0) {
        return 0;
    }
    unlink(control->path);
    close(control->watch.fd);
    return -1;
}

void control_start(struct master *master)
{
    struct control *control = calloc(1, sizeof *control);
    struct err err;

    if (!control)
        return;
    control->master = master;
    control->watch.ready = control_ready;
    control->rest.expired = control_rested;
    if (control_open(control, &err) < 0) {
        log_write(LOG_WARN, "master", "without a control socket: %s", err.text);
        free(control);
        return;
    }
    master->control = control;
}

void control_stop(struct master *master)
{
    struct control *control = master->control;

    if (!control)
        return;
    unlink(control->path);
    loop_timer_cancel(master->loop, &control->rest);
    loop_unwatch(master->loop, &control->watch);
    close(control->watch.fd);
    for (size_t i = 0; i < CONTROL_CLIENTS; i++)
        if (control->clients[i].state != CONTROL_FREE)
            client_close(&control->clients[i]);
    free(control);
    master->control = NULL;
}

void control_forget(struct master *master)
{
    const struct control *control = master->control;

    if (!control)
        return;
    close(control->watch.fd);
    for (size_t i = 0; i < CONTROL_CLIENTS; i++)
        if (control->clients[i].state != CONTROL_FREE)
            close(control->clients[i].watch.fd);
}
