/*
 * pick - the first step of a pull: which consumers have room, and which lanes deliver how many
 * messages to them. See broker/deliver.c.
 */
#ifndef FILAD_BROKER_PICK_H
#define FILAD_BROKER_PICK_H

#include "broker/broker.h"
#include "store/record.h"

#define PULL_MESSAGES QUEUE_PULL
/* Bytes: a pull reads no more once it has so many; one message may be larger. */
#define PULL_BYTES (1u << 20)

/* A lane's part of a pull. */
struct pull_lane {
    struct lane *lane;
    struct str fairness_key;  /* copies in scratch memory: without the lock the lane may go */
    struct str throttle_keys; /* in stored form */
    uint16_t throttle_count;
    uint32_t wanted;       /* messages the round robin gave it */
    uint32_t read;         /* of those, read so far */
    uint32_t leased;       /* of those, delivered */
    uint64_t next;         /* lane->next after it */
    uint32_t uncounted;    /* of those read, messages that lane->ready did not count */
    bool ended;            /* the store has no more of this lane */
    struct list *returned; /* next one to take of lane->returned */

    /* Where what is picked ends: the next one of lane->returned, and then a bound for the next
     * message in the store, or its place (UINT64_MAX: there is none). */
    struct list *unpicked;
    uint64_t head;
    bool head_is_known;
};

struct pull_message {
    struct record_message message; /* its body in scratch memory */
    struct pull_lane *lane;
    struct lease *lease; /* new, or the returned one that is taken again */
    bool retaken;
    uint64_t seq;
    struct local_subscription *consumer;
};

struct pull {
    struct broker *broker;
    struct local_queue *local;
    struct queue *queue;
    DBC *cursor;
    uint64_t wall_ms, monotonic_ms;
    uint64_t throttle_ns; /* monotonic: for throttles, read when one concerns a lane; 0: not yet */
    uint32_t room;        /* messages that consumers can take, at most PULL_MESSAGES */
    size_t record_size;   /* of the queue's messages in the mean, as the pull began; 0: unknown */
    uint32_t order[PULL_MESSAGES]; /* index of the lane of each pick */
    uint32_t picks;
    struct pull_lane lanes[PULL_MESSAGES];
    uint32_t lane_count;
    struct pull_message messages[PULL_MESSAGES]; /* in the order of the picks */
    uint32_t count;
    uint64_t batch_seq;
    size_t bytes;
    bool zone_full;
    uint32_t looks; /* records that were looked for to compare lanes */
    bool cut_short; /* so much was looked at that others should have the lock now */
};

/* All under the queue's lock. */

/* Sets pull->room and moves consumers without room aside. */
void pick_find_room(struct pull *pull);
/* Fills picks, order and lanes by the round robin, at most pull->room messages; the lanes of a key
 * by their oldest messages. Lanes that throttles refuse are held. Opens the cursor if it needs it.
 * Berkeley DB's value. */
int pick_lanes(struct pull *pull) __attribute__((warn_unused_result));
/* The store has nothing of the lane from `next` on. */
void pick_lane_ended(struct queue *queue, struct lane *lane);
/* What is known of where lane->next is, once all that was picked is leased. */
void pick_advance(const struct pull_lane *part);
/* A consumer for every message. There is one: no more were picked than pick_find_room saw room for,
 * and only this thread makes room less. */
void pick_consumers(struct pull *pull);
/* After pick_consumers, when none of the messages went out. */
void pick_undo_consumers(struct pull *pull);

#endif
