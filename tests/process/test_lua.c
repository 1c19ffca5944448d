/* Queues with Lua scripts: what they decide is what the broker does, and what goes wrong in them
 * harms nobody. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "fila.h"
#include "os/time.h"
#include "process/support/fixture.h"

#define PATIENCE_MS 30000
#define ENQUEUE(body) "function on_enqueue(msg) " body " end"
#define FAILURE(body) "function on_failure(msg) " body " end"

static void must_create(struct fila *client, const char *queue, const char *on_enqueue,
                        const char *on_failure)
{
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_queue_options options = {.on_enqueue = on_enqueue, .on_failure = on_failure};
    if (fila_queue_create(client, queue, &options, &error) != 0)
        fail_msg("create %s: %s", queue, error.text);
}

/* A message whose payload is its customer; "" for none. The headers are not those that header_key
 * of the fixture looks at. */
static int enqueue(struct fila *client, const char *queue, const char *tenant, const char *weight,
                   struct fila_error *error)
{
    struct fila_header headers[] = {{fila_text("customer"), fila_text(tenant)},
                                    {fila_text("size"), fila_text(weight)}};
    struct fila_message message = {.queue = fila_text(queue),
                                   .headers = headers,
                                   .header_count = *weight   ? 2
                                                   : *tenant ? 1
                                                             : 0,
                                   .payload = fila_text(tenant)};
    return fila_enqueue(client, &message, NULL, error);
}

static void must_enqueue(struct fila *client, const char *queue, const char *tenant,
                         const char *weight)
{
    struct fila_error error = FILA_ERROR_INIT;
    if (enqueue(client, queue, tenant, weight, &error) != 0)
        fail_msg("enqueue: %s", error.text);
}

static struct fila_consumer *must_consume(struct fila *client, const char *queue)
{
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_consumer *consumer = fila_consume(client, queue, &error);
    if (!consumer)
        fail_msg("consume %s: %s", queue, error.text);
    return consumer;
}

static struct fila_delivery *must_receive(struct fila_consumer *consumer)
{
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_delivery *delivery = NULL;
    if (fila_receive(consumer, PATIENCE_MS, &delivery, &error) != 1)
        fail_msg("nothing was delivered: %s", error.text);
    return delivery;
}

static bool slice_is(struct fila_slice slice, const char *text)
{
    return slice.size == strlen(text) && memcmp(slice.data, text, slice.size) == 0;
}

/* Receives and acks a message with this key and weight. */
static void must_get(struct fila *client, struct fila_consumer *consumer, const char *key,
                     uint32_t weight)
{
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_delivery *delivery = must_receive(consumer);
    if (!slice_is(delivery->fairness_key, key) || delivery->weight != weight)
        fail_msg("%.*s of weight %u, not %s of %u", (int)delivery->fairness_key.size,
                 (const char *)delivery->fairness_key.data, delivery->weight, key, weight);
    if (fila_ack(client, delivery->queue, delivery->id, &error) != 0)
        fail_msg("ack: %s", error.text);
    fila_delivery_free(delivery);
}

static void must_nack(struct fila *client, struct fila_consumer *consumer, uint32_t attempt,
                      const char *reason)
{
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_delivery *delivery = must_receive(consumer);
    assert_int_equal(delivery->attempt, attempt);
    if (fila_nack(client, delivery->queue, delivery->id, fila_text(reason), &error) != 0)
        fail_msg("nack: %s", error.text);
    fila_delivery_free(delivery);
}

/* ---- on_enqueue ---- */

static void test_keys_weights_and_throttles(void **state)
{
    struct fixture *f = *state;
    struct fila *client = fixture_client(f);
    must_create(client, "q",
                ENQUEUE("return {fairness_key = msg.headers.customer or 'none', "
                        "weight = tonumber(msg.headers.size), "
                        "throttle_keys = {'queue:' .. msg.queue, 'size:' .. msg.payload_size, "
                        "'payload:' .. msg.payload}}"),
                NULL);
    must_create(client, "plain", NULL, NULL);
    must_enqueue(client, "q", "acme", "7");
    struct fila_consumer *consumer = must_consume(client, "q");
    struct fila_delivery *delivery = must_receive(consumer);
    assert_true(slice_is(delivery->fairness_key, "acme"));
    assert_int_equal(delivery->weight, 7);
    assert_int_equal(delivery->throttle_key_count, 3);
    assert_true(slice_is(delivery->throttle_keys[0], "queue:q"));
    assert_true(slice_is(delivery->throttle_keys[1], "size:4"));
    assert_true(slice_is(delivery->throttle_keys[2], "payload:acme"));
    assert_true(slice_is(delivery->payload, "acme"));
    fila_delivery_free(delivery);
    must_enqueue(client, "q", "", "");
    must_get(client, consumer, "none", 1);
    must_enqueue(client, "plain", "acme", "7");
    struct fila_consumer *other = must_consume(client, "plain");
    must_get(client, other, "default", 1);
    fila_consumer_free(consumer);
    fila_consumer_free(other);
    fila_close(client);
    f->passed = true;
}

static void test_weighted_shares(void **state)
{
    struct fixture *f = *state;
    struct fila *client = fixture_client(f);
    unsigned heavy = 0;
    must_create(client, "q",
                ENQUEUE("return {fairness_key = msg.headers.customer, "
                        "weight = tonumber(msg.headers.size)}"),
                NULL);
    for (int i = 0; i < 100; i++) {
        must_enqueue(client, "q", "heavy", "3");
        must_enqueue(client, "q", "light", "1");
    }
    struct fila_consumer *consumer = must_consume(client, "q");
    for (int i = 0; i < 100; i++) {
        struct fila_delivery *delivery = must_receive(consumer);
        heavy += slice_is(delivery->fairness_key, "heavy");
        fila_delivery_free(delivery);
    }
    assert_in_range(heavy, 70, 80);
    fila_consumer_free(consumer);
    fila_close(client);
    f->passed = true;
}

/* What was set is seen by each script from the answer on, whatever the worker. */
static void test_configuration(void **state)
{
    struct fixture *f = *state;
    struct fila_error error = FILA_ERROR_INIT;
    struct fila *clients[8];
    for (size_t i = 0; i < 8; i++)
        clients[i] = fixture_client(f);
    must_create(clients[0], "q", ENQUEUE("return {fairness_key = fila.get('key') or 'unset'}"),
                NULL);
    struct fila_consumer *consumer = must_consume(clients[0], "q");
    must_enqueue(clients[1], "q", "x", "");
    must_get(clients[0], consumer, "unset", 1);
    for (int round = 0; round < 20; round++) {
        char value[20];
        (void)snprintf(value, sizeof(value), "value-%d", round);
        assert_int_equal(fila_config_set(clients[round % 8], "key", value, &error), 0);
        for (size_t i = 0; i < 8; i++)
            must_enqueue(clients[i], "q", "x", "");
        for (size_t i = 0; i < 8; i++)
            must_get(clients[0], consumer, value, 1);
    }
    fila_consumer_free(consumer);
    for (size_t i = 0; i < 8; i++)
        fila_close(clients[i]);
    f->passed = true;
}

static void test_rejected_and_delayed(void **state)
{
    struct fixture *f = *state;
    struct fila_error error = FILA_ERROR_INIT;
    struct fila *client = fixture_client(f);
    must_create(client, "q",
                ENQUEUE("local t = msg.headers.customer "
                        "if t == 'late' then return {delay_ms = 500} end "
                        "if t == 'bad' then return {reject = 'tenant ' .. t .. ' is blocked'} end "
                        "return {}"),
                NULL);
    assert_int_equal(enqueue(client, "q", "bad", "", &error), -1);
    assert_int_equal(error.code, FILA_FORBIDDEN);
    uint64_t start_ms = time_monotonic_ms();
    must_enqueue(client, "q", "late", "");
    must_enqueue(client, "q", "good", "");
    struct fila_consumer *consumer = must_consume(client, "q");
    struct fila_delivery *delivery = must_receive(consumer);
    assert_true(slice_is(delivery->payload, "good"));
    fila_delivery_free(delivery);
    delivery = must_receive(consumer);
    assert_true(slice_is(delivery->payload, "late"));
    assert_true(time_monotonic_ms() - start_ms >= 500);
    fila_delivery_free(delivery);
    fila_error_clear(&error);
    fila_consumer_free(consumer);
    fila_close(client);
    f->passed = true;
}

/* ---- on_failure ---- */

static void test_retry_then_dead_letter(void **state)
{
    struct fixture *f = *state;
    struct fila *client = fixture_client(f);
    must_create(client, "q", NULL,
                FAILURE("assert(msg.queue == 'q' and #msg.id == 36 and msg.error == 'it broke') "
                        "assert(msg.headers.customer == 'acme') "
                        "return {action = msg.attempts >= 3 and 'dlq' or 'retry'}"));
    must_enqueue(client, "q", "acme", "");
    struct fila_consumer *consumer = must_consume(client, "q");
    struct fila_consumer *dead = must_consume(client, "q.dlq");
    for (uint32_t attempt = 0; attempt < 3; attempt++)
        must_nack(client, consumer, attempt, "it broke");
    struct fila_delivery *delivery = must_receive(dead);
    struct fila_error error = FILA_ERROR_INIT;
    assert_int_equal(delivery->attempt, 3);
    assert_true(slice_is(delivery->payload, "acme"));
    assert_int_equal(fila_ack(client, delivery->queue, delivery->id, &error), 0);
    fila_delivery_free(delivery);
    fila_consumer_free(consumer);
    fila_consumer_free(dead);
    fila_close(client);
    f->passed = true;
}

static void test_delayed_retry(void **state)
{
    struct fixture *f = *state;
    struct fila *client = fixture_client(f);
    must_create(client, "q", NULL, FAILURE("return {action = 'retry', delay_ms = 400}"));
    must_enqueue(client, "q", "a", "");
    struct fila_consumer *consumer = must_consume(client, "q");
    uint64_t start_ms = time_monotonic_ms();
    must_nack(client, consumer, 0, "x");
    struct fila_delivery *delivery = must_receive(consumer);
    assert_int_equal(delivery->attempt, 1);
    assert_true(time_monotonic_ms() - start_ms >= 400);
    fila_delivery_free(delivery);
    fila_consumer_free(consumer);
    fila_close(client);
    f->passed = true;
}

/* Without a dead-letter queue, and when the script fails, the message is delivered again. */
static void test_failures_of_on_failure(void **state)
{
    struct fixture *f = *state;
    struct fila_error error = FILA_ERROR_INIT;
    struct fila *client = fixture_client(f);
    must_create(client, "q", NULL,
                FAILURE("if msg.error == 'loop' then while true do end end "
                        "return {action = 'dlq'}"));
    assert_int_equal(fila_queue_delete(client, "q.dlq", &error), 0);
    must_enqueue(client, "q", "a", "");
    struct fila_consumer *consumer = must_consume(client, "q");
    must_nack(client, consumer, 0, "dead");
    must_nack(client, consumer, 1, "loop");
    must_nack(client, consumer, 2, "dead");
    must_get(client, consumer, "default", 1);
    fila_consumer_free(consumer);
    fila_close(client);
    f->passed = true;
}

/* ---- scripts that are wrong ---- */

static void test_scripts_that_are_refused(void **state)
{
    static const struct {
        const char *on_enqueue, *on_failure, *text;
    } cases[] = {
        {"function on_enqueue(msg)\n  local x = = 3\nend", NULL,
         "on_enqueue:2: unexpected symbol near '='"},
        {"x = 1", NULL, "on_enqueue: the script defines no function on_enqueue"},
        {NULL, "\nerror('not today')", "on_failure:2: not today"},
        {"while true do end", NULL, "on_enqueue:1: more than 100000 instructions"},
        {ENQUEUE("return {}"), "function on_failure(", "on_failure:1: "},
    };
    struct fixture *f = *state;
    struct fila_error error = FILA_ERROR_INIT;
    struct fila *client = fixture_client(f);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fila_queue_options options = {.on_enqueue = cases[i].on_enqueue,
                                             .on_failure = cases[i].on_failure};
        assert_int_equal(fila_queue_create(client, "q", &options, &error), -1);
        assert_int_equal(error.code, FILA_SCRIPT_ERROR);
        if (!strstr(error.text, cases[i].text))
            fail_msg("%s", error.text);
        assert_int_equal(enqueue(client, "q", "a", "", &error), -1);
        assert_int_equal(error.code, FILA_QUEUE_NOT_FOUND);
    }
    fila_error_clear(&error);
    fila_close(client);
    f->passed = true;
}

static bool resting(void *context)
{
    return broker_logged(context, "scripts rest for 3600000 ms after 3 failures");
}

/* Loops and bombs end; their messages have defaults; after three of them, in any worker, the
 * scripts of the queue rest in all of them, and those of other queues do not. */
static void test_failing_scripts(void **state)
{
    struct fixture *f = *state;
    struct fila *clients[8];
    for (size_t i = 0; i < 8; i++)
        clients[i] = fixture_client(f);
    must_create(clients[0], "loop",
                ENQUEUE("if msg.headers.customer ~= 'good' then "
                        "while true do pcall(function() while true do end end) "
                        "end end return {fairness_key = 'good'}"),
                NULL);
    must_create(clients[0], "bomb", ENQUEUE("local t = {} for i = 1, 1e9 do t[i] = {} end"), NULL);
    must_create(clients[0], "fine", ENQUEUE("return {fairness_key = 'fine', weight = 2}"), NULL);
    struct fila_consumer *loop = must_consume(clients[0], "loop");
    struct fila_consumer *bomb = must_consume(clients[0], "bomb");
    struct fila_consumer *fine = must_consume(clients[0], "fine");
    must_enqueue(clients[1], "loop", "good", "");
    must_get(clients[0], loop, "good", 1);
    for (size_t i = 0; i < 3; i++) {
        must_enqueue(clients[i], "loop", "bad", "");
        must_get(clients[0], loop, "default", 1);
        must_enqueue(clients[i], "bomb", "bad", "");
        must_get(clients[0], bomb, "default", 1);
        must_enqueue(clients[i], "fine", "x", "");
        must_get(clients[0], fine, "fine", 2);
    }
    assert_true(wait_until(resting, &f->broker, PATIENCE_MS));
    assert_true(broker_logged(&f->broker, "queue loop: on_enqueue:1: more than"));
    for (size_t i = 0; i < 8; i++) {
        must_enqueue(clients[i], "loop", "good", "");
        must_get(clients[0], loop, "default", 1);
        must_enqueue(clients[i], "fine", "x", "");
        must_get(clients[0], fine, "fine", 2);
    }
    fila_consumer_free(loop);
    fila_consumer_free(bomb);
    fila_consumer_free(fine);
    for (size_t i = 0; i < 8; i++)
        fila_close(clients[i]);
    f->passed = true;
}

static void test_wrong_types(void **state)
{
    struct fixture *f = *state;
    struct fila *client = fixture_client(f);
    must_create(client, "q",
                ENQUEUE("return {fairness_key = 'kept', weight = 'not_a_number', "
                        "throttle_keys = 42}"),
                NULL);
    must_enqueue(client, "q", "a", "");
    struct fila_consumer *consumer = must_consume(client, "q");
    struct fila_delivery *delivery = must_receive(consumer);
    assert_true(slice_is(delivery->fairness_key, "kept"));
    assert_int_equal(delivery->weight, 1);
    assert_int_equal(delivery->throttle_key_count, 0);
    fila_delivery_free(delivery);
    fila_consumer_free(consumer);
    fila_close(client);
    f->passed = true;
}

/* ---- changes ---- */

static void test_scripts_survive_a_crash(void **state)
{
    struct fixture *f = *state;
    struct fila *client = fixture_client(f);
    must_create(client, "q", ENQUEUE("return {fairness_key = msg.headers.customer}"),
                FAILURE("return {action = 'dlq'}"));
    must_enqueue(client, "q", "before", "");
    broker_kill_all(&f->broker);
    fila_close(client);
    fixture_start(f);
    client = fixture_client(f);
    must_enqueue(client, "q", "after", "");
    struct fila_consumer *consumer = must_consume(client, "q");
    struct fila_consumer *dead = must_consume(client, "q.dlq");
    must_nack(client, consumer, 0, "x");
    must_nack(client, consumer, 0, "x");
    must_get(client, dead, "before", 1);
    must_get(client, dead, "after", 1);
    fila_consumer_free(consumer);
    fila_consumer_free(dead);
    fila_close(client);
    f->passed = true;
}

/* Another script is in force in every worker when the update is answered; so is none. */
static void test_update(void **state)
{
    struct fixture *f = *state;
    struct fila_error error = FILA_ERROR_INIT;
    struct fila *clients[8];
    for (size_t i = 0; i < 8; i++)
        clients[i] = fixture_client(f);
    must_create(clients[0], "q", NULL, NULL);
    struct fila_consumer *consumer = must_consume(clients[0], "q");
    for (int round = 0; round < 10; round++) {
        char source[100], key[20];
        (void)snprintf(key, sizeof(key), "key-%d", round);
        (void)snprintf(source, sizeof(source), ENQUEUE("return {fairness_key = '%s'}"), key);
        struct fila_queue_changes changes = {.on_enqueue = round == 9 ? "" : source};
        if (fila_queue_update(clients[round % 8], "q", &changes, &error) != 0)
            fail_msg("update: %s", error.text);
        for (size_t i = 0; i < 8; i++)
            must_enqueue(clients[i], "q", "x", "");
        for (size_t i = 0; i < 8; i++)
            must_get(clients[0], consumer, round == 9 ? "default" : key, 1);
    }
    fila_consumer_free(consumer);
    for (size_t i = 0; i < 8; i++)
        fila_close(clients[i]);
    f->passed = true;
}

static int setup_four_workers(void **state)
{
    return fixture_setup_with(
        state,
        &(struct broker_options){.workers = 4, .extra = "lua: {circuit_breaker: {cooldown: 1h}}\n"},
        true);
}

int main(void)
{
#ifndef HAVE_LUA_MODULE
    puts("the Lua module is not built in");
    return 77;
#endif
#define WITH_WORKERS(test)                                                                         \
    cmocka_unit_test_setup_teardown(test, setup_four_workers, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_BROKER(test_keys_weights_and_throttles),
        WITH_BROKER(test_weighted_shares),
        WITH_WORKERS(test_configuration),
        WITH_BROKER(test_rejected_and_delayed),
        WITH_BROKER(test_retry_then_dead_letter),
        WITH_BROKER(test_delayed_retry),
        WITH_BROKER(test_failures_of_on_failure),
        WITH_BROKER(test_scripts_that_are_refused),
        WITH_WORKERS(test_failing_scripts),
        WITH_BROKER(test_wrong_types),
        WITH_BROKER(test_scripts_survive_a_crash),
        WITH_WORKERS(test_update),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
