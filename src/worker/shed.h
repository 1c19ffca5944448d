/*
 * shed - leaves store threads behind that do not end: the process forks, its child goes on with
 * every connection, timer and buffer, and the threads end with the parent.
 *
 * The child does nothing before the master has been told of it, so that whatever dies at whatever
 * moment, a process that serves is one that the master knows. The master learns from the end of the
 * parent that nothing touches the old environment any more.
 */
#ifndef FILAD_WORKER_SHED_H
#define FILAD_WORKER_SHED_H

#include "core/err.h"
#include "worker/pipeline.h"

/* Returns 0 in the child, with the pipeline away (pipeline_shed), and -1 in the process that called
 * when it could not fork or tell the master over `channel`: then it has to leave. Otherwise that
 * process ends in here with EXIT_SHED. */
int shed_threads(struct pipeline *pipeline, int channel, struct err *err)
    __attribute__((warn_unused_result));

#endif
