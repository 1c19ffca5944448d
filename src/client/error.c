#include "client/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/utf8.h"
#include "fibp/framed_client.h"

static const char *const error_texts[] = {
    [FILA_OK] = "ok",
    [FILA_USAGE] = "wrong call",
    [FILA_NO_MEMORY] = "no memory",
    [FILA_TOO_LARGE] = "too large",
    [FILA_TRANSPORT] = "connection lost",
    [FILA_TIMEOUT] = "timed out",
    [FILA_PROTOCOL] = "protocol violation by the server",
    [FILA_CLOSED] = "closed",
    [FILA_DISCONNECTED] = "the server closed the connection",
    [FILA_QUEUE_NOT_FOUND] = "queue not found",
    [FILA_MESSAGE_NOT_FOUND] = "message not found",
    [FILA_QUEUE_EXISTS] = "queue already exists",
    [FILA_SCRIPT_ERROR] = "script does not compile",
    [FILA_STORAGE] = "storage error",
    [FILA_NOT_A_DLQ] = "not a dead-letter queue",
    [FILA_PARENT_NOT_FOUND] = "parent queue not found",
    [FILA_INVALID_VALUE] = "invalid value",
    [FILA_OVERLOADED] = "overloaded, try again later",
    [FILA_UNAUTHORIZED] = "not authenticated",
    [FILA_FORBIDDEN] = "permission denied",
    [FILA_NOT_LEADER] = "not the leader",
    [FILA_BAD_VERSION] = "unsupported protocol version",
    [FILA_INVALID_REQUEST] = "invalid request",
    [FILA_KEY_NOT_FOUND] = "API key not found",
    [FILA_NOT_READY] = "server not ready",
    [FILA_SERVER_ERROR] = "internal error of the server",
};

static const enum fila_code error_from_status[] = {
    [FIBP_OK] = FILA_OK,
    [FIBP_QUEUE_NOT_FOUND] = FILA_QUEUE_NOT_FOUND,
    [FIBP_MESSAGE_NOT_FOUND] = FILA_MESSAGE_NOT_FOUND,
    [FIBP_QUEUE_ALREADY_EXISTS] = FILA_QUEUE_EXISTS,
    [FIBP_LUA_COMPILATION_ERROR] = FILA_SCRIPT_ERROR,
    [FIBP_STORAGE_ERROR] = FILA_STORAGE,
    [FIBP_NOT_A_DLQ] = FILA_NOT_A_DLQ,
    [FIBP_PARENT_QUEUE_NOT_FOUND] = FILA_PARENT_NOT_FOUND,
    [FIBP_INVALID_CONFIG_VALUE] = FILA_INVALID_VALUE,
    [FIBP_CHANNEL_FULL] = FILA_OVERLOADED,
    [FIBP_UNAUTHORIZED] = FILA_UNAUTHORIZED,
    [FIBP_FORBIDDEN] = FILA_FORBIDDEN,
    [FIBP_NOT_LEADER] = FILA_NOT_LEADER,
    [FIBP_UNSUPPORTED_VERSION] = FILA_BAD_VERSION,
    [FIBP_INVALID_FRAME] = FILA_INVALID_REQUEST,
    [FIBP_API_KEY_NOT_FOUND] = FILA_KEY_NOT_FOUND,
    [FIBP_NODE_NOT_READY] = FILA_NOT_READY,
};

const char *fila_code_text(enum fila_code code)
{
    size_t count = sizeof(error_texts) / sizeof(error_texts[0]);
    return (size_t)code < count ? error_texts[code] : error_texts[FILA_SERVER_ERROR];
}

enum fila_code error_code_from_wire(uint8_t wire_code)
{
    size_t count = sizeof(error_from_status) / sizeof(error_from_status[0]);
    return wire_code < count ? error_from_status[wire_code] : FILA_SERVER_ERROR;
}

void fila_error_clear(struct fila_error *error)
{
    if (!error)
        return;
    for (size_t i = 0; i < error->metadata_count; i++) {
        free(error->metadata[i].key);
        free(error->metadata[i].value);
    }
    free(error->metadata);
    *error = (struct fila_error)FILA_ERROR_INIT;
}

const char *fila_error_metadata(const struct fila_error *error, const char *key)
{
    const char *value = NULL;
    for (size_t i = 0; error && i < error->metadata_count; i++)
        if (strcmp(error->metadata[i].key, key) == 0)
            value = error->metadata[i].value;
    return value;
}

/* Stores a text, cut on a character boundary when it is too long. */
static void error_store(struct fila_error *error, const char *text)
{
    size_t size = strlen(text);
    if (size >= FILA_TEXT_SIZE)
        size = utf8_truncate(str_of(text, size), FILA_TEXT_SIZE - 1);
    memcpy(error->text, text, size);
    error->text[size] = '\0';
}

int error_set(struct fila_error *error, enum fila_code code, const char *format, ...)
{
    if (!error)
        return -1;
    /* The arguments may point into the present text. */
    char text[2 * FILA_TEXT_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);

    fila_error_clear(error);
    error->code = code;
    error_store(error, text);
    return -1;
}

int error_prefix(struct fila_error *error, const char *format, ...)
{
    if (!error)
        return -1;
    char text[2 * FILA_TEXT_SIZE + 2];
    va_list args;
    va_start(args, format);
    vsnprintf(text, FILA_TEXT_SIZE, format, args);
    va_end(args);

    size_t used = strlen(text);
    snprintf(text + used, sizeof(text) - used, ": %s", error->text);
    error_store(error, text);
    return -1;
}

/* A server's words go to terminals and logs: on one line and without control characters. */
static void error_make_line(char *text)
{
    while (*text) {
        size_t size = utf8_control(str_from_c(text));
        memset(text, ' ', size);
        text += size ? size : 1;
    }
}

int error_set_status(struct fila_error *error, uint8_t wire_code, struct str text)
{
    /* An error that says that it is none is one all the same. */
    enum fila_code code =
        wire_code == FIBP_OK ? FILA_SERVER_ERROR : error_code_from_wire(wire_code);
    if (text.size == 0 || text.data[0] == '\0')
        text = str_from_c(fila_code_text(code));
    text.size = utf8_truncate(text, text.size < FILA_TEXT_SIZE ? text.size : FILA_TEXT_SIZE - 1);
    error_set(error, code, "%.*s", STR_PRINT(text));
    if (error) {
        error_make_line(error->text);
        error->server_code = wire_code;
    }
    return -1;
}

static void error_add_pair(struct fila_error *error, struct str key, struct str value)
{
    struct fila_pair *pair = &error->metadata[error->metadata_count];
    pair->key = str_dup_c(key);
    pair->value = str_dup_c(value);
    if (pair->key && pair->value) {
        error->metadata_count++;
        return;
    }
    free(pair->key);
    free(pair->value);
}

int error_set_frame(struct fila_error *error, struct str body)
{
    struct wire_reader reader;
    struct framed_client_error answer;
    struct wire_pair pair;

    wire_reader_init(&reader, body);
    if (!framed_client_error(&reader, &answer))
        return error_set_reader(error, "Error frame", &reader);
    error_set_status(error, answer.code, answer.text);
    if (!error || answer.pair_count == 0)
        return -1;
    error->metadata = calloc(answer.pair_count, sizeof(*error->metadata));
    for (uint16_t i = 0; error->metadata && i < answer.pair_count; i++)
        if (framed_client_error_pair(&reader, &pair))
            error_add_pair(error, pair.key, pair.value);
    return -1;
}

int error_set_reader(struct fila_error *error, const char *what, const struct wire_reader *reader)
{
    char reason[FILA_TEXT_SIZE];
    wire_describe(reader, reason, sizeof(reason));
    return error_set(error, FILA_PROTOCOL, "invalid %s from the server: %s", what, reason);
}

void error_copy(struct fila_error *to, const struct fila_error *from)
{
    if (!to)
        return;
    fila_error_clear(to);
    to->code = from->code;
    to->server_code = from->server_code;
    memcpy(to->text, from->text, sizeof(to->text));
    if (from->metadata_count == 0)
        return;
    to->metadata = calloc(from->metadata_count, sizeof(*to->metadata));
    for (size_t i = 0; to->metadata && i < from->metadata_count; i++)
        error_add_pair(to, str_from_c(from->metadata[i].key), str_from_c(from->metadata[i].value));
}
