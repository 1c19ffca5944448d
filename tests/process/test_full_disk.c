/* A disk that is full: enqueue is refused, what is there is served, acks make room, and a kill in
 * the middle of it changes nothing of that. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/time.h"
#include "process/support/crowd.h"
#include "process/support/fixture.h"

#define PAYLOAD_SIZE 8000u
#define FRAME 50u
#define MEGABYTE (1 << 20)

/* A frame of messages: the number that was confirmed; *code: the first one that was not OK, or -1
 * when there was no answer. */
static unsigned enqueue_frame(struct fixture *f, struct peer *peer, int *code)
{
    static char payload[PAYLOAD_SIZE];
    struct peer_message messages[FRAME];
    struct peer_frame *frame = NULL;
    struct wire_reader reader;
    struct framed_client_error error;
    uint32_t request, count;
    unsigned good = 0;
    memset(payload, 'x', sizeof payload);
    for (unsigned i = 0; i < FRAME; i++)
        messages[i] =
            (struct peer_message){.queue = "full", .payload = str_of(payload, sizeof payload)};
    *code = -1;
    if (peer_enqueue_send(peer, messages, FRAME, &request, &f->err) != 0 ||
        peer_answer(peer, request, PEER_PATIENCE_MS, &frame, &f->err) != 1)
        return 0;
    *code = 0;
    wire_reader_init(&reader, str_of(frame->body, frame->size));
    if (frame->opcode == OPCODE_ERROR && framed_client_error(&reader, &error)) {
        *code = error.code;
    } else {
        assert_int_equal(frame->opcode, OPCODE_ENQUEUE_RESULT);
        assert_true(framed_client_enqueue_result_begin(&reader, &count));
        for (uint32_t i = 0; i < count; i++) {
            struct framed_client_result result;
            assert_true(framed_client_enqueue_result_next(&reader, &result));
            good += result.code == FIBP_OK;
            if (result.code != FIBP_OK && *code == 0)
                *code = result.code;
        }
    }
    free(frame);
    return good;
}

/* The depth must become what was confirmed, plus at most what was sent without an answer. */
static void check_depth(struct fixture *f, struct peer *peer, unsigned least, unsigned most,
                        const char *when)
{
    struct framed_stats stats = {.depth = 0};
    uint64_t end_ms = time_monotonic_ms() + PEER_PATIENCE_MS; /* counted anew after a crash */
    while (stats.depth < least && time_monotonic_ms() < end_ms)
        MUST(f, peer_stats(peer, "full", &stats, &f->err));
    print_message("%s the depth is %llu\n", when, (unsigned long long)stats.depth);
    assert_in_range(stats.depth, least, most);
}

/* Enqueues until it is refused; how many were confirmed. */
static unsigned fill(struct fixture *f, struct peer **peer, unsigned frames_max)
{
    unsigned confirmed = 0, lost = 0;
    int code = 0;
    for (unsigned i = 0; i < frames_max; i++) {
        confirmed += enqueue_frame(f, *peer, &code);
        if (code == FIBP_STORAGE_ERROR)
            return confirmed;
        if (code == -1 && lost++ < 20) { /* its worker went down with the store */
            fixture_close(f, *peer, false);
            MUST(f, broker_wait_ready(&f->broker, BROKER_READY_MS, &f->err));
            *peer = fixture_peer(f);
        } else if (code != 0) {
            fail_msg("a full disk gives code %d", code);
        }
    }
    fail_msg("%u messages, and the disk is not full", confirmed);
    return 0;
}

/* Acks what was collected, in one frame; every result must be OK. */
static void ack_batch(struct fixture *f, struct peer *peer, const struct uuid *ids, unsigned count)
{
    struct peer_frame *frame = NULL;
    uint32_t request;
    if (!count)
        return;
    MUST(f, peer_settle_send(peer, false, "full", ids, count, &request, &f->err));
    MUST_GIVE(f, 1, peer_answer(peer, request, PEER_PATIENCE_MS, &frame, &f->err));
    assert_int_equal(frame->opcode, OPCODE_ACK_RESULT);
    assert_int_equal(frame->size, 4 + count);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(frame->body[4 + i], FIBP_OK);
    free(frame);
}

/* Consumes and acks everything; every message must be there. */
static void drain(struct fixture *f, struct peer *peer, unsigned least, unsigned most)
{
    struct peer_delivery delivery;
    struct framed_stats stats;
    struct uuid ids[FRAME];
    uint32_t subscription;
    unsigned count = 0;
    MUST(f, peer_consume(peer, "full", &subscription, &f->err));
    do {
        unsigned batch = 0;
        while (batch < FRAME && peer_receive(peer, count + batch < least ? PEER_PATIENCE_MS : 100,
                                             &delivery, &f->err) == 1) {
            assert_int_equal(delivery.payload_size, PAYLOAD_SIZE);
            ids[batch++] = delivery.id;
        }
        if (!batch && count < least)
            fail_msg("%u of %u messages came: %s", count, least, f->err.text);
        ack_batch(f, peer, ids, batch);
        count += batch;
        MUST(f, peer_stats(peer, "full", &stats, &f->err));
    } while (count < least || stats.depth > 0);
    assert_in_range(count, least, most);
}

struct refill {
    struct fixture *f;
    unsigned confirmed;
};

static bool can_enqueue(void *context)
{
    struct refill *refill = context;
    int code;
    struct peer *peer = peer_open(refill->f->broker.unix_address, &refill->f->err);
    if (!peer)
        return false;
    refill->confirmed += enqueue_frame(refill->f, peer, &code);
    /* A pause on a connection where nothing comes. */
    struct peer_frame *frame = NULL;
    if (code != 0 && peer_answer(peer, UINT32_MAX, 200, &frame, &refill->f->err) == 1)
        free(frame);
    peer_close(peer, true);
    return code == 0;
}

/* The story, on a disk where `frames_max` frames are too many. `full`: makes it full, or NULL when
 * it is so small by itself. */
static void full_disk(struct fixture *f, void (*full)(struct fixture *f), unsigned frames_max)
{
    int code;
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_create_queue(peer, "full", 120000, &f->err));
    unsigned confirmed = 0, sent = 10;
    for (unsigned i = 0; i < 10; i++) {
        confirmed += enqueue_frame(f, peer, &code);
        assert_int_equal(code, 0);
    }
    if (full)
        full(f);
    confirmed += fill(f, &peer, frames_max);
    sent += frames_max;
    print_message("%u messages confirmed until the disk was full\n", confirmed);

    /* It stays so over a kill, and then nothing is missing. */
    check_depth(f, peer, confirmed, sent * FRAME, "before the kill");
    fixture_crash(f);
    peer = fixture_peer(f);
    check_depth(f, peer, confirmed, sent * FRAME, "after the kill");
    drain(f, peer, confirmed, sent * FRAME);

    struct refill refill = {.f = f};
    if (!wait_until(can_enqueue, &refill, 60000))
        fail_msg("all messages are acked and there is no room for new ones: %s", f->err.text);
    f->passed = true;
}

static void limit_disk(struct fixture *f)
{
    struct shim_control *shim = f->broker.shim;
    atomic_store(&shim->disk_free, 200ll * MEGABYTE);
    atomic_store(&shim->disk_limited, 1);
}

static int setup_limited(void **state)
{
    return fixture_setup_with(
        state,
        &(struct broker_options){.shim = "faults",
                                 .reserve = "auto",
                                 .store = "  checkpoint: {bytes: 2m, interval: 2s}\n"},
        true);
}

static void test_full_disk_by_shim(void **state)
{
    full_disk(*state, limit_disk, 3000);
}

/* ---- with traffic ---- */

#define PRODUCERS 10u
#define CONSUMERS 10u

static struct crowd *open_consumers(struct fixture *f)
{
    const char *addresses[] = {f->broker.unix_address, f->broker.tcp_address};
    struct crowd *crowd = crowd_create(CONSUMERS);
    MUST(f, crowd_open(crowd, CONSUMERS, addresses, 2, &f->err));
    for (size_t i = 0; i < CONSUMERS; i++) {
        assert_int_equal(crowd_handshake(crowd, i), 0);
        assert_int_equal(crowd_consume(crowd, i, 1, "full"), 0);
    }
    crowd_set_acking(crowd, true);
    assert_true(crowd_wait_total(crowd, offsetof(struct crowd_totals, consumes), CONSUMERS,
                                 PEER_PATIENCE_MS));
    return crowd;
}

/* A frame from each producer; how many of these were refused for want of space. */
static unsigned produce(struct fixture *f, struct peer **producers, unsigned *confirmed)
{
    unsigned refused = 0;
    for (unsigned i = 0; i < PRODUCERS; i++) {
        int code;
        *confirmed += enqueue_frame(f, producers[i], &code);
        if (code != 0 && code != FIBP_STORAGE_ERROR)
            fail_msg("producer %u gets code %d: %s", i, code, f->err.text);
        refused += code != 0;
    }
    return refused;
}

/* Consumers empty the disk that producers have filled, and the producers, who never stop trying, go
 * on by themselves. No connection is lost. */
static void test_full_disk_with_traffic(void **state)
{
    struct fixture *f = *state;
    struct peer *producers[PRODUCERS];
    unsigned confirmed = 0, refused = 0, before;
    const size_t messages = offsetof(struct crowd_totals, messages);
    for (unsigned i = 0; i < PRODUCERS; i++)
        producers[i] = fixture_peer(f);
    MUST(f, peer_create_queue(producers[0], "full", 600000, &f->err));
    limit_disk(f);
    for (unsigned round = 0; refused < PRODUCERS; round++) {
        refused = produce(f, producers, &confirmed);
        assert_true(round < 300);
    }
    print_message("%u messages confirmed until the disk was full\n", confirmed);
    struct crowd *crowd = open_consumers(f);
    before = confirmed;
    uint64_t begin = time_monotonic_ms();
    do {
        crowd_wait_total(crowd, messages, UINT64_MAX, 20);
        refused = produce(f, producers, &confirmed);
        if (time_monotonic_ms() - begin > PEER_PATIENCE_MS)
            fail_msg("%u of %u producers are refused, %llu messages of %u came", refused, PRODUCERS,
                     (unsigned long long)crowd_totals(crowd).messages, confirmed);
    } while (refused > 0 || confirmed < before + PRODUCERS * FRAME * 3);
    print_message("service again after %llu ms\n",
                  (unsigned long long)(time_monotonic_ms() - begin));
    assert_true(crowd_wait_total(crowd, messages, confirmed, PEER_PATIENCE_MS));
    fixture_wait_crowd_stats(f, crowd, producers[0], "full", 0, 0, CONSUMERS);
    assert_int_equal(crowd_totals(crowd).open, CONSUMERS);
    assert_int_equal(crowd_totals(crowd).errors, 0);
    crowd_destroy(crowd);
    f->passed = true;
}

/* ---- a real one ---- */

static char mounted[BROKER_PATH_SIZE];

static int setup_mounted(void **state)
{
    if (geteuid() != 0)
        return 0;
    snprintf(mounted, sizeof mounted, "/tmp/filad-d-XXXXXX");
    if (!mkdtemp(mounted))
        return 0;
    if (chmod(mounted, 0755) != 0 ||
        mount("tmpfs", mounted, "tmpfs", 0, "size=400m,mode=0755") != 0) {
        rmdir(mounted);
        mounted[0] = '\0';
        return 0;
    }
    int status = fixture_setup_with(
        state,
        &(struct broker_options){.parent = mounted,
                                 .reserve = "auto",
                                 .store = "  checkpoint: {bytes: 2m, interval: 2s}\n"},
        true);
    return status;
}

static int teardown_mounted(void **state)
{
    if (*state)
        fixture_teardown(state);
    if (mounted[0]) {
        umount2(mounted, MNT_DETACH);
        rmdir(mounted);
    }
    return 0;
}

static void test_full_file_system(void **state)
{
    if (!*state)
        skip(); /* mounting needs root */
    full_disk(*state, NULL, 3000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_full_disk_by_shim, setup_limited, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_full_disk_with_traffic, setup_limited,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_full_file_system, setup_mounted, teardown_mounted),
    };
    return cmocka_run_group_tests_name("full disk", tests, NULL, NULL);
}
