/*
 * framed_config - requests about the runtime configuration.
 */
#ifndef FILAD_WORKER_FRAMED_CONFIG_H
#define FILAD_WORKER_FRAMED_CONFIG_H

#include "worker/framed_request.h"

extern const struct framed_handler framed_set_config_handler, framed_get_config_handler,
    framed_list_config_handler;

#endif
