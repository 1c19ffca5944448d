#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stdbool.h>

#include "core/wheel.h"

#define HORIZON (1ull << (WHEEL_BITS * WHEEL_LEVELS))

struct entry {
    struct wheel_link link;
    uint64_t when;
    bool present;
};

static uint64_t random_state = 2463534242u;

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* A number whose size in bits is random too, so that all levels are met. */
static uint64_t random_span(unsigned bits)
{
    return random_next() & ((1ull << (1 + random_next() % bits)) - 1);
}

struct model {
    struct wheel wheel;
    struct entry *entries;
    unsigned size;
    uint64_t now;
    uint64_t count;
};

static void model_check_next(struct model *model)
{
    uint64_t first = UINT64_MAX;
    for (unsigned i = 0; i < model->size; i++)
        if (model->entries[i].present && model->entries[i].when < first)
            first = model->entries[i].when;
    uint64_t next = wheel_next(&model->wheel);
    if (model->count == 0)
        assert_true(next == UINT64_MAX);
    else
        assert_true(next <= (first > model->now ? first : model->now));
    assert_true(model->wheel.count == model->count);
}

/* Bits say exactly which slots hold entries. */
static void model_check_bits(struct model *model)
{
    for (unsigned level = 0; level < WHEEL_LEVELS; level++)
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++)
            assert_int_equal(model->wheel.occupied[level] >> slot & 1,
                             !list_empty(&model->wheel.slots[level][slot]));
}

static void model_advance(struct model *model, uint64_t now, uint32_t limit)
{
    if (now > model->now)
        model->now = now;
    uint32_t taken;
    do {
        struct list due;
        list_init(&due);
        taken = wheel_advance(&model->wheel, now, &due, limit);
        assert_true(taken <= limit);
        uint32_t counted = 0;
        LIST_EACH_SAFE(&due, link)
        {
            struct entry *entry = CONTAINER_OF(link, struct entry, link.list);
            assert_true(entry->present);
            assert_true(entry->when <= model->now);
            assert_true(entry->link.when == entry->when);
            entry->present = false;
            model->count--;
            counted++;
            list_remove(link);
        }
        assert_int_equal(counted, taken);
        if (taken == limit && random_next() % 2) {
            model->now = model->wheel.now; /* leaves the rest for the next advance */
            model_check_next(model);
            return;
        }
    } while (taken == limit);
    assert_true(model->wheel.now == model->now);
    for (unsigned i = 0; i < model->size; i++)
        assert_false(model->entries[i].present && model->entries[i].when <= model->now);
}

static void model_step(struct model *model, unsigned bits)
{
    struct entry *entry = &model->entries[random_next() % model->size];
    uint64_t choice = random_next() % 16;
    if (choice < 10) {
        if (entry->present) {
            wheel_remove(&model->wheel, &entry->link);
            model->count--;
        }
        uint64_t span = random_span(bits);
        entry->when = choice == 0 && span <= model->now ? model->now - span : model->now + span;
        if (choice == 1 && random_next() % 8 == 0)
            entry->when = UINT64_MAX - random_span(4);
        wheel_insert(&model->wheel, &entry->link, entry->when);
        entry->present = true;
        model->count++;
    } else if (choice < 12) {
        if (entry->present) {
            wheel_remove(&model->wheel, &entry->link);
            entry->present = false;
            model->count--;
        }
    } else {
        uint64_t to = model->now + random_span(bits);
        uint64_t next = wheel_next(&model->wheel);
        if (choice == 12 && model->count)
            to = next;
        else if (choice == 13 && model->now)
            to = model->now - 1; /* back: ignored */
        model_advance(model, to, 1 + (uint32_t)(random_next() % 20));
    }
    model_check_next(model);
    model_check_bits(model);
}

static void run_model(unsigned size, unsigned steps, unsigned bits, uint64_t start)
{
    struct model *model = calloc(1, sizeof(*model));
    model->entries = calloc(size, sizeof(*model->entries));
    model->size = size;
    model->now = start;
    wheel_init(&model->wheel, start);
    for (unsigned i = 0; i < steps; i++)
        model_step(model, bits);
    free(model->entries);
    free(model);
}

static void test_against_a_naive_model(void **state)
{
    (void)state;
    run_model(64, 20000, 8, 0);
    run_model(64, 20000, 20, 1234567);
    run_model(64, 20000, 34, HORIZON - 5);
    run_model(200, 5000, 40, 63);
    run_model(4, 20000, 36, (1ull << 50) - 1);
}

/* Called at exactly the ticks that wheel_next names, every entry comes out at exactly its time. */
static void test_following_next_is_exact(void **state)
{
    (void)state;
    enum { COUNT = 500 };
    struct wheel *wheel = malloc(sizeof(*wheel));
    struct entry *entries = calloc(COUNT, sizeof(*entries));
    wheel_init(wheel, 1000);
    for (unsigned i = 0; i < COUNT; i++) {
        entries[i].when = 1000 + random_span(36);
        wheel_insert(wheel, &entries[i].link, entries[i].when);
    }
    unsigned out = 0, calls = 0;
    while (wheel->count) {
        struct list due;
        list_init(&due);
        uint64_t now = wheel_next(wheel);
        assert_true(now >= wheel->now);
        out += wheel_advance(wheel, now, &due, UINT32_MAX);
        LIST_EACH(&due, link)
        assert_true(CONTAINER_OF(link, struct entry, link.list)->when == now);
        assert_true(++calls < COUNT * 64); /* few calls: long idle times are skipped */
    }
    assert_int_equal(out, COUNT);
    assert_true(wheel_next(wheel) == UINT64_MAX);
    free(entries);
    free(wheel);
}

static void test_past_is_due_without_time_moving(void **state)
{
    (void)state;
    struct wheel *wheel = malloc(sizeof(*wheel));
    struct wheel_link a, b;
    struct list due;
    wheel_init(wheel, 500);
    list_init(&due);
    wheel_insert(wheel, &a, 3);
    wheel_insert(wheel, &b, 500);
    assert_true(wheel_next(wheel) == 500);
    assert_int_equal(wheel_advance(wheel, 500, &due, 1), 1);
    assert_ptr_equal(due.next, &a.list);
    assert_int_equal(wheel_advance(wheel, 0, &due, 0), 0);
    assert_int_equal(wheel_advance(wheel, 0, &due, 5), 1);
    assert_ptr_equal(due.prev, &b.list);
    assert_true(wheel_next(wheel) == UINT64_MAX);
    free(wheel);
}

static void test_one_slot_comes_out_in_parts(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    struct wheel *wheel = malloc(sizeof(*wheel));
    struct wheel_link *links = calloc(COUNT, sizeof(*links));
    wheel_init(wheel, 0);
    for (unsigned i = 0; i < COUNT; i++)
        wheel_insert(wheel, &links[i], 70000);
    struct list due;
    list_init(&due);
    assert_int_equal(wheel_advance(wheel, 69999, &due, 10), 0);
    for (unsigned i = 0; i < COUNT / 10; i++) {
        assert_int_equal(wheel_advance(wheel, 1000000, &due, 10), 10);
        assert_true(wheel->now <= 1000000);
        if (wheel->count)
            assert_true(wheel_next(wheel) <= 1000000);
    }
    assert_int_equal(wheel_advance(wheel, 1000000, &due, 10), 0);
    assert_true(wheel->now == 1000000);
    unsigned order = 0;
    LIST_EACH(&due, link)
    assert_ptr_equal(CONTAINER_OF(link, struct wheel_link, list), &links[order++]);
    assert_int_equal(order, COUNT);
    free(links);
    free(wheel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_a_naive_model),
        cmocka_unit_test(test_following_next_is_exact),
        cmocka_unit_test(test_past_is_due_without_time_moving),
        cmocka_unit_test(test_one_slot_comes_out_in_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
