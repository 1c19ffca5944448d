#include "client/received.h"

#include <stdlib.h>
#include <string.h>

#include "fibp/wire.h"

/* Copies with a NUL behind and moves on. */
static struct fila_slice received_copy(char **to, struct str from)
{
    struct fila_slice slice = {*to, from.size};
    if (from.size)
        memcpy(*to, from.data, from.size);
    (*to)[from.size] = '\0';
    *to += from.size + 1;
    return slice;
}

struct received *received_create(const struct framed_client_delivery *from)
{
    size_t tables = from->header_count * sizeof(struct fila_header) +
                    from->throttle_key_count * sizeof(struct fila_slice);
    /* The 2-byte length in front of each string of a map or list makes room for its NUL. */
    size_t texts = from->message_id.size + from->queue.size + from->payload.size +
                   from->fairness_key.size + 4 + from->headers.size + from->throttle_keys.size;
    struct received *received = malloc(sizeof(*received) + tables + texts);
    if (!received)
        return NULL;

    struct fila_header *headers = (struct fila_header *)(received + 1);
    struct fila_slice *throttle_keys = (struct fila_slice *)(headers + from->header_count);
    char *at = (char *)(throttle_keys + from->throttle_key_count);
    struct wire_reader reader;
    struct wire_pair pair;
    struct str key;
    uint16_t count;

    list_init(&received->list);
    received->message = (struct fila_delivery){
        .id = received_copy(&at, from->message_id),
        .headers = headers,
        .throttle_keys = throttle_keys,
        .weight = from->weight,
        .attempt = from->attempt,
        .enqueued_ms = from->enqueued_ms,
        .leased_ms = from->leased_ms,
    };
    received->message.queue = received_copy(&at, from->queue);
    received->message.payload = received_copy(&at, from->payload);
    received->message.fairness_key = received_copy(&at, from->fairness_key);

    wire_reader_init(&reader, from->headers);
    reader.trusted = true;
    bool more = wire_u16(&reader, "headers", &count);
    for (uint16_t i = 0; more && i < count && wire_pair_next(&reader, "headers", &pair); i++) {
        headers[i].name = received_copy(&at, pair.key);
        headers[i].value = received_copy(&at, pair.value);
        received->message.header_count++;
    }
    wire_reader_init(&reader, from->throttle_keys);
    reader.trusted = true;
    more = wire_u16(&reader, "throttle keys", &count);
    for (uint16_t i = 0; more && i < count && wire_str(&reader, "throttle keys", &key); i++) {
        throttle_keys[i] = received_copy(&at, key);
        received->message.throttle_key_count++;
    }
    return received;
}

void fila_delivery_free(struct fila_delivery *delivery)
{
    free(delivery);
}

bool fila_delivery_header(const struct fila_delivery *delivery, const char *name,
                          struct fila_slice *value)
{
    size_t size = strlen(name);
    for (size_t i = delivery->header_count; i-- > 0;) {
        const struct fila_header *header = &delivery->headers[i];
        if (header->name.size == size && memcmp(header->name.data, name, size) == 0) {
            *value = header->value;
            return true;
        }
    }
    return false;
}
