#include "broker/task.h"

#include <stdlib.h>

#include "fibp/status.h"

#define TASKS_AT_WORK 8 /* the others wait, and hold nothing yet */

void task_begin(struct broker *broker, struct operation *operation,
                const struct task_method *method)
{
    struct task *task = calloc(1, method->size);
    operation->status = FIBP_OK;
    if (!task) {
        operation->status = FIBP_STORAGE_ERROR;
        operation->reason = "no memory";
        return;
    }
    operation->later = true;
    task->operation = operation;
    task->method = method;
    list_append(&broker->tasks, &task->link);
}

void task_stop(struct task *task, uint8_t status, const char *reason)
{
    task->operation->status = task->progress ? (uint8_t)FIBP_OK : status;
    task->operation->reason = task->progress ? NULL : reason;
}

int task_queue(struct broker *broker, struct str name, uint64_t id, struct local_queue **local)
{
    if (broker_find_queue(broker, name, local) != 0)
        return -1;
    if (*local && (*local)->queue->id != id)
        *local = NULL;
    return 0;
}

static struct operation *end(struct task *task)
{
    struct operation *operation = task->operation;
    list_remove(&task->link);
    if (task->method->release)
        task->method->release(task);
    free(task);
    operation->later = false;
    operation->next = NULL;
    return operation;
}

static int step(struct broker *broker, struct task *task, bool *done)
{
    *done = broker->ending;
    if (broker->ending) {
        task_stop(task, FIBP_STORAGE_ERROR, "the broker is stopping");
        return 0;
    }
    int status = task->method->step(broker, task, done);
    pool_reset(broker->scratch);
    return status;
}

int broker_step(struct broker *broker, struct operation **finished, bool *more)
{
    struct operation **last = finished;
    unsigned count = 0;
    *finished = NULL;
    *more = !list_empty(&broker->tasks);
    if (broker->apart.operation) /* a large enqueue is half written, under this thread's marker */
        return 0;
    LIST_EACH_SAFE(&broker->tasks, entry)
    {
        struct task *task = CONTAINER_OF(entry, struct task, link);
        bool done = false;
        if (count++ == TASKS_AT_WORK)
            break;
        if (step(broker, task, &done) != 0)
            return -1;
        if (!done)
            continue;
        *last = end(task);
        last = &(*last)->next;
    }
    *more = !list_empty(&broker->tasks);
    return 0;
}

struct operation *broker_break_off(struct broker *broker)
{
    struct operation *first = NULL, **last = &first;
    LIST_EACH_SAFE(&broker->tasks, entry)
    {
        *last = end(CONTAINER_OF(entry, struct task, link));
        last = &(*last)->next;
    }
    return first;
}
