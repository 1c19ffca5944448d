/*
 * The master with processes that only pretend: keeper_run, keeper_failchk and worker_run below
 * stand in for the real ones, do what the test has put into shared memory, and check that the
 * master keeps its side. The real daemon is tested in tests/process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "event/channel.h"
#include "keeper/keeper.h"
#include "master/master.h"
#include "master/tell.h"
#include "os/sock.h"
#include "os/time.h"
#include "worker/worker.h"

#define PATIENCE_MS 30000
#define INDEXES 4

/* What the pretended processes do and have done; shared by all of them and the test. */
struct stage {
    /* set by the test */
    _Atomic bool keeper_fails;   /* FAILED, exit 2 */
    _Atomic bool keeper_dies;    /* exit 1 before it is ready */
    _Atomic bool workers_fail;   /* FAILED, exit 2 */
    _Atomic bool workers_die;    /* exit 1 at once */
    _Atomic bool workers_silent; /* never READY */
    _Atomic bool helper_bad;     /* the check finds something */
    _Atomic bool helper_hangs;
    _Atomic int stuck_pid;   /* this worker does not answer STORE_STOP */
    _Atomic int inside_pid;  /* this worker sets its word */
    _Atomic int failing_pid; /* this worker says STORE_FAILED, once */
    _Atomic bool inside_at_random;
    _Atomic bool shedding;    /* workers that are told STORE_STOP shed their threads */
    _Atomic bool left_stays;  /* ... and what is left does not end by itself */
    _Atomic unsigned shed_ms; /* ... and pause for up to so long between their steps */
    /* by the processes */
    _Atomic int left_pid[ZONE_WORKERS];
    _Atomic int keeper_pid;
    _Atomic unsigned keepers, helpers, workers, drained, stopped;
    _Atomic bool keeper_stopped; /* told to, in order */
    _Atomic unsigned violations;
    _Atomic int worker_pid[ZONE_WORKERS];
    _Atomic bool attached[ZONE_WORKERS];
    _Atomic int environment;               /* processes that have it open, the dead included */
    char strange[256];                     /* a descriptor that a child should not have */
    _Atomic uint64_t marker[ZONE_WORKERS]; /* conf->scheduler.quantum of the worker */
};

static struct stage *stage;

/* --- the processes --- */

static void say(int channel, enum channel_type type, uint64_t value, const char *text)
{
    struct err err;

    if (channel_send(channel, type, value, text, &err) < 0)
        _exit(EXIT_MASTER_GONE);
}

/* What this program was started with goes through to every process. */
static bool inherited[256];

static void note_inherited(void)
{
    for (int fd = 0; fd < 256; fd++)
        inherited[fd] = fcntl(fd, F_GETFD) >= 0;
}

/* Anything but files, the channel and the listeners is a leak of the master's. */
static void check_descriptors(int channel, const int *listeners, size_t count)
{
    for (int fd = 3; fd < 256; fd++) {
        char link[64], target[256];
        bool mine = fd == channel || inherited[fd];
        ssize_t size;

        for (size_t i = 0; i < count; i++)
            mine = mine || fd == listeners[i];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        size = readlink(link, target, sizeof target - 1);
        if (size < 0 || mine)
            continue;
        target[size] = '\0';
        if (strstr(target, "/data/lock") || strstr(target, "/error.log"))
            continue;
        snprintf(stage->strange, sizeof stage->strange, "%d: %.200s", fd, target);
    }
}

static bool is_alive(int pid)
{
    return pid > 0 && kill(pid, 0) == 0;
}

int keeper_run(const struct keeper_options *options)
{
    struct channel_message message;
    struct err err;

    atomic_store(&stage->keeper_pid, (int)getpid());
    atomic_fetch_add(&stage->keepers, 1);
    /* The rule: nobody who may still write is alive when a recovery begins. */
    for (unsigned slot = 0; slot < ZONE_WORKERS; slot++) {
        if (atomic_load(&stage->attached[slot]) && is_alive(atomic_load(&stage->worker_pid[slot])))
            atomic_fetch_add(&stage->violations, 1);
        if (is_alive(atomic_load(&stage->left_pid[slot])))
            atomic_fetch_add(&stage->violations, 1);
        atomic_store(&stage->left_pid[slot], 0);
        if (zone_slot_inside(options->zone, slot))
            atomic_fetch_add(&stage->violations, 1);
        atomic_store(&stage->attached[slot], false);
    }
    check_descriptors(options->channel, NULL, 0);
    if (atomic_load(&stage->keeper_fails)) {
        say(options->channel, CHANNEL_FAILED, 0, "the disk is made of cheese");
        return EXIT_CONFIGURATION;
    }
    if (atomic_load(&stage->keeper_dies))
        return 1;
    atomic_store(&options->zone->state, ZONE_UP);
    say(options->channel, CHANNEL_READY, atomic_load(&options->zone->generation), NULL);
    for (;;) {
        struct pollfd entry = {.fd = options->channel, .events = POLLIN};
        int got;

        poll(&entry, 1, -1);
        got = channel_receive(options->channel, &message, &err);
        if (got < 0)
            return EXIT_MASTER_GONE;
        if (got > 0 && message.type == CHANNEL_STOP) {
            atomic_store(&stage->keeper_stopped, true);
            return 0;
        }
    }
}

int keeper_failchk(const struct keeper_options *options)
{
    (void)options;
    atomic_fetch_add(&stage->helpers, 1);
    while (atomic_load(&stage->helper_hangs))
        poll(NULL, 0, 10);
    return atomic_load(&stage->helper_bad) ? 1 : 0;
}

struct pretender {
    const struct worker_options *options;
    uint64_t generation; /* 0: not attached */
    bool inside;
};

static void pretend_leave(struct pretender *worker)
{
    if (worker->inside)
        zone_leave(worker->options->zone, worker->options->slot, ZONE_STORE_THREAD);
    worker->inside = false;
}

static void pretend_work(struct pretender *worker)
{
    const struct worker_options *options = worker->options;
    bool wanted = atomic_load(&stage->inside_pid) == getpid() ||
                  (atomic_load(&stage->inside_at_random) && time_monotonic_ns() / 1000 % 2);

    if (!wanted)
        pretend_leave(worker);
    else if (worker->generation && !worker->inside)
        worker->inside =
            zone_enter(options->zone, options->slot, ZONE_STORE_THREAD, worker->generation);
    if (worker->generation && atomic_load(&stage->failing_pid) == getpid()) {
        atomic_store(&stage->failing_pid, 0);
        say(options->channel, CHANNEL_STORE_FAILED, worker->generation, "a sync has failed");
    }
}

static void pretend_pause(void)
{
    unsigned most = atomic_load(&stage->shed_ms);

    if (most > 0)
        poll(NULL, 0, (int)(time_monotonic_ns() / 1000 % most));
}

/* As worker/shed does it, with time in which anything may die. Returns in the child. */
static void pretend_shed(struct pretender *worker)
{
    unsigned slot = worker->options->slot;
    int gate[2];
    char byte;

    atomic_store(&stage->left_pid[slot], (int)getpid());
    if (pipe(gate) < 0)
        _exit(EXIT_STORE_STUCK);
    pid_t child = fork();
    if (child != 0) {
        pretend_pause();
        say(worker->options->channel, CHANNEL_SHED, (uint64_t)child, NULL);
        pretend_pause();
        if (write(gate[1], "", 1) != 1)
            _exit(EXIT_SHED);
        pretend_pause();
        while (atomic_load(&stage->left_stays))
            poll(NULL, 0, 5);
        _exit(EXIT_SHED);
    }
    close(gate[1]);
    if (read(gate[0], &byte, 1) != 1)
        _exit(EXIT_STORE_STUCK);
    close(gate[0]);
    atomic_store(&stage->attached[slot], false);
    atomic_store(&stage->worker_pid[slot], (int)getpid());
    worker->generation = 0;
    worker->inside = false; /* the word is cleared by the master */
}

/* The exit status, or -1 to go on. */
static int pretend_message(struct pretender *worker, const struct channel_message *message)
{
    const struct worker_options *options = worker->options;

    switch (message->type) {
    case CHANNEL_STORE_OPEN:
        worker->generation = message->value;
        atomic_store(&stage->attached[options->slot], true);
        say(options->channel, CHANNEL_STORE_OPENED, message->value, NULL);
        break;
    case CHANNEL_STORE_STOP:
        if (atomic_load(&stage->stuck_pid) == getpid())
            break;
        if (atomic_load(&stage->shedding) && worker->generation) {
            pretend_shed(worker);
            break;
        }
        pretend_leave(worker);
        worker->generation = 0;
        atomic_store(&stage->attached[options->slot], false);
        say(options->channel, CHANNEL_STORE_STOPPED, 0, NULL);
        break;
    case CHANNEL_PING:
        say(options->channel, CHANNEL_PONG, message->value, NULL);
        break;
    case CHANNEL_DRAIN:
    case CHANNEL_STOP:
        pretend_leave(worker);
        atomic_store(&stage->attached[options->slot], false);
        atomic_fetch_add(message->type == CHANNEL_STOP ? &stage->stopped : &stage->drained, 1);
        return 0;
    default:
        break;
    }
    return -1;
}

/* Without a master: the process lets go of everything and ends. */
static int pretend_alone(struct pretender *worker)
{
    pretend_leave(worker);
    atomic_store(&stage->attached[worker->options->slot], false);
    return EXIT_MASTER_GONE;
}

int worker_run(const struct worker_options *options)
{
    struct pretender worker = {.options = options};
    struct channel_message message;
    struct err err;
    int status = -1;

    atomic_fetch_add(&stage->workers, 1);
    /* In this order: what the last process of the slot left is not this one's. */
    atomic_store(&stage->attached[options->slot], false);
    atomic_store(&stage->worker_pid[options->slot], (int)getpid());
    atomic_store(&stage->marker[options->slot], options->conf->scheduler.quantum);
    check_descriptors(options->channel, options->listeners, options->conf->listen_count);
    if (atomic_load(&stage->workers_fail)) {
        say(options->channel, CHANNEL_FAILED, 0, "no such certificate");
        return EXIT_CONFIGURATION;
    }
    if (atomic_load(&stage->workers_die))
        return 1;
    if (!atomic_load(&stage->workers_silent))
        say(options->channel, CHANNEL_READY, 0, NULL);
    while (status < 0) {
        struct pollfd entry = {.fd = options->channel, .events = POLLIN};
        int got;

        poll(&entry, 1, 1);
        while (status < 0 && (got = channel_receive(options->channel, &message, &err)) != 0) {
            if (got < 0)
                return pretend_alone(&worker);
            status = pretend_message(&worker, &message);
        }
        pretend_work(&worker);
    }
    return status;
}

/* --- the test's side --- */

struct play {
    char directory[64];
    char conf[128], pid_file[128], output[128];
    struct options options;
    pid_t master;
};

static struct play play;

/* What the tests change of the configuration; NULL: the usual. */
struct settings {
    const char *listen; /* name of the socket */
    const char *workers, *cache_size, *shared_memory, *more;
};

static void write_conf(const struct settings *settings)
{
    FILE *file = fopen(play.conf, "w");

#define OR(member, usual) (settings->member ? settings->member : (usual))
    assert_non_null(file);
    fprintf(file, "daemon: false\nuser: root\ngroup: root\npid_file: %s\n", play.pid_file);
    fprintf(file, "worker_processes: %s\n", OR(workers, "2"));
    fprintf(file, "error_log: {path: %s/error.log, level: debug}\n", play.directory);
    fprintf(file, "listen: [{address: \"unix:%s/%s\"}]\n", play.directory,
            OR(listen, "listen.sock"));
    fprintf(file, "store: {path: %s/data, regions: %s/regions, cache_size: %s}\n", play.directory,
            play.directory, OR(cache_size, "16m"));
    fprintf(file, "shared_memory: %s\n%s\n", OR(shared_memory, "64m"), OR(more, ""));
#undef OR
    fclose(file);
}

static int setup(void **state)
{
    (void)state;
    stage = mmap(NULL, sizeof *stage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (stage == MAP_FAILED)
        return -1;
    memset(&play, 0, sizeof play);
    snprintf(play.directory, sizeof play.directory, "/tmp/filad-test-master-XXXXXX");
    if (!mkdtemp(play.directory))
        return -1;
    snprintf(play.conf, sizeof play.conf, "%s/filad.yaml", play.directory);
    snprintf(play.pid_file, sizeof play.pid_file, "%s/filad.pid", play.directory);
    snprintf(play.output, sizeof play.output, "%s/output", play.directory);
    play.options = (struct options){.action = OPTIONS_RUN, .conf_file = play.conf, .quiet = true};
    write_conf(&(struct settings){0});
    return 0;
}

static int teardown(void **state)
{
    char command[128];

    (void)state;
    if (play.master > 0) {
        kill(play.master, SIGKILL);
        waitpid(play.master, NULL, 0);
    }
    munmap(stage, sizeof *stage);
    snprintf(command, sizeof command, "rm -rf %s", play.directory);
    return system(command);
}

static void launch(void)
{
    fflush(NULL);
    play.master = fork();
    if (play.master == 0) {
        int fd = open(play.output, O_WRONLY | O_CREAT | O_APPEND, 0600);

        dup2(fd, STDERR_FILENO);
        close(fd);
        _exit(master_run(&play.options));
    }
    assert_true(play.master > 0);
}

/* The exit status of the master, which is going to end. */
static int wait_master(void)
{
    uint64_t deadline = time_monotonic_ms() + PATIENCE_MS;
    int status;

    while (waitpid(play.master, &status, WNOHANG) == 0) {
        if (time_monotonic_ms() > deadline)
            fail_msg("the master does not end");
        poll(NULL, 0, 2);
    }
    play.master = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static bool file_has(const char *path, const char *text)
{
    static char content[1 << 20];
    FILE *file = fopen(path, "r");
    size_t size;

    if (!file)
        return false;
    size = fread(content, 1, sizeof content - 1, file);
    content[size] = '\0';
    fclose(file);
    return strstr(content, text) != NULL;
}

static bool log_has(const char *text)
{
    char path[128];

    snprintf(path, sizeof path, "%s/error.log", play.directory);
    return file_has(path, text);
}

#define WAIT_FOR(condition)                                                                        \
    do {                                                                                           \
        uint64_t wait_deadline = time_monotonic_ms() + PATIENCE_MS;                                \
        while (!(condition)) {                                                                     \
            if (time_monotonic_ms() > wait_deadline)                                               \
                fail_msg("%d: never came: %s", __LINE__, #condition);                              \
            poll(NULL, 0, 2);                                                                      \
        }                                                                                          \
    } while (0)

/* Workers that live and are attached. */
static unsigned attached(void)
{
    unsigned count = 0;

    for (unsigned slot = 0; slot < ZONE_WORKERS; slot++)
        count +=
            atomic_load(&stage->attached[slot]) && is_alive(atomic_load(&stage->worker_pid[slot]));
    return count;
}

/* The pid of the n-th of them; 0: there are not so many. */
static int worker(unsigned n)
{
    for (unsigned slot = 0; slot < ZONE_WORKERS; slot++)
        if (atomic_load(&stage->attached[slot]) &&
            is_alive(atomic_load(&stage->worker_pid[slot])) && n-- == 0)
            return atomic_load(&stage->worker_pid[slot]);
    return 0;
}

static void start(void)
{
    launch();
    WAIT_FOR(log_has("serves with 2 workers"));
    WAIT_FOR(attached() == 2);
}

static int tell(enum options_signal signal, const char *name)
{
    struct options options = play.options;
    int saved, fd, status;

    options.signal = signal;
    options.signal_name = name;
    fflush(stderr);
    saved = dup(STDERR_FILENO);
    fd = open(play.output, O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(fd, STDERR_FILENO);
    close(fd);
    status = tell_run(&options);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    return status;
}

static void stop(void)
{
    assert_int_equal(kill(play.master, SIGTERM), 0);
    assert_int_equal(wait_master(), 0);
    assert_int_equal(atomic_load(&stage->violations), 0);
    assert_string_equal(stage->strange, "");
}

static bool exists(const char *name)
{
    char path[192];
    struct stat status;

    snprintf(path, sizeof path, "%s/%s", play.directory, name);
    return lstat(path, &status) == 0;
}

/* What an earlier broker has left there. */
static void make_regions(void)
{
    static const char *const names[] = {"__db.001", "pages"};
    char path[192];

    snprintf(path, sizeof path, "%s/regions", play.directory);
    assert_int_equal(mkdir(path, 0700), 0);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/regions/%s", play.directory, names[i]);
        assert_int_equal(close(open(path, O_WRONLY | O_CREAT, 0600)), 0);
    }
}

/* --- start and stop --- */

static void test_starts_and_stops_and_leaves_nothing(void **state)
{
    (void)state;
    start();
    assert_true(exists("filad.pid") && exists("control.sock") && exists("listen.sock"));
    stop();
    assert_int_equal(atomic_load(&stage->stopped), 2);
    assert_true(atomic_load(&stage->keeper_stopped));
    assert_false(exists("filad.pid") || exists("control.sock") || exists("listen.sock"));
}

static void test_pages_go_with_a_clean_stop(void **state)
{
    (void)state;
    make_regions();
    start();
    stop();
    assert_true(exists("regions"));
    assert_false(exists("regions/pages") || exists("regions/__db.001"));
}

static void test_api_key_is_refused(void **state)
{
    (void)state;
    assert_int_equal(setenv("FILA_BOOTSTRAP_APIKEY", "secret", 1), 0);
    launch();
    assert_int_equal(unsetenv("FILA_BOOTSTRAP_APIKEY"), 0);
    assert_int_equal(wait_master(), 1);
    assert_true(file_has(play.output, "filad: FILA_BOOTSTRAP_APIKEY is set in the environment"));
    assert_false(file_has(play.output, "secret") || exists("filad.pid"));
}

static void stop_by(enum options_signal signal, const char *name)
{
    pid_t teller;
    int status;

    start();
    fflush(NULL);
    teller = fork();
    if (teller == 0)
        _exit(tell(signal, name));
    assert_int_equal(wait_master(), 0);
    assert_int_equal(waitpid(teller, &status, 0), teller);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(atomic_load(&stage->keeper_stopped));
}

static void test_told_to_stop(void **state)
{
    (void)state;
    stop_by(OPTIONS_SIGNAL_STOP, "stop");
    assert_int_equal(atomic_load(&stage->stopped), 2);
}

static void test_told_to_quit(void **state)
{
    (void)state;
    stop_by(OPTIONS_SIGNAL_QUIT, "quit");
    assert_int_equal(atomic_load(&stage->drained), 2);
}

static void test_told_to_stop_without_control_socket(void **state)
{
    char path[128];
    pid_t teller;
    int status;

    (void)state;
    start();
    snprintf(path, sizeof path, "%s/control.sock", play.directory);
    assert_int_equal(unlink(path), 0);
    fflush(NULL);
    teller = fork();
    if (teller == 0)
        _exit(tell(OPTIONS_SIGNAL_STOP, "stop"));
    assert_int_equal(wait_master(), 0);
    assert_int_equal(waitpid(teller, &status, 0), teller);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_nobody_to_tell(void **state)
{
    (void)state;
    assert_int_equal(tell(OPTIONS_SIGNAL_STOP, "stop"), 1);
    assert_true(file_has(play.output, "no broker is running"));
    /* A file left behind by a dead master names a pid that may be anyone's. */
    start();
    kill(play.master, SIGKILL);
    assert_int_equal(wait_master(), -SIGKILL);
    assert_true(exists("filad.pid"));
    assert_int_equal(tell(OPTIONS_SIGNAL_RELOAD, "reload"), 1);
    WAIT_FOR(attached() == 0);
}

static void test_dead_master_is_followed_by_another(void **state)
{
    (void)state;
    start();
    kill(play.master, SIGKILL);
    assert_int_equal(wait_master(), -SIGKILL);
    launch();
    WAIT_FOR(atomic_load(&stage->keepers) == 2);
    WAIT_FOR(attached() == 2);
    assert_int_equal(tell(OPTIONS_SIGNAL_REOPEN, "reopen"), 0);
    stop();
}

static void test_second_broker_on_a_pid_file_is_refused(void **state)
{
    pid_t first;

    (void)state;
    start();
    first = play.master;
    launch();
    assert_int_equal(wait_master(), 1);
    assert_true(file_has(play.output, "is held by process"));
    play.master = first;
    assert_true(exists("filad.pid"));
    stop();
}

static void test_keeper_that_cannot_start(void **state)
{
    (void)state;
    atomic_store(&stage->keeper_fails, true);
    launch();
    assert_int_equal(wait_master(), 1);
    assert_true(file_has(play.output, "filad: the disk is made of cheese"));
    assert_int_equal(atomic_load(&stage->workers), 0);
    assert_false(exists("filad.pid") || exists("control.sock") || exists("listen.sock"));
}

static void test_keeper_that_keeps_dying(void **state)
{
    (void)state;
    atomic_store(&stage->keeper_dies, true);
    make_regions();
    launch();
    assert_int_equal(wait_master(), 1);
    assert_int_equal(atomic_load(&stage->keepers), RECOVERY_QUICK_MAX);
    assert_true(file_has(play.output, "the store could not be opened"));
    assert_true(exists("regions/pages")); /* the next start needs them */
}

static void test_worker_that_cannot_start(void **state)
{
    (void)state;
    atomic_store(&stage->workers_fail, true);
    launch();
    assert_int_equal(wait_master(), 1);
    assert_true(file_has(play.output, "no such certificate"));
}

static void test_workers_that_keep_dying(void **state)
{
    (void)state;
    atomic_store(&stage->workers_die, true);
    launch();
    assert_int_equal(wait_master(), 1);
    assert_true(file_has(play.output, "ends again and again"));
    assert_true(atomic_load(&stage->workers) >= 5);
}

static void test_stop_while_starting(void **state)
{
    (void)state;
    atomic_store(&stage->workers_silent, true);
    launch();
    WAIT_FOR(atomic_load(&stage->workers) == 2);
    assert_int_equal(kill(play.master, SIGINT), 0);
    assert_int_equal(wait_master(), 0);
    assert_int_equal(atomic_load(&stage->stopped), 2);
}

static void test_address_in_use_is_named(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char overlay[128], text[64];

    (void)state;
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    snprintf(text, sizeof text, "127.0.0.1:%u", sock_port(fd));
    snprintf(overlay, sizeof overlay, "listen: [{address: \"%s\"}]", text);
    play.options.overlay = overlay;
    launch();
    assert_int_equal(wait_master(), 1);
    close(fd);
    assert_true(file_has(play.output, text));
    assert_int_equal(atomic_load(&stage->keepers), 0);
}

/* --- deaths --- */

static void test_killed_worker_is_replaced(void **state)
{
    int killed;

    (void)state;
    start();
    killed = worker(0);
    kill(killed, SIGKILL);
    WAIT_FOR(atomic_load(&stage->workers) == 3 && attached() == 2);
    assert_int_equal(atomic_load(&stage->helpers), 1);
    assert_int_equal(atomic_load(&stage->keepers), 1);
    stop();
}

static void expect_recovery(void)
{
    WAIT_FOR(atomic_load(&stage->keepers) == 2);
    WAIT_FOR(attached() == 2);
    stop();
}

static void test_worker_killed_inside_is_a_recovery(void **state)
{
    int inside;

    (void)state;
    start();
    inside = worker(0);
    atomic_store(&stage->inside_pid, inside);
    poll(NULL, 0, 20); /* whether the word is set in time or not, both must end well */
    kill(inside, SIGKILL);
    WAIT_FOR(atomic_load(&stage->workers) == 3 && attached() == 2);
    stop();
}

static void test_bad_check_is_a_recovery(void **state)
{
    (void)state;
    start();
    atomic_store(&stage->helper_bad, true);
    kill(worker(1), SIGKILL);
    expect_recovery();
}

static void test_hanging_check_is_a_recovery(void **state)
{
    (void)state;
    start();
    atomic_store(&stage->helper_hangs, true);
    kill(worker(1), SIGKILL);
    expect_recovery();
}

static void test_killed_keeper_is_a_recovery(void **state)
{
    unsigned workers;

    (void)state;
    start();
    workers = atomic_load(&stage->workers);
    kill(atomic_load(&stage->keeper_pid), SIGKILL);
    WAIT_FOR(atomic_load(&stage->keepers) == 2);
    WAIT_FOR(attached() == 2);
    assert_int_equal(atomic_load(&stage->workers), workers);
    stop();
}

static void test_failed_store_is_a_recovery(void **state)
{
    (void)state;
    start();
    atomic_store(&stage->failing_pid, worker(1));
    expect_recovery();
}

static void test_stuck_worker_is_killed(void **state)
{
    int stuck;

    (void)state;
    start();
    stuck = worker(0);
    atomic_store(&stage->stuck_pid, stuck);
    kill(atomic_load(&stage->keeper_pid), SIGKILL);
    WAIT_FOR(atomic_load(&stage->keepers) == 2);
    assert_false(is_alive(stuck));
    WAIT_FOR(attached() == 2);
    stop();
}

/* Kills the keeper and waits until both workers have gone on as other processes. */
static void shed_both(void)
{
    int before[2] = {worker(0), worker(1)};

    atomic_store(&stage->shedding, true);
    kill(atomic_load(&stage->keeper_pid), SIGKILL);
    WAIT_FOR(atomic_load(&stage->left_pid[0]) == before[0] &&
             atomic_load(&stage->left_pid[1]) == before[1]);
    WAIT_FOR(atomic_load(&stage->worker_pid[0]) != before[0] &&
             atomic_load(&stage->worker_pid[1]) != before[1]);
}

static void test_worker_that_sheds_goes_on(void **state)
{
    int first;

    (void)state;
    start();
    atomic_store(&stage->inside_pid, worker(0));
    poll(NULL, 0, 20);
    for (unsigned round = 2; round < 5; round++) {
        first = worker(0);
        atomic_store(&stage->shedding, true);
        kill(atomic_load(&stage->keeper_pid), SIGKILL);
        WAIT_FOR(atomic_load(&stage->keepers) == round);
        WAIT_FOR(attached() == 2);
        assert_int_not_equal(worker(0), first);
    }
    assert_int_equal(atomic_load(&stage->workers), 2); /* none was forked by the master */
    first = worker(0);
    kill(first, SIGKILL);
    WAIT_FOR(atomic_load(&stage->workers) == 3 && attached() == 2);
    stop();
    assert_int_equal(atomic_load(&stage->stopped), 2);
}

/* What a worker left is waited for and killed; the worker itself is not. */
static void test_what_was_left_is_killed_alone(void **state)
{
    int now[2];

    (void)state;
    start();
    atomic_store(&stage->left_stays, true);
    shed_both();
    now[0] = atomic_load(&stage->worker_pid[0]);
    now[1] = atomic_load(&stage->worker_pid[1]);
    assert_int_equal(atomic_load(&stage->keepers), 1);
    WAIT_FOR(atomic_load(&stage->keepers) == 2);
    WAIT_FOR(attached() == 2);
    assert_int_equal(worker(0), now[0]);
    assert_int_equal(worker(1), now[1]);
    assert_int_equal(atomic_load(&stage->workers), 2);
    stop();
}

/* One that dies before what it left keeps its place until that is gone. */
static void test_worker_that_sheds_and_dies(void **state)
{
    (void)state;
    start();
    atomic_store(&stage->left_stays, true);
    shed_both();
    kill(atomic_load(&stage->worker_pid[0]), SIGKILL);
    WAIT_FOR(atomic_load(&stage->keepers) == 2);
    WAIT_FOR(attached() == 2);
    assert_int_equal(atomic_load(&stage->workers), 3);
    stop();
}

static void test_stop_while_workers_shed(void **state)
{
    (void)state;
    start();
    atomic_store(&stage->left_stays, true);
    shed_both();
    stop();
}

static void test_stopped_process_is_waited_for(void **state)
{
    int frozen;

    (void)state;
    start();
    frozen = worker(0);
    kill(frozen, SIGSTOP);
    kill(atomic_load(&stage->keeper_pid), SIGKILL);
    WAIT_FOR(atomic_load(&stage->keepers) == 2);
    assert_false(is_alive(frozen));
    WAIT_FOR(attached() == 2);
    stop();
}

static void test_workers_that_give_up_end_the_broker(void **state)
{
    (void)state;
    start();
    atomic_store(&stage->workers_fail, true);
    kill(worker(1), SIGKILL);
    WAIT_FOR(log_has("is not started again"));
    assert_int_equal(waitpid(play.master, NULL, WNOHANG), 0);
    kill(worker(0), SIGKILL);
    assert_int_equal(wait_master(), 1);
    assert_true(atomic_load(&stage->keeper_stopped));
}

/* --- reload --- */

static void test_reload_exchanges_the_workers(void **state)
{
    int old;

    (void)state;
    start();
    old = worker(0);
    write_conf(&(struct settings){.more = "scheduler: {quantum: 77}"});
    assert_int_equal(tell(OPTIONS_SIGNAL_RELOAD, "reload"), 0);
    WAIT_FOR(atomic_load(&stage->drained) == 2);
    WAIT_FOR(!is_alive(old));
    WAIT_FOR(attached() == 2);
    for (unsigned slot = 0; slot < ZONE_WORKERS; slot++)
        if (atomic_load(&stage->attached[slot]))
            assert_int_equal(atomic_load(&stage->marker[slot]), 77);
    assert_int_equal(atomic_load(&stage->keepers), 1);
    /* The new ones are kept alive as the old ones were. */
    kill(worker(0), SIGKILL);
    WAIT_FOR(atomic_load(&stage->workers) == 5 && attached() == 2);
    stop();
}

static void test_reload_by_signal_changes_listeners_and_numbers(void **state)
{
    (void)state;
    start();
    write_conf(&(struct settings){.workers = "4", .listen = "other.sock"});
    kill(play.master, SIGHUP);
    WAIT_FOR(atomic_load(&stage->drained) == 2);
    WAIT_FOR(attached() == 4);
    assert_true(exists("other.sock"));
    WAIT_FOR(!exists("listen.sock"));
    stop();
    assert_false(exists("other.sock"));
}

static void expect_refused_reload(const char *reason)
{
    int first = worker(0), second = worker(1);

    assert_int_equal(tell(OPTIONS_SIGNAL_RELOAD, "reload"), 1);
    assert_true(file_has(play.output, reason));
    assert_true(is_alive(first) && is_alive(second));
    assert_int_equal(atomic_load(&stage->keepers), 1);
    WAIT_FOR(attached() == 2);
    assert_true(exists("listen.sock"));
}

static void test_reload_of_a_fixed_setting_is_refused(void **state)
{
    (void)state;
    start();
    write_conf(&(struct settings){.shared_memory = "128m", .cache_size = "99m"});
    expect_refused_reload("`shared_memory` cannot be changed by a reload");
    assert_true(file_has(play.output, "`store.cache_size` cannot be changed by a reload"));
    assert_true(file_has(play.output, "filad.yaml:9:16: `shared_memory`"));
    stop();
}

static void test_reload_tells_warnings_line_by_line(void **state)
{
    (void)state;
    start();
    write_conf(&(struct settings){.more = "worker_connections: 65500"});
    assert_int_equal(tell(OPTIONS_SIGNAL_RELOAD, "reload"), 0);
    assert_true(log_has("filad.yaml:10:21: warning: `worker_connections` (65500) leaves"));
    assert_false(log_has("\\x0a"));
    stop();
}

static void test_reload_whose_workers_fail_changes_nothing(void **state)
{
    (void)state;
    start();
    atomic_store(&stage->workers_fail, true);
    expect_refused_reload("no such certificate");
    atomic_store(&stage->workers_fail, false);
    atomic_store(&stage->workers_die, true);
    expect_refused_reload("a new worker has ended before it was ready");
    atomic_store(&stage->workers_die, false);
    assert_int_equal(tell(OPTIONS_SIGNAL_RELOAD, "reload"), 0);
    stop();
}

static void test_stop_during_a_reload(void **state)
{
    pid_t teller;
    int status;

    (void)state;
    start();
    atomic_store(&stage->workers_silent, true);
    fflush(NULL);
    teller = fork();
    if (teller == 0)
        _exit(tell(OPTIONS_SIGNAL_RELOAD, "reload"));
    WAIT_FOR(atomic_load(&stage->workers) == 4);
    stop();
    assert_int_equal(waitpid(teller, &status, 0), teller);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    assert_true(file_has(play.output, "the broker is stopping"));
}

/* --- at random --- */

static uint64_t random_state = 88172645463325252u;

static unsigned random_below(unsigned bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 33) % bound;
}

static void test_random_deaths(void **state)
{
    (void)state;
    atomic_store(&stage->inside_at_random, true);
    atomic_store(&stage->shed_ms, 40);
    start();
    for (int round = 0; round < 60; round++) {
        int victim = random_below(4) ? worker(random_below(2)) : atomic_load(&stage->keeper_pid);

        switch (random_below(10)) {
        case 0:
            atomic_store(&stage->failing_pid, worker(0));
            break;
        case 1:
            atomic_store(&stage->stuck_pid, worker(1));
            break;
        case 2:
            atomic_store(&stage->helper_bad, random_below(2) != 0);
            break;
        case 3:
            kill(play.master, SIGHUP);
            break;
        case 4:
            atomic_store(&stage->shedding, random_below(3) != 0);
            atomic_store(&stage->left_stays, random_below(4) == 0);
            break;
        case 5:
            victim = atomic_load(&stage->left_pid[random_below(3)]);
            if (is_alive(victim))
                kill(victim, random_below(4) ? SIGKILL : SIGSTOP);
            break;
        default:
            if (victim > 0)
                kill(victim, random_below(8) ? SIGKILL : SIGSTOP);
            break;
        }
        poll(NULL, 0, (int)random_below(60));
        assert_int_equal(waitpid(play.master, NULL, WNOHANG), 0);
        assert_int_equal(atomic_load(&stage->violations), 0);
    }
    /* Frozen ones are found when a recovery asks them. */
    kill(atomic_load(&stage->keeper_pid), SIGKILL);
    atomic_store(&stage->helper_bad, false);
    atomic_store(&stage->left_stays, false);
    atomic_store(&stage->stuck_pid, 0);
    WAIT_FOR(attached() >= 2);
    stop();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    note_inherited();

    const struct CMUnitTest tests[] = {
        TEST(test_starts_and_stops_and_leaves_nothing),
        TEST(test_pages_go_with_a_clean_stop),
        TEST(test_api_key_is_refused),
        TEST(test_told_to_stop),
        TEST(test_told_to_quit),
        TEST(test_told_to_stop_without_control_socket),
        TEST(test_nobody_to_tell),
        TEST(test_dead_master_is_followed_by_another),
        TEST(test_second_broker_on_a_pid_file_is_refused),
        TEST(test_keeper_that_cannot_start),
        TEST(test_keeper_that_keeps_dying),
        TEST(test_worker_that_cannot_start),
        TEST(test_workers_that_keep_dying),
        TEST(test_stop_while_starting),
        TEST(test_address_in_use_is_named),
        TEST(test_killed_worker_is_replaced),
        TEST(test_worker_killed_inside_is_a_recovery),
        TEST(test_bad_check_is_a_recovery),
        TEST(test_hanging_check_is_a_recovery),
        TEST(test_killed_keeper_is_a_recovery),
        TEST(test_failed_store_is_a_recovery),
        TEST(test_stuck_worker_is_killed),
        TEST(test_worker_that_sheds_goes_on),
        TEST(test_what_was_left_is_killed_alone),
        TEST(test_worker_that_sheds_and_dies),
        TEST(test_stop_while_workers_shed),
        TEST(test_stopped_process_is_waited_for),
        TEST(test_workers_that_give_up_end_the_broker),
        TEST(test_reload_exchanges_the_workers),
        TEST(test_reload_by_signal_changes_listeners_and_numbers),
        TEST(test_reload_of_a_fixed_setting_is_refused),
        TEST(test_reload_tells_warnings_line_by_line),
        TEST(test_reload_whose_workers_fail_changes_nothing),
        TEST(test_stop_during_a_reload),
        TEST(test_random_deaths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
