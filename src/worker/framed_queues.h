/*
 * framed_queues - requests about queues: create, delete, list, statistics.
 */
#ifndef FILAD_WORKER_FRAMED_QUEUES_H
#define FILAD_WORKER_FRAMED_QUEUES_H

#include "worker/framed_request.h"

extern const struct framed_handler framed_create_queue_handler, framed_delete_queue_handler,
    framed_list_queues_handler, framed_get_stats_handler, framed_queue_details_handler;

#endif
