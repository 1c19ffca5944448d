#include "workload_throttle.h"

#include <math.h>
#include <stdio.h>

#include "crowd.h"
#include "filad.h"
#include "os/time.h"

#define VISIBILITY_MS 600000u
#define PAYLOAD 100u
#define WARM_UP 1.0    /* seconds, for the burst and the first second */
#define BURST_SHARE 50 /* of the rate; at least 1 */

static const unsigned rates[ROW_FIGURES] = {100, 1000, 10000};

static const char script[] =
    "function on_enqueue(msg) return { throttle_keys = { msg.queue } } end";

static int prepare(struct filad *filad, struct client *loader, const char *queue, unsigned rate,
                   uint64_t messages, struct err *err)
{
    char key[48], value[48];
    struct producer_options producer = {.queue = queue, .payload = PAYLOAD};
    (void)filad;
    snprintf(key, sizeof(key), "throttle.%s", queue);
    snprintf(value, sizeof(value), "%u,%u", rate, rate >= BURST_SHARE ? rate / BURST_SHARE : 1);
    if (client_set_config(loader, key, value, err) != 0 ||
        client_create_queue(loader, queue, VISIBILITY_MS, script, err) != 0) {
        return -1;
    }
    return producer_preload(loader, &producer, messages, err);
}

/* Consumes for the time of a measurement; per cent that each slice is off. */
static int measure(struct filad *filad, struct crowd *crowd, unsigned rate,
                   double slices[STATS_SLICES], struct err *err)
{
    struct bench *bench = filad->bench;
    struct stats_rate measured;
    if (crowd_consume(crowd, err) != 0) {
        return -1;
    }
    stats_rate_start(&measured, time_monotonic_ns(), WARM_UP, bench->seconds);
    uint64_t now;
    do {
        if (crowd_step(crowd, false, err) != 0) {
            return -1;
        }
        now = time_monotonic_ns();
        if (progress_tick(&bench->progress, now, crowd_delivered(crowd), err) != 0) {
            return -1;
        }
    } while (!stats_rate_tick(&measured, now, crowd_delivered(crowd)));
    for (unsigned i = 0; i < STATS_SLICES; i++) {
        slices[i] = fabs(measured.rates[i] - rate) / rate * 100;
    }
    return 0;
}

static int run_rate(struct filad *filad, unsigned rate, double slices[STATS_SLICES],
                    struct outcome *outcome, struct err *err)
{
    char queue[32];
    struct crowd crowd = {.producer_count = 0};
    struct crowd_options options = {
        .port = filad->port, .consumers = 1, .consumer = {.queue = queue, .payload = PAYLOAD}};
    double seconds = filad->bench->seconds + WARM_UP + 2;
    uint64_t messages = ((uint64_t)(rate * seconds) / 100 + 1) * 100;
    struct client *loader = client_open(filad->port, err);
    int result = -1;
    snprintf(queue, sizeof(queue), "bench-%u", rate);
    if (loader == NULL || prepare(filad, loader, queue, rate, messages, err) != 0 ||
        crowd_open(&crowd, &options, err) != 0 || measure(filad, &crowd, rate, slices, err) != 0) {
        goto out;
    }
    outcome->enqueued += messages;
    outcome->delivered += crowd_delivered(&crowd);
    outcome->acked += crowd_acked(&crowd);
    result = 0;
out:
    crowd_close(&crowd);
    client_close(loader);
    return result;
}

int workload_throttle_run(struct bench *bench, const struct row *row, struct outcome *outcome,
                          struct err *err)
{
    struct filad filad;
    struct filad_usage usage;
    struct err stop_err;
    int result = 0;

    if (filad_start(&filad, bench, row->name, NULL, err) != 0) {
        return -1;
    }
    filad_usage_begin(&filad, &usage);
    for (unsigned i = 0; i < ROW_FIGURES && result == 0; i++) {
        result = run_rate(&filad, rates[i], outcome->slices[i], outcome, err);
    }
    filad_usage_end(&filad, &usage, outcome);
    if (filad_stop(&filad, result != 0, &stop_err) != 0 && result == 0) {
        *err = stop_err;
        result = -1;
    }
    return result;
}
