/* queues - create, delete, list; spec/broker.md section 2 */
#include <errno.h>
#include <stdlib.h>

#include "broker/broker.h"
#include "fibp/framed.h"
#include "fibp/status.h"
#include "hook/breaker.h"
#include "os/log.h"
#include "os/time.h"
#include "sched/hold.h"

#define DLQ_SUFFIX STR(".dlq")
#define CONFLICTS_MAX 100

/* A queue on its way into catalog and zone. */
struct creation {
    struct catalog_queue record;
    struct queue *queue;
};

static int put_all(struct broker *broker, struct creation *creations, unsigned count)
{
    DB_TXN *txn = NULL;
    int result = env_begin(broker->env, &txn);
    if (result)
        return result;
    for (unsigned i = 0; i < count && !result; i++)
        result = catalog_put_queue(broker->catalog, txn, &creations[i].record);
    if (result) {
        (void)txn->abort(txn);
        return result;
    }
    return env_commit(txn, broker->options.commit);
}

/* Makes the zone's side first, since that can be undone. What there is no room for, or NULL. */
static const char *make_all(struct broker *broker, struct creation *creations, unsigned count)
{
    static const char zone_full[] = "no room for another queue: shared_memory is full";
    struct scheduler *scheduler = broker->scheduler;
    if (scheduler->queue_count + count > scheduler->max_queues)
        return "no room for another queue: the limit of open files allows no more";
    if (!scheduler_has_room(scheduler))
        return zone_full;
    for (unsigned i = 0; i < count; i++) {
        creations[i].queue = queue_create(scheduler, creations[i].record.name, 0,
                                          creations[i].record.visibility_timeout_ms);
        if (!creations[i].queue)
            return zone_full;
        queue_configure(creations[i].queue, &creations[i].record);
    }
    return NULL;
}

static void unmake_all(struct creation *creations, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (creations[i].queue)
            queue_destroy(creations[i].queue);
}

/* Under the catalog lock. 0 with the operation's status set, or Berkeley DB's value. */
static int create_locked(struct broker *broker, struct creation *creations, unsigned count,
                         struct operation *operation)
{
    int result = 0, tries = 0;
    operation->reason = make_all(broker, creations, count);
    operation->status = operation->reason ? FIBP_CHANNEL_FULL : FIBP_OK;
    if (operation->reason) {
        unmake_all(creations, count);
        return 0;
    }
    do {
        result = put_all(broker, creations, count);
    } while (env_is_conflict(result) && ++tries < CONFLICTS_MAX);
    if (result) {
        unmake_all(creations, count);
        return result;
    }
    for (unsigned i = 0; i < count; i++) {
        creations[i].queue->id = creations[i].record.id;
        (void)scheduler_add(broker->scheduler, creations[i].queue); /* room was checked */
    }
    scheduler_catalog_changed(broker->scheduler);
    return 0;
}

static int finish(struct broker *broker, int result, struct operation *operation, const char *what,
                  struct str name)
{
    if (!result)
        return 0;
    log_write(LOG_ERROR, "store", "%s queue \"%.*s\": %s", what, STR_PRINT(name),
              db_strerror(result));
    operation->status = FIBP_STORAGE_ERROR;
    return broker_is_fatal(result) ? broker_fail(broker, result, what) : 0;
}

int broker_create_queue(struct broker *broker, struct operation *operation)
{
    struct operation_create_queue *create = (struct operation_create_queue *)operation;
    struct creation creations[2] = {{.queue = NULL}};
    uint8_t dlq_name[512];
    unsigned count = 1;
    uint64_t now_ms = time_wall_ms();
    uint64_t timeout_ms = create->visibility_timeout_ms ? create->visibility_timeout_ms
                                                        : broker->options.visibility_timeout_ms;
    operation->wrote = true;
    if (create->name.size > sizeof(dlq_name) - DLQ_SUFFIX.size) {
        operation->status = FIBP_INVALID_FRAME;
        return 0;
    }
    creations[0].record = (struct catalog_queue){
        .name = create->name, .visibility_timeout_ms = timeout_ms, .created_ms = now_ms};
    if (atomic_load(&broker->scheduler->space_low)) {
        operation->status = FIBP_STORAGE_ERROR;
        operation->reason = "the disk is full";
        return 0;
    }
    if (broker_lock(broker, &broker->scheduler->catalog_lock) != 0)
        return -1;
    int result = 0;
    if (scheduler_find(broker->scheduler, create->name)) {
        operation->status = FIBP_QUEUE_ALREADY_EXISTS;
    } else {
        memcpy(dlq_name, create->name.data, create->name.size);
        memcpy(dlq_name + create->name.size, DLQ_SUFFIX.data, DLQ_SUFFIX.size);
        struct str dlq = str_of(dlq_name, create->name.size + DLQ_SUFFIX.size);
        if (!str_ends_with(create->name, DLQ_SUFFIX) && !scheduler_find(broker->scheduler, dlq)) {
            creations[count++].record = (struct catalog_queue){
                .name = dlq,
                .visibility_timeout_ms = broker->options.visibility_timeout_ms,
                .created_ms = now_ms};
        }
        result = create_locked(broker, creations, count, operation);
    }
    lock_release(&broker->scheduler->catalog_lock);
    return finish(broker, result, operation, "create", create->name);
}

/* --- delete --- */

static int delete_records(struct broker *broker, struct queue *const *queues, unsigned count)
{
    DB_TXN *txn = NULL;
    uint64_t now_ms = time_wall_ms();
    int result = env_begin(broker->env, &txn);
    if (result)
        return result;
    for (unsigned i = 0; i < count && !result; i++)
        result = catalog_delete_queue(broker->catalog, txn, queues[i]->name, queues[i]->id, now_ms);
    if (result) {
        (void)txn->abort(txn);
        return result;
    }
    return env_commit(txn, broker->options.commit);
}

static int kill_locked(struct broker *broker, struct queue *const *queues, unsigned count,
                       int *result)
{
    int tries = 0;
    do {
        *result = delete_records(broker, queues, count);
    } while (env_is_conflict(*result) && ++tries < CONFLICTS_MAX);
    for (unsigned i = 0; i < count && !*result; i++) {
        if (broker_lock(broker, &queues[i]->lock) != 0)
            return -1;
        scheduler_kill(broker->scheduler, queues[i]);
        lock_release(&queues[i]->lock);
        breaker_free(broker->options.zone, queues[i]->id);
        if (atomic_load(&queues[i]->has_scripts))
            scheduler_settings_changed(broker->scheduler, CHANGE_QUEUE, queues[i]->name);
    }
    return 0;
}

int broker_delete_queue(struct broker *broker, struct operation *operation)
{
    struct operation_delete_queue *delete = (struct operation_delete_queue *)operation;
    struct queue *queues[2];
    uint8_t dlq_name[512];
    unsigned count = 0;
    int result = 0, status = 0;
    operation->wrote = true;
    operation->status = FIBP_QUEUE_NOT_FOUND;
    if (delete->name.size > sizeof(dlq_name) - DLQ_SUFFIX.size)
        return 0;
    if (broker_lock(broker, &broker->scheduler->catalog_lock) != 0)
        return -1;
    queues[0] = scheduler_find(broker->scheduler, delete->name);
    if (queues[0]) {
        count = 1;
        if (delete->name.size)
            memcpy(dlq_name, delete->name.data, delete->name.size);
        memcpy(dlq_name + delete->name.size, DLQ_SUFFIX.data, DLQ_SUFFIX.size);
        queues[1] = scheduler_find(broker->scheduler,
                                   str_of(dlq_name, delete->name.size + DLQ_SUFFIX.size));
        if (queues[1] && !str_ends_with(delete->name, DLQ_SUFFIX))
            count = 2;
        operation->status = FIBP_OK;
        status = kill_locked(broker, queues, count, &result);
    }
    lock_release(&broker->scheduler->catalog_lock);
    if (status != 0)
        return -1;
    return finish(broker, result, operation, "delete", delete->name);
}

/* --- list and statistics --- */

/* Under the queue's lock. */
static void totals_locked(const struct queue *queue, struct operation_queue_row *row)
{
    row->depth = queue->ready + queue->leased + queue->delayed;
    row->in_flight = queue->leased;
    row->consumers = queue_consumer_count(queue);
    row->counted = queue->scan.done ? FRAMED_COUNTED_ALL : queue->scan.percent;
    if (queue->quarantined)
        row->counted = FRAMED_COUNTED_QUARANTINE;
}

static int fill_totals(struct broker *broker, struct queue *queue, struct operation_queue_row *row)
{
    if (broker_lock(broker, &queue->lock) != 0)
        return -1;
    totals_locked(queue, row);
    lock_release(&queue->lock);
    return 0;
}

static int compare_rows(const void *a, const void *b)
{
    return str_compare(((const struct operation_queue_row *)a)->name,
                       ((const struct operation_queue_row *)b)->name);
}

/* Under the catalog lock, so that no queue goes. */
static int list_locked(struct broker *broker, struct operation_list_queues *list)
{
    struct scheduler *scheduler = broker->scheduler;
    size_t names = 0;
    free(list->rows); /* of a first try that a recovery cut short */
    list->rows = NULL;
    list->count = 0;
    for (uint32_t i = 0; i < ZONE_QUEUES; i++) {
        struct queue *queue = atomic_load_explicit(&scheduler->queues[i], memory_order_relaxed);
        if (queue && !atomic_load(&queue->dead))
            names += queue->name.size;
    }
    list->rows = malloc(scheduler->queue_count * sizeof(*list->rows) + names + 1);
    if (!list->rows) {
        list->operation.status = FIBP_CHANNEL_FULL;
        return 0;
    }
    uint8_t *name = (uint8_t *)(list->rows + scheduler->queue_count);
    for (uint32_t i = 0; i < ZONE_QUEUES && list->count < scheduler->queue_count; i++) {
        struct queue *queue = atomic_load_explicit(&scheduler->queues[i], memory_order_relaxed);
        if (!queue || atomic_load(&queue->dead))
            continue;
        struct operation_queue_row *row = &list->rows[list->count++];
        memcpy(name, queue->name.data, queue->name.size);
        row->name = str_of(name, queue->name.size);
        name += queue->name.size;
        if (fill_totals(broker, queue, row) != 0)
            return -1;
    }
    qsort(list->rows, list->count, sizeof(*list->rows), compare_rows);
    return 0;
}

int broker_list_queues(struct broker *broker, struct operation *operation)
{
    operation->status = FIBP_OK;
    if (broker_lock(broker, &broker->scheduler->catalog_lock) != 0)
        return -1;
    int status = list_locked(broker, (struct operation_list_queues *)operation);
    lock_release(&broker->scheduler->catalog_lock);
    return status;
}

#define KEY_ROWS_MAX 65535

static void copy_key(struct operation_get_stats *stats, const struct fairness_key *key,
                     uint8_t **names)
{
    memcpy(*names, key->name, key->name_size);
    stats->keys[stats->key_count++] =
        (struct operation_key_row){.key = str_of(*names, key->name_size),
                                   .pending = key->ready,
                                   .deficit = key->drr.deficit,
                                   .weight = key->drr.weight};
    *names += key->name_size;
}

static const struct fairness_key *key_of_ring(const struct list *entry)
{
    return CONTAINER_OF(CONTAINER_OF(entry, struct drr_key, ring), struct fairness_key, drr);
}

/* The keys of the round robin in its order, then those of which all is held. */
static void copy_keys(const struct queue *queue, struct operation_get_stats *stats,
                      struct fairness_key *const *held, uint32_t held_count)
{
    size_t names = 0;
    uint32_t count = 0;
    stats->key_count = 0;
    const struct list *ring = &queue->drr.active, *entry = ring->next;
    for (; entry != ring && count < KEY_ROWS_MAX; entry = entry->next, count++)
        names += key_of_ring(entry)->name_size;
    for (uint32_t i = 0; i < held_count && count < KEY_ROWS_MAX; i++, count++)
        names += held[i]->name_size;
    stats->keys = malloc(count * sizeof(*stats->keys) + names + 1);
    if (!stats->keys)
        return;
    uint8_t *bytes = (uint8_t *)(stats->keys + count);
    for (entry = ring->next; entry != ring && stats->key_count < count; entry = entry->next)
        copy_key(stats, key_of_ring(entry), &bytes);
    for (uint32_t i = 0; stats->key_count < count; i++)
        copy_key(stats, held[i], &bytes);
}

static void stats_locked(const struct queue *queue, struct operation_get_stats *stats)
{
    uint32_t held_count = 0;
    struct fairness_key **held = hold_keys(queue, &held_count);
    totals_locked(queue, &stats->totals);
    stats->active_keys = queue->drr.count + held_count;
    stats->quantum = queue->drr.quantum;
    copy_keys(queue, stats, held, held_count);
    stats->throttles =
        hold_rows(queue, THROTTLE_BUCKET, time_monotonic_ns(), &stats->throttle_count);
    free(held);
}

int broker_get_stats(struct broker *broker, struct operation *operation)
{
    struct operation_get_stats *stats = (struct operation_get_stats *)operation;
    struct local_queue *local = NULL;
    operation->status = FIBP_QUEUE_NOT_FOUND;
    if (broker_find_queue(broker, stats->name, &local) != 0)
        return -1;
    if (!local)
        return 0;
    if (broker_lock(broker, &local->queue->lock) != 0)
        return -1;
    stats_locked(local->queue, stats);
    lock_release(&local->queue->lock);
    operation->status = FIBP_OK;
    return 0;
}
