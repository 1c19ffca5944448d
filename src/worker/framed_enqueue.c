#include "worker/framed_enqueue.h"

#include <stdlib.h>

#include "fibp/framed.h"
#include "os/time.h"
#include "worker/hooking.h"
#include "worker/request.h"
#include "worker/settings.h"

/* An Enqueue whose messages are being shown to the hooks. */
struct framed_enqueue {
    struct hooking hooking; /* first */
    struct session_work work;
    struct session *session;
    struct operation_enqueue *enqueue; /* its count: messages that are done */
    uint32_t count;                    /* all of them */
    struct wire_reader reader;         /* before the next one; the body is pinned */
    struct str queue;                  /* the last one that was asked for ... */
    const struct hook_queue *settings; /* ... and what is known of it; in this turn */
};

static void ask_hooks(struct framed_enqueue *work, const struct framed_enqueue_item *from,
                      struct operation_enqueue_item *item)
{
    struct sessions *sessions = work->session->sessions;
    struct hook_message message = {
        .queue = from->queue,
        .settings = work->settings,
        .headers = from->headers,
        .header_count = from->header_count,
        .payload = from->payload,
    };
    struct hook_verdict verdict = {.fairness_key = STR("default"), .weight = 1};
    uint64_t began_ns = work->settings ? time_monotonic_ns() : 0;

    if (sessions->hooks)
        hook_set_on_enqueue(sessions->hooks, &message,
                            &request_of(&work->enqueue->operation)->memory, &verdict);
    if (work->settings)
        hooking_ran(sessions, began_ns);
    *item = (struct operation_enqueue_item){
        .queue = from->queue,
        .record = from->record,
        .fairness_key = verdict.fairness_key,
        .weight = verdict.weight,
        .delay_ms = verdict.delay_ms,
        .throttle_keys = verdict.throttle_keys,
        .throttle_count = verdict.throttle_count,
        .rejected = verdict.rejected,
        .hook_failed = verdict.failed,
    };
}

/* Most frames name one queue: a comparison instead of a search. */
static void look_up(struct framed_enqueue *work, struct str queue)
{
    const struct settings *settings = work->session->sessions->settings;

    if (work->queue.data && str_equal(work->queue, queue))
        return;
    work->queue = queue;
    work->settings = settings ? settings_queue(settings, queue) : NULL;
}

/* False when the rest has to wait. */
static bool ask_all(struct framed_enqueue *work)
{
    struct operation_enqueue *enqueue = work->enqueue;
    struct framed_enqueue_item item;

    work->queue = str_of(NULL, 0);
    while (enqueue->count < work->count) {
        if (!hooking_may_run(work->session->sessions))
            return false;
        if (!framed_enqueue_next(&work->reader, &item))
            break; /* the whole body was checked: it does not come to this */
        look_up(work, item.queue);
        ask_hooks(work, &item, &enqueue->items[enqueue->count++]);
    }
    return true;
}

/* ---- over several turns ---- */

static bool go_on(struct hooking *hooking)
{
    struct framed_enqueue *work = (struct framed_enqueue *)hooking;
    struct session *session = work->session;

    if (!ask_all(work))
        return false;
    request_submit(&work->enqueue->operation);
    free(work);
    session_work_done(session);
    return true;
}

static void give_up(struct session_work *session_work)
{
    struct framed_enqueue *work = CONTAINER_OF(session_work, struct framed_enqueue, work);

    hooking_cancel(&work->hooking);
    request_free(&work->enqueue->operation);
    free(work);
}

static bool wait(const struct framed_enqueue *begun)
{
    struct framed_enqueue *work = malloc(sizeof(*work));

    if (!work)
        return false;
    *work = *begun;
    work->hooking.run = go_on;
    list_init(&work->hooking.list);
    work->work.give_up = give_up;
    session_work_begin(work->session, &work->work);
    hooking_wait(work->session->sessions, &work->hooking);
    return true;
}

/* ---- the request ---- */

/* The status of all items when it is the same; else FIBP_OK. */
static uint8_t enqueue_status_of_all(const struct operation_enqueue *enqueue)
{
    for (uint32_t i = 1; i < enqueue->count; i++)
        if (enqueue->items[i].status != enqueue->items[0].status)
            return FIBP_OK;
    return enqueue->count > 0 ? enqueue->items[0].status : FIBP_OK;
}

/* In the place of its id a message that was rejected has the reason. */
static void answer_item(struct buf *out, uint8_t whole, const struct operation_enqueue_item *item)
{
    if (!whole && item->status == FIBP_FORBIDDEN)
        framed_enqueue_result_reject(out, FIBP_FORBIDDEN, item->rejected);
    else
        framed_enqueue_result_add(out, whole ? whole : item->status, &item->id);
}

static void answer_enqueue(struct session *session, struct operation *operation)
{
    struct operation_enqueue *enqueue = (struct operation_enqueue *)operation;
    uint8_t whole = operation->status;

    /* Items have no place for retry_after_ms: a frame of which nothing had room says it as a whole.
     */
    if (whole == FIBP_OK && enqueue_status_of_all(enqueue) == FIBP_CHANNEL_FULL)
        whole = operation->status = FIBP_CHANNEL_FULL;

    if (whole != FIBP_OK && whole != FIBP_STORAGE_ERROR) {
        framed_answer_error(session, operation);
        return;
    }
    struct buf *out = session_answers(session);
    size_t start = framed_enqueue_result_begin(out, operation->request_id, enqueue->count);
    for (uint32_t i = 0; i < enqueue->count; i++)
        answer_item(out, whole, &enqueue->items[i]);
    session_check(session, frame_end(out, start, framed_frame_max(session)));
}

static bool decode_enqueue(struct framed_request *request)
{
    struct framed_enqueue work = {.session = request->session};

    if (!framed_enqueue_check(&request->reader, &work.count))
        return false;
    work.enqueue = framed_operation(request, sizeof(*work.enqueue) +
                                                 work.count * sizeof(work.enqueue->items[0]));
    if (!work.enqueue)
        return true;
    work.reader = request->reader;
    work.enqueue->count = 0;
    if (work.count == 0) {
        answer_enqueue(request->session, &work.enqueue->operation);
        request_free(&work.enqueue->operation);
        return true;
    }
    request_pin_input(&work.enqueue->operation);
    if (hooking_may_begin(request->session->sessions) && ask_all(&work)) {
        request_submit(&work.enqueue->operation);
    } else if (!wait(&work)) {
        framed_refuse(request, FIBP_INTERNAL_ERROR, STR("out of memory"));
        request_free(&work.enqueue->operation);
    }
    return true;
}

const struct framed_handler framed_enqueue_handler = {decode_enqueue, answer_enqueue,
                                                      OPERATION_ENQUEUE};
