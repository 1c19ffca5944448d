/*
 * apart - messages of which a part is stored apart (store/record.h, store/chunks.h): a payload
 * above APART_PAYLOAD bytes, or headers above it.
 *
 * A small part is written and removed in the transaction of its message. A large one is written
 * before that transaction and removed after it, both without the queue's lock and a step at a time,
 * under a marker of this thread's. The marker is in force until apart_finish: whatever has a marker
 * and is not referred to by then has no owner any more, and the keeper sweeps it.
 */
#ifndef FILAD_BROKER_APART_H
#define FILAD_BROKER_APART_H

#include "broker/broker.h"
#include "store/chunks.h"

#define APART_PAYLOAD 4096u    /* bytes of payload, or of headers, that stay with their message */
#define APART_SMALL 65536u     /* bytes apart up to which a part is small */
#define APART_SLICE (8u << 20) /* bytes written before other work is looked at */
/* Bytes of small parts that one transaction removes at most. */
#define APART_SMALL_BATCH (4u << 20)

/* How a record (wire bytes of `map headers` `bytes payload`) is stored. */
struct apart_split {
    struct str inside; /* the beginning, that stays with the message */
    struct str apart;  /* empty: nothing */
};

void apart_split(struct str record, struct apart_split *split);

static inline bool apart_is_large(uint64_t apart)
{
    return apart > APART_SMALL;
}

/* Bytes that apart_store has to write for an operation. */
uint64_t apart_large_bytes(const struct operation *operation);

/* Writes the large parts of the ENQUEUE operations from `first` up to, not including, `end`; each
 * item of which it is there gets its id and `stored_in`. One that cannot be written is left
 * without. *done false: call it again, other work may be done before (but no other writes). */
int apart_store(struct broker *broker, struct operation *first, struct operation *end, bool *done)
    __attribute__((warn_unused_result));

/* The marker for chunks that this thread is going to write or remove. */
struct record_marker apart_marker(struct broker *broker);

/* Removes the chunks of a message that have this thread's marker, and the marker; nothing of one
 * that has another's or none. What fails is left to the keeper. */
int apart_discard(struct broker *broker, struct local_queue *local, const struct uuid *id)
    __attribute__((warn_unused_result));

enum apart_copied {
    APART_COPIED, /* it is there, with this thread's marker */
    APART_GONE,   /* the message has left `from`; nothing of ours is in `to` */
    APART_BUSY,   /* another thread is at the same message */
    APART_FAILED  /* *result tells why; nothing of ours is in `to`, or left to the keeper */
};

/* Copies what is apart of a message to the database of another queue. *result is Berkeley DB's. */
int apart_copy(struct broker *broker, struct local_queue *from, struct local_queue *to,
               const struct record_message *message, enum apart_copied *outcome, int *result)
    __attribute__((warn_unused_result));

/* Nothing of this thread's with a marker is under way any more. */
void apart_finish(struct broker *broker);

/* Keeper: removes a step of what has a marker that is in force no more, from the queue whose lock
 * is held. *position is the id to go on from. *more: call again; *held: a marker in force was seen.
 */
int apart_sweep(struct broker *broker, struct local_queue *local, struct uuid *position, bool *more,
                bool *held) __attribute__((warn_unused_result));

#endif
