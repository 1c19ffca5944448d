#include "workload_redrive.h"

#include "filad.h"
#include "os/time.h"
#include "producer.h"

#define QUEUE "bench"
#define DEAD_LETTERS "bench.dlq"
#define VISIBILITY_MS 600000u

/* One request for each slice, of a third of the messages. */
static int measure(struct filad *filad, struct client *client, uint64_t total,
                   struct outcome *outcome, struct err *err)
{
    struct filad_usage usage;
    uint64_t share = total / STATS_SLICES;
    filad_usage_begin(filad, &usage);
    for (unsigned i = 0; i < STATS_SLICES; i++) {
        uint64_t begin_ns = time_monotonic_ns(), moved = 0;
        if (client_redrive(client, DEAD_LETTERS, share, &moved, err) != 0) {
            return -1;
        }
        uint64_t now = time_monotonic_ns();
        if (moved != share) {
            return err_set(err, 0, "redrive: %llu messages instead of %llu moved",
                           (unsigned long long)moved, (unsigned long long)share);
        }
        outcome->slices[0][i] = (double)moved * 1e9 / (double)(now - begin_ns);
        if (progress_tick(&filad->bench->progress, now, share * (i + 1), err) != 0) {
            return -1;
        }
    }
    filad_usage_end(filad, &usage, outcome);
    return client_check_depth(client, QUEUE, share * STATS_SLICES, 0, err);
}

int workload_redrive_run(struct bench *bench, const struct row *row, struct outcome *outcome,
                         struct err *err)
{
    struct producer_options producer = {
        .queue = DEAD_LETTERS, .payload = PRODUCER_PAYLOAD, .keys = 10};
    struct filad filad;
    struct err stop_err;
    int result = -1;

    if (filad_start(&filad, bench, row->name, FILAD_KEYS, err) != 0) {
        return -1;
    }
    struct client *client = client_open(filad.port, err);
    if (client != NULL && client_create_queue(client, QUEUE, VISIBILITY_MS, NULL, err) == 0 &&
        producer_preload(client, &producer, bench->arguments->messages, err) == 0) {
        outcome->enqueued = bench->arguments->messages;
        result = measure(&filad, client, bench->arguments->messages, outcome, err);
    }
    client_close(client);
    if (filad_stop(&filad, result != 0, &stop_err) != 0 && result == 0) {
        *err = stop_err;
        result = -1;
    }
    return result;
}
