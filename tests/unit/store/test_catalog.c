#include "unit/store/stored.h"

#include "store/catalog.h"

struct seen {
    char names[10][300];
    uint64_t ids[10], timeouts[10], dead[10];
    unsigned count, dead_count;
};

static int see_queue(void *context, const struct catalog_queue *queue, struct err *err)
{
    struct seen *seen = context;
    (void)err;
    memcpy(seen->names[seen->count], queue->name.data, queue->name.size);
    seen->timeouts[seen->count] = queue->visibility_timeout_ms;
    seen->ids[seen->count++] = queue->id;
    return 0;
}

static int see_dead(void *context, uint64_t id, struct err *err)
{
    struct seen *seen = context;
    (void)err;
    seen->dead[seen->dead_count++] = id;
    return 0;
}

static struct catalog *open_catalog(struct stored *stored)
{
    struct err err = {0};
    struct catalog *catalog = catalog_open(stored->env, true, &err);
    if (!catalog)
        fail_msg("%s", err.text);
    return catalog;
}

static uint64_t put_queue(struct stored *stored, struct catalog *catalog, struct str name,
                          uint64_t timeout_ms)
{
    DB_TXN *txn = NULL;
    struct catalog_queue queue = {.name = name, .visibility_timeout_ms = timeout_ms};
    assert_int_equal(env_begin(stored->env, &txn), 0);
    assert_int_equal(catalog_put_queue(catalog, txn, &queue), 0);
    assert_int_equal(env_commit(txn, ENV_COMMIT_MEMORY), 0);
    return queue.id;
}

static void look(struct catalog *catalog, struct seen *seen)
{
    struct err err = {0};
    memset(seen, 0, sizeof(*seen));
    assert_int_equal(catalog_each_queue(catalog, see_queue, seen, &err), 0);
    assert_int_equal(catalog_each_dead(catalog, see_dead, seen, &err), 0);
}

static void queues_come_and_go_and_ids_stay_unique(void **state)
{
    struct stored *stored = *state;
    struct catalog *catalog = open_catalog(stored);
    static struct seen seen;
    char longest[260];
    DB_TXN *txn = NULL;
    memset(longest, 'z', sizeof(longest));
    look(catalog, &seen);
    assert_int_equal(seen.count + seen.dead_count, 0);
    uint64_t b = put_queue(stored, catalog, STR("b"), 30000);
    uint64_t a = put_queue(stored, catalog, STR("a"), 60000);
    uint64_t z = put_queue(stored, catalog, str_of(longest, 259), 1);
    assert_true(b && a > b && z > a);
    assert_int_equal(env_begin(stored->env, &txn), 0);
    assert_int_equal(catalog_delete_queue(catalog, txn, STR("b"), b, 1), 0);
    assert_int_equal(env_commit(txn, ENV_COMMIT_MEMORY), 0);
    assert_true(put_queue(stored, catalog, STR("b"), 5) > z);
    assert_int_equal(env_begin(stored->env, &txn), 0);
    assert_int_equal(catalog_delete_queue(catalog, txn, STR("none"), 50, 1), DB_NOTFOUND);
    assert_int_equal(txn->abort(txn), 0);
    assert_int_equal(catalog_close(catalog), 0);
    catalog = open_catalog(stored);
    look(catalog, &seen);
    assert_int_equal(seen.count, 3);
    assert_string_equal(seen.names[0], "a");
    assert_string_equal(seen.names[1], "b");
    assert_int_equal(strlen(seen.names[2]), 259);
    assert_int_equal(seen.timeouts[0], 60000);
    assert_int_equal(seen.timeouts[1], 5);
    assert_int_equal(seen.dead_count, 1);
    assert_int_equal(seen.dead[0], b);
    assert_int_equal(env_begin(stored->env, &txn), 0);
    assert_int_equal(catalog_forget_dead(catalog, txn, b), 0);
    assert_int_equal(env_commit(txn, ENV_COMMIT_MEMORY), 0);
    look(catalog, &seen);
    assert_int_equal(seen.dead_count, 0);
    assert_int_equal(catalog_close(catalog), 0);
    assert_int_equal(catalog_close(NULL), 0);
}

static void the_epoch_rises_for_ever(void **state)
{
    struct stored *stored = *state;
    struct err err = {0};
    uint32_t epoch = 0;
    for (uint32_t i = 1; i <= 5; i++) {
        struct catalog *catalog = open_catalog(stored);
        assert_int_equal(catalog_raise_epoch(catalog, &epoch, &err), 0);
        assert_int_equal(epoch, i);
        assert_int_equal(catalog_close(catalog), 0);
        assert_int_equal(env_close(stored->env), 0);
        stored->env = stored_env(stored, true);
    }
}

static int refuse(void *context, const struct catalog_queue *queue, struct err *err)
{
    (void)queue;
    ++*(unsigned *)context;
    return err_set(err, 7, "enough");
}

static void a_visitor_can_stop_the_walk(void **state)
{
    struct stored *stored = *state;
    struct catalog *catalog = open_catalog(stored);
    struct err err = {0};
    unsigned calls = 0;
    put_queue(stored, catalog, STR("a"), 1);
    put_queue(stored, catalog, STR("b"), 1);
    assert_int_equal(catalog_each_queue(catalog, refuse, &calls, &err), -1);
    assert_int_equal(calls, 1);
    assert_string_equal(err.text, "enough");
    assert_int_equal(catalog_close(catalog), 0);
}

struct listed {
    char text[200];
    unsigned limit;
};

static int list_config(void *context, struct str key, struct str value, struct err *err)
{
    struct listed *listed = context;
    size_t used = strlen(listed->text);
    (void)err;
    snprintf(listed->text + used, sizeof(listed->text) - used, "%.*s=%.*s;", STR_PRINT(key),
             value.size > 5 ? 5 : (int)value.size, (const char *)value.data);
    return --listed->limit ? 0 : 1;
}

static void put_raw(struct stored *stored, struct str key, struct str value)
{
    DB *db = NULL;
    DBT key_dbt = {.data = (void *)(uintptr_t)key.data, .size = (u_int32_t)key.size};
    DBT value_dbt = {.data = (void *)(uintptr_t)value.data, .size = (u_int32_t)value.size};
    assert_int_equal(db_create(&db, stored->env->db, 0), 0);
    assert_int_equal(
        db->open(db, NULL, "catalog.db", NULL, DB_BTREE, DB_AUTO_COMMIT | DB_THREAD, 0600), 0);
    assert_int_equal(db->put(db, NULL, &key_dbt, &value_dbt, 0), 0);
    assert_int_equal(db->close(db, 0), 0);
}

static void damage_is_an_error(void **state)
{
    struct stored *stored = *state;
    struct err err = {0};
    static struct seen seen;
    assert_int_equal(catalog_close(open_catalog(stored)), 0);
    put_raw(stored, STR("Q\0broken"), STR("\xff\xff\xff\xff"));
    put_raw(stored, STR("X\0broken"), STR("\xff\xff\xff\xff"));
    put_raw(stored, STR("C\0broken"), STR("\xff\xff\xff\xff"));
    put_raw(stored, STR("E\0"), STR("\xff\xff\xff\xff"));
    struct catalog *catalog = open_catalog(stored);
    struct listed listed = {.limit = 9};
    uint32_t epoch = 0;
    assert_int_equal(catalog_each_queue(catalog, see_queue, &seen, &err), -1);
    assert_non_null(strstr(err.text, "broken"));
    assert_int_equal(catalog_each_dead(catalog, see_dead, &seen, &err), -1);
    assert_int_equal(catalog_raise_epoch(catalog, &epoch, &err), -1);
    assert_int_equal(catalog_each_config(catalog, STR(""), list_config, &listed, &err), -1);
    assert_non_null(strstr(err.text, "broken"));
    assert_int_equal(catalog_close(catalog), 0);
    put_raw(stored, STR("F\0"), STR("\x08\x63")); /* version 99 */
    assert_null(catalog_open(stored->env, true, &err));
    assert_non_null(strstr(err.text, "99"));
}

/* An epoch that cannot be raised by one was taken for 0. */
static void an_epoch_beyond_all_is_an_error(void **state)
{
    struct stored *stored = *state;
    struct err err = {0};
    uint32_t epoch = 0;
    assert_int_equal(catalog_close(open_catalog(stored)), 0);
    put_raw(stored, STR("E\0"), STR("\x08\xff\xff\xff\xff\x0f"));
    struct catalog *catalog = open_catalog(stored);
    assert_int_equal(catalog_raise_epoch(catalog, &epoch, &err), -1);
    assert_int_equal(catalog_close(catalog), 0);
}

/* The next queue would have got the id, and with it the messages, of an old one. */
static void queues_without_a_catalog_are_refused(void **state)
{
    struct stored *stored = *state;
    struct err err = {0};
    char path[4096];
    snprintf(path, sizeof(path), "%s/queues/1.db", stored->env->path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    assert_null(catalog_open(stored->env, true, &err));
    assert_non_null(strstr(err.text, "catalog.db"));
    assert_non_null(strstr(err.text, path));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(catalog_close(open_catalog(stored)), 0);
}

/* A store of an older version can be read, and must not be by a program of it any more. */
static void raise_format(struct stored *stored, struct str format)
{
    struct err err = {0};
    DB *db = NULL;
    uint8_t bytes[64];
    DBT key = {.data = (void *)"F\0", .size = 2};
    DBT value = {.data = bytes, .ulen = sizeof(bytes), .flags = DB_DBT_USERMEM};
    assert_int_equal(catalog_close(open_catalog(stored)), 0);
    put_raw(stored, STR("F\0"), format);
    put_raw(stored, STR("Q\0old"), STR("\x08\x07\x10\x64\x18\x03"));
    struct catalog *catalog = catalog_open(stored->env, true, &err);
    assert_non_null(catalog);
    struct catalog_queue queue;
    assert_int_equal(catalog_get_queue(catalog, NULL, STR("old"), &queue), 0);
    assert_true(queue.id == 7 && queue.visibility_timeout_ms == 100 && queue.created_ms == 3);
    assert_true(!queue.on_enqueue.size && !queue.on_failure.size && !queue.max_attempts);
    assert_true(!queue.paused && !queue.dead_letter_headers && !queue.version);
    catalog_queue_free(&queue);
    assert_int_equal(catalog_close(catalog), 0);
    assert_int_equal(db_create(&db, stored->env->db, 0), 0);
    assert_int_equal(
        db->open(db, NULL, "catalog.db", NULL, DB_BTREE, DB_AUTO_COMMIT | DB_THREAD, 0600), 0);
    assert_int_equal(db->get(db, NULL, &key, &value, 0), 0);
    assert_int_equal(db->close(db, 0), 0);
    assert_int_equal(value.size, 4);
    assert_memory_equal(bytes, "\x08\x03\x10\x05", 4);
}

static void an_older_format_is_raised(void **state)
{
    raise_format(*state, STR("\x08\x01\x10\x05"));
    raise_format(*state, STR("\x08\x02\x10\x05"));
}

static void settings_of_a_queue_are_kept(void **state)
{
    struct stored *stored = *state;
    struct catalog *catalog = open_catalog(stored);
    static char script[65535];
    DB_TXN *txn = NULL;
    struct catalog_queue queue;
    memset(script, 'x', sizeof(script));
    uint64_t id = put_queue(stored, catalog, STR("q"), 1000);
    assert_int_equal(env_begin(stored->env, &txn), 0);
    assert_int_equal(catalog_get_queue(catalog, txn, STR("q"), &queue), 0);
    queue.on_enqueue = str_of(script, sizeof(script));
    queue.on_failure = str_of(script, sizeof(script) - 1);
    queue.version = 3;
    queue.max_attempts = 4;
    queue.dead_letter_headers = queue.paused = true;
    assert_int_equal(catalog_update_queue(catalog, txn, &queue), 0);
    catalog_queue_free(&queue);
    assert_int_equal(env_commit(txn, ENV_COMMIT_MEMORY), 0);
    assert_int_equal(catalog_close(catalog), 0);
    catalog = open_catalog(stored);
    assert_int_equal(catalog_get_queue(catalog, NULL, STR("q"), &queue), 0);
    assert_true(str_equal(queue.name, STR("q")) && queue.id == id);
    assert_true(queue.visibility_timeout_ms == 1000);
    assert_true(str_equal(queue.on_enqueue, str_of(script, sizeof(script))));
    assert_int_equal(queue.on_failure.size, sizeof(script) - 1);
    assert_true(queue.version == 3 && queue.max_attempts == 4);
    assert_true(queue.dead_letter_headers && queue.paused);
    catalog_queue_free(&queue);
    assert_int_equal(catalog_get_queue(catalog, NULL, STR("p"), &queue), DB_NOTFOUND);
    assert_int_equal(catalog_close(catalog), 0);
}

static const char *config_of(struct catalog *catalog, struct str prefix, unsigned limit)
{
    static struct listed listed;
    struct err err = {0};
    listed = (struct listed){.limit = limit};
    assert_true(catalog_each_config(catalog, prefix, list_config, &listed, &err) >= 0);
    return listed.text;
}

static void runtime_configuration_comes_and_goes(void **state)
{
    struct stored *stored = *state;
    struct catalog *catalog = open_catalog(stored);
    static char large[65535], longest[CATALOG_CONFIG_KEY_MAX + 1];
    struct str longest_key = str_of(longest, CATALOG_CONFIG_KEY_MAX);
    struct buf value;
    DB_TXN *txn = NULL;
    memset(large, 'v', sizeof(large));
    memset(longest, 'z', sizeof(longest));
    buf_init(&value, 0);
    put_queue(stored, catalog, STR("a.b"), 1); /* another kind of record */
    assert_int_equal(env_begin(stored->env, &txn), 0);
    assert_int_equal(catalog_put_config(catalog, txn, STR("a.c"), STR("3")), 0);
    assert_int_equal(catalog_put_config(catalog, txn, STR("a.b"), STR("2")), 0);
    assert_int_equal(catalog_put_config(catalog, txn, STR("b"), STR("4")), 0);
    assert_int_equal(catalog_put_config(catalog, txn, STR("a"), STR("0")), 0);
    assert_int_equal(catalog_put_config(catalog, txn, STR("a"), STR("1")), 0);
    assert_int_equal(catalog_put_config(catalog, txn, longest_key, str_of(large, sizeof(large))),
                     0);
    assert_int_equal(catalog_put_config(catalog, txn, STR(""), STR("1")), EINVAL);
    assert_int_equal(catalog_put_config(catalog, txn, str_of(longest, sizeof(longest)), STR("1")),
                     EINVAL);
    assert_int_equal(env_commit(txn, ENV_COMMIT_MEMORY), 0);
    assert_string_equal(config_of(catalog, STR("a"), 99), "a=1;a.b=2;a.c=3;");
    assert_string_equal(config_of(catalog, STR("a."), 99), "a.b=2;a.c=3;");
    assert_string_equal(config_of(catalog, STR("a."), 1), "a.b=2;");
    assert_string_equal(config_of(catalog, STR("c"), 99), "");
    assert_int_equal(strlen(config_of(catalog, STR(""), 4)), strlen("a=1;a.b=2;a.c=3;b=4;"));
    assert_int_equal(catalog_get_config(catalog, NULL, longest_key, &value), 0);
    assert_true(str_equal(buf_str(&value), str_of(large, sizeof(large))));
    assert_int_equal(env_begin(stored->env, &txn), 0);
    assert_int_equal(catalog_delete_config(catalog, txn, STR("a.b")), 0);
    assert_int_equal(catalog_delete_config(catalog, txn, STR("a.b")), DB_NOTFOUND);
    assert_int_equal(catalog_delete_config(catalog, txn, STR("")), DB_NOTFOUND);
    assert_int_equal(env_commit(txn, ENV_COMMIT_MEMORY), 0);
    assert_int_equal(catalog_get_config(catalog, NULL, STR("a.b"), &value), DB_NOTFOUND);
    assert_int_equal(value.size, 0);
    assert_int_equal(catalog_get_config(catalog, NULL, STR("a.c"), &value), 0);
    assert_true(str_equal(buf_str(&value), STR("3")));
    buf_free(&value);
    assert_int_equal(catalog_close(catalog), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(queues_come_and_go_and_ids_stay_unique, stored_setup,
                                        stored_teardown),
        cmocka_unit_test_setup_teardown(the_epoch_rises_for_ever, stored_setup, stored_teardown),
        cmocka_unit_test_setup_teardown(a_visitor_can_stop_the_walk, stored_setup, stored_teardown),
        cmocka_unit_test_setup_teardown(damage_is_an_error, stored_setup, stored_teardown),
        cmocka_unit_test_setup_teardown(queues_without_a_catalog_are_refused, stored_setup,
                                        stored_teardown),
        cmocka_unit_test_setup_teardown(an_epoch_beyond_all_is_an_error, stored_setup,
                                        stored_teardown),
        cmocka_unit_test_setup_teardown(an_older_format_is_raised, stored_setup, stored_teardown),
        cmocka_unit_test_setup_teardown(settings_of_a_queue_are_kept, stored_setup,
                                        stored_teardown),
        cmocka_unit_test_setup_teardown(runtime_configuration_comes_and_goes, stored_setup,
                                        stored_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
