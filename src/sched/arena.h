/*
 * arena - memory allocator of the zone: runs of 64 KiB pages by a buddy system, objects up to 16
 * KiB in slabs of one page. Shared by all processes, guarded by a lock of its own, the innermost of
 * all. Pages are touched only when they are used.
 */
#ifndef FILAD_SCHED_ARENA_H
#define FILAD_SCHED_ARENA_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "core/hash.h"

struct arena;

/* Builds an arena in `memory`, which reads as zeros and is `size` bytes. Lock waits end when
 * *generation differs from its present value. NULL when `size` is too small. */
struct arena *arena_create(void *memory, uint64_t size, const _Atomic uint64_t *generation);

/* Memory aligned to 16, contents undefined. NULL when there is no room, or when the arena is being
 * given up. */
void *arena_alloc(struct arena *arena, size_t size) __attribute__((warn_unused_result));
void arena_free(struct arena *arena, void *memory); /* NULL is fine */

/* Bytes in use, counted in pages; and the bytes there are. */
uint64_t arena_used(const struct arena *arena);
uint64_t arena_size(const struct arena *arena);

/* For core/hash. Valid while the arena is. */
struct hash_allocator arena_hash_allocator(struct arena *arena);

#endif
