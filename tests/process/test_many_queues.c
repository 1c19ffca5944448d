/*
 * Many queues: made, listed, used, recovered, deleted; what they cost in memory, files and idle
 * time. MANY_QUEUES chooses how many (each has a dead-letter queue, too), and figures are printed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "client/include/fila.h"
#include "os/time.h"
#include "process/support/files.h"
#include "process/support/fixture.h"

#define QUEUES 100
#define THREADS 4
#define LARGE_RUN 1000 /* from here on times and costs are judged */
#define SETTLE_MS 300000u

static unsigned queue_count(void)
{
    const char *text = getenv("MANY_QUEUES");
    unsigned count = text ? (unsigned)strtoul(text, NULL, 10) : QUEUES;
    return count / THREADS * THREADS;
}

static void queue_name(char name[32], unsigned number)
{
    snprintf(name, 32, "queue-%05u", number);
}

static void report(const char *what, uint64_t began_ms, unsigned count)
{
    uint64_t took = time_monotonic_ms() - began_ms;
    print_message("%-44s %6u in %6llu ms, %.0f/s\n", what, count, (unsigned long long)took,
                  count * 1000.0 / (double)(took ? took : 1));
}

/* --- several threads --- */

struct share {
    pthread_t thread;
    struct fila *client;
    unsigned first, count;
    int (*work)(struct fila *client, const char *name, struct fila_error *error);
    struct fila_error error;
    bool failed;
};

static void *run_share(void *argument)
{
    struct share *share = argument;
    char name[32];
    for (unsigned i = 0; i < share->count && !share->failed; i++) {
        queue_name(name, share->first + i);
        share->failed = share->work(share->client, name, &share->error) != 0;
    }
    return NULL;
}

/* Does `work` for each queue, by several connections at once. */
static void for_each(struct fixture *f, const char *what, unsigned count,
                     int (*work)(struct fila *, const char *, struct fila_error *))
{
    struct share shares[THREADS];
    uint64_t began_ms = time_monotonic_ms();
    for (unsigned i = 0; i < THREADS; i++) {
        shares[i] = (struct share){.client = fixture_client(f),
                                   .first = count / THREADS * i,
                                   .count = count / THREADS,
                                   .work = work,
                                   .error = FILA_ERROR_INIT};
        assert_int_equal(pthread_create(&shares[i].thread, NULL, run_share, &shares[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(shares[i].thread, NULL);
        fila_close(shares[i].client);
    }
    for (unsigned i = 0; i < THREADS; i++)
        if (shares[i].failed)
            fail_msg("%s: %s", what, shares[i].error.text);
    report(what, began_ms, count);
}

static int create(struct fila *client, const char *name, struct fila_error *error)
{
    return fila_queue_create(client, name, NULL, error);
}

static int delete (struct fila *client, const char *name, struct fila_error *error)
{
    return fila_queue_delete(client, name, error);
}

static int enqueue(struct fila *client, const char *name, struct fila_error *error)
{
    struct fila_message message = {.queue = fila_text(name), .payload = fila_text("one")};
    return fila_enqueue(client, &message, NULL, error);
}

static int enqueue_dead(struct fila *client, const char *name, struct fila_error *error)
{
    char dead[40];
    snprintf(dead, sizeof(dead), "%s.dlq", name);
    return enqueue(client, dead, error);
}

/* Takes the one message out of a queue. */
static int consume(struct fila *client, const char *name, struct fila_error *error)
{
    struct fila_delivery *delivery = NULL;
    struct fila_consumer *consumer = fila_consume_limited(client, name, 1, error);
    int status = consumer ? fila_receive(consumer, PEER_PATIENCE_MS, &delivery, error) : -1;
    if (status == 1)
        status = fila_ack(client, delivery->queue, delivery->id, error);
    else if (status == 0)
        status = -1;
    fila_delivery_free(delivery);
    fila_consumer_free(consumer);
    return status;
}

/* --- looking --- */

static void expect_list(struct fixture *f, unsigned count, uint64_t depth)
{
    struct fila *client = fixture_client(f);
    struct fila_error error = FILA_ERROR_INIT;
    uint64_t began_ms = time_monotonic_ms();
    struct fila_queue_list *list = fila_queue_list(client, &error);
    if (!list)
        fail_msg("list queues: %s", error.text);
    report("ListQueues", began_ms, (unsigned)list->count);
    assert_int_equal(list->count, 2 * count);
    for (unsigned i = 0; i < list->count; i++) {
        char name[32];
        queue_name(name, i / 2);
        if (i % 2)
            strcat(name, ".dlq");
        assert_string_equal(list->queues[i].name, name);
        assert_int_equal(list->queues[i].depth, i % 2 ? depth : 0);
        assert_int_equal(list->queues[i].counted_percent, 100);
    }
    fila_queue_list_free(list);
    fila_close(client);
}

static bool everything_counted(void *context)
{
    struct fila *client = fixture_client(context);
    struct fila_queue_list *list = fila_queue_list(client, NULL);
    bool all = list != NULL;
    for (size_t i = 0; all && i < list->count; i++)
        all = list->queues[i].counted_percent == 100;
    fila_queue_list_free(list);
    fila_close(client);
    return all;
}

/* Sum over all processes of one line of a file in /proc/PID. */
static uint64_t proc_sum(struct fixture *f, const char *file, const char *line)
{
    struct broker_process list[BROKER_PROCESSES_MAX];
    size_t count = broker_processes(&f->broker, list, BROKER_PROCESSES_MAX);
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        char path[64], text[256];
        snprintf(path, sizeof(path), "/proc/%d/%s", (int)list[i].pid, file);
        FILE *in = fopen(path, "r");
        while (in && fgets(text, sizeof(text), in))
            if (strncmp(text, line, strlen(line)) == 0)
                sum += strtoull(text + strlen(line), NULL, 10);
        if (in)
            fclose(in);
    }
    return sum;
}

/* Ticks of processor time that all processes have used. */
static uint64_t processor_ticks(struct fixture *f)
{
    struct broker_process list[BROKER_PROCESSES_MAX];
    size_t count = broker_processes(&f->broker, list, BROKER_PROCESSES_MAX);
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        char path[64], text[1024];
        snprintf(path, sizeof(path), "/proc/%d/stat", (int)list[i].pid);
        FILE *in = fopen(path, "r");
        if (in && fgets(text, sizeof(text), in)) {
            unsigned long user = 0, system = 0;
            const char *rest = strrchr(text, ')');
            if (rest && sscanf(rest + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
                               &user, &system) == 2)
                sum += user + system;
        }
        if (in)
            fclose(in);
    }
    return sum;
}

static unsigned most_files(struct fixture *f)
{
    struct broker_process list[BROKER_PROCESSES_MAX];
    size_t count = broker_processes(&f->broker, list, BROKER_PROCESSES_MAX);
    unsigned most = 0;
    for (size_t i = 0; i < count; i++) {
        char path[64];
        snprintf(path, sizeof(path), "/proc/%d/fd", (int)list[i].pid);
        unsigned files = files_count(path, "[0-9]*");
        most = files > most ? files : most;
    }
    return most;
}

static void report_costs(struct fixture *f, const char *when)
{
    print_message("%s: PSS of all processes %llu MiB (of it shared memory %llu MiB), at most %u "
                  "files open in one\n",
                  when, (unsigned long long)proc_sum(f, "smaps_rollup", "Pss:") >> 10,
                  (unsigned long long)proc_sum(f, "smaps_rollup", "Pss_Shmem:") >> 10,
                  most_files(f));
}

/* Processor time of all processes while nobody asks for anything, in percent of one core. */
static double idle_percent(struct fixture *f, unsigned seconds)
{
    uint64_t before = processor_ticks(f), began_ns = time_monotonic_ns();
    sleep(seconds);
    double used = (double)(processor_ticks(f) - before) / (double)sysconf(_SC_CLK_TCK);
    return used * 1e11 / (double)(time_monotonic_ns() - began_ns);
}

/* --- the test --- */

static bool files_gone(void *context)
{
    struct fixture *f = context;
    char path[BROKER_PATH_SIZE + 16];
    snprintf(path, sizeof(path), "%s/queues", f->broker.store);
    return files_count(path, "*.db") == 0;
}

static void restart(struct fixture *f, unsigned count, bool crash)
{
    char last[32];
    queue_name(last, count - 1);
    uint64_t began_ms = time_monotonic_ms();
    if (crash)
        broker_kill_all(&f->broker);
    else
        MUST(f, broker_stop(&f->broker, 15, &f->err));
    MUST(f, broker_wait_end(&f->broker, BROKER_READY_MS, &f->err));
    uint64_t ended_ms = time_monotonic_ms();
    fixture_start(f);
    fixture_wait_service(f, last, BROKER_READY_MS);
    uint64_t took_ms = time_monotonic_ms() - ended_ms;
    print_message("%s: the end after %llu ms, service %llu ms later\n",
                  crash ? "kill -9 of all" : "stop in order",
                  (unsigned long long)(ended_ms - began_ms), (unsigned long long)took_ms);
    if (count >= LARGE_RUN)
        assert_in_range(took_ms, 0, 12000);
    struct fila *client = fixture_client(f);
    struct fila_error error = FILA_ERROR_INIT;
    if (consume(client, last, &error) != 0) /* what proved the service */
        fail_msg("consume: %s", error.text);
    fila_close(client);
    assert_true(wait_until(everything_counted, f, SETTLE_MS));
}

static void test_many(void **state)
{
    struct fixture *f = *state;
    unsigned count = queue_count();
    double idle_before = count >= LARGE_RUN ? idle_percent(f, 5) : 0;
    report_costs(f, "empty");
    for_each(f, "CreateQueue", count, create);
    expect_list(f, count, 0);
    report_costs(f, "created");
    for_each(f, "enqueue, the first message of each queue", count, enqueue);
    for_each(f, "the same for the dead-letter queues", count, enqueue_dead);
    for_each(f, "consume, receive, ack, cancel", count, consume);
    expect_list(f, count, 1);
    report_costs(f, "used");
    if (count >= LARGE_RUN)
        print_message("idle: %.1f %% of a core, %.1f %% without queues\n", idle_percent(f, 5),
                      idle_before);
    restart(f, count, true);
    expect_list(f, count, 1);
    restart(f, count, false);
    expect_list(f, count, 1);
    report_costs(f, "restarted");
    uint64_t began_ms = time_monotonic_ms();
    for_each(f, "DeleteQueue", count, delete);
    assert_true(wait_until(files_gone, f, SETTLE_MS));
    report("DeleteQueue until the files are gone", began_ms, count);
    expect_list(f, 0, 0);
    f->passed = true;
}

/* The last test: the limit stays. */
static void test_no_room(void **state)
{
    struct fixture *f = *state;
    const struct rlimit few = {250, 250};
    char name[32];
    unsigned made = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    fixture_start(f);
    struct peer *peer = fixture_peer(f);
    int code = 0;
    for (; made < 100 && code == 0; made += code == 0) {
        queue_name(name, made);
        code = peer_create_queue(peer, name, 0, &f->err);
    }
    assert_int_equal(made, 75); /* and as many dead-letter queues */
    assert_int_equal(code, FIBP_CHANNEL_FULL);
    assert_non_null(strstr(f->err.text, "limit of open files"));
    /* It does not hold for ever. */
    MUST(f, peer_delete_queue(peer, "queue-00000", &f->err));
    MUST(f, peer_create_queue(peer, "another", 0, &f->err));
    fixture_crash(f);
    peer = fixture_peer(f);
    MUST(f, peer_enqueue(peer, "another", "m", NULL, &f->err));
    f->passed = true;
}

static int setup(void **state)
{
    const struct broker_options options = {
        .workers = 2,
        .cache_size = queue_count() >= LARGE_RUN ? "256m" : NULL, /* what it is by default */
    };
    return fixture_setup_with(state, &options, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_many, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_no_room, fixture_setup_stopped, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
