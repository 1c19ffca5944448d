#include "workload_through.h"

#include <string.h>

#include "crowd.h"
#include "filad.h"
#include "os/time.h"

#define QUEUE "bench"
#define VISIBILITY_MS 600000u
#define WARM_UP 0.5 /* seconds */

static int step(struct bench *bench, struct crowd *crowd, bool produce, uint64_t *now,
                struct err *err)
{
    if (crowd_step(crowd, produce, err) != 0) {
        return -1;
    }
    *now = time_monotonic_ns();
    return progress_tick(&bench->progress, *now, crowd_acked(crowd), err);
}

static int measure(struct filad *filad, struct crowd *crowd, struct outcome *outcome,
                   struct err *err)
{
    struct bench *bench = filad->bench;
    struct stats_rate rate;
    struct filad_usage usage;
    uint64_t now;
    if (crowd_consume(crowd, err) != 0) {
        return -1;
    }
    filad_usage_begin(filad, &usage);
    stats_rate_start(&rate, time_monotonic_ns(), WARM_UP, bench->seconds);
    do {
        if (step(bench, crowd, true, &now, err) != 0) {
            return -1;
        }
    } while (!stats_rate_tick(&rate, now, crowd_acked(crowd)));
    filad_usage_end(filad, &usage, outcome);
    memcpy(outcome->slices[0], rate.rates, sizeof(rate.rates));
    while (crowd_acked(crowd) < crowd_sent(crowd) || crowd_confirmed(crowd) < crowd_sent(crowd)) {
        if (step(bench, crowd, false, &now, err) != 0) {
            return -1;
        }
    }
    outcome->enqueued = crowd_confirmed(crowd);
    outcome->delivered = crowd_delivered(crowd);
    outcome->acked = crowd_acked(crowd);
    return 0;
}

int workload_through_run(struct bench *bench, const struct row *row, struct outcome *outcome,
                         struct err *err)
{
    const struct through_parameters *parameters = row->parameters;
    struct filad filad;
    struct crowd crowd = {.producer_count = 0};
    struct crowd_options options = {
        .producers = parameters->producers,
        .consumers = parameters->consumers,
        .producer = {.queue = QUEUE,
                     .window = parameters->window,
                     .batch = parameters->batch,
                     .payload = PRODUCER_PAYLOAD},
        .consumer = {.queue = QUEUE, .payload = PRODUCER_PAYLOAD},
    };
    struct client *admin = NULL;
    struct err stop_err;
    int result = -1;

    if (filad_start(&filad, bench, row->name, NULL, err) != 0) {
        return -1;
    }
    options.port = filad.port;
    admin = client_open(filad.port, err);
    if (admin == NULL || client_create_queue(admin, QUEUE, VISIBILITY_MS, NULL, err) != 0 ||
        crowd_open(&crowd, &options, err) != 0 || measure(&filad, &crowd, outcome, err) != 0) {
        goto out;
    }
    result = client_check_depth(admin, QUEUE, 0, 0, err);
out:
    crowd_close(&crowd);
    client_close(admin);
    if (filad_stop(&filad, result != 0, &stop_err) != 0 && result == 0) {
        *err = stop_err;
        result = -1;
    }
    return result;
}
