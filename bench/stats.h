/*
 * stats - what is made of repeated measurements: rates of slices of time, medians, percentiles.
 */
#ifndef FILAD_BENCH_STATS_H
#define FILAD_BENCH_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How often each figure is taken. The median is what counts: the machine is shared and noisy. */
#define STATS_SLICES 3

/* The middle one (the mean of the two in the middle for an even count); 0 for none. */
double stats_median(const double *values, size_t count);

/* (largest - smallest) / size of the median; 0 for fewer than two values. */
double stats_spread(const double *values, size_t count);

/* ---- rates ---- */

/* Divides a run without pause into a warm-up and STATS_SLICES slices of equal length. */
struct stats_rate {
    uint64_t slice_ns;
    uint64_t begin_ns; /* of the slice that runs */
    uint64_t begin_count;
    int slice;                  /* -1: warm-up */
    double rates[STATS_SLICES]; /* per second, filled as slices end */
};

/* Starts at `now_ns`; the slices together take `seconds`. */
void stats_rate_start(struct stats_rate *rate, uint64_t now_ns, double warm_up_seconds,
                      double seconds);

/* To be called with everything counted so far. True when all slices are there. */
bool stats_rate_tick(struct stats_rate *rate, uint64_t now_ns, uint64_t count);

/* ---- latencies ---- */

struct stats_samples {
    uint64_t *values; /* owned; nanoseconds */
    size_t count, capacity;
};

void stats_samples_init(struct stats_samples *samples);
void stats_samples_free(struct stats_samples *samples);
void stats_samples_clear(struct stats_samples *samples);

/* -1 without memory. */
int stats_samples_add(struct stats_samples *samples, uint64_t value)
    __attribute__((warn_unused_result));

/* Sorts; stats_samples_percentile works on sorted samples only. */
void stats_samples_sort(struct stats_samples *samples);

/* The smallest value that at least `percent` of the samples do not exceed; 0 without samples. */
uint64_t stats_samples_percentile(const struct stats_samples *samples, double percent);

#endif
