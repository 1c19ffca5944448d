#include "worker/sessions.h"

#include <stdlib.h>
#include <unistd.h>

#include "os/log.h"
#include "os/time.h"
#include "worker/delivery.h"
#include "worker/hooking.h"
#include "worker/request.h"
#include "worker/session.h"
#include "worker/settings.h"
#include "worker/subscriber.h"

#define SESSIONS_EXTRAS_MAX 256u

static struct session *sessions_first(struct list *list, size_t offset)
{
    return (void *)((char *)list->next - offset);
}

#define SESSIONS_FIRST(head, member) sessions_first(head, offsetof(struct session, member))

/* ---- limits of the worker ---- */

bool sessions_full_for(struct sessions *sessions, const struct session *session)
{
    if (sessions->outstanding >= SESSIONS_OUTSTANDING_MAX ||
        sessions->account.bytes >= SESSIONS_BYTES_MAX)
        sessions->full = true;
    if (!sessions->full || session->outstanding > 0)
        return sessions->full;
    return sessions->outstanding >= SESSIONS_OUTSTANDING_LAST ||
           sessions->account.bytes >= SESSIONS_BYTES_LAST;
}

static void sessions_relieve(struct sessions *sessions)
{
    if (!sessions->full || sessions->outstanding > SESSIONS_OUTSTANDING_MAX / 2 ||
        sessions->account.bytes > SESSIONS_BYTES_MAX / 2)
        return;
    sessions->full = false;
    list_splice(&sessions->resuming, &sessions->held);
}

/* What may be reserved by all but for the claim of the one that is favoured. */
static uint64_t sessions_large_common(const struct sessions *sessions)
{
    return sessions->large_max - sessions->large_claim;
}

static bool sessions_is_free(const struct sessions *sessions, uint64_t size)
{
    return sessions->large + size <= sessions_large_common(sessions);
}

/* Gives a session `total` bytes, at most large_claim, unless another one has to be favoured. */
static bool sessions_grant(struct sessions *sessions, struct session *session, uint64_t total)
{
    uint64_t more = total - session->reserved;

    if (!sessions_is_free(sessions, more)) {
        if (!sessions->favoured)
            sessions->favoured = session;
        if (sessions->favoured != session)
            return false;
    }
    sessions->large += more;
    session->reserved = total;
    return true;
}

/* Gives room to those that wait for it, first come first served. */
static void sessions_admit(struct sessions *sessions)
{
    while (!list_empty(&sessions->waiting)) {
        struct session *session = SESSIONS_FIRST(&sessions->waiting, hold);

        if (!sessions_grant(sessions, session, session->awaited))
            return;
        sessions_stop_waiting(sessions, session);
    }
}

enum sessions_room sessions_reserve(struct sessions *sessions, struct session *session,
                                    uint64_t total)
{
    bool first = list_empty(&sessions->waiting) || sessions->favoured == session;

    if (total <= session->reserved)
        return SESSIONS_ROOM;
    if (total > sessions->large_claim) {
        uint64_t more = total - session->reserved;

        if (!first || total > sessions->large_max / 2 || !sessions_is_free(sessions, more))
            return SESSIONS_NO_ROOM;
        sessions->large += more;
        session->reserved = total;
        return SESSIONS_ROOM;
    }
    if (first && sessions_grant(sessions, session, total))
        return SESSIONS_ROOM;
    session->awaited = total;
    list_append(&sessions->waiting, &session->hold);
    return SESSIONS_WAIT;
}

/* A session is favoured until the part that only it may use is whole again. */
void sessions_release(struct sessions *sessions, struct session *session, uint64_t total)
{
    if (total >= session->reserved)
        return;
    sessions->large -= session->reserved - total;
    session->reserved = total;
    if (sessions_is_free(sessions, 0) || (sessions->favoured == session && total == 0))
        sessions->favoured = NULL;
}

void sessions_stop_waiting(struct sessions *sessions, struct session *session)
{
    list_remove(&session->hold);
    list_append(&sessions->resuming, &session->hold);
}

/* Lets deliveries go on that paused for want of room in the worker, when half of it is free.
 * Without memory the next turn tries again. */
static void sessions_relieve_deliveries(struct sessions *sessions)
{
    struct delivery_window *window = &sessions->window;
    struct operation_room *room;

    if (!atomic_load(&window->paused) || atomic_load(&window->queued) >= window->limit / 2)
        return;
    room = calloc(1, sizeof(*room));
    if (!room)
        return;
    atomic_store(&window->paused, 0);
    room->operation.kind = OPERATION_ROOM;
    room->window = window;
    sessions_submit(sessions, &room->operation);
}

/* So many clients do not take their answers that memory has to be got back from one. */
static void sessions_shed_unread(struct sessions *sessions)
{
    while (sessions->unread_bytes > sessions->unread_max) {
        struct session *session = SESSIONS_FIRST(&sessions->unread, unread);

        log_write(LOG_WARN, "session",
                  "connection %d is closed: clients leave %llu MiB of answers unread, %llu KiB of "
                  "them are for it",
                  session->conn.watch.fd, (unsigned long long)sessions->unread_bytes >> 20,
                  (unsigned long long)session->unread_bytes >> 10);
        session_close(session, "too many answers are unread");
    }
}

/* ---- the tick ---- */

void sessions_submit(struct sessions *sessions, struct operation *operation)
{
    operation->next = NULL;
    if (sessions->first)
        sessions->last->next = operation;
    else
        sessions->first = operation;
    sessions->last = operation;
}

static void sessions_submit_chain(struct sessions *sessions)
{
    struct operation *first = sessions->first;

    sessions->first = sessions->last = NULL;
    if (first)
        pipeline_submit(sessions->pipeline, first);
}

static void sessions_resume(struct sessions *sessions)
{
    struct list resuming;

    list_init(&resuming);
    list_splice(&resuming, &sessions->resuming);
    while (!list_empty(&resuming)) {
        struct session *session = SESSIONS_FIRST(&resuming, hold);

        list_remove(&session->hold);
        session_resume(session);
    }
}

static void sessions_flush(struct sessions *sessions)
{
    struct list dirty;

    list_init(&dirty);
    list_splice(&dirty, &sessions->dirty);
    while (!list_empty(&dirty)) {
        struct session *session = SESSIONS_FIRST(&dirty, dirty);

        list_remove(&session->dirty);
        session_flush(session);
    }
}

static void sessions_bury(struct sessions *sessions)
{
    while (!list_empty(&sessions->dead))
        session_free(SESSIONS_FIRST(&sessions->dead, hold));
}

/* Lets those go on that waited for what is free now. */
static void sessions_make_room(struct sessions *sessions)
{
    sessions_relieve(sessions);
    sessions_admit(sessions);
    sessions_relieve_deliveries(sessions);
}

static bool sessions_busy(const struct sessions *sessions)
{
    return sessions->first || !list_empty(&sessions->dirty) || !list_empty(&sessions->resuming);
}

/* Submitting goes first: the store thread works while the answers of the last batch are written.
 * What the writing sets free is taken up in another round. */
static void sessions_turn(struct loop_hook *hook)
{
    struct sessions *sessions = CONTAINER_OF(hook, struct sessions, turn);

    hooking_turn(sessions);
    sessions_make_room(sessions);
    do {
        sessions_resume(sessions);
        sessions_submit_chain(sessions);
        sessions_flush(sessions);
        sessions_shed_unread(sessions);
        sessions_make_room(sessions);
    } while (sessions_busy(sessions));
    hooking_end_turn(sessions);
    sessions_bury(sessions);
}

static void sessions_learn(struct sessions *sessions, struct operation_settings *settings)
{
    if (sessions->settings)
        settings_take(sessions->settings, settings, sessions->hooks);
    operation_free(&settings->operation);
}

/* True, and its way goes on, for a nack that waits for a script. */
static bool sessions_decide(struct sessions *sessions, struct operation *operation)
{
    return operation->kind == OPERATION_NACK && operation->undecided &&
           operation->status == FIBP_OK &&
           decider_take(sessions, (struct operation_settle *)operation);
}

static void sessions_dispatch(struct sessions *sessions, struct operation *operation)
{
    switch ((enum operation_kind)operation->kind) {
    case OPERATION_DELIVERY:
        delivery_arrived((struct operation_delivery *)operation);
        break;
    case OPERATION_SUBSCRIPTION_ENDED:
        subscriber_ended((struct operation_ended *)operation);
        break;
    case OPERATION_SETTINGS:
        sessions_learn(sessions, (struct operation_settings *)operation);
        break;
    case OPERATION_RETURN:
        operation_free(operation);
        break;
    case OPERATION_ROOM:
        if (operation->owner)
            request_back(operation);
        else /* the worker's own */
            operation_free(operation);
        break;
    default:
        if (!sessions_decide(sessions, operation))
            request_back(operation);
        break;
    }
}

void sessions_take(struct sessions *sessions)
{
    struct operation *operation = pipeline_take(sessions->pipeline), *next;

    for (; operation; operation = next) {
        next = operation->next;
        sessions_dispatch(sessions, operation);
    }
}

/* What waits to run hooks is submitted without. */
static void sessions_give_up_hooks(struct sessions *sessions)
{
    sessions->settings = NULL;
    while (!list_empty(&sessions->hookings)) {
        sessions->hooking_ns = 0;
        hooking_turn(sessions);
    }
}

void sessions_give_up_settings(struct sessions *sessions)
{
    sessions_give_up_hooks(sessions);
    sessions_submit_chain(sessions);
}

/* Returns the bytes that are on their way to the clients of these sessions. */
static uint64_t sessions_recount_list(const struct list *list)
{
    uint64_t bytes = 0;

    LIST_EACH(list, entry)
    {
        struct session *session = CONTAINER_OF(entry, struct session, list);

        delivery_recount(session);
        bytes += atomic_load(&session->window.queued);
    }
    return bytes;
}

void sessions_recount(struct sessions *sessions)
{
    uint64_t bytes = sessions_recount_list(&sessions->all);

    /* Their subscriptions are told to the next environment, too, before they end there. */
    bytes += sessions_recount_list(&sessions->closed);
    atomic_store(&sessions->window.queued, bytes);
    atomic_store(&sessions->window.paused, 0);
    list_init(&sessions->window.waiting); /* it was the lost thread's */
}

/* The turn does what is to be done. */
static void sessions_hooking_due(struct loop_timer *timer)
{
    (void)timer;
}

/* ---- the beginning and the end ---- */

void sessions_init(struct sessions *sessions, struct loop *loop, struct pipeline *pipeline,
                   const struct conf *conf, const struct hook_set *hooks)
{
    uint64_t claim = conf->fibp.max_message_size + conf->fibp.max_frame_size;
    uint64_t seed[2];

    *sessions = (struct sessions){
        .loop = loop,
        .pipeline = pipeline,
        .conf = conf,
        .hooks = hooks,
        .extras_max = SESSIONS_EXTRAS_MAX,
        .turn = {.run = sessions_turn},
        .large_max = 2 * claim > SESSIONS_LARGE_MAX ? 2 * claim : SESSIONS_LARGE_MAX,
        .large_claim = claim,
        .unread_max = SESSIONS_UNREAD_MAX,
        .window = {.limit = SESSIONS_DELIVERIES_MAX},
    };
    time_entropy(seed);
    uuid_generator_init(&sessions->ids, seed);
    list_init(&sessions->all);
    list_init(&sessions->dirty);
    list_init(&sessions->held);
    list_init(&sessions->resuming);
    list_init(&sessions->waiting);
    list_init(&sessions->window.waiting);
    list_init(&sessions->fresh);
    list_init(&sessions->closed);
    list_init(&sessions->unread);
    list_init(&sessions->dead);
    list_init(&sessions->hookings);
    decider_init(&sessions->decider);
    sessions->hooking_timer.expired = sessions_hooking_due;
    loop_hook_add(loop, &sessions->turn);
}

/* What the pipeline gives back, then what was never handed down, until neither brings anything new.
 * In this order: an unsubscription must not overtake the deliveries before it. */
static void sessions_drop_operations(struct sessions *sessions)
{
    sessions->ending = true;
    do {
        struct operation *operation, *next;

        sessions_take(sessions);
        sessions_give_up_hooks(sessions);
        operation = sessions->first;
        sessions->first = sessions->last = NULL;
        for (; operation; operation = next) {
            next = operation->next;
            sessions_dispatch(sessions, operation);
        }
    } while (sessions->first);
}

void sessions_destroy(struct sessions *sessions)
{
    loop_hook_remove(sessions->loop, &sessions->turn);
    loop_timer_cancel(sessions->loop, &sessions->hooking_timer);
    sessions_close(sessions);
    sessions_drop_operations(sessions);
    sessions_bury(sessions);
}

void sessions_add(struct sessions *sessions, int fd, const struct conf_listen *listen)
{
    session_create(sessions, fd, listen, false);
}

void sessions_refuse(struct sessions *sessions, int fd, const struct conf_listen *listen)
{
    if (sessions->extras >= sessions->extras_max)
        close(fd);
    else
        session_create(sessions, fd, listen, true);
}

bool sessions_can_yield(const struct sessions *sessions)
{
    return !list_empty(&sessions->fresh) &&
           session_is_silent(CONTAINER_OF(sessions->fresh.next, struct session, fresh));
}

void sessions_yield(struct sessions *sessions)
{
    struct session *session = SESSIONS_FIRST(&sessions->fresh, fresh);

    if (sessions->extras >= sessions->extras_max)
        session_close(session, "it makes room for another one");
    else
        session_refuse(session);
}

void sessions_drain(struct sessions *sessions)
{
    sessions->draining = true;
    LIST_EACH_SAFE(&sessions->all, entry)
    session_drain(CONTAINER_OF(entry, struct session, list));
}

void sessions_close(struct sessions *sessions)
{
    while (!list_empty(&sessions->all))
        session_close(SESSIONS_FIRST(&sessions->all, list), "the worker ends");
}
