#include "sched/rebuild.h"

#include <errno.h>
#include <stdlib.h>

#include "os/log.h"
#include "os/time.h"
#include "sched/config_rule.h"
#include "sched/hold.h"
#include "store/chunks.h"
#include "store/quarantine.h"

#define READ_BYTES (256u << 10)

/* The rebuilding of one queue. */
struct rebuild {
    const struct rebuild_options *options;
    struct rebuild_result *result;
    struct scheduler *scheduler;
    struct queue_db_cache cache;
    struct queue *queue;
    struct queue_db *db;
    struct lane **lanes; /* by ascending id, since K records come so */
    size_t lane_count, lane_capacity;
    struct queue_db_bulk bulk;
    struct buf value;
    struct buf dead_batches; /* u64 each: L records without any message left */
    uint64_t wall_ms, monotonic_ms;
};

static int store_error(struct rebuild *rebuild, int result, struct err *err)
{
    return env_error(err, result, "read queues/%llu.db (queue \"%.*s\")",
                     (unsigned long long)rebuild->queue->id, STR_PRINT(rebuild->queue->name));
}

static int zone_full(struct rebuild *rebuild, struct err *err)
{
    return err_set(err, 0, "queue \"%.*s\": shared_memory of %llu bytes is full; raise it to start",
                   STR_PRINT(rebuild->queue->name),
                   (unsigned long long)rebuild->options->zone->size);
}

/* Calls `visit` for all records with this tag, in order. */
static int each_record(struct rebuild *rebuild, uint8_t tag,
                       int (*visit)(struct rebuild *, struct str key, struct str value,
                                    struct err *err),
                       struct err *err)
{
    uint8_t from[RECORD_KEY_MAX] = {tag};
    size_t from_size = 1;
    DBC *cursor = NULL;
    struct str key, value;
    int status = 0, result = queue_db_cursor(rebuild->db, &cursor);
    while (!result && !status) {
        result = queue_db_bulk_read(cursor, &rebuild->bulk, str_of(from, from_size), READ_BYTES);
        if (result)
            break;
        bool more = false;
        while (!status && queue_db_bulk_next(&rebuild->bulk, &key, &value)) {
            more = key.size > 0 && key.data[0] == tag;
            if (!more)
                break;
            if (key.size >= sizeof(from)) { /* no such record has a key so long */
                status = visit(rebuild, key, value, err);
                more = false;
                break;
            }
            memcpy(from, key.data, key.size);
            from[key.size] = 0; /* the next key there can be */
            from_size = key.size + 1;
            status = visit(rebuild, key, value, err);
        }
        if (!more)
            break;
    }
    queue_db_cursor_close(cursor);
    if (result && result != DB_NOTFOUND)
        return store_error(rebuild, result, err);
    return status;
}

static int add_lane(struct rebuild *rebuild, struct str key, struct str value, struct err *err)
{
    struct record_lane record;
    if (key.size != RECORD_LANE_KEY_SIZE || !record_lane_parse(value, &record))
        return err_set(err, EINVAL, "queues/%llu.db: a lane record is damaged",
                       (unsigned long long)rebuild->queue->id);
    if (rebuild->lane_count == rebuild->lane_capacity) {
        size_t capacity = rebuild->lane_capacity ? rebuild->lane_capacity * 2 : 64;
        struct lane **lanes = realloc(rebuild->lanes, capacity * sizeof(struct lane *));
        if (!lanes)
            return err_set_errno(err, ENOMEM, "read lanes");
        rebuild->lanes = lanes;
        rebuild->lane_capacity = capacity;
    }
    struct lane *lane =
        queue_lane_create(rebuild->queue, bytes_get_u64(key.data + 1), record.weight,
                          record.fairness_key, record.throttle_count, record.throttle_keys);
    if (!lane)
        return zone_full(rebuild, err);
    lane->stored_weight = record.weight;
    drr_set_weight(&rebuild->queue->drr, &lane->key->drr, record.weight);
    rebuild->lanes[rebuild->lane_count++] = lane;
    return 0;
}

static struct lane *find_lane(const struct rebuild *rebuild, uint64_t id)
{
    size_t low = 0, high = rebuild->lane_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (rebuild->lanes[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < rebuild->lane_count && rebuild->lanes[low]->id == id ? rebuild->lanes[low] : NULL;
}

/* Leases one position. A message can stand in two batches when it was given back and delivered
 * again: the later batch counts. *leased: it did become part of `batch`. */
static int add_lease(struct rebuild *rebuild, struct lease_batch *batch, uint64_t lane_id,
                     uint64_t seq, uint64_t expires_ms, bool *leased, struct err *err)
{
    uint8_t key[RECORD_MESSAGE_KEY_SIZE];
    struct record_message message;
    struct lane *lane = find_lane(rebuild, lane_id);
    *leased = false;
    if (!lane)
        return 0;
    record_message_key(key, lane_id, seq);
    int result = queue_db_get(rebuild->db, NULL, str_of(key, sizeof(key)), &rebuild->value);
    if (result == DB_NOTFOUND)
        return 0;
    if (result)
        return store_error(rebuild, result, err);
    if (!record_message_parse(buf_str(&rebuild->value), &message))
        return 0; /* delivery will say so when it comes there */
    struct lease *lease = queue_lease_find(rebuild->queue, &message.id);
    if (lease)
        queue_lease_end(rebuild->queue, lease);
    lease = queue_lease_alloc(rebuild->queue);
    if (!lease)
        return zone_full(rebuild, err);
    lease->id = message.id;
    lease->seq = seq;
    lease->lane = lane;
    lease->apart = message.apart < UINT32_MAX ? (uint32_t)message.apart : UINT32_MAX;
    lease->batch = batch;
    batch->remaining++;
    lane->leased_below = rebuild->queue->scan.limit;
    queue_lease_start(rebuild->queue, lease, expires_ms);
    *leased = true;
    return 0;
}

static int add_batch(struct rebuild *rebuild, struct str key, struct str value, struct err *err)
{
    struct record_leases leases;
    if (key.size != RECORD_LEASES_KEY_SIZE || !record_leases_parse(value, &leases))
        return err_set(err, EINVAL, "queues/%llu.db: a lease record is damaged",
                       (unsigned long long)rebuild->queue->id);
    /* The wall clock may have been stepped: never longer than the timeout from now. */
    uint64_t timeout_ms = atomic_load(&rebuild->queue->visibility_timeout_ms) + 1;
    uint64_t left_ms =
        leases.expires_ms > rebuild->wall_ms ? leases.expires_ms - rebuild->wall_ms : 0;
    uint64_t expires_ms = rebuild->monotonic_ms + 1 + (left_ms < timeout_ms ? left_ms : timeout_ms);
    if (!queue_expiry_prepare(rebuild->queue, rebuild->monotonic_ms))
        return zone_full(rebuild, err);
    struct lease_batch *batch = arena_alloc(rebuild->scheduler->arena, sizeof(*batch));
    if (!batch)
        return zone_full(rebuild, err);
    memset(batch, 0, sizeof(*batch));
    batch->seq = bytes_get_u64(key.data + 1);
    batch->remaining = 1; /* ours while we fill it: a message twice in one batch must not free it */
    for (unsigned i = 0; i < leases.count; i++) {
        uint64_t lane = 0, seq = 0;
        bool leased = false;
        record_leases_position(&leases, i, &lane, &seq);
        if (add_lease(rebuild, batch, lane, seq, expires_ms, &leased, err) != 0)
            return -1;
    }
    if (--batch->remaining == 0) {
        buf_append_u64(&rebuild->dead_batches, batch->seq);
        arena_free(rebuild->scheduler->arena, batch);
    }
    return 0;
}

/* Removes the L records that say nothing any more. */
static int remove_dead_batches(struct rebuild *rebuild, struct err *err)
{
    size_t at = 0;
    int result = 0;
    while (at < rebuild->dead_batches.size && !result) {
        DB_TXN *txn = NULL;
        result = env_begin(rebuild->options->env, &txn);
        for (unsigned i = 0; !result && i < ENV_MAX_RECORDS && at < rebuild->dead_batches.size;
             i++) {
            uint8_t key[RECORD_LEASES_KEY_SIZE];
            record_leases_key(key, bytes_get_u64(rebuild->dead_batches.data + at));
            result = queue_db_delete(rebuild->db, txn, str_of(key, sizeof(key)));
            at += 8;
        }
        if (result && txn)
            (void)txn->abort(txn);
        else if (!result)
            result = env_commit(txn, ENV_COMMIT_MEMORY);
    }
    buf_clear(&rebuild->dead_batches);
    return result ? store_error(rebuild, result, err) : 0;
}

/* Whatever has a marker now has lost its owner: the keeper removes it while the queue is served. */
static int find_markers(struct rebuild *rebuild, struct err *err)
{
    struct uuid id = {{0}};
    int result = chunks_next_marker(rebuild->db, &id);
    if (!result)
        scheduler_want_sweep(rebuild->scheduler, rebuild->queue);
    return result && result != DB_NOTFOUND ? store_error(rebuild, result, err) : 0;
}

/* Looks for the first message of each lane; lanes with one are counted later. */
static int find_heads(struct rebuild *rebuild, struct err *err)
{
    struct queue *queue = rebuild->queue;
    DBC *cursor = NULL;
    bool full = false;
    int result = queue_db_cursor(rebuild->db, &cursor);
    for (size_t i = 0; i < rebuild->lane_count && !result; i++) {
        uint8_t from[RECORD_MESSAGE_KEY_SIZE];
        struct lane *lane = rebuild->lanes[i];
        uint64_t seq = 0;
        record_message_key(from, lane->id, 0);
        result = queue_db_seek(cursor, str_of(from, sizeof(from)), from);
        if (!result && from[0] == RECORD_TAG_MESSAGE && bytes_get_u64(from + 1) == lane->id) {
            seq = bytes_get_u64(from + 9);
            lane->next = seq;
            lane->unscanned = true;
            queue->scan.done = false;
        }
        if (result == DB_NOTFOUND)
            result = 0;
        queue_lane_update(queue, lane, rebuild->monotonic_ms);
        if (lane->leased && !hold_resolve(queue, lane)) /* limits count what is leased */
            full = true;
    }
    queue_db_cursor_close(cursor);
    if (full)
        return zone_full(rebuild, err);
    return result ? store_error(rebuild, result, err) : 0;
}

/* Only when the first one is due; they are counted later. */
static int find_delayed(struct rebuild *rebuild, struct err *err)
{
    struct queue *queue = rebuild->queue;
    uint8_t key[RECORD_DELAYED_KEY_SIZE];
    DBC *cursor = NULL;
    record_delayed_key(key, 0, 0);
    int result = queue_db_cursor(rebuild->db, &cursor);
    if (!result)
        result = queue_db_seek(cursor, str_of(key, sizeof(key)), key);
    queue_db_cursor_close(cursor);
    queue->scan.delayed_done = result || key[0] != RECORD_TAG_DELAYED;
    if (!queue->scan.delayed_done) {
        queue->scan.done = false;
        queue->next_due_ms = bytes_get_u64(key + 1);
        queue_due_update(queue);
    }
    return result && result != DB_NOTFOUND ? store_error(rebuild, result, err) : 0;
}

static int fill_queue(struct rebuild *rebuild, struct err *err)
{
    int result = queue_db_open(&rebuild->cache, &rebuild->db, rebuild->queue->id, false);
    if (result == ENOENT) /* never written */
        return 0;
    if (result)
        return store_error(rebuild, result, err);
    rebuild->lane_count = 0;
    int status = each_record(rebuild, RECORD_TAG_LANE, add_lane, err);
    if (status == 0)
        status = each_record(rebuild, RECORD_TAG_LEASES, add_batch, err);
    if (status == 0)
        status = remove_dead_batches(rebuild, err);
    if (status == 0)
        status = find_markers(rebuild, err);
    if (status == 0)
        status = find_heads(rebuild, err);
    if (status == 0)
        status = find_delayed(rebuild, err);
    queue_db_close(&rebuild->cache, &rebuild->db);
    if (status != 0)
        return -1;
    rebuild->result->lanes += rebuild->lane_count;
    rebuild->result->leases += rebuild->queue->leased;
    if (!rebuild->queue->scan.done)
        atomic_fetch_add(&rebuild->scheduler->count_total, 1);
    queue_timer_update(rebuild->queue);
    return 0;
}

/* After `damage` the queue stays, empty, without its file. */
static int set_aside(struct rebuild *rebuild, struct err *damage, struct err *err)
{
    struct queue *queue = rebuild->queue;
    log_write(LOG_ERROR, "store",
              "queue \"%.*s\" cannot be read: %s; its file is set aside as quarantine/%llu.db",
              STR_PRINT(queue->name), damage->text, (unsigned long long)queue->id);
    if (quarantine_put(rebuild->options->env->path, queue->id, err) != 0)
        return -1;
    if (damage->code == DB_RUNRECOVERY) {
        rebuild->result->again = true;
        *err = *damage;
        return -1;
    }
    return queue_clear(queue) == 0 ? 0 : zone_full(rebuild, err);
}

static int read_queue(struct rebuild *rebuild, struct err *err)
{
    struct queue *queue = rebuild->queue;
    struct err damage = {0};
    if (quarantine_holds(rebuild->options->env->path, queue->id)) {
        log_write(LOG_ERROR, "store",
                  "queue \"%.*s\" is not served: its file is quarantine/%llu.db",
                  STR_PRINT(queue->name), (unsigned long long)queue->id);
    } else {
        if (fill_queue(rebuild, &damage) == 0)
            return 0;
        if (!quarantine_is_damage(damage.code)) {
            *err = damage;
            return -1;
        }
        if (set_aside(rebuild, &damage, err) != 0)
            return -1;
    }
    queue->quarantined = true;
    rebuild->result->quarantined++;
    return 0;
}

static int add_queue(void *context, const struct catalog_queue *record, struct err *err)
{
    struct rebuild *rebuild = context;
    struct queue *queue =
        queue_create(rebuild->scheduler, record->name, record->id, record->visibility_timeout_ms);
    if (!queue)
        return err_set(err, 0, "shared_memory is full at queue \"%.*s\"; raise it to start",
                       STR_PRINT(record->name));
    queue_configure(queue, record);
    if (!scheduler_add(rebuild->scheduler, queue)) {
        queue_destroy(queue);
        return err_set(err, 0, "the store has more queues than the limit of open files allows (%u)",
                       rebuild->scheduler->max_queues);
    }
    rebuild->queue = queue;
    rebuild->result->queues++;
    return read_queue(rebuild, err);
}

static int add_config(void *context, struct str key, struct str value, struct err *err)
{
    struct rebuild *rebuild = context;
    rebuild->scheduler->config_count++;
    rebuild->scheduler->config_bytes += key.size + value.size;
    if (config_rule_apply(rebuild->scheduler, key, value))
        return 0;
    return err_set(err, 0, "shared_memory is full at configuration \"%.*s\"; raise it to start",
                   STR_PRINT(key));
}

int rebuild_run(const struct rebuild_options *options, struct rebuild_result *result,
                struct err *err)
{
    struct rebuild rebuild = {.options = options, .result = result};
    memset(result, 0, sizeof(*result));
    if (catalog_raise_epoch(options->catalog, &result->epoch, err) != 0)
        return -1;
    rebuild.scheduler =
        scheduler_create(options->zone, result->epoch, options->quantum, options->max_queues, err);
    if (!rebuild.scheduler)
        return -1;
    queue_db_cache_init(&rebuild.cache, options->env, 1);
    queue_db_bulk_init(&rebuild.bulk);
    buf_init(&rebuild.value, 0);
    buf_init(&rebuild.dead_batches, 0);
    rebuild.wall_ms = time_wall_ms();
    rebuild.monotonic_ms = time_monotonic_ms();
    statistics_begin(options->zone->statistics);
    int status = catalog_each_config(options->catalog, STR(""), add_config, &rebuild, err);
    if (status == 0)
        status = catalog_each_queue(options->catalog, add_queue, &rebuild, err);
    if (status == 0)
        statistics_end(options->zone->statistics);
    queue_db_cache_close(&rebuild.cache);
    queue_db_bulk_free(&rebuild.bulk);
    buf_free(&rebuild.value);
    buf_free(&rebuild.dead_batches);
    free(rebuild.lanes);
    if (status != 0)
        return status;
    scheduler_settings_reset(rebuild.scheduler);
    atomic_store(&options->zone->scheduler, rebuild.scheduler);
    return 0;
}
