#include "fibp/status.h"

#include <stddef.h>

struct status_entry {
    const char *name;
    const char *text;
};

static const struct status_entry status_table[] = {
    [FIBP_OK] = {"Ok", "ok"},
    [FIBP_QUEUE_NOT_FOUND] = {"QueueNotFound", "queue not found"},
    [FIBP_MESSAGE_NOT_FOUND] = {"MessageNotFound", "message not found"},
    [FIBP_QUEUE_ALREADY_EXISTS] = {"QueueAlreadyExists", "queue already exists"},
    [FIBP_LUA_COMPILATION_ERROR] = {"LuaCompilationError", "Lua script does not compile"},
    [FIBP_STORAGE_ERROR] = {"StorageError", "storage error"},
    [FIBP_NOT_A_DLQ] = {"NotADLQ", "not a dead-letter queue"},
    [FIBP_PARENT_QUEUE_NOT_FOUND] = {"ParentQueueNotFound", "parent queue not found"},
    [FIBP_INVALID_CONFIG_VALUE] = {"InvalidConfigValue", "invalid configuration value"},
    [FIBP_CHANNEL_FULL] = {"ChannelFull", "overloaded, try again later"},
    [FIBP_UNAUTHORIZED] = {"Unauthorized", "not authenticated"},
    [FIBP_FORBIDDEN] = {"Forbidden", "permission denied"},
    [FIBP_NOT_LEADER] = {"NotLeader", "not the leader of this queue"},
    [FIBP_UNSUPPORTED_VERSION] = {"UnsupportedVersion", "unsupported protocol version"},
    [FIBP_INVALID_FRAME] = {"InvalidFrame", "invalid frame"},
    [FIBP_API_KEY_NOT_FOUND] = {"ApiKeyNotFound", "API key not found"},
    [FIBP_NODE_NOT_READY] = {"NodeNotReady", "node not ready"},
};

static const struct status_entry status_internal = {"InternalError", "internal error"};

static const struct status_entry *status_find(unsigned code)
{
    return code < sizeof(status_table) / sizeof(status_table[0]) ? &status_table[code]
                                                                 : &status_internal;
}

enum fibp_status status_from_wire(uint8_t code)
{
    return status_find(code) == &status_internal ? FIBP_INTERNAL_ERROR : (enum fibp_status)code;
}

const char *status_name(enum fibp_status status)
{
    return status_find((unsigned)status)->name;
}

struct str status_text(enum fibp_status status)
{
    return str_from_c(status_find((unsigned)status)->text);
}
