#include "worker/framed_messages.h"

#include "fibp/framed.h"
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

const struct framed_handler framed_redrive_handler = {decode_redrive, answer_redrive,
                                                      OPERATION_REDRIVE};
const struct framed_handler framed_purge_handler = {decode_purge, answer_purge,
                                                    OPERATION_PURGE_QUEUE};
