/* Messages of many megabytes through the daemon: whole, whatever is killed, and nothing stays
 * behind.
 *
 * LARGE_CONSUMERS=N (at least 30) adds N consumers that do not read, each with a message of 10 MiB.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bytes.h"
#include "os/time.h"
#include "process/support/fixture.h"

#define SIZE (10u << 20)
#define MIB (1u << 20)

static uint8_t byte_of(uint32_t number, size_t at)
{
    return (uint8_t)((number * 2654435761u + (uint32_t)at * 40503u + (uint32_t)(at >> 16)) >> 8);
}

/* A payload that tells its number at every byte; free() it. */
static uint8_t *payload_of(uint32_t number, size_t size)
{
    uint8_t *payload = malloc(size);
    bytes_put_u32(payload, number);
    for (size_t i = 4; i < size; i++)
        payload[i] = byte_of(number, i);
    return payload;
}

static uint32_t send_large(struct fixture *f, struct peer *peer, uint32_t number, size_t size)
{
    uint32_t request = 0;
    uint8_t *payload = payload_of(number, size);
    struct peer_message message = {.queue = "large", .payload = str_of(payload, size)};
    MUST(f, peer_enqueue_send(peer, &message, 1, &request, &f->err));
    free(payload);
    return request;
}

/* The code of the item's result. */
static uint8_t answer_of(struct fixture *f, struct peer *peer, uint32_t request)
{
    struct peer_frame *frame = NULL;
    MUST_GIVE(f, 1, peer_answer(peer, request, PEER_PATIENCE_MS, &frame, &f->err));
    assert_int_equal(frame->opcode, OPCODE_ENQUEUE_RESULT);
    uint8_t code = frame->body[4];
    free(frame);
    return code;
}

struct large_delivery {
    struct uuid id;
    uint32_t number, attempt;
};

/* The next delivery, of one message, every byte of which is right. False: none in time. */
static bool receive_large(struct fixture *f, struct peer *peer, unsigned timeout_ms, size_t size,
                          struct large_delivery *out)
{
    struct peer_frame *frame = NULL;
    struct wire_reader reader;
    struct framed_client_delivery delivery;
    uint32_t count = 0;
    int got = peer_delivery_frame(peer, timeout_ms, &frame, &f->err);
    if (got == 0)
        return false;
    assert_int_equal(got, 1);
    wire_reader_init(&reader, str_of(frame->body, frame->size));
    assert_true(framed_client_delivery_begin(&reader, &count));
    assert_int_equal(count, 1);
    assert_true(framed_client_delivery_next(&reader, &delivery));
    assert_int_equal(delivery.payload.size, size);
    out->number = bytes_get_u32(delivery.payload.data);
    out->attempt = delivery.attempt;
    for (size_t i = 4; i < size; i++)
        if (delivery.payload.data[i] != byte_of(out->number, i))
            fail_msg("byte %zu of message %u is wrong", i, out->number);
    assert_true(uuid_parse(delivery.message_id, &out->id));
    free(frame);
    return true;
}

/* Bytes of all queues' files. */
static uint64_t queue_bytes(const struct broker *broker)
{
    char path[BROKER_PATH_SIZE + 300];
    uint64_t sum = 0;
    snprintf(path, sizeof(path), "%s/queues", broker->store);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        struct stat info;
        snprintf(path, sizeof(path), "%s/queues/%s", broker->store, entry->d_name);
        if (stat(path, &info) == 0 && S_ISREG(info.st_mode))
            sum += (uint64_t)info.st_size;
    }
    closedir(dir);
    return sum;
}

static bool is_small_again(void *context)
{
    return queue_bytes(context) < MIB;
}

static void test_ten_megabytes_there_and_gone(void **state)
{
    struct fixture *f = *state;
    struct large_delivery delivery;
    uint32_t subscription;
    enum { COUNT = 5 };
    struct peer *peer = fixture_peer(f), *consumer = fixture_peer(f);
    MUST(f, peer_create_queue(peer, "large", 60000, &f->err));
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(answer_of(f, peer, send_large(f, peer, i, SIZE)), FIBP_OK);
    MUST(f, peer_consume(consumer, "large", &subscription, &f->err));
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_true(receive_large(f, consumer, PEER_PATIENCE_MS, SIZE, &delivery));
        assert_int_equal(delivery.number, i);
        MUST(f, i % 2 ? peer_nack(consumer, "large", &delivery.id, &f->err)
                      : peer_ack(consumer, "large", &delivery.id, &f->err));
    }
    for (uint32_t i = 1; i < COUNT; i += 2) {
        assert_true(receive_large(f, consumer, PEER_PATIENCE_MS, SIZE, &delivery));
        assert_int_equal(delivery.number, i);
        assert_int_equal(delivery.attempt, 1);
        MUST(f, peer_ack(consumer, "large", &delivery.id, &f->err));
    }
    fixture_wait_stats(f, peer, "large", 0, 0, 1);
    assert_true(wait_until(is_small_again, &f->broker, 30000));
    f->passed = true;
}

/* Everything is killed while large messages are on their way in and out. What was confirmed is
 * there once and whole, what was acked does not come back, and the room of what was half written or
 * half removed is given back. */
static void test_killed_on_the_way(void **state)
{
    struct fixture *f = *state;
    struct broker_process processes[BROKER_PROCESSES_MAX];
    struct large_delivery delivery;
    uint32_t subscription, number = 0;
    unsigned seed = 4711;
    enum { ROUNDS = 6, TIMEOUT_MS = 5000 };
    bool confirmed[64] = {false}, acked[64] = {false}, doubtful[64] = {false};
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_create_queue(peer, "large", TIMEOUT_MS, &f->err));
    for (unsigned round = 0; round < ROUNDS; round++) {
        size_t alive = broker_processes(&f->broker, processes, BROKER_PROCESSES_MAX);
        struct peer *consumer = fixture_peer(f);
        for (unsigned i = 0; i < 2; i++, number++) {
            uint32_t request = send_large(f, peer, number, SIZE);
            confirmed[number] = answer_of(f, peer, request) == FIBP_OK;
            assert_true(confirmed[number]);
        }
        (void)send_large(f, peer, number++, SIZE);
        MUST(f, peer_consume(consumer, "large", &subscription, &f->err));
        if (receive_large(f, consumer, PEER_PATIENCE_MS, SIZE, &delivery)) {
            acked[delivery.number] = peer_ack(consumer, "large", &delivery.id, &f->err) == 0;
            doubtful[delivery.number] = true;
        }
        if (receive_large(f, consumer, PEER_PATIENCE_MS, SIZE, &delivery)) {
            uint32_t request;
            doubtful[delivery.number] = true;
            MUST(f, peer_settle_send(consumer, false, "large", &delivery.id, 1, &request, &f->err));
        }
        usleep((useconds_t)(rand_r(&seed) % 60000));
        broker_kill(&f->broker, processes, alive);
        fixture_close_all(f);
        fixture_start(f);
        peer = fixture_peer(f);
    }
    bool seen[64] = {false};
    MUST(f, peer_consume(peer, "large", &subscription, &f->err));
    struct framed_stats stats;
    for (;;) {
        MUST(f, peer_stats(peer, "large", &stats, &f->err));
        if (stats.depth == 0)
            break;
        assert_true(receive_large(f, peer, TIMEOUT_MS + PEER_PATIENCE_MS, SIZE, &delivery));
        assert_true(delivery.number < number && !seen[delivery.number]);
        assert_false(acked[delivery.number]);
        /* On a slow machine its lease may have ended: then it comes again. */
        seen[delivery.number] = peer_ack(peer, "large", &delivery.id, &f->err) == 0;
    }
    for (uint32_t i = 0; i < number; i++)
        if (confirmed[i] && !acked[i] && !doubtful[i] && !seen[i])
            fail_msg("message %u was confirmed and is gone", i);
    assert_true(wait_until(is_small_again, &f->broker, 30000));
    f->passed = true;
}

/* KiB of a process that are its own. */
static uint64_t own_memory(pid_t pid)
{
    char path[64], line[256];
    uint64_t kib = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file))
        if (strncmp(line, "RssAnon:", 8) == 0)
            kib = strtoull(line + 8, NULL, 10);
    fclose(file);
    return kib;
}

struct depth {
    struct fixture *fixture;
    struct peer *peer;
    uint64_t leased, since_ms;
};

/* No more messages were leased for a second. */
static bool is_paused(void *context)
{
    struct depth *depth = context;
    struct framed_stats stats;
    MUST(depth->fixture, peer_stats(depth->peer, "large", &stats, &depth->fixture->err));
    if (stats.in_flight != depth->leased || depth->since_ms == 0)
        depth->since_ms = time_monotonic_ms();
    depth->leased = stats.in_flight;
    return time_monotonic_ms() - depth->since_ms > 1000;
}

static void test_many_that_do_not_read(void **state)
{
    struct fixture *f = *state;
    const char *wanted = getenv("LARGE_CONSUMERS");
    unsigned count = wanted ? (unsigned)atoi(wanted) : 0;
    struct large_delivery delivery;
    uint32_t subscription;
    if (count < 30) {
        f->passed = true;
        skip();
    }
    struct peer *peer = fixture_peer(f), **stalled = calloc(count, sizeof(*stalled));
    MUST(f, peer_create_queue(peer, "large", 600000, &f->err));
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(answer_of(f, peer, send_large(f, peer, i, SIZE)), FIBP_OK);
    for (unsigned i = 0; i < count; i++) {
        stalled[i] = peer_open(f->broker.unix_address, &f->err);
        assert_non_null(stalled[i]);
        MUST(f, peer_consume(stalled[i], "large", &subscription, &f->err));
    }
    struct depth depth = {.fixture = f, .peer = peer};
    assert_true(wait_until(is_paused, &depth, 60000));
    uint64_t memory = own_memory(broker_find(&f->broker, BROKER_WORKER)) >> 10;
    print_message("%u consumers that do not read: %llu messages on their way, %llu MiB\n", count,
                  (unsigned long long)depth.leased, (unsigned long long)memory);
    assert_true(depth.leased < count && memory < 256 + 100);
    for (unsigned i = 0; i < count; i++)
        peer_close(stalled[i], false);
    free(stalled);
    MUST(f, peer_consume(peer, "large", &subscription, &f->err));
    /* What had been sent in part waits for its timeout. */
    for (uint64_t i = depth.leased; i < count; i++)
        assert_true(receive_large(f, peer, PEER_PATIENCE_MS, SIZE, &delivery));
    f->passed = true;
}

static int setup_one_worker(void **state)
{
    static const struct broker_options options = {.workers = 1, .cache_size = "64m"};
    return fixture_setup_with(state, &options, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_BROKER(test_ten_megabytes_there_and_gone),
        WITH_BROKER(test_killed_on_the_way),
        cmocka_unit_test_setup_teardown(test_many_that_do_not_read, setup_one_worker,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests_name("large", tests, NULL, NULL);
}
