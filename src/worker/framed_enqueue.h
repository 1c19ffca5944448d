/*
 * framed_enqueue - the request Enqueue: its messages are shown to the hooks, one after the other
 * and over several turns of the loop when these take long, and then submitted together.
 */
#ifndef FILAD_WORKER_FRAMED_ENQUEUE_H
#define FILAD_WORKER_FRAMED_ENQUEUE_H

#include "worker/framed_request.h"

extern const struct framed_handler framed_enqueue_handler;

#endif
