/* The worker as a process: its channel, its phases, accepting. The pipeline is played by this file,
 * in the worker's process. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/bytes.h"
#include "event/channel.h"
#include "fibp/framed.h"
#include "os/sock.h"
#include "os/time.h"
#include "worker/pipeline.h"
#include "worker/session.h"
#include "worker/worker.h"

#define PATIENCE_MS 10000

/* ---- the pipeline ---- */

static bool play_stuck;   /* its threads do not end */
static bool play_silent;  /* it answers nothing before it is told to finish */
static bool play_no_fork; /* it cannot be left behind */
static bool play_failing; /* the environment cannot be opened */
static struct zone *zone;
static _Atomic uint64_t *submitted; /* operations that reached it; in shared memory */

struct pipeline {
    int fd;
    enum pipeline_state state;
    struct operation *held, *results, **results_end;
    uint64_t outstanding;
};

struct pipeline *pipeline_create(const struct pipeline_options *options, struct err *err)
{
    struct pipeline *pipeline = calloc(1, sizeof(*pipeline));

    (void)options;
    (void)err;
    if (!pipeline)
        abort();
    pipeline->fd = eventfd(0, EFD_NONBLOCK);
    pipeline->results_end = &pipeline->results;
    return pipeline;
}

void pipeline_destroy(struct pipeline *pipeline)
{
    close(pipeline->fd);
    free(pipeline);
}

int pipeline_fd(const struct pipeline *pipeline)
{
    return pipeline->fd;
}

static void wake(struct pipeline *pipeline)
{
    if (eventfd_write(pipeline->fd, 1) < 0)
        abort();
}

static void complete(struct pipeline *pipeline, struct operation *operation)
{
    operation->next = NULL;
    *pipeline->results_end = operation;
    pipeline->results_end = &operation->next;
    wake(pipeline);
}

void pipeline_submit(struct pipeline *pipeline, struct operation *first)
{
    for (struct operation *next; first; first = next) {
        next = first->next;
        pipeline->outstanding++;
        atomic_fetch_add(submitted, 1);
        if (first->kind == OPERATION_ENQUEUE)
            ((struct operation_enqueue *)first)->items[0].status = FIBP_QUEUE_NOT_FOUND;
        if (play_silent && pipeline->state != PIPELINE_AWAY) {
            first->next = pipeline->held;
            pipeline->held = first;
        } else {
            complete(pipeline, first);
        }
    }
}

struct operation *pipeline_take(struct pipeline *pipeline)
{
    struct operation *first = pipeline->results;
    eventfd_t count;

    if (eventfd_read(pipeline->fd, &count) < 0 && errno != EAGAIN)
        abort();
    pipeline->results = NULL;
    pipeline->results_end = &pipeline->results;
    for (struct operation *operation = first; operation; operation = operation->next)
        pipeline->outstanding--;
    return first;
}

uint64_t pipeline_outstanding(const struct pipeline *pipeline)
{
    return pipeline->outstanding;
}

int pipeline_start(struct pipeline *pipeline, uint64_t generation, struct err *err)
{
    struct operation_settings *settings = calloc(1, sizeof(*settings));

    (void)generation;
    (void)err;
    pipeline->state = play_failing ? PIPELINE_FAILED : PIPELINE_RUNNING;
    if (!settings)
        abort();
    settings->operation.kind = OPERATION_SETTINGS;
    settings->anew = true;
    settings->generation = atomic_load(&zone->settings_generation);
    pipeline->outstanding++;
    complete(pipeline, &settings->operation);
    return 0;
}

enum pipeline_state pipeline_state(struct pipeline *pipeline)
{
    return pipeline->state;
}

const char *pipeline_reason(const struct pipeline *pipeline)
{
    (void)pipeline;
    return "the disk is gone";
}

void pipeline_stop(struct pipeline *pipeline, bool finish)
{
    pipeline->state = play_stuck ? PIPELINE_STOPPING : PIPELINE_AWAY;
    while (finish && pipeline->held) {
        struct operation *operation = pipeline->held;

        pipeline->held = operation->next;
        complete(pipeline, operation);
    }
    wake(pipeline);
}

int pipeline_shed(struct pipeline *pipeline, pid_t *child, struct err *err)
{
    if (play_no_fork)
        return err_set(err, EAGAIN, "fork: there are too many of us");
    *child = fork();
    if (*child == 0)
        pipeline->state = PIPELINE_AWAY;
    return 0;
}

/* ---- the worker's process ---- */

struct worker_process {
    pid_t pid;
    int channel;
};

static struct conf conf;
static struct conf_listen listens[1];
static int listener;
static uint16_t port;
static struct worker_process processes[2];

static void start_worker(unsigned slot)
{
    struct worker_process *process = &processes[slot];
    struct err err;
    int fds[2];

    assert_int_equal(channel_pair(fds, &err), 0);
    process->pid = fork();
    assert_true(process->pid >= 0);
    if (process->pid == 0) {
        struct worker_options options = {
            .zone = zone,
            .slot = slot,
            .conf = &conf,
            .channel = fds[1],
            .listeners = &listener,
        };
        alarm(60);
        close(fds[0]);
        for (unsigned i = 0; i < slot; i++)
            close(processes[i].channel);
        _exit(worker_run(&options));
    }
    close(fds[1]);
    process->channel = fds[0];
}

static struct channel_message hear(unsigned slot, enum channel_type type)
{
    struct pollfd item = {.fd = processes[slot].channel, .events = POLLIN};
    struct channel_message message;
    struct err err;

    assert_int_equal(poll(&item, 1, PATIENCE_MS), 1);
    assert_int_equal(channel_receive(processes[slot].channel, &message, &err), 1);
    assert_int_equal(message.type, type);
    return message;
}

static void tell(unsigned slot, enum channel_type type, uint64_t value)
{
    struct err err;

    assert_int_equal(channel_send(processes[slot].channel, type, value, NULL, &err), 0);
}

static void expect_exit(unsigned slot, int status)
{
    uint64_t deadline = time_monotonic_ms() + PATIENCE_MS;
    int got = 0;
    pid_t pid;

    while ((pid = waitpid(processes[slot].pid, &got, WNOHANG)) == 0) {
        assert_true(time_monotonic_ms() < deadline);
        poll(NULL, 0, 2);
    }
    assert_int_equal(pid, processes[slot].pid);
    processes[slot].pid = 0;
    assert_true(WIFEXITED(got));
    assert_int_equal(WEXITSTATUS(got), status);
}

static void open_store(unsigned slot)
{
    hear(slot, CHANNEL_READY);
    tell(slot, CHANNEL_STORE_OPEN, 7);
    assert_int_equal(hear(slot, CHANNEL_STORE_OPENED).value, 7);
}

/* ---- clients ---- */

static int connect_client(void)
{
    struct sock_address address = {.kind = SOCK_KIND_IPV4, .port = port, .host = "127.0.0.1"};
    struct timeval timeout = {.tv_sec = PATIENCE_MS / 1000};
    struct err err;
    int fd = sock_connect(&address, PATIENCE_MS, &err);

    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), 0);
    return fd;
}

static struct frame receive(int fd)
{
    static uint8_t bytes[1024];
    struct frame frame;
    size_t size = 0;

    do {
        ssize_t got = recv(fd, bytes + size, 1, 0);
        assert_int_equal(got, 1);
        size++;
    } while (frame_parse(str_of(bytes, size), FRAME_LENGTH_MAX, &frame) == FRAME_MORE);
    return frame;
}

static void say(int fd, const uint8_t *bytes, size_t size)
{
    assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

static void shake_hands(int fd)
{
    static const uint8_t hello[] = {0, 0, 0, 9, 1, 0, 0, 0, 0, 0, 0, 1, 0};

    say(fd, hello, sizeof(hello));
    assert_int_equal(receive(fd).opcode, OPCODE_HANDSHAKE_OK);
}

static void enqueue(int fd)
{
    static const uint8_t frame[] = {0, 0, 0, 20, 0x10, 0, 0, 0, 0, 5, 0, 0,
                                    0, 1, 0, 1,  'q',  0, 0, 0, 0, 0, 1, 'x'};

    say(fd, frame, sizeof(frame));
}

static void wait_for_submission(void)
{
    uint64_t deadline = time_monotonic_ms() + PATIENCE_MS;

    while (atomic_load(submitted) == 0) {
        assert_true(time_monotonic_ms() < deadline);
        poll(NULL, 0, 1);
    }
}

static void expect_end(int fd)
{
    uint8_t byte;

    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    close(fd);
}

/* ---- set-up ---- */

/* The sections of all modules that are built in, with their defaults. */
static void **module_defaults(void)
{
    static struct conf *defaults; /* until the program ends */
    struct conf_section sections[16];
    struct conf_errors errors;
    size_t count = hook_sections(hook_modules, sections, 16);

    assert_true(count <= 16);
    conf_errors_init(&errors);
    if (!defaults)
        defaults = conf_load_text("none", STR(""), "/", NULL, sections, count, &errors);
    assert_non_null(defaults);
    conf_errors_free(&errors);
    return defaults->modules;
}

static int setup(void **state)
{
    struct sock_address address = {.kind = SOCK_KIND_IPV4, .host = "127.0.0.1"};
    struct err err;

    (void)state;
    play_stuck = play_silent = play_failing = play_no_fork = false;
    zone = zone_map(64 << 20, &err);
    assert_non_null(zone);
    uint64_t arena_size;
    submitted = zone_arena(zone, &arena_size);
    conf = (struct conf){.worker_connections = 1000,
                         .worker_shutdown_timeout_ms = 30000,
                         .listen = listens,
                         .listen_count = 1};
    conf.fibp.max_frame_size = FRAME_LENGTH_MAX;
    conf.fibp.max_message_size = 64 << 20;
    conf.fibp.max_pending_streams = 64;
    conf.fibp.handshake_timeout_ms = 10000;
    conf.fibp.keepalive_interval_ms = 30000;
    conf.fibp.delivery_window = 1 << 20;
    conf.modules = module_defaults();
    conf.hooks = hook_modules;
    listener = sock_listen(&address, 100, &err);
    assert_true(listener >= 0);
    port = sock_port(listener);
    memset(processes, 0, sizeof(processes));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        if (processes[i].pid > 0) {
            kill(processes[i].pid, SIGKILL);
            waitpid(processes[i].pid, NULL, 0);
        }
        if (processes[i].channel > 0)
            close(processes[i].channel);
    }
    close(listener);
    zone_unmap(zone);
    return 0;
}

/* ---- tests ---- */

static void test_serve_and_stop(void **state)
{
    (void)state;
    start_worker(0);
    open_store(0);
    assert_int_equal(atomic_load(&zone->slots[0].accepting), 1);
    int client = connect_client();
    shake_hands(client);
    assert_int_equal(atomic_load(&zone->slots[0].connections), 1);
    enqueue(client);
    assert_int_equal(receive(client).opcode, OPCODE_ENQUEUE_RESULT);
    tell(0, CHANNEL_PING, 99);
    assert_int_equal(hear(0, CHANNEL_PONG).value, 99);
    tell(0, CHANNEL_STOP, 0);
    assert_int_equal(receive(client).opcode, OPCODE_DISCONNECT);
    expect_end(client);
    expect_exit(0, 0);
    assert_int_equal(atomic_load(&zone->slots[0].accepting), 0);
}

/* What is under way when the stop comes is answered before the farewell. */
static void test_stop_answers_first(void **state)
{
    (void)state;
    play_silent = true;
    start_worker(0);
    open_store(0);
    int client = connect_client();
    shake_hands(client);
    enqueue(client);
    wait_for_submission();
    tell(0, CHANNEL_STOP, 0);
    assert_int_equal(receive(client).opcode, OPCODE_ENQUEUE_RESULT);
    assert_int_equal(receive(client).opcode, OPCODE_DISCONNECT);
    expect_end(client);
    expect_exit(0, 0);
}

static void test_store_comes_and_goes(void **state)
{
    (void)state;
    start_worker(0);
    open_store(0);
    for (uint64_t generation = 8; generation < 11; generation++) {
        tell(0, CHANNEL_STORE_STOP, 0);
        hear(0, CHANNEL_STORE_STOPPED);
        tell(0, CHANNEL_STORE_OPEN, generation);
        assert_int_equal(hear(0, CHANNEL_STORE_OPENED).value, generation);
    }
    int client = connect_client();
    shake_hands(client);
    close(client);
    tell(0, CHANNEL_DRAIN, 0);
    expect_exit(0, 0);
}

/* Its process ends, and another one goes on with what it had. */
static void test_stuck_store_thread(void **state)
{
    (void)state;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    play_stuck = true;
    start_worker(0);
    open_store(0);
    int client = connect_client();
    shake_hands(client);
    for (int round = 0; round < 3; round++) {
        uint64_t before = time_monotonic_ms();
        tell(0, CHANNEL_STORE_STOP, 0);
        pid_t child = (pid_t)hear(0, CHANNEL_SHED).value;
        expect_exit(0, EXIT_SHED);
        assert_true(time_monotonic_ms() - before >= 190);
        processes[0].pid = child;
        assert_int_equal(kill(child, 0), 0);
        tell(0, CHANNEL_PING, 5);
        assert_int_equal(hear(0, CHANNEL_PONG).value, 5);
        tell(0, CHANNEL_STORE_OPEN, 8);
        assert_int_equal(hear(0, CHANNEL_STORE_OPENED).value, 8);
        enqueue(client);
        assert_int_equal(receive(client).opcode, OPCODE_ENQUEUE_RESULT);
    }
    int second = connect_client();
    shake_hands(second);
    close(second);
    close(client);
    kill(processes[0].pid, SIGKILL);
    waitpid(processes[0].pid, NULL, 0);
    processes[0].pid = 0;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0), 0);
}

static void test_stuck_store_thread_and_no_fork(void **state)
{
    (void)state;
    play_stuck = play_no_fork = true;
    start_worker(0);
    open_store(0);
    tell(0, CHANNEL_STORE_STOP, 0);
    expect_exit(0, EXIT_STORE_STUCK);
}

/* One that is at its end anyway only ends. */
static void test_stuck_store_thread_at_the_end(void **state)
{
    (void)state;
    play_stuck = true;
    start_worker(0);
    open_store(0);
    tell(0, CHANNEL_STOP, 0);
    tell(0, CHANNEL_STORE_STOP, 0);
    expect_exit(0, EXIT_STORE_STUCK);
}

/* A process whose master is gone ends, and none that the master does not know is left. */
static void test_stuck_store_thread_without_master(void **state)
{
    (void)state;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    play_stuck = true;
    start_worker(0);
    open_store(0);
    tell(0, CHANNEL_STORE_STOP, 0);
    pid_t child = (pid_t)hear(0, CHANNEL_SHED).value;
    close(processes[0].channel);
    processes[0].channel = 0;
    expect_exit(0, EXIT_SHED);
    processes[0].pid = child;
    expect_exit(0, EXIT_MASTER_GONE);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0), 0);
}

static void test_failed_store(void **state)
{
    (void)state;
    play_failing = true;
    start_worker(0);
    hear(0, CHANNEL_READY);
    tell(0, CHANNEL_STORE_OPEN, 5);
    struct channel_message message = hear(0, CHANNEL_STORE_FAILED);
    assert_int_equal(message.value, 5);
    assert_string_equal(message.text, "the disk is gone");
    tell(0, CHANNEL_PING, 1);
    hear(0, CHANNEL_PONG); /* it was said once */
    tell(0, CHANNEL_STORE_STOP, 0);
    hear(0, CHANNEL_STORE_STOPPED);
    tell(0, CHANNEL_STORE_OPEN, 6);
    assert_int_equal(hear(0, CHANNEL_STORE_FAILED).value, 6);
}

static void test_drain(void **state)
{
    (void)state;
    start_worker(0);
    open_store(0);
    int client = connect_client();
    shake_hands(client);
    tell(0, CHANNEL_DRAIN, 0);
    assert_int_equal(receive(client).opcode, OPCODE_DISCONNECT);
    expect_end(client);
    expect_exit(0, 0);
}

static void test_drain_deadline(void **state)
{
    (void)state;
    play_silent = true;
    conf.worker_shutdown_timeout_ms = 100;
    start_worker(0);
    open_store(0);
    int client = connect_client();
    shake_hands(client);
    enqueue(client);
    wait_for_submission();
    tell(0, CHANNEL_DRAIN, 0);
    expect_end(client);
    expect_exit(0, 0);
}

static void test_master_gone(void **state)
{
    (void)state;
    start_worker(0);
    hear(0, CHANNEL_READY);
    close(processes[0].channel);
    processes[0].channel = 0;
    expect_exit(0, EXIT_MASTER_GONE);
}

static void test_full_worker(void **state)
{
    (void)state;
    conf.worker_connections = 2;
    start_worker(0);
    open_store(0);
    int first = connect_client(), second = connect_client();
    shake_hands(first);
    shake_hands(second);
    int third = connect_client();
    struct frame frame = receive(third);
    assert_int_equal(frame.opcode, OPCODE_ERROR);
    assert_int_equal(frame.request_id, 0);
    assert_int_equal(frame.body.data[0], FIBP_CHANNEL_FULL);
    assert_non_null(memmem(frame.body.data, frame.body.size, "retry_after_ms", 14));
    expect_end(third);
    close(second);
    /* There is room again. */
    uint64_t deadline = time_monotonic_ms() + PATIENCE_MS;
    while (atomic_load(&zone->slots[0].connections) > 1) {
        assert_true(time_monotonic_ms() < deadline);
        poll(NULL, 0, 1);
    }
    second = connect_client();
    shake_hands(second);
    close(first);
    close(second);
}

/* A connection that is served, or -1 when it is refused. */
static int try_connection(void)
{
    static const uint8_t hello[] = {0, 0, 0, 9, 1, 0, 0, 0, 0, 0, 0, 1, 0};
    int fd = connect_client();

    (void)!send(fd, hello, sizeof(hello), MSG_NOSIGNAL);
    if (receive(fd).opcode == OPCODE_HANDSHAKE_OK)
        return fd;
    close(fd);
    return -1;
}

/* On a full worker a connection that says nothing gives way to a new one, those that are served do
 * not. */
static void test_silent_connection_gives_way(void **state)
{
    (void)state;
    conf.worker_connections = 2;
    start_worker(0);
    open_store(0);
    int served = connect_client(), silent = connect_client();
    shake_hands(served);
    assert_int_equal(try_connection(), -1); /* the silent one may still be about to speak */
    int fresh;
    uint64_t deadline = time_monotonic_ms() + PATIENCE_MS;
    while ((fresh = try_connection()) < 0) {
        assert_true(time_monotonic_ms() < deadline);
        poll(NULL, 0, 10);
    }
    struct frame frame = receive(silent);
    assert_int_equal(frame.opcode, OPCODE_ERROR);
    assert_int_equal(frame.body.data[0], FIBP_CHANNEL_FULL);
    expect_end(silent);
    deadline = time_monotonic_ms() + SESSION_GRACE_MS * 3 / 2;
    while (time_monotonic_ms() < deadline) {
        assert_int_equal(try_connection(), -1);
        poll(NULL, 0, 100);
    }
    close(served);
    close(fresh);
}

/* Two workers on one listener get about as many connections each. */
static void test_balance(void **state)
{
    enum { CLIENTS = 40 };
    int clients[CLIENTS];

    (void)state;
    start_worker(0);
    start_worker(1);
    hear(0, CHANNEL_READY);
    hear(1, CHANNEL_READY);
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = connect_client();
        shake_hands(clients[i]);
    }
    uint32_t first = atomic_load(&zone->slots[0].connections);
    uint32_t second = atomic_load(&zone->slots[1].connections);
    assert_int_equal(first + second, CLIENTS);
    assert_in_range(first, CLIENTS * 3 / 8, CLIENTS * 5 / 8);
    for (int i = 0; i < CLIENTS; i++)
        close(clients[i]);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_serve_and_stop),
        TEST(test_stop_answers_first),
        TEST(test_store_comes_and_goes),
        TEST(test_stuck_store_thread),
        TEST(test_failed_store),
        TEST(test_drain),
        TEST(test_drain_deadline),
        TEST(test_master_gone),
        TEST(test_full_worker),
        TEST(test_balance),
        TEST(test_stuck_store_thread_and_no_fork),
        TEST(test_stuck_store_thread_at_the_end),
        TEST(test_stuck_store_thread_without_master),
        TEST(test_silent_connection_gives_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
