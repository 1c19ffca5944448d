#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stdbool.h>

#include "core/hash.h"
#include "core/list.h"

struct item {
    struct hash_link link;
    uint64_t key;
    bool present;
};

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 31)) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9u;
    return x ^ (x >> 32);
}

static struct item *item_find(struct hash *hash, uint64_t key, uint64_t value)
{
    struct hash_link *link = hash_find(hash, value);
    for (; link; link = hash_find_next(link)) {
        struct item *item = CONTAINER_OF(link, struct item, link);
        if (item->key == key)
            return item;
    }
    return NULL;
}

/* An allocator that counts, checks sizes, and can run out. */
struct account {
    size_t bytes;
    unsigned left; /* allocations that still succeed */
};

static void *account_alloc(void *context, size_t size)
{
    struct account *account = context;
    if (account->left == 0)
        return NULL;
    account->left--;
    account->bytes += size;
    void *memory = malloc(size);
    memset(memory, 0xa5, size); /* the table must not rely on cleared memory */
    return memory;
}

static void account_free(void *context, void *memory, size_t size)
{
    struct account *account = context;
    account->bytes -= size;
    free(memory);
}

/* The same random operations on the table and on flags. */
static void random_operations(unsigned keys, unsigned operations, uint64_t mask,
                              struct account *account)
{
    struct hash_allocator allocator = {account_alloc, account_free, account};
    struct hash hash;
    assert_int_equal(hash_init(&hash, &allocator), 0);
    struct item *items = calloc(keys, sizeof(*items));
    uint32_t count = 0;
    uint64_t random = 1;
    for (unsigned i = 0; i < operations; i++) {
        random = mix(random + 0x9e3779b97f4a7c15u);
        struct item *item = &items[random % keys];
        item->key = (uint64_t)(item - items);
        uint64_t value = mix(item->key) & mask;
        assert_ptr_equal(item_find(&hash, item->key, value), item->present ? item : NULL);
        if (item->present && random >> 60 < 6) {
            hash_remove(&hash, &item->link);
            item->present = false;
            count--;
        } else if (!item->present) {
            item->link.user = (uint32_t)item->key;
            hash_insert(&hash, &allocator, value, &item->link);
            item->present = true;
            count++;
        }
        assert_int_equal(hash.count, count);
    }
    uint32_t bucket = 0, walked = 0;
    for (struct hash_link *link = hash_next(&hash, &bucket, NULL); link;) {
        struct item *item = CONTAINER_OF(link, struct item, link);
        assert_true(item->present);
        assert_int_equal(item->link.user, item->key);
        walked++;
        link = hash_next(&hash, &bucket, link);
        if (item->key % 2) {
            hash_remove(&hash, &item->link);
            item->present = false;
        }
    }
    assert_int_equal(walked, count);
    for (unsigned i = 0; i < keys; i++)
        assert_ptr_equal(item_find(&hash, i, mix(i) & mask), items[i].present ? &items[i] : NULL);
    hash_free(&hash, &allocator);
    assert_int_equal(account->bytes, 0);
    free(items);
}

static void test_random_operations(void **state)
{
    (void)state;
    struct account account = {.left = UINT32_MAX};
    random_operations(20000, 200000, UINT64_MAX, &account);
}

static void test_colliding_values(void **state)
{
    (void)state;
    struct account account = {.left = UINT32_MAX};
    random_operations(2000, 20000, 63, &account);
}

static void test_without_room_chains_get_longer(void **state)
{
    (void)state;
    for (unsigned left = 2; left < 12; left++) {
        struct account account = {.left = left};
        random_operations(6000, 30000, UINT64_MAX, &account);
    }
}

static void test_init_without_room_fails(void **state)
{
    (void)state;
    for (unsigned left = 0; left < 2; left++) {
        struct account account = {.left = left};
        struct hash_allocator allocator = {account_alloc, account_free, &account};
        struct hash hash;
        assert_int_equal(hash_init(&hash, &allocator), -1);
        assert_int_equal(account.bytes, 0);
        hash_free(&hash, &allocator);
    }
}

static void test_grows_one_bucket_at_a_time(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    struct hash hash;
    assert_int_equal(hash_init(&hash, &hash_malloc), 0);
    struct item *items = calloc(COUNT, sizeof(*items));
    for (uint32_t i = 0; i < COUNT; i++) {
        uint32_t before = hash.buckets;
        hash_insert(&hash, &hash_malloc, mix(i), &items[i].link);
        assert_in_range(hash.buckets, before, before + 1);
        assert_true(hash.buckets >= hash.count);
    }
    unsigned longest = 0;
    for (uint32_t b = 0; b < hash.buckets; b++) {
        unsigned length = 0;
        struct hash_link *link = hash.segments[b / HASH_SEGMENT][b % HASH_SEGMENT];
        for (; link; link = link->next)
            length++;
        if (length > longest)
            longest = length;
    }
    assert_true(longest < 16);
    hash_free(&hash, &hash_malloc);
    free(items);
}

static void test_catches_up_after_a_shortage(void **state)
{
    (void)state;
    enum { COUNT = 10000 };
    struct account account = {.left = 2};
    struct hash_allocator allocator = {account_alloc, account_free, &account};
    struct hash hash;
    assert_int_equal(hash_init(&hash, &allocator), 0);
    struct item *items = calloc(2 * COUNT, sizeof(*items));
    for (uint32_t i = 0; i < COUNT; i++)
        hash_insert(&hash, &allocator, mix(i), &items[i].link);
    assert_int_equal(hash.buckets, HASH_SEGMENT);
    account.left = UINT32_MAX;
    for (uint32_t i = COUNT; i < 2 * COUNT; i++)
        hash_insert(&hash, &allocator, mix(i), &items[i].link);
    assert_true(hash.buckets >= 2 * COUNT);
    for (uint32_t i = 0; i < 2 * COUNT; i++)
        assert_ptr_equal(hash_find(&hash, mix(i)), &items[i].link);
    hash_free(&hash, &allocator);
    free(items);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations),
        cmocka_unit_test(test_colliding_values),
        cmocka_unit_test(test_without_room_chains_get_longer),
        cmocka_unit_test(test_init_without_room_fails),
        cmocka_unit_test(test_grows_one_bucket_at_a_time),
        cmocka_unit_test(test_catches_up_after_a_shortage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
