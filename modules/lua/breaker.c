#include "lua/breaker.h"

bool breaker_allows(struct hook_breaker *breaker, uint64_t now_ms)
{
    uint64_t until = atomic_load_explicit(&breaker->open_until_ms, memory_order_relaxed);

    if (until == 0)
        return true;
    if (now_ms < until)
        return false;
    if (atomic_compare_exchange_strong(&breaker->open_until_ms, &until, 0))
        atomic_store(&breaker->failures, 0);
    return true;
}

bool breaker_failed(struct hook_breaker *breaker, const struct breaker_limits *limits,
                    uint64_t now_ms)
{
    uint32_t failures = atomic_fetch_add(&breaker->failures, 1) + 1;
    uint64_t closed = 0;

    return limits->threshold > 0 && failures >= limits->threshold &&
           atomic_compare_exchange_strong(&breaker->open_until_ms, &closed,
                                          now_ms + limits->cooldown_ms);
}

void breaker_succeeded(struct hook_breaker *breaker)
{
    /* Not written to when it says so already: all workers read it for each message. */
    if (atomic_load_explicit(&breaker->failures, memory_order_relaxed) != 0 &&
        atomic_load_explicit(&breaker->open_until_ms, memory_order_relaxed) == 0)
        atomic_store(&breaker->failures, 0);
}
