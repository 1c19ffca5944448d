/* Many files that a recovery touched are synced together, and in time. */
#include "unit/store/stored.h"

#include <signal.h>

#include "store/queue_db.h"
#include "store/recovery_sync.h"

#define FILES (RECOVERY_SYNC_SINGLE + 100)

static unsigned single, together, early;
static bool unsynced, failing;

static bool is_log(int fd)
{
    char link[64], path[256];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof(path) - 1);
    assert_true(size > 0);
    path[size] = '\0';
    return strstr(path, "/log.") != NULL;
}

static int counting_fdatasync(int fd)
{
    single += !is_log(fd);
    return fdatasync(fd);
}

static int counting_syncfs(int fd)
{
    if (failing) {
        errno = EIO;
        return -1;
    }
    together++;
    unsynced = false;
    return syncfs(fd);
}

/* Pages that are written late have to be synced before the log goes on. */
static ssize_t watching_pwrite(int fd, const void *data, size_t size, off_t offset)
{
    unsynced = unsynced || single >= RECOVERY_SYNC_SINGLE;
    return pwrite(fd, data, size, offset);
}

static ssize_t watching_write(int fd, const void *data, size_t size)
{
    early += unsynced && is_log(fd);
    return write(fd, data, size);
}

static _Noreturn void make_files(struct stored *stored)
{
    struct env *env = stored_env(stored, true);
    struct queue_db_cache cache;
    queue_db_cache_init(&cache, env, 10);
    for (uint64_t i = 1; i <= FILES; i++) {
        struct queue_db *db = NULL;
        DB_TXN *txn = NULL;
        if (queue_db_open(&cache, &db, i, true) != 0 || env_begin(env, &txn) != 0 ||
            queue_db_put(db, txn, STR("key"), STR("value")) != 0 ||
            env_commit(txn, ENV_COMMIT_KERNEL) != 0)
            _exit(1);
        queue_db_close(&cache, &db);
    }
    raise(SIGKILL);
    _exit(1);
}

static void crash(struct stored *stored)
{
    int status = 0;
    assert_int_equal(env_close(stored->env), 0);
    stored->env = NULL;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        make_files(stored);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    single = together = early = 0;
    unsynced = failing = false;
    os_calls.fdatasync = counting_fdatasync;
    os_calls.syncfs = counting_syncfs;
    os_calls.pwrite = watching_pwrite;
    os_calls.write = watching_write;
}

static void many_files_are_synced_together(void **state)
{
    struct stored *stored = *state;
    struct queue_db_cache cache;
    struct buf value;
    crash(stored);
    stored->env = stored_env(stored, true);
    assert_in_range(single, 1, RECOVERY_SYNC_SINGLE);
    assert_true(together > 0);
    assert_int_equal(early, 0);
    assert_false(unsynced);
    /* Afterwards every sync is one of its own again. */
    assert_false(recovery_sync_later(0));
    buf_init(&value, 0);
    queue_db_cache_init(&cache, stored->env, 10);
    for (uint64_t i = 1; i <= FILES; i++) {
        struct queue_db *db = NULL;
        assert_int_equal(queue_db_open(&cache, &db, i, false), 0);
        assert_int_equal(queue_db_get(db, NULL, STR("key"), &value), 0);
        queue_db_close(&cache, &db);
    }
    buf_free(&value);
}

static void a_failure_ends_the_recovery(void **state)
{
    struct stored *stored = *state;
    struct err err = {0};
    struct env_options options = {
        .path = stored->path, .regions = stored->regions, .cache_size = 8u << 20, .recover = true};
    crash(stored);
    failing = true;
    assert_null(env_open(&options, &err));
    failing = false;
    stored->env = stored_env(stored, true); /* and the next one finds all that it needs */
    assert_true(together > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(many_files_are_synced_together, stored_setup,
                                        stored_teardown),
        cmocka_unit_test_setup_teardown(a_failure_ends_the_recovery, stored_setup, stored_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
