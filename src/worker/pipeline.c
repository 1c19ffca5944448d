#include "worker/pipeline.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "os/log.h"
#include "os/time.h"
#include "sched/statistics.h"
#include "worker/store_thread.h"

static void init_mailboxes(struct pipeline *pipeline)
{
    mailbox_init(&pipeline->requests);
    mailbox_init(&pipeline->flushes);
    mailbox_init(&pipeline->results);
}

struct pipeline *pipeline_create(const struct pipeline_options *options, struct err *err)
{
    struct pipeline *pipeline = calloc(1, sizeof(*pipeline));
    if (!pipeline) {
        err_set_errno(err, ENOMEM, "create pipeline");
        return NULL;
    }
    pipeline->options = *options;
    pipeline->commits = statistics_commits(options->zone->statistics, options->slot);
    init_mailboxes(pipeline);
    intake_init(&pipeline->intake);
    list_init(&pipeline->outstanding);
    list_init(&pipeline->subscriptions);
    pipeline->finished_end = &pipeline->finished;
    pipeline->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (pipeline->fd < 0) {
        err_set_errno(err, errno, "create eventfd");
        free(pipeline);
        return NULL;
    }
    return pipeline;
}

void pipeline_destroy(struct pipeline *pipeline)
{
    if (!pipeline)
        return;
    close(pipeline->fd);
    free(pipeline);
}

int pipeline_fd(const struct pipeline *pipeline)
{
    return pipeline->fd;
}

void pipeline_signal(struct pipeline *pipeline)
{
    uint64_t one = 1;
    if (write(pipeline->fd, &one, sizeof(one)) != (ssize_t)sizeof(one)) {
        /* Only a counter that is full already refuses: the loop is awake then. */
    }
}

void pipeline_post_result(struct pipeline *pipeline, struct operation *operation)
{
    if (mailbox_post(&pipeline->results, &operation->link))
        pipeline_signal(pipeline);
}

void pipeline_announce_end(struct pipeline *pipeline)
{
    atomic_store(&pipeline->ended, true);
    pipeline_signal(pipeline);
}

static struct operation *chain_of(struct mailbox_link *link)
{
    struct operation *first = (struct operation *)link;
    for (struct operation *operation = first; operation;
         operation = (struct operation *)operation->link.next)
        operation->next = (struct operation *)operation->link.next;
    return first;
}

struct operation *pipeline_take_requests(struct pipeline *pipeline)
{
    return chain_of(mailbox_take(&pipeline->requests));
}

struct operation *pipeline_take_flushes(struct pipeline *pipeline)
{
    return chain_of(mailbox_take(&pipeline->flushes));
}

void pipeline_submit(struct pipeline *pipeline, struct operation *first)
{
    struct zone_slot *slot = &pipeline->options.zone->slots[pipeline->options.slot];
    bool was_empty = false;
    uint64_t now_us = time_monotonic_ns() / 1000;
    while (first) {
        struct operation *next = first->next;
        list_append(&pipeline->outstanding, &first->outstanding);
        pipeline->outstanding_count++;
        first->submitted_us = now_us;
        was_empty = mailbox_post(&pipeline->requests, &first->link) || was_empty;
        first = next;
    }
    if (was_empty)
        zone_wake(slot);
}

static struct list *live_of(struct operation *operation)
{
    return &((struct operation_subscription *)operation)->subscription->live;
}

/* Notes what came back: from here on it is the loop's alone. */
static void finish_submitted(struct pipeline *pipeline, struct operation *operation)
{
    list_remove(&operation->outstanding);
    pipeline->outstanding_count--;
    if (operation->kind == OPERATION_UNSUBSCRIBE)
        list_remove(live_of(operation));
    else if (operation->kind == OPERATION_SUBSCRIBE && operation->status == FIBP_OK)
        list_append(&pipeline->subscriptions, live_of(operation));
}

static void finish(struct pipeline *pipeline, struct operation *operation, uint64_t now_us)
{
    if (operation->kind == OPERATION_DELIVERY) {
        struct operation_delivery *delivery = (struct operation_delivery *)operation;
        delivery->subscription->taken += delivery->count;
    } else if (operation->kind == OPERATION_SUBSCRIPTION_ENDED) {
        list_remove(&((struct operation_ended *)operation)->subscription->live);
    } else if (operation->kind != OPERATION_SETTINGS) {
        if (operation->wrote && operation->status == FIBP_OK)
            histogram_record(pipeline->commits, now_us - operation->submitted_us);
        finish_submitted(pipeline, operation);
    }
    operation->next = NULL;
    *pipeline->finished_end = operation;
    pipeline->finished_end = &operation->next;
}

static void harvest(struct pipeline *pipeline)
{
    struct operation *operation = chain_of(mailbox_take(&pipeline->results)), *next;
    uint64_t now_us = operation ? time_monotonic_ns() / 1000 : 0;
    for (; operation; operation = next) {
        next = operation->next;
        finish(pipeline, operation, now_us);
    }
}

struct operation *pipeline_take(struct pipeline *pipeline)
{
    uint64_t count;
    if (read(pipeline->fd, &count, sizeof(count)) < 0) {
        /* EAGAIN: nothing was signalled; results may be there all the same. */
    }
    harvest(pipeline);
    struct operation *first = pipeline->finished;
    pipeline->finished = NULL;
    pipeline->finished_end = &pipeline->finished;
    return first;
}

uint64_t pipeline_outstanding(const struct pipeline *pipeline)
{
    return pipeline->outstanding_count;
}

static void join(struct pipeline *pipeline)
{
    if (!pipeline->joinable || !atomic_load(&pipeline->ended))
        return;
    thread_join(&pipeline->thread);
    pipeline->joinable = false;
    atomic_store(&pipeline->state, pipeline->stop_asked ? PIPELINE_AWAY : PIPELINE_FAILED);
}

enum pipeline_state pipeline_state(struct pipeline *pipeline)
{
    join(pipeline);
    return atomic_load(&pipeline->state);
}

const char *pipeline_reason(const struct pipeline *pipeline)
{
    return pipeline->failure.text;
}

/* The threads are away and what they posted is taken: the list is what the last environment knew,
 * and nothing of it is freed before a new one has executed its unsubscription. */
static void gather_subscriptions(struct pipeline *pipeline)
{
    struct subscription **end = &pipeline->announced;
    harvest(pipeline);
    LIST_EACH(&pipeline->subscriptions, entry)
    {
        struct subscription *subscription = CONTAINER_OF(entry, struct subscription, live);
        subscription->store = NULL;
        *end = subscription;
        end = &subscription->announce;
    }
    *end = NULL;
}

int pipeline_start(struct pipeline *pipeline, uint64_t generation, struct err *err)
{
    join(pipeline);
    if (pipeline->joinable)
        return err_set(err, 0, "start the store thread: the old one has not ended");
    gather_subscriptions(pipeline);
    pipeline->generation = generation;
    pipeline->failure.text[0] = '\0';
    pipeline->stop_asked = false;
    atomic_store(&pipeline->stop, PIPELINE_GO_ON);
    atomic_store(&pipeline->ended, false);
    atomic_store(&pipeline->empty, true);
    atomic_store(&pipeline->state, PIPELINE_OPENING);
    if (thread_create(&pipeline->thread, "store", store_thread_run, pipeline, err) != 0) {
        atomic_store(&pipeline->state, PIPELINE_AWAY);
        return -1;
    }
    pipeline->joinable = true;
    return 0;
}

/* Gives back what was submitted and will not run any more. */
static void refuse_requests(struct pipeline *pipeline)
{
    struct operation *operation = pipeline->unexecuted;
    pipeline->unexecuted = NULL;
    for (int round = 0; round < 2; round++) {
        while (operation) {
            struct operation *next = operation->next;
            operation->status = FIBP_STORAGE_ERROR;
            operation->reason = "the broker is stopping";
            pipeline_post_result(pipeline, operation);
            operation = next;
        }
        operation = pipeline_take_requests(pipeline);
    }
}

void pipeline_stop(struct pipeline *pipeline, bool finish)
{
    join(pipeline);
    pipeline->stop_asked = true;
    if (!pipeline->joinable) {
        atomic_store(&pipeline->state, PIPELINE_AWAY);
        if (finish)
            refuse_requests(pipeline);
        return;
    }
    atomic_store(&pipeline->state, PIPELINE_STOPPING);
    atomic_store(&pipeline->stop, finish ? PIPELINE_FINISH : PIPELINE_LEAVE);
    zone_wake(&pipeline->options.zone->slots[pipeline->options.slot]);
}

/* --- shedding --- */

static struct operation **append(struct operation **end, struct operation *chain)
{
    *end = chain;
    while (*end)
        end = &(*end)->next;
    return end;
}

/* Takes off the list of what is outstanding, and returns, what no thread has looked at: the
 * mailbox's content, and what a thread that will execute nothing any more left for the next
 * environment. A thread that opens the environment or closes it is one; it looks at pipeline->stop
 * before it takes anything. */
static struct operation *take_unbegun(struct pipeline *pipeline)
{
    struct operation *first = NULL, **end = &first;
    if (atomic_load(&pipeline->empty))
        end = append(end, pipeline->unexecuted);
    append(end, pipeline_take_requests(pipeline));
    for (struct operation *operation = first; operation; operation = operation->next)
        list_remove(&operation->outstanding);
    return first;
}

/* What the threads had in hand: those that may have had an effect come back, the others are
 * returned. */
static struct operation *sort_begun(struct pipeline *pipeline)
{
    struct operation *again = NULL, **end = &again;
    LIST_EACH_SAFE(&pipeline->outstanding, entry)
    {
        struct operation *operation = CONTAINER_OF(entry, struct operation, outstanding);
        operation_reset(operation);
        if (operation_changes_store(operation)) {
            operation->status = FIBP_STORAGE_ERROR;
            operation->reason = "the store failed while this was under way";
            finish(pipeline, operation, operation->submitted_us); /* failed: not timed */
        } else {
            operation->next = NULL;
            end = append(end, operation);
        }
    }
    list_init(&pipeline->outstanding);
    return again;
}

/* In the child. Everything that a thread could have been writing at the moment of the fork is
 * written anew: what the child has of it may be a mixture of old and new. */
static void forget_threads(struct pipeline *pipeline, struct operation *unbegun)
{
    struct operation *again = sort_begun(pipeline), **end = &pipeline->unexecuted;
    init_mailboxes(pipeline);
    intake_init(&pipeline->intake);
    append(append(end, again), unbegun);
    for (struct operation *operation = pipeline->unexecuted; operation; operation = operation->next)
        list_append(&pipeline->outstanding, &operation->outstanding);
    atomic_store(&pipeline->deciding_bytes, 0);
    pipeline->env = NULL;
    pipeline->broker = NULL;
    pipeline->joinable = false;
    pipeline->failure.text[0] = '\0';
    atomic_store(&pipeline->state, PIPELINE_AWAY);
}

int pipeline_shed(struct pipeline *pipeline, pid_t *child, struct err *err)
{
    struct operation *unbegun = take_unbegun(pipeline);
    *child = fork();
    if (*child < 0)
        return err_set_errno(err, errno, "fork away from the store thread");
    if (*child > 0)
        return 0;
    forget_threads(pipeline, unbegun);
    env_abandon(pipeline->options.conf->store.path, pipeline->options.regions);
    pipeline_signal(pipeline);
    return 0;
}
