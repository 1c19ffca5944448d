#include "kill/client.h"

#include <string.h>
#include <time.h>

#include "os/time.h"

void client_init(struct client *client, struct load_shared *shared, unsigned index, uint64_t seed)
{
    memset(client, 0, sizeof *client);
    client->shared = shared;
    client->index = index;
    client->random = (seed + index + 1) * 0x9e3779b97f4a7c15u | 1;
}

uint32_t client_random(struct client *client, uint32_t below)
{
    uint64_t x = client->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    client->random = x;
    return (uint32_t)((x * 0x2545f4914f6cdd1du) >> 33) % below;
}

void client_sleep(unsigned ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

bool client_connected(struct client *client)
{
    if (client->connection)
        return true;
    struct err err;
    struct driver *driver = client->shared->options.driver;
    client->connection = driver->ops->connect(driver, &err);
    if (!client->connection) {
        client_sleep(10 + client_random(client, 30));
        return false;
    }
    client->connection_number++;
    client->connected_ns = time_monotonic_ns();
    return true;
}

static void client_doubt(struct client *client, const struct client_request *request)
{
    struct journal *journal = client->shared->options.journal;
    uint64_t now = time_monotonic_ns();
    for (unsigned i = 0; i < request->count; i++) {
        if (request->kind == CLIENT_ENQUEUE)
            journal_enqueued(journal, request->refs[i], JOURNAL_NO_ANSWER, NULL, now);
        else if (request->kind == CLIENT_ACK || request->kind == CLIENT_NACK)
            journal_ack_result(journal, client->index, request->refs[i],
                               request->kind == CLIENT_NACK, JOURNAL_NO_ANSWER, now);
    }
}

void client_close(struct client *client, bool politely)
{
    if (client->connection)
        client->shared->options.driver->ops->close(client->connection, politely);
    client->connection = NULL;
    for (unsigned i = 0; i < CLIENT_REQUESTS; i++) {
        client_doubt(client, &client->requests[i]);
        client->requests[i].kind = CLIENT_FREE;
        client->requests[i].count = 0;
    }
}

struct client_request *client_request(struct client *client)
{
    for (unsigned i = 0; i < CLIENT_REQUESTS; i++)
        if (client->requests[i].kind == CLIENT_FREE) {
            client->requests[i].count = 0;
            client->requests[i].sent_ns = time_monotonic_ns();
            return &client->requests[i];
        }
    return NULL;
}

unsigned client_open(const struct client *client)
{
    unsigned count = 0;
    for (unsigned i = 0; i < CLIENT_REQUESTS; i++)
        count += client->requests[i].kind != CLIENT_FREE;
    return count;
}

static bool event_fits(enum driver_event_kind event, enum client_request_kind kind)
{
    switch (event) {
    case DRIVER_ENQUEUED:
        return kind == CLIENT_ENQUEUE;
    case DRIVER_ACKED:
        return kind == CLIENT_ACK;
    case DRIVER_NACKED:
        return kind == CLIENT_NACK;
    case DRIVER_CONSUMING:
        return kind == CLIENT_CONSUME;
    case DRIVER_REFUSED:
        return kind != CLIENT_FREE;
    default:
        return false;
    }
}

static void settle_item(struct client *client, const struct client_request *request, unsigned item,
                        const struct driver_event *event)
{
    struct journal *journal = client->shared->options.journal;
    struct driver_result refused = {.code = event->code};
    const struct driver_result *result =
        event->kind == DRIVER_REFUSED ? &refused : &event->results[item];
    if (request->kind == CLIENT_ENQUEUE)
        journal_enqueued(journal, request->refs[item], result->code,
                         result->has_id ? &result->id : NULL, event->time_ns);
    else
        journal_ack_result(journal, client->index, request->refs[item],
                           request->kind == CLIENT_NACK, result->code, event->time_ns);
}

const struct client_request *client_settle(struct client *client, const struct driver_event *event)
{
    struct journal *journal = client->shared->options.journal;
    for (unsigned i = 0; i < CLIENT_REQUESTS; i++) {
        struct client_request *request = &client->requests[i];
        if (request->number != event->request || !event_fits(event->kind, request->kind))
            continue;
        bool items = request->kind != CLIENT_CONSUME;
        if (items && event->kind != DRIVER_REFUSED && event->count != request->count) {
            journal_violation(journal, VIOLATION_SERVICE,
                              "client %u: an answer has %zu results for %u items", client->index,
                              event->count, request->count);
            client_doubt(client, request);
        } else if (items) {
            for (unsigned item = 0; item < request->count; item++)
                settle_item(client, request, item, event);
        }
        request->kind = CLIENT_FREE;
        return request;
    }
    return NULL;
}

void client_check_overdue(struct client *client)
{
    uint64_t now = time_monotonic_ns();
    unsigned limit_ms = client->shared->options.answer_limit_ms;
    for (unsigned i = 0; i < CLIENT_REQUESTS; i++) {
        struct client_request *request = &client->requests[i];
        if (request->kind == CLIENT_FREE || now - request->sent_ns < (uint64_t)limit_ms * 1000000u)
            continue;
        journal_violation(client->shared->options.journal, VIOLATION_SERVICE,
                          "client %u: no answer on a living connection after %u ms", client->index,
                          limit_ms);
        client_close(client, false);
        return;
    }
}
