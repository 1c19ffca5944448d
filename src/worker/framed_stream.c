#include "worker/framed_stream.h"

#include <stdio.h>

#include "core/bytes.h"
#include "fibp/framed.h"
#include "fibp/sniff.h"
#include "os/log.h"
#include "worker/assembly.h"
#include "worker/framed_handlers.h"

/* A Handshake is at most a key of 65,535 bytes; later versions may append to it. */
#define HANDSHAKE_LENGTH_MAX 131072u

#define PREFACE_OP_GOAWAY 0xFFu
#define PREFACE_HEADER 6u /* bytes of a frame that its length counts besides the body */

#define RETRY_AFTER_MS "100"

/* ---- what the server says of itself ---- */

void framed_stream_error(struct session *session, uint32_t request_id, enum fibp_status status,
                         struct str text)
{
    struct wire_pair pair = {.key = {NULL, 0}};

    if (status == FIBP_CHANNEL_FULL)
        pair = (struct wire_pair){STR("retry_after_ms"), STR(RETRY_AFTER_MS)};
    else if (status == FIBP_UNSUPPORTED_VERSION)
        pair = (struct wire_pair){STR("max_version"), STR("1")};
    session_check(session, framed_error(session_answers(session), request_id, status, text, &pair,
                                        pair.key.size > 0));
}

void framed_stream_refuse_opcode(struct session *session, uint32_t request_id, uint8_t opcode)
{
    uint8_t meaning = numbering_opcode(session->numbering, opcode);
    char text[128];

    if (opcode_is_accepted(meaning))
        snprintf(text, sizeof(text), "operation not in this build: %s", opcode_name(meaning));
    else
        snprintf(text, sizeof(text), "unknown or unsupported opcode: 0x%02x", opcode);
    framed_stream_error(session, request_id, FIBP_INVALID_FRAME, str_from_c(text));
}

/* request_id 0: no client uses it for a request that waits, and a Pong to it means nothing to us.
 */
static void framed_stream_ping(struct session *session)
{
    session_check(session, frame_empty(session_answers(session), OPCODE_PING, 0));
}

static void framed_stream_farewell(struct session *session)
{
    session_check(session, frame_empty(session_answers(session), OPCODE_DISCONNECT, 0));
}

static void framed_stream_nothing(struct session *session)
{
    (void)session;
}

/* ---- which dialect ---- */

/* A GOAWAY frame of the preface dialect. */
static void framed_stream_goaway(struct session *session, struct str text)
{
    struct buf *out = session_answers(session);

    buf_append_u32(out, (uint32_t)(PREFACE_HEADER + text.size));
    buf_append_u8(out, 0); /* flags */
    buf_append_u8(out, PREFACE_OP_GOAWAY);
    buf_append_u32(out, 0); /* corr_id */
    buf_append_str(out, text);
    session_check(session, out->failed ? -1 : 0);
    session_finish(session);
}

static enum session_take framed_stream_sniff(struct session *session)
{
    switch (sniff(conn_input(&session->conn))) {
    case SNIFF_MORE:
        session->wanted = 4;
        return SESSION_MORE;
    case SNIFF_FRAMED:
        session->dialect = &framed_stream_handshake;
        break;
    case SNIFF_PREFACE:
        framed_stream_goaway(session, STR("this build speaks only the framed dialect of FIBP"));
        break;
    case SNIFF_BAD:
        framed_stream_goaway(session, STR("invalid magic"));
        break;
    case SNIFF_TLS:
        log_write(LOG_INFO, "session", "a TLS client on a plain listener: closing its connection");
        session_close(session, "TLS on a plain listener");
        break;
    case SNIFF_HTTP:
        log_write(LOG_INFO, "session", "an HTTP/2 (gRPC?) client: closing its connection");
        session_close(session, "HTTP/2 on a FIBP listener");
        break;
    }
    return SESSION_TAKEN;
}

const struct session_dialect framed_stream_sniffing = {
    .take = framed_stream_sniff,
    .error = framed_stream_error,
    .ping = framed_stream_nothing,
    .farewell = framed_stream_nothing,
};

/* ---- frames ---- */

/* The frame at the start of the input. SESSION_MORE also when there is none because the session has
 * ended over it. */
static enum session_take framed_stream_frame(struct session *session, uint32_t length_max,
                                             struct frame *frame)
{
    enum frame_result result = frame_parse(conn_input(&session->conn), length_max, frame);

    if (result == FRAME_READY)
        return SESSION_TAKEN;
    if (result == FRAME_MORE)
        session->wanted = frame->size;
    else
        session_fail(session, 0, FIBP_INVALID_FRAME, str_from_c(frame_result_text(result)));
    return SESSION_MORE;
}

static void framed_stream_consume(struct session *session, const struct frame *frame)
{
    if (conn_is_open(&session->conn))
        conn_consume(&session->conn, frame->size);
}

/* ---- handshake ---- */

static void framed_stream_greet(struct session *session, const struct frame *frame)
{
    struct framed_handshake request;
    struct wire_reader reader;
    char reason[128];

    wire_reader_init(&reader, frame->body);
    if (!framed_handshake(&reader, &request)) {
        wire_describe(&reader, reason, sizeof(reason));
        session_fail(session, 0, FIBP_INVALID_FRAME, str_from_c(reason));
        return;
    }
    if (request.version != FRAME_PROTOCOL_VERSION) {
        session_fail(session, 0, FIBP_UNSUPPORTED_VERSION,
                     STR("the only protocol version here is 1"));
        return;
    }
    uint32_t max_frame_size = (uint32_t)session->sessions->conf->fibp.max_frame_size;
    session_check(session, framed_handshake_ok(session_answers(session), FRAME_PROTOCOL_VERSION, 0,
                                               max_frame_size));
    if (session->state != SESSION_NEW)
        return;
    session->dialect = &framed_stream_open;
    session_opened(session);
}

/* What is no Handshake is refused by its header: nobody gets memory for a large frame before. */
static enum session_take framed_stream_handshake_take(struct session *session)
{
    struct str input = conn_input(&session->conn);
    uint32_t length_max = (uint32_t)session->sessions->conf->fibp.max_frame_size;
    struct frame frame;
    enum session_take take = framed_stream_frame(session, length_max, &frame);

    if (session->state != SESSION_NEW)
        return SESSION_MORE;
    if (input.size < FRAME_OVERHEAD) {
        if (session->wanted > FRAME_OVERHEAD)
            session->wanted = FRAME_OVERHEAD;
        return take;
    }
    if (input.data[4] != OPCODE_HANDSHAKE) {
        session_fail(session, bytes_get_u32(input.data + 6), FIBP_INVALID_FRAME,
                     STR("expected Handshake frame"));
        return SESSION_MORE;
    }
    if (bytes_get_u32(input.data) > HANDSHAKE_LENGTH_MAX) {
        session_fail(session, 0, FIBP_INVALID_FRAME, STR("frame too large for a Handshake"));
        return SESSION_MORE;
    }
    if (take == SESSION_TAKEN) {
        framed_stream_greet(session, &frame);
        framed_stream_consume(session, &frame);
    }
    return take;
}

const struct session_dialect framed_stream_handshake = {
    .take = framed_stream_handshake_take,
    .error = framed_stream_error,
    .ping = framed_stream_nothing,
    .farewell = framed_stream_nothing,
};

/* ---- after the handshake ---- */

/* The bytes of a request are of use to nobody when no numbering knows its opcode. */
static bool framed_stream_knows(uint8_t opcode)
{
    return opcode_is_accepted(opcode) || (opcode >= OPCODE_ENQUEUE && opcode <= OPCODE_NACK_RESULT);
}

/* The body of a frame that goes to the assembly. */
static enum session_take framed_stream_take_part(struct session *session)
{
    struct assembly_request request;

    switch (assembly_take(session, &request)) {
    case ASSEMBLY_MORE:
        return SESSION_MORE;
    case ASSEMBLY_TAKEN:
        break;
    case ASSEMBLY_READY:
        session->body = request.chunk;
        framed_handlers_dispatch(session, &request.frame);
        session->body = NULL;
        assembly_done(&request);
        break;
    }
    return SESSION_TAKEN;
}

static enum session_take framed_stream_take(struct session *session)
{
    struct frame frame;
    uint32_t length_max = (uint32_t)session->sessions->conf->fibp.max_frame_size;
    enum session_take take;

    if (assembly_is_taking(session))
        return framed_stream_take_part(session);
    take = framed_stream_frame(session, length_max, &frame);
    if (session->state > SESSION_DRAINING)
        return SESSION_MORE;
    if (conn_input(&session->conn).size < FRAME_OVERHEAD) {
        session->wanted = FRAME_OVERHEAD;
        return SESSION_MORE;
    }
    if (assembly_wants(session, &frame, take == SESSION_TAKEN)) {
        session->wanted = 0;
        if (!assembly_begin(session, &frame, framed_stream_knows(frame.opcode)))
            return SESSION_MORE;
        conn_consume(&session->conn, FRAME_OVERHEAD);
        return framed_stream_take_part(session);
    }
    if (take == SESSION_TAKEN) {
        framed_handlers_dispatch(session, &frame);
        framed_stream_consume(session, &frame);
    }
    return take;
}

const struct session_dialect framed_stream_open = {
    .take = framed_stream_take,
    .error = framed_stream_error,
    .ping = framed_stream_ping,
    .farewell = framed_stream_farewell,
};
