/* update - settings of queues that are there: scripts, timeouts, options, pause */
#include <errno.h>

#include "broker/broker.h"
#include "fibp/status.h"
#include "os/log.h"

#define CONFLICTS_MAX 100

/* Takes over what the operation sets. True when it is another script than before. */
static bool apply(const struct broker *broker, const struct operation_update_queue *update,
                  struct catalog_queue *record)
{
    bool scripts =
        (update->sets_on_enqueue && !str_equal(update->on_enqueue, record->on_enqueue)) ||
        (update->sets_on_failure && !str_equal(update->on_failure, record->on_failure));
    if (update->sets_on_enqueue)
        record->on_enqueue = update->on_enqueue;
    if (update->sets_on_failure)
        record->on_failure = update->on_failure;
    if (update->sets_visibility_timeout)
        record->visibility_timeout_ms = update->visibility_timeout_ms
                                            ? update->visibility_timeout_ms
                                            : broker->options.visibility_timeout_ms;
    if (update->sets_max_attempts)
        record->max_attempts = update->max_attempts;
    if (update->sets_dead_letter_headers)
        record->dead_letter_headers = update->dead_letter_headers;
    if (update->sets_paused)
        record->paused = update->paused;
    if (scripts)
        record->version++;
    return scripts;
}

/* Commits the change; *record is what is in the catalog then, for catalog_queue_free. */
static int write_once(struct broker *broker, const struct operation_update_queue *update,
                      struct catalog_queue *record, bool *scripts)
{
    DB_TXN *txn = NULL;
    int result = env_begin(broker->env, &txn);
    if (result)
        return result;
    result = catalog_get_queue(broker->catalog, txn, update->name, record);
    if (!result) {
        *scripts = apply(broker, update, record);
        result = catalog_update_queue(broker->catalog, txn, record);
    }
    if (result) {
        (void)txn->abort(txn);
        return result;
    }
    return env_commit(txn, broker->options.commit);
}

/* The zone follows: under the queue's lock, so that no delivery is half way. -1: the end. */
static int follow(struct broker *broker, struct queue *queue, const struct catalog_queue *record,
                  bool scripts)
{
    if (broker_lock(broker, &queue->lock) != 0)
        return -1;
    queue_configure(queue, record);
    queue_wake_waiters(queue); /* it may have been paused */
    lock_release(&queue->lock);
    if (scripts)
        scheduler_settings_changed(broker->scheduler, CHANGE_QUEUE, queue->name);
    return 0;
}

/* Under the catalog lock. *result: Berkeley DB's value. -1: the end. */
static int update_locked(struct broker *broker, struct operation_update_queue *update, int *result)
{
    struct queue *queue = scheduler_find(broker->scheduler, update->name);
    struct catalog_queue record = {.memory = NULL};
    bool scripts = false;
    int status = 0, tries = 0;
    if (!queue) {
        update->operation.status = FIBP_QUEUE_NOT_FOUND;
        return 0;
    }
    do {
        catalog_queue_free(&record);
        *result = write_once(broker, update, &record, &scripts);
    } while (env_is_conflict(*result) && ++tries < CONFLICTS_MAX);
    if (!*result)
        status = follow(broker, queue, &record, scripts);
    catalog_queue_free(&record);
    return status;
}

int broker_update_queue(struct broker *broker, struct operation *operation)
{
    struct operation_update_queue *update = (struct operation_update_queue *)operation;
    int result = 0;
    operation->wrote = true;
    operation->status = FIBP_OK;
    if (atomic_load(&broker->scheduler->space_low) &&
        (update->on_enqueue.size || update->on_failure.size)) {
        operation->status = FIBP_STORAGE_ERROR;
        operation->reason = "the disk is full";
        return 0;
    }
    if (broker_lock(broker, &broker->scheduler->catalog_lock) != 0)
        return -1;
    int status = update_locked(broker, update, &result);
    lock_release(&broker->scheduler->catalog_lock);
    return status != 0 ? -1
                       : broker_finish(broker, operation, result, "update queue \"%.*s\"",
                                       STR_PRINT(update->name));
}

static void take_over(struct operation_get_settings *get, const struct catalog_queue *record)
{
    buf_clear(&get->scripts);
    buf_append_str(&get->scripts, record->on_enqueue);
    buf_append_str(&get->scripts, record->on_failure);
    get->on_enqueue_size = record->on_enqueue.size;
    get->visibility_timeout_ms = record->visibility_timeout_ms;
    get->created_ms = record->created_ms;
    get->version = record->version;
    get->max_attempts = record->max_attempts;
    get->dead_letter_headers = record->dead_letter_headers;
    get->paused = record->paused;
    if (get->scripts.failed)
        get->operation.status = FIBP_CHANNEL_FULL;
}

int broker_get_settings(struct broker *broker, struct operation *operation)
{
    struct operation_get_settings *get = (struct operation_get_settings *)operation;
    struct catalog_queue record;
    operation->status = FIBP_OK;
    if (broker_lock(broker, &broker->scheduler->catalog_lock) != 0)
        return -1;
    int result = catalog_get_queue(broker->catalog, NULL, get->name, &record);
    lock_release(&broker->scheduler->catalog_lock);
    if (!result)
        take_over(get, &record);
    catalog_queue_free(&record);
    if (result == DB_NOTFOUND) {
        operation->status = FIBP_QUEUE_NOT_FOUND;
        return 0;
    }
    return broker_finish(broker, operation, result, "read the settings of queue \"%.*s\"",
                         STR_PRINT(get->name));
}
