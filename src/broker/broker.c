#include "broker/broker.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/apart.h"
#include "broker/write.h"
#include "fibp/status.h"
#include "os/log.h"
#include "os/time.h"
#include "store/space.h"

#define SCRATCH_CHUNK (256u << 10)
#define LARGE_ENOUGH (2u << 20) /* bytes of large messages after which answers are due */
#define LOCK_LONG_MS 10
#define ROOM_AGAIN_MS 1000

bool broker_is_fatal(int result)
{
    return result == DB_RUNRECOVERY;
}

void broker_rest(struct broker *broker)
{
    read_ahead_rest(&broker->ahead);
}

int broker_fail(struct broker *broker, int result, const char *what)
{
    return env_error(&broker->failure, result, "%s", what);
}

int broker_finish(struct broker *broker, struct operation *operation, int result,
                  const char *format, ...)
{
    char what[640];
    va_list arguments;
    if (!result)
        return 0;
    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    log_write(LOG_ERROR, "store", "%s: %s", what, db_strerror(result));
    operation->status = FIBP_STORAGE_ERROR;
    return broker_is_fatal(result) ? broker_fail(broker, result, what) : 0;
}

int broker_lock(struct broker *broker, struct lock *lock)
{
    enum lock_result result = scheduler_lock(broker->scheduler, lock);
    if (result == LOCK_HELD)
        return 0;
    return err_set(&broker->failure, 0,
                   result == LOCK_DIRTY ? "a process died under a lock of the zone"
                                        : "the zone is being built anew");
}

void broker_note_lock(struct broker *broker, const struct queue *queue, uint64_t began_ms)
{
    uint64_t held = time_monotonic_ms() - began_ms;
    if (held <= LOCK_LONG_MS)
        return;
    atomic_fetch_add(&broker->options.zone->locks_held_long, 1);
    log_write(LOG_DEBUG, "store", "held the lock of queue \"%.*s\" for %llu ms",
              STR_PRINT(queue->name), (unsigned long long)held);
}

struct broker *broker_open(const struct broker_options *options, struct err *err)
{
    uint64_t seed[2];
    struct broker *broker = calloc(1, sizeof(*broker));
    if (!broker)
        goto no_memory;
    broker->options = *options;
    broker->env = options->env;
    broker->scheduler = atomic_load(&options->zone->scheduler);
    atomic_store(&options->zone->slots[options->slot].working[options->thread], 0);
    list_init(&broker->locals);
    list_init(&broker->pulls);
    list_init(&broker->later);
    list_init(&broker->tasks);
    list_init(&broker->subscriptions);
    buf_init(&broker->value, 0);
    buf_init(&broker->rewritten, 0);
    queue_db_bulk_init(&broker->bulk);
    read_ahead_init(&broker->ahead);
    queue_db_cache_init(&broker->cache, options->env, options->handles);
    time_entropy(seed);
    uuid_generator_init(&broker->ids, seed);
    broker->by_index = calloc(ZONE_QUEUES, sizeof(struct local_queue *));
    broker->scratch = pool_create(SCRATCH_CHUNK);
    if (!broker->by_index || !broker->scratch || hash_init(&broker->names, &hash_malloc) != 0)
        goto no_memory;
    broker->catalog = catalog_open(options->env, false, err);
    if (!broker->catalog)
        goto fail;
    return broker;
no_memory:
    err_set_errno(err, ENOMEM, "open broker");
fail:
    broker_close(broker);
    return NULL;
}

static void local_free(struct broker *broker, struct local_queue *local)
{
    queue_db_close(&broker->cache, &local->db);
    hash_remove(&broker->names, &local->by_name);
    list_remove(&local->link);
    list_remove(&local->pulls);
    broker->by_index[local->queue->index] = NULL;
    free(local);
}

void broker_close(struct broker *broker)
{
    if (!broker)
        return;
    (void)broker_break_off(broker);
    LIST_EACH_SAFE(&broker->locals, entry)
    {
        struct local_queue *local = CONTAINER_OF(entry, struct local_queue, link);
        queue_db_close(&broker->cache, &local->db);
        free(local); /* its queue may be gone with the zone: not looked at */
    }
    (void)catalog_close(broker->catalog);
    hash_free(&broker->names, &hash_malloc);
    pool_destroy(broker->scratch);
    buf_free(&broker->value);
    buf_free(&broker->rewritten);
    queue_db_bulk_free(&broker->bulk);
    read_ahead_free(&broker->ahead);
    free(broker->by_index);
    free(broker);
}

/* --- queues by name --- */

static struct local_queue *local_create(struct broker *broker, struct queue *queue)
{
    struct local_queue *local = calloc(1, sizeof(*local));
    if (!local)
        return NULL;
    local->queue = queue;
    list_init(&local->pulls);
    list_init(&local->open);
    list_init(&local->paused);
    list_append(&broker->locals, &local->link);
    hash_insert(&broker->names, &hash_malloc, str_hash(queue->name, broker->scheduler->seed),
                &local->by_name);
    broker->by_index[queue->index] = local;
    return local;
}

static struct local_queue *local_find(const struct broker *broker, struct str name)
{
    struct hash_link *link = hash_find(&broker->names, str_hash(name, broker->scheduler->seed));
    for (; link; link = hash_find_next(link)) {
        struct local_queue *local = CONTAINER_OF(link, struct local_queue, by_name);
        if (!atomic_load(&local->queue->dead) && str_equal(local->queue->name, name))
            return local;
    }
    return NULL;
}

int broker_local(struct broker *broker, struct queue *queue, struct local_queue **local)
{
    *local = broker->by_index[queue->index];
    if (*local && (*local)->queue != queue)
        *local = NULL;
    if (!*local)
        *local = local_create(broker, queue);
    return *local ? 0 : broker_fail(broker, ENOMEM, "remember a queue");
}

int broker_find_queue(struct broker *broker, struct str name, struct local_queue **local)
{
    *local = local_find(broker, name);
    if (*local)
        return 0;
    if (broker_lock(broker, &broker->scheduler->catalog_lock) != 0)
        return -1;
    struct queue *queue = scheduler_find(broker->scheduler, name);
    lock_release(&broker->scheduler->catalog_lock);
    return queue ? broker_local(broker, queue, local) : 0;
}

static int end_subscriptions(struct broker *broker, struct local_queue *local, struct list *list)
{
    if (list_empty(list))
        return 0;
    if (broker_lock(broker, &local->queue->lock) != 0)
        return -1;
    LIST_EACH(list, entry)
    queue_consumer_remove(local->queue,
                          CONTAINER_OF(entry, struct local_subscription, link)->consumer);
    lock_release(&local->queue->lock);
    LIST_EACH_SAFE(list, entry)
    {
        struct local_subscription *sub = CONTAINER_OF(entry, struct local_subscription, link);
        struct operation_ended *ended = calloc(1, sizeof(*ended));
        sub->subscription->store = NULL;
        if (ended) {
            ended->operation.kind = OPERATION_SUBSCRIPTION_ENDED;
            ended->operation.status = FIBP_QUEUE_NOT_FOUND;
            ended->subscription = sub->subscription;
            broker->options.emit(broker->options.context, &ended->operation);
        }
        list_remove(&sub->link);
        list_remove(&sub->all);
        list_remove(&sub->wait);
        free(sub);
    }
    return 0;
}

int broker_refresh(struct broker *broker)
{
    struct zone *zone = broker->options.zone;
    uint64_t now = atomic_load(&zone->catalog_generation);
    if (env_used_reserve())
        atomic_store(&broker->scheduler->space_low, 1);
    if (now == broker->catalog_seen)
        return 0;
    LIST_EACH_SAFE(&broker->locals, entry)
    {
        struct local_queue *local = CONTAINER_OF(entry, struct local_queue, link);
        if (!atomic_load(&local->queue->dead))
            continue;
        if (end_subscriptions(broker, local, &local->open) != 0 ||
            end_subscriptions(broker, local, &local->paused) != 0)
            return -1;
        local_free(broker, local);
    }
    broker->catalog_seen = now;
    if (broker->options.thread == ZONE_STORE_THREAD)
        atomic_store(&zone->slots[broker->options.slot].catalog_seen, now);
    return 0;
}

int broker_open_db(struct broker *broker, struct local_queue *local, bool create)
{
    if (local->queue->quarantined)
        return EUCLEAN;
    queue_db_trim(&broker->cache);
    if (!local->db)
        atomic_fetch_add(&broker->options.zone->files_opened, 1);
    int result = queue_db_open(&broker->cache, &local->db, local->queue->id, create);
    if (create && broker_make_room(broker, result)) /* its file is made by its first writer */
        result = queue_db_open(&broker->cache, &local->db, local->queue->id, create);
    return result;
}

void broker_want_pull_later(struct broker *broker, struct local_queue *local)
{
    list_remove(&local->pulls);
    list_append(&broker->later, &local->pulls);
}

bool broker_make_room(struct broker *broker, int result)
{
    uint64_t now_ms = time_monotonic_ms();
    if (result != ENOSPC)
        return false;
    if (!space_release(broker->env->path)) {
        /* Another process may have done so since; a disk that is full for good costs no more than
         * a second try now and then. */
        bool again = now_ms >= broker->room_again_ms;
        broker->room_again_ms = again ? now_ms + ROOM_AGAIN_MS : broker->room_again_ms;
        return again;
    }
    atomic_store(&broker->scheduler->space_low, 1);
    log_write(LOG_ERROR, "store", "the disk under %s is full: its reserve is used now",
              broker->env->path);
    return true;
}

void broker_want_pull(struct broker *broker, struct local_queue *local)
{
    if (list_empty(&local->pulls))
        list_append(&broker->pulls, &local->pulls);
}

/* --- executing --- */

static bool is_write(const struct operation *operation)
{
    return operation->kind == OPERATION_ENQUEUE || operation->kind == OPERATION_ACK ||
           operation->kind == OPERATION_NACK;
}

static broker_executor *const executors[OPERATION_KINDS] = {
    [OPERATION_SUBSCRIBE] = broker_subscribe,
    [OPERATION_UNSUBSCRIBE] = broker_unsubscribe,
    [OPERATION_ROOM] = broker_room,
    [OPERATION_RETURN] = broker_return,
    [OPERATION_CREATE_QUEUE] = broker_create_queue,
    [OPERATION_DELETE_QUEUE] = broker_delete_queue,
    [OPERATION_LIST_QUEUES] = broker_list_queues,
    [OPERATION_GET_STATS] = broker_get_stats,
    [OPERATION_QUEUE_DETAILS] = broker_queue_details,
    [OPERATION_REDRIVE] = broker_redrive,
    [OPERATION_PURGE_QUEUE] = broker_purge,
    [OPERATION_PEEK_QUEUE] = broker_peek,
    [OPERATION_SET_CONFIG] = broker_set_config,
    [OPERATION_GET_CONFIG] = broker_get_config,
    [OPERATION_LIST_CONFIG] = broker_list_config,
    [OPERATION_UPDATE_QUEUE] = broker_update_queue,
    [OPERATION_GET_SETTINGS] = broker_get_settings,
};

static void refuse(struct operation *first, struct operation *end)
{
    for (struct operation *operation = first; operation != end; operation = operation->next) {
        operation->status = FIBP_STORAGE_ERROR;
        operation->reason = "the store is being recovered";
    }
}

/* The writes from `operation` on that are executed together: up to one with so much of large
 * messages that those before it should be answered first. *large: bytes of large parts. */
static struct operation *writes_end(const struct operation *operation, uint64_t *large)
{
    struct operation *end = operation->next;
    *large = apart_large_bytes(operation);
    while (end && is_write(end)) {
        uint64_t more = apart_large_bytes(end);
        if (more && *large + more > LARGE_ENOUGH)
            break;
        *large += more;
        end = end->next;
    }
    return end;
}

/* *end: what is to be executed next; `operation` itself when only a slice of it was written. After
 * -1 it is the first one that had no effect. */
static int execute_writes(struct broker *broker, struct operation *operation,
                          struct operation **end, uint64_t *large)
{
    struct operation *behind = writes_end(operation, large);
    bool done = true;
    *end = operation;
    if (*large && apart_store(broker, operation, behind, &done) != 0)
        return -1;
    if (!done)
        return 0;
    *end = behind;
    int status = write_execute(broker, operation, behind);
    if (status == 0)
        apart_finish(broker);
    return status;
}

int broker_execute(struct broker *broker, struct operation *first, struct operation **rest)
{
    struct operation *operation = first;
    *rest = NULL;
    while (operation) {
        struct operation *end = operation->next;
        uint64_t large = 0;
        int status = is_write(operation) ? execute_writes(broker, operation, &end, &large)
                                         : executors[operation->kind](broker, operation);
        pool_reset(broker->scratch);
        if (status != 0) {
            *rest = operation_changes_store(operation) ? end : operation;
            refuse(operation, *rest);
            return -1;
        }
        operation = end;
        if (operation && (large > LARGE_ENOUGH || apart_large_bytes(operation) > LARGE_ENOUGH)) {
            *rest = operation;
            return 0;
        }
    }
    return 0;
}
