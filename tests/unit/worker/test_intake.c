#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/intake.h"

/* An Enqueue of one message. */
static struct operation *make(uint8_t line, uint32_t number, size_t bytes)
{
    struct operation_enqueue *enqueue =
        calloc(1, sizeof(*enqueue) + sizeof(struct operation_enqueue_item));
    assert_non_null(enqueue);
    enqueue->operation.kind = OPERATION_ENQUEUE;
    enqueue->operation.line = line;
    enqueue->operation.request_id = number;
    enqueue->count = 1;
    enqueue->items[0].record.size = bytes;
    return &enqueue->operation;
}

static struct operation *chain(struct operation *first, struct operation *then)
{
    struct operation **last = &first;
    while (*last)
        last = &(*last)->next;
    *last = then;
    return first;
}

static struct operation *many(uint8_t line, uint32_t count, size_t bytes)
{
    struct operation *first = NULL;
    while (count > 0)
        first = chain(make(line, --count, bytes), first);
    return first;
}

/* Frees a round; how many of it were of `line`, in order from *next on. */
static uint32_t take(struct operation *first, uint8_t line, uint32_t *next)
{
    uint32_t count = 0;
    while (first) {
        struct operation *operation = first;
        first = operation->next;
        if (operation->line == line) {
            assert_int_equal(operation->request_id, (*next)++);
            count++;
        }
        free(operation);
    }
    return count;
}

static void what_fits_a_round_passes_as_it_came(void **state)
{
    struct intake *intake = *state;
    struct operation *first = chain(make(1, 0, 1000), chain(make(2, 0, 100000), make(1, 1, 0)));
    struct operation *second = first->next;
    uint32_t next = 0;
    assert_null(intake_round(intake, NULL));
    assert_ptr_equal(intake_round(intake, first), first);
    assert_ptr_equal(first->next, second);
    assert_true(intake_is_empty(intake));
    assert_int_equal(take(first, 1, &next), 2);
}

static void one_of_a_quiet_line_is_in_the_next_round(void **state)
{
    struct intake *intake = *state;
    uint32_t noisy = 0, quiet = 0;
    take(intake_round(intake, many(1, 20000, 1000)), 1, &noisy);
    assert_in_range(noisy, 100, 2000);
    for (uint32_t i = 0; i < 5; i++) {
        struct operation *round = intake_round(intake, make(9, i, 1000));
        struct operation *operation = round;
        while (operation && operation->line != 9)
            operation = operation->next;
        assert_non_null(operation);
        uint32_t before = noisy;
        for (operation = round; operation; operation = operation->next)
            quiet += operation->line == 9;
        take(round, 1, &noisy);
        assert_true(noisy > before);
    }
    assert_int_equal(quiet, 5);
    while (!intake_is_empty(intake))
        take(intake_round(intake, NULL), 1, &noisy);
    assert_int_equal(noisy, 20000);
}

/* By bytes, whether in few operations or in many. */
static void lines_have_equal_shares(void **state)
{
    struct intake *intake = *state;
    uint32_t small = 0, large = 0;
    struct operation *arrived = chain(many(3, 4000, 1024 - 512), many(200, 40, 102400 - 512));
    for (unsigned i = 0; i < 2; i++) {
        struct operation *round = intake_round(intake, arrived), *copy = NULL;
        arrived = NULL;
        for (struct operation *operation = round; operation; operation = operation->next)
            if (operation->line == 200)
                copy = chain(make(200, operation->request_id, 0), copy);
        take(round, 3, &small);
        while (copy) {
            struct operation *operation = copy;
            copy = copy->next;
            large++;
            free(operation);
        }
    }
    assert_in_range(small, large * 100 - 300, large * 100 + 300);
    assert_true(large > 5);
    uint32_t next = large;
    take(intake_rest(intake), 200, &next);
    assert_int_equal(next, 40);
}

static void one_that_is_larger_than_rounds_has_its_turn(void **state)
{
    struct intake *intake = *state;
    uint32_t huge = 0, others = 0, rounds = 0;
    struct operation *arrived = chain(make(1, 0, 64u << 20), many(2, 200000, 1000));
    for (; huge == 0; rounds++) {
        struct operation *round = intake_round(intake, arrived);
        arrived = NULL;
        assert_non_null(round);
        for (struct operation *operation = round; operation; operation = operation->next)
            huge += operation->line == 1;
        take(round, 2, &others);
    }
    /* After the other line had as many bytes. */
    assert_in_range(others, 40000, 46000);
    assert_in_range(rounds, 20, 100);
    take(intake_rest(intake), 2, &others);
    assert_int_equal(others, 200000);
}

static void the_rest_is_all_of_it_in_order(void **state)
{
    struct intake *intake = *state;
    enum { LINES = OPERATION_LINES, EACH = 50 };
    uint32_t next[LINES] = {0};
    struct operation *arrived = NULL;
    for (unsigned i = 0; i < LINES; i++)
        arrived = chain(many((uint8_t)i, EACH, 8000), arrived);
    for (unsigned part = 0; part < 4; part++) {
        struct operation *operation =
            part < 3 ? intake_round(intake, arrived) : intake_rest(intake);
        arrived = NULL;
        while (operation) {
            struct operation *then = operation->next;
            assert_int_equal(operation->request_id, next[operation->line]++);
            free(operation);
            operation = then;
        }
    }
    for (unsigned i = 0; i < LINES; i++)
        assert_int_equal(next[i], EACH);
    assert_true(intake_is_empty(intake));
    assert_null(intake_rest(intake));
}

static int setup(void **state)
{
    static struct intake intake;
    intake_init(&intake);
    *state = &intake;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_fits_a_round_passes_as_it_came, setup),
        cmocka_unit_test_setup(one_of_a_quiet_line_is_in_the_next_round, setup),
        cmocka_unit_test_setup(lines_have_equal_shares, setup),
        cmocka_unit_test_setup(one_that_is_larger_than_rounds_has_its_turn, setup),
        cmocka_unit_test_setup(the_rest_is_all_of_it_in_order, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
