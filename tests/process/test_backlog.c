/*
 * A large backlog: what it costs to start with it, to serve it before it is counted, and what
 * statistics say meanwhile. BACKLOG_MESSAGES chooses how many messages; from LARGE_RUN on times are
 * judged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/include/fila.h"
#include "os/time.h"
#include "process/support/fixture.h"

#define MESSAGES 30000
#define LARGE_RUN 1000000
#define FIRST_MS 3000 /* from a kill to the first delivery */
#define BATCH 20000
#define PAYLOAD 100
#define QUEUE "backlog"
#define COUNTED_MS 600000u

static unsigned message_count(void)
{
    const char *text = getenv("BACKLOG_MESSAGES");
    unsigned count = text ? (unsigned)strtoul(text, NULL, 10) : MESSAGES;
    return (count + BATCH - 1) / BATCH * BATCH;
}

static struct fila *try_connect(struct fixture *f)
{
    struct fila_options options;
    fila_options_init(&options);
    options.address = f->broker.tcp_address;
    options.request_timeout_ms = 120000;
    return fila_connect(&options, NULL);
}

static struct fila *connect_to(struct fixture *f)
{
    struct fila *client = try_connect(f);
    assert_non_null(client);
    return client;
}

static double seconds_since(uint64_t began_ns)
{
    return (double)(time_monotonic_ns() - began_ns) / 1e9;
}

static void fill(struct fila *client, unsigned count)
{
    static char payload[PAYLOAD];
    static struct fila_message messages[BATCH];
    static struct fila_enqueue_result results[BATCH];
    struct fila_error error = FILA_ERROR_INIT;
    uint64_t began_ns = time_monotonic_ns();
    for (unsigned i = 0; i < BATCH; i++)
        messages[i] =
            (struct fila_message){.queue = fila_text(QUEUE), .payload = {payload, sizeof(payload)}};
    for (unsigned done = 0; done < count; done += BATCH) {
        if (fila_enqueue_many(client, messages, BATCH, results, &error) != 0)
            fail_msg("enqueue: %s", error.text);
        for (unsigned i = 0; i < BATCH; i++)
            assert_int_equal(results[i].code, FILA_OK);
    }
    print_message("%u messages of %u bytes in %.1f s\n", count, PAYLOAD, seconds_since(began_ns));
}

/* --- serving --- */

struct service {
    struct fixture *f;
    struct fila *client;
    struct fila_consumer *consumer;
};

/* Connects, subscribes and gets a message. */
static bool delivered(void *context)
{
    struct service *service = context;
    struct fila_delivery *delivery = NULL;
    if (!service->client)
        service->client = try_connect(service->f);
    if (service->client && !service->consumer)
        service->consumer = fila_consume(service->client, QUEUE, NULL);
    int status = service->consumer ? fila_receive(service->consumer, 10000, &delivery, NULL) : -1;
    if (status > 0) { /* not acked: the first of those that come back later */
        fila_delivery_free(delivery);
        return true;
    }
    if (status < 0) {
        fila_consumer_free(service->consumer);
        fila_close(service->client);
        service->consumer = NULL;
        service->client = NULL;
    }
    return false;
}

struct progress {
    unsigned looks, unfinished; /* at the statistics; with less than 100 % */
    unsigned percent;           /* the last */
    uint64_t depth;
};

static void look(struct fixture *f, struct progress *progress, uint64_t most)
{
    struct fila *client = connect_to(f);
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_queue_stats *stats = fila_queue_stats(client, QUEUE, &error);
    struct fila_queue_list *list = fila_queue_list(client, &error);
    if (!stats || !list)
        fail_msg("statistics: %s", error.text);
    assert_true(stats->counted_percent >= progress->percent);
    assert_true(stats->depth <= most);
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->queues[i].name, QUEUE) == 0)
            assert_in_range(list->queues[i].counted_percent, stats->counted_percent, 100);
    progress->percent = stats->counted_percent;
    progress->depth = stats->depth;
    progress->looks++;
    progress->unfinished += stats->counted_percent < 100;
    fila_queue_list_free(list);
    fila_queue_stats_free(stats);
    fila_close(client);
}

/* Takes messages for a second, or `most`, and acks them; how many. */
static unsigned take_for_a_second(struct service *service, unsigned most)
{
    struct fila_delivery *got[1000];
    struct fila_ack acks[1000];
    enum fila_code codes[1000];
    struct fila_error error = FILA_ERROR_INIT;
    uint64_t end_ms = time_monotonic_ms() + 1000;
    unsigned taken = 0;
    while (time_monotonic_ms() < end_ms && taken < most) {
        int count = fila_receive_many(service->consumer, 1000, got, 1000, &error);
        if (count < 0)
            fail_msg("receive: %s", error.text);
        for (int i = 0; i < count; i++)
            acks[i] = (struct fila_ack){got[i]->queue, got[i]->id};
        if (count && fila_ack_many(service->client, acks, (size_t)count, codes, &error) != 0)
            fail_msg("ack: %s", error.text);
        for (int i = 0; i < count; i++) {
            assert_int_equal(codes[i], FILA_OK);
            fila_delivery_free(got[i]);
        }
        taken += (unsigned)count;
    }
    return taken;
}

/* The first delivery after a death, then rates and statistics until all is counted. Returns the
 * messages that are left. */
static unsigned after(struct fixture *f, const char *what, uint64_t died_ns, unsigned count,
                      bool recovery)
{
    struct service service = {.f = f};
    struct progress progress = {0};
    assert_true(wait_until(delivered, &service, BROKER_READY_MS));
    double first = seconds_since(died_ns);
    unsigned all = count;
    print_message("%s: first delivery after %.2f s\n", what, first);
    if (count >= LARGE_RUN)
        assert_true(first * 1000 < FIRST_MS);
    for (unsigned i = 0; i < 2 && (count >= LARGE_RUN || i == 0); i++) {
        look(f, &progress, all);
        unsigned taken = take_for_a_second(&service, all / 4);
        count -= taken;
        print_message("  %u acked in a second, %u %% counted before\n", taken, progress.percent);
    }
    fila_consumer_free(service.consumer);
    fila_close(service.client);
    uint64_t end_ms = time_monotonic_ms() + COUNTED_MS;
    do {
        struct peer_frame *frame = NULL;
        (void)peer_read(f->peers[0], 20, &frame, &f->err); /* a pause */
        free(frame);
        look(f, &progress, all);
    } while (progress.percent < 100 && time_monotonic_ms() < end_ms);
    print_message("  counted %.1f s after the death; %u of %u looks were before that\n",
                  seconds_since(died_ns), progress.unfinished, progress.looks);
    assert_int_equal(progress.percent, 100);
    assert_int_equal(progress.depth, count);
    if (count >= LARGE_RUN && recovery)
        assert_true(progress.unfinished > 0);
    return count;
}

static void test_backlog(void **state)
{
    struct fixture *f = *state;
    unsigned count = message_count();
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_create_queue(peer, QUEUE, 3600000, &f->err));
    struct fila *client = connect_to(f);
    fill(client, count);
    fila_close(client);

    fixture_close_all(f);
    uint64_t died_ns = time_monotonic_ns();
    broker_kill_all(&f->broker);
    MUST(f, broker_wait_end(&f->broker, BROKER_READY_MS, &f->err));
    MUST(f, broker_spawn(&f->broker, &f->err));
    MUST(f, broker_wait_ready(&f->broker, BROKER_READY_MS, &f->err));
    (void)fixture_peer(f);
    count = after(f, "kill -9 of all", died_ns, count, true);

    struct broker_process victim = {BROKER_WORKER, broker_find(&f->broker, BROKER_WORKER)};
    fixture_close_all(f);
    died_ns = time_monotonic_ns();
    broker_kill(&f->broker, &victim, 1);
    MUST(f, broker_wait_ready(&f->broker, BROKER_READY_MS, &f->err));
    (void)fixture_peer(f);
    count = after(f, "kill -9 of a worker", died_ns, count, false);

    /* The end of the queue is no matter of its size. */
    died_ns = time_monotonic_ns();
    MUST(f, peer_delete_queue(f->peers[0], QUEUE, &f->err));
    print_message("deleted with %u messages in %.2f s\n", count, seconds_since(died_ns));
    f->passed = true;
}

static int setup(void **state)
{
    const struct broker_options options = {.workers = 2, .cache_size = "64m", .reserve = "64m"};
    return fixture_setup_with(state, &options, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_backlog, setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
