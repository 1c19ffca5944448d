#include "worker/framed_messages.h"

#include "core/bytes.h"
#include "fibp/framed_peek.h"
#include "worker/request.h"

static void answer_redrive(struct session *session, struct operation *operation)
{
    const struct operation_redrive *redrive = (struct operation_redrive *)operation;

    if (operation->status != FIBP_OK)
        framed_answer_queue_error(session, operation, redrive->name);
    else
        session_check(session,
                      framed_redrive_result(session_answers(session), operation->request_id,
                                            FIBP_OK, redrive->moved));
}

static bool decode_redrive(struct framed_request *request)
{
    struct operation_redrive *redrive;
    struct str name;
    uint64_t limit;

    if (!framed_redrive(&request->reader, &name, &limit))
        return false;
    redrive = framed_operation(request, sizeof(*redrive));
    if (redrive) {
        redrive->name = name;
        redrive->limit = limit;
        redrive->moved = 0;
        framed_submit_pinned(&redrive->operation);
    }
    return true;
}

static void answer_purge(struct session *session, struct operation *operation)
{
    const struct operation_purge *purge = (struct operation_purge *)operation;

    session_check(session, framed_purge_result(session_answers(session), operation->request_id,
                                               operation->status, purge->purged));
}

static bool decode_purge(struct framed_request *request)
{
    struct operation_purge *purge;
    struct str name;

    if (!framed_purge(&request->reader, &name))
        return false;
    purge = framed_operation(request, sizeof(*purge));
    if (purge) {
        purge->name = name;
        purge->purged = 0;
        framed_submit_pinned(&purge->operation);
    }
    return true;
}

/* Opaque to clients: where the next answer begins. */
#define CURSOR_SIZE 17u

static bool peek_position(struct str cursor, struct peek_position *position)
{
    *position = (struct peek_position){.seq = 0};
    if (!cursor.size)
        return true;
    if (cursor.size != CURSOR_SIZE || cursor.data[0] > 1)
        return false;
    position->delayed = cursor.data[0];
    position->due_ms = bytes_get_u64(cursor.data + 1);
    position->seq = bytes_get_u64(cursor.data + 9);
    return position->seq < UINT64_MAX;
}

static void answer_peek(struct session *session, struct operation *operation)
{
    const struct operation_peek *peek = (struct operation_peek *)operation;
    uint8_t cursor[CURSOR_SIZE] = {peek->position.delayed};
    struct buf *out = session_answers(session);
    struct framed_list list;

    bytes_put_u64(cursor + 1, peek->position.due_ms);
    bytes_put_u64(cursor + 9, peek->position.seq);
    bool ended = operation->status != FIBP_OK || peek->ended;
    framed_peek_begin(out, operation->request_id, operation->status,
                      str_of(cursor, ended ? 0 : CURSOR_SIZE), &list);
    for (const struct peek_row *row = peek->rows; row && operation->status == FIBP_OK;
         row = row->next) {
        uint8_t id[UUID_TEXT_SIZE];
        uuid_format(&row->id, id);
        struct framed_peek_item item = {
            .message_id = str_of(id, sizeof(id)),
            .state = row->state,
            .headers_cut = row->headers_cut,
            .when_ms = row->when_ms,
            .headers = row->headers,
            .payload_size = row->payload_size,
            .payload = row->payload,
            .fairness_key = row->fairness_key,
            .throttle_keys = row->throttle_keys,
            .throttle_count = row->throttle_count,
            .weight = row->weight,
            .attempt = row->attempt,
            .enqueued_ms = row->enqueued_ms,
            .is_dead = row->is_dead,
            .dead_ms = row->dead_ms,
            .reason = row->reason,
            .origin = row->origin,
        };
        framed_peek_add(out, &list, &item);
    }
    session_check(session, framed_list_end(out, &list, framed_frame_max(session)));
}

static bool decode_peek(struct framed_request *request)
{
    struct operation_peek *peek;
    struct peek_position position;
    struct framed_peek from;

    if (!framed_peek(&request->reader, &from))
        return false;
    if (!peek_position(from.cursor, &position)) {
        framed_refuse(request, FIBP_INVALID_FRAME, STR("the cursor is none of this broker's"));
        return true;
    }
    peek = framed_operation(request, sizeof(*peek));
    if (!peek)
        return true;
    struct operation operation = peek->operation;
    uint32_t limit = from.limit < FRAMED_PEEK_MAX ? from.limit : FRAMED_PEEK_MAX;
    *peek = (struct operation_peek){
        .operation = operation,
        .name = from.queue,
        .has_key = from.has_key,
        .fairness_key = from.fairness_key,
        .position = position,
        .limit = limit ? limit : 1,
        .payload_max =
            from.payload_max < FRAMED_PEEK_PAYLOAD_MAX ? from.payload_max : FRAMED_PEEK_PAYLOAD_MAX,
    };
    request_charge_answer(&peek->operation);
    framed_submit_pinned(&peek->operation);
    return true;
}

const struct framed_handler framed_peek_handler = {decode_peek, answer_peek, OPERATION_PEEK_QUEUE};
const struct framed_handler framed_redrive_handler = {decode_redrive, answer_redrive,
                                                      OPERATION_REDRIVE};
const struct framed_handler framed_purge_handler = {decode_purge, answer_purge,
                                                    OPERATION_PURGE_QUEUE};
