#include "workload_overhead.h"

#include <stdio.h>

#include "crowd.h"
#include "filad.h"
#include "os/time.h"

#define PAIRS 30 /* a multiple of STATS_SLICES: each slice is the median of its share */
#define PAIRS_OF_SLICE (PAIRS / STATS_SLICES)
#define DRAINED 10000u  /* messages of a queue */
#define ENQUEUED 40000u /* processor time is told in hundredths of a second */
#define VISIBILITY_MS 600000u

static const char script[] =
    "function on_enqueue(msg) return { fairness_key = msg.headers.tenant } end";

/* What one half of a pair took. */
struct cost {
    double seconds, processor; /* of time; of the broker's processes */
};

struct half {
    const char *script; /* NULL: none */
    uint32_t keys;
};

/* --- draining --- */

static int drain(struct filad *filad, const char *queue, struct cost *cost, struct outcome *outcome,
                 struct err *err)
{
    struct crowd crowd = {.producer_count = 0};
    struct crowd_options options = {.port = filad->port,
                                    .consumers = 1,
                                    .consumer = {.queue = queue, .payload = PRODUCER_PAYLOAD}};
    int result = crowd_open(&crowd, &options, err);
    uint64_t begin_ns = time_monotonic_ns();
    if (result == 0)
        result = crowd_consume(&crowd, err);
    while (result == 0 && crowd_acked(&crowd) < DRAINED)
        result = crowd_step(&crowd, false, err);
    cost->seconds = (double)(time_monotonic_ns() - begin_ns) / 1e9;
    outcome->delivered += crowd_delivered(&crowd);
    outcome->acked += crowd_acked(&crowd);
    crowd_close(&crowd);
    return result;
}

static int drain_half(struct filad *filad, struct client *loader, const char *queue,
                      const struct half *half, struct cost *cost, struct outcome *outcome,
                      struct err *err)
{
    struct producer_options producer = {
        .queue = queue, .payload = PRODUCER_PAYLOAD, .keys = half->keys};
    if (client_create_queue(loader, queue, VISIBILITY_MS, NULL, err) != 0 ||
        producer_preload(loader, &producer, DRAINED, err) != 0)
        return -1;
    outcome->enqueued += DRAINED;
    return drain(filad, queue, cost, outcome, err);
}

/* --- enqueueing --- */

static int enqueue_half(struct filad *filad, struct client *loader, const char *queue,
                        const struct half *half, struct cost *cost, struct outcome *outcome,
                        struct err *err)
{
    struct producer_options producer = {
        .queue = queue, .payload = PRODUCER_PAYLOAD, .keys = half->keys};
    struct filad_usage usage;
    struct outcome used = {.enqueued = 0};
    if (client_create_queue(loader, queue, VISIBILITY_MS, half->script, err) != 0)
        return -1;
    filad_usage_begin(filad, &usage);
    if (producer_preload(loader, &producer, ENQUEUED, err) != 0)
        return -1;
    cost->seconds = (double)(time_monotonic_ns() - usage.at_ns) / 1e9;
    filad_usage_end(filad, &usage, &used);
    cost->processor = used.broker_cpu * cost->seconds;
    outcome->enqueued += ENQUEUED;
    return client_delete_queue(loader, queue, err);
}

/* --- pairs --- */

typedef int (*half_run)(struct filad *filad, struct client *loader, const char *queue,
                        const struct half *half, struct cost *cost, struct outcome *outcome,
                        struct err *err);

/* Which half comes first changes from pair to pair. */
static int run_pair(struct filad *filad, struct client *loader, unsigned pair, half_run run,
                    const struct half halves[2], struct cost costs[2], struct outcome *outcome,
                    struct err *err)
{
    for (unsigned turn = 0; turn < 2; turn++) {
        unsigned which = (turn + pair) % 2;
        char queue[32];
        snprintf(queue, sizeof queue, "bench-%u-%s", pair, which ? "with" : "without");
        if (run(filad, loader, queue, &halves[which], &costs[which], outcome, err) != 0)
            return -1;
    }
    return progress_tick(&filad->bench->progress, time_monotonic_ns(), pair + 1, err);
}

static double time_more(const struct cost costs[2])
{
    return costs[0].seconds > 0 ? (costs[1].seconds / costs[0].seconds - 1) * 100 : 0;
}

static int run_pairs(struct bench *bench, const struct row *row, half_run run,
                     const struct half halves[2], struct cost costs[PAIRS][2],
                     struct outcome *outcome, struct err *err)
{
    struct filad filad;
    struct filad_usage usage;
    struct err stop_err;
    if (filad_start(&filad, bench, row->name, FILAD_KEYS, err) != 0)
        return -1;
    filad_usage_begin(&filad, &usage);
    struct client *loader = client_open(filad.port, err);
    int result = loader ? 0 : -1;
    for (unsigned pair = 0; pair < PAIRS && result == 0; pair++)
        result = run_pair(&filad, loader, pair, run, halves, costs[pair], outcome, err);
    filad_usage_end(&filad, &usage, outcome);
    client_close(loader);
    if (filad_stop(&filad, result != 0, &stop_err) != 0 && result == 0) {
        *err = stop_err;
        result = -1;
    }
    return result;
}

static void fill_slices(double slices[STATS_SLICES], const double values[PAIRS])
{
    for (unsigned i = 0; i < STATS_SLICES; i++)
        slices[i] = stats_median(values + i * PAIRS_OF_SLICE, PAIRS_OF_SLICE);
}

int workload_overhead_run_keys(struct bench *bench, const struct row *row, struct outcome *outcome,
                               struct err *err)
{
    static const struct half halves[2] = {{.keys = 1}, {.keys = 10}};
    struct cost costs[PAIRS][2] = {{{0}}};
    double more[PAIRS];
    if (run_pairs(bench, row, drain_half, halves, costs, outcome, err) != 0)
        return -1;
    for (unsigned i = 0; i < PAIRS; i++)
        more[i] = time_more(costs[i]);
    fill_slices(outcome->slices[0], more);
    return 0;
}

int workload_overhead_run_script(struct bench *bench, const struct row *row,
                                 struct outcome *outcome, struct err *err)
{
    static const struct half halves[2] = {{.keys = 10}, {.keys = 10, .script = script}};
    struct cost costs[PAIRS][2] = {{{0}}};
    double processor[PAIRS], more[PAIRS];
    if (run_pairs(bench, row, enqueue_half, halves, costs, outcome, err) != 0)
        return -1;
    for (unsigned i = 0; i < PAIRS; i++) {
        processor[i] = (costs[i][1].processor - costs[i][0].processor) * 1e6 / ENQUEUED;
        more[i] = time_more(costs[i]);
    }
    fill_slices(outcome->slices[0], processor);
    fill_slices(outcome->slices[1], more);
    return 0;
}
