/*
 * task - an operation that takes long: it is done a step at a time, and everything else that the
 * thread has to do goes on between two steps. Its answer comes when it is done, after those of
 * operations that came later.
 *
 * Steps are transactions of their own. So what was done stays done when a task is broken off, and
 * the same operation goes on there when it is sent again.
 */
#ifndef FILAD_BROKER_TASK_H
#define FILAD_BROKER_TASK_H

#include "broker/broker.h"

struct task_method;

struct task {
    struct list link; /* in broker.tasks */
    struct operation *operation;
    uint64_t progress; /* what it has done so far, in the operation's own unit */
    const struct task_method *method;
};

/* What a kind of task is. Its struct begins with `struct task` and is all zeros at first. */
struct task_method {
    size_t size; /* of that struct */
    /* *done: the operation has its outcome. -1 as everywhere in this layer. */
    int (*step)(struct broker *broker, struct task *task, bool *done);
    /* Lets go of what the struct holds, not of the struct. */
    void (*release)(struct task *task);
};

/* Makes a task and puts it behind the others; its operation comes back through broker_step. Without
 * memory it is answered at once, with FIBP_STORAGE_ERROR. */
void task_begin(struct broker *broker, struct operation *operation,
                const struct task_method *method);

/* The outcome of one that must stop: FIBP_OK when it has done something. */
void task_stop(struct task *task, uint8_t status, const char *reason);

/* A queue that a task works on: the one it began with, or NULL when that was deleted. */
int task_queue(struct broker *broker, struct str name, uint64_t id, struct local_queue **local)
    __attribute__((warn_unused_result));

#endif
