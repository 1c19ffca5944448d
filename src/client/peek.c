/* Browsing the messages of a queue. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "client/call.h"
#include "client/error.h"
#include "client/received.h"
#include "fibp/framed_client.h"
#include "fibp/framed_peek.h"

/* What a page is inside: `page` comes first. */
struct peek_page {
    struct fila_peek_page page;
    struct str queue; /* the caller's, while the answer is decoded */
    struct fila_peeked *messages;
    char *cursor;
    size_t cursor_size;
};

void fila_peek_page_free(struct fila_peek_page *page)
{
    struct peek_page *inside = (struct peek_page *)page;
    if (!page)
        return;
    for (size_t i = 0; i < page->count; i++) {
        fila_delivery_free((struct fila_delivery *)(uintptr_t)page->messages[i].message);
        free(inside->messages[i].reason);
        free(inside->messages[i].origin);
    }
    free(inside->messages);
    free(inside->cursor);
    free(inside);
}

static bool peek_message(struct peek_page *inside, const struct framed_peek_item *item)
{
    struct framed_client_delivery delivery = {
        .message_id = item->message_id,
        .queue = inside->queue,
        .headers = item->headers,
        .header_count = item->header_count,
        .payload = item->payload,
        .fairness_key = item->fairness_key,
        .weight = item->weight,
        .throttle_keys = item->throttle_keys,
        .throttle_key_count = item->throttle_count,
        .attempt = item->attempt,
        .enqueued_ms = item->enqueued_ms,
        .leased_ms = 0,
    };
    struct received *received = received_create(&delivery);
    if (!received)
        return false;
    struct fila_peeked *peeked = &inside->messages[inside->page.count++];
    *peeked = (struct fila_peeked){
        .message = &received->message,
        .state =
            item->state <= FRAMED_PEEK_HELD ? (enum fila_peek_state)item->state : FILA_PEEK_UNKNOWN,
        .when_ms = item->when_ms,
        .headers_cut = item->headers_cut,
        .payload_size = item->payload_size,
        .is_dead = item->is_dead,
        .dead_ms = item->dead_ms,
    };
    if (!item->is_dead)
        return true;
    peeked->reason = str_dup_c(item->reason);
    peeked->origin = str_dup_c(item->origin);
    return peeked->reason && peeked->origin;
}

static int peek_decode(struct wire_reader *reader, void *output, size_t unused,
                       struct fila_error *error)
{
    struct peek_page *inside = output;
    struct framed_peek_item item;
    struct str cursor;
    uint16_t count;
    (void)unused;

    if (call_read_code(reader, error) != 0)
        return -1;
    if (!framed_client_peek_begin(reader, &cursor, &count))
        return -1;
    inside->messages = calloc(count ? count : 1u, sizeof(*inside->messages));
    inside->cursor = malloc(cursor.size ? cursor.size : 1);
    if (!inside->messages || !inside->cursor)
        return error_set(error, FILA_NO_MEMORY, "no memory for the answer");
    if (cursor.size)
        memcpy(inside->cursor, cursor.data, cursor.size);
    inside->cursor_size = cursor.size;
    inside->page.more = cursor.size > 0;
    inside->page.messages = inside->messages;
    for (uint16_t i = 0; i < count; i++) {
        if (!framed_client_peek_next(reader, &item))
            return -1;
        if (!peek_message(inside, &item))
            return error_set(error, FILA_NO_MEMORY, "no memory for the answer");
    }
    return 0;
}

struct fila_peek_page *fila_queue_peek(struct fila *client, const char *name,
                                       const struct fila_peek_options *options,
                                       const struct fila_peek_page *after, struct fila_error *error)
{
    struct fila_peek_options none = {NULL, 0, 0};
    const struct fila_peek_options *given = options ? options : &none;
    const struct peek_page *before = (const struct peek_page *)after;
    struct framed_peek request = {
        .queue = str_from_c(name),
        .has_key = given->fairness_key != NULL,
        .fairness_key = str_from_c(given->fairness_key),
        .limit = given->count ? given->count : FRAMED_PEEK_MAX,
        .payload_max = given->payload_max,
        .cursor = before ? str_of(before->cursor, before->cursor_size) : str_of(NULL, 0),
    };
    struct buf frame;

    if (call_check_text(request.queue, "queue name", error) != 0 ||
        call_check_text(request.fairness_key, "fairness key", error) != 0)
        return NULL;
    struct peek_page *inside = calloc(1, sizeof(*inside));
    if (!inside) {
        error_set(error, FILA_NO_MEMORY, "no memory for the answer");
        return NULL;
    }
    inside->queue = request.queue;
    buf_init(&frame, 0);
    int encoded = framed_client_peek(&frame, 0, &request);
    if (call_run(client, OPCODE_PEEK_QUEUE, &frame, encoded, peek_decode, inside, error) == 0)
        return &inside->page;
    fila_peek_page_free(&inside->page);
    return NULL;
}
