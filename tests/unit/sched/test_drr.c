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
    deliver(&drr, 12, order);
    assert_string_equal(order, "aaabcaaabcaa");
}

static void shares_used_up_are_given_anew(void **state)
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
    drr_set_weight(&drr, &keys[1].drr, 2);
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
    assert_int_equal(keys[2].drr.deficit, 2000);
    deliver(&drr, 8, order);
    assert_string_equal(order, "abnnabnn");
    drr_activate(&drr, &keys[2].drr); /* no effect */
    assert_int_equal(drr.count, 3);
    assert_int_equal(keys[2].drr.deficit, 1996);
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
    assert_int_equal(keys[0].drr.deficit, 0);
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
    assert_int_equal(key.drr.deficit, 9);
    drr_refund(&key.drr);
    assert_int_equal(key.drr.deficit, 10);
    drr_deactivate(&drr, &key.drr);
    drr_refund(&key.drr);
    assert_int_equal(key.drr.deficit, 0);
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

/* --- the same with nothing clever: arrays, and every key looked at in every step --- */

struct naive {
    int ring[KEYS]; /* order of turns, active keys only */
    unsigned count;
    struct {
        int64_t deficit;
        uint32_t weight, burst;
        bool active;
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

static int naive_front(const struct naive *naive)
{
    return naive->count ? naive->ring[0] : -1;
}

static void naive_charge(struct naive *naive, int key)
{
    bool used_up = --naive->keys[key].deficit <= 0;
    bool turn_over = ++naive->keys[key].burst >= naive->keys[key].weight;
    if (used_up)
        naive->keys[key].deficit += (int64_t)naive->keys[key].weight * naive->quantum;
    if (!used_up && !turn_over)
        return;
    naive->keys[key].burst = 0;
    naive_remove(naive, key);
    naive->ring[naive->count++] = key;
}

static void naive_weigh(struct naive *naive, int key, uint32_t weight)
{
    int64_t share = (int64_t)weight * naive->quantum;
    naive->keys[key].weight = weight;
    if (naive->keys[key].deficit > share)
        naive->keys[key].deficit = share;
}

/* Two keys that come and go in turn, one of them always there, do not hold up a third one. */
static void keys_that_come_and_go_starve_nobody(void **state)
{
    struct drr drr;
    struct keyed keys[3];
    unsigned of_steady = 0;
    (void)state;
    drr_init(&drr, 10);
    key_start(&drr, &keys[0], 's', 1);
    key_start(&drr, &keys[1], 'x', 1);
    key_start(&drr, &keys[2], 'y', 1);
    for (unsigned i = 0; i < 3000; i++) {
        struct keyed *key = front(&drr);
        of_steady += key->name == 's';
        drr_charge(&drr, &key->drr);
        if (i % 10 == 9) { /* before its share is used up */
            struct drr_key *gone = &keys[1 + i / 10 % 2].drr;
            drr_deactivate(&drr, gone);
            drr_activate(&drr, gone);
        }
    }
    assert_in_range(of_steady, 900, 1300);
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
            case 2: {
                uint32_t weight = 1 + (uint32_t)rand_r(&random) % 5;
                drr_set_weight(&drr, &keys[key], weight);
                naive_weigh(&naive, key, weight);
                break;
            }
            default: {
                struct drr_key *chosen = drr_front(&drr);
                int expected = naive_front(&naive);
                assert_ptr_equal(chosen, expected < 0 ? NULL : &keys[expected]);
                if (!chosen)
                    break;
                drr_charge(&drr, chosen);
                naive_charge(&naive, expected);
                assert_int_equal(chosen->deficit, naive.keys[expected].deficit);
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
        cmocka_unit_test(shares_used_up_are_given_anew),
        cmocka_unit_test(a_new_key_gets_its_share_at_once),
        cmocka_unit_test(inactive_keys_are_passed_over),
        cmocka_unit_test(a_refund_gives_the_deficit_back),
        cmocka_unit_test(shares_are_within_one_percent),
        cmocka_unit_test(keys_that_come_and_go_starve_nobody),
        cmocka_unit_test(it_does_what_the_naive_one_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
