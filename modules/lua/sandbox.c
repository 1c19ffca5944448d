#include "lua/sandbox.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdbool.h>

#include "lua/budget.h"
#include "lua/message.h"
#include "lua/strings.h"
#include "lua/tables.h"
#include "os/time.h"

/* --- read-only tables --- */

static const char sandbox_read_only_key; /* set in the metatable of a stand-in */

static int sandbox_refuse_change(lua_State *lua)
{
    return luaL_error(lua, "attempt to change a read-only table");
}

static int sandbox_read_only_next(lua_State *lua)
{
    lua_settop(lua, 2);
    lua_replace(lua, 1);
    lua_pushvalue(lua, lua_upvalueindex(1));
    lua_insert(lua, 1);
    if (lua_next(lua, 1))
        return 2;
    lua_pushnil(lua);
    return 1;
}

static int sandbox_read_only_pairs(lua_State *lua)
{
    lua_pushvalue(lua, lua_upvalueindex(1));
    lua_pushcclosure(lua, sandbox_read_only_next, 1);
    lua_pushvalue(lua, 1);
    lua_pushnil(lua);
    return 3;
}

void sandbox_protect(lua_State *lua)
{
    lua_newtable(lua);
    lua_createtable(lua, 0, 8);
    lua_pushvalue(lua, -3);
    lua_pushcclosure(lua, sandbox_read_only_pairs, 1);
    lua_setfield(lua, -2, "__pairs");
    lua_pushvalue(lua, -3);
    lua_setfield(lua, -2, "__index");
    lua_pushcfunction(lua, sandbox_refuse_change);
    lua_setfield(lua, -2, "__newindex");
    lua_pushboolean(lua, 0);
    lua_setfield(lua, -2, "__metatable");
    lua_pushboolean(lua, 1);
    lua_rawsetp(lua, -2, &sandbox_read_only_key);
    lua_setmetatable(lua, -2);
    lua_remove(lua, -2);
}

static bool sandbox_is_read_only(lua_State *lua, int index)
{
    if (!lua_getmetatable(lua, index))
        return false;
    lua_rawgetp(lua, -1, &sandbox_read_only_key);

    bool read_only = lua_toboolean(lua, -1) != 0;
    lua_pop(lua, 2);
    return read_only;
}

/* --- errors --- */

static int sandbox_pcall(lua_State *lua)
{
    luaL_checkany(lua, 1);
    lua_pushboolean(lua, 1);
    lua_insert(lua, 1);
    if (lua_pcall(lua, lua_gettop(lua) - 2, LUA_MULTRET, 0) != LUA_OK) {
        budget_check(lua);
        lua_pushboolean(lua, 0);
        lua_replace(lua, 1);
    }
    return lua_gettop(lua);
}

/* A limit is met inside of the hook, where no hook runs: a handler in Lua would have no limits. */
static int sandbox_handle(lua_State *lua)
{
    if (budget_is_breached(lua))
        return 1;
    lua_settop(lua, 1);
    lua_pushvalue(lua, lua_upvalueindex(1));
    lua_insert(lua, 1);
    lua_call(lua, 1, 1);
    return 1;
}

static int sandbox_xpcall(lua_State *lua)
{
    int count = lua_gettop(lua);

    luaL_checktype(lua, 2, LUA_TFUNCTION);
    lua_pushvalue(lua, 2);
    lua_pushcclosure(lua, sandbox_handle, 1);
    lua_replace(lua, 2);
    lua_pushboolean(lua, 1);
    lua_pushvalue(lua, 1);
    lua_rotate(lua, 3, 2);
    if (lua_pcall(lua, count - 2, LUA_MULTRET, 2) != LUA_OK) {
        budget_check(lua);
        lua_pushboolean(lua, 0);
        lua_pushvalue(lua, -2);
        return 2;
    }
    return lua_gettop(lua) - 2;
}

/* --- metatables --- */

/*
 * A table gets a copy of its metatable, made when setmetatable is called, which __metatable hides.
 * So what the garbage collector heeds (__gc runs without limits, __mode makes collections slow) can
 * be refused for good.
 */
static const char sandbox_copy_key; /* in a copy: whether it may be replaced */

static void sandbox_copy_metatable(lua_State *lua, int from)
{
    static const char *const names[] = {
        "__index", "__newindex", "__call",   "__tostring", "__name",  "__len", "__eq",
        "__lt",    "__le",       "__concat", "__unm",      "__add",   "__sub", "__mul",
        "__div",   "__mod",      "__pow",    "__idiv",     "__band",  "__bor", "__bxor",
        "__shl",   "__shr",      "__bnot",   "__pairs",    "__close", NULL,
    };

    lua_newtable(lua);
    for (const char *const *name = names; *name; name++) {
        lua_pushstring(lua, *name);
        lua_pushvalue(lua, -1);
        if (lua_rawget(lua, from) != LUA_TNIL)
            lua_rawset(lua, -3);
        else
            lua_pop(lua, 2);
    }
    lua_pushliteral(lua, "__metatable");
    lua_pushvalue(lua, -1);
    bool free = lua_rawget(lua, from) == LUA_TNIL;
    if (free) {
        lua_pop(lua, 1);
        lua_pushvalue(lua, from);
    }
    lua_rawset(lua, -3);
    lua_pushboolean(lua, free);
    lua_rawsetp(lua, -2, &sandbox_copy_key);
}

static void sandbox_refuse_metamethod(lua_State *lua, const char *name)
{
    lua_pushstring(lua, name);
    if (lua_rawget(lua, 2) != LUA_TNIL)
        luaL_error(lua, "scripts have no '%s'", name);
    lua_pop(lua, 1);
}

static int sandbox_setmetatable(lua_State *lua)
{
    int type = lua_type(lua, 2);

    luaL_checktype(lua, 1, LUA_TTABLE);
    luaL_argexpected(lua, type == LUA_TNIL || type == LUA_TTABLE, 2, "nil or table");
    lua_settop(lua, 2);
    message_fill(lua, 1);
    if (lua_getmetatable(lua, 1)) {
        lua_rawgetp(lua, -1, &sandbox_copy_key);
        if (!lua_toboolean(lua, -1))
            return luaL_error(lua, "cannot change a protected metatable");
        lua_pop(lua, 2);
    }
    if (type == LUA_TTABLE) {
        budget_charge(lua, 50);
        sandbox_refuse_metamethod(lua, "__gc");
        sandbox_refuse_metamethod(lua, "__mode");
        sandbox_copy_metatable(lua, 2);
    } else {
        lua_pushnil(lua);
    }
    lua_setmetatable(lua, 1);
    lua_settop(lua, 1);
    return 1;
}

/* --- access --- */

static int sandbox_next(lua_State *lua)
{
    luaL_checktype(lua, 1, LUA_TTABLE);
    lua_settop(lua, 2);
    message_fill(lua, 1);
    if (lua_next(lua, 1))
        return 2;
    lua_pushnil(lua);
    return 1;
}

static int sandbox_pairs(lua_State *lua)
{
    luaL_checkany(lua, 1);
    if (luaL_getmetafield(lua, 1, "__pairs") == LUA_TNIL) {
        lua_pushcfunction(lua, sandbox_next);
        lua_pushvalue(lua, 1);
        lua_pushnil(lua);
    } else {
        lua_pushvalue(lua, 1);
        lua_call(lua, 1, 3);
    }
    return 3;
}

static int sandbox_rawget(lua_State *lua)
{
    luaL_checktype(lua, 1, LUA_TTABLE);
    luaL_checkany(lua, 2);
    lua_settop(lua, 2);
    message_fill(lua, 1);
    lua_rawget(lua, 1);
    return 1;
}

static int sandbox_rawset(lua_State *lua)
{
    luaL_checktype(lua, 1, LUA_TTABLE);
    luaL_checkany(lua, 2);
    luaL_checkany(lua, 3);
    lua_settop(lua, 3);
    if (sandbox_is_read_only(lua, 1))
        return sandbox_refuse_change(lua);
    message_fill(lua, 1);
    lua_rawset(lua, 1);
    return 1;
}

static int sandbox_tostring(lua_State *lua)
{
    luaL_checkany(lua, 1);
    strings_describe(lua, 1, NULL);
    return 1;
}

static int sandbox_tonumber(lua_State *lua)
{
    return strings_call_charged(lua, lua_tocfunction(lua, lua_upvalueindex(1)));
}

/* --- libraries --- */

/* Lua's returns the seed, which by itself is made of an address. */
static int sandbox_randomseed(lua_State *lua)
{
    lua_settop(lua, 2);
    if (lua_isnil(lua, 1)) {
        uint64_t words[2];

        time_entropy(words);
        lua_settop(lua, 0);
        lua_pushinteger(lua, (lua_Integer)words[0]);
        lua_pushinteger(lua, (lua_Integer)words[1]);
    } else if (lua_isnil(lua, 2)) {
        lua_settop(lua, 1);
    }
    lua_pushvalue(lua, lua_upvalueindex(1));
    lua_insert(lua, 1);
    lua_call(lua, lua_gettop(lua) - 1, 0);
    return 0;
}

static void sandbox_push_math(lua_State *lua)
{
    luaopen_math(lua);
    lua_getfield(lua, -1, "randomseed");
    lua_pushcclosure(lua, sandbox_randomseed, 1);
    lua_pushvalue(lua, -1);
    lua_call(lua, 0, 0);
    lua_setfield(lua, -2, "randomseed");
}

static void sandbox_push_base(lua_State *lua)
{
    static const luaL_Reg ours[] = {
        {"next", sandbox_next},
        {"pairs", sandbox_pairs},
        {"pcall", sandbox_pcall},
        {"rawget", sandbox_rawget},
        {"rawset", sandbox_rawset},
        {"setmetatable", sandbox_setmetatable},
        {"tostring", sandbox_tostring},
        {"xpcall", sandbox_xpcall},
        {NULL, NULL},
    };
    static const char *const taken[] = {"_VERSION", "assert", "error",  "getmetatable", "ipairs",
                                        "rawequal", "rawlen", "select", "type",         NULL};

    lua_createtable(lua, 0, 32);
    luaopen_base(lua);
    for (const char *const *name = taken; *name; name++) {
        lua_getfield(lua, -1, *name);
        lua_setfield(lua, -3, *name);
    }
    lua_getfield(lua, -1, "tonumber");
    lua_pushcclosure(lua, sandbox_tonumber, 1);
    lua_setfield(lua, -3, "tonumber");
    lua_pop(lua, 1);
    luaL_setfuncs(lua, ours, 0);
    lua_pushvalue(lua, -1);
    lua_setfield(lua, -2, "_G");
}

/* Takes the library on top, read-only, into the table below. */
static void sandbox_add(lua_State *lua, const char *name)
{
    sandbox_protect(lua);
    lua_setfield(lua, -2, name);
}

void sandbox_open(lua_State *lua)
{
    sandbox_push_base(lua);
    strings_push_library(lua);
    /* luaopen_string gave strings a metatable with arithmetic; its __index is Lua's library. */
    lua_pushliteral(lua, "");
    lua_getmetatable(lua, -1);
    lua_pushvalue(lua, -3);
    lua_setfield(lua, -2, "__index");
    lua_pushboolean(lua, 0);
    lua_setfield(lua, -2, "__metatable");
    lua_pop(lua, 2);
    sandbox_add(lua, "string");
    strings_push_utf8(lua);
    sandbox_add(lua, "utf8");
    tables_push_library(lua);
    sandbox_add(lua, "table");
    sandbox_push_math(lua);
    sandbox_add(lua, "math");
    lua_rawseti(lua, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
}
