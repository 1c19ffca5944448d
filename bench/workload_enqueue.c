#include "workload_enqueue.h"

#include <string.h>

#include "filad.h"
#include "os/time.h"
#include "producer.h"

#define QUEUE "bench"
#define WARM_UP 0.3 /* seconds */

static int measure(struct filad *filad, struct producer *producer, struct outcome *outcome,
                   struct err *err)
{
    struct bench *bench = filad->bench;
    struct stats_rate rate;
    struct filad_usage usage;
    uint64_t now;
    filad_usage_begin(filad, &usage);
    stats_rate_start(&rate, time_monotonic_ns(), WARM_UP, bench->seconds);
    do {
        if (producer_step(producer, UINT64_MAX, true, err) != 0) {
            return -1;
        }
        now = time_monotonic_ns();
        if (progress_tick(&bench->progress, now, producer_confirmed(producer), err) != 0) {
            return -1;
        }
    } while (!stats_rate_tick(&rate, now, producer_confirmed(producer)));
    filad_usage_end(filad, &usage, outcome);
    memcpy(outcome->slices[0], rate.rates, sizeof(rate.rates));
    while (producer_confirmed(producer) < producer_sent(producer)) {
        if (producer_step(producer, 0, true, err) != 0) {
            return -1;
        }
    }
    outcome->enqueued = producer_confirmed(producer);
    return 0;
}

int workload_enqueue_run(struct bench *bench, const struct row *row, struct outcome *outcome,
                         struct err *err)
{
    const struct enqueue_parameters *parameters = row->parameters;
    struct producer_options options = {.queue = QUEUE,
                                       .window = parameters->window,
                                       .batch = parameters->batch,
                                       .payload = PRODUCER_PAYLOAD,
                                       .keys = parameters->keys};
    struct filad filad;
    struct client *client = NULL;
    struct producer *producer = NULL;
    struct err stop_err;
    int result = -1;

    if (filad_start(&filad, bench, row->name, parameters->keys > 0 ? FILAD_KEYS : NULL, err) != 0) {
        return -1;
    }
    client = client_open(filad.port, err);
    if (client == NULL || client_create_queue(client, QUEUE, 0, NULL, err) != 0) {
        goto out;
    }
    producer = producer_create(client, &options, err);
    if (producer == NULL || measure(&filad, producer, outcome, err) != 0) {
        goto out;
    }
    result = client_check_depth(client, QUEUE, outcome->enqueued, 0, err);
out:
    producer_destroy(producer);
    client_close(client);
    if (filad_stop(&filad, result != 0, &stop_err) != 0 && result == 0) {
        *err = stop_err;
        result = -1;
    }
    return result;
}
