/*
 * hash - an intrusive hash table that grows one bucket at a time (linear hashing), so that no
 * insertion pays for a rehash of everything. Raw pointers: it also lives in shared memory, then
 * with an allocator of that memory. It never shrinks but for hash_free. Duplicates are the caller's
 * matter: look up first.
 */
#ifndef FILAD_CORE_HASH_H
#define FILAD_CORE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hash_link {
    struct hash_link *next;
    uint32_t hash; /* the low half of the key's hash */
    uint32_t user; /* free for the owner of the entry: 4 bytes of padding otherwise */
};

struct hash_allocator {
    void *(*alloc)(void *context, size_t size); /* NULL when there is no room */
    void (*free)(void *context, void *memory, size_t size);
    void *context;
};

struct hash {
    struct hash_link ***segments; /* directory of segments of HASH_SEGMENT buckets each */
    uint32_t directory_size;      /* entries the directory has room for */
    uint32_t buckets;             /* in use */
    uint32_t count;               /* entries */
};

#define HASH_SEGMENT 32 /* a small table costs little: each queue has two */

extern const struct hash_allocator hash_malloc;

/* 0, or -1 when the allocator has no room. */
int hash_init(struct hash *hash, const struct hash_allocator *allocator)
    __attribute__((warn_unused_result));
/* Frees the table, not the entries. */
void hash_free(struct hash *hash, const struct hash_allocator *allocator);

/* First entry with this hash value, then the next one; the caller compares keys. NULL at the end.
 */
struct hash_link *hash_find(const struct hash *hash, uint64_t value);
struct hash_link *hash_find_next(const struct hash_link *link);

/* Adds `link` under `value`. Cannot fail: when there is no room to grow, chains get longer. */
void hash_insert(struct hash *hash, const struct hash_allocator *allocator, uint64_t value,
                 struct hash_link *link);
void hash_remove(struct hash *hash, struct hash_link *link); /* it must be in the table */

/* Walks all entries: start with *bucket 0 and link NULL; the present entry may be removed only
 * after the next one was fetched. No insertion meanwhile. */
struct hash_link *hash_next(const struct hash *hash, uint32_t *bucket, struct hash_link *link);

#endif
