#include "worker/framed_handlers.h"

#include "fibp/framed.h"
#include "os/log.h"
#include "worker/delivery.h"
#include "worker/framed_config.h"
#include "worker/framed_enqueue.h"
#include "worker/framed_messages.h"
#include "worker/framed_queues.h"
#include "worker/framed_request.h"
#include "worker/framed_settings.h"
#include "worker/framed_stream.h"
#include "worker/request.h"
#include "worker/subscriber.h"

/* ---- control ---- */

static bool decode_ping(struct framed_request *request)
{
    session_check(request->session,
                  frame_empty(session_answers(request->session), OPCODE_PONG, request->id));
    return true;
}

static bool decode_pong(struct framed_request *request)
{
    (void)request; /* that something arrived is all that counts */
    return true;
}

static bool decode_disconnect(struct framed_request *request)
{
    session_finish(request->session);
    return true;
}

/* ---- ack and nack ---- */

static void answer_settle(struct session *session, struct operation *operation)
{
    struct operation_settle *settle = (struct operation_settle *)operation;
    enum opcode opcode = operation->kind == OPERATION_ACK ? OPCODE_ACK_RESULT : OPCODE_NACK_RESULT;
    uint8_t whole = operation->status;

    if (whole != FIBP_OK && whole != FIBP_STORAGE_ERROR) {
        framed_answer_error(session, operation);
        return;
    }
    struct buf *out = session_answers(session);
    size_t start = framed_ack_result_begin(out, session->numbering, opcode, operation->request_id,
                                           settle->count);
    for (uint32_t i = 0; i < settle->count; i++)
        framed_ack_result_add(out, whole ? whole : settle->items[i].status);
    session_check(session, frame_end(out, start, framed_frame_max(session)));
}

static bool next_ack(struct wire_reader *reader, struct operation_settle_item *item)
{
    struct framed_ack_item from;

    if (!framed_ack_next(reader, &from))
        return false;
    *item = (struct operation_settle_item){.queue = from.queue};
    item->id_valid = uuid_parse(from.message_id, &item->id);
    return true;
}

static bool next_nack(struct wire_reader *reader, struct operation_settle_item *item)
{
    struct framed_nack_item from;

    if (!framed_nack_next(reader, &from))
        return false;
    *item = (struct operation_settle_item){.queue = from.queue, .error = from.error};
    item->id_valid = uuid_parse(from.message_id, &item->id);
    return true;
}

static bool decode_settle(struct framed_request *request, uint32_t count,
                          bool (*next)(struct wire_reader *, struct operation_settle_item *))
{
    struct operation_settle *settle =
        framed_operation(request, sizeof(*settle) + count * sizeof(settle->items[0]));

    if (!settle)
        return true;
    settle->count = 0;
    settle->deciding = NULL;
    while (settle->count < count && next(&request->reader, &settle->items[settle->count]))
        settle->count++;
    if (count > 0) {
        framed_submit_pinned(&settle->operation);
    } else {
        answer_settle(request->session, &settle->operation);
        request_free(&settle->operation);
    }
    return true;
}

static bool decode_ack(struct framed_request *request)
{
    uint32_t count;

    return framed_ack_check(&request->reader, &count) && decode_settle(request, count, next_ack);
}

static bool decode_nack(struct framed_request *request)
{
    uint32_t count;

    return framed_nack_check(&request->reader, &count) && decode_settle(request, count, next_nack);
}

/* ---- consume ---- */

static void answer_consume(struct session *session, struct operation *operation)
{
    struct subscription *subscription = ((struct operation_subscription *)operation)->subscription;
    const struct subscriber *subscriber =
        CONTAINER_OF(subscription, const struct subscriber, subscription);

    if (operation->status != FIBP_OK)
        framed_answer_queue_error(session, operation, subscription->queue);
    else
        session_check(session,
                      framed_consume_ok(session_answers(session), subscriber->numbering,
                                        operation->request_id, &subscription->consumer_id));
}

static bool decode_consume(struct framed_request *request)
{
    struct framed_consume from;

    if (!framed_consume(&request->reader, &from))
        return false;
    if (from.queue.size >
        FRAMED_QUEUE_NAME_MAX + 4) { /* of a dead-letter queue; it is not worth a copy */
        framed_refuse(request, FIBP_QUEUE_NOT_FOUND, STR("queue not found"));
        return true;
    }
    enum fibp_status status = subscriber_open(request->session, request->id, from.queue, from.limit,
                                              &delivery_framed, request->handler->answer);
    if (status == FIBP_CHANNEL_FULL)
        framed_refuse(request, status, STR("too many subscriptions on this connection"));
    else if (status != FIBP_OK)
        framed_refuse(request, status, STR("out of memory"));
    return true;
}

/* Never answered, whatever it names. Who names a subscription by its consumer id has no reason to
 * use its request id, so that one is a second guess that does no harm. */
static bool decode_cancel(struct framed_request *request)
{
    struct session *session = request->session;
    struct subscriber *subscriber = NULL;
    struct framed_cancel cancel;
    struct uuid id;

    if (!framed_cancel(&request->reader, &cancel))
        return false;
    if (uuid_parse(cancel.consumer_id, &id))
        subscriber = subscriber_find_by_id(session, &id);
    if (!subscriber)
        subscriber = subscriber_find(session, request->id);
    if (subscriber)
        subscriber_cancel(subscriber);
    return true;
}

/* ---- the table ---- */

static const struct framed_handler ping_handler = {.decode = decode_ping};
static const struct framed_handler pong_handler = {.decode = decode_pong};
static const struct framed_handler disconnect_handler = {.decode = decode_disconnect};
static const struct framed_handler consume_handler = {decode_consume, answer_consume,
                                                      OPERATION_SUBSCRIBE};
static const struct framed_handler cancel_handler = {.decode = decode_cancel};
static const struct framed_handler ack_handler = {decode_ack, answer_settle, OPERATION_ACK};
static const struct framed_handler nack_handler = {decode_nack, answer_settle, OPERATION_NACK};

static const struct framed_handler *const framed_handlers[256] = {
    [OPCODE_PING] = &ping_handler,
    [OPCODE_PONG] = &pong_handler,
    [OPCODE_DISCONNECT] = &disconnect_handler,
    [OPCODE_ENQUEUE] = &framed_enqueue_handler,
    [OPCODE_CONSUME] = &consume_handler,
    [OPCODE_CANCEL_CONSUME] = &cancel_handler,
    [OPCODE_ACK] = &ack_handler,
    [OPCODE_NACK] = &nack_handler,
    [OPCODE_CREATE_QUEUE] = &framed_create_queue_handler,
    [OPCODE_DELETE_QUEUE] = &framed_delete_queue_handler,
    [OPCODE_LIST_QUEUES] = &framed_list_queues_handler,
    [OPCODE_GET_STATS] = &framed_get_stats_handler,
    [OPCODE_QUEUE_DETAILS] = &framed_queue_details_handler,
    [OPCODE_UPDATE_QUEUE] = &framed_update_queue_handler,
    [OPCODE_PAUSE_QUEUE] = &framed_pause_queue_handler,
    [OPCODE_GET_QUEUE_SETTINGS] = &framed_get_settings_handler,
    [OPCODE_REDRIVE] = &framed_redrive_handler,
    [OPCODE_PURGE_QUEUE] = &framed_purge_handler,
    [OPCODE_PEEK_QUEUE] = &framed_peek_handler,
    [OPCODE_SET_CONFIG] = &framed_set_config_handler,
    [OPCODE_GET_CONFIG] = &framed_get_config_handler,
    [OPCODE_LIST_CONFIG] = &framed_list_config_handler,
};

/* The first request that not everybody sends tells which numbers this client uses. Subscriptions
 * keep those that they began with. */
static void latch_numbering(struct session *session, const struct frame *frame)
{
    if (session->numbering != NUMBERING_AUTO)
        return;
    session->numbering = numbering_of_request(frame->opcode, frame->body);
    if (session->numbering == NUMBERING_S2 && session->subscriber_count > 0)
        log_write(
            LOG_INFO, "session",
            "%d: a consumer with opcode numbers of S1 or S2 cannot understand its deliveries: "
            "it needs a listener with that `numbering`",
            session->conn.watch.fd);
}

void framed_handlers_dispatch(struct session *session, const struct frame *frame)
{
    latch_numbering(session, frame);
    struct framed_request request = {
        .handler = framed_handlers[numbering_opcode(session->numbering, frame->opcode)],
        .session = session,
        .id = frame->request_id,
    };
    char reason[128];

    if (!request.handler) {
        framed_stream_refuse_opcode(session, frame->request_id, frame->opcode);
        return;
    }
    wire_reader_init(&request.reader, frame->body);
    if (request.handler->decode(&request))
        return;
    wire_describe(&request.reader, reason, sizeof(reason));
    framed_refuse(&request, FIBP_INVALID_FRAME, str_from_c(reason));
}
