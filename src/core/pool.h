/*
 * pool - an arena: many small allocations, all given back at once. Not thread-safe; a pool belongs
 * to one thread at a time and may be handed over between threads.
 */
#ifndef FILAD_CORE_POOL_H
#define FILAD_CORE_POOL_H

#include <stddef.h>

#include "core/str.h"

struct pool;

/* `chunk` is the size of the blocks taken from malloc; larger requests get a block of their own. */
struct pool *pool_create(size_t chunk) __attribute__((warn_unused_result));
void pool_destroy(struct pool *pool); /* NULL is fine */

/* Gives all memory back but one chunk, so that a pool can serve batch after batch. */
void pool_reset(struct pool *pool);

/* Aligned to 16; NULL without memory. pool_zalloc clears. */
void *pool_alloc(struct pool *pool, size_t size) __attribute__((warn_unused_result));
void *pool_zalloc(struct pool *pool, size_t size) __attribute__((warn_unused_result));

/* Copies; on failure the returned slice has data NULL. pool_strdup ends with a NUL. */
struct str pool_str(struct pool *pool, struct str s);
char *pool_strdup(struct pool *pool, struct str s) __attribute__((warn_unused_result));

/* Bytes taken from malloc at present. */
size_t pool_size(const struct pool *pool);

#endif
