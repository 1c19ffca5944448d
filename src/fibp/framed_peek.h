/*
 * framed_peek - PeekQueue and its result, an extension: messages are browsed without leasing them.
 */
#ifndef FILAD_FIBP_FRAMED_PEEK_H
#define FILAD_FIBP_FRAMED_PEEK_H

#include "core/uuid.h"
#include "fibp/framed.h"

#define FRAMED_PEEK_MAX 1000u          /* messages of one answer */
#define FRAMED_PEEK_PAYLOAD_MAX 65536u /* bytes of each payload */

struct framed_peek {
    struct str queue;
    bool has_key;
    struct str fairness_key; /* with has_key: only messages of it */
    uint32_t limit;          /* messages; the server takes no more than FRAMED_PEEK_MAX */
    uint32_t payload_max;    /* bytes of each payload; no more than FRAMED_PEEK_PAYLOAD_MAX */
    struct str cursor;       /* of the answer before; empty: from the beginning */
};

enum framed_peek_state {
    FRAMED_PEEK_READY,
    FRAMED_PEEK_LEASED,
    FRAMED_PEEK_DELAYED,
    FRAMED_PEEK_HELD
};

struct framed_peek_item {
    struct str message_id;
    uint8_t state;         /* enum framed_peek_state */
    bool headers_cut;      /* there are more headers */
    uint64_t when_ms;      /* wall clock: end of the lease, or when it is due; otherwise 0 */
    struct str headers;    /* wire bytes `map headers`; empty: none */
    uint16_t header_count; /* read only */
    uint64_t payload_size; /* of all of it */
    struct str payload;    /* its beginning */
    struct str fairness_key;
    struct str throttle_keys; /* wire bytes of the strings, one behind the other; when read with
                               * their count in front, as wire_strs gives them */
    uint16_t throttle_count;
    uint32_t weight, attempt;
    uint64_t enqueued_ms;
    bool is_dead; /* the rest is there */
    uint64_t dead_ms;
    struct str reason, origin;
};

/* ---- the request ---- */
bool framed_peek(struct wire_reader *reader, struct framed_peek *request) FRAMED_CHECK;
int framed_client_peek(struct buf *buf, uint32_t request_id,
                       const struct framed_peek *request) FRAMED_CHECK;

/* ---- the result: an empty cursor says that there is nothing more ---- */
void framed_peek_begin(struct buf *buf, uint32_t request_id, enum fibp_status status,
                       struct str cursor, struct framed_list *list);
void framed_peek_add(struct buf *buf, struct framed_list *list,
                     const struct framed_peek_item *item);
/* Behind the code. */
bool framed_client_peek_begin(struct wire_reader *reader, struct str *cursor,
                              uint16_t *count) FRAMED_CHECK;
bool framed_client_peek_next(struct wire_reader *reader,
                             struct framed_peek_item *item) FRAMED_CHECK;

#endif
