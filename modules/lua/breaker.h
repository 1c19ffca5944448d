/*
 * breaker - keeps a queue's scripts from running for a while after some failures in a row. Its
 * state is shared by all workers, see struct hook_breaker.
 */
#ifndef FILAD_LUA_BREAKER_H
#define FILAD_LUA_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#include "hook/hook.h"

struct breaker_limits {
    uint32_t threshold; /* failures in a row that open it; 0: it never opens */
    uint64_t cooldown_ms;
};

/* Whether scripts may run. When the time is over it is closed, with all failures forgotten. */
bool breaker_allows(struct hook_breaker *breaker, uint64_t now_ms);
/* True when this failure opened it. */
bool breaker_failed(struct hook_breaker *breaker, const struct breaker_limits *limits,
                    uint64_t now_ms);
void breaker_succeeded(struct hook_breaker *breaker);

#endif
