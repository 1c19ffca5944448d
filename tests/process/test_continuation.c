/* Requests and deliveries in several frames against the daemon: what comes together, every limit,
 * many connections that stand still in the middle, and large messages through fila.
 * CONTINUATION_STALL=1 also waits until the broker gives connections up that stand still (a minute
 * and a half). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "os/time.h"
#include "process/support/fixture.h"
#include "process/support/peer_internal.h"

#define MEBIBYTE ((size_t)1 << 20)

/* ---- words for frames ---- */

/* One frame with a body of raw bytes. */
static void append_frame(struct buf *buf, uint8_t opcode, bool more, uint32_t request_id,
                         const void *body, size_t size)
{
    buf_append_u32(buf, (uint32_t)size + FRAME_LENGTH_MIN);
    buf_append_u8(buf, opcode);
    buf_append_u8(buf, more ? FRAME_FLAG_CONTINUATION : 0);
    buf_append_u32(buf, request_id);
    buf_append(buf, body, size);
}

static void send_frame(struct fixture *f, struct peer *peer, uint8_t opcode, bool more,
                       uint32_t request_id, const void *body, size_t size)
{
    struct buf buf;
    buf_init(&buf, 0);
    append_frame(&buf, opcode, more, request_id, body, size);
    int status = peer_send(peer, buf_str(&buf), &f->err);
    buf_free(&buf);
    MUST(f, status);
}

/* The body of an Enqueue of one message with `size` bytes; the caller frees it. */
static struct buf enqueue_body(const char *queue, size_t size)
{
    struct buf body;
    buf_init(&body, 0);
    buf_append_u32(&body, 1);
    wire_put_str(&body, str_from_c(queue));
    buf_append_u16(&body, 0);
    buf_append_u32(&body, (uint32_t)size);
    uint8_t *payload = buf_reserve(&body, size);
    assert_non_null(payload);
    for (size_t i = 0; i < size; i++)
        payload[i] = (uint8_t)(i * 7 + i / 251);
    body.size += size;
    return body;
}

/* The body in frames of `size` bytes each, appended to `bytes`. */
static void append_split(struct buf *bytes, uint32_t request_id, struct str body, size_t size)
{
    for (; body.size > size; body = str_of(body.data + size, body.size - size))
        append_frame(bytes, OPCODE_ENQUEUE, true, request_id, body.data, size);
    append_frame(bytes, OPCODE_ENQUEUE, false, request_id, body.data, body.size);
}

/* The answer to an Enqueue of one message: its code, or that of an Error; -1 without one. */
static int enqueue_code(struct fixture *f, struct peer *peer, uint32_t request_id,
                        unsigned timeout_ms)
{
    struct peer_frame *frame = NULL;
    struct wire_reader reader;
    struct framed_client_result result;
    struct framed_client_error error;
    uint32_t count;
    int code = -1;
    if (peer_answer(peer, request_id, timeout_ms, &frame, &f->err) != 1)
        return -1;
    wire_reader_init(&reader, str_of(frame->body, frame->size));
    if (frame->opcode == OPCODE_ERROR && framed_client_error(&reader, &error))
        code = error.code;
    if (frame->opcode == OPCODE_ENQUEUE_RESULT &&
        framed_client_enqueue_result_begin(&reader, &count) && count == 1 &&
        framed_client_enqueue_result_next(&reader, &result))
        code = result.code;
    free(frame);
    return code;
}

static void expect_refused(struct fixture *f, struct peer *peer, uint32_t request_id)
{
    struct peer_frame *frame = NULL;
    MUST_GIVE(f, FIBP_INVALID_FRAME, enqueue_code(f, peer, request_id, PEER_PATIENCE_MS));
    if (peer_read(peer, PEER_PATIENCE_MS, &frame, &f->err) >= 0)
        fail_msg("the connection was not closed: %s", frame ? opcode_name(frame->opcode) : "");
}

/* Everybody is served. */
static void expect_service(struct fixture *f)
{
    struct peer *peer = fixture_peer(f);
    MUST(f, peer_enqueue(peer, "q", "is it served", NULL, &f->err));
    fixture_close(f, peer, true);
}

/* ---- one connection ---- */

static void test_two_frames(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct peer_delivery delivery;
    uint32_t subscription;
    struct buf body = enqueue_body("q", 11);
    MUST(f, peer_create_queue(peer, "q", 0, &f->err));
    send_frame(f, peer, OPCODE_ENQUEUE, true, 50, body.data, 7);
    MUST(f, peer_ping(peer, &f->err));
    send_frame(f, peer, OPCODE_ENQUEUE, false, 50, body.data + 7, body.size - 7);
    MUST(f, enqueue_code(f, peer, 50, 5000));
    MUST(f, peer_consume(peer, "q", &subscription, &f->err));
    fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
    assert_int_equal(delivery.payload_size, 11);
    assert_memory_equal(delivery.payload, body.data + body.size - 11, 11);
    buf_free(&body);
    f->passed = true;
}

static void test_64_interleaved(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct buf body = enqueue_body("q", 3000), bytes;
    size_t third = body.size / 3;
    MUST(f, peer_create_queue(peer, "q", 0, &f->err));
    buf_init(&bytes, 0);
    for (uint32_t id = 1000; id < 1064; id++)
        append_frame(&bytes, OPCODE_ENQUEUE, true, id, body.data, third);
    for (uint32_t id = 1000; id < 1064; id++)
        append_frame(&bytes, OPCODE_ENQUEUE, true, id, body.data + third, third);
    append_frame(&bytes, OPCODE_PING, false, 999, NULL, 0);
    for (uint32_t id = 1063; id >= 1000; id--)
        append_frame(&bytes, OPCODE_ENQUEUE, false, id, body.data + 2 * third,
                     body.size - 2 * third);
    MUST(f, peer_send(peer, buf_str(&bytes), &f->err));
    for (uint32_t id = 1000; id < 1064; id++)
        MUST(f, enqueue_code(f, peer, id, PEER_PATIENCE_MS));
    fixture_wait_stats(f, peer, "q", 64, 0, 0);
    buf_free(&bytes);
    buf_free(&body);
    f->passed = true;
}

/* Each in a connection of its own, which it ends. */
static void test_offences(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct buf bytes;
    uint8_t *body = calloc(1, 65536);
    assert_non_null(body);
    MUST(f, peer_create_queue(peer, "q", 0, &f->err));

    buf_init(&bytes, 0); /* the 65th */
    for (uint32_t id = 100; id <= 164; id++)
        append_frame(&bytes, OPCODE_ENQUEUE, true, id, NULL, 0);
    MUST(f, peer_send(peer, buf_str(&bytes), &f->err));
    expect_refused(f, peer, 164);

    peer = fixture_peer(f); /* another opcode */
    send_frame(f, peer, OPCODE_ENQUEUE, true, 75, "ab", 2);
    send_frame(f, peer, OPCODE_ACK, false, 75, "cd", 2);
    expect_refused(f, peer, 75);

    peer = fixture_peer(f); /* 256 KiB and a byte; in frames of 32 KiB */
    buf_clear(&bytes);
    for (int i = 0; i < 8; i++)
        append_frame(&bytes, OPCODE_ENQUEUE, true, 76, body, 32768);
    MUST(f, peer_send(peer, buf_str(&bytes), &f->err));
    MUST(f, peer_ping(peer, &f->err));
    send_frame(f, peer, OPCODE_ENQUEUE, false, 76, "x", 1);
    expect_refused(f, peer, 76);

    peer = fixture_peer(f); /* a frame that is too long */
    bytes.size = 0;
    append_frame(&bytes, OPCODE_ENQUEUE, true, 77, body, 65536);
    MUST(f, peer_send(peer, buf_str(&bytes), &f->err));
    expect_refused(f, peer, 0);

    peer = fixture_peer(f); /* empty ones without end */
    buf_clear(&bytes);
    for (int i = 0; i < 100000; i++)
        append_frame(&bytes, OPCODE_ENQUEUE, true, 78, NULL, 0);
    (void)peer_send(peer, buf_str(&bytes), &f->err); /* it may be refused before its end */
    expect_refused(f, peer, 78);
    buf_free(&bytes);
    free(body);
    expect_service(f);
    f->passed = true;
}

static int setup_small(void **state)
{
    return fixture_setup_with(state,
                              &(struct broker_options){
                                  .workers = 1,
                                  .extra = "fibp: {max_frame_size: 64k, max_message_size: 256k}\n",
                              },
                              true);
}

/* Above the limit of a frame, in both directions. */
static void test_small_frames(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct buf body = enqueue_body("q", 200000), bytes;
    struct peer_frame *frame = NULL;
    uint32_t subscription;
    MUST(f, peer_create_queue(peer, "q", 0, &f->err));
    buf_init(&bytes, 0);
    append_split(&bytes, 5, buf_str(&body), 65536 - FRAME_LENGTH_MIN);
    MUST(f, peer_send(peer, buf_str(&bytes), &f->err));
    MUST(f, enqueue_code(f, peer, 5, PEER_PATIENCE_MS));
    MUST(f, peer_consume(peer, "q", &subscription, &f->err));
    MUST_GIVE(f, 1, peer_delivery_frame(peer, PEER_PATIENCE_MS, &frame, &f->err));
    assert_true(frame->size > 200000);
    assert_non_null(memmem(frame->body, frame->size, body.data + body.size - 200000, 200000));
    assert_int_equal(peer->longest, 65536 + 4);
    free(frame);
    buf_free(&bytes);
    buf_free(&body);
    f->passed = true;
}

/* ---- many connections ---- */

#define STALLERS 100
#define STALL_SIZE (4 * MEBIBYTE) /* what each of them sends before it stands still */

struct staller {
    struct peer *peer;
    size_t sent;
};

static size_t worker_memory(struct fixture *f)
{
    char path[64], line[256];
    size_t kibibytes = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)broker_find(&f->broker, BROKER_WORKER));
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "RssAnon: %zu kB", &kibibytes) == 1)
            break;
    fclose(file);
    return kibibytes * 1024;
}

/* Sends on all connections whatever their sockets take, until `total` bytes are on the way. */
static void pump(struct fixture *f, struct staller *stallers, struct str bytes, size_t total)
{
    uint64_t end_ns = time_monotonic_ns() + PEER_PATIENCE_MS * 1000000ull;
    size_t sum = 0;
    while (sum < total) {
        struct pollfd items[STALLERS];
        sum = 0;
        for (size_t i = 0; i < STALLERS; i++) {
            struct staller *staller = &stallers[i];
            bool whole = !staller->peer || staller->sent == bytes.size;
            items[i] = (struct pollfd){whole ? -1 : staller->peer->fd, POLLOUT, 0};
            ssize_t sent = whole ? 0
                                 : send(staller->peer->fd, bytes.data + staller->sent,
                                        bytes.size - staller->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
            staller->sent += sent > 0 ? (size_t)sent : 0;
            sum += staller->peer ? staller->sent : bytes.size;
        }
        if (time_monotonic_ns() > end_ns)
            fail_msg("only %zu of %zu bytes are taken", sum, total);
        if (sum < total)
            poll(items, STALLERS, 100);
    }
    (void)f;
}

/* Sends a request as large until there is room for it: those that stand still are given up by and
 * by, and who gets no room is told to try again. */
static void wait_for_room(struct fixture *f, struct peer *peer)
{
    struct buf body = enqueue_body("nowhere", STALL_SIZE), bytes;
    uint64_t begin_ms = time_monotonic_ms();
    unsigned refused = 0;
    int code;
    buf_init(&bytes, 0);
    append_split(&bytes, 7, buf_str(&body), MEBIBYTE);
    do {
        MUST(f, peer_send(peer, buf_str(&bytes), &f->err));
        code = enqueue_code(f, peer, 7, PEER_PATIENCE_MS);
        refused += code == FIBP_CHANNEL_FULL;
    } while (code == FIBP_CHANNEL_FULL);
    MUST_GIVE(f, FIBP_QUEUE_NOT_FOUND, code);
    print_message("room after %llu ms, refused %u times\n",
                  (unsigned long long)(time_monotonic_ms() - begin_ms), refused);
    buf_free(&bytes);
    buf_free(&body);
}

/* A hundred connections begin a large request and stand still. The worker's memory stays within its
 * budget and everybody else is served; most of them die, and the others can go on. */
static void test_stalled_requests(void **state)
{
    struct fixture *f = *state;
    struct staller stallers[STALLERS] = {{NULL, 0}};
    struct peer *peer = fixture_peer(f);
    struct buf body = enqueue_body("q", STALL_SIZE), bytes;
    MUST(f, peer_create_queue(peer, "q", 0, &f->err));
    size_t before = worker_memory(f);
    buf_init(&bytes, 0);
    append_split(&bytes, 1, buf_str(&body), MEBIBYTE);
    size_t last = bytes.size - body.size % MEBIBYTE - FRAME_OVERHEAD;
    for (size_t i = 0; i < STALLERS; i++) {
        stallers[i].peer = peer_open(f->broker.unix_address, &f->err);
        assert_non_null(stallers[i].peer);
    }
    /* All but the last frame; room for so much is there without anybody being favoured. */
    pump(f, stallers, str_of(bytes.data, last), 170 * MEBIBYTE);
    for (int i = 0; i < 10; i++)
        expect_service(f);
    size_t during = worker_memory(f);
#ifndef __SANITIZE_ADDRESS__
    if (during > before + 320 * MEBIBYTE)
        fail_msg("the worker took %zu MiB", (during - before) / MEBIBYTE);
#endif

    if (getenv("CONTINUATION_STALL"))
        wait_for_room(f, peer);
    for (size_t i = 0; i < STALLERS; i++) {
        if (i % 5 == 0 && !getenv("CONTINUATION_STALL"))
            continue;
        peer_abort(stallers[i].peer);
        stallers[i].peer = NULL;
    }
    pump(f, stallers, buf_str(&bytes), STALLERS * bytes.size);
    uint64_t whole = 0;
    for (size_t i = 0; i < STALLERS; i++) {
        if (!stallers[i].peer)
            continue;
        MUST(f, enqueue_code(f, stallers[i].peer, 1, PEER_PATIENCE_MS));
        peer_close(stallers[i].peer, true);
        whole++;
    }
    fixture_wait_stats(f, peer, "q", 10 + whole, 0, 0);
    size_t after = worker_memory(f);
    print_message("worker: %zu MiB before, %zu during, %zu after\n", before / MEBIBYTE,
                  during / MEBIBYTE, after / MEBIBYTE);
    buf_free(&bytes);
    buf_free(&body);
    f->passed = true;
}

/* A client that dies in the middle leaves nothing. */
static void test_killed_in_the_middle(void **state)
{
    struct fixture *f = *state;
    struct peer *watcher = fixture_peer(f);
    struct buf body = enqueue_body("q", 20 * MEBIBYTE), bytes;
    MUST(f, peer_create_queue(watcher, "q", 0, &f->err));
    buf_init(&bytes, 0);
    append_split(&bytes, 1, buf_str(&body), 8 * MEBIBYTE);
    for (int i = 0; i < 20; i++) { /* more than the room that there is */
        struct peer *peer = peer_open(f->broker.unix_address, &f->err);
        assert_non_null(peer);
        MUST(f, peer_send(peer, str_of(bytes.data, bytes.size - 1), &f->err));
        peer_abort(peer);
    }
    MUST(f, peer_send(watcher, buf_str(&bytes), &f->err));
    MUST(f, enqueue_code(f, watcher, 1, PEER_PATIENCE_MS));
    fixture_wait_stats(f, watcher, "q", 1, 0, 0);
    buf_free(&bytes);
    buf_free(&body);
    f->passed = true;
}

static int setup_one_worker(void **state)
{
    return fixture_setup_with(state, &(struct broker_options){.workers = 1}, true);
}

/* ---- fila ---- */

/* A file of 40 MiB goes in and comes out; meanwhile small requests are served. */
static void test_large_message_by_fila(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    char command[2048];
    MUST(f, peer_create_queue(peer, "files", 0, &f->err));
    snprintf(command, sizeof command,
             "cd %s && head -c 41943040 /dev/urandom >in && F='%s --addr %s' && "
             "$F enqueue files <in >/dev/null && $F consume files -n 1 --timeout 30000 >out && "
             "echo >>in && cmp in out",
             f->broker.directory, f->broker.fila, f->broker.unix_address);
    assert_int_equal(system(command), 0);
    fixture_wait_stats(f, peer, "files", 0, 0, 0);
    /* More than the broker takes: a clear refusal. */
    snprintf(command, sizeof command,
             "cd %s && head -c 70000000 /dev/zero | %s --addr %s enqueue files 2>&1 | "
             "grep -q 'request larger than 67108864 bytes'",
             f->broker.directory, f->broker.fila, f->broker.unix_address);
    assert_int_equal(system(command), 0);
    fixture_wait_stats(f, peer, "files", 0, 0, 0);
    f->passed = true;
}

#define WITH(setup, test) cmocka_unit_test_setup_teardown(test, setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(fixture_setup, test_two_frames),
        WITH(fixture_setup, test_64_interleaved),
        WITH(setup_small, test_offences),
        WITH(setup_small, test_small_frames),
        WITH(setup_one_worker, test_stalled_requests),
        WITH(setup_one_worker, test_killed_in_the_middle),
        WITH(fixture_setup, test_large_message_by_fila),
    };
    return cmocka_run_group_tests_name("continuation", tests, NULL, NULL);
}
