#include "worker/store_thread.h"

#include <errno.h>
#include <stdlib.h>

#include "fibp/status.h"
#include "os/futex.h"
#include "os/log.h"

#define PULLS 16     /* queues to deliver from before looking for requests again */
#define HANDLES 1024 /* databases a worker keeps open */
#define SLEEP_MS 1000

static struct zone_slot *slot_of(struct pipeline *pipeline)
{
    return &pipeline->options.zone->slots[pipeline->options.slot];
}

static bool enter(struct pipeline *pipeline)
{
    return zone_enter(pipeline->options.zone, pipeline->options.slot, ZONE_STORE_THREAD,
                      pipeline->generation);
}

static void leave(struct pipeline *pipeline)
{
    zone_leave(pipeline->options.zone, pipeline->options.slot, ZONE_STORE_THREAD);
}

static void emit(void *context, struct operation *operation)
{
    pipeline_post_result(context, operation);
}

/* --- coming and going --- */

static void end_subscription(struct pipeline *pipeline, struct subscription *subscription,
                             uint8_t status)
{
    struct operation_ended *ended = calloc(1, sizeof(*ended));
    if (!ended)
        return;
    ended->operation.kind = OPERATION_SUBSCRIPTION_ENDED;
    ended->operation.status = status;
    ended->subscription = subscription;
    pipeline_post_result(pipeline, &ended->operation);
}

static int attach_all(struct pipeline *pipeline)
{
    struct subscription *subscription = pipeline->announced;
    for (; subscription; subscription = subscription->announce) {
        uint8_t status = FIBP_OK;
        if (broker_attach(pipeline->broker, subscription, &status) != 0)
            return -1;
        if (status != FIBP_OK)
            end_subscription(pipeline, subscription, status);
    }
    return 0;
}

static int open_store(struct pipeline *pipeline)
{
    const struct conf *conf = pipeline->options.conf;
    struct env_options env_options = {.path = conf->store.path,
                                      .regions = pipeline->options.regions,
                                      .cache_size = conf->store.cache_size};
    pipeline->env = env_open(&env_options, &pipeline->failure);
    if (!pipeline->env)
        return -1;
    struct broker_options options = {
        .zone = pipeline->options.zone,
        .slot = pipeline->options.slot,
        .thread = ZONE_STORE_THREAD,
        .generation = pipeline->generation,
        .env = pipeline->env,
        .handles = HANDLES,
        .visibility_timeout_ms = conf->scheduler.visibility_timeout_ms,
        .max_unacked = conf->scheduler.max_unacked,
        .deciding_bytes = &pipeline->deciding_bytes,
        .commit = conf->store.durability == CONF_DURABILITY_INTERVAL ? ENV_COMMIT_KERNEL
                                                                     : ENV_COMMIT_MEMORY,
        .emit = emit,
        .context = pipeline,
    };
    pipeline->broker = broker_open(&options, &pipeline->failure);
    if (!pipeline->broker)
        return -1;
    if (broker_refresh(pipeline->broker) != 0 || broker_send_settings(pipeline->broker) != 0 ||
        attach_all(pipeline) != 0) {
        pipeline->failure = pipeline->broker->failure;
        return -1;
    }
    return 0;
}

/* The word is set when the environment is in use by others still; without them it does not matter.
 */
static void close_store(struct pipeline *pipeline)
{
    bool inside = enter(pipeline);
    if (pipeline->broker)
        broker_detach(pipeline->broker, inside);
    broker_close(pipeline->broker);
    pipeline->broker = NULL;
    if (pipeline->env) {
        int result = env_close(pipeline->env);
        if (result && result != DB_RUNRECOVERY)
            log_write(LOG_WARN, "store", "close the environment: %s", db_strerror(result));
    }
    pipeline->env = NULL;
    if (inside)
        leave(pipeline);
}

/* --- work --- */

/* Gives back what needs no flush; returns the chain of what does. *count: how many. What is done
 * later is neither. */
static struct operation *give_back_reads(struct pipeline *pipeline, struct operation *first,
                                         const struct operation *end, unsigned *count)
{
    struct operation *wrote = NULL, **last = &wrote;
    bool commit = pipeline->options.conf->store.durability == CONF_DURABILITY_COMMIT;
    *count = 0;
    while (first != end) {
        struct operation *next = first->next;
        if (first->later) {
            first = next;
            continue;
        }
        if (first->wrote && commit) {
            *last = first;
            last = &first->next;
            (*count)++;
        } else {
            pipeline_post_result(pipeline, first);
        }
        first = next;
    }
    *last = NULL;
    return wrote;
}

static void hand_to_sync(struct pipeline *pipeline, struct operation *first)
{
    bool was_empty = false;
    while (first) {
        struct operation *next = first->next;
        was_empty = mailbox_post(&pipeline->flushes, &first->link) || was_empty;
        first = next;
    }
    if (!was_empty)
        return;
    atomic_fetch_add(&pipeline->sync_wake, 1);
    futex_wake(&pipeline->sync_wake, 1);
}

/* One operation and nothing else to do: syncing here saves two wake-ups. */
static bool sync_here(struct pipeline *pipeline, unsigned count)
{
    return count == 1 && intake_is_empty(&pipeline->intake) && mailbox_empty(&pipeline->requests) &&
           mailbox_empty(&pipeline->flushes) && atomic_load(&pipeline->sync_idle);
}

static void confirm(struct pipeline *pipeline, struct operation *wrote, unsigned count)
{
    if (!wrote)
        return;
    if (sync_here(pipeline, count))
        sync_thread_confirm(pipeline, ZONE_STORE_THREAD, wrote);
    else
        hand_to_sync(pipeline, wrote);
}

static int fail(struct pipeline *pipeline)
{
    uint32_t up = ZONE_UP;
    pipeline->failure = pipeline->broker->failure;
    if (atomic_load(&pipeline->options.zone->generation) == pipeline->generation)
        atomic_compare_exchange_strong(&pipeline->options.zone->state, &up, ZONE_DEAD);
    return -1;
}

/* Goes on with what takes long; *count and what it returns as give_back_reads does. */
static struct operation *step(struct pipeline *pipeline, int *status, bool *more, unsigned *count)
{
    struct operation *finished = NULL;
    *status = broker_step(pipeline->broker, &finished, more);
    return give_back_reads(pipeline, finished, NULL, count);
}

/* Executes a chain, delivers, goes on with what takes long, and passes on what must be flushed. */
static int work(struct pipeline *pipeline, struct operation *first, bool *more)
{
    struct operation *rest = first, *done = NULL;
    unsigned count = 0, done_count = 0;
    int status = -1, delivered = -1;
    bool steps = false;
    *more = false;
    if (!enter(pipeline)) {
        pipeline->unexecuted = first;
        return -1;
    }
    if (broker_refresh(pipeline->broker) == 0)
        status = broker_execute(pipeline->broker, first, &rest);
    if (status == 0)
        status = broker_send_settings(pipeline->broker);
    struct operation *wrote = give_back_reads(pipeline, first, rest, &count);
    pipeline->unexecuted = rest;
    if (status == 0)
        delivered = broker_deliver(pipeline->broker, PULLS);
    if (delivered >= 0)
        done = step(pipeline, &status, &steps, &done_count);
    if (status != 0 || delivered < 0)
        fail(pipeline);
    leave(pipeline);
    confirm(pipeline, wrote, count);
    confirm(pipeline, done, done_count);
    *more = delivered > 0 || rest || steps;
    return status == 0 && delivered >= 0 ? 0 : -1;
}

static void run(struct pipeline *pipeline)
{
    /* What an environment before left may be much. */
    pipeline->unexecuted = intake_round(&pipeline->intake, pipeline->unexecuted);
    for (;;) {
        uint32_t seen = atomic_load(&slot_of(pipeline)->wake);
        int stop = atomic_load(&pipeline->stop);
        bool more = false;
        struct operation *first = pipeline->unexecuted;
        pipeline->unexecuted = NULL;
        if (!first)
            first = intake_round(&pipeline->intake, pipeline_take_requests(pipeline));
        if (stop == PIPELINE_LEAVE) {
            pipeline->unexecuted = first;
            break;
        }
        pipeline->broker->ending = stop == PIPELINE_FINISH;
        if (stop == PIPELINE_FINISH && !first && list_empty(&pipeline->broker->tasks))
            break;
        if (work(pipeline, first, &more) != 0 || atomic_load(&pipeline->sync_failed))
            break;
        if (more || !intake_is_empty(&pipeline->intake) || !mailbox_empty(&pipeline->requests))
            continue;
        zone_sleep(slot_of(pipeline), seen, SLEEP_MS);
        if (atomic_load(&slot_of(pipeline)->wake) == seen)
            broker_rest(pipeline->broker);
    }
}

/* What waits for its round is left to the next environment. What takes long and is not done: its
 * fate is unknown when it writes, and begins anew otherwise. */
static void break_off(struct pipeline *pipeline)
{
    struct operation **last = &pipeline->unexecuted;
    struct operation *operation = broker_break_off(pipeline->broker);
    while (*last)
        last = &(*last)->next;
    *last = intake_rest(&pipeline->intake);
    while (*last)
        last = &(*last)->next;
    while (operation) {
        struct operation *next = operation->next;
        operation_reset(operation);
        operation->next = NULL;
        if (operation_changes_store(operation)) {
            operation->status = FIBP_STORAGE_ERROR;
            operation->reason = "the store failed while this was under way";
            pipeline_post_result(pipeline, operation);
        } else {
            *last = operation;
            last = &operation->next;
        }
        operation = next;
    }
}

static void stop_sync_thread(struct pipeline *pipeline)
{
    atomic_store(&pipeline->sync_stop, true);
    atomic_fetch_add(&pipeline->sync_wake, 1);
    futex_wake(&pipeline->sync_wake, 1);
    thread_join(&pipeline->sync_thread);
}

void store_thread_run(void *argument)
{
    struct pipeline *pipeline = argument;
    int opening = PIPELINE_OPENING, status = -1;
    atomic_store(&pipeline->sync_stop, false);
    atomic_store(&pipeline->sync_failed, false);
    atomic_store(&pipeline->sync_idle, 0);
    if (enter(pipeline)) {
        status = open_store(pipeline);
        leave(pipeline);
    }
    if (status == 0 && thread_create(&pipeline->sync_thread, "sync", sync_thread_run, pipeline,
                                     &pipeline->failure) == 0) {
        atomic_compare_exchange_strong(&pipeline->state, &opening, PIPELINE_RUNNING);
        atomic_store(&pipeline->empty, false);
        run(pipeline);
        break_off(pipeline);
        atomic_store(&pipeline->empty, true);
        stop_sync_thread(pipeline);
        if (atomic_load(&pipeline->sync_failed) && !pipeline->failure.text[0])
            err_set(&pipeline->failure, 0, "a flush of the log failed");
    }
    if (atomic_load(&pipeline->stop) == PIPELINE_GO_ON) {
        /* Closing can hang on what a dead process holds: the master must know before. */
        if (!pipeline->failure.text[0])
            err_set(&pipeline->failure, 0, "the environment was given up");
        atomic_store(&pipeline->state, PIPELINE_FAILED);
        pipeline_signal(pipeline);
    }
    close_store(pipeline);
    pipeline_announce_end(pipeline);
}
