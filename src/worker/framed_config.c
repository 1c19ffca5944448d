#include "worker/framed_config.h"

#include "broker/config.h"
#include "core/bytes.h"
#include "fibp/framed.h"
#include "worker/request.h"

static void answer_set_config(struct session *session, struct operation *operation)
{
    uint8_t status = operation->status;

    if (status == FIBP_OK || status == FIBP_INVALID_CONFIG_VALUE || status == FIBP_STORAGE_ERROR)
        session_check(session, framed_reason_result(session_answers(session),
                                                    OPCODE_SET_CONFIG_RESULT, operation->request_id,
                                                    status, str_from_c(operation->reason)));
    else
        framed_answer_error(session, operation);
}

static bool decode_set_config(struct framed_request *request)
{
    struct operation_set_config *set;
    struct str key, value;

    if (!framed_set_config(&request->reader, &key, &value))
        return false;
    set = framed_operation(request, sizeof(*set));
    if (set) {
        set->key = key;
        set->value = value;
        framed_submit_pinned(&set->operation);
    }
    return true;
}

static void answer_get_config(struct session *session, struct operation *operation)
{
    const struct operation_get_config *get = (struct operation_get_config *)operation;

    session_check(session, framed_get_config_result(session_answers(session), operation->request_id,
                                                    operation->status, buf_str(&get->value)));
}

static bool decode_get_config(struct framed_request *request)
{
    struct operation_get_config *get;
    struct str key;

    if (!framed_get_config(&request->reader, &key))
        return false;
    get = framed_operation(request, sizeof(*get));
    if (get) {
        get->key = key;
        buf_init(&get->value, 0);
        request_charge(&get->operation, CONFIG_VALUE_MAX);
        framed_submit_pinned(&get->operation);
    }
    return true;
}

static void answer_list_config(struct session *session, struct operation *operation)
{
    const struct operation_list_config *list = (struct operation_list_config *)operation;
    const uint8_t *row = list->rows.data;
    struct framed_list frame;

    if (operation->status != FIBP_OK && operation->status != FIBP_STORAGE_ERROR) {
        framed_answer_error(session, operation);
        return;
    }
    struct buf *out = session_answers(session);
    framed_list_config_begin(out, operation->request_id, operation->status, &frame);
    for (uint32_t i = 0; i < list->count && operation->status == FIBP_OK; i++) {
        struct str key = str_of(row + 8, bytes_get_u32(row));
        struct str value = str_of(key.data + key.size, bytes_get_u32(row + 4));

        framed_list_config_add(out, &frame, key, value);
        row = value.data + value.size;
    }
    session_check(session, framed_list_end(out, &frame, framed_frame_max(session)));
}

static bool decode_list_config(struct framed_request *request)
{
    struct operation_list_config *list;
    struct str prefix;

    if (!framed_list_config(&request->reader, &prefix))
        return false;
    list = framed_operation(request, sizeof(*list));
    if (list) {
        list->prefix = prefix;
        buf_init(&list->rows, 0);
        list->count = 0;
        request_charge_answer(&list->operation);
        framed_submit_pinned(&list->operation);
    }
    return true;
}

const struct framed_handler framed_set_config_handler = {decode_set_config, answer_set_config,
                                                         OPERATION_SET_CONFIG};
const struct framed_handler framed_get_config_handler = {decode_get_config, answer_get_config,
                                                         OPERATION_GET_CONFIG};
const struct framed_handler framed_list_config_handler = {decode_list_config, answer_list_config,
                                                          OPERATION_LIST_CONFIG};
