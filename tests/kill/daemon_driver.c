#include "kill/daemon_driver.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "kill/connection.h"
#include "process/support/broker.h"

struct daemon {
    struct driver driver;
    struct broker broker;
    enum daemon_client client;
    atomic_uint connections; /* made so far: whose turn it is */
};

static int daemon_start(struct driver *driver, struct err *err)
{
    struct daemon *daemon = (struct daemon *)driver;
    return broker_start(&daemon->broker, err);
}

static int daemon_stop(struct driver *driver, struct err *err)
{
    struct daemon *daemon = (struct daemon *)driver;
    if (broker_stop(&daemon->broker, SIGTERM, err) != 0)
        return -1;
    return broker_unsound(&daemon->broker) ? err_set(err, 0, "a sanitizer found something") : 0;
}

static size_t daemon_processes(struct driver *driver, struct driver_process *list, size_t room)
{
    static const enum driver_role roles[] = {[BROKER_MASTER] = DRIVER_MASTER,
                                             [BROKER_KEEPER] = DRIVER_KEEPER,
                                             [BROKER_WORKER] = DRIVER_WORKER,
                                             [BROKER_OTHER] = DRIVER_HELPER};
    struct daemon *daemon = (struct daemon *)driver;
    struct broker_process found[BROKER_PROCESSES_MAX];
    size_t count = broker_processes(&daemon->broker, found,
                                    room < BROKER_PROCESSES_MAX ? room : BROKER_PROCESSES_MAX);
    for (size_t i = 0; i < count; i++)
        list[i] = (struct driver_process){roles[found[i].role], found[i].pid};
    return count;
}

static void daemon_kill(struct driver *driver, const struct driver_process *victims, size_t count)
{
    struct daemon *daemon = (struct daemon *)driver;
    struct broker_process list[BROKER_PROCESSES_MAX];
    if (count > BROKER_PROCESSES_MAX)
        count = BROKER_PROCESSES_MAX;
    for (size_t i = 0; i < count; i++)
        list[i].pid = victims[i].pid;
    broker_kill(&daemon->broker, list, count);
}

static bool daemon_healthy(struct driver *driver, struct err *err)
{
    struct daemon *daemon = (struct daemon *)driver;
    if (broker_running(&daemon->broker))
        return true;
    err_set(err, 0, "wait status %x", (unsigned)daemon->broker.status);
    return false;
}

static struct driver_connection *daemon_connect(struct driver *driver, struct err *err)
{
    struct daemon *daemon = (struct daemon *)driver;
    unsigned turn = atomic_fetch_add(&daemon->connections, 1);
    const char *address = turn / 2 % 2 ? daemon->broker.tcp_address : daemon->broker.unix_address;
    bool library = daemon->client == DAEMON_CLIENT_LIBRARY ||
                   (daemon->client == DAEMON_CLIENT_MIXED && turn % 2);
    return library ? library_connect(address, err) : wire_connect(address, err);
}

static void daemon_close(struct driver_connection *connection, bool politely)
{
    connection->ops->close(connection, politely);
}

static int daemon_enqueue(struct driver_connection *connection,
                          const struct driver_outgoing *messages, size_t count, uint32_t *request)
{
    return connection->ops->enqueue(connection, messages, count, request);
}

static int daemon_consume(struct driver_connection *connection, const char *queue,
                          uint32_t *request)
{
    return connection->ops->consume(connection, queue, request);
}

static int daemon_ack(struct driver_connection *connection, const struct driver_handle *handles,
                      size_t count, uint32_t *request)
{
    return connection->ops->settle(connection, false, handles, count, request);
}

static int daemon_nack(struct driver_connection *connection, const struct driver_handle *handles,
                       size_t count, uint32_t *request)
{
    return connection->ops->settle(connection, true, handles, count, request);
}

static void daemon_next(struct driver_connection *connection, unsigned timeout_ms,
                        struct driver_event *event)
{
    memset(event, 0, sizeof *event);
    connection->ops->next(connection, timeout_ms, event);
}

static int daemon_create_queue(struct driver_connection *connection, const char *name,
                               uint32_t visibility_ms)
{
    return connection->ops->create_queue(connection, name, visibility_ms);
}

static int daemon_stats(struct driver_connection *connection, const char *queue,
                        struct driver_stats *stats)
{
    return connection->ops->stats(connection, queue, stats);
}

static int daemon_command(struct driver *driver, const char *const *arguments, char *output,
                          size_t size)
{
    struct daemon *daemon = (struct daemon *)driver;
    const char *all[24] = {"--addr", daemon->broker.tcp_address};
    size_t count = 2;
    for (; *arguments && count + 1 < sizeof all / sizeof all[0]; arguments++)
        all[count++] = *arguments;
    return broker_run(&daemon->broker, daemon->broker.fila, all, output, size);
}

static const struct driver_ops daemon_ops = {
    .name = "filad",
    .keys = true,
    .start = daemon_start,
    .stop = daemon_stop,
    .processes = daemon_processes,
    .kill = daemon_kill,
    .healthy = daemon_healthy,
    .connect = daemon_connect,
    .close = daemon_close,
    .enqueue = daemon_enqueue,
    .consume = daemon_consume,
    .ack = daemon_ack,
    .nack = daemon_nack,
    .next = daemon_next,
    .create_queue = daemon_create_queue,
    .stats = daemon_stats,
    .command = daemon_command,
};

struct driver *daemon_driver_create(const struct daemon_options *options, struct err *err)
{
    struct daemon *daemon = calloc(1, sizeof *daemon);
    if (!daemon)
        abort();
    daemon->driver.ops = &daemon_ops;
    daemon->client = options->client;
    struct broker_options broker = {.workers = options->workers,
                                    .filad = options->filad,
                                    .parent = options->directory,
                                    .extra = options->extra};
    if (broker_init(&daemon->broker, &broker, err) != 0) {
        broker_cleanup(&daemon->broker, false);
        free(daemon);
        return NULL;
    }
    return &daemon->driver;
}

void daemon_driver_destroy(struct driver *driver, bool keep)
{
    struct daemon *daemon = (struct daemon *)driver;
    broker_cleanup(&daemon->broker, keep);
    free(daemon);
}

const char *daemon_driver_directory(const struct driver *driver)
{
    return ((const struct daemon *)driver)->broker.directory;
}

void daemon_driver_print_log(const struct driver *driver, FILE *out)
{
    broker_print_log(&((const struct daemon *)driver)->broker, out);
}
