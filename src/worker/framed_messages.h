/*
 * framed_messages - requests about the messages of a queue as a whole: redrive, purge,
 * peek.
 */
#ifndef FILAD_WORKER_FRAMED_MESSAGES_H
#define FILAD_WORKER_FRAMED_MESSAGES_H

#include "worker/framed_request.h"

extern const struct framed_handler framed_redrive_handler, framed_purge_handler,
    framed_peek_handler;

#endif
