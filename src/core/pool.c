#include "core/pool.h"

#include <stdlib.h>

#define POOL_ALIGN 16u

/* A block taken from malloc. The header is a multiple of POOL_ALIGN, the memory follows it. */
struct pool_block {
    struct pool_block *next; /* older block */
    size_t size;             /* usable bytes behind the header */
} __attribute__((aligned(16)));

struct pool {
    struct pool_block *blocks; /* the first one is the chunk that is being filled */
    size_t chunk;              /* usable bytes of a chunk */
    size_t used;               /* bytes handed out of the first block */
    size_t total;              /* bytes taken from malloc, this struct included */
};

static struct pool_block *pool_block_create(struct pool *pool, size_t size)
{
    if (size > (size_t)PTRDIFF_MAX - sizeof(struct pool_block))
        return NULL;
    struct pool_block *block = malloc(sizeof(*block) + size);
    if (!block)
        return NULL;
    block->next = NULL;
    block->size = size;
    pool->total += sizeof(*block) + size;
    return block;
}

static void pool_block_free(struct pool *pool, struct pool_block *block)
{
    pool->total -= sizeof(*block) + block->size;
    free(block);
}

struct pool *pool_create(size_t chunk)
{
    struct pool *pool = malloc(sizeof(*pool));
    if (!pool)
        return NULL;
    if (chunk < 64)
        chunk = 64;
    if (chunk > (size_t)PTRDIFF_MAX / 2)
        chunk = (size_t)PTRDIFF_MAX / 2;
    *pool = (struct pool){.chunk = (chunk + POOL_ALIGN - 1) & ~(size_t)(POOL_ALIGN - 1),
                          .total = sizeof(*pool)};
    return pool;
}

void pool_destroy(struct pool *pool)
{
    if (!pool)
        return;
    for (struct pool_block *block = pool->blocks, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    free(pool);
}

void pool_reset(struct pool *pool)
{
    struct pool_block *kept = NULL;
    for (struct pool_block *block = pool->blocks, *next; block; block = next) {
        next = block->next;
        if (!kept && block->size == pool->chunk)
            kept = block;
        else
            pool_block_free(pool, block);
    }
    if (kept)
        kept->next = NULL;
    pool->blocks = kept;
    pool->used = 0;
}

/* A block for one request. It goes behind the first block, which stays the one being filled. */
static void *pool_alloc_large(struct pool *pool, size_t size)
{
    struct pool_block *block = pool_block_create(pool, size);
    if (!block)
        return NULL;
    if (pool->blocks) {
        block->next = pool->blocks->next;
        pool->blocks->next = block;
    } else {
        pool->blocks = block;
        pool->used = size;
    }
    return block + 1;
}

void *pool_alloc(struct pool *pool, size_t size)
{
    if (size > (size_t)PTRDIFF_MAX)
        return NULL;
    size = size ? (size + POOL_ALIGN - 1) & ~(size_t)(POOL_ALIGN - 1) : POOL_ALIGN;

    if (!pool->blocks || size > pool->blocks->size - pool->used) {
        /* Above half a chunk a block of its own wastes less than abandoning the present chunk. */
        if (size > pool->chunk / 2)
            return pool_alloc_large(pool, size);
        struct pool_block *block = pool_block_create(pool, pool->chunk);
        if (!block)
            return NULL;
        block->next = pool->blocks;
        pool->blocks = block;
        pool->used = 0;
    }
    uint8_t *memory = (uint8_t *)(pool->blocks + 1) + pool->used;
    pool->used += size;
    return memory;
}

void *pool_zalloc(struct pool *pool, size_t size)
{
    void *memory = pool_alloc(pool, size);
    if (memory)
        memset(memory, 0, size);
    return memory;
}

struct str pool_str(struct pool *pool, struct str s)
{
    uint8_t *copy = pool_alloc(pool, s.size);
    if (!copy)
        return str_of(NULL, 0);
    if (s.size)
        memcpy(copy, s.data, s.size);
    return str_of(copy, s.size);
}

char *pool_strdup(struct pool *pool, struct str s)
{
    char *copy = s.size < (size_t)PTRDIFF_MAX ? pool_alloc(pool, s.size + 1) : NULL;
    if (!copy)
        return NULL;
    if (s.size)
        memcpy(copy, s.data, s.size);
    copy[s.size] = '\0';
    return copy;
}

size_t pool_size(const struct pool *pool)
{
    return pool->total;
}
