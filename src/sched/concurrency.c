#include "sched/concurrency.h"

#include "sched/hold.h"

const char *concurrency_parse(struct str value, uint64_t *most)
{
    static const char wrong[] = "a concurrency limit is an integer from 0 to 1000000000";
    uint64_t number = 0;
    while (value.size && (value.data[0] == ' ' || value.data[0] == '\t'))
        value = str_of(value.data + 1, value.size - 1);
    while (value.size && (value.data[value.size - 1] == ' ' || value.data[value.size - 1] == '\t'))
        value.size--;
    if (!value.size)
        return wrong;
    for (size_t i = 0; i < value.size; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return wrong;
        number = number * 10 + (uint64_t)(value.data[i] - '0');
        if (number > CONCURRENCY_MAX)
            return wrong;
    }
    *most = number;
    return NULL;
}

enum throttle_result concurrency_configure(struct scheduler *scheduler, struct str key,
                                           uint64_t most, uint64_t now_ns)
{
    struct throttle *throttle = NULL;
    bool is_new = false, full = false;
    enum throttle_result result = throttle_open(scheduler, THROTTLE_LIMIT, key, &throttle, &is_new);
    if (result != THROTTLE_DONE)
        return result;
    /* `in_flight` stays: lanes that still refer to one that was removed count in it. */
    throttle->limit.most = most;
    throttle_close(scheduler, throttle, now_ns);
    if (!is_new)
        return THROTTLE_DONE;
    if (hold_count_leases(scheduler, &full) != LOCK_HELD)
        return THROTTLE_STALE;
    if (!full)
        return THROTTLE_DONE;
    result = throttle_unset(scheduler, THROTTLE_LIMIT, key, now_ns);
    return result == THROTTLE_DONE ? THROTTLE_FULL : result;
}

enum throttle_result concurrency_remove(struct scheduler *scheduler, struct str key,
                                        uint64_t now_ns)
{
    return throttle_unset(scheduler, THROTTLE_LIMIT, key, now_ns);
}
