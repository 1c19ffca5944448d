/*
 * pretended - the master with processes that only pretend: keeper_run, keeper_failchk and
 * worker_run below stand in for the real ones, do what the test has put into shared memory, and
 * check that the master keeps its side. Include it in one file of a program.
 */
#ifndef FILAD_TESTS_MASTER_PRETENDED_H
#define FILAD_TESTS_MASTER_PRETENDED_H

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

static inline void say(int channel, enum channel_type type, uint64_t value, const char *text)
{
    struct err err;

    if (channel_send(channel, type, value, text, &err) < 0)
        _exit(EXIT_MASTER_GONE);
}

/* What this program was started with goes through to every process. */
static bool inherited[256];

static inline void note_inherited(void)
{
    for (int fd = 0; fd < 256; fd++)
        inherited[fd] = fcntl(fd, F_GETFD) >= 0;
}

/* Anything but files, the channel and the listeners is a leak of the master's. */
static inline void check_descriptors(int channel, const int *listeners, size_t count)
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

static inline bool is_alive(int pid)
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

static inline void pretend_leave(struct pretender *worker)
{
    if (worker->inside)
        zone_leave(worker->options->zone, worker->options->slot, ZONE_STORE_THREAD);
    worker->inside = false;
}

static inline void pretend_work(struct pretender *worker)
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

static inline void pretend_pause(void)
{
    unsigned most = atomic_load(&stage->shed_ms);

    if (most > 0)
        poll(NULL, 0, (int)(time_monotonic_ns() / 1000 % most));
}

/* As worker/shed does it, with time in which anything may die. Returns in the child. */
static inline void pretend_shed(struct pretender *worker)
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
static inline int pretend_message(struct pretender *worker, const struct channel_message *message)
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
static inline int pretend_alone(struct pretender *worker)
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

static inline void write_conf(const struct settings *settings)
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

static inline int setup(void **state)
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

static inline int teardown(void **state)
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

static inline void launch(void)
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
static inline int wait_master(void)
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

static inline bool file_has(const char *path, const char *text)
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

static inline bool log_has(const char *text)
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
static inline unsigned attached(void)
{
    unsigned count = 0;

    for (unsigned slot = 0; slot < ZONE_WORKERS; slot++)
        count +=
            atomic_load(&stage->attached[slot]) && is_alive(atomic_load(&stage->worker_pid[slot]));
    return count;
}

/* The pid of the n-th of them; 0: there are not so many. */
static inline int worker(unsigned n)
{
    for (unsigned slot = 0; slot < ZONE_WORKERS; slot++)
        if (atomic_load(&stage->attached[slot]) &&
            is_alive(atomic_load(&stage->worker_pid[slot])) && n-- == 0)
            return atomic_load(&stage->worker_pid[slot]);
    return 0;
}

static inline void start(void)
{
    launch();
    WAIT_FOR(log_has("serves with 2 workers"));
    WAIT_FOR(attached() == 2);
}

static inline int tell(enum options_signal signal, const char *name)
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

static inline void stop(void)
{
    assert_int_equal(kill(play.master, SIGTERM), 0);
    assert_int_equal(wait_master(), 0);
    assert_int_equal(atomic_load(&stage->violations), 0);
    assert_string_equal(stage->strange, "");
}

static inline bool exists(const char *name)
{
    char path[192];
    struct stat status;

    snprintf(path, sizeof path, "%s/%s", play.directory, name);
    return lstat(path, &status) == 0;
}

/* What an earlier broker has left there. */
static inline void make_regions(void)
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

#endif
