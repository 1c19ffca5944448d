#include <stdio.h>
#include <stdlib.h>

#include "kill/client.h"
#include "kill/payload.h"
#include "os/time.h"

#define LARGE_PAYLOAD 20480u
#define PROBE_EVERY_MS 20u

/* The parts of one frame; they live until it is sent. */
struct frame_parts {
    struct driver_outgoing messages[CLIENT_BATCH];
    struct buf payloads[CLIENT_BATCH];
    char keys[CLIENT_BATCH][24];
    char marks[CLIENT_BATCH][24];
};

static struct frame_parts *frame_parts_create(void)
{
    struct frame_parts *parts = calloc(1, sizeof *parts);
    if (!parts)
        abort();
    for (unsigned i = 0; i < CLIENT_BATCH; i++)
        buf_init(&parts->payloads[i], 0);
    return parts;
}

static void frame_parts_destroy(struct frame_parts *parts)
{
    for (unsigned i = 0; i < CLIENT_BATCH; i++)
        buf_free(&parts->payloads[i]);
    free(parts);
}

static uint32_t payload_size(struct client *client)
{
    if (client_random(client, 100) == 0)
        return client_random(client, LARGE_PAYLOAD);
    return client_random(client, client->shared->options.payload_max);
}

static void frame_parts_fill(struct client *client, struct frame_parts *parts, unsigned item,
                             unsigned queue, struct client_request *request)
{
    unsigned key = client_random(client, JOURNAL_KEYS);
    struct journal_ref ref = journal_send(client->shared->options.journal, client->index, queue,
                                          key, client->connection_number);
    request->refs[item] = ref;
    payload_make(&parts->payloads[item], ref.producer, ref.sequence, payload_size(client));
    snprintf(parts->keys[item], sizeof parts->keys[item], "p%u-%u", ref.producer, key);
    snprintf(parts->marks[item], sizeof parts->marks[item], "%u/%u", ref.producer, ref.sequence);
    parts->messages[item] =
        (struct driver_outgoing){.queue = client->shared->options.queues[queue].name,
                                 .key = parts->keys[item],
                                 .mark = parts->marks[item],
                                 .payload = buf_str(&parts->payloads[item])};
}

static void send_frame(struct client *client, struct frame_parts *parts, unsigned count)
{
    struct client_request *request = client_request(client);
    if (!request)
        return;
    unsigned queues = client->shared->options.queue_count;
    unsigned queue = client_random(client, queues);
    bool mixed = client_random(client, 10) < 3;
    for (unsigned i = 0; i < count; i++)
        frame_parts_fill(client, parts, i, mixed ? client_random(client, queues) : queue, request);
    request->count = count;
    request->kind = CLIENT_ENQUEUE;
    struct driver *driver = client->shared->options.driver;
    if (driver->ops->enqueue(client->connection, parts->messages, count, &request->number) != 0)
        client_close(client, false);
}

static unsigned frame_size(struct client *client)
{
    uint32_t dice = client_random(client, 10);
    if (dice < 5)
        return 1;
    return 1 + client_random(client, dice < 8 ? 10 : CLIENT_BATCH);
}

/* True while too much is waiting to be consumed. */
static bool backlog_full(struct client *client)
{
    const struct load_options *options = &client->shared->options;
    if (!options->backlog)
        return false;
    struct journal_totals totals;
    journal_totals(options->journal, &totals);
    return totals.confirmed > totals.acked + options->backlog;
}

static void read_events(struct client *client, unsigned timeout_ms)
{
    struct driver_event event;
    client->shared->options.driver->ops->next(client->connection, timeout_ms, &event);
    if (event.kind == DRIVER_CLOSED)
        client_close(client, false);
    else if (event.kind != DRIVER_NOTHING && !client_settle(client, &event))
        journal_violation(client->shared->options.journal, VIOLATION_SERVICE,
                          "client %u: an answer to nothing it asked (request %u: %s)",
                          client->index, event.request, event.text ? event.text : "");
}

void *producer_main(void *argument)
{
    struct client *client = argument;
    struct load_shared *shared = client->shared;
    struct frame_parts *parts = frame_parts_create();
    unsigned rate = shared->options.rate / shared->options.producers;
    uint64_t due_ns = time_monotonic_ns();
    unsigned window = 1 + client_random(client, 6);
    while (!atomic_load(&shared->stop_producers)) {
        if (!client_connected(client))
            continue;
        uint64_t now = time_monotonic_ns();
        unsigned wait_ms = 20;
        if (now >= due_ns && client_open(client) < window && !backlog_full(client)) {
            unsigned count = frame_size(client);
            send_frame(client, parts, count);
            if (rate)
                due_ns = (due_ns + 1000000000u < now ? now : due_ns) + count * 1000000000ull / rate;
            wait_ms = 0;
        } else if (now < due_ns && due_ns - now < 20000000u) {
            wait_ms = (unsigned)((due_ns - now) / 1000000u + 1);
        }
        if (client->connection)
            read_events(client, wait_ms);
        client_check_overdue(client);
        if (client->connection && client_random(client, 4000) == 0) {
            client_close(client, client_random(client, 2) == 0);
            window = 1 + client_random(client, 6);
        }
    }
    /* What is under way may still be answered. */
    uint64_t end_ns = time_monotonic_ns() + 2000000000u;
    while (client->connection && client_open(client) && time_monotonic_ns() < end_ns)
        read_events(client, 100);
    client_close(client, true);
    frame_parts_destroy(parts);
    return NULL;
}

static void probe_confirmed(struct load_shared *shared)
{
    uint64_t now = time_monotonic_ns();
    uint64_t gap = now - atomic_exchange(&shared->probe_last_ns, now);
    if (gap > atomic_load(&shared->probe_gap_ns))
        atomic_store(&shared->probe_gap_ns, gap);
    atomic_fetch_add(&shared->probe_count, 1);
}

/* Sends one message, waits for its answer, pauses, and so on. */
void *prober_main(void *argument)
{
    struct client *client = argument;
    struct load_shared *shared = client->shared;
    struct frame_parts *parts = frame_parts_create();
    while (!atomic_load(&shared->stop_producers)) {
        if (!client_connected(client))
            continue;
        send_frame(client, parts, 1);
        while (client->connection && client_open(client) && !atomic_load(&shared->stop_producers)) {
            struct driver_event event;
            shared->options.driver->ops->next(client->connection, 50, &event);
            bool good = event.kind == DRIVER_ENQUEUED && event.count == 1 &&
                        event.results[0].code == DRIVER_OK;
            if (event.kind == DRIVER_CLOSED)
                client_close(client, false);
            else if (event.kind != DRIVER_NOTHING && client_settle(client, &event) && good)
                probe_confirmed(shared);
            client_check_overdue(client);
        }
        client_sleep(PROBE_EVERY_MS);
    }
    client_close(client, true);
    frame_parts_destroy(parts);
    return NULL;
}
