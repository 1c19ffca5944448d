#include "core/hash.h"

#include <stdlib.h>
#include <string.h>

#define DIRECTORY_START 8u     /* segments the first directory has room for */
#define BUCKETS_MAX (1u << 31) /* the link holds 32 bits of the hash */
#define GROWTH_PER_INSERT 2    /* buckets at most, to catch up after a time without memory */

static void *malloc_alloc(void *context, size_t size)
{
    (void)context;
    return malloc(size);
}

static void malloc_free(void *context, void *memory, size_t size)
{
    (void)context;
    (void)size;
    free(memory);
}

const struct hash_allocator hash_malloc = {malloc_alloc, malloc_free, NULL};

static struct hash_link **hash_segment_create(const struct hash_allocator *allocator)
{
    struct hash_link **segment =
        allocator->alloc(allocator->context, HASH_SEGMENT * sizeof(*segment));
    if (segment)
        memset(segment, 0, HASH_SEGMENT * sizeof(*segment));
    return segment;
}

int hash_init(struct hash *hash, const struct hash_allocator *allocator)
{
    *hash = (struct hash){.directory_size = DIRECTORY_START};
    size_t size = DIRECTORY_START * sizeof(*hash->segments);
    hash->segments = allocator->alloc(allocator->context, size);
    if (!hash->segments)
        goto fail;
    memset(hash->segments, 0, size);
    hash->segments[0] = hash_segment_create(allocator);
    if (!hash->segments[0])
        goto fail;
    hash->buckets = HASH_SEGMENT;
    return 0;

fail:
    if (hash->segments)
        allocator->free(allocator->context, hash->segments, size);
    *hash = (struct hash){0};
    return -1;
}

void hash_free(struct hash *hash, const struct hash_allocator *allocator)
{
    for (uint32_t i = 0; i < hash->directory_size && hash->segments[i]; i++)
        allocator->free(allocator->context, hash->segments[i],
                        HASH_SEGMENT * sizeof(*hash->segments[i]));
    if (hash->segments)
        allocator->free(allocator->context, hash->segments,
                        hash->directory_size * sizeof(*hash->segments));
    *hash = (struct hash){0};
}

static struct hash_link **hash_bucket(const struct hash *hash, uint32_t index)
{
    return &hash->segments[index / HASH_SEGMENT][index % HASH_SEGMENT];
}

/* The largest power of two that is at most `n`; n > 0. */
static uint32_t power_below(uint32_t n)
{
    return 1u << (31 - __builtin_clz(n));
}

/* The bucket of a hash value: its low bits, one bit less where that bucket does not exist yet. */
static struct hash_link **hash_bucket_of(const struct hash *hash, uint32_t value)
{
    uint32_t half = power_below(hash->buckets);
    uint32_t index = value & (half * 2 - 1); /* half 2^31: the mask wraps to all ones, as it must */
    return hash_bucket(hash, index < hash->buckets ? index : index & (half - 1));
}

static struct hash_link *chain_find(struct hash_link *link, uint32_t value)
{
    while (link && link->hash != value)
        link = link->next;
    return link;
}

struct hash_link *hash_find(const struct hash *hash, uint64_t value)
{
    if (hash->count == 0)
        return NULL;
    return chain_find(*hash_bucket_of(hash, (uint32_t)value), (uint32_t)value);
}

struct hash_link *hash_find_next(const struct hash_link *link)
{
    return chain_find(link->next, link->hash);
}

/* Makes sure that the segment of bucket number `index` exists. */
static bool hash_segment_provide(struct hash *hash, const struct hash_allocator *allocator,
                                 uint32_t index)
{
    uint32_t number = index / HASH_SEGMENT;
    if (number == hash->directory_size) {
        size_t size = hash->directory_size * sizeof(*hash->segments);
        struct hash_link ***directory = allocator->alloc(allocator->context, size * 2);
        if (!directory)
            return false;
        memcpy(directory, hash->segments, size);
        memset(directory + hash->directory_size, 0, size);
        allocator->free(allocator->context, hash->segments, size);
        hash->segments = directory;
        hash->directory_size *= 2;
    }
    if (!hash->segments[number])
        hash->segments[number] = hash_segment_create(allocator);
    return hash->segments[number] != NULL;
}

/* Adds one bucket and moves to it what belongs there out of the bucket it splits from. */
static bool hash_grow(struct hash *hash, const struct hash_allocator *allocator)
{
    uint32_t index = hash->buckets;
    if (index == BUCKETS_MAX || !hash_segment_provide(hash, allocator, index))
        return false;
    uint32_t half = power_below(index);
    struct hash_link **from = hash_bucket(hash, index & ~half);
    struct hash_link **to = hash_bucket(hash, index);
    while (*from) {
        struct hash_link *link = *from;
        if (link->hash & half) {
            *from = link->next;
            *to = link;
            to = &link->next;
        } else {
            from = &link->next;
        }
    }
    *to = NULL;
    hash->buckets++;
    return true;
}

void hash_insert(struct hash *hash, const struct hash_allocator *allocator, uint64_t value,
                 struct hash_link *link)
{
    hash->count++;
    for (int i = 0; i < GROWTH_PER_INSERT && hash->count > hash->buckets; i++)
        if (!hash_grow(hash, allocator))
            break;
    struct hash_link **bucket = hash_bucket_of(hash, (uint32_t)value);
    link->hash = (uint32_t)value;
    link->next = *bucket;
    *bucket = link;
}

void hash_remove(struct hash *hash, struct hash_link *link)
{
    struct hash_link **at = hash_bucket_of(hash, link->hash);
    while (*at != link)
        at = &(*at)->next;
    *at = link->next;
    link->next = NULL;
    hash->count--;
}

struct hash_link *hash_next(const struct hash *hash, uint32_t *bucket, struct hash_link *link)
{
    if (link) {
        if (link->next)
            return link->next;
        ++*bucket;
    }
    for (; *bucket < hash->buckets; ++*bucket) {
        struct hash_link *first = *hash_bucket(hash, *bucket);
        if (first)
            return first;
    }
    return NULL;
}
