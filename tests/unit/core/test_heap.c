#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/heap.h"

static uint64_t random_state = 88172645463325252u;

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Every link is consistent and no child is smaller than its parent. Recursion only where the trees
 * of these tests are shallow enough. */
static size_t check_tree(const struct heap_node *node)
{
    size_t count = 1;
    const struct heap_node *left = node;
    for (const struct heap_node *child = node->child; child; child = child->next) {
        assert_ptr_equal(child->prev, left);
        assert_true(child->key >= node->key);
        assert_true(child->linked);
        count += check_tree(child);
        left = child;
    }
    return count;
}

static void check_heap(const struct heap *heap, size_t expected)
{
    const struct heap_node *root = heap_first(heap);
    if (!root) {
        assert_int_equal(expected, 0);
        return;
    }
    assert_null(root->next);
    assert_null(root->prev);
    assert_int_equal(check_tree(root), expected);
}

static void test_random_operations_against_a_scan(void **state)
{
    (void)state;
    enum { NODES = 200 };
    struct heap heap;
    struct heap_node nodes[NODES] = {0};
    heap_init(&heap);
    size_t count = 0;
    for (unsigned i = 0; i < 20000; i++) {
        struct heap_node *node = &nodes[random_next() % NODES];
        uint64_t key = random_next() % 1000, choice = random_next() % 8;
        if (choice < 4) {
            count += !node->linked;
            heap_update(&heap, node, key);
        } else if (choice < 6) {
            count -= node->linked;
            heap_remove(&heap, node);
        } else if (heap_first(&heap)) {
            heap_remove(&heap, heap_first(&heap));
            count--;
        }
        uint64_t smallest = UINT64_MAX;
        for (unsigned k = 0; k < NODES; k++)
            if (nodes[k].linked && nodes[k].key < smallest)
                smallest = nodes[k].key;
        if (count)
            assert_true(heap_first(&heap)->key == smallest);
        else
            assert_null(heap_first(&heap));
        check_heap(&heap, count);
    }
}

static void check_drain(struct heap *heap, size_t count)
{
    uint64_t last = 0;
    for (size_t i = 0; i < count; i++) {
        struct heap_node *node = heap_first(heap);
        assert_non_null(node);
        assert_true(node->key >= last);
        last = node->key;
        heap_remove(heap, node);
        assert_false(node->linked);
    }
    assert_null(heap_first(heap));
}

static void test_a_million_nodes(void **state)
{
    (void)state;
    enum { NODES = 1000000 };
    struct heap heap;
    struct heap_node *nodes = calloc(NODES, sizeof(*nodes));
    heap_init(&heap);
    for (size_t i = 0; i < NODES; i++) /* ascending: one parent with a million children */
        heap_insert(&heap, &nodes[i], i);
    check_drain(&heap, NODES);
    for (size_t i = 0; i < NODES; i++) /* descending: a chain a million deep */
        heap_insert(&heap, &nodes[i], NODES - i);
    check_drain(&heap, NODES);
    for (size_t i = 0; i < NODES; i++)
        heap_insert(&heap, &nodes[i], random_next());
    for (size_t i = 0; i < NODES; i += 3)
        heap_update(&heap, &nodes[i], random_next());
    check_drain(&heap, NODES);
    free(nodes);
}

static void test_remove_twice_does_no_harm(void **state)
{
    (void)state;
    struct heap heap;
    struct heap_node a = {0}, b = {0};
    heap_init(&heap);
    heap_insert(&heap, &a, 2);
    heap_insert(&heap, &b, 1);
    heap_remove(&heap, &a);
    heap_remove(&heap, &a);
    assert_ptr_equal(heap_first(&heap), &b);
    heap_update(&heap, &b, UINT64_MAX);
    assert_ptr_equal(heap_first(&heap), &b);
    heap_update(&heap, &a, UINT64_MAX);
    heap_remove(&heap, &b);
    assert_ptr_equal(heap_first(&heap), &a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations_against_a_scan),
        cmocka_unit_test(test_a_million_nodes),
        cmocka_unit_test(test_remove_twice_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
