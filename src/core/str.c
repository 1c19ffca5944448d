#include "core/str.h"

#include <stdlib.h>

int str_compare(struct str a, struct str b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common ? memcmp(a.data, b.data, common) : 0;
    if (order != 0)
        return order;
    return (a.size > b.size) - (a.size < b.size);
}

bool str_starts_with(struct str s, struct str prefix)
{
    return s.size >= prefix.size &&
           (prefix.size == 0 || memcmp(s.data, prefix.data, prefix.size) == 0);
}

bool str_ends_with(struct str s, struct str suffix)
{
    return s.size >= suffix.size && (suffix.size == 0 || memcmp(s.data + (s.size - suffix.size),
                                                                suffix.data, suffix.size) == 0);
}

char *str_dup_c(struct str s)
{
    if (s.size == SIZE_MAX)
        return NULL;
    char *copy = malloc(s.size + 1);
    if (!copy)
        return NULL;
    if (s.size)
        memcpy(copy, s.data, s.size);
    copy[s.size] = '\0';
    return copy;
}

uint64_t str_hash(struct str s, uint64_t seed)
{
    uint64_t h = 0xcbf29ce484222325u ^ seed;
    for (size_t i = 0; i < s.size; i++)
        h = (h ^ s.data[i]) * 0x100000001b3u;

    /* FNV leaves the low bits, by which buckets are chosen, weakly mixed. */
    h = (h ^ (h >> 33)) * 0xff51afd7ed558ccdu;
    h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53u;
    return h ^ (h >> 33);
}
