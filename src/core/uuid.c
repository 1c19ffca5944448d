#include "core/uuid.h"

#include "core/bytes.h"

#define NS_PER_MS 1000000u

static const char hex_digits[] = "0123456789abcdef";

static uint64_t rotate_left(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

/* One step of splitmix64: spreads a seed that may be poor over all bits. */
static uint64_t splitmix(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void uuid_generator_init(struct uuid_generator *generator, const uint64_t seed[2])
{
    uint64_t a = seed[0], b = seed[1];
    generator->last = 0;
    generator->random = splitmix(&a);
    generator->random2 = splitmix(&b);
    if (generator->random == 0)
        generator->random = 0x9e3779b97f4a7c15u;
}

/* One step of xoroshiro128++. */
static uint64_t generator_random(struct uuid_generator *generator)
{
    uint64_t a = generator->random, b = generator->random2;
    uint64_t result = rotate_left(a + b, 17) + a;
    b ^= a;
    generator->random = rotate_left(a, 49) ^ b ^ (b << 21);
    generator->random2 = rotate_left(b, 28);
    return result;
}

struct uuid uuid_next(struct uuid_generator *generator, uint64_t unix_ns)
{
    uint64_t fraction = (unix_ns % NS_PER_MS) * 4096 / NS_PER_MS;
    uint64_t stamp = (unix_ns / NS_PER_MS) << 12 | fraction;
    if (stamp <= generator->last)
        stamp = generator->last + 1;
    generator->last = stamp;

    struct uuid id;
    bytes_put_u64(id.bytes, (stamp >> 12) << 16 | 0x7000 | (stamp & 0xfff));
    bytes_put_u64(id.bytes + 8, 1ull << 63 | generator_random(generator) >> 2);
    return id;
}

static bool hyphen_at(unsigned position)
{
    return position == 8 || position == 13 || position == 18 || position == 23;
}

void uuid_format(const struct uuid *id, uint8_t text[UUID_TEXT_SIZE])
{
    unsigned at = 0;
    for (unsigned i = 0; i < UUID_SIZE; i++) {
        if (hyphen_at(at))
            text[at++] = '-';
        text[at++] = (uint8_t)hex_digits[id->bytes[i] >> 4];
        text[at++] = (uint8_t)hex_digits[id->bytes[i] & 15];
    }
}

/* The value of a hex digit, or 16. */
static unsigned hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10u : 16;
}

bool uuid_parse(struct str text, struct uuid *id)
{
    if (text.size != UUID_TEXT_SIZE)
        return false;
    struct uuid parsed;
    unsigned at = 0;
    for (unsigned i = 0; i < UUID_SIZE; i++) {
        if (hyphen_at(at) && text.data[at++] != '-')
            return false;
        unsigned high = hex_value(text.data[at]), low = hex_value(text.data[at + 1]);
        if (high > 15 || low > 15)
            return false;
        parsed.bytes[i] = (uint8_t)(high << 4 | low);
        at += 2;
    }
    *id = parsed;
    return true;
}
