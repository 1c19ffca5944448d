#include "worker/request.h"

#include <stdlib.h>

#include "worker/delivery.h"
#include "worker/subscriber.h"

#define REQUEST_ALIGNMENT 16u

void *request_create(struct session *session, enum operation_kind kind, size_t size,
                     uint32_t request_id, void (*answer)(struct session *, struct operation *))
{
    size_t offset = (size + REQUEST_ALIGNMENT - 1) & ~(size_t)(REQUEST_ALIGNMENT - 1);
    struct operation *operation = malloc(offset + sizeof(struct request));

    if (!operation)
        return NULL;
    struct request *request = (void *)((char *)operation + offset);
    *request = (struct request){
        .session = session,
        .size = offset + sizeof(struct request),
        .answer = answer,
    };
    *operation = (struct operation){
        .kind = (uint8_t)kind,
        .status = FIBP_OK,
        .request_id = request_id,
        .owner = request,
    };
    chunk_charge(&session->account, request->size);
    return operation;
}

void request_charge(struct operation *operation, size_t size)
{
    struct request *request = request_of(operation);

    request->size += size;
    chunk_charge(&request->session->account, size);
}

void request_charge_answer(struct operation *operation)
{
    request_charge(operation, SESSION_BYTES_MAX);
}

void request_pin_input(struct operation *operation)
{
    struct request *request = request_of(operation);

    struct session *session = request->session;

    request->chunk = session->body ? session->body : session->conn.input;
    if (request->chunk)
        chunk_pin(request->chunk);
}

/* Deliveries that come up from now on wait for the answer. Acks need no such care: clients that
 * take the next frame for the answer have no more than one message under way when they ack. */
static void request_note_write(struct request *request)
{
    struct session *session = request->session;

    request->sequence = ++session->write_count;
    list_append(&session->writes, &request->list);
}

void request_submit(struct operation *operation)
{
    struct request *request = request_of(operation);

    if (operation->kind == OPERATION_ENQUEUE || operation->kind == OPERATION_NACK)
        request_note_write(request);
    session_submit(request->session, operation);
}

void request_free(struct operation *operation)
{
    struct request *request = request_of(operation);

    hook_memory_free(&request->memory);
    chunk_discharge(&request->session->account, request->size);
    if (request->chunk)
        chunk_unpin(request->chunk);
    operation_free(operation);
}

void request_back(struct operation *operation)
{
    struct request *request = request_of(operation);
    struct session *session = request->session;

    if (request->answer && session_is_live(session))
        request->answer(session, operation);
    if (request->sequence > 0) {
        list_remove(&request->list);
        delivery_release(session);
    }
    if (operation->kind == OPERATION_SUBSCRIBE || operation->kind == OPERATION_UNSUBSCRIBE)
        subscriber_back((struct operation_subscription *)operation);
    request_free(operation);
    session_settle(session);
}
