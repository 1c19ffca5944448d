#include "kill/load.h"

#include <stdio.h>
#include <stdlib.h>

#include "kill/client.h"
#include "os/time.h"

struct load {
    struct load_shared shared;
    struct client *producers; /* the last one is the prober */
    unsigned producer_count;
    struct consumer *consumers;
    unsigned consumer_count;
};

static void spawn(struct client *client, void *(*body)(void *), void *argument)
{
    if (pthread_create(&client->thread, NULL, body, argument) != 0) {
        fputs("kill-test: no more threads\n", stderr);
        abort();
    }
    client->running = true;
}

static void join(struct client *client)
{
    if (client->running)
        pthread_join(client->thread, NULL);
    client->running = false;
}

/* Each ordered queue gets a consumer of its own; the others share the rest, each consumer with one
 * or two queues. */
static void assign_queues(struct load *load)
{
    const struct load_options *options = &load->shared.options;
    unsigned shared_queues[64], shared_count = 0, next = 0;
    for (unsigned q = 0; q < options->queue_count; q++) {
        if (options->queues[q].ordered) {
            struct consumer *consumer = &load->consumers[next++];
            consumer->ordered = true;
            consumer->queues[consumer->queue_count++] = q;
        } else if (shared_count < 64) {
            shared_queues[shared_count++] = q;
        }
    }
    for (unsigned i = 0; shared_count && next < load->consumer_count; i++, next++) {
        struct consumer *consumer = &load->consumers[next];
        consumer->queues[consumer->queue_count++] = shared_queues[i % shared_count];
        if (shared_count > 1)
            consumer->queues[consumer->queue_count++] = shared_queues[(i + 1) % shared_count];
    }
}

struct load *load_create(const struct load_options *options)
{
    struct load *load = calloc(1, sizeof *load);
    if (!load)
        abort();
    load->shared.options = *options;
    load->producer_count = options->producers + 1;
    load->consumer_count = options->consumers;
    for (unsigned q = 0; q < options->queue_count; q++)
        load->consumer_count += options->queues[q].ordered;
    load->producers = calloc(load->producer_count, sizeof *load->producers);
    load->consumers = calloc(load->consumer_count, sizeof *load->consumers);
    if (!load->producers || !load->consumers)
        abort();
    for (unsigned i = 0; i < load->producer_count; i++)
        client_init(&load->producers[i], &load->shared, i, options->seed);
    for (unsigned i = 0; i < load->consumer_count; i++)
        client_init(&load->consumers[i].client, &load->shared, i, options->seed + 1000);
    assign_queues(load);
    return load;
}

void load_destroy(struct load *load)
{
    if (!load)
        return;
    free(load->producers);
    free(load->consumers);
    free(load);
}

void load_start_producers(struct load *load)
{
    atomic_store(&load->shared.stop_producers, false);
    load_outage_begin(load);
    for (unsigned i = 0; i + 1 < load->producer_count; i++)
        spawn(&load->producers[i], producer_main, &load->producers[i]);
    struct client *prober = &load->producers[load->producer_count - 1];
    spawn(prober, prober_main, prober);
}

void load_stop_producers(struct load *load)
{
    atomic_store(&load->shared.stop_producers, true);
    for (unsigned i = 0; i < load->producer_count; i++)
        join(&load->producers[i]);
}

void load_start_consumers(struct load *load, bool drain)
{
    atomic_store(&load->shared.stop_consumers, false);
    atomic_store(&load->shared.drain, drain);
    for (unsigned i = 0; i < load->consumer_count; i++) {
        if (drain)
            load->consumers[i].late_count = 0;
        spawn(&load->consumers[i].client, consumer_main, &load->consumers[i]);
    }
}

void load_stop_consumers(struct load *load)
{
    atomic_store(&load->shared.stop_consumers, true);
    for (unsigned i = 0; i < load->consumer_count; i++)
        join(&load->consumers[i].client);
}

void load_outage_begin(struct load *load)
{
    atomic_store(&load->shared.probe_last_ns, time_monotonic_ns());
    atomic_store(&load->shared.probe_gap_ns, 0);
    atomic_store(&load->shared.probe_count, 0);
}

uint64_t load_outage(struct load *load, unsigned *confirmed)
{
    uint64_t last = atomic_load(&load->shared.probe_last_ns);
    uint64_t present = time_monotonic_ns() - last;
    uint64_t gap = atomic_load(&load->shared.probe_gap_ns);
    if (confirmed)
        *confirmed = atomic_load(&load->shared.probe_count);
    return present < UINT64_MAX / 2 && present > gap ? present : gap;
}
