/* Addresses, the handshake, and administration of queues. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "server.h"

static enum fila_code connect_code(const char *address, uint64_t timeout_ms,
                                   struct fila_error *error)
{
    struct fila_options options;
    fila_options_init(&options);
    options.address = address;
    options.connect_timeout_ms = timeout_ms;
    struct fila *client = fila_connect(&options, error);
    enum fila_code code = client ? FILA_OK : error->code;
    fila_close(client);
    return code;
}

static void script_welcome(struct server *server)
{
    for (int i = 0; i < 3; i++) {
        server_welcome(server);
        server_expect_end(server);
    }
}

static void test_addresses(void **state)
{
    (void)state;
    struct fila_error error = FILA_ERROR_INIT;
    struct server server;
    char text[64];
    server_start(&server, script_welcome);
    server_run(&server);
    assert_int_equal(connect_code(server.address, 10000, &error), FILA_OK);
    snprintf(text, sizeof(text), "http://%s/", server.address);
    assert_int_equal(connect_code(text, 10000, &error), FILA_OK);
    snprintf(text, sizeof(text), "localhost%s", strchr(server.address, ':'));
    assert_int_equal(connect_code(text, 10000, &error), FILA_OK);
    server_stop(&server);

    assert_int_equal(connect_code("unix:/nonexistent/socket", 10000, &error), FILA_TRANSPORT);
    assert_int_equal(connect_code("", 10000, &error), FILA_USAGE);
    assert_int_equal(connect_code("host:port", 10000, &error), FILA_USAGE);
    assert_int_equal(connect_code("::1", 10000, &error), FILA_USAGE);
    fila_error_clear(&error);
}

static void script_bad_handshakes(struct server *server)
{
    struct frame frame;
    struct wire_pair metadata = {STR("max_version"), STR("1")};

    server_accept(server);
    server_expect(server, &frame, OPCODE_HANDSHAKE);
    SERVER_EXPECT(server, framed_error(&server->out, 0, FIBP_UNAUTHORIZED, STR("API key required"),
                                       NULL, 0) == 0);
    server_flush(server);
    server_expect_end(server);

    server_accept(server);
    server_expect(server, &frame, OPCODE_HANDSHAKE);
    SERVER_EXPECT(server, framed_error(&server->out, 0, FIBP_UNSUPPORTED_VERSION, STR("only 1"),
                                       &metadata, 1) == 0);
    server_flush(server);
    server_expect_end(server);

    server_accept(server);
    server_expect(server, &frame, OPCODE_HANDSHAKE);
    server_send(server, STR("HTTP/1.1 400 Bad Request\r\n\r\n"));
    server_expect_end(server);

    server_accept(server);
    server_expect(server, &frame, OPCODE_HANDSHAKE);
    server_hang_up(server);

    server_accept(server);
    server_expect(server, &frame, OPCODE_HANDSHAKE);
    server_expect_end(server); /* no answer at all */
}

static void test_bad_handshakes(void **state)
{
    (void)state;
    struct fila_error error = FILA_ERROR_INIT;
    struct server server;
    server_start(&server, script_bad_handshakes);
    server_run(&server);
    assert_int_equal(connect_code(server.address, 10000, &error), FILA_UNAUTHORIZED);
    assert_string_equal(error.text, "handshake: API key required");
    assert_int_equal(connect_code(server.address, 10000, &error), FILA_BAD_VERSION);
    assert_string_equal(fila_error_metadata(&error, "max_version"), "1");
    assert_int_equal(connect_code(server.address, 10000, &error), FILA_PROTOCOL);
    assert_int_equal(connect_code(server.address, 10000, &error), FILA_TRANSPORT);
    assert_int_equal(connect_code(server.address, 100, &error), FILA_TIMEOUT);
    fila_error_clear(&error);
    server_stop(&server);
}

/* Answers and a delivery behind HandshakeOk in the same packet must not be lost. */
static void script_eager(struct server *server)
{
    struct frame frame;
    server_accept(server);
    server_expect(server, &frame, OPCODE_HANDSHAKE);
    SERVER_EXPECT(server, framed_handshake_ok(&server->out, 1, 0, 0) == 0);
    SERVER_EXPECT(server, frame_empty(&server->out, OPCODE_PING, 5) == 0);
    server_flush(server);
    server_expect(server, &frame, OPCODE_PONG);
    SERVER_EXPECT(server, frame.request_id == 5);
    server_go_on(server);
    server_expect_end(server);
}

static void test_frames_behind_handshake(void **state)
{
    (void)state;
    struct server server;
    server_start(&server, script_eager);
    server_run(&server);
    struct fila *client = server_connect(&server, 10000);
    server_wait(&server);
    assert_int_equal(fila_max_frame_size(client), 16777216);
    fila_close(client);
    server_stop(&server);
}

static void script_key(struct server *server)
{
    struct framed_handshake request;
    struct wire_reader reader;
    struct frame frame;
    server_accept(server);
    server_expect(server, &frame, OPCODE_HANDSHAKE);
    wire_reader_init(&reader, frame.body);
    SERVER_EXPECT(server, framed_handshake(&reader, &request) && request.version == 1 &&
                              request.has_api_key && str_equal(request.api_key, STR("secret")));
    SERVER_EXPECT(server, framed_handshake_ok(&server->out, 1, 0, 0) == 0);
    server_flush(server);
    server_expect_end(server);
}

static void test_api_key(void **state)
{
    (void)state;
    struct fila_options options;
    struct server server;
    server_start(&server, script_key);
    server_run(&server);
    fila_options_init(&options);
    options.address = server.address;
    options.api_key = "secret";
    struct fila *client = fila_connect(&options, NULL);
    assert_non_null(client);
    fila_close(client);
    server_stop(&server);
}

static void script_queues(struct server *server)
{
    struct framed_create_queue request;
    struct wire_reader reader;
    struct framed_list list;
    struct frame frame;

    server_welcome(server);
    uint32_t id = server_expect(server, &frame, OPCODE_CREATE_QUEUE);
    wire_reader_init(&reader, frame.body);
    SERVER_EXPECT(server, framed_create_queue(&reader, &request) &&
                              str_equal(request.name, STR("orders")) && request.has_on_enqueue &&
                              str_equal(request.on_enqueue, STR("x")) && !request.has_on_failure &&
                              request.visibility_timeout_ms == 1500);
    server_answer_created(server, id, FIBP_LUA_COMPILATION_ERROR, "syntax error near x");
    id = server_expect(server, &frame, OPCODE_CREATE_QUEUE);
    server_answer_created(server, id, FIBP_QUEUE_ALREADY_EXISTS, "orders");
    id = server_expect(server, &frame, OPCODE_CREATE_QUEUE);
    server_answer_created(server, id, FIBP_STORAGE_ERROR, "the disk is full");
    id = server_expect(server, &frame, OPCODE_CREATE_QUEUE);
    server_answer_created(server, id, FIBP_STORAGE_ERROR, "");
    id = server_expect(server, &frame, OPCODE_CREATE_QUEUE);
    server_answer_created(server, id, FIBP_OK, "orders");

    id = server_expect(server, &frame, OPCODE_DELETE_QUEUE);
    server_answer_status(server, id, OPCODE_DELETE_QUEUE_RESULT, FIBP_QUEUE_NOT_FOUND);

    id = server_expect(server, &frame, OPCODE_LIST_QUEUES);
    struct framed_queue_info queue = {STR("orders"), 5, 2, 1, 0};
    framed_list_queues_begin(&server->out, id, FIBP_OK, 0, &list);
    framed_list_queues_add(&server->out, &list, &queue);
    server_answer_list(server, &list);

    id = server_expect(server, &frame, OPCODE_GET_STATS);
    struct framed_stats stats = {5, 2, 1, 1, 1000, 0, 0};
    struct framed_key_stats key = {STR("acme"), 3, -7, 2};
    struct framed_throttle_stats throttle = {STR("api"), 1.5, 10, 20};
    framed_stats_begin(&server->out, id, FIBP_OK, &stats, &list);
    framed_stats_add_key(&server->out, &list, &key);
    framed_stats_throttles(&server->out, &list);
    framed_stats_add_throttle(&server->out, &list, &throttle);
    server_answer_list(server, &list);
    server_expect_end(server);
}

static void test_queues(void **state)
{
    (void)state;
    struct fila_queue_options options = {.on_enqueue = "x", .visibility_timeout_ms = 1500};
    struct fila_error error = FILA_ERROR_INIT;
    struct server server;
    server_start(&server, script_queues);
    server_run(&server);
    struct fila *client = server_connect(&server, 10000);

    assert_int_equal(fila_queue_create(client, "orders", &options, &error), -1);
    assert_int_equal(error.code, FILA_SCRIPT_ERROR);
    assert_string_equal(error.text, "syntax error near x");
    assert_int_equal(fila_queue_create(client, "orders", NULL, &error), -1);
    assert_int_equal(error.code, FILA_QUEUE_EXISTS);
    assert_int_equal(error.server_code, 3);
    assert_string_equal(error.text, "queue already exists");
    assert_int_equal(fila_queue_create(client, "orders", NULL, &error), -1);
    assert_int_equal(error.code, FILA_STORAGE);
    assert_string_equal(error.text, "the disk is full");
    assert_int_equal(fila_queue_create(client, "orders", NULL, &error), -1);
    assert_string_equal(error.text, "storage error");
    assert_int_equal(fila_queue_create(client, "orders", NULL, &error), 0);
    assert_int_equal(fila_queue_delete(client, "none", &error), -1);
    assert_int_equal(error.code, FILA_QUEUE_NOT_FOUND);

    struct fila_queue_list *list = fila_queue_list(client, &error);
    assert_non_null(list);
    assert_int_equal(list->count, 1);
    assert_string_equal(list->queues[0].name, "orders");
    assert_int_equal(list->queues[0].depth, 5);
    assert_int_equal(list->queues[0].in_flight, 2);
    assert_int_equal(list->queues[0].consumers, 1);
    fila_queue_list_free(list);

    struct fila_queue_stats *stats = fila_queue_stats(client, "orders", &error);
    assert_non_null(stats);
    assert_int_equal(stats->quantum, 1000);
    assert_int_equal(stats->key_count, 1);
    assert_string_equal(stats->keys[0].key, "acme");
    assert_int_equal(stats->keys[0].pending, 3);
    assert_true(stats->keys[0].deficit == -7);
    assert_int_equal(stats->throttle_count, 1);
    assert_true(stats->throttles[0].tokens == 1.5);
    fila_queue_stats_free(stats);
    fila_error_clear(&error);
    fila_close(client);
    server_stop(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_bad_handshakes),
        cmocka_unit_test(test_frames_behind_handshake),
        cmocka_unit_test(test_api_key),
        cmocka_unit_test(test_queues),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
