#include "workload_backlog.h"

#include <time.h>

#include "crowd.h"
#include "filad.h"
#include "os/time.h"

#define QUEUE "bench"
#define OTHER_QUEUE "other"
#define MESSAGES 1000000u
#define PAYLOAD 100u
#define VISIBILITY_MS 100u /* what a kill leaves in flight is back soon */
#define MIB (1024.0 * 1024.0)
#define SETTLE_NS 300000000 /* between looks at the memory */

static const struct producer_options backlog = {.queue = QUEUE, .payload = PAYLOAD};

/* Makes the queues and fills one. */
static int fill(struct filad *filad, struct outcome *outcome, struct err *err)
{
    struct client *client = client_open(filad->port, err);
    int result = client != NULL &&
                         client_create_queue(client, QUEUE, VISIBILITY_MS, NULL, err) == 0 &&
                         client_create_queue(client, OTHER_QUEUE, 0, NULL, err) == 0 &&
                         producer_preload(client, &backlog, MESSAGES, err) == 0
                     ? 0
                     : -1;
    outcome->enqueued = MESSAGES;
    client_close(client);
    return result;
}

static int finish(struct filad *filad, int result, struct err *err)
{
    struct err stop_err;
    if (filad_stop(filad, result != 0, &stop_err) != 0 && result == 0) {
        *err = stop_err;
        result = -1;
    }
    return result;
}

/* ---- memory ---- */

static int look(struct filad *filad, struct filad_memory looks[STATS_SLICES], struct err *err)
{
    struct timespec pause = {.tv_nsec = SETTLE_NS};
    for (int i = 0; i < STATS_SLICES; i++) {
        nanosleep(&pause, NULL);
        if (filad_memory(filad, &looks[i], err) != 0) {
            return -1;
        }
    }
    return 0;
}

int workload_backlog_memory(struct bench *bench, const struct row *row, struct outcome *outcome,
                            struct err *err)
{
    struct filad filad;
    struct filad_memory idle[STATS_SLICES], full[STATS_SLICES];
    int result = -1;
    if (filad_start(&filad, bench, row->name, NULL, err) != 0) {
        return -1;
    }
    if (look(&filad, idle, err) != 0 || fill(&filad, outcome, err) != 0 ||
        look(&filad, full, err) != 0) {
        goto out;
    }
    for (int i = 0; i < STATS_SLICES; i++) {
        double more =
            (double)(full[i].total - full[i].store) - (double)(idle[i].total - idle[i].store);
        outcome->slices[0][i] = (double)idle[i].total / MIB;
        outcome->slices[1][i] = more / MIB;
        outcome->slices[2][i] = more / MESSAGES;
    }
    result = 0;
out:
    return finish(&filad, result, err);
}

/* ---- restart ---- */

/* Until one message of the backlog has come. */
static int await_delivery(struct filad *filad, struct err *err)
{
    struct ledger ledger = {0};
    struct consumer_options options = {.queue = QUEUE, .payload = PAYLOAD, .ledger = &ledger};
    struct client *client = client_open(filad->port, err);
    struct consumer *consumer = client != NULL ? consumer_create(client, &options, err) : NULL;
    int result = consumer != NULL ? consumer_begin(consumer, err) : -1;
    while (result == 0 && consumer_delivered(consumer) == 0) {
        result = consumer_step(consumer, err);
    }
    consumer_destroy(consumer);
    client_close(client);
    ledger_free(&ledger);
    return result;
}

static int await_confirmation(struct filad *filad, struct err *err)
{
    struct producer_options options = {
        .queue = OTHER_QUEUE, .window = 1, .batch = 1, .payload = PAYLOAD};
    struct client *client = client_open(filad->port, err);
    struct producer *producer = client != NULL ? producer_create(client, &options, err) : NULL;
    int result = producer != NULL ? producer_step(producer, 1, true, err) : -1;
    producer_destroy(producer);
    client_close(client);
    return result;
}

static int run_slice(struct filad *filad, int slice, struct outcome *outcome, struct err *err)
{
    filad_kill(filad);
    uint64_t begin = time_monotonic_ns();
    if (filad_restart(filad, err) != 0 || await_delivery(filad, err) != 0) {
        return -1;
    }
    outcome->slices[0][slice] = (double)(time_monotonic_ns() - begin) / 1e9;
    if (await_confirmation(filad, err) != 0) {
        return -1;
    }
    outcome->slices[1][slice] = (double)(time_monotonic_ns() - begin) / 1e9;
    return progress_tick(&filad->bench->progress, time_monotonic_ns(), (uint64_t)slice + 1, err);
}

int workload_backlog_restart(struct bench *bench, const struct row *row, struct outcome *outcome,
                             struct err *err)
{
    struct filad filad;
    int result;
    if (filad_start(&filad, bench, row->name, NULL, err) != 0) {
        return -1;
    }
    result = fill(&filad, outcome, err);
    for (int slice = 0; slice < STATS_SLICES && result == 0; slice++) {
        result = run_slice(&filad, slice, outcome, err);
    }
    return finish(&filad, result, err);
}
