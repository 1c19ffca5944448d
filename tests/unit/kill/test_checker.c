/* The kill checker against brokers in memory: it finds nothing wrong with a correct one, and in
 * each faulty one what is wrong with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "kill/memory_driver.h"
#include "kill/run.h"

/* A short run with short timeouts; what it prints goes to standard output, which is shown when the
 * test fails. */
static uint64_t run_with_fault(enum memory_fault fault, unsigned kills, struct run_result *result)
{
    struct run_options options;
    run_options_default(&options);
    options.kills = kills;
    options.seed = 7;
    options.rate = 4000;
    options.payload_max = 200;
    options.visibility_min_ms = 300;
    options.visibility_max_ms = 500;
    options.pause_max_ms = 60;
    options.recovery_limit_ms = 10000;
    options.answer_limit_ms = fault == MEMORY_FALLS_SILENT ? 300 : 10000;
    options.count_limit_ms = 500;
    options.drain_limit_ms = fault == MEMORY_CORRECT ? 20000 : 3000;
    options.calm_ms = 100;
    options.seconds_max = 60;
    struct driver *driver = memory_driver_create(3, fault, 99);
    printf("broker that is %s:\n", memory_fault_name(fault));
    int status = run(driver, &options, result);
    memory_driver_destroy(driver);
    assert_int_equal(status == 0, result->totals.violation_count == 0);
    return result->totals.violation_count;
}

static void expect(enum memory_fault fault, enum violation violation)
{
    struct run_result result;
    /* On a loaded machine little happens between two kills: more of them are tried. */
    for (unsigned kills = 8; kills <= 64; kills *= 2) {
        run_with_fault(fault, kills, &result);
        if (result.totals.violations[violation] > 0)
            return;
    }
    fail_msg("the broker that %s: no violation of kind %s", memory_fault_name(fault),
             violation_name(violation));
}

static void test_correct_broker_passes(void **state)
{
    (void)state;
    struct run_result result;
    assert_int_equal(run_with_fault(MEMORY_CORRECT, 30, &result), 0);
    assert_int_equal(result.kills, 30);
    /* It was worth something only if all of this happened. */
    assert_true(result.totals.confirmed > 500);
    assert_true(result.totals.acked > 500);
    assert_true(result.totals.nacked > 20);
    assert_true(result.totals.redelivered > 20);
}

static void test_lost_message(void **state)
{
    (void)state;
    expect(MEMORY_LOSES, VIOLATION_LOST);
}

static void test_acked_message_returns(void **state)
{
    (void)state;
    expect(MEMORY_RETURNS, VIOLATION_RETURNED);
}

static void test_lease_broken(void **state)
{
    (void)state;
    expect(MEMORY_BREAKS_LEASES, VIOLATION_LEASE);
}

static void test_lease_forgotten(void **state)
{
    (void)state;
    expect(MEMORY_FORGETS_LEASES, VIOLATION_REFUSED);
}

static void test_order_broken(void **state)
{
    (void)state;
    expect(MEMORY_REORDERS, VIOLATION_ORDER);
}

static void test_counter_drifts(void **state)
{
    (void)state;
    expect(MEMORY_MISCOUNTS, VIOLATION_COUNTER);
}

static void test_attempt_not_raised(void **state)
{
    (void)state;
    expect(MEMORY_KEEPS_ATTEMPT, VIOLATION_ATTEMPT);
}

static void test_attempt_raised_twice(void **state)
{
    (void)state;
    expect(MEMORY_SKIPS_ATTEMPT, VIOLATION_ATTEMPT);
}

static void test_payload_damaged(void **state)
{
    (void)state;
    expect(MEMORY_DAMAGES, VIOLATION_PAYLOAD);
}

static void test_message_duplicated(void **state)
{
    (void)state;
    expect(MEMORY_DUPLICATES, VIOLATION_IDENTITY);
}

static void test_requests_never_answered(void **state)
{
    (void)state;
    expect(MEMORY_FALLS_SILENT, VIOLATION_SERVICE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_correct_broker_passes),
        cmocka_unit_test(test_lost_message),
        cmocka_unit_test(test_acked_message_returns),
        cmocka_unit_test(test_lease_broken),
        cmocka_unit_test(test_lease_forgotten),
        cmocka_unit_test(test_order_broken),
        cmocka_unit_test(test_counter_drifts),
        cmocka_unit_test(test_attempt_not_raised),
        cmocka_unit_test(test_attempt_raised_twice),
        cmocka_unit_test(test_payload_damaged),
        cmocka_unit_test(test_message_duplicated),
        cmocka_unit_test(test_requests_never_answered),
    };
    return cmocka_run_group_tests_name("kill checker", tests, NULL, NULL);
}
