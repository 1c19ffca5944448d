#include "kill/order.h"

#include <stdlib.h>

#include "kill/journal.h"

#define CONNECTIONS 8 /* of one producer that are remembered */

struct track {
    struct order_entry top; /* the highest sequence delivered */
    bool used;
    struct {
        uint32_t connection, sequence;
        bool used;
    } recent[CONNECTIONS]; /* the highest of each connection */
    unsigned next;
};

struct order {
    unsigned queues;
    struct track *tracks;
};

struct order *order_create(unsigned producers, unsigned queues)
{
    struct order *order = calloc(1, sizeof *order);
    if (!order)
        return NULL;
    order->queues = queues;
    order->tracks = calloc((size_t)producers * queues * JOURNAL_KEYS, sizeof *order->tracks);
    if (!order->tracks) {
        free(order);
        return NULL;
    }
    return order;
}

void order_destroy(struct order *order)
{
    if (!order)
        return;
    free(order->tracks);
    free(order);
}

/* False when a later message of the same connection was delivered before. */
static bool track_connection(struct track *track, const struct order_entry *entry)
{
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        if (!track->recent[i].used || track->recent[i].connection != entry->connection)
            continue;
        if (track->recent[i].sequence > entry->sequence)
            return false;
        track->recent[i].sequence = entry->sequence;
        return true;
    }
    track->recent[track->next].connection = entry->connection;
    track->recent[track->next].sequence = entry->sequence;
    track->recent[track->next].used = true;
    track->next = (track->next + 1) % CONNECTIONS;
    return true;
}

bool order_delivered(struct order *order, unsigned producer, unsigned queue, unsigned key,
                     const struct order_entry *entry)
{
    struct track *track =
        &order->tracks[((size_t)producer * order->queues + queue) * JOURNAL_KEYS + key];
    bool good = track_connection(track, entry);
    if (track->used && track->top.sequence > entry->sequence) {
        if (entry->confirmed_ns && entry->confirmed_ns < track->top.sent_ns)
            good = false;
    } else {
        track->top = *entry;
        track->used = true;
    }
    return good;
}
