/*
 * budget - what a script may use up in one call: instructions, time and memory. Once a limit was
 * met every further instruction of the call raises an error, so that no pcall, no to-be-closed
 * variable and no message handler goes on. Each Lua state has one budget and is its thread's alone.
 *
 * Instructions are counted by a hook of the virtual machine, which looks at the clock too. It does
 * not interrupt functions written in C: those that can take long are ours, and charge what they do.
 */
#ifndef FILAD_LUA_BUDGET_H
#define FILAD_LUA_BUDGET_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BUDGET_INSTRUCTIONS_PER_MS 10000u

struct budget_limits {
    uint64_t timeout_ms;
    uint64_t memory; /* bytes that a call may take beyond what the script had before */
};

enum budget_breach { BUDGET_KEPT, BUDGET_INSTRUCTIONS, BUDGET_TIME, BUDGET_MEMORY };

struct budget {
    const struct budget_limits *limits; /* outlives the budget */
    lua_State *lua;                     /* NULL until there is one */
    size_t used;                        /* bytes held by the state */
    size_t ceiling;                     /* of `used`; SIZE_MAX outside of calls */
    size_t longest;                     /* bytes of the longest string there ever was */
    size_t allocated;                   /* bytes since the last look at the clock */
    int64_t instructions;               /* left in this call */
    unsigned unlooked;                  /* instructions charged since the last look */
    int interval;                       /* instructions between two runs of the hook */
    uint64_t start_ns;                  /* of the call, monotonic */
    uint64_t cpu_end_ns;                /* processor time of the thread when it is over; 0: unset */
    bool running;                       /* in a call */
    bool refused;                       /* an allocation failed in this call */
    enum budget_breach breach;
    char place[80]; /* "on_enqueue:3", where the limit was met */
};

/* A state without libraries whose memory is counted; NULL without memory. Closing it is the
 * caller's part. */
lua_State *budget_open(struct budget *budget, const struct budget_limits *limits)
    __attribute__((warn_unused_result));

/* Begins and ends a call. What runs outside of calls has no limits. */
void budget_start(struct budget *budget);
void budget_stop(struct budget *budget);

/* Charges a C function for work that takes about as long as so many instructions; raises an error
 * when that was too much. */
void budget_charge(lua_State *lua, size_t instructions);
/* The same for passing over so many bytes. */
void budget_charge_bytes(lua_State *lua, size_t bytes);
/* Raises an error when `size` more bytes are too much, before anything is done to fill them. */
void budget_need(lua_State *lua, size_t size);
/* Raises the error again if a limit was met in this call. For who has caught an error. */
void budget_check(lua_State *lua);
bool budget_is_breached(lua_State *lua);

/* "on_enqueue:3: more than 10 ms" after a call in which a limit was met. */
void budget_describe(const struct budget *budget, char *text, size_t size);

#endif
