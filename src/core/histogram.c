#include "core/histogram.h"

#define SUB_BITS 2
#define LINEAR (1u << (SUB_BITS + 1)) /* buckets of one value each at the beginning */

unsigned histogram_bucket(uint64_t value)
{
    if (value < LINEAR)
        return (unsigned)value;
    if (value > UINT32_MAX)
        value = UINT32_MAX;
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - SUB_BITS;
    return (shift << SUB_BITS) + (unsigned)(value >> shift);
}

uint64_t histogram_lower(unsigned bucket)
{
    if (bucket < LINEAR)
        return bucket;
    unsigned shift = (bucket >> SUB_BITS) - 1;
    return (uint64_t)(bucket - (shift << SUB_BITS)) << shift;
}

static uint64_t get(const _Atomic uint64_t *number)
{
    return atomic_load_explicit(number, memory_order_relaxed);
}

/* Cheaper than an atomic addition, which one writer does not need. */
static void add(_Atomic uint64_t *number, uint64_t value)
{
    atomic_store_explicit(number, get(number) + value, memory_order_relaxed);
}

static void raise(_Atomic uint64_t *number, uint64_t value)
{
    if (value > get(number))
        atomic_store_explicit(number, value, memory_order_relaxed);
}

void histogram_record(struct histogram *histogram, uint64_t value)
{
    add(&histogram->buckets[histogram_bucket(value)], 1);
    add(&histogram->sum, value);
    raise(&histogram->max, value);
}

void histogram_add(struct histogram *to, const struct histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        add(&to->buckets[i], get(&from->buckets[i]));
    add(&to->sum, get(&from->sum));
    raise(&to->max, get(&from->max));
}

uint64_t histogram_count(const struct histogram *histogram)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        count += get(&histogram->buckets[i]);
    return count;
}

uint64_t histogram_quantile(const struct histogram *histogram, unsigned permille)
{
    uint64_t count = histogram_count(histogram), seen = 0, max = get(&histogram->max);
    /* Rounded up, so that of one value every quantile is that value. */
    uint64_t rank = count / 1000 * permille + (count % 1000 * permille + 999) / 1000;
    unsigned bucket = 0;
    if (!count)
        return 0;
    if (!rank)
        rank = 1;
    while (bucket < HISTOGRAM_BUCKETS - 1 && (seen += get(&histogram->buckets[bucket])) < rank)
        bucket++;
    uint64_t lower = histogram_lower(bucket), upper = histogram_lower(bucket + 1) - 1;
    uint64_t middle = lower + (upper - lower) / 2;
    return middle < max ? middle : max;
}
