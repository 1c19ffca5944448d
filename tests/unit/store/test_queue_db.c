#include "unit/store/stored.h"

#include "store/queue_db.h"
#include "store/queue_file.h"

static void put_record(struct stored *stored, struct queue_db *db, struct str key, struct str value)
{
    DB_TXN *txn = NULL;
    assert_int_equal(env_begin(stored->env, &txn), 0);
    assert_int_equal(queue_db_put(db, txn, key, value), 0);
    assert_int_equal(env_commit(txn, ENV_COMMIT_MEMORY), 0);
}

static void put(struct stored *stored, struct queue_db *db, uint64_t seq, size_t size)
{
    uint8_t key[RECORD_MESSAGE_KEY_SIZE], *value = malloc(size);
    memset(value, (int)(seq & 0xff), size);
    record_message_key(key, 1, seq);
    put_record(stored, db, str_of(key, sizeof(key)), str_of(value, size));
    free(value);
}

static void check_value(struct str value, uint64_t seq, size_t size)
{
    assert_int_equal(value.size, size);
    assert_int_equal(value.data[0], seq & 0xff);
    assert_int_equal(value.data[size - 1], seq & 0xff);
}

static void handles_close_least_recently_used_first(void **state)
{
    struct stored *stored = *state;
    struct queue_db_cache cache;
    struct queue_db *slots[6] = {NULL};
    queue_db_cache_init(&cache, stored->env, 3);
    assert_int_equal(queue_db_open(&cache, &slots[0], 99, false), ENOENT);
    assert_null(slots[0]);
    for (uint64_t i = 0; i < 6; i++)
        assert_int_equal(queue_db_open(&cache, &slots[i], i + 1, true), 0);
    assert_int_equal(cache.count, 6); /* trimmed only when asked: cursors may be open */
    assert_int_equal(queue_db_open(&cache, &slots[0], 1, true), 0);
    queue_db_trim(&cache);
    assert_int_equal(cache.count, 3);
    assert_true(slots[0] && slots[4] && slots[5]);
    assert_true(!slots[1] && !slots[2] && !slots[3]);
    queue_db_close(&cache, &slots[1]);
    queue_db_close(&cache, &slots[0]);
    assert_int_equal(cache.count, 2);
    queue_db_cache_close(&cache);
    assert_true(!slots[4] && !slots[5]);
}

static const size_t sizes[] = {10, 4000, 40, 70000, 5u << 20, 100, 64u << 10, 1u << 20, 1};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static void reads_of_any_buffer_give_all(void **state)
{
    struct stored *stored = *state;
    struct queue_db_cache cache;
    struct queue_db *db = NULL;
    struct queue_db_bulk bulk;
    struct str key, value;
    DBC *cursor = NULL;
    queue_db_cache_init(&cache, stored->env, 1);
    assert_int_equal(queue_db_open(&cache, &db, 1, true), 0);
    for (uint64_t i = 0; i < SIZES * 20; i++)
        put(stored, db, i, i < SIZES * 2 ? sizes[i % SIZES] : 300);
    queue_db_bulk_init(&bulk);
    static const size_t wanted[] = {0, 1, 70000, 1u << 20, 16u << 20};
    for (unsigned i = 0; i < 5; i++) {
        uint64_t next = 0;
        uint8_t from[RECORD_MESSAGE_KEY_SIZE];
        int result = 0;
        assert_int_equal(queue_db_cursor(db, &cursor), 0);
        while (!result) {
            record_message_key(from, 1, next);
            result = queue_db_bulk_read(cursor, &bulk, str_of(from, sizeof(from)), wanted[i]);
            uint64_t before = next;
            while (!result && queue_db_bulk_next(&bulk, &key, &value)) {
                assert_int_equal(bytes_get_u64(key.data + 9), next);
                check_value(value, next, next < SIZES * 2 ? sizes[next % SIZES] : 300);
                next++;
            }
            assert_true(result || next > before);
        }
        assert_int_equal(result, DB_NOTFOUND);
        assert_int_equal(next, SIZES * 20);
        queue_db_cursor_close(cursor);
    }
    queue_db_bulk_free(&bulk);
    queue_db_cache_close(&cache);
}

/* The key comes first in a read, so no buffer is large enough. */
static void a_key_that_is_too_long_is_damage(void **state)
{
    struct stored *stored = *state;
    struct queue_db_cache cache;
    struct queue_db *db = NULL;
    struct queue_db_bulk bulk;
    DBC *cursor = NULL;
    uint8_t from[RECORD_MESSAGE_KEY_SIZE], long_key[5000] = {0};
    queue_db_cache_init(&cache, stored->env, 1);
    assert_int_equal(queue_db_open(&cache, &db, 1, true), 0);
    record_message_key(long_key, 1, 7);
    put_record(stored, db, str_of(long_key, sizeof(long_key)), STR("value"));
    queue_db_bulk_init(&bulk);
    assert_int_equal(queue_db_cursor(db, &cursor), 0);
    record_message_key(from, 1, 0);
    assert_int_equal(queue_db_bulk_read(cursor, &bulk, str_of(from, sizeof(from)), 0), EINVAL);
    assert_true(bulk.size <= 128u << 10);
    queue_db_cursor_close(cursor);
    queue_db_bulk_free(&bulk);
    queue_db_cache_close(&cache);
}

static void single_reads_find_the_next_key(void **state)
{
    struct stored *stored = *state;
    struct queue_db_cache cache;
    struct queue_db *db = NULL;
    struct buf value;
    DBC *cursor = NULL;
    uint8_t from[RECORD_MESSAGE_KEY_SIZE], key[RECORD_KEY_MAX];
    size_t key_size = 0;
    buf_init(&value, 0);
    queue_db_cache_init(&cache, stored->env, 1);
    assert_int_equal(queue_db_open(&cache, &db, 1, true), 0);
    for (uint64_t i = 0; i < SIZES; i++)
        put(stored, db, i * 10, sizes[i]);
    assert_int_equal(queue_db_cursor(db, &cursor), 0);
    for (uint64_t i = 0; i < SIZES; i++) {
        record_message_key(from, 1, i ? i * 10 - 9 : 0);
        assert_int_equal(
            queue_db_read_first(cursor, str_of(from, sizeof(from)), key, &key_size, &value), 0);
        assert_int_equal(key_size, sizeof(from));
        assert_int_equal(bytes_get_u64(key + 9), i * 10);
        check_value(buf_str(&value), i * 10, sizes[i]);
        assert_int_equal(queue_db_seek(cursor, str_of(from, sizeof(from)), from), 0);
        assert_int_equal(bytes_get_u64(from + 9), i * 10);
        assert_int_equal(queue_db_get(db, NULL, str_of(from, sizeof(from)), &value), 0);
        check_value(buf_str(&value), i * 10, sizes[i]);
    }
    record_message_key(from, 1, 1000);
    assert_int_equal(
        queue_db_read_first(cursor, str_of(from, sizeof(from)), key, &key_size, &value),
        DB_NOTFOUND);
    assert_int_equal(queue_db_seek(cursor, str_of(from, sizeof(from)), from), DB_NOTFOUND);
    assert_int_equal(queue_db_get(db, NULL, str_of(from, sizeof(from)), &value), DB_NOTFOUND);
    queue_db_cursor_close(cursor);
    queue_db_cursor_close(NULL);
    queue_db_cache_close(&cache);
    buf_free(&value);
}

static void a_file_in_use_is_not_removed(void **state)
{
    struct stored *stored = *state;
    struct queue_db_cache cache;
    struct queue_db *db = NULL;
    char path[128];
    snprintf(path, sizeof(path), "%s/queues/1.db", stored->path);
    queue_db_cache_init(&cache, stored->env, 1);
    assert_int_equal(queue_file_remove(stored->env, 1), 0); /* there is none */
    assert_int_equal(queue_db_open(&cache, &db, 1, true), 0);
    put(stored, db, 1, 10);
    assert_true(env_is_conflict(queue_file_remove(stored->env, 1)));
    assert_int_equal(access(path, F_OK), 0);
    put(stored, db, 2, 10);
    queue_db_cache_close(&cache);
    assert_int_equal(queue_file_remove(stored->env, 1), 0);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void compacting_ends_and_gives_space_back(void **state)
{
    struct stored *stored = *state;
    struct queue_db_cache cache;
    struct queue_db *db = NULL;
    struct buf position;
    struct stat before, after;
    char path[128];
    bool more = true;
    unsigned steps = 0;
    snprintf(path, sizeof(path), "%s/queues/1.db", stored->path);
    buf_init(&position, 0);
    queue_db_cache_init(&cache, stored->env, 1);
    assert_int_equal(queue_db_open(&cache, &db, 1, true), 0);
    for (uint64_t i = 0; i < 2000; i++)
        put(stored, db, i, 3000);
    assert_int_equal(env_checkpoint(stored->env, 0, true), 0);
    assert_int_equal(stat(path, &before), 0);
    for (uint64_t i = 0; i < 2000; i++) {
        uint8_t key[RECORD_MESSAGE_KEY_SIZE];
        DB_TXN *txn = NULL;
        record_message_key(key, 1, i);
        if (i == 1000)
            continue; /* one stays */
        assert_int_equal(env_begin(stored->env, &txn), 0);
        assert_int_equal(queue_db_delete(db, txn, str_of(key, sizeof(key))), 0);
        assert_int_equal(env_commit(txn, ENV_COMMIT_MEMORY), 0);
    }
    while (more) {
        assert_int_equal(queue_db_compact(db, NULL, 8, &position, &more), 0);
        assert_true(++steps < 2000);
    }
    assert_int_equal(env_checkpoint(stored->env, 0, true), 0);
    assert_int_equal(stat(path, &after), 0);
    assert_true(after.st_size < before.st_size / 4);
    queue_db_cache_close(&cache);
    buf_free(&position);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(handles_close_least_recently_used_first, stored_setup,
                                        stored_teardown),
        cmocka_unit_test_setup_teardown(reads_of_any_buffer_give_all, stored_setup,
                                        stored_teardown),
        cmocka_unit_test_setup_teardown(a_key_that_is_too_long_is_damage, stored_setup,
                                        stored_teardown),
        cmocka_unit_test_setup_teardown(single_reads_find_the_next_key, stored_setup,
                                        stored_teardown),
        cmocka_unit_test_setup_teardown(a_file_in_use_is_not_removed, stored_setup,
                                        stored_teardown),
        cmocka_unit_test_setup_teardown(compacting_ends_and_gives_space_back, stored_setup,
                                        stored_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
