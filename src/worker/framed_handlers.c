#include "worker/framed_handlers.h"

#include <stdio.h>
#include <string.h>

#include "core/utf8.h"
#include "fibp/framed.h"
#include "os/log.h"
#include "worker/delivery.h"
#include "worker/framed_stream.h"
#include "worker/request.h"
#include "worker/subscriber.h"

#define QUEUE_NAME_MAX 255u                                  /* bytes */
#define VISIBILITY_TIMEOUT_MAX_MS (7u * 24u * 3600u * 1000u) /* longer ones are taken for it */

struct framed_handler;

/* A request as it is being handled. */
struct framed_request {
    const struct framed_handler *handler;
    struct session *session;
    uint32_t id;
    struct wire_reader reader; /* over the body */
};

struct framed_handler {
    /* False: the body is malformed (the reader says why). Otherwise the request is answered or
     * submitted. */
    bool (*decode)(struct framed_request *request);
    /* Encodes the outcome of the operation that `decode` submitted. */
    void (*answer)(struct session *session, struct operation *operation);
    uint8_t kind; /* enum operation_kind of that operation */
};

/* ---- answers that all requests share ---- */

static void answer_error(struct session *session, const struct operation *operation)
{
    framed_stream_error(session, operation->request_id, operation->status,
                        str_from_c(operation->reason));
}

/* As answer_error, and a queue that is not there is named. */
static void answer_queue_error(struct session *session, const struct operation *operation,
                               struct str queue)
{
    char text[sizeof("queue not found: ") + QUEUE_NAME_MAX];

    if (operation->status != FIBP_QUEUE_NOT_FOUND) {
        answer_error(session, operation);
        return;
    }
    /* Longer names than any queue can have are asked for too. */
    queue.size = utf8_truncate(queue, QUEUE_NAME_MAX);
    size_t size = (size_t)snprintf(text, sizeof(text), "queue not found: ");
    if (queue.size > 0)
        memcpy(text + size, queue.data, queue.size);
    framed_stream_error(session, operation->request_id, FIBP_QUEUE_NOT_FOUND,
                        str_of(text, size + queue.size));
}

static void refuse(struct framed_request *request, enum fibp_status status, struct str text)
{
    framed_stream_error(request->session, request->id, status, text);
}

/* The operation of a request, or NULL after an answer that says why there is none. */
static void *operation_for(struct framed_request *request, size_t size)
{
    void *operation = request_create(request->session, request->handler->kind, size, request->id,
                                     request->handler->answer);

    if (!operation)
        refuse(request, FIBP_INTERNAL_ERROR, STR("out of memory"));
    return operation;
}

/* Submits an operation whose slices point into the frame. */
static void submit_pinned(struct operation *operation)
{
    request_pin_input(operation);
    request_submit(operation);
}

static uint32_t max_frame_size(const struct session *session)
{
    return (uint32_t)session->sessions->conf->fibp.max_frame_size;
}

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

/* ---- enqueue ---- */

static void ask_hooks(const struct session *session, const struct framed_enqueue_item *from,
                      struct hook_memory *memory, struct operation_enqueue_item *item)
{
    struct hook_message message = {
        .queue = from->queue,
        .headers = from->headers,
        .header_count = from->header_count,
        .payload = from->payload,
    };
    struct hook_verdict verdict = {.fairness_key = STR("default"), .weight = 1};

    if (session->sessions->hooks)
        hook_set_on_enqueue(session->sessions->hooks, &message, memory, &verdict);
    *item = (struct operation_enqueue_item){
        .queue = from->queue,
        .record = from->record,
        .fairness_key = verdict.fairness_key,
        .weight = verdict.weight,
        .throttle_keys = verdict.throttle_keys,
        .throttle_count = verdict.throttle_count,
    };
}

/* The status of all items when it is the same; else FIBP_OK. */
static uint8_t enqueue_status_of_all(const struct operation_enqueue *enqueue)
{
    for (uint32_t i = 1; i < enqueue->count; i++)
        if (enqueue->items[i].status != enqueue->items[0].status)
            return FIBP_OK;
    return enqueue->count > 0 ? enqueue->items[0].status : FIBP_OK;
}

static void answer_enqueue(struct session *session, struct operation *operation)
{
    struct operation_enqueue *enqueue = (struct operation_enqueue *)operation;
    uint8_t whole = operation->status;

    /* Items have no place for retry_after_ms: a frame of which nothing had room says it as a whole.
     */
    if (whole == FIBP_OK && enqueue_status_of_all(enqueue) == FIBP_CHANNEL_FULL)
        whole = operation->status = FIBP_CHANNEL_FULL;

    if (whole != FIBP_OK && whole != FIBP_STORAGE_ERROR) {
        answer_error(session, operation);
        return;
    }
    struct buf *out = session_answers(session);
    size_t start = framed_enqueue_result_begin(out, operation->request_id, enqueue->count);
    for (uint32_t i = 0; i < enqueue->count; i++)
        framed_enqueue_result_add(out, whole ? whole : enqueue->items[i].status,
                                  &enqueue->items[i].id);
    session_check(session, frame_end(out, start, max_frame_size(session)));
}

static bool decode_enqueue(struct framed_request *request)
{
    struct operation_enqueue *enqueue;
    struct framed_enqueue_item item;
    uint32_t count;

    if (!framed_enqueue_check(&request->reader, &count))
        return false;
    enqueue = operation_for(request, sizeof(*enqueue) + count * sizeof(enqueue->items[0]));
    if (!enqueue)
        return true;
    struct hook_memory *memory = &request_of(&enqueue->operation)->memory;
    enqueue->count = 0;
    while (enqueue->count < count && framed_enqueue_next(&request->reader, &item))
        ask_hooks(request->session, &item, memory, &enqueue->items[enqueue->count++]);
    if (count > 0) {
        submit_pinned(&enqueue->operation);
    } else {
        answer_enqueue(request->session, &enqueue->operation);
        request_free(&enqueue->operation);
    }
    return true;
}

/* ---- ack and nack ---- */

static void answer_settle(struct session *session, struct operation *operation)
{
    struct operation_settle *settle = (struct operation_settle *)operation;
    enum opcode opcode = operation->kind == OPERATION_ACK ? OPCODE_ACK_RESULT : OPCODE_NACK_RESULT;
    uint8_t whole = operation->status;

    if (whole != FIBP_OK && whole != FIBP_STORAGE_ERROR) {
        answer_error(session, operation);
        return;
    }
    struct buf *out = session_answers(session);
    size_t start = framed_ack_result_begin(out, session->numbering, opcode, operation->request_id,
                                           settle->count);
    for (uint32_t i = 0; i < settle->count; i++)
        framed_ack_result_add(out, whole ? whole : settle->items[i].status);
    session_check(session, frame_end(out, start, max_frame_size(session)));
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
        operation_for(request, sizeof(*settle) + count * sizeof(settle->items[0]));

    if (!settle)
        return true;
    settle->count = 0;
    while (settle->count < count && next(&request->reader, &settle->items[settle->count]))
        settle->count++;
    if (count > 0) {
        submit_pinned(&settle->operation);
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
        answer_queue_error(session, operation, subscription->queue);
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
    if (from.queue.size > QUEUE_NAME_MAX + 4) { /* of a dead-letter queue; it is not worth a copy */
        refuse(request, FIBP_QUEUE_NOT_FOUND, STR("queue not found"));
        return true;
    }
    enum fibp_status status = subscriber_open(request->session, request->id, from.queue, from.limit,
                                              &delivery_framed, request->handler->answer);
    if (status == FIBP_CHANNEL_FULL)
        refuse(request, status, STR("too many subscriptions on this connection"));
    else if (status != FIBP_OK)
        refuse(request, status, STR("out of memory"));
    return true;
}

/* Never answered, whatever it names. */
static bool decode_cancel(struct framed_request *request)
{
    struct session *session = request->session;
    struct subscriber *subscriber = NULL;
    struct framed_cancel cancel;
    struct uuid id;

    if (!framed_cancel(&request->reader, &cancel))
        return false;
    if (!cancel.by_consumer_id)
        subscriber = subscriber_find(session, request->id);
    else if (uuid_parse(cancel.consumer_id, &id))
        subscriber = subscriber_find_by_id(session, &id);
    if (subscriber)
        subscriber_cancel(subscriber);
    return true;
}

/* ---- queues ---- */

/* NULL, or what is wrong with the name of a queue to be created. */
static const char *queue_name_fault(struct str name)
{
    if (name.size == 0)
        return "queue name must not be empty";
    if (name.size > QUEUE_NAME_MAX)
        return "queue name is longer than 255 bytes";
    for (size_t i = 0; i < name.size; i++)
        if (name.data[i] < 0x20 || name.data[i] == 0x7f)
            return "queue name holds a control character";
    return NULL;
}

static void answer_create_queue(struct session *session, struct operation *operation)
{
    struct operation_create_queue *create = (struct operation_create_queue *)operation;
    uint8_t status = operation->status;

    if (status == FIBP_OK || status == FIBP_QUEUE_ALREADY_EXISTS || status == FIBP_STORAGE_ERROR)
        session_check(session,
                      framed_create_queue_result(session_answers(session), operation->request_id,
                                                 status, create->name));
    else
        answer_error(session, operation);
}

static bool decode_create_queue(struct framed_request *request)
{
    struct operation_create_queue *create;
    struct framed_create_queue from;

    if (!framed_create_queue(&request->reader, &from))
        return false;
    const char *fault = queue_name_fault(from.name);
    if (fault) {
        refuse(request, FIBP_INVALID_FRAME, str_from_c(fault));
        return true;
    }
    if ((from.has_on_enqueue && from.on_enqueue.size > 0) ||
        (from.has_on_failure && from.on_failure.size > 0)) {
        session_check(request->session,
                      framed_create_queue_result(session_answers(request->session), request->id,
                                                 FIBP_LUA_COMPILATION_ERROR,
                                                 STR("this build has no Lua module")));
        return true;
    }
    create = operation_for(request, sizeof(*create));
    if (!create)
        return true;
    create->name = from.name;
    create->visibility_timeout_ms = from.visibility_timeout_ms;
    if (create->visibility_timeout_ms > VISIBILITY_TIMEOUT_MAX_MS)
        create->visibility_timeout_ms = VISIBILITY_TIMEOUT_MAX_MS;
    submit_pinned(&create->operation);
    return true;
}

static void answer_delete_queue(struct session *session, struct operation *operation)
{
    uint8_t status = operation->status;

    if (status == FIBP_OK || status == FIBP_QUEUE_NOT_FOUND || status == FIBP_STORAGE_ERROR)
        session_check(session,
                      framed_status_result(session_answers(session), OPCODE_DELETE_QUEUE_RESULT,
                                           operation->request_id, status));
    else
        answer_error(session, operation);
}

static bool decode_delete_queue(struct framed_request *request)
{
    struct operation_delete_queue *delete;
    struct str name;

    if (!framed_delete_queue(&request->reader, &name))
        return false;
    delete = operation_for(request, sizeof(*delete));
    if (delete) {
        delete->name = name;
        submit_pinned(&delete->operation);
    }
    return true;
}

static void answer_list_queues(struct session *session, struct operation *operation)
{
    struct operation_list_queues *list = (struct operation_list_queues *)operation;
    struct framed_list frame;

    if (operation->status != FIBP_OK) {
        answer_error(session, operation);
        return;
    }
    bool exact = true;
    struct buf *out = session_answers(session);
    framed_list_queues_begin(out, operation->request_id, FIBP_OK, 0, &frame);
    for (uint32_t i = 0; i < list->count; i++) {
        const struct operation_queue_row *row = &list->rows[i];
        struct framed_queue_info info = {
            .name = row->name,
            .depth = row->depth,
            .in_flight = row->in_flight,
            .active_consumers = row->consumers,
        };
        framed_list_queues_add(out, &frame, &info);
        exact = exact && row->counted == FRAMED_COUNTED_ALL;
    }
    if (!exact)
        framed_counted_begin(out);
    for (uint32_t i = 0; i < list->count && !exact; i++)
        framed_counted_add(out, list->rows[i].counted);
    session_check(session, framed_list_end(out, &frame, max_frame_size(session)));
}

static bool decode_list_queues(struct framed_request *request)
{
    struct operation_list_queues *list = operation_for(request, sizeof(*list));

    if (list) {
        list->rows = NULL;
        list->count = 0;
        request_charge_answer(&list->operation);
        request_submit(&list->operation);
    }
    return true;
}

static void answer_get_stats(struct session *session, struct operation *operation)
{
    struct operation_get_stats *from = (struct operation_get_stats *)operation;
    struct framed_list frame;

    if (operation->status != FIBP_OK) {
        answer_queue_error(session, operation, from->name);
        return;
    }
    struct framed_stats stats = {
        .depth = from->totals.depth,
        .in_flight = from->totals.in_flight,
        .active_fairness_keys = from->active_keys,
        .active_consumers = from->totals.consumers,
        .quantum = from->quantum,
    };
    struct buf *out = session_answers(session);
    framed_stats_begin(out, operation->request_id, FIBP_OK, &stats, &frame);
    for (uint32_t i = 0; i < from->key_count; i++) {
        const struct operation_key_row *row = &from->keys[i];
        struct framed_key_stats key = {
            .key = row->key,
            .pending = row->pending,
            .deficit = row->deficit,
            .weight = row->weight,
        };
        framed_stats_add_key(out, &frame, &key);
    }
    framed_stats_throttles(out, &frame);
    if (from->totals.counted != FRAMED_COUNTED_ALL) {
        framed_counted_begin(out);
        framed_counted_add(out, from->totals.counted);
    }
    session_check(session, framed_list_end(out, &frame, max_frame_size(session)));
}

static bool decode_get_stats(struct framed_request *request)
{
    struct operation_get_stats *stats;
    struct str name;

    if (!framed_get_stats(&request->reader, &name))
        return false;
    stats = operation_for(request, sizeof(*stats));
    if (!stats)
        return true;
    struct operation operation = stats->operation;
    *stats = (struct operation_get_stats){.operation = operation, .name = name};
    request_charge_answer(&stats->operation);
    submit_pinned(&stats->operation);
    return true;
}

/* ---- the table ---- */

static const struct framed_handler framed_handlers[256] = {
    [OPCODE_PING] = {.decode = decode_ping},
    [OPCODE_PONG] = {.decode = decode_pong},
    [OPCODE_DISCONNECT] = {.decode = decode_disconnect},
    [OPCODE_ENQUEUE] = {decode_enqueue, answer_enqueue, OPERATION_ENQUEUE},
    [OPCODE_CONSUME] = {decode_consume, answer_consume, OPERATION_SUBSCRIBE},
    [OPCODE_CANCEL_CONSUME] = {.decode = decode_cancel},
    [OPCODE_ACK] = {decode_ack, answer_settle, OPERATION_ACK},
    [OPCODE_NACK] = {decode_nack, answer_settle, OPERATION_NACK},
    [OPCODE_CREATE_QUEUE] = {decode_create_queue, answer_create_queue, OPERATION_CREATE_QUEUE},
    [OPCODE_DELETE_QUEUE] = {decode_delete_queue, answer_delete_queue, OPERATION_DELETE_QUEUE},
    [OPCODE_LIST_QUEUES] = {decode_list_queues, answer_list_queues, OPERATION_LIST_QUEUES},
    [OPCODE_GET_STATS] = {decode_get_stats, answer_get_stats, OPERATION_GET_STATS},
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
        .handler = &framed_handlers[numbering_opcode(session->numbering, frame->opcode)],
        .session = session,
        .id = frame->request_id,
    };
    char reason[128];

    if (!request.handler->decode) {
        framed_stream_refuse_opcode(session, frame->request_id, frame->opcode);
        return;
    }
    wire_reader_init(&request.reader, frame->body);
    if (request.handler->decode(&request))
        return;
    wire_describe(&request.reader, reason, sizeof(reason));
    refuse(&request, FIBP_INVALID_FRAME, str_from_c(reason));
}
