/*
 * framed_settings - requests about the settings of queues: update, pause, read.
 */
#ifndef FILAD_WORKER_FRAMED_SETTINGS_H
#define FILAD_WORKER_FRAMED_SETTINGS_H

#include "worker/framed_request.h"

extern const struct framed_handler framed_update_queue_handler, framed_pause_queue_handler,
    framed_get_settings_handler;

/* Longer visibility timeouts are taken for the longest there is. */
uint64_t framed_settings_timeout(uint64_t visibility_timeout_ms);

/* True when the modules take the script, or it is empty. */
bool framed_settings_script(struct session *session, enum hook_script which, struct str source,
                            struct err *err);

#endif
