#include "event/chunk.h"

#include <stdlib.h>

void chunk_charge(struct chunk_account *account, uint64_t bytes)
{
    for (; account; account = account->parent)
        account->bytes += bytes;
}

void chunk_discharge(struct chunk_account *account, uint64_t bytes)
{
    for (; account; account = account->parent)
        account->bytes -= bytes;
}

struct chunk *chunk_create(struct chunk_account *account, size_t capacity)
{
    struct chunk *chunk = malloc(sizeof(*chunk) + capacity);

    if (!chunk)
        return NULL;
    chunk->account = account;
    chunk->capacity = capacity;
    chunk->pins = 0;
    chunk->held = true;
    return chunk;
}

struct chunk *chunk_resize(struct chunk *chunk, size_t capacity)
{
    struct chunk *resized = realloc(chunk, sizeof(*chunk) + capacity);

    if (resized)
        resized->capacity = capacity;
    return resized;
}

static void chunk_free_unused(struct chunk *chunk)
{
    if (!chunk->held && chunk->pins == 0)
        free(chunk);
}

void chunk_release(struct chunk *chunk)
{
    chunk->held = false;
    chunk_free_unused(chunk);
}

void chunk_pin(struct chunk *chunk)
{
    if (chunk->pins++ == 0)
        chunk_charge(chunk->account, chunk->capacity);
}

void chunk_unpin(struct chunk *chunk)
{
    if (--chunk->pins > 0)
        return;
    chunk_discharge(chunk->account, chunk->capacity);
    chunk_free_unused(chunk);
}
