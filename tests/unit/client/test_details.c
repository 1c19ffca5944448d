/* fila_queue_details against a scripted broker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "fibp/framed_details.h"
#include "server.h"

static void answer(struct server *server, uint32_t id)
{
    uint64_t broker[BROKER_DETAILS] = {[BROKER_QUEUES] = 2}, numbers[DETAILS] = {0};
    struct histogram commits = {0}, waits = {0};
    struct framed_limit limit = {STR("acme"), 4, 3, 2};
    struct framed_list list;
    for (unsigned i = 0; i < 100; i++)
        histogram_record(&commits, i < 99 ? 1000 : 50000);
    histogram_record(&waits, 3);
    numbers[DETAIL_DEPTH] = 7;
    numbers[DETAIL_ACKED] = 9;
    framed_details_begin(&server->out, id, broker, &commits, true, &list);
    framed_details_add(&server->out, &list, STR("a"), numbers, &waits);
    framed_details_limits(&server->out, &list);
    framed_details_add_limit(&server->out, &list, &limit);
    server_answer_list(server, &list);
}

static void script(struct server *server)
{
    struct framed_details_request request;
    struct wire_reader reader;
    struct frame frame;
    server_welcome(server);
    uint32_t id = server_expect(server, &frame, OPCODE_QUEUE_DETAILS);
    wire_reader_init(&reader, frame.body);
    SERVER_EXPECT(server, framed_details(&reader, &request) && request.queue.size == 0 &&
                              str_equal(request.after, STR("A")) && request.limit == 1 &&
                              request.histograms);
    answer(server, id);
    id = server_expect(server, &frame, OPCODE_QUEUE_DETAILS);
    server_answer_error(server, id, FIBP_QUEUE_NOT_FOUND, "no queue \"none\"");
    id = server_expect(server, &frame, OPCODE_QUEUE_DETAILS);
    server_answer_error(server, id, FIBP_INVALID_FRAME, "unknown opcode");
    server_expect_end(server);
}

static void test_details(void **state)
{
    (void)state;
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_details_options options = {.after = "A", .page_size = 1, .histograms = true};
    struct server server;
    server_start(&server, script);
    server_run(&server);
    struct fila *client = server_connect(&server, 10000);

    struct fila_queue_details *details = fila_queue_details(client, &options, &error);
    assert_non_null(details);
    assert_int_equal(fila_queue_details_broker(details, "queues"), 2);
    assert_int_equal(fila_queue_details_broker(details, "of a newer broker"), 0);
    assert_true(details->more);
    assert_int_equal(details->queue_count, 1);
    assert_string_equal(details->queues[0].name, "a");
    size_t depth = fila_queue_details_field(details, "depth");
    size_t acked = fila_queue_details_field(details, "acked_total");
    assert_true(depth < details->field_count && acked < details->field_count);
    assert_int_equal(details->queues[0].values[depth], 7);
    assert_int_equal(details->queues[0].values[acked], 9);
    assert_false(details->fields[depth].is_counter);
    assert_true(details->fields[acked].is_counter);
    assert_true(fila_queue_details_field(details, "none") == SIZE_MAX);
    assert_int_equal(details->limit_count, 1);
    assert_string_equal(details->limits[0].key, "acme");
    assert_int_equal(details->limits[0].limit, 4);
    assert_in_range(fila_histogram_quantile(&details->commits, 500), 875, 1125);
    assert_in_range(fila_histogram_quantile(&details->commits, 990), 875, 1125);
    assert_in_range(fila_histogram_quantile(&details->commits, 1000), 43750, 56250);
    assert_int_equal(fila_histogram_quantile(&details->queues[0].time_in_queue, 500), 3);
    fila_queue_details_free(details);

    options = (struct fila_details_options){.queue = "none"};
    assert_null(fila_queue_details(client, &options, &error));
    assert_int_equal(error.code, FILA_QUEUE_NOT_FOUND);
    options.queue = ""; /* on the wire it would be all queues */
    assert_null(fila_queue_details(client, &options, &error));
    assert_int_equal(error.code, FILA_QUEUE_NOT_FOUND);
    assert_null(fila_queue_details(client, NULL, &error));
    assert_int_equal(error.code, FILA_INVALID_REQUEST);
    struct fila_histogram empty = {NULL, 0};
    assert_int_equal(fila_histogram_quantile(&empty, 990), 0);
    fila_queue_details_free(NULL);
    fila_close(client);
    fila_error_clear(&error);
    server_stop(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_details)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
