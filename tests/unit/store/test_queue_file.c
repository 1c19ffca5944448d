/* How queues' files come and go: whole or not at all, and never by a rename of Berkeley DB. */
#include "unit/store/stored.h"

#include <fcntl.h>

#include "store/catalog.h"
#include "store/queue_db.h"
#include "store/queue_file.h"

static unsigned renames;

/* Called by Berkeley DB, too. */
int rename(const char *from, const char *to)
{
    renames++;
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

static unsigned count_files(const struct stored *stored)
{
    char command[128];
    unsigned count = 0;
    snprintf(command, sizeof(command), "ls %s/queues | wc -l", stored->path);
    FILE *in = popen(command, "r");
    assert_non_null(in);
    assert_int_equal(fscanf(in, "%u", &count), 1);
    pclose(in);
    return count;
}

static void put_one(struct stored *stored, struct queue_db *db, struct str key)
{
    DB_TXN *txn = NULL;
    assert_int_equal(env_begin(stored->env, &txn), 0);
    assert_int_equal(queue_db_put(db, txn, key, STR("value")), 0);
    assert_int_equal(env_commit(txn, ENV_COMMIT_KERNEL), 0);
}

static int failing_sync(int fd)
{
    (void)fd;
    errno = EIO;
    return -1;
}

static void files_come_and_go_without_a_rename(void **state)
{
    struct stored *stored = *state;
    struct queue_db_cache cache;
    struct queue_db *db[3] = {NULL};
    struct buf value;
    struct err err = {0};
    /* This test would see one: other databases are made as Berkeley DB does it. */
    struct catalog *catalog = catalog_open(stored->env, true, &err);
    if (!catalog)
        fail_msg("%s", err.text);
    assert_int_equal(catalog_close(catalog), 0);
    assert_true(renames > 0);
    buf_init(&value, 0);
    renames = 0;
    queue_db_cache_init(&cache, stored->env, 10);
    assert_int_equal(queue_db_open(&cache, &db[0], 1, false), ENOENT);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(queue_db_open(&cache, &db[i], i + 1, true), 0);
    put_one(stored, db[0], STR("a"));
    put_one(stored, db[1], STR("b"));
    /* Each is a file of its own to the cache. */
    assert_int_equal(queue_db_get(db[1], NULL, STR("a"), &value), DB_NOTFOUND);
    assert_int_equal(queue_db_get(db[0], NULL, STR("a"), &value), 0);
    assert_int_equal(queue_db_get(db[2], NULL, STR("b"), &value), DB_NOTFOUND);
    queue_db_cache_close(&cache);
    assert_int_equal(count_files(stored), 3);
    assert_int_equal(queue_file_remove(stored->env, 2), 0);
    assert_int_equal(queue_file_remove(stored->env, 2), 0);
    assert_int_equal(count_files(stored), 2);
    assert_int_equal(renames, 0);
    /* What was made, written and removed is so after a recovery. */
    assert_int_equal(env_flush(stored->env), 0);
    assert_int_equal(env_close(stored->env), 0);
    stored->env = stored_env(stored, true);
    assert_int_equal(count_files(stored), 2);
    queue_db_cache_init(&cache, stored->env, 10);
    assert_int_equal(queue_db_open(&cache, &db[0], 1, false), 0);
    assert_int_equal(queue_db_get(db[0], NULL, STR("a"), &value), 0);
    queue_db_cache_close(&cache);
    buf_free(&value);
}

static void the_second_creation_leaves_the_first(void **state)
{
    struct stored *stored = *state;
    struct queue_db_cache cache;
    struct queue_db *db = NULL;
    struct buf value;
    buf_init(&value, 0);
    queue_db_cache_init(&cache, stored->env, 10);
    assert_int_equal(queue_db_open(&cache, &db, 1, true), 0);
    put_one(stored, db, STR("a"));
    assert_int_equal(queue_file_create(stored->env, 1), 0);
    assert_int_equal(queue_db_get(db, NULL, STR("a"), &value), 0);
    queue_db_cache_close(&cache);
    assert_int_equal(queue_db_open(&cache, &db, 1, true), 0);
    assert_int_equal(queue_db_get(db, NULL, STR("a"), &value), 0);
    queue_db_cache_close(&cache);
    assert_int_equal(count_files(stored), 1);
    buf_free(&value);
}

static unsigned folder_syncs;

static int counting_sync(int fd)
{
    folder_syncs++;
    return fsync(fd);
}

/* What is confirmed must not be in a file that a power failure takes away: who finds one whose
 * maker has not synced the folder yet, or could not, does it himself. */
static void a_file_is_used_when_it_is_on_the_disk(void **state)
{
    struct stored *stored = *state;
    struct queue_db_cache cache;
    struct queue_db *db = NULL;
    queue_db_cache_init(&cache, stored->env, 10);
    os_calls.fsync = failing_sync;
    assert_int_equal(queue_db_open(&cache, &db, 1, true), EIO);
    assert_int_equal(queue_db_open(&cache, &db, 1, true), EIO);
    assert_null(db);
    os_calls.fsync = counting_sync;
    assert_int_equal(queue_db_open(&cache, &db, 1, true), 0);
    assert_int_equal(folder_syncs, 1);
    queue_db_cache_close(&cache);
    /* A recovery does it once and for all. */
    assert_int_equal(env_close(stored->env), 0);
    folder_syncs = 0;
    stored->env = stored_env(stored, true);
    assert_int_equal(folder_syncs, 1);
    queue_db_cache_init(&cache, stored->env, 10);
    assert_int_equal(queue_db_open(&cache, &db, 1, true), 0);
    assert_int_equal(folder_syncs, 1);
    queue_db_cache_close(&cache);
    assert_int_equal(count_files(stored), 1);
}

static void nothing_half_done_stays(void **state)
{
    struct stored *stored = *state;
    struct queue_db_cache cache;
    struct queue_db *db = NULL;
    char path[128];
    os_calls.fdatasync = failing_sync;
    queue_db_cache_init(&cache, stored->env, 10);
    assert_int_equal(queue_db_open(&cache, &db, 1, true), EIO);
    assert_null(db);
    os_calls_reset();
    assert_int_equal(count_files(stored), 0);
    /* What a process left that died in between. */
    snprintf(path, sizeof(path), "%s/queues/1.db.12345.0.new", stored->path);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(env_close(stored->env), 0);
    stored->env = stored_env(stored, true);
    assert_int_equal(count_files(stored), 0);
    queue_db_cache_init(&cache, stored->env, 10);
    assert_int_equal(queue_db_open(&cache, &db, 1, true), 0);
    put_one(stored, db, STR("a"));
    queue_db_cache_close(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(files_come_and_go_without_a_rename, stored_setup,
                                        stored_teardown),
        cmocka_unit_test_setup_teardown(the_second_creation_leaves_the_first, stored_setup,
                                        stored_teardown),
        cmocka_unit_test_setup_teardown(a_file_is_used_when_it_is_on_the_disk, stored_setup,
                                        stored_teardown),
        cmocka_unit_test_setup_teardown(nothing_half_done_stays, stored_setup, stored_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
