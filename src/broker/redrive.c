/* redrive - brings the messages of a dead-letter queue back to the queue they came from, oldest
 * first, a batch at a time (broker/move). Delayed ones stay: somebody has asked for them later. */
#include "broker/move.h"
#include "broker/task.h"
#include "fibp/status.h"
#include "os/log.h"

#define DLQ_SUFFIX STR(".dlq")

struct redrive {
    struct task task;
    uint64_t from_id, to_id;
    bool begun;
    struct order order;
};

static struct operation_redrive *operation_of(struct redrive *redrive)
{
    return (struct operation_redrive *)redrive->task.operation;
}

/* The name of the queue that a dead-letter queue belongs to; data NULL: it is none. */
static struct str parent_name(struct str name)
{
    if (name.size <= DLQ_SUFFIX.size)
        return (struct str){.data = NULL};
    size_t size = name.size - DLQ_SUFFIX.size;
    if (!str_equal(str_of(name.data + size, DLQ_SUFFIX.size), DLQ_SUFFIX))
        return (struct str){.data = NULL};
    return str_of(name.data, size);
}

static int begin(struct broker *broker, struct redrive *redrive, bool *done)
{
    struct operation_redrive *operation = operation_of(redrive);
    struct str parent = parent_name(operation->name);
    struct local_queue *from = NULL, *to = NULL;
    *done = true;
    if (broker_find_queue(broker, operation->name, &from) != 0 ||
        (parent.data && broker_find_queue(broker, parent, &to) != 0))
        return -1;
    if (!from)
        operation->operation.status = FIBP_QUEUE_NOT_FOUND;
    else if (!parent.data)
        operation->operation.status = FIBP_NOT_A_DLQ;
    else if (!to)
        operation->operation.status = FIBP_PARENT_QUEUE_NOT_FOUND;
    if (operation->operation.status != FIBP_OK)
        return 0;
    *done = false;
    redrive->begun = true;
    redrive->from_id = from->queue->id;
    redrive->to_id = to->queue->id;
    return order_begin(&redrive->order, broker, from->queue);
}

static int move(struct broker *broker, struct redrive *redrive, struct local_queue *from,
                struct local_queue *to, bool *done)
{
    struct operation_redrive *operation = operation_of(redrive);
    uint64_t left = operation->limit ? operation->limit - operation->moved : MOVE_MAX;
    uint32_t moved = 0;
    uint8_t status = FIBP_OK;
    if (move_ready(broker, from, to, &redrive->order, left < MOVE_MAX ? (uint32_t)left : MOVE_MAX,
                   &moved, &status) != 0)
        return -1;
    operation->moved = redrive->task.progress += moved;
    *done =
        status != FIBP_OK || !order_first(&redrive->order) || (operation->limit && moved == left);
    if (status != FIBP_OK)
        task_stop(&redrive->task, status, NULL);
    if (*done && redrive->order.skipped)
        log_write(LOG_ERROR, "store",
                  "redrive of queue \"%.*s\": %llu moved, %llu that are damaged stay",
                  STR_PRINT(from->queue->name), (unsigned long long)operation->moved,
                  (unsigned long long)redrive->order.skipped);
    return 0;
}

static int step(struct broker *broker, struct task *task, bool *done)
{
    struct redrive *redrive = CONTAINER_OF(task, struct redrive, task);
    struct operation_redrive *operation = operation_of(redrive);
    struct local_queue *from = NULL, *to = NULL;
    int result = 0;
    if (!redrive->begun)
        return begin(broker, redrive, done);
    if (task_queue(broker, operation->name, redrive->from_id, &from) != 0 ||
        task_queue(broker, parent_name(operation->name), redrive->to_id, &to) != 0)
        return -1;
    *done = true;
    if (!from || !to) {
        task_stop(task, from ? FIBP_PARENT_QUEUE_NOT_FOUND : FIBP_QUEUE_NOT_FOUND, NULL);
        return 0;
    }
    if (atomic_load(&broker->scheduler->space_low)) {
        task_stop(task, FIBP_STORAGE_ERROR, "the disk is full");
        return 0;
    }
    if (redrive->order.built)
        return move(broker, redrive, from, to, done);
    if (order_build(&redrive->order, broker, from, &result) != 0)
        return -1;
    *done = result;
    if (result)
        task_stop(task, FIBP_STORAGE_ERROR, NULL);
    return 0;
}

static void release(struct task *task)
{
    order_free(&CONTAINER_OF(task, struct redrive, task)->order);
}

static const struct task_method method = {sizeof(struct redrive), step, release};

int broker_redrive(struct broker *broker, struct operation *operation)
{
    operation->wrote = true;
    ((struct operation_redrive *)operation)->moved = 0;
    task_begin(broker, operation, &method);
    return 0;
}
