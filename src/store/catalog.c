#include "store/catalog.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "os/io.h"
#include "os/time.h"
#include "store/catalog.pb-c.h"

#define KEY_MAX (2 + CATALOG_CONFIG_KEY_MAX)
#define EPOCH_MAX ((1u << 24) - 1)

enum kind {
    KIND_CONFIG = 'C',
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
    size_t size = name.size < KEY_MAX - 2 ? name.size : KEY_MAX - 2;
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

static int put(struct catalog *catalog, DB_TXN *txn, struct key *key,
               const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = malloc(size ? size : 1);
    if (!bytes)
        return ENOMEM;
    DBT value = {.data = bytes, .size = (u_int32_t)protobuf_c_message_pack(message, bytes)};
    int result = catalog->db->put(catalog->db, txn, &key->dbt, &value, 0);
    free(bytes);
    return result;
}

/* *message is NULL when there is no such key; owned by the caller. */
static int get(struct catalog *catalog, DB_TXN *txn, struct key *key,
               const ProtobufCMessageDescriptor *type, ProtobufCMessage **message)
{
    DBT value = {.flags = DB_DBT_MALLOC};
    *message = NULL;
    int result = catalog->db->get(catalog->db, txn, &key->dbt, &value, txn ? DB_RMW : 0);
    if (!result) {
        *message = protobuf_c_message_unpack(type, NULL, value.size, value.data);
        result = *message ? 0 : EINVAL;
    }
    free(value.data);
    return result == DB_NOTFOUND ? 0 : result;
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

/* Walks all records of one kind whose keys begin with `prefix`. The key without its kind is given
 * as `name`. */
static int each(struct catalog *catalog, enum kind kind, struct str prefix,
                int (*visit)(void *context, struct str name, struct str value, struct err *err),
                void *context, struct err *err)
{
    DBC *cursor = NULL;
    struct key key;
    DBT value = {.flags = DB_DBT_REALLOC};
    int status = 0, result = catalog->db->cursor(catalog->db, NULL, &cursor, 0);
    key_set(&key, kind, prefix);
    key.dbt.ulen = sizeof(key.bytes);
    key.dbt.flags = DB_DBT_USERMEM;
    for (u_int32_t how = DB_SET_RANGE; !result && !status; how = DB_NEXT) {
        result = cursor->get(cursor, &key.dbt, &value, how);
        if (result || key.dbt.size < 2 || key.bytes[0] != (uint8_t)kind)
            break;
        struct str name = str_of(key.bytes + 2, key.dbt.size - 2);
        if (!str_starts_with(name, prefix))
            break;
        status = visit(context, name, str_of(value.data, value.size), err);
    }
    if (cursor)
        (void)cursor->close(cursor);
    free(value.data);
    if (result && result != DB_NOTFOUND)
        return env_error(err, result, "read catalog.db");
    return status;
}

struct each_context {
    int (*queue)(void *context, const struct catalog_queue *queue, struct err *err);
    int (*dead)(void *context, uint64_t id, struct err *err);
    int (*config)(void *context, struct str key, struct str value, struct err *err);
    void *context;
};

/* The slices point into `found` and `name`. */
static void queue_of(struct catalog_queue *queue, struct str name,
                     const Filad__Catalog__CatalogQueue *found)
{
    *queue = (struct catalog_queue){
        .name = name,
        .id = found->id,
        .visibility_timeout_ms = found->visibility_timeout_ms,
        .created_ms = found->created_ms,
        .on_enqueue = str_of(found->on_enqueue.data, found->on_enqueue.len),
        .on_failure = str_of(found->on_failure.data, found->on_failure.len),
        .version = found->version,
        .max_attempts = found->max_attempts,
        .dead_letter_headers = found->dead_letter_headers,
        .paused = found->paused,
    };
}

static int visit_queue(void *context, struct str name, struct str value, struct err *err)
{
    struct each_context *each_context = context;
    struct catalog_queue queue;
    Filad__Catalog__CatalogQueue *found =
        filad__catalog__catalog_queue__unpack(NULL, value.size, value.data);
    if (!found)
        return err_set(err, EINVAL, "catalog.db: the record of queue \"%.*s\" is damaged",
                       STR_PRINT(name));
    queue_of(&queue, name, found);
    int status = each_context->queue(each_context->context, &queue, err);
    filad__catalog__catalog_queue__free_unpacked(found, NULL);
    return status;
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

static int visit_config(void *context, struct str name, struct str value, struct err *err)
{
    struct each_context *each_context = context;
    Filad__Catalog__CatalogConfig *found =
        filad__catalog__catalog_config__unpack(NULL, value.size, value.data);
    if (!found)
        return err_set(err, EINVAL, "catalog.db: the configuration \"%.*s\" is damaged",
                       STR_PRINT(name));
    int status = each_context->config(each_context->context, name,
                                      str_of(found->value.data, found->value.len), err);
    filad__catalog__catalog_config__free_unpacked(found, NULL);
    return status;
}

int catalog_each_queue(struct catalog *catalog,
                       int (*visit)(void *context, const struct catalog_queue *queue,
                                    struct err *err),
                       void *context, struct err *err)
{
    struct each_context each_context = {.queue = visit, .context = context};
    return each(catalog, KIND_QUEUE, STR(""), visit_queue, &each_context, err);
}

int catalog_each_dead(struct catalog *catalog,
                      int (*visit)(void *context, uint64_t id, struct err *err), void *context,
                      struct err *err)
{
    struct each_context each_context = {.dead = visit, .context = context};
    return each(catalog, KIND_DEAD, STR(""), visit_dead, &each_context, err);
}

int catalog_each_config(struct catalog *catalog, struct str prefix,
                        int (*visit)(void *context, struct str key, struct str value,
                                     struct err *err),
                        void *context, struct err *err)
{
    struct each_context each_context = {.config = visit, .context = context};
    return each(catalog, KIND_CONFIG, prefix, visit_config, &each_context, err);
}

static ProtobufCBinaryData binary_of(struct str s)
{
    return (ProtobufCBinaryData){.len = s.size, .data = (uint8_t *)(uintptr_t)s.data};
}

int catalog_update_queue(struct catalog *catalog, DB_TXN *txn, const struct catalog_queue *queue)
{
    Filad__Catalog__CatalogQueue record = FILAD__CATALOG__CATALOG_QUEUE__INIT;
    struct key key;
    record.id = queue->id;
    record.visibility_timeout_ms = queue->visibility_timeout_ms;
    record.created_ms = queue->created_ms;
    record.on_enqueue = binary_of(queue->on_enqueue);
    record.on_failure = binary_of(queue->on_failure);
    record.max_attempts = queue->max_attempts;
    record.dead_letter_headers = queue->dead_letter_headers;
    record.paused = queue->paused;
    record.version = queue->version;
    key_set(&key, KIND_QUEUE, queue->name);
    return put(catalog, txn, &key, &record.base);
}

int catalog_put_queue(struct catalog *catalog, DB_TXN *txn, struct catalog_queue *queue)
{
    Filad__Catalog__CatalogCounter counter = FILAD__CATALOG__CATALOG_COUNTER__INIT;
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
    return catalog_update_queue(catalog, txn, queue);
}

int catalog_get_queue(struct catalog *catalog, DB_TXN *txn, struct str name,
                      struct catalog_queue *queue)
{
    ProtobufCMessage *found = NULL;
    struct key key;
    memset(queue, 0, sizeof(*queue));
    key_set(&key, KIND_QUEUE, name);
    int result = get(catalog, txn, &key, &filad__catalog__catalog_queue__descriptor, &found);
    if (result)
        return result;
    if (!found)
        return DB_NOTFOUND;
    queue_of(queue, name, (Filad__Catalog__CatalogQueue *)found);
    queue->memory = found;
    return 0;
}

void catalog_queue_free(struct catalog_queue *queue)
{
    if (queue->memory)
        protobuf_c_message_free_unpacked(queue->memory, NULL);
    queue->memory = NULL;
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

/* --- runtime configuration --- */

int catalog_put_config(struct catalog *catalog, DB_TXN *txn, struct str key, struct str value)
{
    Filad__Catalog__CatalogConfig record = FILAD__CATALOG__CATALOG_CONFIG__INIT;
    struct key stored;
    if (key.size == 0 || key.size > CATALOG_CONFIG_KEY_MAX)
        return EINVAL;
    record.value = binary_of(value);
    key_set(&stored, KIND_CONFIG, key);
    return put(catalog, txn, &stored, &record.base);
}

int catalog_delete_config(struct catalog *catalog, DB_TXN *txn, struct str key)
{
    struct key stored;
    if (key.size == 0 || key.size > CATALOG_CONFIG_KEY_MAX)
        return DB_NOTFOUND;
    key_set(&stored, KIND_CONFIG, key);
    return catalog->db->del(catalog->db, txn, &stored.dbt, 0);
}

int catalog_get_config(struct catalog *catalog, DB_TXN *txn, struct str key, struct buf *value)
{
    ProtobufCMessage *found = NULL;
    struct key stored;
    buf_clear(value);
    if (key.size == 0 || key.size > CATALOG_CONFIG_KEY_MAX)
        return DB_NOTFOUND;
    key_set(&stored, KIND_CONFIG, key);
    int result = get(catalog, txn, &stored, &filad__catalog__catalog_config__descriptor, &found);
    if (result)
        return result;
    if (!found)
        return DB_NOTFOUND;
    const Filad__Catalog__CatalogConfig *config = (const Filad__Catalog__CatalogConfig *)found;
    buf_append(value, config->value.data, config->value.len);
    protobuf_c_message_free_unpacked(found, NULL);
    return value->failed ? ENOMEM : 0;
}
