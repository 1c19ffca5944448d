/*
 * heap - an intrusive pairing heap by a 64-bit key, smallest first. Insertion is O(1), removal
 * O(log n) amortised; nothing is allocated. Raw pointers: it also lives in shared memory.
 */
#ifndef FILAD_CORE_HEAP_H
#define FILAD_CORE_HEAP_H

#include <stdbool.h>
#include <stdint.h>

struct heap_node {
    struct heap_node *child, *next, *prev; /* prev: left sibling, or parent of a first child */
    uint64_t key;
    bool linked;
};

struct heap {
    struct heap_node *root;
};

void heap_init(struct heap *heap);
void heap_insert(struct heap *heap, struct heap_node *node, uint64_t key); /* not linked yet */
void heap_remove(struct heap *heap, struct heap_node *node); /* no harm when it is not linked */
/* Inserts or moves: after it the node is in the heap under `key`. */
void heap_update(struct heap *heap, struct heap_node *node, uint64_t key);

static inline struct heap_node *heap_first(const struct heap *heap)
{
    return heap->root;
}

#endif
