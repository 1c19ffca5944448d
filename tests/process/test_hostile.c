/*
 * Whatever bytes a client sends: it gets what the protocol says, the next client is served, no
 * process dies and none grows.
 *
 *   HOSTILE_REPEATS=N   plays the whole table so often, instead of as often as fits in 3 s
 *   HOSTILE_STRICT=1    a fresh client has to be served within 100 ms at the median, not 2 s
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/time.h"
#include "process/support/files.h"
#include "process/support/fixture.h"
#include "process/support/hostile.h"
#include "process/support/peer_internal.h"

#define MIB (1024 * 1024)
#define REPEAT_MS 3000u
#ifdef __SANITIZE_ADDRESS__
#define RSS_NOISE (512u * MIB) /* what was freed is kept for a while */
#else
#define RSS_NOISE 0u
#endif
#define HEAVY_EVERY 100u /* repetitions between two of the large cases */
#define SERVED "served"

static uint64_t served_limit_ns(void)
{
    return getenv("HOSTILE_STRICT") ? 100000000u : 2000000000u;
}

/* ---- processes ---- */

static bool same_processes(const struct broker_process *a, const struct broker_process *b,
                           size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bool found = false;
        for (size_t k = 0; k < count; k++)
            found |= a[i].pid == b[k].pid;
        if (!found)
            return false;
    }
    return true;
}

static size_t expect_processes(struct fixture *f, struct broker_process *list, size_t count)
{
    struct broker_process now[BROKER_PROCESSES_MAX];
    size_t found = broker_processes(&f->broker, now, BROKER_PROCESSES_MAX);
    if (count == 0) {
        memcpy(list, now, found * sizeof *now);
        return found;
    }
    if (found != count || !same_processes(list, now, count))
        fail_msg("a process died");
    return count;
}

/* What the workers occupy, all together. */
struct usage {
    uint64_t anonymous, proportional; /* bytes */
    uint64_t heap;                    /* handed out by malloc; 0: not known */
    unsigned descriptors;
};

static uint64_t read_kib(pid_t pid, const char *name, const char *word)
{
    char path[64], line[256];
    unsigned long long value = 0;
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    while (fgets(line, sizeof line, file))
        if (strncmp(line, word, strlen(word)) == 0)
            (void)!sscanf(line + strlen(word), "%llu", &value);
    fclose(file);
    return value * 1024;
}

static unsigned count_descriptors(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    return files_count(path, "[0-9]*");
}

struct heaps {
    struct shim_control *control;
    const struct broker_process *list;
    size_t count;
    uint64_t bytes;
};

static bool heaps_known(void *context)
{
    struct heaps *heaps = context;
    heaps->bytes = 0;
    for (size_t i = 0; i < heaps->count; i++) {
        bool found = heaps->list[i].role != BROKER_WORKER;
        for (size_t k = 0; k < SHIM_HEAPS && !found; k++)
            if (atomic_load(&heaps->control->heaps[k].pid) == heaps->list[i].pid) {
                heaps->bytes += atomic_load(&heaps->control->heaps[k].bytes);
                found = true;
            }
        if (!found)
            return false;
    }
    return true;
}

/* The master's heartbeat turns every loop, so that they report. */
static uint64_t measure_heaps(struct fixture *f, const struct broker_process *list, size_t count)
{
    struct heaps heaps = {f->broker.shim, list, count, 0};
    for (size_t i = 0; i < SHIM_HEAPS; i++)
        atomic_store(&heaps.control->heaps[i].pid, 0);
    atomic_store(&heaps.control->heap_reports, 0);
    atomic_fetch_add(&heaps.control->heap_asked, 1);
    if (!wait_until(heaps_known, &heaps, PEER_PATIENCE_MS))
        fail_msg("a worker's loop does not turn");
    return heaps.bytes;
}

static unsigned worker_descriptors(const struct broker_process *list, size_t count)
{
    unsigned descriptors = 0;
    for (size_t i = 0; i < count; i++)
        if (list[i].role == BROKER_WORKER)
            descriptors += count_descriptors(list[i].pid);
    return descriptors;
}

static struct usage measure(struct fixture *f, const struct broker_process *list, size_t count)
{
    struct usage usage = {0};
    for (size_t i = 0; i < count; i++)
        if (list[i].role == BROKER_WORKER) {
            usage.anonymous += read_kib(list[i].pid, "status", "RssAnon:");
            usage.proportional += read_kib(list[i].pid, "smaps_rollup", "Pss:");
        }
    usage.heap = measure_heaps(f, list, count);
    usage.descriptors = worker_descriptors(list, count);
    return usage;
}

/* ---- the table ---- */

struct play {
    struct fixture *fixture;
    struct hostile_table table;
    struct broker_process processes[BROKER_PROCESSES_MAX];
    size_t process_count;
    uint64_t *served_ns;
    size_t served;
};

static const char *address_of(struct fixture *f, size_t number)
{
    return number % 2 ? f->broker.tcp_address : f->broker.unix_address;
}

static void play_setup(struct play *play, struct fixture *f)
{
    struct peer *peer = fixture_peer(f);
    *play = (struct play){.fixture = f};
    MUST(f, hostile_table_make(&play->table, &f->err));
    MUST(f, peer_create_queue(peer, SERVED, 0, &f->err));
    for (size_t i = 0; hostile_queues[i]; i++)
        MUST(f, peer_create_queue(peer, hostile_queues[i], 0, &f->err));
    fixture_close(f, peer, true);
    play->served_ns = calloc(play->table.count, sizeof *play->served_ns);
    assert_non_null(play->served_ns);
    play->process_count = expect_processes(f, play->processes, 0);
}

static void play_teardown(struct play *play)
{
    hostile_table_free(&play->table);
    free(play->served_ns);
}

/* Every case once, and after each a client that wants to be served. */
static void play_each(struct play *play)
{
    struct fixture *f = play->fixture;
    for (size_t i = 0; i < play->table.count; i++) {
        MUST(f, hostile_play(&play->table.cases[i], address_of(f, i), &f->err));
        uint64_t *ns = &play->served_ns[play->served++];
        if (hostile_serve(address_of(f, i / 2), SERVED, ns, &f->err) != 0)
            fail_msg("after \"%s\": %s", play->table.cases[i].name, f->err.text);
        if (i % 16 == 0)
            expect_processes(f, play->processes, play->process_count);
    }
    expect_processes(f, play->processes, play->process_count);
}

static void play_all(struct play *play, unsigned number)
{
    struct fixture *f = play->fixture;
    uint64_t ns;
    for (size_t i = 0; i < play->table.count; i++)
        if (!play->table.cases[i].heavy || number % HEAVY_EVERY == HEAVY_EVERY - 1)
            MUST(f, hostile_play(&play->table.cases[i], address_of(f, i + number), &f->err));
    MUST(f, hostile_serve(address_of(f, number), SERVED, &ns, &f->err));
    /* What was stored goes, so that the store does not grow. */
    struct peer *peer = fixture_peer(f);
    for (size_t i = 0; hostile_queues[i]; i++) {
        MUST(f, peer_delete_queue(peer, hostile_queues[i], &f->err));
        MUST(f, peer_create_queue(peer, hostile_queues[i], 0, &f->err));
    }
    fixture_close(f, peer, true);
    expect_processes(f, play->processes, play->process_count);
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void expect_median(struct play *play)
{
    qsort(play->served_ns, play->served, sizeof *play->served_ns, compare_u64);
    uint64_t median = play->served_ns[play->served / 2];
    print_message("%zu cases; a fresh client is served in %.1f ms at the median, %.1f ms at most\n",
                  play->served, (double)median / 1e6,
                  (double)play->served_ns[play->served - 1] / 1e6);
    assert_true(median < served_limit_ns());
}

struct descriptors {
    struct play *play;
    unsigned most;
};

static bool descriptors_few(void *context)
{
    struct descriptors *descriptors = context;
    return worker_descriptors(descriptors->play->processes, descriptors->play->process_count) <=
           descriptors->most;
}

struct settling {
    struct play *play;
    uint64_t heap_most;
    struct usage usage;
};

/* A worker that has nothing to do gives back what it kept for deliveries, after a second. */
static bool heap_settled(void *context)
{
    struct settling *settling = context;
    struct play *play = settling->play;
    settling->usage = measure(play->fixture, play->processes, play->process_count);
    return settling->usage.heap <= settling->heap_most;
}

static void print_usage(const char *when, const struct usage *usage)
{
    print_message("%s: %" PRIu64 " KiB anonymous, PSS %" PRIu64 " KiB, malloc %" PRIu64
                  " KiB, %u descriptors\n",
                  when, usage->anonymous / 1024, usage->proportional / 1024, usage->heap / 1024,
                  usage->descriptors);
}

/* Repeats the table; from the point where caches are warm nothing may grow. */
static void play_repeatedly(struct play *play)
{
    struct fixture *f = play->fixture;
    const char *wanted = getenv("HOSTILE_REPEATS");
    unsigned most = wanted ? (unsigned)strtoul(wanted, NULL, 10) : UINT32_MAX, done = 0;
    uint64_t end_ms = wanted ? UINT64_MAX : time_monotonic_ms() + REPEAT_MS;

    play_all(play, wanted ? HEAVY_EVERY - 1 : 0);
    struct usage before = measure(f, play->processes, play->process_count);
    while (done < most && (done < 2 || time_monotonic_ms() < end_ms))
        play_all(play, done++);
    struct descriptors descriptors = {play, before.descriptors + 4};
    if (!wait_until(descriptors_few, &descriptors, PEER_PATIENCE_MS))
        fail_msg("descriptors stay open");
    struct settling settling = {play, before.heap + MIB, {.heap = 0}};
    (void)wait_until(heap_settled, &settling, PEER_PATIENCE_MS);
    struct usage after = settling.usage;
    print_usage("before", &before);
    print_usage("after", &after);
    print_message("%u repetitions\n", done);
    assert_true(after.heap <= settling.heap_most);
    assert_true(after.anonymous <= before.anonymous + 16 * MIB + RSS_NOISE);
}

static void test_every_case(void **state)
{
    struct fixture *f = *state;
    struct play play;
    play_setup(&play, f);
    play_each(&play);
    expect_median(&play);
    play_repeatedly(&play);
    play_teardown(&play);
    f->passed = true;
}

static int setup_heap(void **state)
{
    return fixture_setup_with(state, &(struct broker_options){.shim = "heap"}, true);
}

/* ---- those that take their time ---- */

static int setup_impatient(void **state)
{
    static const struct broker_options options = {
        .workers = 1,
        .extra = "fibp: {handshake_timeout: 1s, delivery_window: 1m}\n",
    };
    return fixture_setup_with(state, &options, true);
}

static struct peer *silent_peer(struct fixture *f, size_t number)
{
    struct peer *peer = peer_connect(address_of(f, number), &f->err);
    if (!peer)
        fail_msg("connect: %s", f->err.text);
    return peer;
}

static void expect_closed(struct fixture *f, struct peer *peer)
{
    struct peer_frame *frame = NULL;
    if (peer_read(peer, PEER_PATIENCE_MS, &frame, &f->err) >= 0 || !peer->ended)
        fail_msg("the connection was not closed");
}

/* Handshakes that never end are cut off, however many there are; others are served meanwhile. */
static void test_slow_handshakes(void **state)
{
    enum { COUNT = 300 };
    static const uint8_t hello[] = {0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0};
    struct fixture *f = *state;
    struct peer *peers[COUNT];
    uint64_t ns;
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_create_queue(peer, SERVED, 0, &f->err));
    for (size_t i = 0; i < COUNT; i++) {
        peers[i] = silent_peer(f, i);
        (void)peer_send(peers[i], str_of(hello, i % sizeof hello), &f->err);
    }
    MUST(f, hostile_serve(f->broker.unix_address, SERVED, &ns, &f->err));
    /* One that sends a byte now and then gains nothing by it. */
    struct peer *dripping = silent_peer(f, 1);
    uint64_t end_ms = time_monotonic_ms() + PEER_PATIENCE_MS;
    MUST(f, peer_send(dripping, str_of(hello, sizeof hello), &f->err));
    while (!dripping->ended && time_monotonic_ms() < end_ms) {
        struct peer_frame *frame = NULL;
        (void)peer_send(dripping, STR("\0"), &f->err);
        (void)peer_read(dripping, 20, &frame, &f->err);
        free(frame);
    }
    assert_true(dripping->ended);
    peer_close(dripping, false);
    for (size_t i = 0; i < COUNT; i++) {
        expect_closed(f, peers[i]);
        peer_close(peers[i], false);
    }
    MUST(f, hostile_serve(f->broker.tcp_address, SERVED, &ns, &f->err));
    f->passed = true;
}

/* Writes until the broker has not read anything for a while; the bytes that it took. */
static size_t send_until_stuck(struct peer *peer, struct str bytes, size_t most)
{
    size_t sent = 0, at = 0;
    while (sent < most) {
        ssize_t now = send(peer->fd, bytes.data + at, bytes.size - at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (now > 0) {
            at = (at + (size_t)now) % bytes.size;
            sent += (size_t)now;
            continue;
        }
        struct pollfd writable = {peer->fd, POLLOUT, 0};
        if ((errno != EAGAIN && errno != EINTR) || poll(&writable, 1, 250) == 0)
            break;
    }
    return sent;
}

/* A client that asks and never reads is not read either, and what it costs is bounded. */
static void flood_unread(struct fixture *f, uint8_t opcode, struct str body)
{
    pid_t worker = broker_find(&f->broker, BROKER_WORKER);
    uint64_t before = read_kib(worker, "status", "RssAnon:"), ns;
    struct peer *peer = fixture_peer(f);
    struct buf flood;
    buf_init(&flood, 0);
    for (uint32_t id = 1; id <= 10000; id++)
        hostile_frame(&flood, opcode, 0, id, body);
    size_t sent = send_until_stuck(peer, buf_str(&flood), 256u * MIB);
    buf_free(&flood);
    MUST(f, hostile_serve(f->broker.unix_address, SERVED, &ns, &f->err));
    uint64_t after = read_kib(worker, "status", "RssAnon:");
    print_message("%s, unread: %zu KiB taken, %" PRId64 " KiB more memory\n", opcode_name(opcode),
                  sent / 1024, (int64_t)(after - before) / 1024);
    assert_true(sent < 256u * MIB);
    assert_true(after < before + 96 * MIB + RSS_NOISE);
    fixture_close(f, peer, false);
    assert_int_equal(broker_find(&f->broker, BROKER_WORKER), worker);
}

static void test_floods_without_reading(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_create_queue(peer, SERVED, 0, &f->err));
    flood_unread(f, OPCODE_PING, STR(""));
    flood_unread(f, 0x7e, STR("unknown"));
    flood_unread(f, OPCODE_ENQUEUE, STR("\0\0\0\1\0\7missing\0\0\0\0\0\0"));
    flood_unread(f, OPCODE_LIST_QUEUES, STR(""));
    flood_unread(f, OPCODE_GET_STATS, STR("\0\6served"));
    flood_unread(f, OPCODE_CONSUME, STR("\0\7missing"));
    MUST(f, peer_ping(peer, &f->err));
    f->passed = true;
}

/* The next answer that is no Pong must not come before the probe's. */
static void test_flood_of_cancels(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct buf flood;
    buf_init(&flood, 0);
    for (uint32_t id = 0; id < 100000; id++)
        hostile_frame(&flood, OPCODE_CANCEL_CONSUME, 0, id, id % 2 ? STR("") : STR("\0\4none"));
    MUST(f, peer_send(peer, buf_str(&flood), &f->err));
    buf_free(&flood);
    struct peer_frame *frame = NULL;
    struct buf ping;
    buf_init(&ping, 0);
    hostile_frame(&ping, OPCODE_PING, 0, 4711, STR(""));
    MUST(f, peer_send(peer, buf_str(&ping), &f->err));
    buf_free(&ping);
    MUST_GIVE(f, 1, peer_read(peer, PEER_PATIENCE_MS, &frame, &f->err));
    assert_int_equal(frame->opcode, OPCODE_PONG);
    assert_int_equal(frame->request_id, 4711);
    free(frame);
    f->passed = true;
}

/* Each Consume of a flood is answered: with ConsumeOk, or beyond the limit with ChannelFull. The
 * subscriptions end with their connection. */
static void test_flood_of_consumes(void **state)
{
    enum { COUNT = 20000 };
    struct fixture *f = *state;
    struct peer *other = fixture_peer(f), *peer = fixture_peer(f);
    unsigned good = 0, full = 0;
    struct buf flood;
    MUST(f, peer_create_queue(other, SERVED, 0, &f->err));
    buf_init(&flood, 0);
    for (uint32_t id = 1; id <= COUNT; id++)
        hostile_frame(&flood, OPCODE_CONSUME, 0, id, STR("\0\6served"));
    MUST(f, peer_send(peer, buf_str(&flood), &f->err));
    buf_free(&flood);
    for (unsigned i = 0; i < COUNT; i++) {
        struct peer_frame *frame = NULL;
        MUST_GIVE(f, 1, peer_read(peer, PEER_PATIENCE_MS, &frame, &f->err));
        if (frame->opcode == OPCODE_CONSUME_OK)
            good++;
        else if (frame->opcode == OPCODE_ERROR && frame->body[0] == FIBP_CHANNEL_FULL)
            full++;
        free(frame);
    }
    assert_int_equal(good + full, COUNT);
    assert_true(good > 0 && full > 0);
    fixture_wait_stats(f, other, SERVED, 0, 0, good);
    fixture_close(f, peer, false);
    fixture_wait_stats(f, other, SERVED, 0, 0, 0);
    f->passed = true;
}

/* A consumer that never reads holds what its window and the socket let it have, no more. */
static void test_consumer_that_never_reads(void **state)
{
    enum { COUNT = 400, SIZE = 65536 };
    struct fixture *f = *state;
    struct peer *producer = fixture_peer(f), *idle;
    struct framed_stats stats, left;
    struct peer_message message = {.queue = "large"};
    uint8_t *payload = calloc(1, SIZE);
    uint64_t ns;
    assert_non_null(payload);
    message.payload = str_of(payload, SIZE);
    MUST(f, peer_create_queue(producer, "large", 60000, &f->err));
    MUST(f, peer_create_queue(producer, SERVED, 0, &f->err));
    for (unsigned i = 0; i < COUNT; i++) {
        struct peer_frame *frame = NULL;
        uint32_t request;
        MUST(f, peer_enqueue_send(producer, &message, 1, &request, &f->err));
        MUST_GIVE(f, 1, peer_answer(producer, request, PEER_PATIENCE_MS, &frame, &f->err));
        free(frame);
    }
    free(payload);
    pid_t worker = broker_find(&f->broker, BROKER_WORKER);
    uint64_t before = read_kib(worker, "status", "RssAnon:");
    idle = peer_open(f->broker.tcp_address, &f->err);
    assert_non_null(idle);
    struct buf consume;
    buf_init(&consume, 0);
    hostile_frame(&consume, OPCODE_CONSUME, 0, 5, STR("\0\5large"));
    MUST(f, peer_send(idle, buf_str(&consume), &f->err));
    buf_free(&consume);
    fixture_wait_stats(f, producer, "large", COUNT, UINT64_MAX, 1);
    MUST(f, hostile_serve(f->broker.unix_address, SERVED, &ns, &f->err));
    MUST(f, peer_stats(producer, "large", &stats, &f->err));
    assert_true(stats.in_flight < COUNT);
    assert_true(read_kib(worker, "status", "RssAnon:") < before + 32 * MIB + RSS_NOISE);
    peer_abort(idle);
    fixture_wait_stats(f, producer, "large", COUNT, UINT64_MAX, 0);
    MUST(f, peer_stats(producer, "large", &left, &f->err));
    assert_true(left.in_flight <= stats.in_flight);
    f->passed = true;
}

#define IMPATIENT(test) cmocka_unit_test_setup_teardown(test, setup_impatient, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_case, setup_heap, fixture_teardown),
        IMPATIENT(test_slow_handshakes),
        IMPATIENT(test_floods_without_reading),
        IMPATIENT(test_flood_of_cancels),
        IMPATIENT(test_flood_of_consumes),
        IMPATIENT(test_consumer_that_never_reads),
    };
    return cmocka_run_group_tests_name("hostile input", tests, NULL, NULL);
}
