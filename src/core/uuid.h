/*
 * uuid - message and consumer ids: UUID version 7 (RFC 9562), lower-case hyphenated text on the
 * wire.
 */
#ifndef FILAD_CORE_UUID_H
#define FILAD_CORE_UUID_H

#include <stdbool.h>
#include <stdint.h>

#include "core/str.h"

#define UUID_SIZE 16
#define UUID_TEXT_SIZE 36 /* without a NUL */

struct uuid {
    uint8_t bytes[UUID_SIZE];
};

/* Makes strictly increasing ids; one per thread that makes ids, no locking. */
struct uuid_generator {
    uint64_t last;   /* 48 bits of milliseconds and 12 bits of sub-millisecond counter */
    uint64_t random; /* state of the generator that fills the tail of each id; never 0 */
    uint64_t random2;
};

/* `seed`: two words of entropy, different in every thread and process. */
void uuid_generator_init(struct uuid_generator *generator, const uint64_t seed[2]);

/* The next id for wall-clock time `unix_ns` (nanoseconds since 1970). Greater than every earlier
 * one of this generator, also when the clock goes back. */
struct uuid uuid_next(struct uuid_generator *generator, uint64_t unix_ns);

void uuid_format(const struct uuid *id, uint8_t text[UUID_TEXT_SIZE]);
/* Accepts 36 hyphenated hex digits in either case; false otherwise. */
bool uuid_parse(struct str text, struct uuid *id);

static inline uint64_t uuid_hash(const struct uuid *id, uint64_t seed)
{
    uint64_t a, b;
    memcpy(&a, id->bytes, 8);
    memcpy(&b, id->bytes + 8, 8);
    a = (a ^ seed) * 0x9e3779b97f4a7c15u;
    a = (a ^ (a >> 29) ^ b) * 0xbf58476d1ce4e5b9u;
    return a ^ (a >> 32);
}

static inline bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a->bytes, b->bytes, UUID_SIZE) == 0;
}

#endif
