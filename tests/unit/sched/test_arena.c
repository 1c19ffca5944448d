#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/shm.h"
#include "sched/arena.h"

#define SIZE (24u << 20)
#define BLOCKS 3000

struct space {
    uint8_t *memory;
    _Atomic uint64_t *generation;
    struct arena *arena;
};

static int setup(void **state)
{
    struct err err = {0};
    struct space *space = calloc(1, sizeof(*space));
    space->memory = shm_map(SIZE + 4096, &err);
    if (!space->memory)
        return -1;
    space->generation = (_Atomic uint64_t *)(void *)(space->memory + SIZE);
    atomic_store(space->generation, 1);
    space->arena = arena_create(space->memory, SIZE, space->generation);
    *state = space;
    return space->arena ? 0 : -1;
}

static int teardown(void **state)
{
    struct space *space = *state;
    shm_unmap(space->memory, SIZE + 4096);
    free(space);
    return 0;
}

struct block {
    uint8_t *data;
    size_t size;
    uint8_t fill;
};

static void block_check(const struct block *block)
{
    for (size_t i = 0; i < block->size; i += i < 64 ? 1 : 61)
        assert_int_equal(block->data[i], block->fill);
    assert_int_equal(block->data[block->size - 1], block->fill);
}

static size_t random_size(unsigned *seed)
{
    unsigned kind = (unsigned)rand_r(seed) % 20;
    size_t limit = kind < 12 ? 300 : kind < 17 ? 20000 : kind < 19 ? 200000 : 1500000;
    return 1 + (size_t)rand_r(seed) % limit;
}

static bool block_take(const struct space *space, struct block *block, unsigned *seed)
{
    block->size = random_size(seed);
    block->fill = (uint8_t)rand_r(seed);
    block->data = arena_alloc(space->arena, block->size);
    if (!block->data)
        return false;
    assert_int_equal((uintptr_t)block->data % 16, 0);
    assert_true(block->data >= space->memory && block->data + block->size <= space->memory + SIZE);
    memset(block->data, block->fill, block->size);
    return true;
}

static void block_give(const struct space *space, struct block *block)
{
    block_check(block);
    arena_free(space->arena, block->data);
    block->data = NULL;
}

/* Takes and gives at random, then gives all. */
static unsigned churn(const struct space *space, unsigned seed, unsigned steps)
{
    static struct block blocks[BLOCKS];
    unsigned refused = 0;
    memset(blocks, 0, sizeof(blocks));
    for (unsigned i = 0; i < steps; i++) {
        struct block *block = &blocks[(unsigned)rand_r(&seed) % BLOCKS];
        if (block->data)
            block_give(space, block);
        else if (!block_take(space, block, &seed))
            refused++;
    }
    for (unsigned i = 0; i < BLOCKS; i++)
        if (blocks[i].data)
            block_give(space, &blocks[i]);
    return refused;
}

static void contents_stay_whatever_comes_and_goes(void **state)
{
    struct space *space = *state;
    for (unsigned seed = 1; seed <= 4; seed++)
        churn(space, seed, 20000);
    /* What is left are a few empty pages that the classes keep. */
    assert_true(arena_used(space->arena) <= 16u * 3 * 65536);
}

static size_t largest_block(const struct space *space)
{
    for (size_t size = 32u << 20; size >= 65536; size /= 2) {
        void *block = arena_alloc(space->arena, size);
        arena_free(space->arena, block);
        if (block)
            return size;
    }
    return 0;
}

static void all_of_it_can_be_had_again(void **state)
{
    struct space *space = *state;
    static void *blocks[SIZE / 65536];
    size_t largest = largest_block(space);
    unsigned first = 0;
    assert_true(largest >= SIZE / 4);
    for (unsigned round = 0; round < 3; round++) {
        unsigned count = 0;
        while (count < SIZE / 65536 && (blocks[count] = arena_alloc(space->arena, 65536)) != NULL)
            count++;
        assert_null(arena_alloc(space->arena, 65536));
        assert_null(arena_alloc(space->arena, 32));
        assert_int_equal(arena_used(space->arena), arena_size(space->arena));
        first = round ? first : count;
        assert_int_equal(count, first);
        for (unsigned i = 0; i < count; i += 2) /* odd ones last: nothing merges until then */
            arena_free(space->arena, blocks[i]);
        assert_int_equal(largest_block(space), 65536);
        for (unsigned i = 1; i < count; i += 2)
            arena_free(space->arena, blocks[i]);
        assert_int_equal(arena_used(space->arena), 0);
        assert_int_equal(largest_block(space), largest);
    }
}

static void sizes_beyond_all_are_refused(void **state)
{
    struct space *space = *state;
    assert_null(arena_alloc(space->arena, SIZE));
    assert_null(arena_alloc(space->arena, SIZE_MAX));
    assert_null(arena_alloc(space->arena, (size_t)4 << 30));
    void *smallest = arena_alloc(space->arena, 0);
    assert_non_null(smallest);
    arena_free(space->arena, smallest);
    arena_free(space->arena, NULL);
}

static void a_memory_too_small_is_refused(void **state)
{
    struct space *space = *state;
    assert_null(arena_create(space->memory, 65536, space->generation));
    assert_non_null(arena_create(space->memory, 2u << 20, space->generation));
}

static void two_processes_share_it(void **state)
{
    struct space *space = *state;
    pid_t children[2];
    for (unsigned i = 0; i < 2; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            churn(space, 100 + i, 15000);
            _exit(0);
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        int status = 0;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    assert_true(arena_used(space->arena) <= 16u * 3 * 65536);
}

static void a_new_generation_ends_all_of_it(void **state)
{
    struct space *space = *state;
    void *block = arena_alloc(space->arena, 100);
    assert_non_null(block);
    atomic_fetch_add(space->generation, 1);
    assert_null(arena_alloc(space->arena, 100));
    arena_free(space->arena, block); /* no effect, and returns */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(contents_stay_whatever_comes_and_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(all_of_it_can_be_had_again, setup, teardown),
        cmocka_unit_test_setup_teardown(sizes_beyond_all_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_memory_too_small_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(two_processes_share_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_generation_ends_all_of_it, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
