#include "stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define VALUES_MAX 64

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

double stats_median(const double *values, size_t count)
{
    double sorted[VALUES_MAX];
    if (count == 0) {
        return 0;
    }
    if (count > VALUES_MAX) {
        count = VALUES_MAX;
    }
    memcpy(sorted, values, count * sizeof(*values));
    qsort(sorted, count, sizeof(*sorted), compare_double);
    if (count % 2 == 1) {
        return sorted[count / 2];
    }
    return (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

double stats_spread(const double *values, size_t count)
{
    if (count < 2) {
        return 0;
    }
    double least = values[0], most = values[0];
    for (size_t i = 1; i < count; i++) {
        least = fmin(least, values[i]);
        most = fmax(most, values[i]);
    }
    double median = stats_median(values, count);
    return median != 0 ? (most - least) / fabs(median) : 0;
}

void stats_rate_start(struct stats_rate *rate, uint64_t now_ns, double warm_up_seconds,
                      double seconds)
{
    memset(rate, 0, sizeof(*rate));
    rate->slice_ns = (uint64_t)(seconds * 1e9 / STATS_SLICES);
    rate->slice = -1;
    /* The first slice begins where the warm-up ends. */
    rate->begin_ns = now_ns + (uint64_t)(warm_up_seconds * 1e9);
}

bool stats_rate_tick(struct stats_rate *rate, uint64_t now_ns, uint64_t count)
{
    if (rate->slice < 0) {
        if (now_ns >= rate->begin_ns) {
            rate->slice = 0;
            rate->begin_ns = now_ns;
            rate->begin_count = count;
        }
        return false;
    }
    if (rate->slice >= STATS_SLICES) {
        return true;
    }
    uint64_t passed = now_ns - rate->begin_ns;
    if (passed < rate->slice_ns || passed == 0) {
        return false;
    }
    rate->rates[rate->slice] = (double)(count - rate->begin_count) * 1e9 / (double)passed;
    rate->slice++;
    rate->begin_ns = now_ns;
    rate->begin_count = count;
    return rate->slice >= STATS_SLICES;
}

void stats_samples_init(struct stats_samples *samples)
{
    memset(samples, 0, sizeof(*samples));
}

void stats_samples_free(struct stats_samples *samples)
{
    free(samples->values);
    stats_samples_init(samples);
}

void stats_samples_clear(struct stats_samples *samples)
{
    samples->count = 0;
}

int stats_samples_add(struct stats_samples *samples, uint64_t value)
{
    if (samples->count == samples->capacity) {
        size_t capacity = samples->capacity ? samples->capacity * 2 : 4096;
        uint64_t *values = realloc(samples->values, capacity * sizeof(*values));
        if (values == NULL) {
            return -1;
        }
        samples->values = values;
        samples->capacity = capacity;
    }
    samples->values[samples->count++] = value;
    return 0;
}

void stats_samples_sort(struct stats_samples *samples)
{
    if (samples->count > 1) {
        qsort(samples->values, samples->count, sizeof(*samples->values), compare_u64);
    }
}

uint64_t stats_samples_percentile(const struct stats_samples *samples, double percent)
{
    if (samples->count == 0) {
        return 0;
    }
    size_t rank = (size_t)ceil((double)samples->count * percent / 100);
    if (rank > 0) {
        rank--;
    }
    return samples->values[rank < samples->count ? rank : samples->count - 1];
}
