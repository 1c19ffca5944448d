#include "cli/message.h"

static bool message_header_counts(const struct fila_delivery *message, size_t index)
{
    struct fila_slice value;
    return fila_delivery_header(message, message->headers[index].name.data, &value) &&
           value.data == message->headers[index].value.data;
}

void message_headers(struct output_json *json, const struct fila_delivery *message)
{
    output_object(json, "headers");
    for (size_t i = 0; i < message->header_count; i++)
        if (message_header_counts(message, i))
            output_text(json, message->headers[i].name.data, message->headers[i].value.data,
                        message->headers[i].value.size);
    output_object_end(json);
}

void message_throttle_keys(struct output_json *json, const struct fila_delivery *message)
{
    output_array(json, "throttle_keys");
    for (size_t i = 0; i < message->throttle_key_count; i++)
        output_text(json, NULL, message->throttle_keys[i].data, message->throttle_keys[i].size);
    output_array_end(json);
}
