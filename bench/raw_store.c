#include "raw_store.h"

#include <db.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"

#define CACHE_SIZE (256u << 20)
#define LOG_BUFFER_SIZE (8u << 20)
#define LOG_FILE_SIZE (64u << 20) /* Berkeley DB wants at least four log buffers */
#define PAGE_SIZE_BYTES 32768u
#define KEY_SIZE 17
#define RECORD_TAG 'R'

struct raw_store {
    DB_ENV *env;
    DB *db;
    uint8_t value[RAW_STORE_VALUE];
};

static int fail(struct err *err, int code, const char *what)
{
    return err_set(err, code, "%s: %s", what, db_strerror(code));
}

static int configure(DB_ENV *env, const char *data, struct err *err)
{
    int code;
    if ((code = env->set_cachesize(env, 0, CACHE_SIZE, 1)) != 0 ||
        (code = env->set_lg_bsize(env, LOG_BUFFER_SIZE)) != 0 ||
        (code = env->set_lg_max(env, LOG_FILE_SIZE)) != 0 ||
        (code = env->add_data_dir(env, data)) != 0 ||
        (code = env->set_create_dir(env, data)) != 0 || (code = env->set_lg_dir(env, data)) != 0 ||
        (code = env->set_lk_detect(env, DB_LOCK_DEFAULT)) != 0 ||
        (code = env->log_set_config(env, DB_LOG_AUTO_REMOVE, 1)) != 0) {
        return fail(err, code, "configure the Berkeley DB environment");
    }
    return 0;
}

struct raw_store *raw_store_open(const char *data, const char *regions, struct err *err)
{
    const uint32_t flags =
        DB_CREATE | DB_INIT_TXN | DB_INIT_LOCK | DB_INIT_LOG | DB_INIT_MPOOL | DB_THREAD;
    struct raw_store *store = calloc(1, sizeof(*store));
    int code;
    if (store == NULL) {
        err_set(err, 0, "no memory");
        return NULL;
    }
    memset(store->value, 'x', sizeof(store->value));
    if ((code = db_env_create(&store->env, 0)) != 0) {
        store->env = NULL;
        fail(err, code, "create a Berkeley DB environment");
        goto failed;
    }
    if (configure(store->env, data, err) != 0) {
        goto failed;
    }
    if ((code = store->env->open(store->env, regions, flags, 0600)) != 0) {
        fail(err, code, "open the Berkeley DB environment");
        goto failed;
    }
    if ((code = db_create(&store->db, store->env, 0)) != 0) {
        store->db = NULL;
        fail(err, code, "create a database");
        goto failed;
    }
    if ((code = store->db->set_pagesize(store->db, PAGE_SIZE_BYTES)) != 0 ||
        (code = store->db->open(store->db, NULL, "messages.db", NULL, DB_BTREE,
                                DB_CREATE | DB_THREAD | DB_AUTO_COMMIT, 0600)) != 0) {
        fail(err, code, "open messages.db");
        goto failed;
    }
    return store;
failed:
    raw_store_close(store);
    return NULL;
}

void raw_store_close(struct raw_store *store)
{
    if (store == NULL) {
        return;
    }
    if (store->db != NULL) {
        store->db->close(store->db, DB_NOSYNC);
    }
    if (store->env != NULL) {
        store->env->close(store->env, 0);
    }
    free(store);
}

/* The key of a message: a tag, its lane (always 1 here) and its number. */
static void fill_key(uint8_t key[KEY_SIZE], uint64_t number)
{
    key[0] = RECORD_TAG;
    bytes_put_u64(key + 1, 1);
    bytes_put_u64(key + 9, number);
}

static int put_all(struct raw_store *store, DB_TXN *txn, uint64_t first)
{
    uint8_t bytes[KEY_SIZE];
    DBT key = {.data = bytes, .size = KEY_SIZE};
    DBT value = {.data = store->value, .size = sizeof(store->value)};
    for (uint64_t i = 0; i < RAW_STORE_BATCH; i++) {
        fill_key(bytes, first + i);
        bytes_put_u64(store->value, first + i);
        int code = store->db->put(store->db, txn, &key, &value, 0);
        if (code != 0) {
            return code;
        }
    }
    return 0;
}

static int delete_all(struct raw_store *store, DB_TXN *txn, uint64_t first)
{
    uint8_t bytes[KEY_SIZE];
    DBT key = {.data = bytes, .size = KEY_SIZE};
    for (uint64_t i = 0; i < RAW_STORE_BATCH; i++) {
        fill_key(bytes, first + i);
        int code = store->db->del(store->db, txn, &key, 0);
        if (code != 0) {
            return code;
        }
    }
    return 0;
}

static int in_transaction(struct raw_store *store, uint64_t first, const char *what,
                          int (*work)(struct raw_store *, DB_TXN *, uint64_t), struct err *err)
{
    DB_TXN *txn;
    int code = store->env->txn_begin(store->env, NULL, &txn, 0);
    if (code != 0) {
        return fail(err, code, "begin a transaction");
    }
    code = work(store, txn, first);
    if (code != 0) {
        txn->abort(txn);
        return fail(err, code, what);
    }
    code = txn->commit(txn, DB_TXN_NOSYNC);
    return code == 0 ? 0 : fail(err, code, "commit");
}

int raw_store_put(struct raw_store *store, uint64_t first, struct err *err)
{
    return in_transaction(store, first, "put", put_all, err);
}

int raw_store_delete(struct raw_store *store, uint64_t first, struct err *err)
{
    return in_transaction(store, first, "delete", delete_all, err);
}
