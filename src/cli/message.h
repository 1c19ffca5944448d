/* Parts of a message that several commands print as JSON. */
#ifndef FILAD_CLI_MESSAGE_H
#define FILAD_CLI_MESSAGE_H

#include "cli/cli.h"
#include "cli/output.h"

/* "headers", an object: of those with the same name the last one, which is the one that counts. */
void message_headers(struct output_json *json, const struct fila_delivery *message);

/* "throttle_keys", an array. */
void message_throttle_keys(struct output_json *json, const struct fila_delivery *message);

#endif
