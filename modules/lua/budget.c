#include "lua/budget.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>

#include "os/log.h"
#include "os/time.h"

#define NS_PER_MS UINT64_C(1000000)

/* Instructions between two runs of the hook while strings and memory are small. */
#define BUDGET_INTERVAL 100
/* One instruction may pass over a whole string, or a table as large as memory allows. So the hook
 * runs more often when there are such: with a string of n times this length, n times as often. */
#define BUDGET_STRING (4u << 10)
#define BUDGET_MEMORY_UNIT (1u << 20)
/* Bytes allocated between two looks at the clock. */
#define BUDGET_ALLOCATED (64u << 10)
/* Bytes that C functions pass over in the time of an instruction. */
#define BUDGET_BYTES 16u

/* A thread that the system has taken the processor from has used up the time on the wall, not its
 * own. So its processor time counts too, but not for longer than this many times the limit. */
#define BUDGET_WALL_FACTOR 10

static struct budget *budget_of(lua_State *lua)
{
    return *(struct budget **)lua_getextraspace(lua);
}

/* --- limits --- */

static void budget_hook(lua_State *lua, lua_Debug *activation);

static int budget_interval(const struct budget *budget)
{
    uint64_t parts = budget->longest / BUDGET_STRING;
    uint64_t memory = budget->limits->memory / BUDGET_MEMORY_UNIT;

    if (parts < memory)
        parts = memory;
    if (budget->refused || parts >= BUDGET_INTERVAL)
        return 1;
    return parts > 1 ? BUDGET_INTERVAL / (int)parts : BUDGET_INTERVAL;
}

/* The hook may also be set from within the allocator. */
static void budget_set_hook(struct budget *budget, int interval)
{
    /* Those since the hook ran last are forgotten by Lua. */
    budget->instructions -= budget->interval;
    budget->interval = interval;
    lua_sethook(budget->lua, budget_hook, LUA_MASKCOUNT, interval);
}

static void budget_adapt(struct budget *budget)
{
    int interval = budget_interval(budget);

    if (interval != budget->interval)
        budget_set_hook(budget, interval);
}

/* From here on every instruction raises an error. */
static void budget_meet(struct budget *budget, enum budget_breach breach)
{
    if (budget->breach != BUDGET_KEPT)
        return;
    budget->breach = breach;
    budget_set_hook(budget, 1);
}

static bool budget_in_time(struct budget *budget)
{
    uint64_t limit = budget->limits->timeout_ms * NS_PER_MS;
    uint64_t elapsed = time_monotonic_ns() - budget->start_ns;

    budget->unlooked = 0;
    budget->allocated = 0;
    if (elapsed < limit / 4)
        return true;
    if (elapsed > limit * BUDGET_WALL_FACTOR)
        return false;
    if (budget->cpu_end_ns == 0) {
        /* A system call, so it is left to calls that take long. At least a quarter remains. */
        uint64_t left = elapsed < limit * 3 / 4 ? limit - elapsed : limit / 4;

        budget->cpu_end_ns = time_thread_cpu_ns() + left;
        return true;
    }
    return elapsed < limit || time_thread_cpu_ns() < budget->cpu_end_ns;
}

static void budget_look(struct budget *budget)
{
    if (budget->instructions < 0)
        budget_meet(budget, BUDGET_INSTRUCTIONS);
    else if (!budget_in_time(budget))
        budget_meet(budget, BUDGET_TIME);
}

/* --- errors --- */

/* Where the innermost Lua function of the call stands. */
static void budget_note_place(struct budget *budget, lua_State *lua)
{
    lua_Debug activation;

    for (int level = 0; !budget->place[0] && lua_getstack(lua, level, &activation); level++) {
        lua_getinfo(lua, "Sl", &activation);
        if (activation.currentline > 0)
            (void)snprintf(budget->place, sizeof(budget->place), "%s:%d", activation.short_src,
                           activation.currentline);
    }
}

/* The error is no text: making one would take memory. */
static int budget_raise(struct budget *budget, lua_State *lua)
{
    budget_note_place(budget, lua);
    lua_pushlightuserdata(lua, budget);
    return lua_error(lua);
}

static void budget_hook(lua_State *lua, lua_Debug *activation)
{
    struct budget *budget = budget_of(lua);

    (void)activation;
    if (!budget->running)
        return;
    if (budget->breach == BUDGET_KEPT) {
        budget->instructions -= budget->interval;
        budget_look(budget);
        budget_adapt(budget);
    }
    if (budget->breach != BUDGET_KEPT)
        budget_raise(budget, lua);
}

void budget_check(lua_State *lua)
{
    struct budget *budget = budget_of(lua);

    if (budget->breach != BUDGET_KEPT)
        budget_raise(budget, lua);
}

bool budget_is_breached(lua_State *lua)
{
    return budget_of(lua)->breach != BUDGET_KEPT;
}

void budget_describe(const struct budget *budget, char *text, size_t size)
{
    const char *colon = budget->place[0] ? ": " : "";
    uint64_t timeout_ms = budget->limits->timeout_ms;

    switch (budget->breach) {
    case BUDGET_INSTRUCTIONS:
        (void)snprintf(text, size, "%s%smore than %llu instructions", budget->place, colon,
                       (unsigned long long)timeout_ms * BUDGET_INSTRUCTIONS_PER_MS);
        break;
    case BUDGET_TIME:
        (void)snprintf(text, size, "%s%smore than %llu ms", budget->place, colon,
                       (unsigned long long)timeout_ms);
        break;
    default:
        (void)snprintf(text, size, "%s%smore than %llu bytes of memory", budget->place, colon,
                       (unsigned long long)budget->limits->memory);
        break;
    }
}

/* --- charges --- */

void budget_charge(lua_State *lua, size_t instructions)
{
    struct budget *budget = budget_of(lua);

    if (!budget->running)
        return;
    if (instructions > INT32_MAX)
        instructions = INT32_MAX;
    budget->instructions -= (int64_t)instructions;
    budget->unlooked += (unsigned)instructions;
    if (budget->instructions < 0 || budget->unlooked >= BUDGET_INTERVAL)
        budget_look(budget);
    if (budget->breach != BUDGET_KEPT)
        budget_raise(budget, lua);
}

void budget_charge_bytes(lua_State *lua, size_t bytes)
{
    budget_charge(lua, bytes / BUDGET_BYTES);
}

void budget_need(lua_State *lua, size_t size)
{
    struct budget *budget = budget_of(lua);

    if (!budget->running || size <= budget->ceiling - budget->used)
        return;
    budget_meet(budget, BUDGET_MEMORY);
    budget_raise(budget, lua);
}

/* --- memory --- */

/* Lua collects garbage and tries again after the first refusal. */
static void *budget_refuse(struct budget *budget)
{
    if (!budget->refused) {
        budget->refused = true;
        budget_adapt(budget);
    }
    return NULL;
}

/* With memory NULL `old` is the type of the object. */
static void *budget_allocate(void *context, void *memory, size_t old, size_t size)
{
    struct budget *budget = context;
    size_t before = memory ? old : 0;

    if (size == 0) {
        free(memory);
        budget->used -= before;
        return NULL;
    }
    if (size > before) {
        if (size - before > budget->ceiling - budget->used)
            return budget_refuse(budget);
        budget->allocated += size;
    }
    void *moved = realloc(memory, size);
    if (!moved)
        return NULL;
    budget->used += size - before;
    if (!memory && old == LUA_TSTRING && size > budget->longest)
        budget->longest = size;
    if (budget->running && budget->allocated >= BUDGET_ALLOCATED) {
        budget_look(budget);
        if (budget->breach == BUDGET_KEPT)
            budget_adapt(budget);
    }
    return moved;
}

/* --- calls --- */

/* Scripts run in protected mode and what is called outside of it does not raise errors. */
static int budget_panic(lua_State *lua)
{
    const char *text = lua_tostring(lua, -1);

    log_write(LOG_ERROR, "lua", "error outside of a call: %s", text ? text : "not a text");
    abort();
}

lua_State *budget_open(struct budget *budget, const struct budget_limits *limits)
{
    *budget = (struct budget){.limits = limits, .ceiling = SIZE_MAX};
    budget->lua = lua_newstate(budget_allocate, budget);
    if (!budget->lua)
        return NULL;
    *(struct budget **)lua_getextraspace(budget->lua) = budget;
    lua_atpanic(budget->lua, budget_panic);
    budget_set_hook(budget, budget_interval(budget));
    return budget->lua;
}

void budget_start(struct budget *budget)
{
    budget->refused = false;
    budget->breach = BUDGET_KEPT;
    budget->place[0] = 0;
    budget_adapt(budget);
    budget->instructions = (int64_t)(budget->limits->timeout_ms * BUDGET_INSTRUCTIONS_PER_MS);
    budget->unlooked = 0;
    budget->allocated = 0;
    budget->cpu_end_ns = 0;
    budget->ceiling = budget->used + budget->limits->memory;
    budget->running = true;
    budget->start_ns = time_monotonic_ns();
}

void budget_stop(struct budget *budget)
{
    budget->running = false;
    budget->ceiling = SIZE_MAX;
}
