#include "store/queue_db.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/queue_file.h"

#define BULK_START (64u << 10)
#define BULK_UNIT 1024u /* Berkeley DB wants a multiple of it */
#define KEY_ROOM 1024   /* a damaged database may hold keys that none of ours is as long as */

void queue_db_cache_init(struct queue_db_cache *cache, struct env *env, unsigned limit)
{
    cache->env = env;
    list_init(&cache->used);
    cache->count = 0;
    cache->limit = limit;
}

void queue_db_cache_close(struct queue_db_cache *cache)
{
    LIST_EACH_SAFE(&cache->used, entry)
    {
        queue_db_close(cache, CONTAINER_OF(entry, struct queue_db, used)->slot);
    }
}

static int open_file(struct queue_db_cache *cache, struct queue_db *queue)
{
    char name[QUEUE_FILE_NAME_SIZE];
    queue_file_name(name, queue->id);
    int result = db_create(&queue->db, cache->env->db, 0);
    if (!result)
        result = queue->db->open(queue->db, NULL, name, NULL, DB_BTREE, DB_AUTO_COMMIT | DB_THREAD,
                                 0600);
    if (!result)
        result = queue_file_settle(cache->env, queue->id);
    if (result && queue->db)
        (void)queue->db->close(queue->db, DB_NOSYNC);
    return result;
}

int queue_db_open(struct queue_db_cache *cache, struct queue_db **slot, uint64_t id, bool create)
{
    struct queue_db *queue = *slot;
    if (queue) {
        list_remove(&queue->used);
        list_insert(&cache->used, &queue->used);
        return 0;
    }
    queue = calloc(1, sizeof(*queue));
    if (!queue)
        return ENOMEM;
    queue->id = id;
    queue->slot = slot;
    int result = open_file(cache, queue);
    if (result == ENOENT && create && (result = queue_file_create(cache->env, id)) == 0)
        result = open_file(cache, queue);
    if (result) {
        free(queue);
        return result;
    }
    list_insert(&cache->used, &queue->used);
    cache->count++;
    *slot = queue;
    return 0;
}

void queue_db_close(struct queue_db_cache *cache, struct queue_db **slot)
{
    struct queue_db *queue = *slot;
    if (!queue)
        return;
    (void)queue->db->close(queue->db, DB_NOSYNC);
    list_remove(&queue->used);
    cache->count--;
    free(queue);
    *slot = NULL;
}

void queue_db_trim(struct queue_db_cache *cache)
{
    while (cache->count > cache->limit)
        queue_db_close(cache, CONTAINER_OF(cache->used.prev, struct queue_db, used)->slot);
}

static DBT dbt_of(struct str s)
{
    return (DBT){.data = (void *)(uintptr_t)s.data, .size = (u_int32_t)s.size};
}

int queue_db_put(struct queue_db *queue, DB_TXN *txn, struct str key, struct str value)
{
    DBT key_dbt = dbt_of(key), value_dbt = dbt_of(value);
    return queue->db->put(queue->db, txn, &key_dbt, &value_dbt, 0);
}

int queue_db_delete(struct queue_db *queue, DB_TXN *txn, struct str key)
{
    DBT key_dbt = dbt_of(key);
    return queue->db->del(queue->db, txn, &key_dbt, 0);
}

int queue_db_get(struct queue_db *queue, DB_TXN *txn, struct str key, struct buf *out)
{
    DBT key_dbt = dbt_of(key), value = {.flags = DB_DBT_USERMEM};
    for (size_t want = 4096;;) {
        buf_clear(out);
        value.data = buf_reserve(out, want);
        if (!value.data)
            return ENOMEM;
        value.ulen = (u_int32_t)(out->capacity < UINT32_MAX ? out->capacity : UINT32_MAX);
        int result = queue->db->get(queue->db, txn, &key_dbt, &value, 0);
        if (result == DB_BUFFER_SMALL && value.size > want) {
            want = value.size;
            continue;
        }
        out->size = result ? 0 : value.size;
        return result;
    }
}

void queue_db_bulk_init(struct queue_db_bulk *bulk)
{
    memset(bulk, 0, sizeof(*bulk));
}

void queue_db_bulk_free(struct queue_db_bulk *bulk)
{
    free(bulk->data);
    queue_db_bulk_init(bulk);
}

static bool bulk_grow(struct queue_db_bulk *bulk, size_t wanted)
{
    size_t size = (wanted + BULK_UNIT - 1) / BULK_UNIT * BULK_UNIT;
    if (size < BULK_START)
        size = BULK_START;
    if (bulk->size >= size)
        return true;
    if (size > UINT32_MAX / 2)
        return false;
    uint8_t *data = realloc(bulk->data, size);
    if (!data)
        return false;
    bulk->data = data;
    bulk->size = (u_int32_t)size;
    return true;
}

int queue_db_cursor(struct queue_db *queue, DBC **cursor)
{
    *cursor = NULL;
    return queue->db->cursor(queue->db, NULL, cursor, 0);
}

void queue_db_cursor_close(DBC *cursor)
{
    if (cursor)
        (void)cursor->close(cursor);
}

int queue_db_seek(DBC *cursor, struct str from, uint8_t key[RECORD_MESSAGE_KEY_SIZE])
{
    uint8_t found[RECORD_KEY_MAX];
    DBT key_dbt = {.data = found,
                   .size = (u_int32_t)from.size,
                   .ulen = sizeof(found),
                   .flags = DB_DBT_USERMEM};
    DBT value = {.flags = DB_DBT_USERMEM | DB_DBT_PARTIAL}; /* none of it */
    memcpy(found, from.data, from.size);
    int result = cursor->get(cursor, &key_dbt, &value, DB_SET_RANGE);
    if (!result && key_dbt.size != RECORD_MESSAGE_KEY_SIZE)
        result = DB_NOTFOUND;
    if (!result)
        memcpy(key, found, RECORD_MESSAGE_KEY_SIZE);
    return result;
}

int queue_db_share_below(struct queue_db *queue, struct str key, double *share)
{
    DBT key_dbt = dbt_of(key);
    DB_KEY_RANGE range = {0};
    int result = queue->db->key_range(queue->db, NULL, &key_dbt, &range, 0);
    *share = result ? 0 : range.less;
    return result;
}

int queue_db_read_first(DBC *cursor, struct str from, uint8_t *key, size_t *key_size,
                        struct buf *value)
{
    for (size_t want = 4096;;) {
        DBT key_dbt = {.data = key,
                       .size = (u_int32_t)from.size,
                       .ulen = RECORD_KEY_MAX,
                       .flags = DB_DBT_USERMEM};
        DBT value_dbt = {.flags = DB_DBT_USERMEM};
        memcpy(key, from.data, from.size);
        buf_clear(value);
        value_dbt.data = buf_reserve(value, want);
        if (!value_dbt.data)
            return ENOMEM;
        value_dbt.ulen = (u_int32_t)(value->capacity < UINT32_MAX ? value->capacity : UINT32_MAX);
        int result = cursor->get(cursor, &key_dbt, &value_dbt, DB_SET_RANGE);
        if (result == DB_BUFFER_SMALL && value_dbt.size > want) {
            want = value_dbt.size;
            continue;
        }
        *key_size = key_dbt.size;
        value->size = result ? 0 : value_dbt.size;
        return result;
    }
}

int queue_db_bulk_read(DBC *cursor, struct queue_db_bulk *bulk, struct str from, size_t wanted)
{
    uint8_t key_bytes[KEY_ROOM];
    if (wanted < BULK_START)
        wanted = BULK_START;
    wanted = (wanted + BULK_UNIT - 1) / BULK_UNIT * BULK_UNIT;
    for (;;) {
        DBT key = {.data = key_bytes,
                   .size = (u_int32_t)from.size,
                   .ulen = sizeof(key_bytes),
                   .flags = DB_DBT_USERMEM};
        memcpy(key_bytes, from.data, from.size);
        if (!bulk_grow(bulk, wanted))
            return ENOMEM;
        memset(&bulk->dbt, 0, sizeof(bulk->dbt));
        bulk->dbt.data = bulk->data;
        bulk->dbt.ulen = (u_int32_t)wanted; /* not all of it: the caller pays for what is copied */
        bulk->dbt.flags = DB_DBT_USERMEM;
        int result = cursor->get(cursor, &key, &bulk->dbt, DB_SET_RANGE | DB_MULTIPLE_KEY);
        if (result == DB_BUFFER_SMALL) {
            if (key.size > sizeof(key_bytes))
                return EINVAL;
            size_t needed = bulk->dbt.size > wanted ? bulk->dbt.size : wanted * 2;
            wanted = (needed + 2 * BULK_UNIT) / BULK_UNIT * BULK_UNIT;
            continue;
        }
        if (!result)
            DB_MULTIPLE_INIT(bulk->position, &bulk->dbt);
        return result;
    }
}

bool queue_db_bulk_next(struct queue_db_bulk *bulk, struct str *key, struct str *value)
{
    void *key_data = NULL, *value_data = NULL;
    size_t key_size = 0, value_size = 0;
    if (!bulk->position)
        return false;
    DB_MULTIPLE_KEY_NEXT(bulk->position, &bulk->dbt, key_data, key_size, value_data, value_size);
    if (!bulk->position)
        return false;
    *key = str_of(key_data, key_size);
    *value = str_of(value_data, value_size);
    return true;
}

int queue_db_compact(struct queue_db *queue, DB_TXN *txn, unsigned pages, struct buf *position,
                     bool *more)
{
    DB_COMPACT compact = {.compact_pages = pages, .compact_timeout = 0};
    DBT start = {.data = position->data, .size = (u_int32_t)position->size}, end = {0};
    end.flags = DB_DBT_MALLOC;
    int result = queue->db->compact(queue->db, txn, position->size ? &start : NULL, NULL, &compact,
                                    DB_FREE_SPACE, &end);
    /* It ends where it began when there is nothing left to do. */
    *more = !result && end.size > 0 && !str_equal(str_of(end.data, end.size), buf_str(position));
    buf_clear(position);
    if (*more)
        buf_append(position, end.data, end.size);
    free(end.data);
    return result;
}
