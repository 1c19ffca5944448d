#include "unit/store/stored.h"

#include "store/chunks.h"

struct opened {
    struct queue_db_cache cache;
    struct queue_db *queue;
};

static void open_queue(struct opened *opened, struct stored *stored)
{
    opened->queue = NULL;
    queue_db_cache_init(&opened->cache, stored->env, 4);
    assert_int_equal(queue_db_open(&opened->cache, &opened->queue, 1, true), 0);
}

static struct uuid id_of(uint8_t number)
{
    struct uuid id;
    memset(id.bytes, number, UUID_SIZE);
    return id;
}

static uint8_t *pattern(size_t size)
{
    uint8_t *data = malloc(size + 1);
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(i * 7 + (i >> 8) * 13 + (i >> 16));
    return data;
}

static void put_whole(struct opened *opened, struct stored *stored, const struct uuid *id,
                      struct str data)
{
    uint32_t chunk = 0, before = UINT32_MAX;
    while (chunk != before) {
        DB_TXN *txn = NULL;
        before = chunk;
        assert_int_equal(env_begin(stored->env, &txn), 0);
        assert_int_equal(chunks_put(opened->queue, txn, id, data, &chunk, CHUNKS_STEP_COUNT), 0);
        assert_true(chunk - before <= CHUNKS_STEP_COUNT);
        assert_int_equal(env_commit(txn, ENV_COMMIT_MEMORY), 0);
    }
    assert_int_equal(chunk, chunks_for(data.size));
}

static void what_is_put_is_read(void **state)
{
    static const size_t sizes[] = {1,
                                   4097,
                                   CHUNKS_SIZE - 1,
                                   CHUNKS_SIZE,
                                   CHUNKS_SIZE + 1,
                                   CHUNKS_STEP,
                                   CHUNKS_STEP_COUNT * CHUNKS_SIZE,
                                   CHUNKS_STEP_COUNT * CHUNKS_SIZE + 1,
                                   20u << 20};
    struct stored *stored = *state;
    struct opened opened;
    open_queue(&opened, stored);
    for (uint8_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct uuid id = id_of(i), next = id_of((uint8_t)(i + 1));
        uint8_t *data = pattern(sizes[i]), *back = malloc(sizes[i] + 1);
        uint32_t count = chunks_for(sizes[i]);
        bool found = false;
        put_whole(&opened, stored, &id, str_of(data, sizes[i]));
        put_whole(&opened, stored, &next, STR("neighbour"));
        assert_int_equal(chunks_exists(opened.queue, NULL, &id, &found), 0);
        assert_true(found);
        assert_int_equal(chunks_read(opened.queue, &id, count, back, sizes[i]), 0);
        assert_memory_equal(back, data, sizes[i]);
        /* Anything but exactly what is there is nothing. */
        assert_int_equal(chunks_read(opened.queue, &id, count, back, sizes[i] - 1), DB_NOTFOUND);
        assert_int_equal(chunks_read(opened.queue, &id, count, back, sizes[i] + 1), DB_NOTFOUND);
        assert_int_equal(chunks_read(opened.queue, &id, count + 1, back, sizes[i]), DB_NOTFOUND);
        free(back);
        free(data);
    }
    queue_db_cache_close(&opened.cache);
}

static void deletion_goes_in_steps_and_spares_the_neighbours(void **state)
{
    struct stored *stored = *state;
    struct opened opened;
    struct uuid before = id_of(1), id = id_of(2), after = id_of(3);
    uint8_t *data = pattern(3 * CHUNKS_STEP), back[16];
    uint32_t steps = 0, sum = 0;
    bool done = false, found = true;
    open_queue(&opened, stored);
    put_whole(&opened, stored, &before, STR("before"));
    put_whole(&opened, stored, &after, STR("after"));
    put_whole(&opened, stored, &id, str_of(data, 3 * CHUNKS_STEP));
    for (; !done; steps++) {
        DB_TXN *txn = NULL;
        uint32_t count = 0;
        assert_int_equal(env_begin(stored->env, &txn), 0);
        assert_int_equal(chunks_delete(opened.queue, txn, &id, CHUNKS_STEP_COUNT, &count, &done),
                         0);
        assert_true(count <= CHUNKS_STEP_COUNT);
        sum += count;
        assert_int_equal(env_commit(txn, ENV_COMMIT_MEMORY), 0);
    }
    assert_int_equal(sum, chunks_for(3 * CHUNKS_STEP));
    assert_true(steps >= 4);
    assert_int_equal(chunks_exists(opened.queue, NULL, &id, &found), 0);
    assert_false(found);
    assert_int_equal(chunks_read(opened.queue, &before, 1, back, 6), 0);
    assert_int_equal(chunks_read(opened.queue, &after, 1, back, 5), 0);
    assert_memory_equal(back, "after", 5);
    free(data);
    queue_db_cache_close(&opened.cache);
}

static void markers_are_found_in_order(void **state)
{
    struct stored *stored = *state;
    struct opened opened;
    struct record_marker marker = {.work = 5, .epoch = 7, .slot = 64, .thread = 1}, found;
    struct uuid position = {{0}};
    uint8_t key[RECORD_MARKER_KEY_SIZE];
    open_queue(&opened, stored);
    assert_int_equal(chunks_next_marker(opened.queue, &position), DB_NOTFOUND);
    for (uint8_t i = 2; i < 5; i++) {
        struct uuid id = id_of(i);
        marker.work = i;
        assert_int_equal(chunks_mark(opened.queue, NULL, &id, &marker), 0);
    }
    put_whole(&opened, stored, &position, STR("a chunk"));
    for (uint8_t i = 2; i < 5; i++) {
        struct uuid id = id_of(i);
        assert_int_equal(chunks_next_marker(opened.queue, &position), 0);
        assert_true(uuid_equal(&position, &id));
        assert_int_equal(chunks_marker(opened.queue, NULL, &id, &found), 0);
        assert_int_equal(found.work, i);
        assert_int_equal(found.epoch, 7);
        assert_int_equal(found.slot, 64);
        assert_int_equal(found.thread, 1);
        assert_int_equal(chunks_unmark(opened.queue, NULL, &id), 0);
        assert_int_equal(chunks_unmark(opened.queue, NULL, &id), 0);
        assert_int_equal(chunks_marker(opened.queue, NULL, &id, &found), DB_NOTFOUND);
    }
    assert_int_equal(chunks_next_marker(opened.queue, &position), DB_NOTFOUND);
    /* A damaged one is nobody's. */
    record_marker_key(key, &position);
    assert_int_equal(queue_db_put(opened.queue, NULL, str_of(key, sizeof(key)),
                                  STR("much longer than any marker is")),
                     0);
    assert_int_equal(chunks_marker(opened.queue, NULL, &position, &found), 0);
    assert_int_equal(found.epoch, 0);
    queue_db_cache_close(&opened.cache);
}

/* A chunk fills its pages to the last byte: one byte more would cost a page. */
static void chunks_fill_their_pages(void **state)
{
    struct stored *stored = *state;
    struct opened opened;
    enum { COUNT = 100 };
    uint8_t *data = pattern(COUNT * CHUNKS_SIZE);
    struct uuid id = id_of(9);
    DB_BTREE_STAT *stat = NULL;
    open_queue(&opened, stored);
    put_whole(&opened, stored, &id, str_of(data, COUNT * CHUNKS_SIZE));
    assert_int_equal(opened.queue->db->stat(opened.queue->db, NULL, &stat, 0), 0);
    assert_int_equal(stat->bt_over_pg, 4 * COUNT);
    assert_true(stat->bt_leaf_pg < 4);
    free(stat);
    free(data);
    queue_db_cache_close(&opened.cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_put_is_read, stored_setup, stored_teardown),
        cmocka_unit_test_setup_teardown(deletion_goes_in_steps_and_spares_the_neighbours,
                                        stored_setup, stored_teardown),
        cmocka_unit_test_setup_teardown(markers_are_found_in_order, stored_setup, stored_teardown),
        cmocka_unit_test_setup_teardown(chunks_fill_their_pages, stored_setup, stored_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
