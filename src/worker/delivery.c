#include "worker/delivery.h"

#include <stdlib.h>

#include "core/buf.h"
#include "fibp/framed.h"
#include "worker/request.h"
#include "worker/subscriber.h"

/* --- encoding, on the store thread --- */

static void delivery_framed_begin(const struct subscription *subscription, struct buf *out)
{
    const struct subscriber *subscriber =
        CONTAINER_OF(subscription, const struct subscriber, subscription);

    (void)framed_delivery_begin(out, subscriber->numbering, subscription->request_id);
}

static bool delivery_framed_add(const struct subscription *subscription, struct buf *out,
                                const struct delivery_message *message)
{
    struct framed_delivery_item item = {
        .id = message->id,
        .queue = message->queue,
        .record = message->record,
        .rest = message->rest,
        .fairness_key = message->fairness_key,
        .weight = message->weight,
        .throttle_keys = message->throttle_keys,
        .throttle_key_count = message->throttle_count,
        .attempt = message->attempt,
        .enqueued_ms = message->enqueued_ms,
        .leased_ms = message->leased_ms,
    };

    size_t before = out->size;

    (void)subscription;
    if (framed_delivery_add(out, &item) < 0) {
        out->failed = true;
        return true;
    }
    if (message->rest > 0 &&
        !message->read_rest(message, out->data + before + framed_delivery_item_head(&item))) {
        out->size = before;
        return false;
    }
    return true;
}

static void delivery_framed_end(const struct subscription *subscription, struct buf *out,
                                uint32_t count)
{
    const struct subscriber *subscriber =
        CONTAINER_OF(subscription, const struct subscriber, subscription);

    if (out->failed || framed_delivery_end(out, 0, count, subscriber->max_frame_size) < 0)
        out->failed = true;
}

const struct delivery_encoder delivery_framed = {
    .begin = delivery_framed_begin,
    .add = delivery_framed_add,
    .end = delivery_framed_end,
};

/* --- sending, on the loop thread --- */

/* A delivery in the output of a connection, or on its way there. */
struct delivery_piece {
    struct conn_piece piece;
    struct list list; /* in session->deliveries or session->kept */
    uint64_t barrier; /* kept: until the write of this number and those before it are answered */
    struct session *session;
    struct operation_delivery *delivery;
    const struct subscription *subscription; /* only to be compared */
};

/* Notes that a delivery is not on its way to the socket any more. */
static void delivery_leave(struct session *session, const struct operation_delivery *delivery)
{
    atomic_fetch_sub(&session->window.queued, delivery->size);
    atomic_fetch_sub(&session->sessions->window.queued, delivery->size);
    session_touch(session);
}

/* Nothing of it was sent: its leases go back to the head of their lanes. */
static void delivery_return(struct session *session, struct operation_delivery *delivery)
{
    delivery_leave(session, delivery);
    delivery->operation.kind = OPERATION_RETURN;
    delivery->operation.line = session->line;
    sessions_submit(session->sessions, &delivery->operation);
}

static void delivery_done(struct conn_piece *piece)
{
    struct delivery_piece *queued = CONTAINER_OF(piece, struct delivery_piece, piece);

    list_remove(&queued->list);
    if (piece->sent == 0) {
        delivery_return(queued->session, queued->delivery);
    } else {
        delivery_leave(queued->session, queued->delivery);
        operation_free(&queued->delivery->operation);
    }
    free(queued);
}

static void delivery_send(struct delivery_piece *queued)
{
    struct session *session = queued->session;

    if (conn_send(&session->conn, &queued->piece) < 0) {
        delivery_return(session, queued->delivery);
        free(queued);
        return;
    }
    list_append(&session->deliveries, &queued->list);
    session_touch(session);
}

/* Barriers only grow towards the end of `kept`: what comes up first is sent first. */
void delivery_release(struct session *session)
{
    uint64_t oldest = UINT64_MAX;

    if (list_empty(&session->kept))
        return;
    if (!list_empty(&session->writes))
        oldest = CONTAINER_OF(session->writes.next, struct request, list)->sequence;
    LIST_EACH_SAFE(&session->kept, entry)
    {
        struct delivery_piece *queued = CONTAINER_OF(entry, struct delivery_piece, list);

        if (queued->barrier >= oldest)
            return;
        list_remove(&queued->list);
        delivery_send(queued);
    }
}

void delivery_arrived(struct operation_delivery *delivery)
{
    struct subscription *subscription = delivery->subscription;
    struct session *session = subscription->owner;
    struct delivery_piece *queued;

    if (subscription->ended || session->state >= SESSION_FINISHING || delivery->size == 0) {
        delivery_return(session, delivery);
        return;
    }
    queued = malloc(sizeof(*queued));
    if (!queued) {
        delivery_return(session, delivery);
        return;
    }
    *queued = (struct delivery_piece){
        .piece = {.data = delivery->frame, .size = delivery->size, .done = delivery_done},
        .session = session,
        .delivery = delivery,
        .subscription = subscription,
        .barrier = session->write_count,
    };
    if (list_empty(&session->writes))
        delivery_send(queued);
    else
        list_append(&session->kept, &queued->list);
}

/* NULL: of all subscriptions. */
static void delivery_recall_of(struct session *session, const struct subscription *subscription)
{
    LIST_EACH_SAFE(&session->kept, entry)
    {
        struct delivery_piece *kept = CONTAINER_OF(entry, struct delivery_piece, list);

        if (!subscription || kept->subscription == subscription)
            delivery_done(&kept->piece);
    }
    LIST_EACH_SAFE(&session->deliveries, entry)
    {
        struct delivery_piece *queued = CONTAINER_OF(entry, struct delivery_piece, list);

        if ((!subscription || queued->subscription == subscription) &&
            conn_take_back(&session->conn, &queued->piece))
            delivery_done(&queued->piece);
    }
}

static uint64_t delivery_bytes(const struct list *list)
{
    uint64_t bytes = 0;

    LIST_EACH(list, entry)
    bytes += CONTAINER_OF(entry, struct delivery_piece, list)->delivery->size;
    return bytes;
}

void delivery_recount(struct session *session)
{
    atomic_store(&session->window.queued,
                 delivery_bytes(&session->kept) + delivery_bytes(&session->deliveries));
    atomic_store(&session->window.paused, 0);
    list_init(&session->window.waiting); /* it was the lost thread's */
}

void delivery_recall(const struct subscription *subscription)
{
    delivery_recall_of(subscription->owner, subscription);
}

void delivery_recall_all(struct session *session)
{
    delivery_recall_of(session, NULL);
}

/* Tells the pipeline that deliveries to this session may go on. */
static int delivery_announce_room(struct session *session)
{
    struct operation_room *room = request_create(session, OPERATION_ROOM, sizeof(*room), 0, NULL);

    if (!room)
        return -1;
    room->window = &session->window;
    request_submit(&room->operation);
    return 0;
}

void delivery_relieve(struct session *session)
{
    struct delivery_window *window = &session->window;
    uint64_t queued = atomic_load(&window->queued);

    if (!atomic_load(&window->paused) || (queued && queued >= delivery_window_limit(window) / 2))
        return;
    atomic_store(&window->paused, 0);
    if (delivery_announce_room(session) < 0)
        session_close(session, "no memory to go on with deliveries");
}
