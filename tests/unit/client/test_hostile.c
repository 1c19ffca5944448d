/* libfila against servers that mean no good: each call ends with an error that says so, and nothing
 * of what was sent reaches a terminal as it is. */
#include "server.h"

#include <stdlib.h>

#include "client/error.h"

enum call { CALL_ENQUEUE, CALL_CONSUME, CALL_LIST, CALL_STATS, CALL_ACK };

/* What the server sends when the request has come; the first request of a connection has id 1. */
struct answer {
    const char *what;
    enum call call;
    struct str bytes;
    enum fila_code code;
};

#define HEADER(length, opcode) length opcode "\0\0\0\0\1"

static const struct answer answers[] = {
    {"a length of 0", CALL_ENQUEUE, STR("\0\0\0\0"), FILA_PROTOCOL},
    {"a length of 4 GiB", CALL_ENQUEUE, STR("\377\377\377\377"), FILA_PROTOCOL},
    {"a length of 16 MiB and one", CALL_ENQUEUE, STR("\1\0\0\1"), FILA_PROTOCOL},
    {"half a frame", CALL_ENQUEUE, STR("\0\0\0\60\21\0\0\0\0\1\0\0"), FILA_TRANSPORT},
    {"text of another protocol", CALL_ENQUEUE, STR("HTTP/1.1 200 OK\r\n\r\n"), FILA_PROTOCOL},
    {"an error without a body", CALL_ENQUEUE, STR(HEADER("\0\0\0\6", "\376")), FILA_PROTOCOL},
    {"an error that says it is none", CALL_ENQUEUE, STR(HEADER("\0\0\0\13", "\376") "\0\0\0\0\0"),
     FILA_SERVER_ERROR},
    {"an error with a lying map", CALL_ENQUEUE, STR(HEADER("\0\0\0\13", "\376") "\11\0\0\377\377"),
     FILA_PROTOCOL},
    {"an error that is not UTF-8", CALL_ENQUEUE,
     STR(HEADER("\0\0\0\15", "\376") "\11\0\2\377\376\0\0"), FILA_PROTOCOL},
    {"a million results in 4 bytes", CALL_ENQUEUE, STR(HEADER("\0\0\0\12", "\21") "\0\17\102\100"),
     FILA_PROTOCOL},
    {"no result", CALL_ENQUEUE, STR(HEADER("\0\0\0\12", "\21") "\0\0\0\0"), FILA_PROTOCOL},
    {"a result that is cut", CALL_ENQUEUE, STR(HEADER("\0\0\0\15", "\21") "\0\0\0\1\0\0\44"),
     FILA_PROTOCOL},
    {"an id without end", CALL_ENQUEUE, STR(HEADER("\0\0\0\16", "\21") "\0\0\0\1\0\0\377\377"),
     FILA_PROTOCOL},
    {"the answer to something else", CALL_ENQUEUE, STR(HEADER("\0\0\0\6", "\4")), FILA_PROTOCOL},
    {"a request", CALL_ENQUEUE, STR(HEADER("\0\0\0\6", "\20")), FILA_PROTOCOL},
    {"more acks than asked", CALL_ACK, STR(HEADER("\0\0\0\14", "\27") "\0\0\0\2\0\0"),
     FILA_PROTOCOL},
    {"no consumer id", CALL_CONSUME, STR(HEADER("\0\0\0\6", "\23")), FILA_PROTOCOL},
    {"a consumer id that is not UTF-8", CALL_CONSUME, STR(HEADER("\0\0\0\11", "\23") "\0\1\200"),
     FILA_PROTOCOL},
    {"65,535 queues in 7 bytes", CALL_LIST, STR(HEADER("\0\0\0\15", "\366") "\0\0\0\0\0\377\377"),
     FILA_PROTOCOL},
    {"a list that is cut", CALL_LIST, STR(HEADER("\0\0\0\12", "\366") "\0\0\0\0"), FILA_PROTOCOL},
    {"statistics that are cut", CALL_STATS, STR(HEADER("\0\0\0\12", "\370") "\0\0\0\0"),
     FILA_PROTOCOL},
    {"parts of two operations under one id", CALL_ENQUEUE,
     STR("\0\0\0\7\21\1\0\0\0\1x" HEADER("\0\0\0\6", "\4")), FILA_PROTOCOL},
};

#define ANSWERS (sizeof(answers) / sizeof(answers[0]))

static void script_answers(struct server *server)
{
    for (size_t i = 0; i < ANSWERS; i++) {
        struct frame frame;
        server_welcome(server);
        SERVER_EXPECT(server, server_read(server, &frame) && frame.request_id == 1);
        server_send(server, answers[i].bytes);
        shutdown(server->fd, SHUT_WR);
        while (server_read(server, &frame))
            ;
        server_hang_up(server);
    }
}

static enum fila_code run(struct fila *client, enum call call, struct fila_error *error)
{
    struct fila_message message = {.queue = fila_text("orders"), .payload = fila_text("x")};
    struct fila_consumer *consumer = NULL;
    struct fila_queue_list *list = NULL;
    struct fila_queue_stats *stats = NULL;
    bool good = false;

    switch (call) {
    case CALL_ENQUEUE:
        good = fila_enqueue(client, &message, NULL, error) == 0;
        break;
    case CALL_ACK:
        good = fila_ack(client, fila_text("orders"), fila_text("id"), error) == 0;
        break;
    case CALL_CONSUME:
        good = (consumer = fila_consume(client, "orders", error)) != NULL;
        break;
    case CALL_LIST:
        good = (list = fila_queue_list(client, error)) != NULL;
        break;
    case CALL_STATS:
        good = (stats = fila_queue_stats(client, "orders", error)) != NULL;
        break;
    }
    fila_consumer_free(consumer);
    fila_queue_list_free(list);
    fila_queue_stats_free(stats);
    return good ? FILA_OK : error->code;
}

static void test_answers(void **state)
{
    (void)state;
    struct fila_error error = FILA_ERROR_INIT;
    struct server server;
    server_start(&server, script_answers);
    server_run(&server);
    for (size_t i = 0; i < ANSWERS; i++) {
        struct fila *client = server_connect(&server, 10000);
        enum fila_code code = run(client, answers[i].call, &error);
        if (code != answers[i].code)
            print_error("%s: %s\n", answers[i].what, error.text);
        assert_int_equal(code, answers[i].code);
        assert_true(error.text[0] != '\0');
        fila_close(client);
    }
    fila_error_clear(&error);
    server_stop(&server);
}

/* Whatever else it sends: parts of messages beyond every limit, and frames nobody asked for. */
static void script_flood(struct server *server)
{
    struct frame frame;
    static uint8_t part[65536];
    server_welcome(server);
    server_expect(server, &frame, OPCODE_ENQUEUE);
    for (uint32_t i = 0; i < 1000; i++) {
        size_t start = frame_begin(&server->out, OPCODE_ENQUEUE_RESULT, 5000 + i);
        SERVER_EXPECT(server, frame_end(&server->out, start, FRAME_LENGTH_MAX) == 0);
        SERVER_EXPECT(server, frame_empty(&server->out, 0x7e, i) == 0);
    }
    server_flush(server);
    for (unsigned i = 0; i < 32; i++) {
        uint8_t header[10] = {0, 1, 0, 6, OPCODE_ENQUEUE_RESULT, FRAME_FLAG_CONTINUATION,
                              0, 0, 0, 1};
        if (send(server->fd, header, sizeof(header), MSG_NOSIGNAL) < 0 ||
            send(server->fd, part, sizeof(part), MSG_NOSIGNAL) < 0)
            break; /* it has had enough */
    }
    while (server_read(server, &frame))
        ;
    server_hang_up(server);
}

static void test_flood(void **state)
{
    (void)state;
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_options options;
    struct server server;
    server_start(&server, script_flood);
    server_run(&server);
    fila_options_init(&options);
    options.address = server.address;
    options.max_message_size = 1 << 20;
    struct fila *client = fila_connect(&options, &error);
    assert_non_null(client);
    assert_int_equal(run(client, CALL_ENQUEUE, &error), FILA_PROTOCOL);
    fila_close(client);
    fila_error_clear(&error);
    server_stop(&server);
}

static void check_text(struct str text, const char *expected)
{
    struct fila_error error = FILA_ERROR_INIT;
    assert_int_equal(error_set_status(&error, FIBP_STORAGE_ERROR, text), -1);
    assert_string_equal(error.text, expected);
    assert_int_equal(error.code, FILA_STORAGE);
    fila_error_clear(&error);
}

/* Once they went through as they came: escape sequences for the terminal, several lines. */
static void test_words_of_the_server_are_one_line(void **state)
{
    (void)state;
    check_text(STR("first\nsecond\r\n"), "first second  ");
    check_text(STR("\033[2Jgone\177"), " [2Jgone ");
    check_text(STR("cut\0here"), "cut");
    check_text(STR("\0"), "storage error");
    check_text(STR(""), "storage error");
}

static void test_an_error_that_says_ok_is_one(void **state)
{
    (void)state;
    struct fila_error error = FILA_ERROR_INIT;
    assert_int_equal(error_set_status(&error, FIBP_OK, STR("")), -1);
    assert_int_equal(error.code, FILA_SERVER_ERROR);
    assert_int_equal(error.server_code, FIBP_OK);
    fila_error_clear(&error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_flood),
        cmocka_unit_test(test_words_of_the_server_are_one_line),
        cmocka_unit_test(test_an_error_that_says_ok_is_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
