#include "lua/helpers.h"

#include <lauxlib.h>
#include <math.h>

#include "lua/budget.h"
#include "lua/sandbox.h"
#include "lua/strings.h"
#include "os/time.h"

static struct helpers *helpers_of(lua_State *lua)
{
    return lua_touserdata(lua, lua_upvalueindex(1));
}

/* --- fila --- */

static int helpers_get(lua_State *lua)
{
    const struct hook_services *services = helpers_of(lua)->services;
    struct str value;
    size_t size;
    const char *key = luaL_checklstring(lua, 1, &size);

    budget_charge(lua, 5);
    if (!services->config_get ||
        !services->config_get(services->context, str_of(key, size), &value))
        lua_pushnil(lua); /* no result at all would be no argument for tostring and the like */
    else
        lua_pushlstring(lua, value.size ? (const char *)value.data : "", value.size);
    return 1;
}

static int helpers_now_ms(lua_State *lua)
{
    lua_pushinteger(lua, (lua_Integer)time_wall_ms());
    return 1;
}

static int helpers_log(lua_State *lua)
{
    const struct helpers *helpers = helpers_of(lua);
    size_t size;

    luaL_checkany(lua, 1);
    budget_charge(lua, 20);

    const char *text = strings_describe(lua, 1, &size);
    if (helpers->log)
        helpers->log(helpers->owner, str_of(text, size));
    return 0;
}

/* --- fila.helpers --- */

/* 0.75 to 1.25 */
static double helpers_jitter(struct helpers *helpers)
{
    helpers->random ^= helpers->random << 13;
    helpers->random ^= helpers->random >> 7;
    helpers->random ^= helpers->random << 17;
    return 0.75 + (double)(helpers->random >> 11) / (double)(UINT64_C(1) << 53) * 0.5;
}

/* exponential_backoff(attempts, base_ms, max_ms) */
static int helpers_exponential_backoff(lua_State *lua)
{
    double exponent = luaL_checknumber(lua, 1) - 1;
    double base = luaL_checknumber(lua, 2), most = luaL_checknumber(lua, 3);

    exponent = exponent > 52 ? 52 : exponent > 0 ? trunc(exponent) : 0;

    double delay = ldexp(base, (int)exponent);
    delay = floor((delay < most ? delay : most) * helpers_jitter(helpers_of(lua)));
    if (!(delay > 0))
        delay = 0;
    if (delay > (double)HOOK_DELAY_MAX_MS)
        delay = (double)HOOK_DELAY_MAX_MS;
    lua_pushinteger(lua, (lua_Integer)delay);
    return 1;
}

/* Pushes the header that is named at index -1 of msg.headers, in its place. */
static void helpers_get_header(lua_State *lua, int headers)
{
    lua_gettable(lua, headers);
    if (lua_type(lua, -1) != LUA_TSTRING) {
        lua_pop(lua, 1);
        lua_pushnil(lua);
    }
}

/* tenant_route(msg, header) */
static int helpers_tenant_route(lua_State *lua)
{
    luaL_checktype(lua, 1, LUA_TTABLE);
    luaL_checkstring(lua, 2);
    lua_settop(lua, 2);
    lua_createtable(lua, 0, 1);
    if (lua_getfield(lua, 1, "headers") != LUA_TTABLE)
        return luaL_argerror(lua, 1, "a message expected");
    lua_pushvalue(lua, 2);
    helpers_get_header(lua, 4);
    if (lua_isnil(lua, -1)) {
        lua_pop(lua, 1);
        lua_pushliteral(lua, "default");
    }
    lua_setfield(lua, 3, "fairness_key");
    lua_settop(lua, 3);
    return 1;
}

/* Pushes the pattern with every {name} replaced by that header; false, with nothing pushed, when a
 * header is missing. Without a closing brace the rest stays as it is. */
static bool helpers_expand(lua_State *lua, struct str pattern, int headers)
{
    const char *at = (const char *)pattern.data, *end = at + pattern.size;
    luaL_Buffer out;

    luaL_buffinit(lua, &out);
    while (at < end) {
        const char *open = memchr(at, '{', (size_t)(end - at));
        const char *close = open ? memchr(open, '}', (size_t)(end - open)) : NULL;

        budget_charge(lua, 5);
        if (!close)
            break;
        luaL_addlstring(&out, at, (size_t)(open - at));
        lua_pushlstring(lua, open + 1, (size_t)(close - open - 1));
        helpers_get_header(lua, headers);
        if (lua_isnil(lua, -1)) {
            lua_pop(lua, 1);
            luaL_pushresult(&out);
            lua_pop(lua, 1);
            return false;
        }
        luaL_addvalue(&out);
        at = close + 1;
    }
    luaL_addlstring(&out, at, (size_t)(end - at));
    luaL_pushresult(&out);
    return true;
}

/* rate_limit_keys(msg, patterns) */
static int helpers_rate_limit_keys(lua_State *lua)
{
    lua_Integer count = 0;

    luaL_checktype(lua, 1, LUA_TTABLE);
    luaL_checktype(lua, 2, LUA_TTABLE);
    lua_settop(lua, 2);
    lua_newtable(lua);
    if (lua_getfield(lua, 1, "headers") != LUA_TTABLE)
        return luaL_argerror(lua, 1, "a message expected");
    for (lua_Integer i = 1; lua_geti(lua, 2, i) != LUA_TNIL; i++, lua_settop(lua, 4)) {
        size_t size;
        const char *pattern = lua_tolstring(lua, 5, &size);

        if (!pattern)
            return luaL_argerror(lua, 2, "a list of texts expected");
        budget_charge_bytes(lua, size + 64);
        if (helpers_expand(lua, str_of(pattern, size), 4))
            lua_rawseti(lua, 3, ++count);
    }
    lua_settop(lua, 3);
    return 1;
}

/* max_retries(attempts, max) */
static int helpers_max_retries(lua_State *lua)
{
    lua_Number attempts = luaL_checknumber(lua, 1), most = luaL_checknumber(lua, 2);

    lua_createtable(lua, 0, 1);
    lua_pushstring(lua, attempts < most ? "retry" : "dlq");
    lua_setfield(lua, -2, "action");
    return 1;
}

/* --- set-up --- */

void helpers_open(lua_State *lua, struct helpers *helpers)
{
    static const luaL_Reg functions[] = {
        {"get", helpers_get}, {"log", helpers_log}, {"now_ms", helpers_now_ms}, {NULL, NULL}};
    static const luaL_Reg recipes[] = {
        {"exponential_backoff", helpers_exponential_backoff},
        {"max_retries", helpers_max_retries},
        {"rate_limit_keys", helpers_rate_limit_keys},
        {"tenant_route", helpers_tenant_route},
        {NULL, NULL},
    };

    lua_createtable(lua, 0, 4);
    lua_pushlightuserdata(lua, helpers);
    luaL_setfuncs(lua, functions, 1);
    lua_createtable(lua, 0, 4);
    lua_pushlightuserdata(lua, helpers);
    luaL_setfuncs(lua, recipes, 1);
    sandbox_protect(lua);
    lua_setfield(lua, -2, "helpers");
    sandbox_protect(lua);
    lua_setglobal(lua, "fila");
}
