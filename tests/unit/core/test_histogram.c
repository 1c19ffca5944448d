#include "core/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void buckets_follow_each_other_without_a_gap(void **state)
{
    (void)state;
    assert_int_equal(histogram_lower(0), 0);
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t lower = histogram_lower(i), next = histogram_lower(i + 1);
        assert_true(next > lower);
        assert_int_equal(histogram_bucket(lower), i);
        assert_int_equal(histogram_bucket(next - 1), i);
        assert_true(next - lower == 1 || (next - lower) * 4 <= lower);
    }
    assert_int_equal(histogram_lower(HISTOGRAM_BUCKETS), (uint64_t)UINT32_MAX + 1);
    assert_int_equal(histogram_bucket(UINT32_MAX), HISTOGRAM_BUCKETS - 1);
    assert_int_equal(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
}

static void it_is_small(void **state)
{
    (void)state;
    assert_true(sizeof(struct histogram) <= 1024);
}

static void an_empty_one_has_no_quantiles(void **state)
{
    struct histogram histogram = {0};
    (void)state;
    assert_int_equal(histogram_count(&histogram), 0);
    assert_int_equal(histogram_quantile(&histogram, 500), 0);
    assert_int_equal(histogram_quantile(&histogram, 1000), 0);
}

static void of_one_value_every_quantile_is_about_it(void **state)
{
    struct histogram histogram = {0};
    (void)state;
    histogram_record(&histogram, 1000);
    for (unsigned permille = 0; permille <= 1000; permille += 250)
        assert_in_range(histogram_quantile(&histogram, permille), 875, 1000);
    assert_int_equal(histogram.sum, 1000);
    assert_int_equal(histogram.max, 1000);
}

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static void quantiles_are_within_an_eighth(void **state)
{
    enum { VALUES = 20000 };
    static const unsigned wanted[] = {1, 10, 250, 500, 900, 990, 999, 1000};
    uint64_t *values = calloc(VALUES, sizeof(*values));
    struct histogram histogram = {0};
    uint64_t sum = 0;
    (void)state;
    assert_non_null(values);
    srand48(20261122);
    for (unsigned i = 0; i < VALUES; i++) {
        values[i] = (uint64_t)lrand48() >> (lrand48() % 31);
        histogram_record(&histogram, values[i]);
        sum += values[i];
    }
    qsort(values, VALUES, sizeof(*values), compare);
    assert_int_equal(histogram_count(&histogram), VALUES);
    assert_int_equal(histogram.sum, sum);
    assert_int_equal(histogram.max, values[VALUES - 1]);
    for (unsigned i = 0; i < sizeof(wanted) / sizeof(*wanted); i++) {
        uint64_t exact = values[(VALUES * wanted[i] + 999) / 1000 - 1];
        uint64_t got = histogram_quantile(&histogram, wanted[i]);
        uint64_t off = got > exact ? got - exact : exact - got;
        assert_true(off * 8 <= exact);
    }
    free(values);
}

static void the_sum_of_two_is_as_if_all_came_to_one(void **state)
{
    struct histogram one = {0}, two = {0}, all = {0};
    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        histogram_record(i % 3 ? &one : &two, i * i);
        histogram_record(&all, i * i);
    }
    histogram_add(&one, &two);
    assert_memory_equal(&one, &all, sizeof(all));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_follow_each_other_without_a_gap),
        cmocka_unit_test(it_is_small),
        cmocka_unit_test(an_empty_one_has_no_quantiles),
        cmocka_unit_test(of_one_value_every_quantile_is_about_it),
        cmocka_unit_test(quantiles_are_within_an_eighth),
        cmocka_unit_test(the_sum_of_two_is_as_if_all_came_to_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
