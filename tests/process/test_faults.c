/* What disks, clocks and the scheduler of the kernel do to a broker: syncs that fail, a full disk,
 * a process stopped inside a commit, a wall clock that jumps. All of it by the preloaded shim. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "os/time.h"
#include "process/support/fixture.h"
#include "process/support/sockets.h"
#include "process/support/stuck.h"

#define RECOVERY_MS 60000u

struct counter_wait {
    _Atomic uint32_t *counter;
    uint32_t least;
};

static bool counter_reached(void *context)
{
    struct counter_wait *wait = context;
    return atomic_load(wait->counter) >= wait->least;
}

static void wait_counter(_Atomic uint32_t *counter, uint32_t least, const char *what)
{
    struct counter_wait wait = {counter, least};
    if (!wait_until(counter_reached, &wait, RECOVERY_MS))
        fail_msg("%s: %u instead of %u", what, atomic_load(counter), least);
}

/* The code of a single message's result; -1 when the connection ended instead. */
static int result_of(struct fixture *f, struct peer *peer, uint32_t request)
{
    struct peer_frame *frame = NULL;
    struct wire_reader reader;
    int status = peer_answer(peer, request, RECOVERY_MS, &frame, &f->err);
    if (status == 0)
        fail_msg("no answer");
    if (status < 0)
        return -1;
    struct framed_client_error error;
    struct framed_client_result result;
    uint32_t count;
    wire_reader_init(&reader, str_of(frame->body, frame->size));
    if (frame->opcode == OPCODE_ERROR && framed_client_error(&reader, &error))
        status = error.code;
    else if (frame->opcode == OPCODE_ENQUEUE_RESULT &&
             framed_client_enqueue_result_begin(&reader, &count) && count == 1 &&
             framed_client_enqueue_result_next(&reader, &result))
        status = result.code;
    else
        fail_msg("an answer that makes no sense");
    free(frame);
    return status;
}

/* ---- syncs ---- */

/* One sync fails, all later ones succeed: what that one covered is not confirmed, the broker starts
 * over by itself, and what was confirmed before and after is kept. */
static void failed_sync(struct fixture *f, const char *queue)
{
    struct shim_control *shim = f->broker.shim;
    struct peer *peer = fixture_peer(f);
    struct peer_message message = {.queue = queue, .payload = STR("covered by the failed sync")};
    uint32_t request, failed = atomic_load(&shim->syncs_failed);
    MUST(f, peer_create_queue(peer, queue, 0, &f->err));
    MUST(f, peer_enqueue(peer, queue, "before", NULL, &f->err));

    /* The sync that is to fail waits until the request that it covers is certainly committed. */
    atomic_store(&shim->sync_gate, 1);
    MUST(f, peer_enqueue_send(peer, &message, 1, &request, &f->err));
    wait_counter(&shim->sync_waiting, 1, "syncs that wait");
    struct peer_frame *frame = NULL;
    MUST_GIVE(f, 0, peer_answer(peer, request, 300, &frame, &f->err));
    atomic_store(&shim->sync_failures, 1);
    atomic_store(&shim->sync_gate, 0);
    wait_counter(&shim->syncs_failed, failed + 1, "syncs that failed");
    int code = result_of(f, peer, request);
    if (code == FIBP_OK)
        fail_msg("a message was confirmed although its sync failed");
    if (code != -1)
        assert_int_equal(code, FIBP_STORAGE_ERROR);
    atomic_store(&shim->sync_failures, 0);

    fixture_wait_service(f, queue, RECOVERY_MS);
    fixture_close_all(f);
    peer = fixture_peer(f);
    struct framed_stats stats;
    MUST(f, peer_stats(peer, queue, &stats, &f->err));
    /* "before", "is it back", and perhaps the one of unknown fate. */
    assert_in_range(stats.depth, 2, 3);
    fixture_crash(f);
    fixture_wait_stats(f, fixture_peer(f), queue, stats.depth, 0, 0);
    fixture_close_all(f);
}

static void test_failed_sync_confirms_nothing(void **state)
{
    struct fixture *f = *state;
    failed_sync(f, "once");
    failed_sync(f, "twice");
    f->passed = true;
}

/* An answer waits for its sync, and reading is not held up by one that takes long. */
static void test_slow_sync_holds_answers_only(void **state)
{
    struct fixture *f = *state;
    struct shim_control *shim = f->broker.shim;
    struct peer *peer = fixture_peer(f), *other = fixture_peer(f);
    struct peer_message message = {.queue = "slow", .payload = STR("m")};
    struct peer_frame *frame = NULL;
    uint32_t request;
    MUST(f, peer_create_queue(peer, "slow", 0, &f->err));
    atomic_store(&shim->sync_gate, 1);
    MUST(f, peer_enqueue_send(peer, &message, 1, &request, &f->err));
    wait_counter(&shim->sync_waiting, 1, "syncs that wait");
    MUST(f, peer_ping(peer, &f->err));
    MUST(f, peer_ping(other, &f->err));
    MUST_GIVE(f, 0, peer_answer(peer, request, 500, &frame, &f->err));
    atomic_store(&shim->sync_gate, 0);
    assert_int_equal(result_of(f, peer, request), FIBP_OK);
    f->passed = true;
}

/* ---- a process stopped inside a commit ---- */

static char process_state(pid_t pid)
{
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
        state = 0;
    fclose(file);
    return state;
}

static bool is_gone(pid_t pid)
{
    char state = process_state(pid);
    return state == 0 || state == 'Z' || state == 'X';
}

static bool has_stopped(void *context)
{
    struct fixture *f = context;
    pid_t pid = atomic_load(&f->broker.shim->stopped_pid);
    return pid != 0 && process_state(pid) == 'T';
}

static int setup_three_workers(void **state)
{
    return fixture_setup_with(state, &(struct broker_options){.workers = 3, .shim = "faults"},
                              true);
}

/* While a process that had the old environment open lives, nothing is confirmed from a new one. */
static void test_recovery_waits_for_a_stopped_worker(void **state)
{
    struct fixture *f = *state;
    struct shim_control *shim = f->broker.shim;
    struct peer *admin = fixture_peer(f), *first = sockets_open(f, 0);
    pid_t stopped = sockets_worker(f, first);
    struct peer *second = sockets_open(f, stopped);
    struct peer_message message = {.queue = "stopped", .payload = STR("m")};
    uint32_t request;
    MUST(f, peer_create_queue(admin, "stopped", 0, &f->err));
    /* The queue has a file: the next sync is one of the log. */
    MUST(f, peer_enqueue(admin, "stopped", "before", NULL, &f->err));
    atomic_store(&shim->stop_not, broker_find(&f->broker, BROKER_KEEPER));
    atomic_store(&shim->sync_stop, 1);
    (void)stuck_send(f, first, "stopped");
    if (!wait_until(has_stopped, f, RECOVERY_MS))
        fail_msg("no worker stopped itself in a sync");
    assert_int_equal(atomic_load(&shim->stopped_pid), stopped);
    /* Another one waits for that sync, and dies. */
    stuck_kill_inside(f, second, sockets_worker(f, second), "stopped");

    uint64_t end_ns = time_monotonic_ns() + 2 * RECOVERY_MS * 1000000ull;
    for (bool served = false; !served;) {
        bool gone = is_gone(stopped);
        struct peer *peer = peer_open(f->broker.unix_address, &f->err);
        /* The connection may be one of the stopped worker: no long wait. */
        if (peer && peer_enqueue_send(peer, &message, 1, &request, &f->err) == 0) {
            struct peer_frame *frame = NULL;
            served = peer_answer(peer, request, 500, &frame, &f->err) == 1 &&
                     frame->opcode == OPCODE_ENQUEUE_RESULT && frame->size > 5 &&
                     frame->body[4] == FIBP_OK;
            free(frame);
        }
        peer_close(peer, false);
        if (served && !gone && !is_gone(stopped))
            fail_msg("a message was confirmed while the stopped worker %d lives", (int)stopped);
        if (time_monotonic_ns() > end_ns)
            fail_msg("no service after a worker stopped and another one died");
    }
    peer_close(first, false);
    peer_close(second, false);
    f->passed = true;
}

/* ---- the wall clock ---- */

static void step_clock(struct fixture *f, int64_t seconds)
{
    atomic_store(&f->broker.shim->clock_offset_s, seconds);
}

/* A lease of a running broker is measured by the monotonic clock. */
static void lease_through_step(struct fixture *f, int64_t seconds)
{
    enum { TIMEOUT_MS = 3000 };
    struct peer *peer = fixture_peer(f);
    struct peer_delivery first, second;
    uint32_t subscription;
    char queue[32];
    snprintf(queue, sizeof queue, "step%d", (int)seconds);
    MUST(f, peer_create_queue(peer, queue, TIMEOUT_MS, &f->err));
    MUST(f, peer_consume(peer, queue, &subscription, &f->err));
    uint64_t before_ns = time_monotonic_ns();
    MUST(f, peer_enqueue(peer, queue, "m", NULL, &f->err));
    fixture_receive(f, peer, PEER_PATIENCE_MS, &first);
    step_clock(f, seconds);
    MUST(f, peer_enqueue(peer, queue, "n", NULL, &f->err));
    fixture_receive(f, peer, PEER_PATIENCE_MS, &second);
    assert_string_equal(second.payload, "n"); /* not "m" at once */
    fixture_receive(f, peer, PEER_PATIENCE_MS, &second);
    uint64_t after_ms = (second.time_ns - before_ns) / 1000000u;
    assert_string_equal(second.payload, "m");
    assert_int_equal(second.attempt, 1);
    if (after_ms < TIMEOUT_MS)
        fail_msg("delivered again after %llu ms", (unsigned long long)after_ms);
    fixture_close(f, peer, true);
}

static void test_clock_steps(void **state)
{
    struct fixture *f = *state;
    lease_through_step(f, 3600);
    lease_through_step(f, -3600);
    f->passed = true;
}

/* A lease from the store never lasts longer than its timeout from the start, whatever the clock
 * says: and a broker starts with any clock. */
static void lease_through_crash_and_step(struct fixture *f, int64_t seconds)
{
    enum { TIMEOUT_MS = 3000 };
    struct peer *peer = fixture_peer(f);
    struct peer_delivery first, second;
    uint32_t subscription;
    char queue[32];
    snprintf(queue, sizeof queue, "crash%d", (int)seconds);
    step_clock(f, 0);
    MUST(f, peer_create_queue(peer, queue, TIMEOUT_MS, &f->err));
    MUST(f, peer_consume(peer, queue, &subscription, &f->err));
    MUST(f, peer_enqueue(peer, queue, "m", NULL, &f->err));
    fixture_receive(f, peer, PEER_PATIENCE_MS, &first);
    broker_kill_all(&f->broker);
    fixture_close_all(f);
    step_clock(f, seconds);
    fixture_start(f);
    uint64_t started_ns = time_monotonic_ns();
    peer = fixture_peer(f);
    MUST(f, peer_consume(peer, queue, &subscription, &f->err));
    fixture_receive(f, peer, PEER_PATIENCE_MS, &second);
    assert_memory_equal(second.id.bytes, first.id.bytes, UUID_SIZE);
    assert_int_equal(second.attempt, 1);
    uint64_t after_ms = (second.time_ns - started_ns) / 1000000u;
    assert_in_range(after_ms, 0, TIMEOUT_MS + 10000); /* an hour would be wrong */
    MUST(f, peer_ack(peer, queue, &second.id, &f->err));
    fixture_wait_stats(f, peer, queue, 0, 0, 1);
    fixture_close_all(f);
}

static void test_clock_steps_across_a_crash(void **state)
{
    struct fixture *f = *state;
    lease_through_crash_and_step(f, 3600);
    lease_through_crash_and_step(f, -3600);
    f->passed = true;
}

#define WITH_SHIM(test)                                                                            \
    cmocka_unit_test_setup_teardown(test, fixture_setup_faults, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SHIM(test_failed_sync_confirms_nothing),
        WITH_SHIM(test_slow_sync_holds_answers_only),
        cmocka_unit_test_setup_teardown(test_recovery_waits_for_a_stopped_worker,
                                        setup_three_workers, fixture_teardown),
        WITH_SHIM(test_clock_steps),
        WITH_SHIM(test_clock_steps_across_a_crash),
    };
    return cmocka_run_group_tests_name("faults", tests, NULL, NULL);
}
