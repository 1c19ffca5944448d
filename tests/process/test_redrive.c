/* Redrive and purge, over the wire and by fila: what moves, what stays, what others feel of it, and
 * what is there after processes were killed in the middle. REDRIVE_MESSAGES: how many messages the
 * long ones move (1,000,000 is the long form), REDRIVE_KILLS: how many kills. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "os/time.h"
#include "process/support/fixture.h"

static unsigned option(const char *name, unsigned otherwise)
{
    const char *given = getenv(name);
    return given ? (unsigned)strtoul(given, NULL, 10) : otherwise;
}

static void run_fila(struct fixture *f, const char *const *arguments, int status,
                     const char *expected)
{
    char output[1024];
    assert_int_equal(broker_run(&f->broker, "fila", arguments, output, sizeof output), status);
    assert_string_equal(output, expected);
}

static void test_scenarios(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f), *consumer = fixture_peer(f);
    struct peer_delivery delivery;
    struct uuid ids[5];
    uint32_t subscription;
    uint64_t moved = 0;
    MUST(f, peer_create_queue(peer, "q", 0, &f->err));
    MUST(f, peer_create_queue(peer, "alone.dlq", 0, &f->err));
    MUST_GIVE(f, FIBP_QUEUE_NOT_FOUND, peer_redrive(peer, "nowhere.dlq", 0, &moved, &f->err));
    MUST_GIVE(f, FIBP_QUEUE_NOT_FOUND, peer_redrive(peer, "nowhere", 0, &moved, &f->err));
    MUST_GIVE(f, FIBP_NOT_A_DLQ, peer_redrive(peer, "q", 0, &moved, &f->err));
    MUST_GIVE(f, FIBP_PARENT_QUEUE_NOT_FOUND, peer_redrive(peer, "alone.dlq", 0, &moved, &f->err));
    MUST(f, peer_redrive(peer, "q.dlq", 0, &moved, &f->err));
    assert_int_equal(moved, 0);
    /* Nacked there, so that there is an attempt to be reset; then it is leased and stays. */
    MUST(f, peer_enqueue_run(peer, "q.dlq", "m", 5, ids, &f->err));
    MUST(f, peer_consume_limited(consumer, "q.dlq", 2, &subscription, &f->err));
    fixture_receive(f, consumer, PEER_PATIENCE_MS, &delivery);
    MUST(f, peer_nack(consumer, "q.dlq", &delivery.id, &f->err));
    fixture_receive(f, consumer, PEER_PATIENCE_MS, &delivery);
    fixture_wait_stats(f, peer, "q.dlq", 5, 1, UINT64_MAX);
    MUST(f, peer_redrive(peer, "q.dlq", 1, &moved, &f->err));
    assert_int_equal(moved, 1);
    MUST(f, peer_redrive(peer, "q.dlq", 0, &moved, &f->err));
    assert_int_equal(moved, 3);
    fixture_wait_stats(f, peer, "q.dlq", 1, 1, UINT64_MAX);
    MUST(f, peer_ack(consumer, "q.dlq", &delivery.id, &f->err));
    MUST(f, peer_consume(consumer, "q", &subscription, &f->err));
    for (unsigned i = 0; i < 4; i++) {
        fixture_receive(f, consumer, PEER_PATIENCE_MS, &delivery);
        assert_int_equal(delivery.attempt, 0);
        assert_string_equal(delivery.queue, "q");
        MUST(f, peer_ack(consumer, "q", &delivery.id, &f->err));
    }
    f->passed = true;
}

static void test_fila(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    char address[256];
    snprintf(address, sizeof address, "--addr=%s", f->broker.tcp_address);
    MUST(f, peer_create_queue(peer, "q", 0, &f->err));
    MUST(f, peer_enqueue_run(peer, "q.dlq", "m", 5, NULL, &f->err));
    char output[1024];
    assert_int_equal(broker_run(&f->broker, "fila", (const char *[]){address, "dlq", "list", NULL},
                                output, sizeof output),
                     0);
    assert_non_null(strstr(output, "\nq.dlq        5          0  yes     "));
    assert_int_equal(broker_run(&f->broker, "fila",
                                (const char *[]){address, "queue", "peek", "q.dlq", "-n2", NULL},
                                output, sizeof output),
                     0);
    assert_non_null(strstr(output, "  ready    age "));
    assert_non_null(strstr(output, "\n    3 bytes: m-0\n"));
    assert_non_null(strstr(output, "\n    3 bytes: m-1\n"));
    assert_null(strstr(output, "m-2"));
    assert_int_equal(
        broker_run(&f->broker, "fila",
                   (const char *[]){address, "queue", "peek", "q.dlq", "-n1", "--json", NULL},
                   output, sizeof output),
        0);
    assert_non_null(strstr(output, "\"state\": \"ready\", \"until_ms\": 0, \"headers\": {}, "
                                   "\"headers_cut\": false, \"payload\": \"m-0\", "
                                   "\"payload_size\": 3, \"fairness_key\": "));
    run_fila(f, (const char *[]){address, "queue", "peek", "nowhere", NULL}, 1,
             "fila: peek into queue \"nowhere\": queue not found\n");
    run_fila(f, (const char *[]){address, "redrive", "q.dlq", "--count", "1", NULL}, 0,
             "Redrive complete: 1 message moved from \"q.dlq\"\n");
    run_fila(f, (const char *[]){address, "redrive", "q.dlq", "--count=2", "--json", NULL}, 0,
             "{\"queue\": \"q.dlq\", \"redriven\": 2}\n");
    run_fila(f, (const char *[]){address, "redrive", "q.dlq", NULL}, 0,
             "Redrive complete: 2 messages moved from \"q.dlq\"\n");
    run_fila(f, (const char *[]){address, "redrive", "q.dlq", NULL}, 0,
             "Redrive complete: 0 messages moved from \"q.dlq\"\n");
    run_fila(f, (const char *[]){address, "redrive", "q", NULL}, 1,
             "fila: redrive \"q\": not a dead-letter queue\n");
    run_fila(f, (const char *[]){address, "queue", "purge", "q", NULL}, 0,
             "Purged 5 messages from \"q\"\n");
    run_fila(f, (const char *[]){address, "queue", "purge", "q", "--yes", "--json", NULL}, 0,
             "{\"queue\": \"q\", \"purged\": 0}\n");
    /* Headers are an object, as in fila consume. */
    assert_int_equal(
        broker_run(&f->broker, "fila",
                   (const char *[]){address, "enqueue", "q", "-Hb=2", "-Ha=1", "x", NULL}, output,
                   sizeof output),
        0);
    assert_int_equal(broker_run(&f->broker, "fila",
                                (const char *[]){address, "queue", "peek", "q", "--json", NULL},
                                output, sizeof output),
                     0);
    assert_non_null(strstr(output, "\"headers\": {\"b\": \"2\", \"a\": \"1\"}, "));
    assert_int_equal(broker_run(&f->broker, "fila",
                                (const char *[]){address, "queue", "peek", "q", NULL}, output,
                                sizeof output),
                     0);
    assert_non_null(strstr(output, "\n    1 byte: x\n"));
    run_fila(f, (const char *[]){address, "queue", "purge", "nowhere", NULL}, 1,
             "fila: purge queue \"nowhere\": queue not found\n");
    f->passed = true;
}

/* Sends frames of 1,000 messages of 20 keys, a few at a time. */
static void fill(struct fixture *f, struct peer *peer, const char *queue, unsigned first,
                 unsigned count)
{
    struct peer_message messages[1000];
    char payloads[1000][16], tenants[20][8];
    uint32_t open[8];
    unsigned sent = 0, answered = 0, frames = (count + 999) / 1000;
    struct peer_frame *frame = NULL;
    for (unsigned i = 0; i < 20; i++)
        snprintf(tenants[i], sizeof tenants[i], "t%u", i);
    for (; answered < frames; answered++) {
        for (; sent < frames && sent < answered + 8; sent++) {
            unsigned size = count - sent * 1000 < 1000 ? count - sent * 1000 : 1000;
            for (unsigned i = 0; i < size; i++) {
                unsigned number = first + sent * 1000 + i;
                snprintf(payloads[i], sizeof payloads[i], "%u", number);
                messages[i] = (struct peer_message){.queue = queue,
                                                    .tenant = tenants[number % 20],
                                                    .payload = str_from_c(payloads[i])};
            }
            MUST(f, peer_enqueue_send(peer, messages, size, &open[sent % 8], &f->err));
        }
        assert_int_equal(peer_answer(peer, open[answered % 8], PEER_PATIENCE_MS, &frame, &f->err),
                         1);
        free(frame);
    }
}

/* Takes and acks all of a queue; each number below `count` must come exactly once. */
static void drain(struct fixture *f, const char *queue, unsigned char *seen, unsigned count,
                  unsigned expected)
{
    struct peer *consumer = fixture_peer(f);
    struct peer_delivery delivery;
    struct uuid ids[500];
    uint32_t subscription, request;
    struct peer_frame *frame = NULL;
    MUST(f, peer_consume(consumer, queue, &subscription, &f->err));
    for (unsigned i = 0, size = 0; i < expected; i++) {
        fixture_receive(f, consumer, PEER_PATIENCE_MS, &delivery);
        unsigned number = (unsigned)strtoul(delivery.payload, NULL, 10);
        assert_true(number < count);
        if (seen[number]++)
            fail_msg("message %u came twice", number);
        ids[size++] = delivery.id;
        if (size < 500 && i + 1 < expected)
            continue;
        MUST(f, peer_settle_send(consumer, false, queue, ids, size, &request, &f->err));
        assert_int_equal(peer_answer(consumer, request, PEER_PATIENCE_MS, &frame, &f->err), 1);
        free(frame);
        size = 0;
    }
    fixture_close(f, consumer, true);
}

/* How long another connection of the broker waits, while an answer has not come. */
static unsigned wait_beside(struct fixture *f, struct peer *peer, uint32_t request,
                            struct peer *other, uint64_t *longest_ms, unsigned first)
{
    struct peer_frame *frame = NULL;
    unsigned sent = 0;
    int status;
    *longest_ms = 0;
    while ((status = peer_answer(peer, request, 1, &frame, &f->err)) == 0) {
        char payload[16];
        uint64_t began = time_monotonic_ms();
        snprintf(payload, sizeof payload, "%u", first + sent++);
        MUST(f, peer_enqueue(other, "q", payload, NULL, &f->err));
        uint64_t took = time_monotonic_ms() - began;
        *longest_ms = took > *longest_ms ? took : *longest_ms;
    }
    assert_int_equal(status, 1);
    assert_int_equal(frame->body[0], FIBP_OK);
    free(frame);
    return sent;
}

static void test_many(void **state)
{
    struct fixture *f = *state;
    unsigned count = option("REDRIVE_MESSAGES", 30000), room = count + 100000;
    struct peer *peer = fixture_peer(f), *other = fixture_peer(f), *third = fixture_peer(f);
    unsigned char *seen = calloc(1, room);
    uint64_t longest = 0, moved = 0;
    uint32_t request;
    assert_non_null(seen);
    MUST(f, peer_create_queue(peer, "q", 0, &f->err));
    uint64_t began = time_monotonic_ms();
    fill(f, peer, "q.dlq", 0, count);
    print_message("%u enqueued in %llu ms\n", count,
                  (unsigned long long)(time_monotonic_ms() - began));
    MUST(f, peer_redrive_send(peer, "q.dlq", 0, &request, &f->err));
    began = time_monotonic_ms();
    unsigned beside = wait_beside(f, peer, request, other, &longest, count);
    uint64_t took = time_monotonic_ms() - began;
    print_message("%u redriven in %llu ms, %llu a second; %u enqueued beside it, one took %llu ms "
                  "at most\n",
                  count, (unsigned long long)took, (unsigned long long)count * 1000 / (took + 1),
                  beside, (unsigned long long)longest);
    MUST(f, peer_redrive(peer, "q.dlq", 0, &moved, &f->err));
    assert_int_equal(moved, 0);
    fixture_wait_stats(f, third, "q.dlq", 0, 0, UINT64_MAX);
    fixture_wait_stats(f, third, "q", count + beside, 0, UINT64_MAX);
    if (count > 100000) { /* the long form ends with a purge instead */
        began = time_monotonic_ms();
        MUST(f, peer_purge_send(peer, "q", &request, &f->err));
        unsigned kept = wait_beside(f, peer, request, other, &longest, 0);
        print_message("%u purged in %llu ms; %u enqueued beside it, one took %llu ms at most\n",
                      count + beside, (unsigned long long)(time_monotonic_ms() - began), kept,
                      (unsigned long long)longest);
        assert_int_equal(broker_count(&f->broker, BROKER_WORKER), 2);
    } else {
        drain(f, "q", seen, room, count + beside);
    }
    free(seen);
    f->passed = true;
}

/* Waits until what is in both queues is `total`, exactly. While a redrive is at work a batch can be
 * seen in both, or in none. */
static void wait_sum(struct fixture *f, uint64_t total)
{
    struct framed_stats dead, queue;
    uint8_t counted[2];
    uint64_t deadline = time_monotonic_ms() + PEER_PATIENCE_MS;
    struct peer *peer = fixture_peer(f);
    do {
        MUST(f, peer_stats_counted(peer, "q.dlq", &dead, &counted[0], &f->err));
        MUST(f, peer_stats_counted(peer, "q", &queue, &counted[1], &f->err));
    } while ((counted[0] != FRAMED_COUNTED_ALL || counted[1] != FRAMED_COUNTED_ALL ||
              dead.depth + queue.depth != total) &&
             time_monotonic_ms() < deadline);
    assert_int_equal(dead.depth + queue.depth, total);
    fixture_close(f, peer, true);
}

static void kill_some(struct fixture *f, unsigned round)
{
    struct broker_process processes[BROKER_PROCESSES_MAX], victim = {.pid = 0};
    size_t alive = broker_processes(&f->broker, processes, BROKER_PROCESSES_MAX);
    if (round % 3 == 2) {
        broker_kill_all(&f->broker);
        fixture_close_all(f);
        fixture_start(f);
        return;
    }
    for (size_t i = 0; i < alive; i++)
        if (processes[i].role == (round % 3 ? BROKER_KEEPER : BROKER_WORKER))
            victim = processes[i];
    assert_int_not_equal(victim.pid, 0);
    broker_kill(&f->broker, &victim, 1);
    fixture_close_all(f);
    MUST(f, broker_wait_ready(&f->broker, BROKER_READY_MS, &f->err));
}

/* Begins a redrive and waits until it has moved something; it may be at its end then. The death of
 * the round before may be noticed only now and break it off before that: then it is asked for anew.
 */
static void redrive_some(struct fixture *f, struct peer *peer, struct peer *watcher, uint64_t limit)
{
    struct framed_stats stats;
    struct peer_frame *frame;
    uint64_t deadline = time_monotonic_ms() + PEER_PATIENCE_MS;
    uint32_t request;
    MUST(f, peer_stats(watcher, "q.dlq", &stats, &f->err));
    uint64_t before = stats.depth;
    assert_true(before > 0);
    MUST(f, peer_redrive_send(peer, "q.dlq", limit, &request, &f->err));
    while (stats.depth == before) {
        int answered = peer_answer(peer, request, 1, &frame, &f->err);
        assert_int_not_equal(answered, -1);
        if (answered) {
            uint8_t code = frame->body[0];
            assert_true(code == FIBP_OK || code == FIBP_STORAGE_ERROR);
            free(frame);
            if (code == FIBP_STORAGE_ERROR)
                MUST(f, peer_redrive_send(peer, "q.dlq", limit, &request, &f->err));
        }
        if (time_monotonic_ms() > deadline)
            fail_msg("no redrive has moved anything");
        MUST(f, peer_stats(watcher, "q.dlq", &stats, &f->err));
    }
}

/* A redrive that is broken off leaves each message in one of the queues, and the next one goes on.
 */
static void test_kills(void **state)
{
    struct fixture *f = *state;
    unsigned count = option("REDRIVE_MESSAGES", 12000), kills = option("REDRIVE_KILLS", 3);
    unsigned char *seen = calloc(1, count);
    uint64_t moved = 0;
    struct peer *peer = fixture_peer(f);
    assert_non_null(seen);
    MUST(f, peer_create_queue(peer, "q", 0, &f->err));
    MUST(f, peer_create_queue(peer, "other", 0, &f->err));
    fill(f, peer, "q.dlq", 0, count);
    for (unsigned round = 0; round < kills; round++) {
        struct peer *watcher = fixture_peer(f);
        peer = fixture_peer(f);
        redrive_some(f, peer, watcher, count / kills);
        kill_some(f, round);
        fixture_wait_service(f, "other", PEER_PATIENCE_MS);
        wait_sum(f, count);
    }
    peer = fixture_peer(f);
    do {
        MUST(f, peer_redrive(peer, "q.dlq", 0, &moved, &f->err));
    } while (moved);
    wait_sum(f, count);
    fixture_wait_stats(f, peer, "q.dlq", 0, 0, UINT64_MAX);
    drain(f, "q", seen, count, count);
    free(seen);
    f->passed = true;
}

/* A consumer of either queue that acks what it gets. */
static unsigned take_some(struct fixture *f, struct peer *consumer, unsigned char *seen)
{
    struct peer_delivery delivery;
    unsigned taken = 0;
    while (taken < 100 && peer_receive(consumer, 1, &delivery, &f->err) == 1) {
        unsigned number = (unsigned)strtoul(delivery.payload, NULL, 10);
        if (seen[number]++)
            fail_msg("message %u came twice", number);
        MUST(f, peer_ack(consumer, delivery.queue, &delivery.id, &f->err));
        taken++;
    }
    return taken;
}

static void test_amid_work(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 6000, ROUNDS = 30 };
    unsigned char *seen = calloc(1, 2 * COUNT);
    uint64_t moved = 0;
    uint32_t requests[2], subscription;
    unsigned taken = 0, made = COUNT;
    struct peer *peers[2] = {fixture_peer(f), fixture_peer(f)};
    struct peer *consumer = fixture_peer(f), *dead = fixture_peer(f), *producer = fixture_peer(f);
    assert_non_null(seen);
    MUST(f, peer_create_queue(producer, "q", 0, &f->err));
    fill(f, producer, "q.dlq", 0, COUNT);
    MUST(f, peer_consume(consumer, "q", &subscription, &f->err));
    MUST(f, peer_consume_limited(dead, "q.dlq", 300, &subscription, &f->err));
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < 2; i++) /* two at once, in different workers as a rule */
            MUST(f, peer_redrive_send(peers[i], "q.dlq", 150, &requests[i], &f->err));
        fill(f, producer, round % 2 ? "q" : "q.dlq", made, 50);
        made += 50;
        taken += take_some(f, consumer, seen) + take_some(f, dead, seen);
        for (unsigned i = 0; i < 2; i++) {
            MUST(f, peer_messages_answer(peers[i], requests[i], OPCODE_REDRIVE_RESULT, &moved,
                                         &f->err));
            assert_true(moved <= 150);
        }
    }
    do {
        MUST(f, peer_redrive(peers[0], "q.dlq", 0, &moved, &f->err));
        taken += take_some(f, dead, seen);
    } while (moved);
    uint64_t deadline = time_monotonic_ms() + PEER_PATIENCE_MS;
    while (taken < made && time_monotonic_ms() < deadline)
        taken += take_some(f, consumer, seen) + take_some(f, dead, seen);
    assert_int_equal(taken, made);
    fixture_wait_stats(f, producer, "q", 0, 0, UINT64_MAX);
    fixture_wait_stats(f, producer, "q.dlq", 0, 0, UINT64_MAX);
    free(seen);
    f->passed = true;
}

static void test_purge_during_enqueue(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 20000 };
    struct peer *peer = fixture_peer(f), *producer = fixture_peer(f);
    uint32_t request;
    uint64_t purged = 0, rest = 0;
    MUST(f, peer_create_queue(peer, "q", 0, &f->err));
    fill(f, producer, "q", 0, COUNT);
    MUST(f, peer_purge_send(peer, "q", &request, &f->err));
    fill(f, producer, "q", COUNT, COUNT);
    MUST(f, peer_messages_answer(peer, request, OPCODE_PURGE_QUEUE_RESULT, &purged, &f->err));
    assert_true(purged >= COUNT && purged <= 2 * COUNT);
    fixture_wait_stats(f, peer, "q", 2 * COUNT - purged, 0, UINT64_MAX);
    MUST(f, peer_purge(peer, "q", &rest, &f->err));
    assert_int_equal(purged + rest, 2 * COUNT);
    MUST_GIVE(f, FIBP_QUEUE_NOT_FOUND, peer_purge(peer, "nowhere", &rest, &f->err));
    f->passed = true;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_scenarios), TEST(test_fila),      TEST(test_many),
        TEST(test_kills),     TEST(test_amid_work), TEST(test_purge_during_enqueue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
