/* Back-pressure: consumers that do not read or do not ack, producers that outrun the store, and a
 * zone that is full. Everything pauses, nothing grows, and all goes on by itself.
 * FILAD_PRODUCERS=N sets the number of producers of large frames (4). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "fibp/framed_client.h"
#include "os/time.h"
#include "process/support/crowd.h"
#include "process/support/fixture.h"
#include "process/support/measure.h"
#include "process/support/sockets.h"
#include "process/support/stuck.h"

#define TOTAL(name) offsetof(struct crowd_totals, name)
#define MEGABYTE (1u << 20)
#define STEADY_MS 500u /* what does not change for so long has stopped */

/* Memory counts only where no sanitizer keeps what is freed. */
#ifdef __SANITIZE_ADDRESS__
#define MEMORY_COUNTS false
#else
#define MEMORY_COUNTS true
#endif

static struct crowd *open_crowd(struct fixture *f, size_t count)
{
    const char *address = f->broker.unix_address; /* its sockets hold little */
    struct crowd *crowd = crowd_create(count);
    MUST(f, crowd_open(crowd, count, &address, 1, &f->err));
    for (size_t i = 0; i < count; i++)
        assert_int_equal(crowd_handshake(crowd, i), 0);
    assert_true(crowd_wait_total(crowd, TOTAL(handshakes), count, PEER_PATIENCE_MS));
    return crowd;
}

static void consume(struct crowd *crowd, size_t index, uint32_t request, const char *queue)
{
    uint64_t before = crowd_totals(crowd).consumes;
    assert_int_equal(crowd_consume(crowd, index, request, queue), 0);
    assert_true(crowd_wait_total(crowd, TOTAL(consumes), before + 1, PEER_PATIENCE_MS));
}

/* `count` messages of `size` bytes, confirmed. */
static void fill_queue(struct fixture *f, struct peer *peer, const char *queue, unsigned count,
                       size_t size)
{
    struct peer_message messages[100];
    uint8_t *payload = calloc(1, size);
    for (unsigned i = 0; i < 100; i++)
        messages[i] = (struct peer_message){.queue = queue, .payload = str_of(payload, size)};
    for (unsigned done = 0, now; done < count; done += now) {
        struct peer_frame *frame = NULL;
        uint32_t request;
        now = count - done < 100 ? count - done : 100;
        MUST(f, peer_enqueue_send(peer, messages, now, &request, &f->err));
        MUST_GIVE(f, 1, peer_answer(peer, request, PEER_PATIENCE_MS, &frame, &f->err));
        assert_int_equal(frame->opcode, OPCODE_ENQUEUE_RESULT);
        free(frame);
    }
    free(payload);
}

static uint64_t in_flight(struct fixture *f, struct peer *peer, const char *queue)
{
    struct framed_stats stats;
    MUST(f, peer_stats(peer, queue, &stats, &f->err));
    return stats.in_flight;
}

static void must_not_grow(uint64_t before, uint64_t after, uint64_t most, const char *what)
{
    print_message("%s: memory of the workers %+lld KiB\n", what,
                  ((long long)after - (long long)before) / 1024);
    if (MEMORY_COUNTS)
        assert_in_range(after, 0, before + most);
}

/* --- a consumer that does not read --- */

#define WINDOW 65536u
#define BODY 1000u
/* What one that does not read may hold: the window, a delivery, and what its socket takes. */
#define HELD_MAX ((WINDOW + 32 * (BODY + 200) + 300000) / BODY)
#define HELD_MIN (WINDOW / (BODY + 200))

static int setup_window(void **state)
{
    return fixture_setup_with(
        state,
        &(struct broker_options){.extra =
                                     "fibp: {delivery_window: 64k, keepalive_interval: 10m}\n"},
        true);
}

struct held {
    struct fixture *f;
    struct peer *peer;
    const char *(*queue)(unsigned index);
    unsigned queues;
    uint64_t least, now;
};

/* What is delivered does not change any more: the workers rest, and did when it was as much. */
static bool is_steady(void *context)
{
    struct held *held = context;
    uint64_t sum = 0, before = held->now;
    if (!measure_role_is_asleep(&held->f->broker, BROKER_WORKER))
        return false;
    for (unsigned i = 0; i < held->queues; i++)
        sum += in_flight(held->f, held->peer, held->queue(i));
    held->now = sum;
    return sum == before && sum >= held->least;
}

static const char *only_queue(unsigned index)
{
    (void)index;
    return "q";
}

static void test_window_pauses_one_consumer(void **state)
{
    struct fixture *f = *state;
    const unsigned count = 10000;
    struct peer *peer = fixture_peer(f);
    struct crowd *crowd = open_crowd(f, 3);
    MUST(f, peer_create_queue(peer, "q", 600000, &f->err));
    consume(crowd, 0, 1, "q");
    crowd_set_deaf(crowd, 0, true);
    fill_queue(f, peer, "q", 100, BODY);
    uint64_t memory = measure_role_memory(&f->broker, BROKER_WORKER);
    fill_queue(f, peer, "q", count - 100, BODY);
    struct held held = {.f = f, .peer = peer, .queue = only_queue, .queues = 1, .least = HELD_MIN};
    assert_true(wait_until(is_steady, &held, PEER_PATIENCE_MS));
    print_message("%llu messages on their way\n", (unsigned long long)held.now);
    assert_in_range(held.now, HELD_MIN, HELD_MAX);
    must_not_grow(memory, measure_role_memory(&f->broker, BROKER_WORKER), 8 * MEGABYTE, "paused");

    /* The others take all the rest. */
    crowd_set_acking(crowd, true);
    consume(crowd, 1, 1, "q");
    consume(crowd, 2, 1, "q");
    assert_true(crowd_wait_total(crowd, TOTAL(messages), count - held.now, PEER_PATIENCE_MS));
    fixture_wait_crowd_stats(f, crowd, peer, "q", held.now, held.now, 3);
    assert_int_equal(crowd_member(crowd, 0)->messages, 0);

    /* It reads again: what it was given, and its share of what comes now. */
    crowd_set_deaf(crowd, 0, false);
    assert_true(crowd_wait_total(crowd, TOTAL(messages), count, PEER_PATIENCE_MS));
    assert_int_equal(crowd_member(crowd, 0)->messages, held.now);
    fill_queue(f, peer, "q", 3000, BODY);
    assert_true(crowd_wait_total(crowd, TOTAL(messages), count + 3000, PEER_PATIENCE_MS));
    assert_true(crowd_member(crowd, 0)->messages > held.now + 100);
    fixture_wait_crowd_stats(f, crowd, peer, "q", 0, 0, 3);
    must_not_grow(memory, measure_role_memory(&f->broker, BROKER_WORKER), 8 * MEGABYTE, "after it");
    crowd_destroy(crowd);
    f->passed = true;
}

static const char *numbered_queue(unsigned index)
{
    static char name[16];
    snprintf(name, sizeof name, "q%u", index);
    return name;
}

/* The window is the connection's, however many subscriptions it has. */
static void test_window_of_many_subscriptions(void **state)
{
    enum { QUEUES = 100, EACH = 50 };
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct crowd *crowd = open_crowd(f, 1);
    for (unsigned i = 0; i < QUEUES; i++) {
        MUST(f, peer_create_queue(peer, numbered_queue(i), 600000, &f->err));
        consume(crowd, 0, i + 1, numbered_queue(i));
    }
    crowd_set_deaf(crowd, 0, true);
    uint64_t memory = measure_role_memory(&f->broker, BROKER_WORKER);
    for (unsigned i = 0; i < QUEUES; i++)
        fill_queue(f, peer, numbered_queue(i), EACH, BODY);
    struct held held = {
        .f = f, .peer = peer, .queue = numbered_queue, .queues = QUEUES, .least = HELD_MIN};
    assert_true(wait_until(is_steady, &held, PEER_PATIENCE_MS));
    print_message("%llu messages on their way\n", (unsigned long long)held.now);
    assert_in_range(held.now, HELD_MIN, HELD_MAX);
    must_not_grow(memory, measure_role_memory(&f->broker, BROKER_WORKER), 8 * MEGABYTE, "paused");
    crowd_set_acking(crowd, true);
    crowd_set_deaf(crowd, 0, false);
    assert_true(crowd_wait_total(crowd, TOTAL(messages), QUEUES * EACH, PEER_PATIENCE_MS));
    for (unsigned i = 0; i < QUEUES; i++)
        fixture_wait_crowd_stats(f, crowd, peer, numbered_queue(i), 0, 0, 1);
    crowd_destroy(crowd);
    f->passed = true;
}

/* Consumers of a worker take turns, whether one of them reads or not. */
static int setup_one_worker(void **state)
{
    return fixture_setup_with(
        state,
        &(struct broker_options){
            .workers = 1, .extra = "fibp: {delivery_window: 64k, keepalive_interval: 10m}\n"},
        true);
}

static void test_slow_consumer_starves_nobody(void **state)
{
    enum { CONSUMERS = 8, COUNT = 8000 };
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct crowd *crowd = open_crowd(f, CONSUMERS);
    MUST(f, peer_create_queue(peer, "q", 600000, &f->err));
    crowd_set_acking(crowd, true);
    for (size_t i = 0; i < CONSUMERS; i++)
        consume(crowd, i, 1, "q");
    crowd_set_deaf(crowd, 3, true);
    fill_queue(f, peer, "q", COUNT, BODY);
    struct held held = {.f = f, .peer = peer, .queue = only_queue, .queues = 1, .least = HELD_MIN};
    assert_true(crowd_wait_total(crowd, TOTAL(messages), COUNT - HELD_MAX, PEER_PATIENCE_MS));
    assert_true(wait_until(is_steady, &held, PEER_PATIENCE_MS));
    crowd_wait_total(crowd, TOTAL(messages), UINT64_MAX, 1); /* what came meanwhile */
    for (size_t i = 0; i < CONSUMERS; i++)
        if (i != 3)
            assert_in_range(crowd_member(crowd, i)->messages, COUNT / CONSUMERS * 3 / 4,
                            COUNT / CONSUMERS * 3 / 2);
    crowd_set_deaf(crowd, 3, false);
    assert_true(crowd_wait_total(crowd, TOTAL(messages), COUNT, PEER_PATIENCE_MS));
    fixture_wait_crowd_stats(f, crowd, peer, "q", 0, 0, CONSUMERS);
    crowd_destroy(crowd);
    f->passed = true;
}

/* --- a consumer that does not ack --- */

static int setup_unacked(void **state)
{
    return fixture_setup_with(
        state, &(struct broker_options){.extra = "scheduler: {max_unacked: 5}\n"}, true);
}

static void test_max_unacked(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct crowd *crowd = open_crowd(f, 3);
    MUST(f, peer_create_queue(peer, "q", 600000, &f->err));
    for (size_t i = 0; i < 3; i++)
        consume(crowd, i, 1, "q");
    fill_queue(f, peer, "q", 100, 10);
    assert_true(crowd_wait_total(crowd, TOTAL(messages), 15, PEER_PATIENCE_MS));
    assert_false(crowd_wait_total(crowd, TOTAL(messages), 16, STEADY_MS));
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(crowd_member(crowd, i)->messages, 5);
    /* Each ack gives its consumer one more. */
    for (uint64_t round = 0; round < 5; round++) {
        struct uuid last = crowd_member(crowd, 1)->last;
        assert_int_equal(crowd_ack(crowd, 1, "q", &last), 0);
        assert_true(crowd_wait_total(crowd, TOTAL(messages), 16 + round, PEER_PATIENCE_MS));
        assert_int_equal(crowd_member(crowd, 1)->messages, 6 + round);
        assert_int_equal(in_flight(f, peer, "q"), 15);
    }
    assert_false(crowd_wait_total(crowd, TOTAL(messages), 21, STEADY_MS));
    /* One that leaves takes its leases along; the others are not touched by that. */
    crowd_close(crowd, 1, false);
    assert_false(crowd_wait_total(crowd, TOTAL(messages), 21, STEADY_MS));
    crowd_destroy(crowd);
    f->passed = true;
}

/* Leases that expire make room as acks do. */
static void test_max_unacked_and_expiry(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct crowd *crowd = open_crowd(f, 1);
    MUST(f, peer_create_queue(peer, "q", 500, &f->err));
    consume(crowd, 0, 1, "q");
    fill_queue(f, peer, "q", 20, 10);
    for (uint64_t wanted = 5; wanted <= 25; wanted += 5) {
        assert_true(crowd_wait_total(crowd, TOTAL(messages), wanted, PEER_PATIENCE_MS));
        assert_in_range(in_flight(f, peer, "q"), 0, 5);
    }
    assert_int_equal(crowd_totals(crowd).open, 1);
    crowd_destroy(crowd);
    f->passed = true;
}

/* --- producers that outrun the store --- */

struct producer {
    size_t member;
    size_t offset; /* of the frame that is being sent */
    uint64_t frames, bytes;
};

static void frame_of(struct buf *frame, uint32_t messages, size_t size)
{
    uint8_t *payload = calloc(1, size);
    struct framed_client_message message = {.queue = STR("q"), .payload = str_of(payload, size)};
    buf_init(frame, 0);
    size_t start = framed_client_batch_begin(frame, OPCODE_ENQUEUE, 1, messages);
    for (uint32_t i = 0; i < messages; i++)
        framed_client_enqueue_add(frame, &message);
    assert_int_equal(frame_end(frame, start, FRAME_LENGTH_MAX), 0);
    free(payload);
}

/* Sends what the socket takes, up to the end of frame number `frames`. True when something was. */
static bool push(const struct crowd *crowd, struct producer *producer, const struct buf *frame,
                 uint64_t frames)
{
    bool progress = false;
    while (producer->frames < frames) {
        ssize_t sent = send(crowd_fd(crowd, producer->member), frame->data + producer->offset,
                            frame->size - producer->offset, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) {
            assert_int_equal(errno, EAGAIN);
            return progress;
        }
        progress = true;
        producer->bytes += (uint64_t)sent;
        producer->offset += (size_t)sent;
        if (producer->offset == frame->size) {
            producer->offset = 0;
            producer->frames++;
        }
    }
    return progress;
}

static bool push_all(const struct crowd *crowd, struct producer *producers, size_t count,
                     const struct buf *frame, uint64_t more)
{
    bool progress = false;
    for (size_t i = 0; i < count; i++) {
        uint64_t frames = more ? UINT64_MAX : producers[i].frames + (producers[i].offset > 0);
        progress = push(crowd, &producers[i], frame, frames) || progress;
    }
    return progress;
}

/* `count` producers send as much as they can while no sync of the log ends. */
static void outrun(struct fixture *f, size_t count, uint32_t messages, size_t size,
                   uint64_t bytes_max, uint64_t memory_max)
{
    struct shim_control *shim = f->broker.shim;
    struct peer *peer = fixture_peer(f);
    struct crowd *crowd = open_crowd(f, count);
    struct producer *producers = calloc(count, sizeof *producers);
    struct buf frame;
    uint64_t frames = 0, most = 0, last_ms = time_monotonic_ms();
    frame_of(&frame, messages, size);
    for (size_t i = 0; i < count; i++)
        producers[i].member = i;
    MUST(f, peer_create_queue(peer, "q", 0, &f->err));
    uint64_t memory = measure_role_memory(&f->broker, BROKER_WORKER);
    atomic_store(&shim->sync_gate, 1);
    while (time_monotonic_ms() - last_ms < STEADY_MS) {
        if (push_all(crowd, producers, count, &frame, 1))
            last_ms = time_monotonic_ms();
        else
            poll(NULL, 0, 1);
    }
    for (size_t i = 0; i < count; i++)
        most = producers[i].bytes > most ? producers[i].bytes : most;
    print_message("%zu producers: one got rid of %llu KiB\n", count,
                  (unsigned long long)most / 1024);
    assert_in_range(most, 1, bytes_max);
    assert_int_equal(crowd_totals(crowd).results, 0);
    must_not_grow(memory, measure_role_memory(&f->broker, BROKER_WORKER), memory_max, "outrun");
    MUST(f, peer_ping(peer, &f->err)); /* others are served */

    atomic_store(&shim->sync_gate, 0);
    uint64_t deadline = time_monotonic_ms() + PEER_PATIENCE_MS;
    for (;;) {
        push_all(crowd, producers, count, &frame, 0);
        frames = 0;
        bool partial = false;
        for (size_t i = 0; i < count; i++) {
            frames += producers[i].frames;
            partial = partial || producers[i].offset;
        }
        crowd_wait_total(crowd, TOTAL(results), frames, 10);
        if (!partial && crowd_totals(crowd).results == frames)
            break;
        if (time_monotonic_ms() > deadline)
            fail_msg("%llu of %llu frames are answered",
                     (unsigned long long)crowd_totals(crowd).results, (unsigned long long)frames);
    }
    assert_int_equal(crowd_totals(crowd).errors, 0);
    fixture_wait_stats(f, peer, "q", frames * messages, 0, 0);
    buf_free(&frame);
    free(producers);
    crowd_destroy(crowd);
}

static void test_producers_of_small_frames(void **state)
{
    struct fixture *f = *state;
    outrun(f, 50, 1, 100, 2 * MEGABYTE, 64 * MEGABYTE);
    f->passed = true;
}

static void test_producers_of_large_frames(void **state)
{
    struct fixture *f = *state;
    const char *number = getenv("FILAD_PRODUCERS");
    size_t count = number ? strtoul(number, NULL, 10) : 4;
    uint64_t most = count * 34 * MEGABYTE;
    if (most > 2u * 288 * MEGABYTE) /* the budget of two workers */
        most = 2u * 288 * MEGABYTE;
    outrun(f, count, 100, 1000, 34 * MEGABYTE, most + 32 * MEGABYTE);
    f->passed = true;
}

/* --- paused while the store goes away --- */

static int setup_window_faults(void **state)
{
    return fixture_setup_with(
        state,
        &(struct broker_options){
            .shim = "faults", .extra = "fibp: {delivery_window: 64k, keepalive_interval: 10m}\n"},
        true);
}

static bool is_drained(const struct crowd *crowd, void *context)
{
    struct held *held = context;
    struct framed_stats stats;
    (void)crowd;
    return peer_stats(held->peer, "q", &stats, &held->f->err) == 0 && stats.depth == 0;
}

/* At least `count` connections, some of them on each worker. */
static struct crowd *open_on_both(struct fixture *f, const pid_t workers[2], size_t count)
{
    const char *address = f->broker.unix_address;
    const unsigned before[] = {measure_sockets(workers[0]), measure_sockets(workers[1])};
    struct crowd *crowd = crowd_create(8 * count);
    while (crowd_size(crowd) < count || measure_sockets(workers[0]) <= before[0] ||
           measure_sockets(workers[1]) <= before[1]) {
        size_t last = crowd_size(crowd);
        assert_true(last < 8 * count);
        MUST(f, crowd_open(crowd, 1, &address, 1, &f->err));
        assert_int_equal(crowd_handshake(crowd, last), 0);
        assert_true(crowd_wait_total(crowd, TOTAL(handshakes), last + 1, PEER_PATIENCE_MS));
    }
    return crowd;
}

/* A worker leaves its store thread behind, with what that knew of windows and of who waits. */
static void test_paused_consumers_outlive_a_store_thread(void **state)
{
    enum { CONSUMERS = 6, COUNT = 4000 };
    struct fixture *f = *state;
    struct shim_control *shim = f->broker.shim;
    struct peer *peer = fixture_peer(f);
    struct peer *sides[2];
    pid_t workers[2];
    unsigned open = 0;
    uint64_t most = 0;
    for (unsigned i = 0; i < 2; i++) {
        sides[i] = sockets_open(f, i ? workers[0] : 0);
        workers[i] = sockets_worker(f, sides[i]);
    }
    struct crowd *consumers = open_on_both(f, workers, CONSUMERS);
    size_t count = crowd_size(consumers);
    MUST(f, peer_create_queue(peer, "q", 3000, &f->err));
    for (size_t i = 0; i < count; i++) {
        consume(consumers, i, 1, "q");
        crowd_set_deaf(consumers, i, true);
    }
    fill_queue(f, peer, "q", COUNT, BODY);
    /* Leases may have ended before all is filled: what is in flight then is less. */
    struct held held = {.f = f, .peer = peer, .queue = only_queue, .queues = 1};
    assert_true(wait_until(is_steady, &held, PEER_PATIENCE_MS));
    assert_in_range(held.now, 0, count * HELD_MAX);

    /* One worker hangs in a sync and the other is killed where it waits for that. */
    (void)stuck_hang(f, sides[0], workers[0], "q");
    stuck_kill_inside(f, sides[1], workers[1], "q");
    peer_close(sides[0], false);
    peer_close(sides[1], false);
    fixture_close_all(f);
    MUST(f, broker_wait_ready(&f->broker, BROKER_READY_MS, &f->err));
    held.peer = fixture_peer(f);

    crowd_set_acking(consumers, true);
    for (size_t i = 0; i < count; i++)
        crowd_set_deaf(consumers, i, false);
    if (!crowd_wait(consumers, is_drained, &held, PEER_PATIENCE_MS))
        fail_msg("paused consumers were forgotten: %s", f->err.text);
    for (size_t i = 0; i < count; i++) {
        const struct crowd_member *member = crowd_member(consumers, i);
        open += member->open;
        most = member->open && member->messages > most ? member->messages : most;
    }
    print_message("%u of %zu consumers went on\n", open, count);
    assert_in_range(open, 1, count - 1);
    assert_true(most > HELD_MAX);
    atomic_store(&shim->hang_pid, 0);
    crowd_destroy(consumers);
    f->passed = true;
}

/* --- a full zone --- */

static int setup_small_zone(void **state)
{
    return fixture_setup_with(state, &(struct broker_options){.shared_memory = "64m"}, true);
}

/* One message of each of 500 new tenants; how many were taken. */
static unsigned enqueue_tenants(struct fixture *f, struct peer *peer, const char *queue,
                                unsigned first)
{
    enum { COUNT = 500 };
    static char tenants[COUNT][16];
    struct peer_message messages[COUNT];
    struct peer_frame *frame = NULL;
    struct wire_reader reader;
    uint32_t request, count;
    unsigned taken = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(tenants[i], sizeof tenants[i], "t%u", first + i);
        messages[i] =
            (struct peer_message){.queue = queue, .tenant = tenants[i], .payload = STR("m")};
    }
    MUST(f, peer_enqueue_send(peer, messages, COUNT, &request, &f->err));
    MUST_GIVE(f, 1, peer_answer(peer, request, PEER_PATIENCE_MS, &frame, &f->err));
    wire_reader_init(&reader, str_of(frame->body, frame->size));
    if (frame->opcode == OPCODE_ENQUEUE_RESULT) {
        assert_true(framed_client_enqueue_result_begin(&reader, &count));
        for (uint32_t i = 0; i < count; i++) {
            struct framed_client_result result;
            assert_true(framed_client_enqueue_result_next(&reader, &result));
            if (result.code != FIBP_OK)
                assert_int_equal(result.code, FIBP_CHANNEL_FULL);
            taken += result.code == FIBP_OK;
        }
    } else {
        struct framed_client_error error;
        struct wire_pair pair;
        assert_int_equal(frame->opcode, OPCODE_ERROR);
        assert_true(framed_client_error(&reader, &error));
        assert_int_equal(error.status, FIBP_CHANNEL_FULL);
        assert_int_equal(error.pair_count, 1);
        assert_true(framed_client_error_pair(&reader, &pair));
        assert_true(str_equal(pair.key, STR("retry_after_ms")));
    }
    free(frame);
    return taken;
}

struct refill {
    struct fixture *f;
    struct peer *peer;
    unsigned first;
};

static bool takes_new_tenants(void *context)
{
    struct refill *refill = context;
    refill->first += 500;
    return enqueue_tenants(refill->f, refill->peer, "q", refill->first) == 500;
}

static void test_full_zone(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct crowd *crowd = open_crowd(f, 1);
    unsigned confirmed = 0, now, first = 0;
    MUST(f, peer_create_queue(peer, "q", 0, &f->err));
    MUST(f, peer_create_queue(peer, "other", 0, &f->err));
    do {
        now = enqueue_tenants(f, peer, "q", first);
        confirmed += now;
        first += 500;
        assert_true(first < 1000000);
    } while (now > 0);
    print_message("%u tenants until the queue had its share\n", confirmed);
    assert_true(broker_logged(&f->broker, "no room for more, their messages are refused"));

    /* Other queues take new tenants, thousands of them. */
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(enqueue_tenants(f, peer, "other", i * 500), 500);

    /* What needs no more of it is served. */
    struct peer_message known = {.queue = "q", .tenant = "t7", .payload = STR("m")};
    struct peer_frame *frame = NULL;
    uint32_t request;
    MUST(f, peer_enqueue_send(peer, &known, 1, &request, &f->err));
    MUST_GIVE(f, 1, peer_answer(peer, request, PEER_PATIENCE_MS, &frame, &f->err));
    assert_int_equal(frame->opcode, OPCODE_ENQUEUE_RESULT);
    free(frame);
    confirmed++;
    MUST(f, peer_ping(peer, &f->err));
    fixture_wait_stats(f, peer, "q", confirmed, 0, 0);

    /* And it is drained. */
    crowd_set_acking(crowd, true);
    consume(crowd, 0, 1, "q");
    if (!crowd_wait_total(crowd, TOTAL(messages), confirmed, PEER_PATIENCE_MS))
        fail_msg("%llu of %u messages came", (unsigned long long)crowd_totals(crowd).messages,
                 confirmed);
    fixture_wait_crowd_stats(f, crowd, peer, "q", 0, 0, 1);
    struct refill refill = {f, peer, 2000000};
    uint64_t begin = time_monotonic_ms();
    assert_true(wait_until(takes_new_tenants, &refill, PEER_PATIENCE_MS));
    print_message("room for new ones after %llu ms\n",
                  (unsigned long long)(time_monotonic_ms() - begin));
    crowd_destroy(crowd);
    f->passed = true;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_window_pauses_one_consumer, setup_window,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_window_of_many_subscriptions, setup_window,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_slow_consumer_starves_nobody, setup_one_worker,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_max_unacked, setup_unacked, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_max_unacked_and_expiry, setup_unacked,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_producers_of_small_frames, fixture_setup_faults,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_producers_of_large_frames, fixture_setup_faults,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_paused_consumers_outlive_a_store_thread,
                                        setup_window_faults, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_full_zone, setup_small_zone, fixture_teardown),
    };
    return cmocka_run_group_tests_name("backpressure", tests, NULL, NULL);
}
