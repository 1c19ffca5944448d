/*
 * What is not as filad left it: the store, its region files, the pid file, the environment; and
 * anything at all on the control socket. A start either serves or ends with a reason that names the
 * file; it never crashes and never hangs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "master/control.h"
#include "process/support/files.h"
#include "process/support/fixture.h"

#define PATH_SIZE 512
#define KEPT 50u

/* ---- what is done to a file ---- */

enum damage {
    DAMAGE_EMPTY,     /* cut to nothing */
    DAMAGE_HALF,      /* cut in the middle */
    DAMAGE_ODD,       /* cut by one byte */
    DAMAGE_NOISE,     /* all of it replaced */
    DAMAGE_HEAD,      /* its first 512 bytes */
    DAMAGE_MIDDLE,    /* 512 bytes in the middle */
    DAMAGE_GROWN,     /* 1 MiB of noise behind it */
    DAMAGE_GONE,      /* removed */
    DAMAGE_DIRECTORY, /* a directory in its place */
    DAMAGE_LINK,      /* a symbolic link that leads nowhere in its place */
    DAMAGE_FIFO,      /* a pipe in its place: who opens it may wait for ever */
};

static void write_noise(int fd, off_t at, size_t size)
{
    uint8_t noise[512];
    uint32_t state = 2463534242u;
    for (size_t done = 0; done < size; done += sizeof noise) {
        for (size_t i = 0; i < sizeof noise; i++) {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            noise[i] = (uint8_t)state;
        }
        size_t now = size - done < sizeof noise ? size - done : sizeof noise;
        assert_int_equal(pwrite(fd, noise, now, at + (off_t)done), now);
    }
}

static void damage_content(const char *path, enum damage damage)
{
    struct stat status;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &status), 0);
    off_t size = status.st_size;
    (void)fchmod(fd, 0666); /* not who may read it is what is tested */
    switch (damage) {
    case DAMAGE_EMPTY:
        assert_int_equal(ftruncate(fd, 0), 0);
        break;
    case DAMAGE_HALF:
        assert_int_equal(ftruncate(fd, size / 2), 0);
        break;
    case DAMAGE_ODD:
        assert_int_equal(ftruncate(fd, size > 0 ? size - 1 : 0), 0);
        break;
    case DAMAGE_NOISE:
        write_noise(fd, 0, size > 0 ? (size_t)size : 4096);
        break;
    case DAMAGE_HEAD:
        write_noise(fd, 0, 512);
        break;
    case DAMAGE_MIDDLE:
        write_noise(fd, size / 2 / 512 * 512, 512);
        break;
    default:
        write_noise(fd, size, 1 << 20);
        break;
    }
    close(fd);
}

static void damage_file(const char *path, enum damage damage)
{
    if (damage < DAMAGE_GONE) {
        damage_content(path, damage);
        return;
    }
    assert_true(unlink(path) == 0 || errno == ENOENT);
    if (damage == DAMAGE_DIRECTORY)
        assert_int_equal(mkdir(path, 0755), 0);
    else if (damage == DAMAGE_LINK)
        assert_int_equal(symlink("/nowhere/at/all", path), 0);
    else if (damage == DAMAGE_FIFO)
        assert_int_equal(mkfifo(path, 0666), 0);
}

/* ---- a store and its copy ---- */

static void run_shell(const char *command)
{
    if (system(command) != 0)
        fail_msg("failed: %s", command);
}

/* A store with a queue of messages, stopped in order, and a copy of it. */
static void make_store(struct fixture *f)
{
    char command[4 * PATH_SIZE];
    fixture_start(f);
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_create_queue(peer, "kept", 0, &f->err));
    MUST(f, peer_enqueue_run(peer, "kept", "m", KEPT, NULL, &f->err));
    fixture_close_all(f);
    MUST(f, broker_stop(&f->broker, SIGTERM, &f->err));
    snprintf(command, sizeof command, "cp -a %s %s.copy", f->broker.store, f->broker.store);
    run_shell(command);
}

static void restore_store(struct fixture *f)
{
    char command[4 * PATH_SIZE];
    files_remove_tree(f->broker.store);
    files_remove_tree(f->broker.regions);
    (void)unlink(f->broker.log);
    (void)unlink(f->broker.output);
    snprintf(command, sizeof command, "cp -a %s.copy %s", f->broker.store, f->broker.store);
    run_shell(command);
}

/* ---- a start and its outcome ---- */

/* ASIDE: served, but for the queue, whose file is in quarantine. */
enum outcome { REFUSED, SERVED, ASIDE };

static enum outcome start_outcome(struct fixture *f, const char *what)
{
    if (broker_spawn(&f->broker, &f->err) != 0)
        fail_msg("%s", f->err.text);
    if (broker_wait_ready(&f->broker, BROKER_READY_MS, &f->err) == 0)
        return SERVED;
    if (broker_running(&f->broker))
        fail_msg("%s: neither serves nor ends: %s", what, f->err.text);
    if (!WIFEXITED(f->broker.status) || WEXITSTATUS(f->broker.status) != 1)
        fail_msg("%s: the master ended with wait status %x", what, (unsigned)f->broker.status);
    MUST(f, broker_wait_end(&f->broker, BROKER_READY_MS, &f->err));
    return REFUSED;
}

struct served {
    struct fixture *fixture;
    struct peer *peer;
    struct framed_stats stats;
    uint8_t counted;
    int code;
};

static bool is_counted(void *context)
{
    struct served *served = context;
    served->code = peer_stats_counted(served->peer, "kept", &served->stats, &served->counted,
                                      &served->fixture->err);
    return served->code != 0 || served->counted >= FRAMED_COUNTED_ALL;
}

/* What has become of the queue "kept", in *depth when it is served: -1 when there is none. The
 * broker is stopped then. */
static enum outcome look_at_queue(struct fixture *f, const char *what, int *depth)
{
    struct served served = {.fixture = f, .peer = fixture_peer(f)};
    if (!wait_until(is_counted, &served, BROKER_READY_MS))
        fail_msg("%s: counted to %u %% only", what, served.counted);
    if (served.code != 0 && served.code != FIBP_QUEUE_NOT_FOUND)
        fail_msg("%s: %s", what, f->err.text);
    MUST(f, peer_create_queue(served.peer, "another", 0, &f->err));
    MUST(f, peer_enqueue(served.peer, "another", "m", NULL, &f->err));
    fixture_close_all(f);
    MUST(f, broker_stop(&f->broker, SIGTERM, &f->err));
    *depth = served.code == 0 ? (int)served.stats.depth : -1;
    return served.code == 0 && served.counted == FRAMED_COUNTED_QUARANTINE ? ASIDE : SERVED;
}

/* Starts on what stands there now. A refusal has to say `words` on standard error. */
static void expect_start(struct fixture *f, const char *what, enum outcome expected, int depth,
                         const char *words)
{
    enum outcome outcome = start_outcome(f, what);
    static const char *const names[] = {"refused", "served", "set aside"};
    int found = 0;
    if (outcome == SERVED)
        outcome = look_at_queue(f, what, &found);
    if (outcome != expected || (outcome == SERVED && found != depth))
        fail_msg("%s: %s, depth %d: %s", what, names[outcome], found, f->err.text);
    if (outcome == REFUSED && !files_contain(f->broker.output, words))
        fail_msg("%s: the reason does not say \"%s\": %s", what, words, f->err.text);
    if (broker_logged(&f->broker, "signal 11") || broker_logged(&f->broker, "signal 6"))
        fail_msg("%s: a process crashed", what);
    if (broker_unsound(&f->broker))
        fail_msg("%s: a sanitizer complained", what);
}

/* ---- the store ---- */

struct store_case {
    const char *directory, *name; /* of the file, below the store */
    enum damage damage;
    enum outcome outcome;
    const char *words; /* of a refusal */
    int depth;         /* when it serves: messages that are left */
};

static const struct store_case store_cases[] = {
    {"", "catalog.db", DAMAGE_EMPTY, REFUSED, "catalog.db", 0},
    {"", "catalog.db", DAMAGE_HALF, REFUSED, "catalog.db", 0},
    {"", "catalog.db", DAMAGE_ODD, REFUSED, "catalog.db", 0},
    {"", "catalog.db", DAMAGE_NOISE, REFUSED, "catalog.db", 0},
    {"", "catalog.db", DAMAGE_HEAD, REFUSED, "catalog.db", 0},
    {"", "catalog.db", DAMAGE_MIDDLE, REFUSED, "catalog.db", 0},
    {"", "catalog.db", DAMAGE_GROWN, SERVED, NULL, KEPT},
    {"", "catalog.db", DAMAGE_GONE, REFUSED, "queues/1.db is there", 0},
    {"", "catalog.db", DAMAGE_DIRECTORY, REFUSED, "catalog.db", 0},
    {"", "catalog.db", DAMAGE_LINK, REFUSED, "catalog.db", 0},
    {"queues", "1.db", DAMAGE_EMPTY, ASIDE, NULL, 0},
    {"queues", "1.db", DAMAGE_HALF, ASIDE, NULL, 0},
    {"queues", "1.db", DAMAGE_NOISE, ASIDE, NULL, 0},
    {"queues", "1.db", DAMAGE_HEAD, ASIDE, NULL, 0},
    {"queues", "1.db", DAMAGE_MIDDLE, ASIDE, NULL, 0},
    {"queues", "1.db", DAMAGE_GROWN, SERVED, NULL, KEPT},
    /* One that nobody wrote to has no file either. */
    {"queues", "1.db", DAMAGE_GONE, SERVED, NULL, 0},
    {"queues", "1.db", DAMAGE_DIRECTORY, REFUSED, "queues/1.db", 0},
    {"queues", "foreign.db", DAMAGE_NOISE, SERVED, NULL, KEPT},
    {"log", "log.0000000001", DAMAGE_EMPTY, REFUSED, "past end of log", 0},
    {"log", "log.0000000001", DAMAGE_NOISE, REFUSED, "log.0000000001", 0},
    {"log", "log.0000000001", DAMAGE_HEAD, REFUSED, "log.0000000001", 0},
    {"log", "log.0000000001", DAMAGE_GONE, REFUSED, "past end of log", 0},
    {"log", "log.0000000001", DAMAGE_DIRECTORY, REFUSED, "log", 0},
    {"", "clean", DAMAGE_NOISE, SERVED, NULL, KEPT},
    {"", "clean", DAMAGE_EMPTY, SERVED, NULL, KEPT},
    {"", "clean", DAMAGE_DIRECTORY, SERVED, NULL, KEPT},
};

static void test_damaged_store(void **state)
{
    struct fixture *f = *state;
    make_store(f);
    for (size_t i = 0; i < sizeof store_cases / sizeof store_cases[0]; i++) {
        const struct store_case *item = &store_cases[i];
        char path[PATH_SIZE], what[128];
        restore_store(f);
        snprintf(path, sizeof path, "%s/%s/%s", f->broker.store, item->directory, item->name);
        damage_file(path, item->damage);
        snprintf(what, sizeof what, "%s/%s, damage %d", item->directory, item->name, item->damage);
        expect_start(f, what, item->outcome, item->depth, item->words);
    }
    f->passed = true;
}

/* What lies in the region directory is worthless; what is not ours stays. */
static void test_foreign_regions(void **state)
{
    static const char *const names[] = {"__db.001", "__db.999", "__db.register", "pages",
                                        "foreign"};
    struct fixture *f = *state;
    struct stat status;
    char path[PATH_SIZE];
    make_store(f);
    for (int damage = DAMAGE_NOISE; damage <= DAMAGE_DIRECTORY; damage++) {
        restore_store(f);
        assert_int_equal(mkdir(f->broker.regions, 0777), 0);
        if (geteuid() == 0)
            assert_int_equal(chmod(f->broker.regions, 0777), 0);
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            snprintf(path, sizeof path, "%s/%s", f->broker.regions, names[i]);
            if (damage < DAMAGE_GONE || i == 4)
                damage_file(path, (enum damage)damage);
        }
        expect_start(f, "foreign region files", SERVED, KEPT, NULL);
        assert_int_equal(lstat(path, &status), damage == DAMAGE_GONE ? -1 : 0);
    }
    restore_store(f);
    damage_file(f->broker.regions, DAMAGE_NOISE);
    expect_start(f, "a file for a region directory", REFUSED, 0, f->broker.regions);
    f->passed = true;
}

/* ---- the pid file ---- */

static void test_damaged_pid_file(void **state)
{
    static const struct {
        enum damage damage;
        enum outcome outcome;
    } cases[] = {
        {DAMAGE_EMPTY, SERVED},      {DAMAGE_NOISE, SERVED}, {DAMAGE_GROWN, SERVED},
        {DAMAGE_DIRECTORY, REFUSED}, {DAMAGE_LINK, REFUSED},
    };
    struct fixture *f = *state;
    make_store(f);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        restore_store(f);
        damage_file(f->broker.pid_file, cases[i].damage);
        expect_start(f, "pid file", cases[i].outcome, KEPT, f->broker.pid_file);
        assert_true(unlink(f->broker.pid_file) == 0 || rmdir(f->broker.pid_file) == 0 ||
                    errno == ENOENT);
    }
    f->passed = true;
}

/* ---- the control socket ---- */

static struct peer *control_peer(struct fixture *f)
{
    char address[PATH_SIZE];
    snprintf(address, sizeof address, "unix:%.400s", f->broker.pid_file);
    strcpy(strrchr(address, '/'), "/control.sock");
    struct peer *peer = peer_connect(address, &f->err);
    if (!peer)
        fail_msg("connect to the control socket: %s", f->err.text);
    return peer;
}

static void expect_answer(struct fixture *f, struct str line, const char *answer)
{
    char text[256];
    struct peer *peer = control_peer(f);
    MUST(f, peer_send(peer, line, &f->err));
    int size = peer_read_bytes(peer, PEER_PATIENCE_MS, text, sizeof text - 1);
    assert_true(size >= 0);
    text[size] = '\0';
    assert_string_equal(text, answer);
    peer_close(peer, false);
}

static void test_control_socket(void **state)
{
    struct fixture *f = *state;
    struct peer *silent[40];
    char output[1024];
    static uint8_t flood[4096];
    pid_t master = f->broker.pid;
    memset(flood, 'x', sizeof flood);
    expect_answer(f, STR("\n"), "error: unknown command\n");
    expect_answer(f, STR("dance\n"), "error: unknown command\n");
    expect_answer(f, STR("STOP\n"), "error: unknown command\n");
    expect_answer(f, STR("stop \n"), "error: unknown command\n");
    expect_answer(f, STR("\0stop\n"), "error: unknown command\n");
    expect_answer(f, STR("\377\376\n"), "error: unknown command\n");
    expect_answer(f, str_of(flood, CONTROL_REQUEST_MAX), "error: the command is too long\n");
    for (unsigned i = 0; i < 100; i++) {
        struct peer *peer = control_peer(f);
        (void)peer_send(peer, str_of(flood, i), &f->err);
        if (i % 2)
            peer_abort(peer);
        else
            peer_close(peer, false);
    }
    /* Those who say nothing take all places; the next ones are let go at once. */
    for (unsigned i = 0; i < 40; i++)
        silent[i] = control_peer(f);
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_ping(peer, &f->err));
    for (unsigned i = 0; i < 40; i++)
        peer_close(silent[i], false);
    const char *const reload[] = {"-s", "reload", "-c", f->broker.conf, NULL};
    int status = broker_run(&f->broker, "filad", reload, output, sizeof output);
    if (status != 0)
        fail_msg("reload: %s", output);
    assert_true(broker_running(&f->broker) && f->broker.pid == master);
    f->passed = true;
}

/* ---- the environment ---- */

static void expect_run(struct fixture *f, const char *program, const char *name, const char *value,
                       const char *const *arguments, int status, const char *words)
{
    char output[2048];
    assert_int_equal(setenv(name, value, 1), 0);
    int found = broker_run(&f->broker, program, arguments, output, sizeof output);
    assert_int_equal(unsetenv(name), 0);
    if (found != status || !strstr(output, words))
        fail_msg("%s=%.40s: status %d: %s", name, value, found, output);
}

static void test_environment(void **state)
{
    struct fixture *f = *state;
    static char longest[70001];
    const char *const test[] = {"-t", "-c", f->broker.conf, NULL};
    const char *const list[] = {"queue", "list", NULL};
    memset(longest, 'x', sizeof longest - 1);
    /* A key is never ignored: who sets one relies on it. */
    expect_run(f, "filad", "FILA_BOOTSTRAP_APIKEY", "key", test, 1, "FILA_BOOTSTRAP_APIKEY");
    expect_run(f, "filad", "FILA_BOOTSTRAP_APIKEY", longest, test, 1, "FILA_BOOTSTRAP_APIKEY");
    expect_run(f, "filad", "FILA_BOOTSTRAP_APIKEY", "\377", test, 1, "FILA_BOOTSTRAP_APIKEY");
    expect_run(f, "filad", "FILA_BOOTSTRAP_APIKEY", "", test, 0, "successful");
    expect_run(f, "filad", "FILA_NO_SUCH", "\377", test, 0, "successful");
    expect_run(f, "filad", "NOTIFY_SOCKET", longest, test, 0, "successful");
    expect_run(f, "fila", "FILA_API_KEY", longest, list, 2, "FILA_API_KEY");
    expect_run(f, "fila", "FILA_API_KEY", "\377\376", list, 2, "FILA_API_KEY");
    f->passed = true;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_CONF(test_damaged_store),    WITH_CONF(test_foreign_regions),
        WITH_CONF(test_damaged_pid_file), WITH_BROKER(test_control_socket),
        WITH_BROKER(test_environment),
    };
    return cmocka_run_group_tests_name("damage", tests, NULL, NULL);
}
