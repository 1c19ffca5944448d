/* The commands against a scripted broker: what they send, print and return. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "capture.h"
#include "cli/cli.h"
#include "unit/client/server.h"

/* Runs a command line against the server. */
static int run(struct server *server, struct capture *capture, int argc, const char *const *argv)
{
    struct cli cli = {.address = server->address, .error = FILA_ERROR_INIT};
    struct args args;
    char *copy[16];
    for (int i = 0; i < argc; i++)
        copy[i] = (char *)(uintptr_t)argv[i];
    copy[argc] = NULL;
    capture_begin(capture);
    int status = args_parse(&args, cli_commands, argc, copy);
    if (status == 0) {
        cli.json = args_value(&args, "json") != NULL;
        status = args.command->run(&cli, &args);
    }
    fila_close(cli.client);
    fila_error_clear(&cli.error);
    args_free(&args);
    capture_end(capture);
    return status;
}

#define RUN(server, capture, ...)                                                                  \
    run(server, capture, (int)(sizeof((const char *[]){"fila", __VA_ARGS__}) / sizeof(char *)),    \
        (const char *[]){"fila", __VA_ARGS__})

static void answer_list(struct server *server, uint32_t id, uint32_t nodes)
{
    struct framed_queue_info queues[] = {
        {STR("orders"), 12, 3, 1, nodes},
        {STR("orders.dlq"), 0, 0, 0, nodes},
    };
    struct framed_list list;
    framed_list_queues_begin(&server->out, id, FIBP_OK, nodes, &list);
    for (int i = 0; i < 2; i++)
        framed_list_queues_add(&server->out, &list, &queues[i]);
    server_answer_list(server, &list);
}

static void script_list(struct server *server)
{
    struct framed_list list;
    struct frame frame;
    for (uint32_t nodes = 0; nodes < 2; nodes++) {
        server_welcome(server);
        answer_list(server, server_expect(server, &frame, OPCODE_LIST_QUEUES), nodes);
        server_expect_end(server);
    }
    server_welcome(server);
    answer_list(server, server_expect(server, &frame, OPCODE_LIST_QUEUES), 0);
    server_expect_end(server);
    server_welcome(server);
    uint32_t id = server_expect(server, &frame, OPCODE_LIST_QUEUES);
    framed_list_queues_begin(&server->out, id, FIBP_OK, 0, &list);
    server_answer_list(server, &list);
    server_expect_end(server);
}

static void test_queue_list(void **state)
{
    (void)state;
    struct capture capture;
    struct server server;
    server_start(&server, script_list);
    server_run(&server);
    assert_int_equal(RUN(&server, &capture, "queue", "list"), 0);
    assert_string_equal(capture.out, "NAME          DEPTH  IN_FLIGHT  CONSUMERS\n"
                                     "orders           12          3          1\n"
                                     "orders.dlq        0          0          0\n");
    capture_free(&capture);
    assert_int_equal(RUN(&server, &capture, "queue", "list"), 0);
    assert_string_equal(capture.out, "NAME          DEPTH  IN_FLIGHT  CONSUMERS  LEADER\n"
                                     "orders           12          3          1       1\n"
                                     "orders.dlq        0          0          0       1\n"
                                     "Cluster nodes: 1\n");
    capture_free(&capture);
    assert_int_equal(RUN(&server, &capture, "queue", "list", "--json"), 0);
    assert_string_equal(
        capture.out, "{\"queues\": [{\"name\": \"orders\", \"depth\": 12, \"in_flight\": 3, "
                     "\"consumers\": 1, \"leader_node_id\": 0, \"counted_percent\": 100, "
                     "\"quarantined\": false, \"paused\": false}, {\"name\": \"orders.dlq\", "
                     "\"depth\": 0, \"in_flight\": 0, \"consumers\": 0, "
                     "\"leader_node_id\": 0, \"counted_percent\": 100, "
                     "\"quarantined\": false, \"paused\": false}], \"cluster_node_count\": 0}\n");
    capture_free(&capture);
    assert_int_equal(RUN(&server, &capture, "queue", "list"), 0);
    assert_string_equal(capture.out, "No queues found.\n");
    capture_free(&capture);
    server_stop(&server);
}

static void script_counting(struct server *server)
{
    struct framed_queue_info queues[] = {
        {STR("a"), 12, 3, 1, 0}, {STR("b"), 1, 0, 0, 0}, {STR("c"), 0, 0, 0, 0}};
    static const uint8_t counted[] = {43, FRAMED_COUNTED_ALL, FRAMED_COUNTED_QUARANTINE};
    struct framed_stats stats = {12, 3, 0, 1, 1000, 0, 0};
    struct framed_list list;
    struct frame frame;
    for (int times = 0; times < 2; times++) {
        server_welcome(server);
        uint32_t id = server_expect(server, &frame, OPCODE_LIST_QUEUES);
        framed_list_queues_begin(&server->out, id, FIBP_OK, 0, &list);
        for (int i = 0; i < 3; i++)
            framed_list_queues_add(&server->out, &list, &queues[i]);
        framed_counted_begin(&server->out);
        for (int i = 0; i < 3; i++)
            framed_counted_add(&server->out, counted[i]);
        SERVER_EXPECT(server, framed_list_end(&server->out, &list, FRAME_LENGTH_MAX) == 0);
        server_flush(server);
        server_expect_end(server);
    }
    for (int i = 0; i < 2; i++) {
        server_welcome(server);
        uint32_t id = server_expect(server, &frame, OPCODE_GET_STATS);
        framed_stats_begin(&server->out, id, FIBP_OK, &stats, &list);
        framed_stats_throttles(&server->out, &list);
        framed_counted_begin(&server->out);
        framed_counted_add(&server->out, counted[i * 2]);
        SERVER_EXPECT(server, framed_list_end(&server->out, &list, FRAME_LENGTH_MAX) == 0);
        server_flush(server);
        id = server_expect(server, &frame, OPCODE_QUEUE_DETAILS);
        server_answer_error(server, id, FIBP_INVALID_FRAME, "unknown opcode");
        server_expect_end(server);
    }
}

static void test_queue_counting(void **state)
{
    (void)state;
    struct capture capture;
    struct server server;
    server_start(&server, script_counting);
    server_run(&server);
    assert_int_equal(RUN(&server, &capture, "queue", "list"), 0);
    assert_string_equal(capture.out, "NAME    DEPTH  IN_FLIGHT  CONSUMERS\n"
                                     "a          12          3          1  counting 43 %\n"
                                     "b           1          0          0\n"
                                     "c           0          0          0  quarantined\n");
    capture_free(&capture);
    assert_int_equal(RUN(&server, &capture, "queue", "list", "--json"), 0);
    assert_non_null(
        strstr(capture.out, "\"counted_percent\": 43, \"quarantined\": false, \"paused\": false"));
    assert_non_null(
        strstr(capture.out, "\"counted_percent\": 100, \"quarantined\": true, \"paused\": false"));
    capture_free(&capture);
    assert_int_equal(RUN(&server, &capture, "queue", "inspect", "a"), 0);
    assert_non_null(strstr(capture.out, "Depth:                12, counting 43 %\n"));
    capture_free(&capture);
    assert_int_equal(RUN(&server, &capture, "queue", "inspect", "c"), 0);
    assert_non_null(strstr(capture.out, "Depth:                12, quarantined\n"));
    capture_free(&capture);
    server_stop(&server);
}

static void script_inspect(struct server *server)
{
    struct framed_stats stats = {5, 2, 1, 1, 1000, 0, 0};
    struct framed_key_stats key = {STR("acme"), 3, -7, 2};
    struct framed_throttle_stats throttle = {STR("api"), 1.5, 10, 20};
    struct framed_list list;
    struct frame frame;
    server_welcome(server);
    uint32_t id = server_expect(server, &frame, OPCODE_GET_STATS);
    framed_stats_begin(&server->out, id, FIBP_OK, &stats, &list);
    framed_stats_add_key(&server->out, &list, &key);
    framed_stats_throttles(&server->out, &list);
    framed_stats_add_throttle(&server->out, &list, &throttle);
    server_answer_list(server, &list);
    id = server_expect(server, &frame, OPCODE_QUEUE_DETAILS);
    server_answer_error(server, id, FIBP_INVALID_FRAME, "unknown opcode");
    server_expect_end(server);
    server_welcome(server);
    id = server_expect(server, &frame, OPCODE_GET_STATS);
    server_answer_error(server, id, FIBP_QUEUE_NOT_FOUND, "no queue \"none\"");
    server_expect_end(server);
}

static void test_queue_inspect(void **state)
{
    (void)state;
    struct capture capture;
    struct server server;
    server_start(&server, script_inspect);
    server_run(&server);
    assert_int_equal(RUN(&server, &capture, "queue", "inspect", "orders"), 0);
    assert_string_equal(capture.out, "Queue: orders\n"
                                     "  Depth:                5\n"
                                     "  In-flight:            2\n"
                                     "  Active fairness keys: 1\n"
                                     "  Active consumers:     1\n"
                                     "  Quantum:              1000\n"
                                     "\n"
                                     "  KEY     PENDING    DEFICIT  WEIGHT\n"
                                     "  acme          3         -7       2\n"
                                     "\n"
                                     "  KEY     TOKENS     RATE/S      BURST\n"
                                     "  api        1.5       10.0       20.0\n");
    capture_free(&capture);
    assert_int_equal(RUN(&server, &capture, "queue", "inspect", "none"), 1);
    assert_string_equal(capture.err, "fila: inspect queue \"none\": no queue \"none\"\n");
    capture_free(&capture);
    server_stop(&server);
}

static void script_create(struct server *server)
{
    struct frame frame;
    server_welcome(server);
    uint32_t id = server_expect(server, &frame, OPCODE_CREATE_QUEUE);
    server_answer_created(server, id, FIBP_OK, "orders");
    server_expect_end(server);
    server_welcome(server);
    id = server_expect(server, &frame, OPCODE_DELETE_QUEUE);
    server_answer_status(server, id, OPCODE_DELETE_QUEUE_RESULT, FIBP_QUEUE_NOT_FOUND);
    server_expect_end(server);
}

static void test_queue_create_delete(void **state)
{
    (void)state;
    struct capture capture;
    struct server server;
    server_start(&server, script_create);
    server_run(&server);
    assert_int_equal(RUN(&server, &capture, "queue", "create", "orders"), 0);
    assert_string_equal(capture.out, "Created queue \"orders\"\n");
    capture_free(&capture);
    assert_int_equal(RUN(&server, &capture, "queue", "delete", "orders"), 1);
    assert_string_equal(capture.out, "");
    assert_string_equal(capture.err, "fila: delete queue \"orders\": queue not found\n");
    capture_free(&capture);
    assert_int_equal(
        RUN(&server, &capture, "queue", "create", "q", "--on-enqueue", "@/nonexistent"), 2);
    assert_non_null(strstr(capture.err, "No such file"));
    capture_free(&capture);
    assert_int_equal(RUN(&server, &capture, "queue", "create", "q", "--on-failure", "@"), 2);
    assert_string_equal(capture.err,
                        "fila: --on-failure: the name of a file is missing behind @\n");
    capture_free(&capture);
    server_stop(&server);
}

static void script_enqueue(struct server *server)
{
    struct framed_enqueue_item item;
    struct wire_reader reader;
    struct frame frame;
    struct str value;
    uint32_t count;
    server_welcome(server);
    uint32_t id = server_expect(server, &frame, OPCODE_ENQUEUE);
    wire_reader_init(&reader, frame.body);
    SERVER_EXPECT(server, framed_enqueue_begin(&reader, &count) && count == 1);
    SERVER_EXPECT(server, framed_enqueue_next(&reader, &item) && item.header_count == 2);
    SERVER_EXPECT(server, str_equal(item.payload, STR("hello")));
    SERVER_EXPECT(server, framed_headers_find(item.headers, STR("tenant"), &value) &&
                              str_equal(value, STR("acme=x")));
    SERVER_EXPECT(server, framed_headers_find(item.headers, STR("weight"), &value) &&
                              str_equal(value, STR("")));
    server_answer_enqueue(server, id, 1);
    server_expect_end(server);

    server_welcome(server);
    id = server_expect(server, &frame, OPCODE_ENQUEUE);
    size_t start = framed_enqueue_result_begin(&server->out, id, 1);
    framed_enqueue_result_add(&server->out, FIBP_QUEUE_NOT_FOUND, NULL);
    SERVER_EXPECT(server, frame_end(&server->out, start, FRAME_LENGTH_MAX) == 0);
    server_flush(server);
    server_expect_end(server);
}

static void test_enqueue(void **state)
{
    (void)state;
    struct capture capture;
    struct server server;
    server_start(&server, script_enqueue);
    server_run(&server);
    assert_int_equal(
        RUN(&server, &capture, "enqueue", "q", "-H", "tenant=acme=x", "-H", "weight=", "hello"), 0);
    assert_string_equal(capture.out, "01010101-0101-0101-0101-010101010101\n");
    capture_free(&capture);
    assert_int_equal(RUN(&server, &capture, "enqueue", "none", "hello"), 1);
    assert_string_equal(capture.err, "fila: enqueue to \"none\": queue not found\n");
    capture_free(&capture);
    assert_int_equal(RUN(&server, &capture, "enqueue", "q", "-H", "tenant", "x"), 2);
    assert_string_equal(capture.err, "fila: -H tenant: is not KEY=VALUE\n");
    capture_free(&capture);
    server_stop(&server);
}

/* Lines through a pipe, the last one without a newline. */
static void script_lines(struct server *server)
{
    static const char *const expected[] = {"one", "", "three"};
    uint32_t seen = 0;
    server_welcome(server);
    while (seen < 3) {
        struct framed_enqueue_item item;
        struct wire_reader reader;
        struct frame frame;
        struct uuid id = server_id(1);
        uint32_t count;
        server_expect(server, &frame, OPCODE_ENQUEUE);
        wire_reader_init(&reader, frame.body);
        SERVER_EXPECT(server, framed_enqueue_check(&reader, &count) && count <= 3 - seen);
        if (server->failure[0])
            break;
        size_t start = framed_enqueue_result_begin(&server->out, frame.request_id, count);
        for (uint32_t i = 0; i < count && framed_enqueue_next(&reader, &item); i++, seen++) {
            SERVER_EXPECT(server, str_equal(item.payload, str_from_c(expected[seen])));
            framed_enqueue_result_add(&server->out, FIBP_OK, &id);
        }
        SERVER_EXPECT(server, frame_end(&server->out, start, FRAME_LENGTH_MAX) == 0);
        server_flush(server);
    }
    server_expect_end(server);
}

/* Through a pipe, as standard input. */
static void give_input(const char *text)
{
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    assert_int_equal(write(pipe_fds[1], text, strlen(text)), strlen(text));
    close(pipe_fds[1]);
    dup2(pipe_fds[0], STDIN_FILENO);
    close(pipe_fds[0]);
}

static void test_enqueue_lines(void **state)
{
    (void)state;
    struct capture capture;
    struct server server;
    int saved = dup(STDIN_FILENO);
    give_input("one\n\nthree");
    server_start(&server, script_lines);
    server_run(&server);
    assert_int_equal(RUN(&server, &capture, "enqueue", "q", "--lines", "--json"), 0);
    assert_string_equal(capture.out,
                        "{\"queue\": \"q\", \"id\": \"01010101-0101-0101-0101-010101010101\"}\n"
                        "{\"queue\": \"q\", \"id\": \"01010101-0101-0101-0101-010101010101\"}\n"
                        "{\"queue\": \"q\", \"id\": \"01010101-0101-0101-0101-010101010101\"}\n");
    capture_free(&capture);
    dup2(saved, STDIN_FILENO);
    close(saved);
    server_stop(&server);
}

/* The second line of three is rejected by a script. */
static void script_rejected(struct server *server)
{
    uint32_t seen = 0;
    server_welcome(server);
    while (seen < 3) {
        struct wire_reader reader;
        struct frame frame;
        struct uuid id = server_id(1);
        uint32_t count;
        server_expect(server, &frame, OPCODE_ENQUEUE);
        wire_reader_init(&reader, frame.body);
        SERVER_EXPECT(server, framed_enqueue_check(&reader, &count) && count <= 3 - seen);
        if (server->failure[0])
            break;
        size_t start = framed_enqueue_result_begin(&server->out, frame.request_id, count);
        for (uint32_t i = 0; i < count; i++, seen++) {
            if (seen == 1)
                framed_enqueue_result_reject(&server->out, FIBP_FORBIDDEN, STR("too late"));
            else
                framed_enqueue_result_add(&server->out, FIBP_OK, &id);
        }
        SERVER_EXPECT(server, frame_end(&server->out, start, FRAME_LENGTH_MAX) == 0);
        server_flush(server);
    }
    server_expect_end(server);
}

static void test_enqueue_rejected(void **state)
{
    (void)state;
    struct capture capture;
    struct server server;
    int saved = dup(STDIN_FILENO);
    give_input("one\ntwo\nthree\n");
    server_start(&server, script_rejected);
    server_run(&server);
    assert_int_equal(RUN(&server, &capture, "enqueue", "q", "--lines"), 1);
    assert_string_equal(capture.out, "01010101-0101-0101-0101-010101010101\n"
                                     "01010101-0101-0101-0101-010101010101\n");
    assert_string_equal(capture.err, "fila: enqueue line 2 to \"q\": too late\n");
    capture_free(&capture);
    server_stop(&server);

    server_start(&server, script_rejected);
    server_run(&server);
    give_input("one\ntwo\nthree\n");
    assert_int_equal(RUN(&server, &capture, "enqueue", "q", "--lines", "--json"), 1);
    assert_string_equal(capture.out,
                        "{\"queue\": \"q\", \"id\": \"01010101-0101-0101-0101-010101010101\"}\n"
                        "{\"queue\": \"q\", \"line\": 2, \"result\": \"too late\"}\n"
                        "{\"queue\": \"q\", \"id\": \"01010101-0101-0101-0101-010101010101\"}\n");
    capture_free(&capture);
    dup2(saved, STDIN_FILENO);
    close(saved);
    server_stop(&server);
}

/* Settles whatever is asked for with FIBP_OK. */
static void answer_settle(struct server *server, uint8_t opcode, uint32_t items)
{
    uint32_t seen = 0;
    while (seen < items) {
        struct wire_reader reader;
        struct frame frame;
        uint32_t count = 0;
        uint32_t id = server_expect(server, &frame, opcode);
        wire_reader_init(&reader, frame.body);
        SERVER_EXPECT(server, wire_u32(&reader, "count", &count) && count > 0);
        if (server->failure[0])
            return;
        size_t start = framed_ack_result_begin(&server->out, NUMBERING_S3,
                                               opcode_find(opcode)->result, id, count);
        for (uint32_t i = 0; i < count; i++)
            framed_ack_result_add(&server->out, FIBP_OK);
        SERVER_EXPECT(server, frame_end(&server->out, start, FRAME_LENGTH_MAX) == 0);
        server_flush(server);
        seen += count;
    }
}

static void script_consume(struct server *server)
{
    /* -n 2 of 3, acked */
    server_welcome(server);
    uint32_t id = server_accept_limited(server, 2);
    server_deliver(server, id, 1, 3, "hello", FRAME_LENGTH_MAX);
    server_flush(server);
    answer_settle(server, OPCODE_ACK, 2);
    server_expect_end(server);
    /* nacked */
    server_welcome(server);
    id = server_accept_limited(server, 1);
    server_deliver(server, id, 1, 1, "\xff", FRAME_LENGTH_MAX);
    server_flush(server);
    answer_settle(server, OPCODE_NACK, 1);
    server_expect_end(server);
    /* neither: goodbye and cancel only */
    server_welcome(server);
    id = server_accept_limited(server, 0);
    server_deliver(server, id, 1, 1, "kept", FRAME_LENGTH_MAX);
    server_flush(server);
    server_expect_end(server);
    /* ended by the server */
    server_welcome(server);
    id = server_accept_consume(server);
    SERVER_EXPECT(
        server, framed_error(&server->out, id, FIBP_QUEUE_NOT_FOUND, STR("deleted"), NULL, 0) == 0);
    server_flush(server);
    server_expect_end(server);
}

static void test_consume(void **state)
{
    (void)state;
    struct capture capture;
    struct server server;
    server_start(&server, script_consume);
    server_run(&server);
    assert_int_equal(RUN(&server, &capture, "consume", "orders", "-n", "2"), 0);
    assert_string_equal(capture.out, "hello\nhello\n");
    capture_free(&capture);
    assert_int_equal(
        RUN(&server, &capture, "consume", "orders", "--nack", "boom", "-n", "1", "--json"), 0);
    assert_string_equal(
        capture.out,
        "{\"id\": \"01010101-0101-0101-0101-010101010101\", \"queue\": \"orders\", "
        "\"headers\": {\"n\": \"2\"}, \"payload_base64\": \"/w==\", "
        "\"fairness_key\": \"acme\", \"weight\": 3, \"throttle_keys\": [\"throttle\"], "
        "\"attempt\": 0, \"enqueued_ms\": 1000, \"leased_ms\": 2000}\n");
    capture_free(&capture);
    assert_int_equal(RUN(&server, &capture, "consume", "orders", "--no-ack", "--timeout", "200"),
                     0);
    assert_string_equal(capture.out, "kept\n");
    capture_free(&capture);
    assert_int_equal(RUN(&server, &capture, "consume", "orders"), 1);
    assert_string_equal(capture.err, "fila: consume from \"orders\": deleted\n");
    capture_free(&capture);
    assert_int_equal(RUN(&server, &capture, "consume", "q", "--no-ack", "--nack", "x"), 2);
    capture_free(&capture);
    assert_int_equal(RUN(&server, &capture, "consume", "q", "-n0"), 2);
    assert_string_equal(capture.err, "fila: consume: -n must be at least 1\n");
    capture_free(&capture);
    server_stop(&server);
}

static void script_settle(struct server *server)
{
    struct frame frame;
    server_welcome(server);
    uint32_t id = server_expect(server, &frame, OPCODE_ACK);
    size_t start = framed_ack_result_begin(&server->out, NUMBERING_S3, OPCODE_ACK_RESULT, id, 2);
    framed_ack_result_add(&server->out, FIBP_OK);
    framed_ack_result_add(&server->out, FIBP_MESSAGE_NOT_FOUND);
    SERVER_EXPECT(server, frame_end(&server->out, start, FRAME_LENGTH_MAX) == 0);
    server_flush(server);
    server_expect_end(server);
    server_welcome(server);
    answer_settle(server, OPCODE_NACK, 1);
    server_expect_end(server);
}

static void test_settle(void **state)
{
    (void)state;
    struct capture capture;
    struct server server;
    server_start(&server, script_settle);
    server_run(&server);
    assert_int_equal(RUN(&server, &capture, "ack", "q", "id1", "id2"), 1);
    assert_string_equal(capture.out, "acked id1\n");
    assert_string_equal(capture.err, "fila: ack id2: message not found\n");
    capture_free(&capture);
    assert_int_equal(RUN(&server, &capture, "nack", "q", "id1", "--error", "boom", "--json"), 0);
    assert_string_equal(capture.out, "{\"queue\": \"q\", \"id\": \"id1\", \"result\": \"ok\"}\n");
    capture_free(&capture);
    assert_int_equal(RUN(&server, &capture, "nack", "q", "id1"), 2);
    capture_free(&capture);
    server_stop(&server);
}

static void test_bad_address(void **state)
{
    (void)state;
    static const char *const addresses[] = {"127.0.0.1:x", "127.0.0.1:99999", "[::1", "unix:"};
    static const char *const lines[][4] = {
        {"queue", "list", NULL},    {"queue", "create", "q"}, {"enqueue", "q", "x"},
        {"consume", "q", "--json"}, {"ack", "q", "id"},
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        for (size_t k = 0; k < sizeof(addresses) / sizeof(addresses[0]); k++) {
            const char *argv[4] = {"fila", lines[i][0], lines[i][1], lines[i][2]};
            struct capture capture;
            struct server nobody;
            snprintf(nobody.address, sizeof(nobody.address), "%s", addresses[k]);
            assert_int_equal(run(&nobody, &capture, lines[i][2] ? 4 : 3, argv), 2);
            assert_non_null(strstr(capture.err, "fila: address "));
            assert_string_equal(capture.out, "");
            capture_free(&capture);
        }
    }
    /* One that nobody serves is no mistake of the command line. */
    struct capture capture;
    struct server nobody = {.address = "unix:/nonexistent"};
    assert_int_equal(RUN(&nobody, &capture, "queue", "list"), 1);
    capture_free(&capture);
}

static void test_absent(void **state)
{
    (void)state;
    static const char *const lines[][5] = {
        {"auth", "list"},
        {"auth", "acl", "get", "x"},
        {"auth", "acl", "set", "x"},
        {"auth", "create", "--name", "x"},
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct server nobody = {.address = "127.0.0.1:1"};
        const char *argv[6] = {"fila"};
        struct capture capture;
        int argc = 1;
        for (; argc < 6 && lines[i][argc - 1]; argc++)
            argv[argc] = lines[i][argc - 1];
        assert_int_equal(run(&nobody, &capture, argc, argv), 2);
        assert_non_null(strstr(capture.err, ": not in this build\n"));
        capture_free(&capture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_queue_list),       cmocka_unit_test(test_queue_counting),
        cmocka_unit_test(test_queue_inspect),    cmocka_unit_test(test_queue_create_delete),
        cmocka_unit_test(test_enqueue),          cmocka_unit_test(test_enqueue_lines),
        cmocka_unit_test(test_enqueue_rejected), cmocka_unit_test(test_consume),
        cmocka_unit_test(test_settle),           cmocka_unit_test(test_bad_address),
        cmocka_unit_test(test_absent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
