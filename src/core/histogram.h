/*
 * histogram - how often which values came, in a kilobyte: log-linear buckets, four per power of
 * two.
 *
 * Values below 8 have a bucket each; above, a bucket is at most a quarter as wide as its lower end,
 * so that a quantile is right within 12.5 % (25 % when a bucket's bounds are taken). All zeros is
 * an empty histogram. One thread at a time records; others may read meanwhile.
 */
#ifndef FILAD_CORE_HISTOGRAM_H
#define FILAD_CORE_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

#define HISTOGRAM_BUCKETS 124 /* values up to UINT32_MAX; larger ones count as that */

struct histogram {
    _Atomic uint64_t sum, max; /* of the values themselves */
    _Atomic uint64_t buckets[HISTOGRAM_BUCKETS];
};

/* Index of the bucket that a value falls into, and the smallest value of a bucket (of
 * HISTOGRAM_BUCKETS: one more than the largest of the last). */
unsigned histogram_bucket(uint64_t value);
uint64_t histogram_lower(unsigned bucket);

/* O(1), without a lock. */
void histogram_record(struct histogram *histogram, uint64_t value);

/* Adds what is in `from`. */
void histogram_add(struct histogram *to, const struct histogram *from);

uint64_t histogram_count(const struct histogram *histogram);
/* The value below or at which `permille` of 1000 values are: the middle of its bucket, never above
 * the maximum. 0 when it is empty. */
uint64_t histogram_quantile(const struct histogram *histogram, unsigned permille);

#endif
