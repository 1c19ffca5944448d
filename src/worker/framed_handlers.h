/*
 * framed_handlers - the requests of the framed dialect: one table says for each opcode how its body
 * becomes an operation and how the outcome becomes an answer (spec/fibp.md A8, A9; in any
 * numbering).
 */
#ifndef FILAD_WORKER_FRAMED_HANDLERS_H
#define FILAD_WORKER_FRAMED_HANDLERS_H

#include "fibp/frame.h"
#include "worker/session.h"

/* Handles a complete frame of an open session: answers it, or submits what it asks for. */
void framed_handlers_dispatch(struct session *session, const struct frame *frame);

#endif
