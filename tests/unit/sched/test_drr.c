#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sched/drr.h"

#define KEYS 24

struct keyed {
    struct drr_key drr;
    char name;
    uint32_t pending;
};

static struct keyed *front(struct drr *drr)
{
    struct drr_key *key = drr_front(drr);
    return key ? CONTAINER_OF(key, struct keyed, drr) : NULL;
}

/* Delivers `count` messages; the order of the keys as text. */
static void deliver(struct drr *drr, unsigned count, char *order)
{
    for (unsigned i = 0; i < count; i++) {
        struct keyed *key = front(drr);
        order[i] = key ? key->name : '-';
        if (key)
            drr_charge(drr, &key->drr);
    }
    order[count] = 0;
}

static void key_start(struct drr *drr, struct keyed *key, char name, uint32_t weight)
{
    key->name = name;
    drr_key_init(&key->drr, weight);
    drr_activate(drr, &key->drr);
}

static void bursts_follow_the_weight(void **state)
{
    struct drr drr;
    struct keyed keys[3];
    char order[32];
    (void)state;
    drr_init(&drr, 1000);
    assert_null(drr_front(&drr));
    key_start(&drr, &keys[0], 'a', 3);
    key_start(&drr, &keys[1], 'b', 1);
    key_start(&drr, &keys[2], 'c', 0); /* counts as 1 */
    assert_int_equal(drr.count, 3);
    assert_int_equal(drr_burst_left(drr_front(&drr)), 3);
    deliver(&drr, 12, order);
    assert_string_equal(order, "aaabcaaabcaa");
    assert_int_equal(drr_burst_left(drr_front(&drr)), 1);
}

static void a_round_ends_when_all_are_spent(void **state)
{
    struct drr drr;
    struct keyed keys[2];
    char order[64];
    (void)state;
    drr_init(&drr, 2);
    key_start(&drr, &keys[0], 'a', 3);
    key_start(&drr, &keys[1], 'b', 1);
    deliver(&drr, 16, order);
    assert_string_equal(order, "aaabaaabaaabaaab");
    drr_set_weight(&keys[1].drr, 2); /* 6 and 4 of a round */
    deliver(&drr, 20, order);
    unsigned of_b = 0;
    for (unsigned i = 0; i < 20; i++)
        of_b += order[i] == 'b';
    assert_int_equal(of_b, 8);
}

static void a_new_key_gets_its_share_at_once(void **state)
{
    struct drr drr;
    struct keyed keys[3];
    char order[32];
    (void)state;
    drr_init(&drr, 1000);
    key_start(&drr, &keys[0], 'a', 1);
    key_start(&drr, &keys[1], 'b', 1);
    deliver(&drr, 900, (char[901]){0});
    key_start(&drr, &keys[2], 'n', 2);
    assert_int_equal(drr_deficit(&drr, &keys[2].drr), 2000);
    deliver(&drr, 8, order);
    assert_string_equal(order, "abnnabnn");
    drr_activate(&drr, &keys[2].drr); /* no effect */
    assert_int_equal(drr.count, 3);
    assert_int_equal(drr_deficit(&drr, &keys[2].drr), 1996);
}

static void inactive_keys_are_passed_over(void **state)
{
    struct drr drr;
    struct keyed keys[3];
    char order[32];
    (void)state;
    drr_init(&drr, 10);
    for (unsigned i = 0; i < 3; i++)
        key_start(&drr, &keys[i], (char)('a' + i), 2);
    deliver(&drr, 1, order);
    drr_deactivate(&drr, &keys[0].drr); /* in the middle of its burst */
    drr_deactivate(&drr, &keys[0].drr);
    assert_int_equal(drr.count, 2);
    assert_int_equal(drr_deficit(&drr, &keys[0].drr), 0);
    deliver(&drr, 4, order);
    assert_string_equal(order, "bbcc");
    drr_activate(&drr, &keys[0].drr);
    deliver(&drr, 6, order);
    assert_string_equal(order, "bbccaa");
    for (unsigned i = 0; i < 3; i++)
        drr_deactivate(&drr, &keys[i].drr);
    assert_null(drr_front(&drr));
    assert_int_equal(drr.count, 0);
}

static void a_refund_gives_the_deficit_back(void **state)
{
    struct drr drr;
    struct keyed key;
    (void)state;
    drr_init(&drr, 10);
    key_start(&drr, &key, 'a', 1);
    assert_ptr_equal(drr_front(&drr), &key.drr);
    drr_charge(&drr, &key.drr);
    assert_int_equal(drr_deficit(&drr, &key.drr), 9);
    drr_refund(&key.drr);
    assert_int_equal(drr_deficit(&drr, &key.drr), 10);
    drr_deactivate(&drr, &key.drr);
    drr_refund(&key.drr);
    assert_int_equal(drr_deficit(&drr, &key.drr), 0);
}

/* spec/broker.md 4: weights 1..5, 10,000 messages of which 5,000 are looked at. */
static void shares_are_within_one_percent(void **state)
{
    struct drr drr;
    struct keyed keys[5];
    unsigned counts[5] = {0};
    (void)state;
    drr_init(&drr, 1000);
    for (unsigned i = 0; i < 5; i++)
        key_start(&drr, &keys[i], (char)('a' + i), i + 1);
    for (unsigned i = 0; i < 5000; i++) {
        struct keyed *key = front(&drr);
        counts[key->name - 'a']++;
        drr_charge(&drr, &key->drr);
    }
    for (unsigned i = 0; i < 5; i++) {
        double fair = 5000.0 * (i + 1) / 15;
        assert_true(counts[i] > fair * 0.99 && counts[i] < fair * 1.01);
    }
}

/* --- the same with nothing clever: arrays, and every key looked at in every step ---------------------- */

struct naive {
    int ring[KEYS]; /* order of turns, active keys only */
    unsigned count;
    struct {
        int64_t deficit;
        uint32_t weight, burst;
        bool active, spent;
    } keys[KEYS];
    uint32_t quantum;
};

static void naive_remove(struct naive *naive, int key)
{
    unsigned at = 0;
    while (naive->ring[at] != key)
        at++;
    memmove(&naive->ring[at], &naive->ring[at + 1], (naive->count - at - 1) * sizeof(int));
    naive->count--;
}

static void naive_activate(struct naive *naive, int key)
{
    if (naive->keys[key].active)
        return;
    naive->keys[key].active = true;
    naive->keys[key].spent = false;
    naive->keys[key].burst = 0;
    naive->keys[key].deficit = (int64_t)naive->keys[key].weight * naive->quantum;
    naive->ring[naive->count++] = key;
}

static void naive_deactivate(struct naive *naive, int key)
{
    if (!naive->keys[key].active)
        return;
    naive->keys[key].active = false;
    naive->keys[key].deficit = naive->keys[key].burst = 0;
    naive_remove(naive, key);
}

static int naive_front(struct naive *naive)
{
    for (int round = 0; round < 2; round++) {
        for (unsigned i = 0; i < naive->count; i++)
            if (!naive->keys[naive->ring[i]].spent)
                return naive->ring[i];
        for (unsigned i = 0; i < naive->count; i++) {
            int key = naive->ring[i];
            naive->keys[key].spent = false;
            naive->keys[key].deficit += (int64_t)naive->keys[key].weight * naive->quantum;
        }
    }
    return -1;
}

static void naive_charge(struct naive *naive, int key)
{
    naive->keys[key].deficit--;
    naive->keys[key].burst++;
    if (naive->keys[key].deficit > 0 && naive->keys[key].burst < naive->keys[key].weight)
        return;
    naive->keys[key].burst = 0;
    naive->keys[key].spent = naive->keys[key].deficit <= 0;
    naive_remove(naive, key);
    naive->ring[naive->count++] = key;
}

static void it_does_what_the_naive_one_does(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        struct drr drr;
        struct naive naive = {.quantum = 1 + seed % 7};
        struct drr_key keys[KEYS];
        unsigned random = seed;
        drr_init(&drr, naive.quantum);
        for (int i = 0; i < KEYS; i++) {
            naive.keys[i].weight = 1 + (uint32_t)rand_r(&random) % 5;
            drr_key_init(&keys[i], naive.keys[i].weight);
        }
        for (unsigned step = 0; step < 20000; step++) {
            int key = rand_r(&random) % KEYS;
            switch (rand_r(&random) % 12) {
            case 0:
                drr_activate(&drr, &keys[key]);
                naive_activate(&naive, key);
                break;
            case 1:
                if (rand_r(&random) % 2)
                    break;
                drr_deactivate(&drr, &keys[key]);
                naive_deactivate(&naive, key);
                break;
            default: {
                struct drr_key *chosen = drr_front(&drr);
                int expected = naive_front(&naive);
                assert_ptr_equal(chosen, expected < 0 ? NULL : &keys[expected]);
                if (!chosen)
                    break;
                drr_charge(&drr, chosen);
                naive_charge(&naive, expected);
                assert_int_equal(drr_deficit(&drr, chosen), naive.keys[expected].deficit);
            }
            }
            assert_int_equal(drr.count, naive.count);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bursts_follow_the_weight),
        cmocka_unit_test(a_round_ends_when_all_are_spent),
        cmocka_unit_test(a_new_key_gets_its_share_at_once),
        cmocka_unit_test(inactive_keys_are_passed_over),
        cmocka_unit_test(a_refund_gives_the_deficit_back),
        cmocka_unit_test(shares_are_within_one_percent),
        cmocka_unit_test(it_does_what_the_naive_one_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
