#include "lua/tables.h"

#include <lauxlib.h>
#include <stdbool.h>

#include "lua/budget.h"

/* Elements that unpack makes arguments or results of at most. */
#define TABLES_UNPACK_MAX 10000

/* --- reading and writing --- */

static void tables_check(lua_State *lua, int index)
{
    if (lua_type(lua, index) != LUA_TTABLE)
        luaL_checktype(lua, index, LUA_TTABLE);
}

static lua_Integer tables_length(lua_State *lua, int index)
{
    tables_check(lua, index);
    return luaL_len(lua, index);
}

static lua_Integer tables_next(lua_Integer i)
{
    return (lua_Integer)((lua_Unsigned)i + 1);
}

static void tables_copy(lua_State *lua, int from, lua_Integer from_at, int to, lua_Integer to_at)
{
    budget_charge(lua, 2);
    lua_geti(lua, from, from_at);
    lua_seti(lua, to, to_at);
}

/* --- functions --- */

static void tables_add_element(lua_State *lua, luaL_Buffer *out, lua_Integer i)
{
    budget_charge(lua, 1);
    lua_geti(lua, 1, i);
    if (!lua_isstring(lua, -1))
        luaL_error(lua, "invalid value (at index %I) in table for 'concat'", (LUAI_UACINT)i);
    if (lua_type(lua, -1) == LUA_TSTRING)
        budget_charge_bytes(lua, lua_rawlen(lua, -1));
    luaL_addvalue(out);
}

static int tables_concat(lua_State *lua)
{
    lua_Integer last = tables_length(lua, 1);
    size_t between_size;
    const char *between = luaL_optlstring(lua, 2, "", &between_size);
    lua_Integer i = luaL_optinteger(lua, 3, 1);
    luaL_Buffer out;

    last = luaL_optinteger(lua, 4, last);
    luaL_buffinit(lua, &out);
    for (; i < last; i++) {
        tables_add_element(lua, &out, i);
        luaL_addlstring(&out, between, between_size);
    }
    if (i == last)
        tables_add_element(lua, &out, i);
    luaL_pushresult(&out);
    return 1;
}

static int tables_insert(lua_State *lua)
{
    lua_Integer end = tables_next(tables_length(lua, 1)), position = end;

    if (lua_gettop(lua) == 3) {
        position = luaL_checkinteger(lua, 2);
        luaL_argcheck(lua, (lua_Unsigned)position - 1u < (lua_Unsigned)end, 2,
                      "position out of bounds");
        for (lua_Integer i = end; i > position; i--)
            tables_copy(lua, 1, i - 1, 1, i);
    } else if (lua_gettop(lua) != 2) {
        return luaL_error(lua, "wrong number of arguments to 'insert'");
    }
    lua_seti(lua, 1, position);
    return 0;
}

static int tables_remove(lua_State *lua)
{
    lua_Integer size = tables_length(lua, 1), position = luaL_optinteger(lua, 2, size);

    if (position != size)
        luaL_argcheck(lua, (lua_Unsigned)position - 1u <= (lua_Unsigned)size, 2,
                      "position out of bounds");
    lua_geti(lua, 1, position);
    for (; position < size; position++)
        tables_copy(lua, 1, position + 1, 1, position);
    lua_pushnil(lua);
    lua_seti(lua, 1, position);
    return 1;
}

static int tables_move(lua_State *lua)
{
    lua_Integer first = luaL_checkinteger(lua, 2), last = luaL_checkinteger(lua, 3);
    lua_Integer to = luaL_checkinteger(lua, 4);
    int target = lua_isnoneornil(lua, 5) ? 1 : 5;

    tables_check(lua, 1);
    tables_check(lua, target);
    if (last >= first) {
        luaL_argcheck(lua, first > 0 || last < LUA_MAXINTEGER + first, 3,
                      "too many elements to move");
        lua_Integer count = last - first;
        luaL_argcheck(lua, to <= LUA_MAXINTEGER - count, 4, "destination wrap around");
        bool overlaps = to > first && to <= last && target == 1;
        if (target == 5 && to > first && to <= last)
            overlaps = lua_compare(lua, 1, 5, LUA_OPEQ) != 0;
        for (lua_Integer i = 0; i <= count; i++) {
            lua_Integer k = overlaps ? count - i : i;

            tables_copy(lua, 1, first + k, target, to + k);
        }
    }
    lua_pushvalue(lua, target);
    return 1;
}

static int tables_pack(lua_State *lua)
{
    int count = lua_gettop(lua);

    budget_charge(lua, (size_t)count);
    lua_createtable(lua, count, 1);
    lua_insert(lua, 1);
    for (int i = count; i >= 1; i--)
        lua_rawseti(lua, 1, i);
    lua_pushinteger(lua, count);
    lua_setfield(lua, 1, "n");
    return 1;
}

static int tables_unpack(lua_State *lua)
{
    lua_Integer first = luaL_optinteger(lua, 2, 1);
    lua_Integer last = lua_isnoneornil(lua, 3) ? luaL_len(lua, 1) : luaL_checkinteger(lua, 3);

    if (first > last)
        return 0;

    lua_Unsigned count = (lua_Unsigned)last - (lua_Unsigned)first;
    if (count >= TABLES_UNPACK_MAX || !lua_checkstack(lua, (int)count + 1))
        return luaL_error(lua, "too many results to unpack");
    budget_charge(lua, count + 1);
    for (lua_Unsigned i = 0; i <= count; i++)
        lua_geti(lua, 1, (lua_Integer)((lua_Unsigned)first + i));
    return (int)count + 1;
}

/* --- sort --- */

/* A heap sort: n log n whatever the order and whatever the comparison says, and nothing to keep. */

/* Whether element a, at index -2, comes before element b, at index -1. */
static bool tables_before(lua_State *lua)
{
    budget_charge(lua, 4);
    if (lua_isnil(lua, 2)) {
        if (lua_type(lua, -2) == LUA_TSTRING && lua_type(lua, -1) == LUA_TSTRING)
            budget_charge_bytes(lua, lua_rawlen(lua, -2));
        return lua_compare(lua, -2, -1, LUA_OPLT) != 0;
    }
    lua_pushvalue(lua, 2);
    lua_pushvalue(lua, -3);
    lua_pushvalue(lua, -3);
    lua_call(lua, 2, 1);

    bool before = lua_toboolean(lua, -1) != 0;
    lua_pop(lua, 1);
    return before;
}

/* The value on top sinks from `hole` into the heap of elements 1 to `size`; it is popped. */
static void tables_sift(lua_State *lua, lua_Integer hole, lua_Integer size)
{
    lua_Integer child;

    while ((child = hole * 2) <= size) {
        lua_geti(lua, 1, child);
        if (child < size) {
            lua_geti(lua, 1, child + 1);
            if (tables_before(lua)) {
                lua_remove(lua, -2);
                child++;
            } else {
                lua_pop(lua, 1);
            }
        }
        /* The sinking value, the larger child. */
        if (!tables_before(lua)) {
            lua_pop(lua, 1);
            break;
        }
        lua_seti(lua, 1, hole);
        hole = child;
    }
    lua_seti(lua, 1, hole);
}

static int tables_sort(lua_State *lua)
{
    lua_Integer size = tables_length(lua, 1);

    luaL_argcheck(lua, size < INT32_MAX, 1, "array too big");
    if (!lua_isnoneornil(lua, 2))
        luaL_checktype(lua, 2, LUA_TFUNCTION);
    lua_settop(lua, 2);
    for (lua_Integer i = size / 2; i >= 1; i--) {
        lua_geti(lua, 1, i);
        tables_sift(lua, i, size);
    }
    for (lua_Integer i = size; i > 1; i--) {
        lua_geti(lua, 1, i);
        lua_geti(lua, 1, 1);
        lua_seti(lua, 1, i);
        tables_sift(lua, 1, i - 1);
    }
    return 0;
}

void tables_push_library(lua_State *lua)
{
    static const luaL_Reg functions[] = {
        {"concat", tables_concat}, {"insert", tables_insert},
        {"move", tables_move},     {"pack", tables_pack},
        {"remove", tables_remove}, {"sort", tables_sort},
        {"unpack", tables_unpack}, {NULL, NULL},
    };

    luaL_newlib(lua, functions);
}
