/*
 * str - a slice of bytes that somebody else owns. Never NUL-terminated, may hold NUL.
 */
#ifndef FILAD_CORE_STR_H
#define FILAD_CORE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
    const uint8_t *data; /* may be NULL when size is 0 */
    size_t size;         /* bytes */
};

/* A slice over a string literal (without its final NUL). */
#define STR(literal) ((struct str){(const uint8_t *)("" literal), sizeof(literal) - 1})

/* printf helper: printf("%.*s", STR_PRINT(s)). */
#define STR_PRINT(s) (int)(s).size, (const char *)((s).size ? (s).data : (const uint8_t *)"")

static inline struct str str_of(const void *data, size_t size)
{
    return (struct str){data, size};
}

static inline struct str str_from_c(const char *text)
{
    return (struct str){(const uint8_t *)text, text ? strlen(text) : 0};
}

static inline bool str_equal(struct str a, struct str b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* Byte order, shorter first when one is a prefix of the other: <0, 0, >0. */
int str_compare(struct str a, struct str b);

bool str_starts_with(struct str s, struct str prefix);
bool str_ends_with(struct str s, struct str suffix);

/* A NUL-terminated copy from malloc, owned by the caller; NULL without memory. */
char *str_dup_c(struct str s) __attribute__((warn_unused_result));

/* FNV-1a folded through a finaliser; `seed` keeps hostile keys from choosing their buckets. */
uint64_t str_hash(struct str s, uint64_t seed);

#endif
