#include "lua/verdict.h"

#include <lauxlib.h>
#include <math.h>
#include <stdbool.h>

#include "core/utf8.h"
#include "lua/budget.h"

#define VERDICT_DEFAULT_KEY STR("default")
#define VERDICT_DEFAULT_WEIGHT 1
#define VERDICT_REASON STR("rejected")

/* --- values --- */

static void verdict_require_table(lua_State *lua)
{
    if (!lua_istable(lua, -1))
        luaL_error(lua, "the result is a %s, not a table", luaL_typename(lua, -1));
}

/* Pushes a field of the table on top; false when there is none, with nothing pushed. */
static bool verdict_field(lua_State *lua, const char *name)
{
    lua_pushstring(lua, name);
    if (lua_rawget(lua, -2) != LUA_TNIL)
        return true;
    lua_pop(lua, 1);
    return false;
}

/* The text or number at `index`, which becomes a text; false for other types. */
static bool verdict_text(lua_State *lua, int index, struct str *text)
{
    size_t size;
    const char *data = lua_tolstring(lua, index, &size);

    if (!data)
        return false;
    *text = str_of(data, size);
    return true;
}

static struct str verdict_copy(lua_State *lua, struct hook_memory *memory, struct str text)
{
    uint8_t *copy = hook_alloc(memory, text.size ? text.size : 1);

    if (!copy)
        luaL_error(lua, "no memory for the result");
    memcpy(copy, text.data, text.size);
    return str_of(copy, text.size);
}

/* --- fields --- */

static struct str verdict_key(lua_State *lua, struct hook_memory *memory)
{
    struct str key;

    if (!verdict_text(lua, -1, &key) || !utf8_valid(key))
        return VERDICT_DEFAULT_KEY;
    if (key.size > HOOK_KEY_MAX)
        luaL_error(lua, "fairness_key is longer than %d bytes", (int)HOOK_KEY_MAX);
    return verdict_copy(lua, memory, key);
}

static uint32_t verdict_weight(lua_State *lua)
{
    int is_number;
    lua_Number number = trunc(lua_tonumberx(lua, -1, &is_number));

    if (!is_number || !(number >= 0 && number <= UINT32_MAX))
        return VERDICT_DEFAULT_WEIGHT;
    return (uint32_t)number;
}

/* Fractions are cut; what is no number, or negative, is 0. */
static uint64_t verdict_delay(lua_State *lua)
{
    int is_number;
    lua_Number number = lua_tonumberx(lua, -1, &is_number);

    if (!is_number || !(number >= 0))
        return 0;
    return number >= (lua_Number)HOOK_DELAY_MAX_MS ? HOOK_DELAY_MAX_MS : (uint64_t)number;
}

/* Whether the value on top is a throttle key. It becomes a text if it is a number. */
static bool verdict_throttle(lua_State *lua, struct str *key)
{
    if (!verdict_text(lua, -1, key) || !utf8_valid(*key))
        return false;
    if (key->size > HOOK_KEY_MAX)
        luaL_error(lua, "a throttle key is longer than %d bytes", (int)HOOK_KEY_MAX);
    return true;
}

/* The elements of the table on top up to the first that is nil. */
static void verdict_throttles(lua_State *lua, struct hook_memory *memory,
                              struct hook_verdict *verdict)
{
    struct str keys[HOOK_THROTTLES_MAX], *copies = NULL;
    uint16_t count = 0;

    verdict->throttle_keys = NULL;
    verdict->throttle_count = 0;
    if (!lua_istable(lua, -1))
        return;
    for (lua_Integer i = 1; lua_rawgeti(lua, -1, i) != LUA_TNIL; i++, lua_pop(lua, 1)) {
        struct str key;

        budget_charge(lua, 5);
        if (!verdict_throttle(lua, &key))
            continue;
        if (count == HOOK_THROTTLES_MAX)
            luaL_error(lua, "more than %d throttle keys", HOOK_THROTTLES_MAX);
        keys[count++] = verdict_copy(lua, memory, key);
    }
    lua_pop(lua, 1);
    if (count == 0)
        return;
    copies = hook_alloc(memory, count * sizeof(*copies));
    if (!copies)
        luaL_error(lua, "no memory for the result");
    memcpy(copies, keys, count * sizeof(*copies));
    verdict->throttle_keys = copies;
    verdict->throttle_count = count;
}

/* The reason for which the message is rejected; data NULL: it is not. */
static struct str verdict_rejection(lua_State *lua, struct hook_memory *memory)
{
    struct str reason;

    if (lua_isboolean(lua, -1))
        return lua_toboolean(lua, -1) ? VERDICT_REASON : str_of(NULL, 0);
    if (!verdict_text(lua, -1, &reason))
        luaL_error(lua, "reject is a %s", luaL_typename(lua, -1));
    if (!utf8_valid(reason) || reason.size == 0)
        return VERDICT_REASON;
    reason.size = utf8_truncate(reason, HOOK_REASON_MAX);
    return verdict_copy(lua, memory, reason);
}

void verdict_read(lua_State *lua, struct hook_memory *memory, struct hook_verdict *verdict)
{
    verdict_require_table(lua);
    if (verdict_field(lua, "reject")) {
        verdict->rejected = verdict_rejection(lua, memory);
        lua_pop(lua, 1);
        if (verdict->rejected.data)
            return;
    }
    if (verdict_field(lua, "fairness_key")) {
        verdict->fairness_key = verdict_key(lua, memory);
        lua_pop(lua, 1);
    }
    if (verdict_field(lua, "weight")) {
        verdict->weight = verdict_weight(lua);
        lua_pop(lua, 1);
    }
    if (verdict_field(lua, "throttle_keys")) {
        verdict_throttles(lua, memory, verdict);
        lua_pop(lua, 1);
    }
    if (verdict_field(lua, "delay_ms")) {
        verdict->delay_ms = verdict_delay(lua);
        lua_pop(lua, 1);
    }
}

void verdict_read_decision(lua_State *lua, struct hook_decision *decision)
{
    struct str action;

    verdict_require_table(lua);
    if (verdict_field(lua, "action")) {
        bool dead = verdict_text(lua, -1, &action) && str_equal(action, STR("dlq"));

        decision->action = dead ? HOOK_DEAD_LETTER : HOOK_RETRY;
        lua_pop(lua, 1);
    }
    if (verdict_field(lua, "delay_ms")) {
        decision->delay_ms = verdict_delay(lua);
        lua_pop(lua, 1);
    }
}
