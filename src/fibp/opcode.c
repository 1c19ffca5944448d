#include "fibp/opcode.h"

#include <stddef.h>

#define TO_SERVER OPCODE_TO_SERVER
#define TO_CLIENT OPCODE_TO_CLIENT

/* A request and its answer. */
#define PAIR(op, title)                                                                            \
    [OPCODE_##op] = {OPCODE_##op, OPCODE_##op##_RESULT, TO_SERVER, true, title},                   \
    [OPCODE_##op##_RESULT] = {OPCODE_##op##_RESULT, 0, TO_CLIENT, false, title "Result"}

static const struct opcode_entry opcode_table[256] = {
    [OPCODE_HANDSHAKE] = {OPCODE_HANDSHAKE, OPCODE_HANDSHAKE_OK, TO_SERVER, true, "Handshake"},
    [OPCODE_HANDSHAKE_OK] = {OPCODE_HANDSHAKE_OK, 0, TO_CLIENT, false, "HandshakeOk"},
    [OPCODE_PING] = {OPCODE_PING, OPCODE_PONG, OPCODE_BOTH_WAYS, true, "Ping"},
    [OPCODE_PONG] = {OPCODE_PONG, 0, OPCODE_BOTH_WAYS, false, "Pong"},
    [OPCODE_DISCONNECT] = {OPCODE_DISCONNECT, 0, OPCODE_BOTH_WAYS, false, "Disconnect"},
    PAIR(ENQUEUE, "Enqueue"),
    [OPCODE_CONSUME] = {OPCODE_CONSUME, OPCODE_CONSUME_OK, TO_SERVER, true, "Consume"},
    [OPCODE_CONSUME_OK] = {OPCODE_CONSUME_OK, 0, TO_CLIENT, false, "ConsumeOk"},
    [OPCODE_DELIVERY] = {OPCODE_DELIVERY, 0, TO_CLIENT, false, "Delivery"},
    [OPCODE_CANCEL_CONSUME] = {OPCODE_CANCEL_CONSUME, 0, TO_SERVER, false, "CancelConsume"},
    PAIR(ACK, "Ack"),
    PAIR(NACK, "Nack"),
    PAIR(GET_QUEUE_SETTINGS, "GetQueueSettings"),
    PAIR(PAUSE_QUEUE, "PauseQueue"),
    PAIR(UPDATE_QUEUE, "UpdateQueue"),
    PAIR(QUEUE_DETAILS, "QueueDetails"),
    PAIR(PEEK_QUEUE, "PeekQueue"),
    PAIR(PURGE_QUEUE, "PurgeQueue"),
    PAIR(GET_ACL, "GetAcl"),
    PAIR(SET_ACL, "SetAcl"),
    PAIR(LIST_API_KEYS, "ListApiKeys"),
    PAIR(REVOKE_API_KEY, "RevokeApiKey"),
    PAIR(CREATE_API_KEY, "CreateApiKey"),
    PAIR(REDRIVE, "Redrive"),
    PAIR(LIST_CONFIG, "ListConfig"),
    PAIR(GET_CONFIG, "GetConfig"),
    PAIR(SET_CONFIG, "SetConfig"),
    PAIR(LIST_QUEUES, "ListQueues"),
    PAIR(GET_STATS, "GetStats"),
    PAIR(DELETE_QUEUE, "DeleteQueue"),
    PAIR(CREATE_QUEUE, "CreateQueue"),
    [OPCODE_ERROR] = {OPCODE_ERROR, 0, TO_CLIENT, false, "Error"},
};

const struct opcode_entry *opcode_find(uint8_t opcode)
{
    const struct opcode_entry *entry = &opcode_table[opcode];
    return entry->name ? entry : NULL;
}

const char *opcode_name(uint8_t opcode)
{
    const struct opcode_entry *entry = opcode_find(opcode);
    return entry ? entry->name : "unknown";
}

bool opcode_is_accepted(uint8_t opcode)
{
    const struct opcode_entry *entry = opcode_find(opcode);
    return entry && entry->direction != OPCODE_TO_CLIENT && opcode != OPCODE_HANDSHAKE;
}
