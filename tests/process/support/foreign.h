/*
 * foreign - the framed clients of other projects as spec/fibp.md A11 describes them: what they
 * send, byte for byte, and how they find their answers. The bytes are made here, by none of the
 * codecs under test. Everything that should not be fails the test; include it behind cmocka.h.
 */
#ifndef FILAD_TESTS_FOREIGN_H
#define FILAD_TESTS_FOREIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "process/support/peer.h"

/* The opcodes that are not the same for all. */
struct foreign_opcodes {
    uint8_t consume_ok; /* 0: Consume has no answer */
    uint8_t delivery, cancel, ack, ack_result, nack, nack_result;
};

struct foreign_kind {
    const char *name;
    uint32_t handshake_id, first_id;
    const struct foreign_opcodes *opcodes;
    bool by_id;         /* looks for its answer by id; otherwise the next frame is the answer */
    bool newest_stream; /* takes each Delivery for its newest stream's, whatever its id */
    bool cancels;       /* has a CancelConsume ... */
    bool cancel_by_consumer; /* ... under an id of its own, with the consumer id; else empty */
    bool disconnects;        /* says Disconnect before it closes */
};

extern const struct foreign_kind foreign_rust, foreign_rust_cli, foreign_python, foreign_go,
    foreign_javascript, foreign_ruby, foreign_java, foreign_oldest;

#define FOREIGN_ID_SIZE 37 /* of a UUID as text, with its NUL */
#define FOREIGN_STREAMS 4

struct foreign_message {
    struct foreign_message *next;
    uint32_t stream; /* id of the Delivery */
    char id[FOREIGN_ID_SIZE];
    char queue[64], payload[64], tenant[64];
    size_t size; /* of the payload, of which only the beginning is kept */
    uint32_t attempt;
};

struct foreign {
    const struct foreign_kind *kind;
    struct peer *peer; /* the connection; of its functions only those for raw bytes and frames */
    uint32_t next_id;
    uint32_t streams[FOREIGN_STREAMS]; /* open ones, newest last */
    char consumers[FOREIGN_STREAMS][FOREIGN_ID_SIZE];
    unsigned stream_count;
    struct foreign_message *messages, **messages_tail; /* received, not asked for yet */
};

/* Connects and shakes hands. */
struct foreign *foreign_open(const struct foreign_kind *kind, const char *address);
void foreign_close(struct foreign *client); /* ends it as this client does */

/* Each returns the code of its answer, inline or in an Error frame. */
int foreign_create_queue(struct foreign *client, const char *queue);
int foreign_delete_queue(struct foreign *client, const char *queue);
int foreign_enqueue(struct foreign *client, const char *queue, const char *tenant,
                    const char *payload, char id[FOREIGN_ID_SIZE]);
/* A payload of `size` letters; `chunk` is the most that a frame may hold, 0: all in one. */
int foreign_enqueue_large(struct foreign *client, const char *queue, size_t size, size_t chunk);
int foreign_consume(struct foreign *client, const char *queue);
int foreign_ack(struct foreign *client, const char *queue, const char *id);
int foreign_nack(struct foreign *client, const char *queue, const char *id);
/* GetStats: the number of consumers, and the depth. */
int foreign_inspect(struct foreign *client, const char *queue, uint32_t *consumers,
                    uint64_t *depth);
void foreign_ping(struct foreign *client);
/* Cancels the newest stream; there is no answer. */
void foreign_cancel(struct foreign *client);

/* The next message, of whatever stream; waits for it. */
void foreign_receive(struct foreign *client, struct foreign_message *message);

#endif
