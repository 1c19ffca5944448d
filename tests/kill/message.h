/*
 * message - what the journal remembers of one message. Internal to journal.c and proof.c.
 */
#ifndef FILAD_KILL_MESSAGE_H
#define FILAD_KILL_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/uuid.h"
#include "kill/driver.h"
#include "kill/journal.h"

/* Code of acks and nacks beside those of the wire and JOURNAL_NO_ANSWER. */
#define CODE_OPEN 0xFC /* sent, not answered yet */

enum event_kind { EVENT_DELIVERED, EVENT_ACK, EVENT_NACK };

/* All times are monotonic nanoseconds. */
struct message_event {
    uint64_t time_ns;  /* delivery: read from the connection; ack, nack: before it was sent */
    uint64_t other_ns; /* delivery: start of the lease; ack, nack: answered (0 while open) */
    uint32_t attempt;
    uint16_t client; /* which consumer of the load */
    uint8_t kind;
    uint8_t code;
};

enum message_state {
    MESSAGE_SENT, /* not answered: it may exist or not, for ever or for a moment */
    MESSAGE_CONFIRMED,
    MESSAGE_DOUBT,   /* the answer never came or said that the fate is unknown */
    MESSAGE_REFUSED, /* the answer said that it was not taken */
};

struct message {
    uint64_t sent_ns;
    uint64_t confirmed_ns;        /* 0: not confirmed */
    uint64_t acked_ns;            /* when the first successful answer to an ack was read; 0: none */
    struct message_event *events; /* owned, in the order of recording */
    struct uuid id;
    uint32_t connection; /* which one of the producer's connections sent it */
    uint16_t queue;
    uint16_t event_count;
    uint16_t event_room;
    uint16_t forgotten; /* events dropped because there were too many */
    uint8_t key;
    uint8_t state;
    bool has_id;
    bool delivered; /* at least once */
};

static inline bool event_is_open(const struct message_event *event)
{
    return event->kind != EVENT_DELIVERED && event->code == CODE_OPEN;
}

/* An ack or nack that certainly changed nothing. */
static inline bool event_is_void(const struct message_event *event)
{
    return event->code == DRIVER_MESSAGE_NOT_FOUND || event->code == DRIVER_CHANNEL_FULL;
}

#endif
