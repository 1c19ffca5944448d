/*
 * framed_settings - requests of this broker about the settings of queues, which no other has, both
 * halves; man page fibp(7), EXTENSIONS. The rules of fibp/framed.h and fibp/framed_client.h hold.
 */
#ifndef FILAD_FIBP_FRAMED_SETTINGS_H
#define FILAD_FIBP_FRAMED_SETTINGS_H

#include "fibp/framed.h"

/* Behind the last field of CreateQueue: `u32 FRAMED_MARK` `u32 max_attempts` `bool
 * dead_letter_headers`. */
struct framed_create_options {
    uint32_t max_attempts; /* 0: no limit */
    bool dead_letter_headers;
};

/* Zeros when there are none. */
void framed_create_options(struct wire_reader *reader, struct framed_create_options *options);
/* As framed_client_create_queue, with options. */
int framed_client_create_with(struct buf *buf, uint32_t request_id,
                              const struct framed_create_queue *request,
                              const struct framed_create_options *options) FRAMED_CHECK;

/* UpdateQueue; what has no `sets` stays as it is. */
struct framed_update_queue {
    struct str queue;
    bool sets_on_enqueue, sets_on_failure, sets_visibility_timeout, sets_max_attempts,
        sets_dead_letter_headers;
    struct str on_enqueue, on_failure; /* empty: none any more */
    uint64_t visibility_timeout_ms;    /* 0: the broker's default */
    uint32_t max_attempts;             /* 0: no limit */
    bool dead_letter_headers;
};

bool framed_update_queue(struct wire_reader *reader,
                         struct framed_update_queue *request) FRAMED_CHECK;
int framed_client_update_queue(struct buf *buf, uint32_t request_id,
                               const struct framed_update_queue *request) FRAMED_CHECK;
/* `text`: the name; with FIBP_LUA_COMPILATION_ERROR the compiler's message (cut to fit). It is
 * decoded as the text of CreateQueueResult. */
int framed_update_queue_result(struct buf *buf, uint32_t request_id, enum fibp_status status,
                               struct str text) FRAMED_CHECK;

/* PauseQueue; its answer is framed_status_result. */
bool framed_pause_queue(struct wire_reader *reader, struct str *queue, bool *paused) FRAMED_CHECK;
int framed_client_pause_queue(struct buf *buf, uint32_t request_id, struct str queue,
                              bool paused) FRAMED_CHECK;

/* GetQueueSettings; the request is framed_client_text. */
struct framed_queue_settings {
    struct str on_enqueue, on_failure; /* empty: none */
    uint64_t visibility_timeout_ms;
    uint32_t max_attempts;
    bool dead_letter_headers, paused;
    uint64_t version;    /* counts the changes of the scripts */
    uint64_t created_ms; /* since 1970 */
};

bool framed_get_settings(struct wire_reader *reader, struct str *queue) FRAMED_CHECK;
int framed_settings_result(struct buf *buf, uint32_t request_id, enum fibp_status status,
                           const struct framed_queue_settings *settings) FRAMED_CHECK;
/* Behind the code. */
bool framed_client_settings(struct wire_reader *reader,
                            struct framed_queue_settings *settings) FRAMED_CHECK;

#endif
