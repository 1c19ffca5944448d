/* Concurrency limits and throttles, with workers, keeper and crashes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fila.h"
#include "process/support/fixture.h"

#define LONG_LEASE_MS 120000u
#define QUIET_MS 200u /* in which nothing may come */

/* By a connection of its own, so that it need not be one that the kernel gave to a worker that has
 * the consumer. */
static void configure(struct fixture *f, const char *key, const char *value)
{
    struct fila_error error = FILA_ERROR_INIT;
    struct fila *client = fixture_client(f);
    if (fila_config_set(client, key, value, &error) != 0)
        fail_msg("set %s: %s", key, error.text);
    fila_close(client);
}

static void enqueue(struct fixture *f, struct peer *peer, const char *queue, const char *tenant,
                    unsigned count)
{
    struct peer_message messages[100];
    struct peer_frame *frame = NULL;
    uint32_t request;
    for (unsigned i = 0; i < count; i++)
        messages[i] =
            (struct peer_message){.queue = queue, .tenant = tenant, .payload = STR("work")};
    MUST(f, peer_enqueue_send(peer, messages, count, &request, &f->err));
    MUST_GIVE(f, 1, peer_answer(peer, request, PEER_PATIENCE_MS, &frame, &f->err));
    free(frame);
}

/* Receives `count` messages, `of_a` of them of key "a"; the last of these is in *last. */
static void receive(struct fixture *f, struct peer *peer, unsigned count, unsigned of_a,
                    struct peer_delivery *last)
{
    for (unsigned i = 0; i < count; i++) {
        struct peer_delivery delivery;
        fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
        if (strcmp(delivery.fairness_key, "a") != 0)
            continue;
        assert_true(of_a > 0);
        of_a--;
        if (last)
            *last = delivery;
    }
    assert_int_equal(of_a, 0);
    fixture_receive_nothing(f, peer, QUIET_MS);
}

static void test_limit_holds_one_key_only(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f), *producer = fixture_peer(f);
    struct peer_delivery last;
    uint32_t subscription;
    configure(f, "concurrency.a", "2");
    MUST(f, peer_create_queue(peer, "q", LONG_LEASE_MS, &f->err));
    enqueue(f, producer, "q", "a", 6);
    enqueue(f, producer, "q", "b", 3);
    MUST(f, peer_consume(peer, "q", &subscription, &f->err));
    receive(f, peer, 5, 2, &last);
    fixture_wait_stats(f, producer, "q", 9, 5, 1);
    MUST(f, peer_ack(peer, "q", &last.id, &f->err));
    receive(f, peer, 1, 1, &last);
    MUST(f, peer_nack(producer, "q", &last.id, &f->err)); /* by another connection */
    receive(f, peer, 1, 1, &last);
    configure(f, "concurrency.a", "3");
    receive(f, peer, 1, 1, NULL);
    configure(f, "concurrency.a", "1"); /* three are in flight */
    MUST(f, peer_ack(peer, "q", &last.id, &f->err));
    fixture_receive_nothing(f, peer, QUIET_MS);
    configure(f, "concurrency.a", "");
    receive(f, peer, 2, 2, NULL);
    f->passed = true;
}

/* What waits in one queue is woken by the end of a lease in another. */
static void test_limit_counts_over_queues(void **state)
{
    struct fixture *f = *state;
    struct peer *first = fixture_peer(f), *second = fixture_peer(f);
    struct peer_delivery delivery;
    uint32_t subscription;
    MUST(f, peer_create_queue(first, "q", LONG_LEASE_MS, &f->err));
    MUST(f, peer_create_queue(first, "r", LONG_LEASE_MS, &f->err));
    enqueue(f, first, "q", "a", 1);
    MUST(f, peer_consume(first, "q", &subscription, &f->err));
    fixture_receive(f, first, PEER_PATIENCE_MS, &delivery);
    configure(f, "concurrency.a", "1"); /* it counts what is leased already */
    enqueue(f, first, "r", "a", 3);
    MUST(f, peer_consume(second, "r", &subscription, &f->err));
    fixture_receive_nothing(f, second, QUIET_MS);
    MUST(f, peer_ack(first, "q", &delivery.id, &f->err));
    receive(f, second, 1, 1, &delivery);
    /* A consumer that goes leaves the lease; whoever acks frees the place. */
    fixture_close(f, second, true);
    second = fixture_peer(f);
    MUST(f, peer_consume(second, "r", &subscription, &f->err));
    fixture_receive_nothing(f, second, QUIET_MS);
    MUST(f, peer_ack(first, "r", &delivery.id, &f->err));
    receive(f, second, 1, 1, &delivery);
    f->passed = true;
}

struct replaced {
    struct fixture *f;
    struct peer *peer;
    pid_t keeper; /* that died */
};

/* There is another keeper, and with it a connection is served that was there before. */
static bool is_replaced(void *context)
{
    struct replaced *replaced = context;
    struct fixture *f = replaced->f;
    pid_t keeper = broker_find(&f->broker, BROKER_KEEPER);
    return keeper && keeper != replaced->keeper &&
           peer_enqueue(replaced->peer, "other", "is it back", NULL, &f->err) == 0;
}

static void test_limit_is_right_after_a_crash(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct peer_delivery last;
    uint32_t subscription;
    configure(f, "concurrency.a", "2");
    MUST(f, peer_create_queue(peer, "other", LONG_LEASE_MS, &f->err));
    MUST(f, peer_create_queue(peer, "q", LONG_LEASE_MS, &f->err));
    enqueue(f, peer, "q", "a", 5);
    MUST(f, peer_consume(peer, "q", &subscription, &f->err));
    receive(f, peer, 2, 2, &last);
    fixture_crash(f);
    peer = fixture_peer(f);
    MUST(f, peer_consume(peer, "q", &subscription, &f->err));
    enqueue(f, peer, "q", "b", 1);
    receive(f, peer, 1, 0, NULL);
    MUST(f, peer_ack(peer, "q", &last.id, &f->err));
    receive(f, peer, 1, 1, &last);
    /* A keeper that dies takes the refill thread along; the next one goes on. */
    struct replaced replaced = {f, peer, broker_find(&f->broker, BROKER_KEEPER)};
    broker_kill(&f->broker, &(struct broker_process){BROKER_KEEPER, replaced.keeper}, 1);
    if (!wait_until(is_replaced, &replaced, PEER_PATIENCE_MS))
        fail_msg("the connection is not served again: %s", f->err.text);
    MUST(f, peer_ack(peer, "q", &last.id, &f->err));
    receive(f, peer, 1, 1, &last);
    configure(f, "concurrency.a", "3");
    receive(f, peer, 1, 1, NULL);
    f->passed = true;
}

static void test_wrong_values_are_refused(void **state)
{
    static const struct {
        const char *key, *value, *says;
    } wrong[] = {
        {"throttle.provider:slow", "NaN,1", "rate is not a decimal number"},
        {"throttle.provider:slow", "1,inf", "burst is not a decimal number"},
        {"throttle.provider:slow", "1", "comma is missing"},
        {"throttle.provider:slow", "1,0.5", "burst below 1"},
        {"throttle.provider:slow", "-1,1", "rate is negative"},
        {"throttle.", "1,1", "name of the key is missing"},
        {"concurrency.", "1", "name of the key is missing"},
        {"concurrency.a", "many", "an integer from 0"},
    };
    struct fixture *f = *state;
    struct fila_error error = FILA_ERROR_INIT;
    struct fila *client = fixture_client(f);
    char *value = NULL;
    assert_int_equal(fila_config_set(client, "throttle.provider:slow", " 1e1 , 5 ", &error), 0);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(fila_config_set(client, wrong[i].key, wrong[i].value, &error), -1);
        assert_int_equal(error.code, FILA_INVALID_VALUE);
        if (!strstr(error.text, wrong[i].says))
            fail_msg("%s = %s: %s", wrong[i].key, wrong[i].value, error.text);
    }
    assert_int_equal(fila_config_get(client, "throttle.provider:slow", &value, &error), 0);
    assert_string_equal(value, " 1e1 , 5 ");
    free(value);
    fila_error_clear(&error);
    fila_close(client);
    f->passed = true;
}

/* --- with throttle keys from a script --- */

/* The tenant tells the keys: "slow" has one, "multi" two, others none. */
static const char script[] = "local keys = {slow = {'provider:slow'},\n"
                             "              multi = {'provider:slow', 'region:eu'}}\n"
                             "function on_enqueue(msg)\n"
                             "    local tenant = msg.headers.tenant\n"
                             "    return {fairness_key = tenant, throttle_keys = keys[tenant]}\n"
                             "end\n";

static void create_scripted(struct fixture *f, const char *name)
{
    struct fila_error error = FILA_ERROR_INIT;
    struct fila_queue_options options;
    struct fila *client = fixture_client(f);
    memset(&options, 0, sizeof(options));
    options.on_enqueue = script;
    options.visibility_timeout_ms = LONG_LEASE_MS;
    int status = fila_queue_create(client, name, &options, &error);
    fila_close(client);
    if (status == 0)
        return;
    if (error.code != FILA_SCRIPT_ERROR)
        fail_msg("create %s: %s", name, error.text);
    print_message("not built with Lua: %s\n", error.text);
    fila_error_clear(&error);
    f->passed = true;
    skip();
}

/* Receives `count`; how many of them have this fairness key. */
static unsigned receive_of(struct fixture *f, struct peer *peer, unsigned count, const char *key)
{
    unsigned of_key = 0;
    for (unsigned i = 0; i < count; i++) {
        struct peer_delivery delivery;
        fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
        of_key += strcmp(delivery.fairness_key, key) == 0;
    }
    return of_key;
}

/* The reference's end-to-end scenario: of the first four messages at least three are unthrottled
 * and at least one is throttled. */
static void test_throttled_key_is_skipped(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    uint32_t subscription;
    configure(f, "throttle.provider:slow", "1,1");
    create_scripted(f, "q");
    enqueue(f, peer, "q", "slow", 3);
    enqueue(f, peer, "q", "free", 3);
    MUST(f, peer_consume(peer, "q", &subscription, &f->err));
    assert_int_equal(receive_of(f, peer, 4, "slow"), 1);
    assert_int_equal(receive_of(f, peer, 2, "slow"), 2); /* a refill allows them */
    f->passed = true;
}

static void test_all_keys_must_pass(void **state)
{
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    uint32_t subscription;
    configure(f, "throttle.provider:slow", "0,3");
    configure(f, "throttle.region:eu", "0,1");
    create_scripted(f, "q");
    enqueue(f, peer, "q", "multi", 3);
    MUST(f, peer_consume(peer, "q", &subscription, &f->err));
    assert_int_equal(receive_of(f, peer, 1, "multi"), 1);
    fixture_receive_nothing(f, peer, QUIET_MS);
    /* Two tokens are left, nothing was taken for what the other key refused. */
    enqueue(f, peer, "q", "slow", 3);
    assert_int_equal(receive_of(f, peer, 2, "slow"), 2);
    fixture_receive_nothing(f, peer, QUIET_MS);
    configure(f, "throttle.region:eu", "");
    configure(f, "throttle.provider:slow", "");
    assert_int_equal(receive_of(f, peer, 3, "multi"), 2);
    f->passed = true;
}

static void test_rate_is_enforced_and_restored(void **state)
{
    enum { COUNT = 40, RATE = 40 };
    struct fixture *f = *state;
    struct peer *peer = fixture_peer(f);
    struct peer_delivery delivery;
    struct fila_error error = FILA_ERROR_INIT;
    uint64_t first_ns = 0, last_ns = 0;
    uint32_t subscription;
    configure(f, "throttle.provider:slow", "40,1");
    create_scripted(f, "q");
    enqueue(f, peer, "q", "slow", COUNT);
    MUST(f, peer_consume(peer, "q", &subscription, &f->err));
    for (unsigned i = 0; i < COUNT; i++) {
        fixture_receive(f, peer, PEER_PATIENCE_MS, &delivery);
        first_ns = i ? first_ns : delivery.time_ns;
        last_ns = delivery.time_ns;
    }
    /* One is the burst, and a tenth of a second may be caught up with. */
    double seconds = (double)(last_ns - first_ns) / 1e9;
    if (seconds < (COUNT - 1.0) / RATE - 0.2)
        fail_msg("%d messages in %g s", COUNT, seconds);
    configure(f, "throttle.provider:slow", "0,2");
    fixture_crash(f);
    peer = fixture_peer(f);
    enqueue(f, peer, "q", "slow", 5);
    MUST(f, peer_consume(peer, "q", &subscription, &f->err));
    assert_int_equal(receive_of(f, peer, 2, "slow"), 2); /* full again, and no more */
    fixture_receive_nothing(f, peer, QUIET_MS);
    struct fila *client = fixture_client(f);
    struct fila_queue_stats *stats = fila_queue_stats(client, "q", &error);
    assert_non_null(stats);
    assert_int_equal(stats->throttle_count, 1);
    assert_string_equal(stats->throttles[0].key, "provider:slow");
    assert_true(stats->throttles[0].tokens == 0 && stats->throttles[0].burst == 2);
    assert_int_equal(stats->active_fairness_keys, 1);
    fila_queue_stats_free(stats);
    fila_close(client);
    f->passed = true;
}

#define BROKER(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BROKER(test_limit_holds_one_key_only),      BROKER(test_limit_counts_over_queues),
        BROKER(test_limit_is_right_after_a_crash),  BROKER(test_wrong_values_are_refused),
        BROKER(test_throttled_key_is_skipped),      BROKER(test_all_keys_must_pass),
        BROKER(test_rate_is_enforced_and_restored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
