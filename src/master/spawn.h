/*
 * spawn - forks the children of the master and prepares them for what they are.
 */
#ifndef FILAD_MASTER_SPAWN_H
#define FILAD_MASTER_SPAWN_H

#include "core/err.h"
#include "master/state.h"

/* What a worker is made from: the present configuration, or the one of a reload under way. */
struct spawn_source {
    const struct conf *conf;
    const struct listeners *listeners;
};

/* Fork a child and enter it in the process table; NULL on failure, with everything given back. The
 * caller tells the recovery machine. In the child they do not return. */
struct process *spawn_worker(struct master *master, unsigned index,
                             const struct spawn_source *source, struct err *err)
    __attribute__((warn_unused_result));
struct process *spawn_keeper(struct master *master, struct err *err)
    __attribute__((warn_unused_result));
struct process *spawn_helper(struct master *master, struct err *err)
    __attribute__((warn_unused_result));

#endif
