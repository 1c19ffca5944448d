#include "workload_fairness.h"

#include <stdio.h>

#include "crowd.h"
#include "filad.h"
#include "os/time.h"

#define KEYS 5u
#define MESSAGES_PER_KEY 2000u
#define WINDOW 5000u /* deliveries that are looked at */
#define VISIBILITY_MS 600000u

struct shares {
    uint64_t seen;
    uint64_t of_key[KEYS];
};

static void count(void *context, const struct framed_client_delivery *delivery)
{
    struct shares *shares = context;
    unsigned key =
        delivery->fairness_key.size > 0
            ? delivery->fairness_key.data[delivery->fairness_key.size - 1] - (unsigned)'0'
            : KEYS;
    if (shares->seen < WINDOW && key < KEYS) {
        shares->seen++;
        shares->of_key[key]++;
    }
}

/* Percentage points. Key i has weight i + 1. */
static double largest_deviation(const struct shares *shares)
{
    double largest = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        double due = (double)(i + 1) / (KEYS * (KEYS + 1) / 2.0);
        double got = (double)shares->of_key[i] / WINDOW;
        double deviation = got > due ? got - due : due - got;
        largest = deviation > largest ? deviation : largest;
    }
    return largest * 100;
}

static int run_slice(struct filad *filad, int slice, struct outcome *outcome, struct err *err)
{
    struct bench *bench = filad->bench;
    char queue[16];
    struct shares shares = {.seen = 0};
    struct crowd crowd = {.producer_count = 0};
    struct crowd_options options = {
        .port = filad->port,
        .consumers = 1,
        .producer = {.queue = queue, .payload = PRODUCER_PAYLOAD, .keys = KEYS, .weighted = true},
        .consumer = {.queue = queue,
                     .payload = PRODUCER_PAYLOAD,
                     .delivered = count,
                     .context = &shares},
    };
    struct client *loader = client_open(filad->port, err);
    int result = -1;
    snprintf(queue, sizeof(queue), "bench-%d", slice);
    if (loader == NULL || client_create_queue(loader, queue, VISIBILITY_MS, NULL, err) != 0 ||
        producer_preload(loader, &options.producer, KEYS * MESSAGES_PER_KEY, err) != 0 ||
        crowd_open(&crowd, &options, err) != 0 || crowd_consume(&crowd, err) != 0) {
        goto out;
    }
    outcome->enqueued += KEYS * MESSAGES_PER_KEY;
    while (crowd_acked(&crowd) < KEYS * MESSAGES_PER_KEY) {
        if (crowd_step(&crowd, false, err) != 0 ||
            progress_tick(&bench->progress, time_monotonic_ns(),
                          outcome->acked + crowd_acked(&crowd), err) != 0) {
            goto out;
        }
    }
    outcome->delivered += crowd_delivered(&crowd);
    outcome->acked += crowd_acked(&crowd);
    outcome->slices[0][slice] = largest_deviation(&shares);
    result = client_check_depth(loader, queue, 0, 0, err);
out:
    crowd_close(&crowd);
    client_close(loader);
    return result;
}

int workload_fairness_run(struct bench *bench, const struct row *row, struct outcome *outcome,
                          struct err *err)
{
    struct filad filad;
    struct filad_usage usage;
    struct err stop_err;
    int result = 0;

    if (filad_start(&filad, bench, row->name, FILAD_KEYS, err) != 0) {
        return -1;
    }
    filad_usage_begin(&filad, &usage);
    for (int slice = 0; slice < STATS_SLICES && result == 0; slice++) {
        result = run_slice(&filad, slice, outcome, err);
    }
    filad_usage_end(&filad, &usage, outcome);
    if (filad_stop(&filad, result != 0, &stop_err) != 0 && result == 0) {
        *err = stop_err;
        result = -1;
    }
    return result;
}
