/*
 * framed_stream - a connection as a stream of frames of the framed dialect: which dialect it is
 * (spec/fibp.md part C), the handshake (A4), then frame after frame (A2, A5, A6) to the handlers.
 */
#ifndef FILAD_WORKER_FRAMED_STREAM_H
#define FILAD_WORKER_FRAMED_STREAM_H

#include "worker/session.h"

/* The stages of a session. Every new one begins with sniffing. */
extern const struct session_dialect framed_stream_sniffing;
extern const struct session_dialect framed_stream_handshake;
extern const struct session_dialect framed_stream_open;

/* An Error frame; with the metadata that belongs to its status. */
void framed_stream_error(struct session *session, uint32_t request_id, enum fibp_status status,
                         struct str text);

/* Error InvalidFrame about an opcode, as it came, that no handler takes. */
void framed_stream_refuse_opcode(struct session *session, uint32_t request_id, uint8_t opcode);

#endif
