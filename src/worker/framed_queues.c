#include "worker/framed_queues.h"

#include "core/utf8.h"
#include "fibp/framed.h"
#include "fibp/framed_settings.h"
#include "sched/hold.h"
#include "worker/framed_settings.h"
#include "worker/request.h"

/* NULL, or what is wrong with the name of a queue to be created. */
static const char *queue_name_fault(struct str name)
{
    if (name.size == 0)
        return "queue name must not be empty";
    if (name.size > FRAMED_QUEUE_NAME_MAX)
        return "queue name is longer than 255 bytes";
    if (utf8_has_control(name))
        return "queue name holds a control character";
    return NULL;
}

static void answer_create_queue(struct session *session, struct operation *operation)
{
    struct operation_create_queue *create = (struct operation_create_queue *)operation;
    uint8_t status = operation->status;
    bool failed = status == FIBP_STORAGE_ERROR && operation->reason;

    if (status == FIBP_OK || status == FIBP_QUEUE_ALREADY_EXISTS || status == FIBP_STORAGE_ERROR)
        session_check(session, framed_create_queue_result(
                                   session_answers(session), operation->request_id, status,
                                   failed ? str_from_c(operation->reason) : create->name));
    else
        framed_answer_error(session, operation);
}

static bool decode_create_queue(struct framed_request *request)
{
    struct operation_create_queue *create;
    struct framed_create_options options;
    struct framed_create_queue from;
    struct err err = {0};

    if (!framed_create_queue(&request->reader, &from))
        return false;
    framed_create_options(&request->reader, &options);
    const char *fault = queue_name_fault(from.name);
    if (fault) {
        framed_refuse(request, FIBP_INVALID_FRAME, str_from_c(fault));
        return true;
    }
    if (!framed_settings_script(request->session, HOOK_ON_ENQUEUE, from.on_enqueue, &err) ||
        !framed_settings_script(request->session, HOOK_ON_FAILURE, from.on_failure, &err)) {
        session_check(request->session,
                      framed_create_queue_result(session_answers(request->session), request->id,
                                                 FIBP_LUA_COMPILATION_ERROR, str_from_c(err.text)));
        return true;
    }
    create = framed_operation(request, sizeof(*create));
    if (!create)
        return true;
    create->name = from.name;
    create->visibility_timeout_ms = framed_settings_timeout(from.visibility_timeout_ms);
    create->on_enqueue = from.on_enqueue;
    create->on_failure = from.on_failure;
    create->max_attempts = options.max_attempts;
    create->dead_letter_headers = options.dead_letter_headers;
    framed_submit_pinned(&create->operation);
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
        framed_answer_error(session, operation);
}

static bool decode_delete_queue(struct framed_request *request)
{
    struct operation_delete_queue *delete;
    struct str name;

    if (!framed_delete_queue(&request->reader, &name))
        return false;
    delete = framed_operation(request, sizeof(*delete));
    if (delete) {
        delete->name = name;
        framed_submit_pinned(&delete->operation);
    }
    return true;
}

static void answer_list_queues(struct session *session, struct operation *operation)
{
    struct operation_list_queues *list = (struct operation_list_queues *)operation;
    struct framed_list frame;

    if (operation->status != FIBP_OK) {
        framed_answer_error(session, operation);
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
    session_check(session, framed_list_end(out, &frame, framed_frame_max(session)));
}

static bool decode_list_queues(struct framed_request *request)
{
    struct operation_list_queues *list = framed_operation(request, sizeof(*list));

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
        framed_answer_queue_error(session, operation, from->name);
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
    for (uint32_t i = 0; i < from->throttle_count; i++) {
        const struct hold_row *row = &from->throttles[i];
        struct framed_throttle_stats throttle = {
            .key = row->key,
            .tokens = row->tokens,
            .rate_per_second = row->rate,
            .burst = row->burst,
        };
        framed_stats_add_throttle(out, &frame, &throttle);
    }
    if (from->totals.counted != FRAMED_COUNTED_ALL) {
        framed_counted_begin(out);
        framed_counted_add(out, from->totals.counted);
    }
    session_check(session, framed_list_end(out, &frame, framed_frame_max(session)));
}

static bool decode_get_stats(struct framed_request *request)
{
    struct operation_get_stats *stats;
    struct str name;

    if (!framed_get_stats(&request->reader, &name))
        return false;
    stats = framed_operation(request, sizeof(*stats));
    if (!stats)
        return true;
    struct operation operation = stats->operation;
    *stats = (struct operation_get_stats){.operation = operation, .name = name};
    request_charge_answer(&stats->operation);
    framed_submit_pinned(&stats->operation);
    return true;
}

static void answer_details(struct session *session, struct operation *operation)
{
    struct operation_queue_details *details = (struct operation_queue_details *)operation;
    struct framed_list frame;

    if (operation->status != FIBP_OK) {
        framed_answer_queue_error(session, operation, details->queue);
        return;
    }
    struct buf *out = session_answers(session);
    framed_details_begin(out, operation->request_id, details->broker, &details->commits,
                         details->more, &frame);
    for (uint32_t i = 0; i < details->count; i++)
        framed_details_add(out, &frame, details->rows[i].name, details->rows[i].numbers,
                           details->histograms ? &details->rows[i].waits : NULL);
    framed_details_limits(out, &frame);
    for (uint32_t i = 0; i < details->limit_count; i++) {
        const struct hold_row *row = &details->limits[i];
        struct framed_limit limit = {row->key, row->most, row->in_flight, row->waiting};
        framed_details_add_limit(out, &frame, &limit);
    }
    session_check(session, framed_list_end(out, &frame, framed_frame_max(session)));
}

static bool decode_details(struct framed_request *request)
{
    struct operation_queue_details *details;
    struct framed_details_request from;

    if (!framed_details(&request->reader, &from))
        return false;
    details = framed_operation(request, sizeof(*details));
    if (!details)
        return true;
    struct operation operation = details->operation;
    *details = (struct operation_queue_details){.operation = operation,
                                                .queue = from.queue,
                                                .after = from.after,
                                                .limit = from.limit,
                                                .histograms = from.histograms};
    request_charge_answer(&details->operation);
    framed_submit_pinned(&details->operation);
    return true;
}

const struct framed_handler framed_create_queue_handler = {decode_create_queue, answer_create_queue,
                                                           OPERATION_CREATE_QUEUE};
const struct framed_handler framed_delete_queue_handler = {decode_delete_queue, answer_delete_queue,
                                                           OPERATION_DELETE_QUEUE};
const struct framed_handler framed_list_queues_handler = {decode_list_queues, answer_list_queues,
                                                          OPERATION_LIST_QUEUES};
const struct framed_handler framed_get_stats_handler = {decode_get_stats, answer_get_stats,
                                                        OPERATION_GET_STATS};
const struct framed_handler framed_queue_details_handler = {decode_details, answer_details,
                                                            OPERATION_QUEUE_DETAILS};
