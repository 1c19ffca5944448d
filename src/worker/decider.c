#include "worker/decider.h"

#include "fibp/status.h"
#include "os/time.h"
#include "worker/sessions.h"
#include "worker/settings.h"

static void decide(const struct sessions *sessions, struct operation_settle *settle,
                   struct operation_decision *decision)
{
    const struct operation_settle_item *item = &settle->items[decision->item];
    struct hook_failure failure = {
        .settings = sessions->settings ? settings_queue(sessions->settings, item->queue) : NULL,
        .queue = item->queue,
        .id = item->id,
        .headers = decision->headers,
        .header_count = decision->header_count,
        .attempts = decision->attempts,
        .error = item->error,
    };
    struct hook_decision said = {.action = HOOK_RETRY};

    if (sessions->hooks)
        hook_set_on_failure(sessions->hooks, &failure, &said);
    decision->dead_letter = said.action == HOOK_DEAD_LETTER;
    decision->delay_ms = decision->dead_letter ? 0 : said.delay_ms;
}

/* One operation's decisions, as far as there is time; true: all are made. */
static bool decide_all(struct sessions *sessions, struct operation_settle *settle)
{
    struct operation_deciding *deciding = settle->deciding;

    while (deciding->next < deciding->count) {
        if (!hooking_may_run(sessions))
            return false;
        uint64_t began_ns = time_monotonic_ns();
        decide(sessions, settle, &deciding->decisions[deciding->next++]);
        hooking_ran(sessions, began_ns);
    }
    return true;
}

static void append(struct decider *decider, struct operation *operation)
{
    operation->next = NULL;
    if (decider->first)
        decider->last->next = operation;
    else
        decider->first = operation;
    decider->last = operation;
}

/* What is not done goes to the end of the line. */
static bool go_on(struct hooking *hooking)
{
    struct decider *decider = CONTAINER_OF(hooking, struct decider, hooking);
    struct sessions *sessions = CONTAINER_OF(decider, struct sessions, decider);
    struct operation *operation = decider->first;

    decider->first = operation->next;
    if (decide_all(sessions, (struct operation_settle *)operation))
        sessions_submit(sessions, operation);
    else
        append(decider, operation);
    return !decider->first;
}

void decider_init(struct decider *decider)
{
    *decider = (struct decider){.hooking = {.run = go_on}};
    list_init(&decider->hooking.list);
}

bool decider_take(struct sessions *sessions, struct operation_settle *settle)
{
    struct decider *decider = &sessions->decider;

    if (sessions->ending) {
        settle->operation.status = FIBP_STORAGE_ERROR;
        settle->operation.reason = "the broker is stopping";
        return false;
    }
    if (!decider->first)
        hooking_wait(sessions, &decider->hooking);
    append(decider, &settle->operation);
    return true;
}
