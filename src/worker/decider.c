#include "worker/decider.h"

#include <stdlib.h>

#include "fibp/status.h"
#include "os/time.h"
#include "worker/hooking.h"
#include "worker/settings.h"

/* An operation in line. */
struct decider {
    struct hooking hooking;
    struct sessions *sessions;
    struct operation_settle *settle;
};

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

static bool go_on(struct hooking *hooking)
{
    struct decider *decider = CONTAINER_OF(hooking, struct decider, hooking);
    struct operation_deciding *deciding = decider->settle->deciding;
    struct sessions *sessions = decider->sessions;

    while (deciding->next < deciding->count) {
        if (!hooking_may_run(sessions))
            return false;
        uint64_t began_ns = time_monotonic_ns();
        decide(sessions, decider->settle, &deciding->decisions[deciding->next++]);
        hooking_ran(sessions, began_ns);
    }
    sessions_submit(sessions, &decider->settle->operation);
    free(decider);
    return true;
}

bool decider_take(struct sessions *sessions, struct operation_settle *settle)
{
    struct decider *decider = sessions->ending ? NULL : malloc(sizeof(*decider));

    if (!decider) {
        settle->operation.status = FIBP_STORAGE_ERROR;
        settle->operation.reason = sessions->ending ? "the broker is stopping" : "out of memory";
        return false;
    }
    *decider = (struct decider){.hooking = {.run = go_on}, .sessions = sessions, .settle = settle};
    list_init(&decider->hooking.list);
    hooking_wait(sessions, &decider->hooking);
    return true;
}
