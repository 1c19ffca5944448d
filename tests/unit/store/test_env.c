/* What survives what. */
#include "unit/store/stored.h"

#include <fcntl.h>
#include <signal.h>

#include "os/proc.h"
#include "store/queue_db.h"
#include "store/space.h"

#define RECORDS 50

static char ballast[4096];

static int put_one(struct env *env, uint32_t number, enum env_commit how, size_t size)
{
    struct queue_db_cache cache;
    struct queue_db *db = NULL;
    DB_TXN *txn = NULL;
    uint8_t key[4], *value = calloc(1, size);
    queue_db_cache_init(&cache, env, 1);
    int result = queue_db_open(&cache, &db, 1, true);
    bytes_put_u32(key, number);
    if (!result)
        result = env_begin(env, &txn);
    if (!result && (result = queue_db_put(db, txn, str_of(key, 4), str_of(value, size))) != 0)
        (void)txn->abort(txn);
    else if (!result)
        result = env_commit(txn, how);
    queue_db_cache_close(&cache);
    free(value);
    return result;
}

static unsigned count_records(struct env *env)
{
    struct queue_db_cache cache;
    struct queue_db *db = NULL;
    struct buf value;
    unsigned count = 0;
    buf_init(&value, 0);
    queue_db_cache_init(&cache, env, 1);
    assert_int_equal(queue_db_open(&cache, &db, 1, true), 0);
    for (uint32_t i = 0; i < RECORDS; i++) {
        uint8_t key[4];
        bytes_put_u32(key, i);
        count += queue_db_get(db, NULL, str_of(key, 4), &value) == 0;
    }
    queue_db_cache_close(&cache);
    buf_free(&value);
    return count;
}

/* A process that commits all in one way, perhaps flushes, and dies; how many are there after. */
static unsigned after_a_kill(struct stored *stored, enum env_commit how, bool flush,
                             bool checkpoint)
{
    int status = 0;
    assert_int_equal(env_close(stored->env), 0);
    stored->env = NULL;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct env *env = stored_env(stored, true);
        if (put_one(env, RECORDS, ENV_COMMIT_KERNEL, 4) != 0) /* makes the file */
            _exit(1);
        for (uint32_t i = 0; i < RECORDS; i++)
            if (put_one(env, i, how, 100) != 0)
                _exit(1);
        if (flush && env_flush(env) != 0)
            _exit(1);
        if (checkpoint && env_checkpoint(env, 0, true) != 0)
            _exit(1);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    stored->env = stored_env(stored, true);
    return count_records(stored->env);
}

static void kernel_commits_survive_a_kill(void **state)
{
    assert_int_equal(after_a_kill(*state, ENV_COMMIT_KERNEL, false, false), RECORDS);
}

static void flushed_commits_survive_a_kill(void **state)
{
    assert_int_equal(after_a_kill(*state, ENV_COMMIT_MEMORY, true, false), RECORDS);
}

static void commits_before_a_checkpoint_survive_a_kill(void **state)
{
    assert_int_equal(after_a_kill(*state, ENV_COMMIT_MEMORY, false, true), RECORDS);
}

/* Not a promise, but what the other tests rest on: the log buffer dies with its regions. */
static void unflushed_commits_do_not(void **state)
{
    assert_true(after_a_kill(*state, ENV_COMMIT_MEMORY, false, false) < RECORDS);
}

static int failing_sync(int fd)
{
    (void)fd;
    errno = EIO;
    return -1;
}

static void a_failed_sync_is_reported(void **state)
{
    struct stored *stored = *state;
    assert_int_equal(put_one(stored->env, 0, ENV_COMMIT_MEMORY, 10), 0);
    os_calls.fdatasync = failing_sync;
    assert_int_equal(env_flush(stored->env), EIO);
    os_calls_reset();
    (void)env_close(stored->env); /* given up, as after any failed sync */
    stored->env = stored_env(stored, true);
    assert_int_equal(put_one(stored->env, 1, ENV_COMMIT_MEMORY, 10), 0);
    assert_int_equal(env_flush(stored->env), 0);
}

static ssize_t full_write(int fd, const void *data, size_t size)
{
    (void)fd;
    (void)data;
    (void)size;
    errno = ENOSPC;
    return -1;
}

static void a_full_disk_is_reported_and_passes(void **state)
{
    struct stored *stored = *state;
    assert_int_equal(put_one(stored->env, 0, ENV_COMMIT_KERNEL, 10), 0);
    os_calls.write = full_write;
    assert_int_equal(put_one(stored->env, 1, ENV_COMMIT_KERNEL, 10), ENOSPC);
    assert_int_equal(put_one(stored->env, 2, ENV_COMMIT_MEMORY, 10), 0);
    assert_int_equal(env_flush(stored->env), ENOSPC);
    os_calls_reset();
    assert_int_equal(env_flush(stored->env), 0);
    assert_int_equal(put_one(stored->env, 3, ENV_COMMIT_KERNEL, 10), 0);
    assert_int_equal(count_records(stored->env), 3);
    assert_int_equal(env_close(stored->env), 0);
    stored->env = stored_env(stored, true);
    assert_int_equal(count_records(stored->env), 3);
}

static ssize_t full_but_for_the_reserve(int fd, const void *data, size_t size)
{
    struct stat info;
    if (stat(ballast, &info) != 0 || info.st_size > 0)
        return full_write(fd, data, size);
    return write(fd, data, size);
}

static void the_log_takes_the_reserve_of_a_full_disk(void **state)
{
    struct stored *stored = *state;
    snprintf(ballast, sizeof(ballast), "%s/ballast", stored->env->path);
    assert_true(space_restore(stored->env->path, 1u << 20));
    assert_int_equal(put_one(stored->env, 0, ENV_COMMIT_KERNEL, 10), 0);
    assert_false(env_used_reserve());
    os_calls.write = full_but_for_the_reserve;
    assert_int_equal(put_one(stored->env, 1, ENV_COMMIT_MEMORY, 10), 0);
    assert_int_equal(env_flush(stored->env), 0);
    assert_true(env_used_reserve());
    assert_false(env_used_reserve());
    os_calls_reset();
    assert_int_equal(env_close(stored->env), 0);
    stored->env = stored_env(stored, true);
    assert_int_equal(count_records(stored->env), 2);
}

struct left {
    const char *path;
    unsigned descriptors, mappings;
};

static void count_descriptor(void *context, int fd, const char *target)
{
    struct left *left = context;
    (void)fd;
    left->descriptors += strncmp(target, left->path, strlen(left->path)) == 0;
}

static void count_mapping(void *context, void *start, size_t size, const char *path)
{
    struct left *left = context;
    (void)start;
    (void)size;
    left->mappings += strncmp(path, left->path, strlen(left->path)) == 0;
}

static int let_go(struct stored *stored)
{
    struct left before = {.path = stored->path}, after = before;
    struct queue_db_cache cache;
    struct queue_db *db = NULL;
    struct err err;
    char log[96];
    snprintf(log, sizeof(log), "%s/log/error.log", stored->path);
    int fd = open(log, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    struct env *env = stored_env(stored, true);
    queue_db_cache_init(&cache, env, 1);
    if (fd < 0 || put_one(env, 0, ENV_COMMIT_KERNEL, 10) != 0 ||
        queue_db_open(&cache, &db, 1, true) != 0)
        return 1;
    if (proc_each_descriptor(count_descriptor, &before, &err) != 0 ||
        proc_each_mapping(count_mapping, &before, &err) != 0 || before.mappings == 0 ||
        before.descriptors < 3)
        return 2;
    env_abandon(stored->path, stored->regions);
    if (proc_each_descriptor(count_descriptor, &after, &err) != 0 ||
        proc_each_mapping(count_mapping, &after, &err) != 0 || after.mappings > 0 ||
        after.descriptors != 1 || close(fd) != 0)
        return 3;
    env = stored_env(stored, true);
    if (put_one(env, 1, ENV_COMMIT_KERNEL, 10) != 0 || count_records(env) != 2)
        return 4;
    return env_close(env) == 0 ? 0 : 5;
}

/* In a process of its own, which loses the memory of the handles. */
static void what_is_abandoned_leaves_no_file_and_no_mapping(void **state)
{
    struct stored *stored = *state;
    int status = 0;
    assert_int_equal(env_close(stored->env), 0);
    stored->env = NULL;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(let_go(stored));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void regions_have_their_room(void **state)
{
    struct stored *stored = *state;
    struct err err = {0};
    struct env_options options = {
        .path = stored->path, .regions = stored->regions, .cache_size = 8u << 20};
    assert_true(env_region_bytes(&options) > 8u << 20);
    assert_int_equal(env_reserve_regions(&options, &err), 0);
    options.regions = "/nonexistent";
    assert_int_equal(env_reserve_regions(&options, &err), -1);
    assert_null(env_open(&options, &err));
    assert_true(err.text[0] != 0);
}

/* An error names its own cause, not what nobody asked about an hour ago. */
static void an_error_does_not_repeat_old_words(void **state)
{
    struct stored *stored = *state;
    struct err err = {0};
    DB_TXN *txn = NULL;
    stored->env->db->errx(stored->env->db, "the words of before");
    assert_int_equal(env_begin(stored->env, &txn), 0);
    stored->env->db->errx(stored->env->db, "page 7");
    stored->env->db->errx(stored->env->db, "what follows from it");
    assert_int_equal(env_error(&err, EINVAL, "read"), -1);
    assert_string_equal(err.text, "read: Invalid argument (page 7)");
    assert_int_equal(txn->abort(txn), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(kernel_commits_survive_a_kill, stored_setup,
                                        stored_teardown),
        cmocka_unit_test_setup_teardown(flushed_commits_survive_a_kill, stored_setup,
                                        stored_teardown),
        cmocka_unit_test_setup_teardown(commits_before_a_checkpoint_survive_a_kill, stored_setup,
                                        stored_teardown),
        cmocka_unit_test_setup_teardown(unflushed_commits_do_not, stored_setup, stored_teardown),
        cmocka_unit_test_setup_teardown(a_failed_sync_is_reported, stored_setup, stored_teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_is_reported_and_passes, stored_setup,
                                        stored_teardown),
        cmocka_unit_test_setup_teardown(the_log_takes_the_reserve_of_a_full_disk, stored_setup,
                                        stored_teardown),
        cmocka_unit_test_setup_teardown(what_is_abandoned_leaves_no_file_and_no_mapping,
                                        stored_setup, stored_teardown),
        cmocka_unit_test_setup_teardown(regions_have_their_room, stored_setup, stored_teardown),
        cmocka_unit_test_setup_teardown(an_error_does_not_repeat_old_words, stored_setup,
                                        stored_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
