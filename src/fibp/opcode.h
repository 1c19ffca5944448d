/*
 * opcode - the operations of the framed dialect (FIBP framed) and what belongs together. Their
 * values are the numbers of S3, the default; other numbers of the same are the business of
 * fibp/numbering.h.
 */
#ifndef FILAD_FIBP_OPCODE_H
#define FILAD_FIBP_OPCODE_H

#include <stdbool.h>
#include <stdint.h>

enum opcode {
    OPCODE_HANDSHAKE = 0x01,
    OPCODE_HANDSHAKE_OK = 0x02,
    OPCODE_PING = 0x03,
    OPCODE_PONG = 0x04,
    OPCODE_DISCONNECT = 0x05,

    OPCODE_ENQUEUE = 0x10,
    OPCODE_ENQUEUE_RESULT = 0x11,
    OPCODE_CONSUME = 0x12,
    OPCODE_CONSUME_OK = 0x13,
    OPCODE_DELIVERY = 0x14,
    OPCODE_CANCEL_CONSUME = 0x15,
    OPCODE_ACK = 0x16,
    OPCODE_ACK_RESULT = 0x17,
    OPCODE_NACK = 0x18,
    OPCODE_NACK_RESULT = 0x19,

    /* of this broker alone; what others do with these numbers is not known */
    OPCODE_GET_QUEUE_SETTINGS_RESULT = 0xD8,
    OPCODE_GET_QUEUE_SETTINGS = 0xD9,
    OPCODE_QUEUE_DETAILS_RESULT = 0xDA,
    OPCODE_QUEUE_DETAILS = 0xDB,
    OPCODE_PAUSE_QUEUE_RESULT = 0xE0,
    OPCODE_PAUSE_QUEUE = 0xE1,
    OPCODE_UPDATE_QUEUE_RESULT = 0xE2,
    OPCODE_UPDATE_QUEUE = 0xE3,
    OPCODE_PEEK_QUEUE_RESULT = 0xDC,
    OPCODE_PEEK_QUEUE = 0xDD,
    OPCODE_PURGE_QUEUE_RESULT = 0xDE,
    OPCODE_PURGE_QUEUE = 0xDF,

    OPCODE_GET_ACL_RESULT = 0xE4,
    OPCODE_GET_ACL = 0xE5,
    OPCODE_SET_ACL_RESULT = 0xE6,
    OPCODE_SET_ACL = 0xE7,
    OPCODE_LIST_API_KEYS_RESULT = 0xE8,
    OPCODE_LIST_API_KEYS = 0xE9,
    OPCODE_REVOKE_API_KEY_RESULT = 0xEA,
    OPCODE_REVOKE_API_KEY = 0xEB,
    OPCODE_CREATE_API_KEY_RESULT = 0xEC,
    OPCODE_CREATE_API_KEY = 0xED,
    OPCODE_REDRIVE_RESULT = 0xEE,
    OPCODE_REDRIVE = 0xEF,
    OPCODE_LIST_CONFIG_RESULT = 0xF0,
    OPCODE_LIST_CONFIG = 0xF1,
    OPCODE_GET_CONFIG_RESULT = 0xF2,
    OPCODE_GET_CONFIG = 0xF3,
    OPCODE_SET_CONFIG_RESULT = 0xF4,
    OPCODE_SET_CONFIG = 0xF5,
    OPCODE_LIST_QUEUES_RESULT = 0xF6,
    OPCODE_LIST_QUEUES = 0xF7,
    OPCODE_GET_STATS_RESULT = 0xF8,
    OPCODE_GET_STATS = 0xF9,
    OPCODE_DELETE_QUEUE_RESULT = 0xFA,
    OPCODE_DELETE_QUEUE = 0xFB,
    OPCODE_CREATE_QUEUE_RESULT = 0xFC,
    OPCODE_CREATE_QUEUE = 0xFD,
    OPCODE_ERROR = 0xFE,
};

enum opcode_direction {
    OPCODE_TO_SERVER,
    OPCODE_TO_CLIENT,
    OPCODE_BOTH_WAYS,
};

struct opcode_entry {
    uint8_t opcode;
    uint8_t result;                  /* opcode of the regular answer; 0: there is none */
    enum opcode_direction direction; /* who may send it */
    bool is_request;                 /* a client sends it and waits for an answer */
    const char *name;                /* "Enqueue" */
};

/* NULL for an unassigned opcode and for those of the node port (0x40-0x4D). */
const struct opcode_entry *opcode_find(uint8_t opcode);

/* The name for logs and messages; "unknown" when there is none. */
const char *opcode_name(uint8_t opcode);

/* True for what a server accepts from a client once the handshake is over: requests, Ping, Pong,
 * Disconnect and CancelConsume. Everything else gets Error InvalidFrame. */
bool opcode_is_accepted(uint8_t opcode);

#endif
