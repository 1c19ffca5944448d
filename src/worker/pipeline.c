#include "worker/pipeline.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "os/log.h"
#include "worker/store_thread.h"

struct pipeline *pipeline_create(const struct pipeline_options *options, struct err *err)
{
    struct pipeline *pipeline = calloc(1, sizeof(*pipeline));
    if (!pipeline) {
        err_set_errno(err, ENOMEM, "create pipeline");
        return NULL;
    }
    pipeline->options = *options;
    mailbox_init(&pipeline->requests);
    mailbox_init(&pipeline->flushes);
    mailbox_init(&pipeline->results);
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
    free(pipeline->detached);
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
    while (first) {
        struct operation *next = first->next;
        pipeline->outstanding++;
        was_empty = mailbox_post(&pipeline->requests, &first->link) || was_empty;
        first = next;
    }
    if (was_empty)
        zone_wake(slot);
}

struct operation *pipeline_take(struct pipeline *pipeline)
{
    uint64_t count;
    if (read(pipeline->fd, &count, sizeof(count)) < 0) {
        /* EAGAIN: nothing was signalled; results may be there all the same. */
    }
    struct operation *first = chain_of(mailbox_take(&pipeline->results));
    for (struct operation *operation = first; operation; operation = operation->next)
        if (operation->kind != OPERATION_DELIVERY &&
            operation->kind != OPERATION_SUBSCRIPTION_ENDED)
            pipeline->outstanding--;
    return first;
}

uint64_t pipeline_outstanding(const struct pipeline *pipeline)
{
    return pipeline->outstanding;
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

int pipeline_start(struct pipeline *pipeline, uint64_t generation, struct err *err)
{
    join(pipeline);
    if (pipeline->joinable)
        return err_set(err, 0, "start the store thread: the old one has not ended");
    pipeline->generation = generation;
    pipeline->failure.text[0] = '\0';
    pipeline->stop_asked = false;
    atomic_store(&pipeline->stop, PIPELINE_GO_ON);
    atomic_store(&pipeline->ended, false);
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
