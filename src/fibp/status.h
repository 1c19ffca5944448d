/*
 * status - the error codes of the framed dialect.
 */
#ifndef FILAD_FIBP_STATUS_H
#define FILAD_FIBP_STATUS_H

#include <stdint.h>

#include "core/str.h"

enum fibp_status {
    FIBP_OK = 0x00,
    FIBP_QUEUE_NOT_FOUND = 0x01,
    FIBP_MESSAGE_NOT_FOUND = 0x02,
    FIBP_QUEUE_ALREADY_EXISTS = 0x03,
    FIBP_LUA_COMPILATION_ERROR = 0x04,
    FIBP_STORAGE_ERROR = 0x05,
    FIBP_NOT_A_DLQ = 0x06,
    FIBP_PARENT_QUEUE_NOT_FOUND = 0x07,
    FIBP_INVALID_CONFIG_VALUE = 0x08,
    FIBP_CHANNEL_FULL = 0x09,
    FIBP_UNAUTHORIZED = 0x0A,
    FIBP_FORBIDDEN = 0x0B,
    FIBP_NOT_LEADER = 0x0C,
    FIBP_UNSUPPORTED_VERSION = 0x0D,
    FIBP_INVALID_FRAME = 0x0E,
    FIBP_API_KEY_NOT_FOUND = 0x0F,
    FIBP_NODE_NOT_READY = 0x10,
    FIBP_INTERNAL_ERROR = 0xFF,
};

/* A code from the wire; one that is not assigned reads as FIBP_INTERNAL_ERROR. */
enum fibp_status status_from_wire(uint8_t code);

/* "QueueNotFound" */
const char *status_name(enum fibp_status status);

/* A sentence part for an Error frame or a person that has nothing better: "queue not found". */
struct str status_text(enum fibp_status status);

#endif
