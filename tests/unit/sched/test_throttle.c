/* Token buckets and limits by themselves: values, refill by a pretended clock, changes. */
#include "unit/sched/scheduled.h"

#include "sched/concurrency.h"
#include "sched/config_rule.h"
#include "sched/throttle.h"

#define SECOND UINT64_C(1000000000)
#define START (1000 * SECOND)

/* --- values --- */

static void values_are_read(void **state)
{
    static const struct {
        const char *text;
        double rate, burst;
    } cases[] = {
        {"1,1", 1, 1},
        {"10,20", 10, 20},
        {" 10 ,\t20 ", 10, 20},
        {"0.5,1", 0.5, 1},
        {"1e3,2.5E2", 1000, 250},
        {"1e-3,1", 0.001, 1},
        {".5,1.", 0.5, 1},
        {"+1,+2", 1, 2},
        {"0,0", 0, 0},
        {"100,0", 100, 0},
        {"0,5", 0, 5},
        {"-0,1", 0, 1},
        {"1e308,1e308", 1e308, 1e308},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        double rate = -1, burst = -1;
        const char *fault = throttle_parse(str_from_c(cases[i].text), &rate, &burst);
        if (fault)
            fail_msg("\"%s\": %s", cases[i].text, fault);
        assert_true(rate == cases[i].rate && burst == cases[i].burst);
    }
}

static void wrong_values_are_refused_with_words(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "comma is missing"},
        {"10", "comma is missing"},
        {"1,2,3", "more than one comma"},
        {"1,2,", "more than one comma"},
        {",", "rate is missing"},
        {"1,", "burst is missing"},
        {" , 1", "rate is missing"},
        {"nan,1", "rate is not a decimal number"},
        {"1,NaN", "burst is not a decimal number"},
        {"inf,1", "not a decimal number"},
        {"1,infinity", "not a decimal number"},
        {"-inf,1", "not a decimal number"},
        {"1e999,1", "rate is too large"},
        {"1,1e309", "burst is too large"},
        {"-1,1", "rate is negative"},
        {"1,-0.5", "burst is negative"},
        {"0x10,1", "not a decimal number"},
        {"1 0,1", "not a decimal number"},
        {"1e,1", "not a decimal number"},
        {"e5,1", "not a decimal number"},
        {".,1", "not a decimal number"},
        {"1.2.3,1", "not a decimal number"},
        {"1,0.5", "below 1"},
        {"1,0.999", "below 1"},
        {"1;1", "comma is missing"},
        {"ten,1", "not a decimal number"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        double rate, burst;
        const char *fault = throttle_parse(str_from_c(cases[i].text), &rate, &burst);
        if (!fault || !strstr(fault, cases[i].says))
            fail_msg("\"%s\": %s", cases[i].text, fault ? fault : "accepted");
    }
    double rate, burst;
    assert_non_null(throttle_parse(STR("1\0,1"), &rate, &burst));
    char digits[300];
    memset(digits, '1', sizeof(digits));
    digits[200] = ',';
    assert_non_null(
        strstr(throttle_parse(str_of(digits, sizeof(digits)), &rate, &burst), "characters"));
}

static void names_are_checked(void **state)
{
    static uint8_t longest[9 + 1025] = "throttle.";
    (void)state;
    assert_null(config_rule_fault(STR("throttle.provider:slow.1"), STR("1,1")));
    assert_null(config_rule_fault(STR("concurrency.a"), STR("1")));
    assert_null(config_rule_fault(STR("throttles"), STR("x"))); /* of no meaning to us */
    assert_null(config_rule_fault(str_of(longest, 9 + 1024), STR("1,1")));
    assert_non_null(config_rule_fault(str_of(longest, 9 + 1025), STR("1,1")));
    assert_non_null(strstr(config_rule_fault(STR("throttle."), STR("1,1")), "missing"));
    assert_non_null(strstr(config_rule_fault(STR("concurrency."), STR("1")), "missing"));
    assert_non_null(config_rule_fault(STR("throttle.a"), STR("1")));
    assert_non_null(config_rule_fault(STR("concurrency.a"), STR("1,1")));
}

static void limits_are_read(void **state)
{
    static const char *const wrong[] = {
        "",    " ",   "-1", "1.5", "1e3", "a", "1a", "1000000001", "99999999999999999999",
        "1,1", "1 1", "+1"};
    uint64_t most = 7;
    (void)state;
    assert_null(concurrency_parse(STR(" 12 "), &most));
    assert_int_equal(most, 12);
    assert_null(concurrency_parse(STR("0"), &most));
    assert_int_equal(most, 0);
    assert_null(concurrency_parse(STR("1000000000"), &most));
    assert_int_equal(most, 1000000000);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_non_null(strstr(concurrency_parse(str_from_c(wrong[i]), &most), "integer"));
    }
}

/* --- tokens --- */

static struct throttle *bucket(struct scheduled *scheduled, const char *key)
{
    struct throttle *throttle =
        throttle_acquire(scheduled->scheduler, THROTTLE_BUCKET, str_from_c(key));
    assert_non_null(throttle);
    return throttle;
}

static uint64_t available(struct scheduled *scheduled, struct throttle *throttle, uint64_t now_ns)
{
    assert_true(throttle_lock(scheduled->scheduler, throttle));
    uint64_t count = throttle_available(throttle, now_ns);
    throttle_unlock(scheduled->scheduler, throttle);
    return count;
}

static unsigned take_all(struct scheduled *scheduled, struct throttle *throttle, uint64_t now_ns)
{
    unsigned count = 0;
    assert_true(throttle_lock(scheduled->scheduler, throttle));
    for (; throttle_available(throttle, now_ns); count++)
        throttle_take(throttle, now_ns);
    throttle_unlock(scheduled->scheduler, throttle);
    return count;
}

static void configure(struct scheduled *scheduled, const char *key, double rate, double burst,
                      uint64_t now_ns)
{
    assert_int_equal(throttle_configure(scheduled->scheduler, str_from_c(key), rate, burst, now_ns),
                     THROTTLE_DONE);
}

static void a_bucket_starts_full_and_refills_continuously(void **state)
{
    configure(*state, "a", 10, 5, START);
    struct throttle *a = bucket(*state, "a");
    assert_int_equal(take_all(*state, a, START), 5);
    assert_int_equal(available(*state, a, START + SECOND / 20), 0);
    assert_int_equal(available(*state, a, START + SECOND / 10), 1);
    assert_int_equal(take_all(*state, a, START + SECOND / 4), 2);
    assert_int_equal(take_all(*state, a, START + 3 * SECOND / 10), 1);
    assert_int_equal(take_all(*state, a, START + 100 * SECOND), 5); /* never above its burst */
    assert_int_equal(available(*state, a, START), 0);               /* a clock read earlier */
}

/* However often it is looked at, nothing is lost or won by rounding. */
static void many_looks_keep_the_rate(void **state)
{
    configure(*state, "a", 3, 1, START);
    struct throttle *a = bucket(*state, "a");
    unsigned count = 0;
    for (uint64_t now = START; now <= START + 10 * SECOND; now += 100000)
        count += take_all(*state, a, now);
    assert_in_range(count, 30, 31);
}

static void extremes_neither_stall_nor_overflow(void **state)
{
    configure(*state, "none", 0, 3, START);
    assert_int_equal(take_all(*state, bucket(*state, "none"), START), 3);
    assert_int_equal(available(*state, bucket(*state, "none"), START + 1000000 * SECOND), 0);
    configure(*state, "stopped", 1000, 0, START);
    assert_int_equal(available(*state, bucket(*state, "stopped"), START + 1000000 * SECOND), 0);
    configure(*state, "huge", 1e308, 1e308, START);
    assert_true(available(*state, bucket(*state, "huge"), START + SECOND) >= 1000000000);
    configure(*state, "slow", 1e-300, 1, START);
    struct throttle *slow = bucket(*state, "slow");
    assert_int_equal(take_all(*state, slow, START), 1);
    assert_int_equal(available(*state, slow, START + 1000000 * SECOND), 0);
    assert_true(throttle_lock(((struct scheduled *)*state)->scheduler, slow));
    slow->waiting_count = 1;
    assert_true(throttle_next(slow, START + SECOND) == THROTTLE_NEVER);
    slow->waiting_count = 0;
    throttle_unlock(((struct scheduled *)*state)->scheduler, slow);
}

static void a_change_keeps_tokens_up_to_the_new_burst(void **state)
{
    configure(*state, "a", 1, 100, START);
    struct throttle *a = bucket(*state, "a");
    configure(*state, "a", 1, 10, START); /* 100 tokens become 10 */
    assert_int_equal(available(*state, a, START), 10);
    configure(*state, "a", 1, 50, START); /* and do not come back at once */
    assert_int_equal(available(*state, a, START), 10);
    configure(*state, "a", 1000, 50, START + 5 * SECOND); /* 5 s by the old rate */
    assert_int_equal(available(*state, a, START + 5 * SECOND), 15);
    assert_int_equal(available(*state, a, START + 5 * SECOND + SECOND / 100), 25);
}

static void what_waits_loses_no_rate_by_a_late_look(void **state)
{
    configure(*state, "a", 1000, 1, START);
    struct throttle *a = bucket(*state, "a");
    assert_int_equal(take_all(*state, a, START), 1);
    assert_true(throttle_lock(((struct scheduled *)*state)->scheduler, a));
    throttle_note_hungry(a, START);
    throttle_unlock(((struct scheduled *)*state)->scheduler, a);
    assert_int_equal(take_all(*state, a, START + SECOND / 50), 20);
    /* Taking goes on: it is hungry still. */
    assert_int_equal(take_all(*state, a, START + SECOND / 20), 30);
    /* Nobody came for longer than it keeps: the burst is all. */
    assert_int_equal(take_all(*state, a, START + SECOND), 1);
    /* One that never was hungry keeps to its burst. */
    assert_int_equal(take_all(*state, a, START + SECOND + SECOND / 50), 1);
}

static void what_waits_keeps_no_more_than_a_tenth_of_a_second(void **state)
{
    configure(*state, "a", 1000, 5, START);
    struct throttle *a = bucket(*state, "a");
    assert_int_equal(take_all(*state, a, START), 5);
    assert_true(throttle_lock(((struct scheduled *)*state)->scheduler, a));
    throttle_note_hungry(a, START);
    a->waiting_count = 1;
    throttle_unlock(((struct scheduled *)*state)->scheduler, a);
    assert_int_equal(take_all(*state, a, START + 10 * SECOND), 105);
    a->waiting_count = 0;
}

/* --- coming and going --- */

static void a_removed_one_goes_with_its_last_reference(void **state)
{
    struct scheduled *scheduled = *state;
    struct scheduler *scheduler = scheduled->scheduler;
    uint32_t generation = atomic_load(&scheduler->throttles.generation);
    configure(*state, "a", 1, 3, START);
    assert_int_equal(atomic_load(&scheduler->throttles.count), 1);
    assert_int_not_equal(atomic_load(&scheduler->throttles.generation), generation);
    struct throttle *a = bucket(*state, "a");
    assert_int_equal(take_all(*state, a, START), 3);
    assert_int_equal(throttle_remove(scheduler, STR("a"), START), THROTTLE_DONE);
    assert_int_equal(throttle_remove(scheduler, STR("a"), START), THROTTLE_DONE);
    assert_int_equal(throttle_remove(scheduler, STR("never"), START), THROTTLE_DONE);
    assert_int_equal(atomic_load(&scheduler->throttles.count), 0);
    assert_null(throttle_acquire(scheduler, THROTTLE_BUCKET, STR("a")));
    assert_true(available(*state, a, START) == UINT64_MAX);
    configure(*state, "a", 1, 3, START); /* the same one, full again */
    assert_ptr_equal(bucket(*state, "a"), a);
    assert_int_equal(available(*state, a, START), 3);
    throttle_release(scheduler, a);
    throttle_release(scheduler, a);
    assert_int_equal(throttle_remove(scheduler, STR("a"), START), THROTTLE_DONE);
    for (unsigned i = 0; i < THROTTLE_SHARDS; i++)
        assert_int_equal(scheduler->throttles.shards[i].table.count, 0);
}

/* A change of numbers does not make lanes look for their throttles again. */
static void only_coming_and_going_raises_the_generation(void **state)
{
    struct scheduled *scheduled = *state;
    configure(*state, "a", 1, 3, START);
    uint32_t generation = atomic_load(&scheduled->scheduler->throttles.generation);
    configure(*state, "a", 2, 4, START);
    assert_int_equal(atomic_load(&scheduled->scheduler->throttles.generation), generation);
}

static void a_limit_and_a_bucket_of_one_key_are_two(void **state)
{
    struct scheduled *scheduled = *state;
    struct scheduler *scheduler = scheduled->scheduler;
    configure(*state, "a", 1, 3, START);
    assert_null(throttle_acquire(scheduler, THROTTLE_LIMIT, STR("a")));
    assert_int_equal(concurrency_configure(scheduler, STR("a"), 2, START), THROTTLE_DONE);
    struct throttle *limit = throttle_acquire(scheduler, THROTTLE_LIMIT, STR("a"));
    assert_int_equal(take_all(*state, limit, START), 2);
    assert_int_equal(available(*state, bucket(*state, "a"), START), 3);
    assert_int_equal(concurrency_configure(scheduler, STR("a"), 1, START), THROTTLE_DONE);
    assert_int_equal(available(*state, limit, START), 0); /* two are in flight */
    assert_int_equal(concurrency_configure(scheduler, STR("a"), 5, START), THROTTLE_DONE);
    assert_int_equal(available(*state, limit, START), 3);
    assert_int_equal(concurrency_remove(scheduler, STR("a"), START), THROTTLE_DONE);
    assert_true(available(*state, limit, START) == UINT64_MAX);
}

static void a_hundred_thousand_buckets_are_found_and_small(void **state)
{
    enum { BUCKETS = 100000 };
    struct scheduled *scheduled = *state;
    struct scheduler *scheduler = scheduled->scheduler;
    char name[32];
    uint64_t before = arena_used(scheduler->arena);
    for (unsigned i = 0; i < BUCKETS; i++) {
        snprintf(name, sizeof(name), "provider:%u", i);
        configure(*state, name, i, 10 + i, START);
    }
    uint64_t each = (arena_used(scheduler->arena) - before) / BUCKETS;
    assert_in_range(each, 100, 260);
    for (unsigned i = 0; i < BUCKETS; i += 997) {
        snprintf(name, sizeof(name), "provider:%u", i);
        struct throttle *throttle = bucket(*state, name);
        assert_true(throttle->bucket.rate == i);
        throttle_release(scheduler, throttle);
    }
    for (unsigned i = 0; i < BUCKETS; i++) {
        snprintf(name, sizeof(name), "provider:%u", i);
        assert_int_equal(throttle_remove(scheduler, str_from_c(name), START), THROTTLE_DONE);
    }
    assert_int_equal(atomic_load(&scheduler->throttles.count), 0);
}

/* What limits deliveries must not go missing silently: who configures is told. */
static void a_full_zone_is_said(void **state)
{
    struct scheduled *scheduled = *state;
    enum throttle_result result = THROTTLE_DONE;
    char name[32];
    unsigned made = 0;
    for (; result == THROTTLE_DONE && made < 1000000; made++) {
        snprintf(name, sizeof(name), "key:%u", made);
        result = throttle_configure(scheduled->scheduler, str_from_c(name), 1, 1, START);
    }
    assert_int_equal(result, THROTTLE_FULL);
    assert_int_equal(atomic_load(&scheduled->scheduler->throttles.count), made - 1);
    assert_null(throttle_acquire(scheduled->scheduler, THROTTLE_BUCKET, str_from_c(name)));
}

#define SCHEDULED(test) cmocka_unit_test_setup_teardown(test, scheduled_setup, scheduled_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_read),
        cmocka_unit_test(wrong_values_are_refused_with_words),
        cmocka_unit_test(names_are_checked),
        cmocka_unit_test(limits_are_read),
        SCHEDULED(a_bucket_starts_full_and_refills_continuously),
        SCHEDULED(many_looks_keep_the_rate),
        SCHEDULED(extremes_neither_stall_nor_overflow),
        SCHEDULED(a_change_keeps_tokens_up_to_the_new_burst),
        SCHEDULED(what_waits_loses_no_rate_by_a_late_look),
        SCHEDULED(what_waits_keeps_no_more_than_a_tenth_of_a_second),
        SCHEDULED(a_removed_one_goes_with_its_last_reference),
        SCHEDULED(only_coming_and_going_raises_the_generation),
        SCHEDULED(a_limit_and_a_bucket_of_one_key_are_two),
        SCHEDULED(a_hundred_thousand_buckets_are_found_and_small),
        SCHEDULED(a_full_zone_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
