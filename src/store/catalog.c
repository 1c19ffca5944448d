#include "store/catalog.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "os/io.h"
#include "os/time.h"
#include "store/catalog.pb-c.h"

#define NAME_MAX_BYTES 259 /* a name of 255 bytes and ".dlq" */
#define KEY_MAX (2 + NAME_MAX_BYTES)
#define VALUE_MAX 512
#define EPOCH_MAX ((1u << 24) - 1)

enum kind {
    KIND_COUNTER = 'N',
    KIND_DEAD = 'X',
    KIND_EPOCH = 'E',
    KIND_FORMAT = 'F',
    KIND_QUEUE = 'Q'
};

struct catalog {
    struct env *env;
    DB *db;
};

struct key {
    uint8_t bytes[KEY_MAX];
    DBT dbt;
};

static void key_set(struct key *key, enum kind kind, struct str name)
{
    size_t size = name.size < NAME_MAX_BYTES ? name.size : NAME_MAX_BYTES;
    key->bytes[0] = (uint8_t)kind;
    key->bytes[1] = 0;
    if (size)
        memcpy(key->bytes + 2, name.data, size);
    memset(&key->dbt, 0, sizeof(key->dbt));
    key->dbt.data = key->bytes;
    key->dbt.size = (u_int32_t)(2 + size);
}

static void dead_key_set(struct key *key, uint64_t id)
{
    char digits[17];
    snprintf(digits, sizeof(digits), "%016" PRIx64, id);
    key_set(key, KIND_DEAD, str_from_c(digits));
}

/* All messages here are of fixed-size fields: they pack into VALUE_MAX. */
static int put(struct catalog *catalog, DB_TXN *txn, struct key *key,
               const ProtobufCMessage *message)
{
    uint8_t bytes[VALUE_MAX];
    DBT value = {.data = bytes, .size = (u_int32_t)protobuf_c_message_pack(message, bytes)};
    return catalog->db->put(catalog->db, txn, &key->dbt, &value, 0);
}

/* *message is NULL when there is no such key; owned by the caller. */
static int get(struct catalog *catalog, DB_TXN *txn, struct key *key,
               const ProtobufCMessageDescriptor *type, ProtobufCMessage **message)
{
    uint8_t bytes[VALUE_MAX];
    DBT value = {.data = bytes, .ulen = sizeof(bytes), .flags = DB_DBT_USERMEM};
    *message = NULL;
    int result = catalog->db->get(catalog->db, txn, &key->dbt, &value, txn ? DB_RMW : 0);
    if (result == DB_NOTFOUND)
        return 0;
    if (result)
        return result;
    *message = protobuf_c_message_unpack(type, NULL, value.size, bytes);
    return *message ? 0 : EINVAL;
}

/* Ids would be handed out again, and new queues find the messages of old ones in their files. */
static int refuse_without_catalog(const struct catalog *catalog, struct err *err)
{
    char path[4096];
    int result = 0;
    if (io_path_join(path, sizeof(path), catalog->env->path, "queues", err) < 0)
        return -1;
    DIR *directory = opendir(path);
    if (!directory)
        return 0; /* the first start */
    for (struct dirent *entry; !result && (entry = readdir(directory));)
        if (str_ends_with(str_from_c(entry->d_name), STR(".db")))
            result = err_set(err, 0,
                             "catalog.db is missing or empty, but %s/%s is there: restore it, or "
                             "move the queues away to start with none",
                             path, entry->d_name);
    closedir(directory);
    return result;
}

static int check_format(struct catalog *catalog, struct err *err)
{
    struct key key;
    ProtobufCMessage *found = NULL;
    Filad__Catalog__CatalogFormat format = FILAD__CATALOG__CATALOG_FORMAT__INIT;
    format.version = CATALOG_VERSION;
    format.created_ms = time_wall_ms();
    key_set(&key, KIND_FORMAT, STR(""));
    int result = get(catalog, NULL, &key, &filad__catalog__catalog_format__descriptor, &found);
    if (result)
        return env_error(err, result, "read the format of catalog.db");
    if (found) {
        uint32_t version = ((Filad__Catalog__CatalogFormat *)found)->version;
        format.created_ms = ((Filad__Catalog__CatalogFormat *)found)->created_ms;
        protobuf_c_message_free_unpacked(found, NULL);
        if (version < 1 || version > CATALOG_VERSION)
            return err_set(err, 0, "the store has format %u, this program reads formats 1 to %u",
                           version, CATALOG_VERSION);
        if (version == CATALOG_VERSION)
            return 0;
    } else if (refuse_without_catalog(catalog, err)) {
        return -1;
    }
    result = put(catalog, NULL, &key, &format.base);
    return result ? env_error(err, result, "write the format of catalog.db") : 0;
}

struct catalog *catalog_open(struct env *env, bool create, struct err *err)
{
    struct catalog *catalog = calloc(1, sizeof(*catalog));
    if (!catalog) {
        err_set_errno(err, ENOMEM, "open catalog.db");
        return NULL;
    }
    catalog->env = env;
    int result = db_create(&catalog->db, env->db, 0);
    if (!result)
        result = catalog->db->open(catalog->db, NULL, "catalog.db", NULL, DB_BTREE,
                                   DB_AUTO_COMMIT | DB_THREAD | (create ? DB_CREATE : 0), 0600);
    if (result)
        env_error(err, result, "open catalog.db");
    if (result || (create && check_format(catalog, err))) {
        (void)catalog_close(catalog);
        return NULL;
    }
    return catalog;
}

int catalog_close(struct catalog *catalog)
{
    if (!catalog)
        return 0;
    int result = catalog->db ? catalog->db->close(catalog->db, DB_NOSYNC) : 0;
    free(catalog);
    return result;
}

static int raise_epoch(struct catalog *catalog, DB_TXN *txn, uint32_t *epoch)
{
    Filad__Catalog__CatalogEpoch next = FILAD__CATALOG__CATALOG_EPOCH__INIT;
    ProtobufCMessage *found = NULL;
    struct key key;
    key_set(&key, KIND_EPOCH, STR(""));
    int result = get(catalog, txn, &key, &filad__catalog__catalog_epoch__descriptor, &found);
    if (result)
        return result;
    uint32_t last = found ? ((Filad__Catalog__CatalogEpoch *)found)->epoch : 0;
    if (found)
        protobuf_c_message_free_unpacked(found, NULL);
    if (last >= EPOCH_MAX)
        return EOVERFLOW;
    *epoch = next.epoch = last + 1;
    return put(catalog, txn, &key, &next.base);
}

int catalog_raise_epoch(struct catalog *catalog, uint32_t *epoch, struct err *err)
{
    DB_TXN *txn = NULL;
    int result = env_begin(catalog->env, &txn);
    if (!result && (result = raise_epoch(catalog, txn, epoch)) != 0)
        (void)txn->abort(txn);
    else if (!result)
        result = env_commit(txn, ENV_COMMIT_MEMORY);
    if (!result)
        result = env_flush(catalog->env);
    return result ? env_error(err, result, "raise the epoch in catalog.db") : 0;
}

/* Walks all records of one kind. The key without its kind is given as `name`. */
static int each(struct catalog *catalog, enum kind kind,
                int (*visit)(void *context, struct str name, struct str value, struct err *err),
                void *context, struct err *err)
{
    DBC *cursor = NULL;
    struct key key;
    uint8_t bytes[VALUE_MAX];
    DBT value = {.data = bytes, .ulen = sizeof(bytes), .flags = DB_DBT_USERMEM};
    int status = 0, result = catalog->db->cursor(catalog->db, NULL, &cursor, 0);
    key_set(&key, kind, STR(""));
    key.dbt.ulen = sizeof(key.bytes);
    key.dbt.flags = DB_DBT_USERMEM;
    for (u_int32_t how = DB_SET_RANGE; !result && !status; how = DB_NEXT) {
        result = cursor->get(cursor, &key.dbt, &value, how);
        if (result || key.bytes[0] != (uint8_t)kind)
            break;
        status =
            visit(context, str_of(key.bytes + 2, key.dbt.size - 2), str_of(bytes, value.size), err);
    }
    if (cursor)
        (void)cursor->close(cursor);
    if (result && result != DB_NOTFOUND)
        return env_error(err, result, "read catalog.db");
    return status;
}

struct each_context {
    int (*queue)(void *context, const struct catalog_queue *queue, struct err *err);
    int (*dead)(void *context, uint64_t id, struct err *err);
    void *context;
};

static int visit_queue(void *context, struct str name, struct str value, struct err *err)
{
    struct each_context *each_context = context;
    Filad__Catalog__CatalogQueue *found =
        filad__catalog__catalog_queue__unpack(NULL, value.size, value.data);
    if (!found)
        return err_set(err, EINVAL, "catalog.db: the record of queue \"%.*s\" is damaged",
                       STR_PRINT(name));
    struct catalog_queue queue = {.name = name,
                                  .id = found->id,
                                  .visibility_timeout_ms = found->visibility_timeout_ms,
                                  .created_ms = found->created_ms};
    filad__catalog__catalog_queue__free_unpacked(found, NULL);
    return each_context->queue(each_context->context, &queue, err);
}

static int visit_dead(void *context, struct str name, struct str value, struct err *err)
{
    struct each_context *each_context = context;
    Filad__Catalog__CatalogDead *found =
        filad__catalog__catalog_dead__unpack(NULL, value.size, value.data);
    if (!found)
        return err_set(err, EINVAL, "catalog.db: the record of deleted queue %.*s is damaged",
                       STR_PRINT(name));
    uint64_t id = found->id;
    filad__catalog__catalog_dead__free_unpacked(found, NULL);
    return each_context->dead(each_context->context, id, err);
}

int catalog_each_queue(struct catalog *catalog,
                       int (*visit)(void *context, const struct catalog_queue *queue,
                                    struct err *err),
                       void *context, struct err *err)
{
    struct each_context each_context = {.queue = visit, .context = context};
    return each(catalog, KIND_QUEUE, visit_queue, &each_context, err);
}

int catalog_each_dead(struct catalog *catalog,
                      int (*visit)(void *context, uint64_t id, struct err *err), void *context,
                      struct err *err)
{
    struct each_context each_context = {.dead = visit, .context = context};
    return each(catalog, KIND_DEAD, visit_dead, &each_context, err);
}

int catalog_put_queue(struct catalog *catalog, DB_TXN *txn, struct catalog_queue *queue)
{
    Filad__Catalog__CatalogCounter counter = FILAD__CATALOG__CATALOG_COUNTER__INIT;
    Filad__Catalog__CatalogQueue record = FILAD__CATALOG__CATALOG_QUEUE__INIT;
    ProtobufCMessage *found = NULL;
    struct key key;
    key_set(&key, KIND_COUNTER, STR(""));
    int result = get(catalog, txn, &key, &filad__catalog__catalog_counter__descriptor, &found);
    if (result)
        return result;
    if (found) {
        counter.last_queue_id = ((Filad__Catalog__CatalogCounter *)found)->last_queue_id;
        protobuf_c_message_free_unpacked(found, NULL);
    }
    queue->id = ++counter.last_queue_id;
    result = put(catalog, txn, &key, &counter.base);
    if (result)
        return result;
    record.id = queue->id;
    record.visibility_timeout_ms = queue->visibility_timeout_ms;
    record.created_ms = queue->created_ms;
    key_set(&key, KIND_QUEUE, queue->name);
    return put(catalog, txn, &key, &record.base);
}

int catalog_delete_queue(struct catalog *catalog, DB_TXN *txn, struct str name, uint64_t id,
                         uint64_t now_ms)
{
    Filad__Catalog__CatalogDead record = FILAD__CATALOG__CATALOG_DEAD__INIT;
    struct key key;
    key_set(&key, KIND_QUEUE, name);
    int result = catalog->db->del(catalog->db, txn, &key.dbt, 0);
    if (result)
        return result;
    record.id = id;
    record.deleted_ms = now_ms;
    dead_key_set(&key, id);
    return put(catalog, txn, &key, &record.base);
}

int catalog_forget_dead(struct catalog *catalog, DB_TXN *txn, uint64_t id)
{
    struct key key;
    dead_key_set(&key, id);
    return catalog->db->del(catalog->db, txn, &key.dbt, 0);
}
