#include "store/chunks.h"

#include <errno.h>

static DBT key_dbt(uint8_t *key, size_t size, size_t room)
{
    return (DBT){
        .data = key, .size = (u_int32_t)size, .ulen = (u_int32_t)room, .flags = DB_DBT_USERMEM};
}

/* True when the key is one of a chunk of the message. */
static bool is_chunk_of(const uint8_t *key, size_t size, const struct uuid *id)
{
    return size == RECORD_CHUNK_KEY_SIZE && key[0] == RECORD_TAG_CHUNK &&
           memcmp(key + 1, id->bytes, UUID_SIZE) == 0;
}

int chunks_put(struct queue_db *queue, DB_TXN *txn, const struct uuid *id, struct str data,
               uint32_t *chunk, uint32_t limit)
{
    uint32_t count = chunks_for(data.size);
    int result = 0;
    for (; *chunk < count && limit > 0 && !result; limit--) {
        uint8_t key[RECORD_CHUNK_KEY_SIZE];
        size_t at = (size_t)*chunk * CHUNKS_SIZE, left = data.size - at;
        record_chunk_key(key, id, *chunk);
        result = queue_db_put(queue, txn, str_of(key, sizeof(key)),
                              str_of(data.data + at, left < CHUNKS_SIZE ? left : CHUNKS_SIZE));
        *chunk += !result;
    }
    return result;
}

/* What is read so far of a message. */
struct reading {
    const struct uuid *id;
    uint32_t chunk;
    uint8_t *to;
    size_t left;
};

static int read_chunk(DBC *cursor, struct reading *reading, u_int32_t how)
{
    uint8_t key[RECORD_KEY_MAX], expected[RECORD_CHUNK_KEY_SIZE];
    record_chunk_key(expected, reading->id, reading->chunk);
    memcpy(key, expected, sizeof(expected));
    DBT found = key_dbt(key, sizeof(expected), sizeof(key));
    DBT value = {
        .data = reading->to,
        .ulen = (u_int32_t)(reading->left < RECORD_CHUNK_MAX ? reading->left : RECORD_CHUNK_MAX),
        .flags = DB_DBT_USERMEM};
    int result = cursor->get(cursor, &found, &value, how);
    if (result == DB_BUFFER_SMALL) /* longer than the reference says, or another kind of record */
        return DB_NOTFOUND;
    if (result)
        return result;
    if (found.size != sizeof(expected) || memcmp(key, expected, sizeof(expected)) != 0)
        return DB_NOTFOUND;
    reading->chunk++;
    reading->to += value.size;
    reading->left -= value.size;
    return 0;
}

static int read_chunks(struct queue_db *queue, struct reading *reading, uint32_t count)
{
    DBC *cursor = NULL;
    u_int32_t how = DB_SET_RANGE;
    int result = queue_db_cursor(queue, &cursor);
    while (!result && reading->chunk < count) {
        result = reading->left ? read_chunk(cursor, reading, how) : DB_NOTFOUND;
        how = DB_NEXT;
    }
    queue_db_cursor_close(cursor);
    return result;
}

int chunks_read(struct queue_db *queue, const struct uuid *id, uint32_t count, uint8_t *to,
                size_t size)
{
    struct reading reading = {.id = id, .to = to, .left = size};
    unsigned tries = 0;
    int result;
    do {
        result = read_chunks(queue, &reading, count);
    } while (env_is_conflict(result) && ++tries < CHUNKS_CONFLICTS_MAX);
    return !result && reading.left ? DB_NOTFOUND : result;
}

/* A cursor before the first chunk of a message that finds none of its bytes, only keys. */
static int next_chunk(DBC *cursor, const struct uuid *id, u_int32_t how, bool *found)
{
    uint8_t key[RECORD_KEY_MAX];
    DBT found_key = key_dbt(key, RECORD_CHUNK_KEY_SIZE, sizeof(key));
    DBT value = {.flags = DB_DBT_USERMEM | DB_DBT_PARTIAL};
    record_chunk_key(key, id, 0);
    int result = cursor->get(cursor, &found_key, &value, how);
    *found = !result && is_chunk_of(key, found_key.size, id);
    return result == DB_NOTFOUND ? 0 : result;
}

int chunks_exists(struct queue_db *queue, DB_TXN *txn, const struct uuid *id, bool *found)
{
    DBC *cursor = NULL;
    int result = queue->db->cursor(queue->db, txn, &cursor, 0);
    *found = false;
    if (!result)
        result = next_chunk(cursor, id, DB_SET_RANGE, found);
    queue_db_cursor_close(cursor);
    return result;
}

int chunks_delete(struct queue_db *queue, DB_TXN *txn, const struct uuid *id, uint32_t limit,
                  uint32_t *count, bool *done)
{
    DBC *cursor = NULL;
    bool found = true;
    int result = queue->db->cursor(queue->db, txn, &cursor, 0);
    *count = 0;
    while (!result) {
        result = next_chunk(cursor, id, (*count ? DB_NEXT : DB_SET_RANGE) | DB_RMW, &found);
        if (result || !found || *count == limit)
            break;
        result = cursor->del(cursor, 0);
        *count += !result;
    }
    queue_db_cursor_close(cursor);
    *done = !result && !found;
    return result;
}

/* --- markers --- */

int chunks_mark(struct queue_db *queue, DB_TXN *txn, const struct uuid *id,
                const struct record_marker *marker)
{
    uint8_t key[RECORD_MARKER_KEY_SIZE], value[RECORD_MARKER_SIZE];
    record_marker_key(key, id);
    record_marker_write(value, marker);
    return queue_db_put(queue, txn, str_of(key, sizeof(key)), str_of(value, sizeof(value)));
}

int chunks_unmark(struct queue_db *queue, DB_TXN *txn, const struct uuid *id)
{
    uint8_t key[RECORD_MARKER_KEY_SIZE];
    record_marker_key(key, id);
    int result = queue_db_delete(queue, txn, str_of(key, sizeof(key)));
    return result == DB_NOTFOUND ? 0 : result;
}

int chunks_marker(struct queue_db *queue, DB_TXN *txn, const struct uuid *id,
                  struct record_marker *marker)
{
    uint8_t key[RECORD_MARKER_KEY_SIZE], value[RECORD_MARKER_SIZE];
    DBT value_dbt = {.data = value, .ulen = sizeof(value), .flags = DB_DBT_USERMEM};
    record_marker_key(key, id);
    DBT found = key_dbt(key, sizeof(key), sizeof(key));
    int result = queue->db->get(queue->db, txn, &found, &value_dbt, txn ? DB_RMW : 0);
    bool damaged = result == DB_BUFFER_SMALL;
    if (result && !damaged)
        return result;
    if (damaged || !record_marker_parse(str_of(value, value_dbt.size), marker))
        *marker = (struct record_marker){.epoch = 0};
    return 0;
}

int chunks_next_marker(struct queue_db *queue, struct uuid *id)
{
    uint8_t key[RECORD_KEY_MAX];
    DBC *cursor = NULL;
    DBT found = key_dbt(key, RECORD_MARKER_KEY_SIZE, sizeof(key));
    DBT value = {.flags = DB_DBT_USERMEM | DB_DBT_PARTIAL};
    record_marker_key(key, id);
    int result = queue_db_cursor(queue, &cursor);
    if (!result)
        result = cursor->get(cursor, &found, &value, DB_SET_RANGE);
    queue_db_cursor_close(cursor);
    if (!result && (found.size != RECORD_MARKER_KEY_SIZE || key[0] != RECORD_TAG_MARKER))
        result = DB_NOTFOUND;
    if (!result)
        memcpy(id->bytes, key + 1, UUID_SIZE);
    return result;
}
