#include "sched/changes.h"

void changes_init(struct changes *changes, uint64_t next)
{
    changes->oldest = changes->next = next;
}

static void forget_oldest(struct changes *changes, struct arena *arena)
{
    struct change *change = &changes->ring[changes->oldest++ % CHANGES_KEPT];
    arena_free(arena, (void *)(uintptr_t)change->name.data);
    change->name = str_of(NULL, 0);
}

void changes_add(struct changes *changes, struct arena *arena, enum change_kind kind,
                 struct str name)
{
    uint64_t number = changes->next++;
    if (number - changes->oldest >= CHANGES_KEPT)
        forget_oldest(changes, arena);
    uint8_t *copy = arena_alloc(arena, name.size ? name.size : 1);
    if (!copy) {
        while (changes->oldest < number)
            forget_oldest(changes, arena);
        changes->oldest = changes->next;
        return;
    }
    if (name.size)
        memcpy(copy, name.data, name.size);
    changes->ring[number % CHANGES_KEPT] =
        (struct change){.kind = (uint8_t)kind, .name = str_of(copy, name.size)};
}

const struct change *changes_get(const struct changes *changes, uint64_t number)
{
    if (number < changes->oldest || number >= changes->next)
        return NULL;
    return &changes->ring[number % CHANGES_KEPT];
}
