#include "worker/framed_settings.h"

#include "fibp/framed_settings.h"
#include "worker/request.h"

#define VISIBILITY_TIMEOUT_MAX_MS (UINT64_C(7) * 24 * 3600 * 1000)
#define SCRIPTS_MAX (2 * WIRE_STR_MAX) /* bytes of both scripts of a queue */

uint64_t framed_settings_timeout(uint64_t visibility_timeout_ms)
{
    return visibility_timeout_ms > VISIBILITY_TIMEOUT_MAX_MS ? VISIBILITY_TIMEOUT_MAX_MS
                                                             : visibility_timeout_ms;
}

bool framed_settings_script(struct session *session, enum hook_script which, struct str source,
                            struct err *err)
{
    const struct hook_set *hooks = session->sessions->hooks;

    if (source.size == 0)
        return true;
    if (hooks)
        return hook_set_check_script(hooks, which, source, err) == 0;
    (void)err_set(err, 0, "this build has no Lua module");
    return false;
}

/* ---- update ---- */

static void answer_update(struct session *session, struct operation *operation)
{
    const struct operation_update_queue *update = (struct operation_update_queue *)operation;
    uint8_t status = operation->status;
    bool failed = status == FIBP_STORAGE_ERROR && operation->reason;

    if (status == FIBP_OK || status == FIBP_QUEUE_NOT_FOUND || status == FIBP_STORAGE_ERROR)
        session_check(session, framed_update_queue_result(
                                   session_answers(session), operation->request_id, status,
                                   failed ? str_from_c(operation->reason) : update->name));
    else
        framed_answer_error(session, operation);
}

static bool decode_update(struct framed_request *request)
{
    struct operation_update_queue *update;
    struct framed_update_queue from;
    struct err err = {0};

    if (!framed_update_queue(&request->reader, &from))
        return false;
    if (!framed_settings_script(request->session, HOOK_ON_ENQUEUE, from.on_enqueue, &err) ||
        !framed_settings_script(request->session, HOOK_ON_FAILURE, from.on_failure, &err)) {
        session_check(request->session,
                      framed_update_queue_result(session_answers(request->session), request->id,
                                                 FIBP_LUA_COMPILATION_ERROR, str_from_c(err.text)));
        return true;
    }
    update = framed_operation(request, sizeof(*update));
    if (!update)
        return true;
    *update = (struct operation_update_queue){
        .operation = update->operation,
        .name = from.queue,
        .sets_on_enqueue = from.sets_on_enqueue,
        .sets_on_failure = from.sets_on_failure,
        .sets_visibility_timeout = from.sets_visibility_timeout,
        .sets_max_attempts = from.sets_max_attempts,
        .sets_dead_letter_headers = from.sets_dead_letter_headers,
        .on_enqueue = from.on_enqueue,
        .on_failure = from.on_failure,
        .visibility_timeout_ms = framed_settings_timeout(from.visibility_timeout_ms),
        .max_attempts = from.max_attempts,
        .dead_letter_headers = from.dead_letter_headers,
    };
    framed_submit_pinned(&update->operation);
    return true;
}

/* ---- pause ---- */

static void answer_pause(struct session *session, struct operation *operation)
{
    uint8_t status = operation->status;

    if (status == FIBP_OK || status == FIBP_QUEUE_NOT_FOUND || status == FIBP_STORAGE_ERROR)
        session_check(session,
                      framed_status_result(session_answers(session), OPCODE_PAUSE_QUEUE_RESULT,
                                           operation->request_id, status));
    else
        framed_answer_error(session, operation);
}

static bool decode_pause(struct framed_request *request)
{
    struct operation_update_queue *update;
    struct str queue;
    bool paused;

    if (!framed_pause_queue(&request->reader, &queue, &paused))
        return false;
    update = framed_operation(request, sizeof(*update));
    if (!update)
        return true;
    *update = (struct operation_update_queue){
        .operation = update->operation,
        .name = queue,
        .sets_paused = true,
        .paused = paused,
    };
    framed_submit_pinned(&update->operation);
    return true;
}

/* ---- read ---- */

static void answer_settings(struct session *session, struct operation *operation)
{
    const struct operation_get_settings *get = (struct operation_get_settings *)operation;
    struct str scripts = buf_str(&get->scripts);

    if (operation->status != FIBP_OK) {
        framed_answer_queue_error(session, operation, get->name);
        return;
    }
    struct framed_queue_settings settings = {
        .on_enqueue = str_of(scripts.data, get->on_enqueue_size),
        .visibility_timeout_ms = get->visibility_timeout_ms,
        .max_attempts = get->max_attempts,
        .dead_letter_headers = get->dead_letter_headers,
        .paused = get->paused,
        .version = get->version,
        .created_ms = get->created_ms,
    };
    if (scripts.size > get->on_enqueue_size)
        settings.on_failure =
            str_of(scripts.data + get->on_enqueue_size, scripts.size - get->on_enqueue_size);
    session_check(session, framed_settings_result(session_answers(session), operation->request_id,
                                                  FIBP_OK, &settings));
}

static bool decode_settings(struct framed_request *request)
{
    struct operation_get_settings *get;
    struct str queue;

    if (!framed_get_settings(&request->reader, &queue))
        return false;
    get = framed_operation(request, sizeof(*get));
    if (!get)
        return true;
    *get = (struct operation_get_settings){.operation = get->operation, .name = queue};
    buf_init(&get->scripts, 0);
    request_charge(&get->operation, SCRIPTS_MAX);
    framed_submit_pinned(&get->operation);
    return true;
}

const struct framed_handler framed_update_queue_handler = {decode_update, answer_update,
                                                           OPERATION_UPDATE_QUEUE};
const struct framed_handler framed_pause_queue_handler = {decode_pause, answer_pause,
                                                          OPERATION_UPDATE_QUEUE};
const struct framed_handler framed_get_settings_handler = {decode_settings, answer_settings,
                                                           OPERATION_GET_SETTINGS};
