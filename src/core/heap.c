#include "core/heap.h"

#include <stddef.h>

void heap_init(struct heap *heap)
{
    heap->root = NULL;
}

/* Makes one tree of two; either may be NULL. Their next and prev are free to be overwritten. */
static struct heap_node *heap_meld(struct heap_node *a, struct heap_node *b)
{
    if (!a)
        return b;
    if (!b)
        return a;
    if (b->key < a->key) {
        struct heap_node *swap = a;
        a = b;
        b = swap;
    }
    b->next = a->child;
    if (b->next)
        b->next->prev = b;
    b->prev = a;
    a->child = b;
    return a;
}

/* Makes one tree of a chain of siblings: neighbours in pairs from the left, then the pairs from the
 * right. This order is what bounds the amortised cost. */
static struct heap_node *heap_merge(struct heap_node *sibling)
{
    struct heap_node *pairs = NULL;
    while (sibling) {
        struct heap_node *first = sibling, *second = sibling->next;
        sibling = second ? second->next : NULL;
        first = heap_meld(first, second);
        first->next = pairs;
        pairs = first;
    }
    struct heap_node *tree = NULL;
    while (pairs) {
        struct heap_node *next = pairs->next;
        tree = heap_meld(tree, pairs);
        pairs = next;
    }
    if (tree)
        tree->next = tree->prev = NULL;
    return tree;
}

/* Takes the tree under `node`, which is not the root, out of the heap. */
static void heap_cut(struct heap_node *node)
{
    if (node->prev->child == node)
        node->prev->child = node->next;
    else
        node->prev->next = node->next;
    if (node->next)
        node->next->prev = node->prev;
    node->next = node->prev = NULL;
}

void heap_insert(struct heap *heap, struct heap_node *node, uint64_t key)
{
    node->child = node->next = node->prev = NULL;
    node->key = key;
    node->linked = true;
    heap->root = heap_meld(heap->root, node);
}

void heap_remove(struct heap *heap, struct heap_node *node)
{
    if (!node->linked)
        return;
    if (node == heap->root) {
        heap->root = heap_merge(node->child);
    } else {
        heap_cut(node);
        heap->root = heap_meld(heap->root, heap_merge(node->child));
    }
    node->child = NULL;
    node->linked = false;
}

void heap_update(struct heap *heap, struct heap_node *node, uint64_t key)
{
    if (!node->linked || key > node->key) {
        heap_remove(heap, node);
        heap_insert(heap, node, key);
        return;
    }
    node->key = key;
    if (node == heap->root)
        return;
    heap_cut(node);
    heap->root = heap_meld(heap->root, node);
}
