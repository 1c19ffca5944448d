#include "worker/hooking.h"

#include "os/time.h"
#include "worker/sessions.h"
#include "worker/settings.h"

#define TURN_NS UINT64_C(20000000) /* of hooks in one turn of the loop */

static bool hooking_is_current(const struct sessions *sessions)
{
    return !sessions->settings || settings_is_current(sessions->settings);
}

bool hooking_may_run(const struct sessions *sessions)
{
    return sessions->hooking_ns < TURN_NS && hooking_is_current(sessions);
}

bool hooking_may_begin(const struct sessions *sessions)
{
    return list_empty(&sessions->hookings) && hooking_may_run(sessions);
}

void hooking_ran(struct sessions *sessions, uint64_t began_ns)
{
    sessions->hooking_ns += time_monotonic_ns() - began_ns;
}

void hooking_wait(struct sessions *sessions, struct hooking *hooking)
{
    list_append(&sessions->hookings, &hooking->list);
}

void hooking_cancel(struct hooking *hooking)
{
    list_remove(&hooking->list);
}

void hooking_turn(struct sessions *sessions)
{
    while (!list_empty(&sessions->hookings) && hooking_may_run(sessions)) {
        struct hooking *hooking = CONTAINER_OF(sessions->hookings.next, struct hooking, list);

        list_remove(&hooking->list);
        if (!hooking->run(hooking))
            hooking_wait(sessions, hooking);
    }
}

void hooking_end_turn(struct sessions *sessions)
{
    sessions->hooking_ns = 0;
    /* While settings are on their way up nothing can go on before they wake the loop. */
    if (!list_empty(&sessions->hookings) && hooking_is_current(sessions))
        loop_timer_set(sessions->loop, &sessions->hooking_timer, 0);
}
