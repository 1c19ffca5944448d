/* queues - create and delete; spec/broker.md section 2 */
#include <errno.h>
#include <stdlib.h>

#include "broker/broker.h"
#include "fibp/status.h"
#include "os/log.h"
#include "os/time.h"

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
    if (!scheduler_room(scheduler))
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
    if (atomic_load(&creations[0].queue->has_scripts))
        scheduler_settings_changed(broker->scheduler, CHANGE_QUEUE, creations[0].queue->name);
    return 0;
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
        .name = create->name,
        .visibility_timeout_ms = timeout_ms,
        .created_ms = now_ms,
        .on_enqueue = create->on_enqueue,
        .on_failure = create->on_failure,
        .version = create->on_enqueue.size || create->on_failure.size ? 1 : 0,
        .max_attempts = create->max_attempts,
        .dead_letter_headers = create->dead_letter_headers};
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
    return broker_finish(broker, operation, result, "create queue \"%.*s\"",
                         STR_PRINT(create->name));
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
    return broker_finish(broker, operation, result, "delete queue \"%.*s\"",
                         STR_PRINT(delete->name));
}
