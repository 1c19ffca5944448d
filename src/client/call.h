/*
 * call - what a connection consists of inside the library, and blocking requests on it.
 */
#ifndef FILAD_CLIENT_CALL_H
#define FILAD_CLIENT_CALL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "client/transport.h"
#include "core/buf.h"
#include "core/str.h"
#include "fibp/wire.h"
#include "fila.h"

struct fila {
    struct transport *transport;
    uint64_t request_timeout_ms;
    atomic_uint references; /* fila_close() and every consumer give one back */
};

void call_client_retain(struct fila *client);
void call_client_release(struct fila *client); /* frees with the last one */

/* Decodes an answer on the reader thread. `output` is the caller's. Returns -1 with `error`. */
typedef int (*call_decoder)(struct wire_reader *reader, void *output, size_t count,
                            struct fila_error *error);

/* One blocking request. Initialised by call_start(). */
struct call {
    struct transport_request request;
    struct fila *client;
    uint8_t expected; /* opcode of the answer */
    call_decoder decode;
    void *output;
    size_t count; /* for the decoder: how many results there must be */
    pthread_mutex_t lock;
    pthread_cond_t finished;
    bool done;
    struct fila_error error; /* FILA_OK when the answer was decoded */
};

/* Submits `frame` (made by `opcode`'s encoder with request_id 0). On 0 call_wait() must follow. */
int call_start(struct call *call, struct fila *client, uint8_t opcode, const struct buf *frame,
               struct transport_sink *sink, call_decoder decode, void *output, size_t count,
               struct fila_error *error) FILA_CHECKED;

/* Waits until answered or until `deadline_ms` of the monotonic clock; 0, or -1 with `error`.
 * Afterwards the output is no longer touched. */
int call_wait(struct call *call, uint64_t deadline_ms, struct fila_error *error) FILA_CHECKED;

/* When a call that starts now gives up waiting. */
uint64_t call_deadline(const struct fila *client);

/* Both in one. `encoded`: what the encoder returned; frees `frame` in any case. `decode` may be
 * NULL for an answer without content. */
int call_run(struct fila *client, uint8_t opcode, struct buf *frame, int encoded,
             call_decoder decode, void *output, struct fila_error *error) FILA_CHECKED;

/* Reads the code that results start with; -1 with `error` unless it is FIBP_OK. */
int call_read_code(struct wire_reader *reader, struct fila_error *error) FILA_CHECKED;

/* The decoder of results that consist of a code alone. Without output. */
int call_decode_code(struct wire_reader *reader, void *output, size_t count,
                     struct fila_error *error) FILA_CHECKED;

/* The decoder of results that consist of a code and a text, which is the message of the script's
 * compiler where the code is FIBP_LUA_COMPILATION_ERROR, and the reason where it is
 * FIBP_STORAGE_ERROR. Without output. */
int call_decode_compiled(struct wire_reader *reader, void *output, size_t count,
                         struct fila_error *error) FILA_CHECKED;

/* FILA_USAGE on the reader thread, where a blocking call would wait for itself. */
int call_allowed(struct fila *client, struct fila_error *error) FILA_CHECKED;

/* The opposite numbers of the public and the internal slices. */
static inline struct str call_str(struct fila_slice slice)
{
    return str_of(slice.data, slice.size);
}

/* A string field as the protocol wants it: at most 65,535 bytes of UTF-8. */
int call_check_text(struct str text, const char *what, struct fila_error *error) FILA_CHECKED;

#endif
