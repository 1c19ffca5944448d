/*
 * chunk - a piece of memory that received bytes lie in. Whoever fills it holds it;
 * operations whose slices point into it pin it. It is freed when neither is left. One thread.
 */
#ifndef FILAD_EVENT_CHUNK_H
#define FILAD_EVENT_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Counts bytes that operations keep alive; every change also goes to the account above it. */
struct chunk_account {
    uint64_t bytes;
    struct chunk_account *parent; /* NULL at the top */
};

struct chunk {
    struct chunk_account *account; /* charged with `capacity` while pinned; outlives the chunk */
    size_t capacity;               /* bytes in data */
    uint32_t pins;
    bool held;
    uint8_t data[];
};

void chunk_charge(struct chunk_account *account, uint64_t bytes);
void chunk_discharge(struct chunk_account *account, uint64_t bytes);

/* A chunk that is held and not pinned; NULL without memory. */
struct chunk *chunk_create(struct chunk_account *account, size_t capacity)
    __attribute__((warn_unused_result));
/* Makes a chunk that is held and not pinned larger or smaller; it may move. NULL without memory: it
 * is as before then. */
struct chunk *chunk_resize(struct chunk *chunk, size_t capacity)
    __attribute__((warn_unused_result));
/* Ends the hold. */
void chunk_release(struct chunk *chunk);

void chunk_pin(struct chunk *chunk);
void chunk_unpin(struct chunk *chunk);

#endif
