/* Everything killed at the worst moments. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/time.h"
#include "process/support/files.h"
#include "process/support/fixture.h"

#define COUNT 100u
#define GRAIN_MS 1u /* lease times travel in whole milliseconds */

/* The number in a payload "m-17". */
static unsigned number_of(const struct peer_delivery *delivery)
{
    unsigned number = (unsigned)atoi(delivery->payload + 2);
    assert_in_range(number, 0, COUNT - 1);
    return number;
}

/* Nobody waits for the answer: one sync for each ack may take longer than the leases last. The
 * request. */
static uint32_t ack_soon(struct fixture *f, struct peer *peer, const char *queue,
                         const struct uuid *id)
{
    uint32_t request;
    MUST(f, peer_settle_send(peer, false, queue, id, 1, &request, &f->err));
    return request;
}

/* Answers come in order: this one is the last. */
static void wait_acked(struct fixture *f, struct peer *peer, uint32_t request)
{
    struct peer_frame *frame = NULL;
    MUST_GIVE(f, 1, peer_answer(peer, request, PEER_PATIENCE_MS, &frame, &f->err));
    assert_int_equal(frame->opcode, OPCODE_ACK_RESULT);
    free(frame);
}

/* Receives all COUNT messages once more; each lease begins at least `timeout_ms` after its old one
 * and each attempt is `attempt`. */
static void receive_again(struct fixture *f, struct peer *peer, const uint64_t *leased_ms,
                          uint64_t timeout_ms, unsigned attempt)
{
    struct peer_delivery delivery;
    bool seen[COUNT] = {false};
    for (unsigned i = 0; i < COUNT; i++) {
        fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
        unsigned number = number_of(&delivery);
        assert_false(seen[number]);
        seen[number] = true;
        if (delivery.leased_ms + GRAIN_MS < leased_ms[number] + timeout_ms)
            fail_msg("message %u came again after %llu ms", number,
                     (unsigned long long)(delivery.leased_ms - leased_ms[number]));
        assert_int_equal(delivery.attempt, attempt);
    }
}

static void test_leases_hold_when_all_is_killed_at_once(void **state)
{
    struct fixture *f = *state;
    struct peer_delivery delivery;
    struct broker_process processes[BROKER_PROCESSES_MAX];
    uint64_t leased_ms[COUNT];
    uint32_t subscription;
    enum { TIMEOUT_MS = 3000 };
    struct peer *peer = fixture_peer(f), *consumer = fixture_peer(f);
    MUST(f, peer_create_queue(peer, "leases", TIMEOUT_MS, &f->err));
    MUST(f, peer_consume(consumer, "leases", &subscription, &f->err));
    size_t alive = broker_processes(&f->broker, processes, BROKER_PROCESSES_MAX);
    MUST(f, peer_enqueue_run(peer, "leases", "m", COUNT, NULL, &f->err));
    for (unsigned i = 0; i < COUNT; i++) {
        fixture_receive(f, consumer, PEER_PATIENCE_MS, &delivery);
        leased_ms[number_of(&delivery)] = delivery.leased_ms;
    }
    broker_kill(&f->broker, processes, alive);
    fixture_close_all(f);
    fixture_start(f);
    consumer = fixture_peer(f);
    MUST(f, peer_consume(consumer, "leases", &subscription, &f->err));
    receive_again(f, consumer, leased_ms, TIMEOUT_MS, 1);
    f->passed = true;
}

/* The same when the first delivery has just been read: what was written and not read counts too. */
static void test_leases_hold_when_killed_amid_delivery(void **state)
{
    struct fixture *f = *state;
    struct peer_delivery delivery;
    struct broker_process processes[BROKER_PROCESSES_MAX];
    uint32_t subscription;
    enum { TIMEOUT_MS = 3000 };
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_create_queue(peer, "amid", TIMEOUT_MS, &f->err));
    for (unsigned round = 0; round < 3; round++) {
        uint64_t leased_ms[COUNT] = {0};
        unsigned fresh = 0;
        uint32_t last = 0;
        MUST(f, peer_enqueue_run(peer, "amid", "m", COUNT, NULL, &f->err));
        size_t alive = broker_processes(&f->broker, processes, BROKER_PROCESSES_MAX);
        struct peer *consumer = fixture_peer(f);
        MUST(f, peer_consume(consumer, "amid", &subscription, &f->err));
        fixture_receive(f, consumer, PEER_PATIENCE_MS, &delivery);
        broker_kill(&f->broker, processes, alive);
        do { /* what is left in the socket was written before the death */
            leased_ms[number_of(&delivery)] = delivery.leased_ms;
        } while (peer_receive(consumer, 1000, &delivery, &f->err) == 1);
        fixture_close_all(f);
        fixture_start(f);
        peer = fixture_peer(f);
        MUST(f, peer_consume(peer, "amid", &subscription, &f->err));
        for (unsigned i = 0; i < COUNT; i++) {
            fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
            uint64_t before = leased_ms[number_of(&delivery)];
            if (before && delivery.leased_ms + GRAIN_MS < before + TIMEOUT_MS)
                fail_msg("message %u came again after %llu ms", number_of(&delivery),
                         (unsigned long long)(delivery.leased_ms - before));
            if (before)
                assert_int_equal(delivery.attempt, 1);
            fresh += !before;
            last = ack_soon(f, peer, "amid", &delivery.id);
        }
        wait_acked(f, peer, last);
        print_message("%u of %u messages had not been received before the kill\n", fresh, COUNT);
        MUST(f, peer_cancel(peer, subscription, &f->err));
        fixture_wait_stats(f, peer, "amid", 0, 0, 0);
    }
    f->passed = true;
}

static void test_old_leases_do_not_hit_new_messages(void **state)
{
    struct fixture *f = *state;
    struct peer_delivery delivery;
    uint64_t leased_ms[COUNT];
    uint32_t subscription, last = 0;
    enum { TIMEOUT_MS = 2000 };
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_create_queue(peer, "drained", TIMEOUT_MS, &f->err));
    MUST(f, peer_consume(peer, "drained", &subscription, &f->err));
    MUST(f, peer_enqueue_run(peer, "drained", "m", COUNT, NULL, &f->err));
    for (unsigned i = 0; i < COUNT; i++) {
        fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
        last = ack_soon(f, peer, "drained", &delivery.id);
    }
    wait_acked(f, peer, last); /* and synced */
    fixture_wait_stats(f, peer, "drained", 0, 0, 1);
    fixture_crash(f);
    peer = fixture_peer(f);
    fixture_wait_stats(f, peer, "drained", 0, 0, 0);
    MUST(f, peer_enqueue_run(peer, "drained", "m", COUNT, NULL, &f->err));
    MUST(f, peer_consume(peer, "drained", &subscription, &f->err));
    for (unsigned i = 0; i < COUNT; i++) {
        fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
        assert_int_equal(delivery.attempt, 0);
        leased_ms[number_of(&delivery)] = delivery.leased_ms;
    }
    /* Not acked: they come back after their own timeout, however old leases ran out meanwhile. */
    receive_again(f, peer, leased_ms, TIMEOUT_MS, 1);
    f->passed = true;
}

static void test_attempt_counts_through_many_crashes(void **state)
{
    struct fixture *f = *state;
    struct peer_delivery delivery;
    uint32_t subscription;
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_create_queue(peer, "crashes", 500, &f->err));
    MUST(f, peer_enqueue(peer, "crashes", "m", NULL, &f->err));
    for (uint32_t i = 0; i < 5; i++) {
        MUST(f, peer_consume(peer, "crashes", &subscription, &f->err));
        fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
        assert_int_equal(delivery.attempt, i);
        fixture_crash(f);
        peer = fixture_peer(f);
    }
    f->passed = true;
}

/* ---- a large backlog ---- */

enum { BULK_FRAME = 50, BULK_SIZE = 2000, BULK_WINDOW = 4 };

struct bulk {
    uint64_t confirmed, sent;
    uint32_t requests[BULK_WINDOW]; /* under way, oldest first */
    unsigned open;
    bool may_die; /* the connection may end meanwhile */
};

/* Meets the oldest answer; false at the end of the connection. */
static bool bulk_answer(struct fixture *f, struct peer *peer, struct bulk *bulk)
{
    struct peer_frame *frame = NULL;
    if (peer_answer(peer, bulk->requests[0], PEER_PATIENCE_MS, &frame, &f->err) != 1)
        return false;
    struct wire_reader reader;
    uint32_t count = 0;
    wire_reader_init(&reader, str_of(frame->body, frame->size));
    if (frame->opcode == OPCODE_ENQUEUE_RESULT &&
        framed_client_enqueue_result_begin(&reader, &count))
        for (uint32_t i = 0; i < count; i++) {
            struct framed_client_result result;
            assert_true(framed_client_enqueue_result_next(&reader, &result));
            bulk->confirmed += result.code == FIBP_OK;
        }
    free(frame);
    memmove(bulk->requests, bulk->requests + 1, sizeof bulk->requests - sizeof bulk->requests[0]);
    bulk->open--;
    return true;
}

/* As many messages as the broker takes, for `ms`. */
static void bulk_enqueue(struct fixture *f, struct peer *peer, struct bulk *bulk, unsigned ms)
{
    static char payload[BULK_SIZE];
    struct peer_message messages[BULK_FRAME];
    uint64_t end_ns = time_monotonic_ns() + ms * 1000000ull;
    memset(payload, 'b', sizeof payload);
    for (unsigned i = 0; i < BULK_FRAME; i++)
        messages[i] =
            (struct peer_message){.queue = "bulk", .payload = str_of(payload, sizeof payload)};
    while (time_monotonic_ns() < end_ns) {
        while (bulk->open < BULK_WINDOW) {
            bulk->sent += BULK_FRAME;
            if (peer_enqueue_send(peer, messages, BULK_FRAME, &bulk->requests[bulk->open++],
                                  &f->err) != 0) {
                assert_true(bulk->may_die);
                return;
            }
        }
        if (!bulk_answer(f, peer, bulk)) {
            assert_true(bulk->may_die);
            return;
        }
    }
}

/* What was answered before the connection ended counts, then all of it must be there. */
static void check_bulk_depth(struct fixture *f, struct peer *peer, const struct bulk *bulk,
                             unsigned round)
{
    struct framed_stats stats = {.depth = 0};
    uint64_t end_ms = time_monotonic_ms() + PEER_PATIENCE_MS; /* it counts in the background */
    do
        MUST(f, peer_stats(peer, "bulk", &stats, &f->err));
    while (stats.depth < bulk->confirmed && time_monotonic_ms() < end_ms);
    print_message("round %u: %llu confirmed, depth %llu\n", round,
                  (unsigned long long)bulk->confirmed, (unsigned long long)stats.depth);
    assert_in_range(stats.depth, bulk->confirmed, bulk->sent);
}

/* Pages are written all the time: by who needs room in the cache, and by checkpoints. */
static int setup_small_cache(void **state)
{
    return fixture_setup_with(
        state,
        &(struct broker_options){.cache_size = "8m",
                                 .store = "  checkpoint: {bytes: 2m, interval: 1s}\n"},
        true);
}

/* Everything is killed while a backlog much larger than the cache is being written: no page may be
 * half of the one state and half of the other. */
static void test_large_backlog_survives_kills(void **state)
{
    struct fixture *f = *state;
    struct bulk bulk = {.open = 0};
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_create_queue(peer, "bulk", 0, &f->err));
    for (unsigned round = 0; round < 8; round++) {
        bulk_enqueue(f, peer, &bulk, 300 + 137 * round);
        broker_kill_all(&f->broker);
        while (bulk.open && bulk_answer(f, peer, &bulk)) /* what was answered before the death */
            ;
        bulk.open = 0;
        fixture_close_all(f);
        fixture_start(f);
        peer = fixture_peer(f);
        check_bulk_depth(f, peer, &bulk, round);
    }
    f->passed = true;
}

static int setup_small_cache_faults(void **state)
{
    return fixture_setup_with(
        state,
        &(struct broker_options){.shim = "faults",
                                 .cache_size = "8m",
                                 .store = "  checkpoint: {bytes: 2m, interval: 1s}\n"},
        true);
}

/* A process is killed in the very middle of writing a page, and a new one of that page's database
 * must not take it for whole. In every other round the rest is killed too. */
static void test_kill_inside_a_page(void **state)
{
    struct fixture *f = *state;
    struct shim_control *shim = f->broker.shim;
    struct bulk bulk = {.may_die = true};
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_create_queue(peer, "bulk", 0, &f->err));
    for (unsigned round = 0; round < 8; round++) {
        uint32_t torn = atomic_load(&shim->pages_torn);
        bulk_enqueue(f, peer, &bulk, 300);
        atomic_store(&shim->tear_pages, 1);
        uint64_t end_ms = time_monotonic_ms() + PEER_PATIENCE_MS;
        while (atomic_load(&shim->pages_torn) == torn && time_monotonic_ms() < end_ms)
            bulk_enqueue(f, peer, &bulk, 100);
        if (atomic_load(&shim->pages_torn) == torn)
            fail_msg("no page was written");
        if (round % 2)
            broker_kill_all(&f->broker);
        while (bulk.open && bulk_answer(f, peer, &bulk))
            ;
        bulk.open = 0;
        fixture_close_all(f);
        if (round % 2)
            fixture_start(f);
        else
            MUST(f, broker_wait_ready(&f->broker, BROKER_READY_MS, &f->err));
        peer = fixture_peer(f);
        check_bulk_depth(f, peer, &bulk, round);
    }
    f->passed = true;
}

static void test_regions_deleted_between_stop_and_start(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_create_queue(peer, "regions", 0, &f->err));
    MUST(f, peer_enqueue_run(peer, "regions", "m", 10, NULL, &f->err));
    MUST(f, broker_stop(&f->broker, SIGTERM, &f->err));
    fixture_close_all(f);
    files_remove_tree(f->broker.regions);
    fixture_start(f);
    fixture_wait_stats(f, fixture_peer(f), "regions", 10, 0, 0);
    /* And after a crash, as when the machine was rebooted. */
    broker_kill_all(&f->broker);
    fixture_close_all(f);
    files_remove_tree(f->broker.regions);
    fixture_start(f);
    peer = fixture_peer(f);
    fixture_wait_stats(f, peer, "regions", 10, 0, 0);
    MUST(f, peer_enqueue(peer, "regions", "m", NULL, &f->err));
    f->passed = true;
}

static void test_small_tmpfs_is_refused(void **state)
{
    struct fixture *f = *state;
    char output[4096], log[2048];
    struct broker *broker = &f->broker;
    if (geteuid() != 0)
        skip(); /* mounting needs root */
    snprintf(broker->regions, sizeof broker->regions, "%.200s/small", broker->directory);
    assert_int_equal(mkdir(broker->regions, 0755), 0);
    if (mount("tmpfs", broker->regions, "tmpfs", 0, "size=4m") != 0)
        skip(); /* not allowed here */
    int status = chown(broker->regions, 65534, 65534);
    if (status == 0)
        status = broker_write_conf(broker, NULL, &f->err);
    const char *const arguments[] = {"-c", broker->conf, NULL};
    if (status == 0)
        status = broker_run(broker, "filad", arguments, output, sizeof output);
    files_tail(broker->log, log, sizeof log);
    umount2(broker->regions, MNT_DETACH);
    assert_int_equal(status, 1); /* no SIGBUS, no core */
    if (!strstr(output, "small") && !strstr(log, "small"))
        fail_msg("no reason that names the directory: %s %s", output, log);
    f->passed = true;
}

static void test_store_path_is_a_file(void **state)
{
    struct fixture *f = *state;
    char output[4096];
    MUST(f, broker_write_text(f->broker.store, "not a directory\n", &f->err));
    const char *const arguments[] = {"-c", f->broker.conf, NULL};
    assert_int_equal(broker_run(&f->broker, "filad", arguments, output, sizeof output), 1);
    assert_non_null(strstr(output, f->broker.store));
    f->passed = true;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_BROKER(test_leases_hold_when_all_is_killed_at_once),
        WITH_BROKER(test_leases_hold_when_killed_amid_delivery),
        WITH_BROKER(test_old_leases_do_not_hit_new_messages),
        WITH_BROKER(test_attempt_counts_through_many_crashes),
        cmocka_unit_test_setup_teardown(test_large_backlog_survives_kills, setup_small_cache,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_kill_inside_a_page, setup_small_cache_faults,
                                        fixture_teardown),
        WITH_BROKER(test_regions_deleted_between_stop_and_start),
        WITH_CONF(test_small_tmpfs_is_refused),
        WITH_CONF(test_store_path_is_a_file),
    };
    return cmocka_run_group_tests_name("crash", tests, NULL, NULL);
}
