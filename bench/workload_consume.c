#include "workload_consume.h"

#include "crowd.h"
#include "filad.h"
#include "os/time.h"

#define QUEUE "bench"
#define VISIBILITY_MS 600000u /* long enough that no lease runs out here */

static int measure(struct filad *filad, struct crowd *crowd, uint64_t total,
                   struct outcome *outcome, struct err *err)
{
    struct bench *bench = filad->bench;
    struct filad_usage usage;
    uint64_t begin_acked = 0;
    int slice = 0;
    filad_usage_begin(filad, &usage);
    uint64_t start_ns = time_monotonic_ns(), begin_ns = start_ns;
    if (crowd_consume(crowd, err) != 0) {
        return -1;
    }
    while (crowd_acked(crowd) < total) {
        if (crowd_step(crowd, false, err) != 0) {
            return -1;
        }
        uint64_t now = time_monotonic_ns(), acked = crowd_acked(crowd);
        if (progress_tick(&bench->progress, now, acked, err) != 0) {
            return -1;
        }
        uint64_t boundary = total * (uint64_t)(slice + 1) / STATS_SLICES;
        if (slice < STATS_SLICES && acked >= boundary && now > begin_ns) {
            outcome->slices[0][slice++] =
                (double)(acked - begin_acked) * 1e9 / (double)(now - begin_ns);
            begin_acked = acked;
            begin_ns = now;
        }
    }
    if (crowd->consumer_count > 1) {
        /* Many connections are read in one step, which may pass several boundaries. */
        double seconds = (double)(time_monotonic_ns() - start_ns) / 1e9;
        for (slice = 0; slice < STATS_SLICES; slice++) {
            outcome->slices[0][slice] = (double)total / seconds;
        }
    }
    filad_usage_end(filad, &usage, outcome);
    outcome->delivered = crowd_delivered(crowd);
    outcome->acked = crowd_acked(crowd);
    return 0;
}

int workload_consume_run(struct bench *bench, const struct row *row, struct outcome *outcome,
                         struct err *err)
{
    const struct consume_parameters *parameters = row->parameters;
    uint64_t total = bench->arguments->messages;
    struct filad filad;
    struct crowd crowd = {.producer_count = 0};
    struct crowd_options options = {
        .consumers = parameters->consumers,
        .consumer = {.queue = QUEUE, .payload = PRODUCER_PAYLOAD},
        .producer = {.queue = QUEUE, .payload = PRODUCER_PAYLOAD, .keys = parameters->keys},
    };
    struct client *loader = NULL;
    struct err stop_err;
    int result = -1;

    if (filad_start(&filad, bench, row->name, parameters->keys > 0 ? FILAD_KEYS : NULL, err) != 0) {
        return -1;
    }
    options.port = filad.port;
    loader = client_open(filad.port, err);
    if (loader == NULL || client_create_queue(loader, QUEUE, VISIBILITY_MS, NULL, err) != 0 ||
        producer_preload(loader, &options.producer, total, err) != 0) {
        goto out;
    }
    outcome->enqueued = total;
    if (crowd_open(&crowd, &options, err) != 0 ||
        measure(&filad, &crowd, total, outcome, err) != 0) {
        goto out;
    }
    result = client_check_depth(loader, QUEUE, 0, 0, err);
out:
    crowd_close(&crowd);
    client_close(loader);
    if (filad_stop(&filad, result != 0, &stop_err) != 0 && result == 0) {
        *err = stop_err;
        result = -1;
    }
    return result;
}
