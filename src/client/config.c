/* The runtime configuration. */
#include <stdlib.h>

#include "client/call.h"
#include "client/error.h"
#include "fibp/framed_client.h"

/* Reads the code that results start with; -1 with `error` unless it is 0. */
static int config_code(struct wire_reader *reader, struct fila_error *error)
{
    struct str reason = {NULL, 0};
    uint8_t code;
    if (!framed_client_code(reader, &code))
        return -1;
    if (code == FIBP_OK)
        return 0;
    framed_client_reason(reader, &reason);
    return error_set_status(error, code, reason);
}

/* A NUL-terminated copy; on failure `error` is set. */
static char *config_text(struct str text, struct fila_error *error)
{
    char *copy = str_dup_c(text);
    if (!copy)
        error_set(error, FILA_NO_MEMORY, "no memory for the answer");
    return copy;
}

static int config_decode_set(struct wire_reader *reader, void *output, size_t count,
                             struct fila_error *error)
{
    (void)output;
    (void)count;
    return config_code(reader, error);
}

int fila_config_set(struct fila *client, const char *key, const char *value,
                    struct fila_error *error)
{
    struct str name = str_from_c(key), text = str_from_c(value);
    struct buf frame;

    if (call_check_text(name, "key", error) != 0 || call_check_text(text, "value", error) != 0)
        return -1;
    buf_init(&frame, 0);
    int encoded = framed_client_set_config(&frame, 0, name, text);
    return call_run(client, OPCODE_SET_CONFIG, &frame, encoded, config_decode_set, NULL, error);
}

static int config_decode_get(struct wire_reader *reader, void *output, size_t count,
                             struct fila_error *error)
{
    char **value = output;
    struct str text;
    (void)count;
    if (config_code(reader, error) != 0 || !framed_client_text_result(reader, &text))
        return -1;
    *value = config_text(text, error);
    return *value ? 0 : -1;
}

int fila_config_get(struct fila *client, const char *key, char **value, struct fila_error *error)
{
    struct str name = str_from_c(key);
    char *found = NULL;
    struct buf frame;

    *value = NULL;
    if (call_check_text(name, "key", error) != 0)
        return -1;
    buf_init(&frame, 0);
    int encoded = framed_client_text(&frame, OPCODE_GET_CONFIG, 0, name);
    if (call_run(client, OPCODE_GET_CONFIG, &frame, encoded, config_decode_get, &found, error) !=
        0) {
        free(found);
        return -1;
    }
    *value = found;
    return 0;
}

static int config_decode_list(struct wire_reader *reader, void *output, size_t unused,
                              struct fila_error *error)
{
    struct fila_config_list *list = output;
    struct wire_pair from;
    uint16_t count;
    (void)unused;

    if (config_code(reader, error) != 0 || !framed_client_list_config_begin(reader, &count))
        return -1;
    list->entries = calloc(count ? count : 1u, sizeof(*list->entries));
    if (!list->entries)
        return error_set(error, FILA_NO_MEMORY, "no memory for the answer");
    for (uint16_t i = 0; i < count; i++) {
        if (!framed_client_list_config_next(reader, &from))
            return -1;
        struct fila_pair *entry = &list->entries[list->count++];
        entry->key = config_text(from.key, error);
        entry->value = entry->key ? config_text(from.value, error) : NULL;
        if (!entry->value)
            return -1;
    }
    return 0;
}

struct fila_config_list *fila_config_list(struct fila *client, const char *prefix,
                                          struct fila_error *error)
{
    struct str text = str_from_c(prefix);
    struct fila_config_list *list;
    struct buf frame;

    if (call_check_text(text, "prefix", error) != 0)
        return NULL;
    list = calloc(1, sizeof(*list));
    if (!list) {
        error_set(error, FILA_NO_MEMORY, "no memory for the answer");
        return NULL;
    }
    buf_init(&frame, 0);
    int encoded = framed_client_text(&frame, OPCODE_LIST_CONFIG, 0, text);
    if (call_run(client, OPCODE_LIST_CONFIG, &frame, encoded, config_decode_list, list, error) == 0)
        return list;
    fila_config_list_free(list);
    return NULL;
}

void fila_config_list_free(struct fila_config_list *list)
{
    if (!list)
        return;
    for (size_t i = 0; i < list->count; i++) {
        free(list->entries[i].key);
        free(list->entries[i].value);
    }
    free(list->entries);
    free(list);
}
