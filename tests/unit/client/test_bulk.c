/* Requests with many items: how they are cut into frames and what becomes of their results. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "fibp/reassembly.h"
#include "server.h"

#define MANY 2500
#define SMALL_FRAME 2000

/* What the server saw. */
struct seen {
    uint32_t frames, items, largest;
    size_t longest; /* frame length */
};

/* Reads Enqueue frames until all messages are there and only then answers; message n is refused
 * when its payload says so. */
static void script_collect(struct server *server)
{
    struct seen *seen = server->context;
    struct uuid ok = server_id(1);
    struct frame frame;
    server_welcome(server);
    while (seen->items < MANY && server_read(server, &frame)) {
        struct framed_enqueue_item item;
        struct wire_reader reader;
        uint32_t count;
        wire_reader_init(&reader, frame.body);
        SERVER_EXPECT(server, framed_enqueue_check(&reader, &count));
        size_t start = framed_enqueue_result_begin(&server->out, frame.request_id, count);
        for (uint32_t i = 0; i < count && framed_enqueue_next(&reader, &item); i++) {
            bool refuse = item.payload.data[0] == 'r';
            framed_enqueue_result_add(&server->out, refuse ? FIBP_QUEUE_NOT_FOUND : FIBP_OK, &ok);
        }
        SERVER_EXPECT(server, frame_end(&server->out, start, FRAME_LENGTH_MAX) == 0);
        seen->frames++;
        seen->items += count;
        seen->largest = count > seen->largest ? count : seen->largest;
        seen->longest = frame.size - 4 > seen->longest ? frame.size - 4 : seen->longest;
    }
    server_flush(server);
    server_expect_end(server);
}

static void enqueue_many(uint32_t max_frame_size, struct seen *seen)
{
    static struct fila_message messages[MANY];
    static struct fila_enqueue_result results[MANY];
    struct fila_header header = {{"tenant", 6}, {"acme", 4}};
    struct fila_error error = FILA_ERROR_INIT;
    struct server server;

    for (int i = 0; i < MANY; i++)
        messages[i] = (struct fila_message){
            .queue = fila_text(i % 2 ? "odd" : "even"),
            .headers = &header,
            .header_count = 1,
            .payload = fila_text(i % 7 == 0 ? "refuse me" : "ok"),
        };
    server_start(&server, script_collect);
    server.max_frame_size = max_frame_size;
    server.context = seen;
    server_run(&server);
    struct fila *client = server_connect(&server, 20000);
    assert_int_equal(fila_enqueue_many(client, messages, MANY, results, &error), 0);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(results[i].code, i % 7 == 0 ? FILA_QUEUE_NOT_FOUND : FILA_OK);
        assert_int_equal(results[i].id[0] != '\0', i % 7 != 0);
    }
    fila_close(client);
    server_stop(&server);
}

static void test_split_by_count(void **state)
{
    (void)state;
    struct seen seen = {0};
    enqueue_many(0, &seen);
    assert_int_equal(seen.items, MANY);
    assert_int_equal(seen.frames, 3);
    assert_int_equal(seen.largest, 1000);
}

static void test_split_by_bytes(void **state)
{
    (void)state;
    struct seen seen = {0};
    enqueue_many(SMALL_FRAME, &seen);
    assert_int_equal(seen.items, MANY);
    assert_true(seen.longest <= SMALL_FRAME);
    assert_true(seen.longest > SMALL_FRAME - 50); /* and well filled */
}

static void script_first_frame_only(struct server *server)
{
    struct frame frame;
    server_welcome(server);
    uint32_t id = server_expect(server, &frame, OPCODE_ACK);
    server_expect(server, &frame, OPCODE_ACK);
    size_t start = framed_ack_result_begin(&server->out, NUMBERING_S3, OPCODE_ACK_RESULT, id, 1000);
    for (int i = 0; i < 1000; i++)
        framed_ack_result_add(&server->out, FIBP_OK);
    SERVER_EXPECT(server, frame_end(&server->out, start, FRAME_LENGTH_MAX) == 0);
    server_flush(server);
    server_hang_up(server);
}

/* What was answered keeps its result; the rest has the reason. */
static void test_partly_answered(void **state)
{
    (void)state;
    static struct fila_ack acks[1500];
    static enum fila_code codes[1500];
    struct fila_error error = FILA_ERROR_INIT;
    struct server server;
    for (int i = 0; i < 1500; i++)
        acks[i] = (struct fila_ack){fila_text("q"), fila_text("id")};
    server_start(&server, script_first_frame_only);
    server_run(&server);
    struct fila *client = server_connect(&server, 20000);
    assert_int_equal(fila_ack_many(client, acks, 1500, codes, &error), -1);
    assert_int_equal(error.code, FILA_TRANSPORT);
    for (int i = 0; i < 1500; i++)
        assert_int_equal(codes[i], i < 1000 ? FILA_OK : FILA_TRANSPORT);
    fila_error_clear(&error);
    fila_close(client);
    server_stop(&server);
}

static void script_nack(struct server *server)
{
    struct frame frame;
    struct framed_nack_item item;
    struct wire_reader reader;
    uint32_t count;
    server_welcome(server);
    uint32_t id = server_expect(server, &frame, OPCODE_NACK);
    wire_reader_init(&reader, frame.body);
    SERVER_EXPECT(server, framed_nack_begin(&reader, &count) && count == 1 &&
                              framed_nack_next(&reader, &item) &&
                              str_equal(item.queue, STR("orders")) &&
                              str_equal(item.message_id, STR("some id")) &&
                              str_equal(item.error, STR("boom")));
    size_t start = framed_ack_result_begin(&server->out, NUMBERING_S3, OPCODE_NACK_RESULT, id, 1);
    framed_ack_result_add(&server->out, FIBP_OK);
    SERVER_EXPECT(server, frame_end(&server->out, start, FRAME_LENGTH_MAX) == 0);
    server_flush(server);
    server_expect_end(server);
}

static void test_nack(void **state)
{
    (void)state;
    struct server server;
    server_start(&server, script_nack);
    server_run(&server);
    struct fila *client = server_connect(&server, 20000);
    assert_int_equal(
        fila_nack(client, fila_text("orders"), fila_text("some id"), fila_text("boom"), NULL), 0);
    fila_close(client);
    server_stop(&server);
}

static void script_nothing(struct server *server)
{
    server_welcome(server);
    server_expect_end(server); /* no request may come */
}

static void never_called(void *context, const struct fila_enqueue_result *results, size_t count,
                         const struct fila_error *error)
{
    (void)results;
    (void)count;
    (void)error;
    ++*(int *)context;
}

/* Found out before anything is sent. */
#define LARGE (10 * SMALL_FRAME + 7)

/* Puts requests together until one is whole, whose frames it counts. */
static uint32_t whole_request(struct server *server, struct reassembly *reassembly,
                              struct frame *frame, size_t *frames)
{
    enum reassembly_result result = REASSEMBLY_HELD;

    for (*frames = 0; result == REASSEMBLY_HELD && server_read(server, frame); ++*frames) {
        SERVER_EXPECT(server, frame->opcode == OPCODE_ENQUEUE);
        SERVER_EXPECT(server, frame->size <= SMALL_FRAME + 4);
        result = reassembly_take(reassembly, frame);
    }
    SERVER_EXPECT(server, result == REASSEMBLY_READY);
    return frame->request_id;
}

static void script_large(struct server *server)
{
    struct framed_enqueue_item item;
    struct reassembly reassembly;
    struct wire_reader reader;
    struct frame frame;
    uint32_t count;
    size_t frames;

    server_welcome(server);
    reassembly_init(&reassembly, 1, 1 << 20, 1 << 20);
    /* Three requests, the second of which is large, and an asynchronous one. */
    for (uint8_t i = 0; i < 4; i++) {
        uint32_t id = whole_request(server, &reassembly, &frame, &frames);
        SERVER_EXPECT(server, frames == (i % 2 ? 11 : 1));
        wire_reader_init(&reader, frame.body);
        SERVER_EXPECT(server, framed_enqueue_check(&reader, &count) && count == 1);
        SERVER_EXPECT(server, framed_enqueue_next(&reader, &item));
        SERVER_EXPECT(server, item.payload.size == (i % 2 ? LARGE : 1));
        for (size_t at = 0; at < item.payload.size; at++)
            SERVER_EXPECT(server, item.payload.data[at] == (uint8_t)(at * 7 + at / 251));
        server_answer_enqueue(server, id, i);
    }
    reassembly_free(&reassembly);
    server_expect_end(server);
}

static void done(void *context, const struct fila_enqueue_result *results, size_t count,
                 const struct fila_error *error)
{
    (void)error;
    if (count == 1 && results[0].code == FILA_OK)
        sem_post(context);
}

/* What does not fit a frame goes out in several, all under its own id and after each other. */
static void test_large_messages_are_split(void **state)
{
    static uint8_t payload[LARGE];
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_enqueue_result results[3];
    struct fila_message small = {.queue = fila_text("q"), .payload = {payload, 1}};
    struct fila_message large = {.queue = fila_text("q"), .payload = {payload, LARGE}};
    struct fila_message messages[] = {small, large, small};
    struct server server;
    sem_t answered;

    (void)state;
    for (size_t i = 0; i < LARGE; i++)
        payload[i] = (uint8_t)(i * 7 + i / 251);
    sem_init(&answered, 0, 0);
    server_start(&server, script_large);
    server.max_frame_size = SMALL_FRAME;
    server_run(&server);
    struct fila *client = server_connect(&server, 20000);
    assert_int_equal(fila_enqueue_many(client, messages, 3, results, &error), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(results[i].code, FILA_OK);
    assert_int_equal(fila_enqueue_async(client, &large, done, &answered, &error), 0);
    sem_wait(&answered);
    fila_close(client);
    server_stop(&server);
    sem_destroy(&answered);
}

static void test_refused_locally(void **state)
{
    (void)state;
    static char payload[SMALL_FRAME];
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_enqueue_result results[2];
    struct fila_message good = {.queue = fila_text("q"), .payload = fila_text("x")};
    struct fila_message large = good, garbage = good;
    struct server server;
    int calls = 0;

    large.payload = (struct fila_slice){payload, sizeof(payload)};
    garbage.queue = fila_text("\xff\xfe");
    struct fila_message pair[] = {good, garbage};
    server_start(&server, script_nothing);
    server.max_frame_size = SMALL_FRAME;
    server_run(&server);
    struct fila_options options;
    fila_options_init(&options);
    options.address = server.address;
    options.max_message_size = SMALL_FRAME;
    struct fila *client = fila_connect(&options, &error);
    assert_non_null(client);
    assert_int_equal(fila_max_frame_size(client), SMALL_FRAME);
    assert_int_equal(fila_enqueue(client, &large, NULL, &error), -1);
    assert_int_equal(error.code, FILA_TOO_LARGE);
    assert_string_equal(error.text, "message 0 is longer than max_message_size, 2000 bytes");
    assert_int_equal(fila_enqueue_many(client, pair, 2, results, &error), -1);
    assert_int_equal(error.code, FILA_USAGE);
    assert_string_equal(error.text, "message 1: queue name is not valid UTF-8");
    assert_int_equal(results[0].code, FILA_USAGE);
    assert_int_equal(results[1].code, FILA_USAGE);
    assert_int_equal(fila_enqueue_many_async(client, pair, 2, never_called, &calls, &error), -1);
    assert_int_equal(fila_enqueue_async(client, &large, never_called, &calls, &error), -1);
    assert_int_equal(error.code, FILA_TOO_LARGE);
    assert_int_equal(fila_enqueue_many(client, pair, 0, results, &error), 0);
    fila_error_clear(&error);
    fila_close(client);
    assert_int_equal(calls, 0);
    server_stop(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split_by_count),           cmocka_unit_test(test_split_by_bytes),
        cmocka_unit_test(test_partly_answered),          cmocka_unit_test(test_nack),
        cmocka_unit_test(test_large_messages_are_split), cmocka_unit_test(test_refused_locally),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
