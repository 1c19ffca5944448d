#define _GNU_SOURCE 1

#include "lua/strings.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdbool.h>
#include <string.h>

#include "lua/budget.h"
#include "lua/pattern.h"

/* --- functions of Lua's, charged --- */

int strings_call_charged(lua_State *lua, lua_CFunction function)
{
    size_t bytes = 0;

    for (int i = lua_gettop(lua); i > 0; i--)
        if (lua_type(lua, i) == LUA_TSTRING)
            bytes += lua_rawlen(lua, i);
    budget_charge_bytes(lua, bytes);
    return function(lua);
}

/* Function pointers do not fit into a light userdata by the letter of C; a closure holds one. */
static int strings_charged(lua_State *lua)
{
    return strings_call_charged(lua, lua_tocfunction(lua, lua_upvalueindex(1)));
}

/* Takes `names` from the library on top into the table below it. */
static void strings_take(lua_State *lua, const char *const *names)
{
    for (; *names; names++) {
        lua_getfield(lua, -1, *names);
        if (lua_iscfunction(lua, -1))
            lua_pushcclosure(lua, strings_charged, 1);
        lua_setfield(lua, -3, *names);
    }
}

/* --- texts of values --- */

const char *strings_describe(lua_State *lua, int index, size_t *size)
{
    switch (lua_type(lua, index)) {
    case LUA_TTABLE:
    case LUA_TUSERDATA:
    case LUA_TFUNCTION:
    case LUA_TLIGHTUSERDATA:
        if (luaL_getmetafield(lua, index, "__tostring") == LUA_TNIL) {
            lua_pushstring(lua, luaL_typename(lua, index));
            return lua_tolstring(lua, -1, size);
        }
        lua_pop(lua, 1);
        break;
    default:
        break;
    }
    return luaL_tolstring(lua, index, size);
}

/* --- rep --- */

static int strings_rep(lua_State *lua)
{
    size_t size, between_size;
    const char *text = luaL_checklstring(lua, 1, &size);
    lua_Integer times = luaL_checkinteger(lua, 2);
    const char *between = luaL_optlstring(lua, 3, "", &between_size);
    size_t one = size + between_size, total;

    if (times <= 0 || one == 0) {
        lua_pushliteral(lua, "");
        return 1;
    }
    if (__builtin_mul_overflow(one, (size_t)times, &total))
        total = SIZE_MAX / 4;
    total -= between_size;
    /* A userdata to fill, and the string made of it. */
    budget_need(lua, total * 2);
    budget_charge_bytes(lua, total);
    budget_charge(lua, (size_t)times / 4);

    luaL_Buffer buffer;
    char *out = luaL_buffinitsize(lua, &buffer, total), *at = out;
    for (lua_Integer i = 0; i < times; i++) {
        memcpy(at, text, size);
        at += size;
        if (i + 1 < times) {
            memcpy(at, between, between_size);
            at += between_size;
        }
    }
    luaL_pushresultsize(&buffer, total);
    return 1;
}

/* --- format --- */

/* Lua's own, for which values that it would describe by their addresses are replaced before. */
static int strings_format(lua_State *lua)
{
    size_t size;
    const char *format = luaL_checklstring(lua, 1, &size);
    int count = lua_gettop(lua);

    for (const char *at = format; (at = memchr(at, '%', size - (size_t)(at - format))); at++) {
        at++;
        at += strspn(at, "-+ #0123456789.");
        if (*at == 'p')
            return luaL_error(lua, "invalid conversion '%%p' to 'format'");
        if (at >= format + size)
            break;
    }
    for (int i = 2; i <= count; i++) {
        int type = lua_type(lua, i);

        if (type == LUA_TTABLE || type == LUA_TFUNCTION || type == LUA_TUSERDATA ||
            type == LUA_TLIGHTUSERDATA) {
            strings_describe(lua, i, NULL);
            lua_replace(lua, i);
        }
    }
    return strings_call_charged(lua, lua_tocfunction(lua, lua_upvalueindex(1)));
}

/* --- find and match --- */

/* The offset that argument `index` names, which may count from the end; beyond `size` when it is
 * behind it. */
static size_t strings_offset(lua_State *lua, int index, size_t size)
{
    lua_Integer position = luaL_optinteger(lua, index, 1);

    if (position > 0)
        return (size_t)position - 1;
    if (position == 0 || position < -(lua_Integer)size)
        return 0;
    return size - (size_t)-position;
}

static bool strings_is_plain(const char *text, size_t size)
{
    static const char special[] = "^$*+?.([%-";

    for (size_t i = 0; i < size; i++)
        if (text[i] != '\0' && strchr(special, text[i]))
            return false;
    return true;
}

static int strings_find_plain(lua_State *lua, const char *text, size_t size, size_t offset,
                              const char *what, size_t what_size)
{
    budget_charge_bytes(lua, size - offset);

    const char *found =
        what_size ? memmem(text + offset, size - offset, what, what_size) : text + offset;
    if (!found) {
        lua_pushnil(lua);
        return 1;
    }
    lua_pushinteger(lua, found - text + 1);
    lua_pushinteger(lua, found - text + (lua_Integer)what_size);
    return 2;
}

static int strings_search(lua_State *lua, bool find)
{
    size_t size, what_size;
    const char *text = luaL_checklstring(lua, 1, &size);
    const char *what = luaL_checklstring(lua, 2, &what_size);
    size_t offset = strings_offset(lua, 3, size);

    if (offset > size) {
        lua_pushnil(lua);
        return 1;
    }
    budget_charge_bytes(lua, what_size);
    if (find && (lua_toboolean(lua, 4) || strings_is_plain(what, what_size)))
        return strings_find_plain(lua, text, size, offset, what, what_size);

    struct pattern pattern;
    bool anchored = what_size > 0 && *what == '^';
    const char *at = text + offset, *end;

    pattern_init(&pattern, lua, text, size, what + what_size);
    do {
        pattern.count = 0;
        end = pattern_match(&pattern, at, what + anchored);
        if (end && find) {
            lua_pushinteger(lua, at - text + 1);
            lua_pushinteger(lua, end - text);
            return pattern_push_captures(&pattern, NULL, NULL) + 2;
        }
        if (end)
            return pattern_push_captures(&pattern, at, end);
    } while (at++ < pattern.subject_end && !anchored);
    lua_pushnil(lua);
    return 1;
}

static int strings_find(lua_State *lua)
{
    return strings_search(lua, true);
}

static int strings_match(lua_State *lua)
{
    return strings_search(lua, false);
}

/* --- gmatch --- */

/* Upvalues: subject, pattern, offset to go on from, offset where the last match ended or -1. */
static int strings_gmatch_next(lua_State *lua)
{
    size_t size, what_size;
    const char *text = lua_tolstring(lua, lua_upvalueindex(1), &size);
    const char *what = lua_tolstring(lua, lua_upvalueindex(2), &what_size);
    const char *at = text + lua_tointeger(lua, lua_upvalueindex(3));
    lua_Integer last = lua_tointeger(lua, lua_upvalueindex(4));
    struct pattern pattern;

    pattern_init(&pattern, lua, text, size, what + what_size);
    for (; at <= pattern.subject_end; at++) {
        pattern.count = 0;
        const char *end = pattern_match(&pattern, at, what);

        /* An empty match right behind the last one is that one again. */
        if (end && end - text != last) {
            lua_pushinteger(lua, end - text);
            lua_copy(lua, -1, lua_upvalueindex(3));
            lua_replace(lua, lua_upvalueindex(4));
            return pattern_push_captures(&pattern, at, end);
        }
    }
    lua_pushinteger(lua, (lua_Integer)size + 1);
    lua_replace(lua, lua_upvalueindex(3));
    return 0;
}

static int strings_gmatch(lua_State *lua)
{
    size_t size;

    luaL_checklstring(lua, 1, &size);
    luaL_checkstring(lua, 2);

    size_t offset = strings_offset(lua, 3, size);
    lua_settop(lua, 2);
    lua_pushinteger(lua, (lua_Integer)(offset > size ? size + 1 : offset));
    lua_pushinteger(lua, -1);
    lua_pushcclosure(lua, strings_gmatch_next, 4);
    return 1;
}

/* --- gsub --- */

#define STRINGS_REPLACEMENT 3 /* stack index of the third argument of gsub */

static void strings_add_text(lua_State *lua, luaL_Buffer *out, const struct pattern *pattern,
                             const char *at, const char *end)
{
    size_t size;
    const char *text = lua_tolstring(lua, STRINGS_REPLACEMENT, &size);

    budget_charge_bytes(lua, size);
    for (size_t i = 0; i < size; i++) {
        if (text[i] != '%') {
            luaL_addchar(out, text[i]);
            continue;
        }
        char what = ++i < size ? text[i] : '\0';
        if (what == '%') {
            luaL_addchar(out, '%');
        } else if (what == '0') {
            luaL_addlstring(out, at, (size_t)(end - at));
        } else if (what >= '1' && what <= '9') {
            pattern_push_capture(pattern, what - '1', at, end);
            luaL_tolstring(lua, -1, NULL);
            lua_remove(lua, -2);
            luaL_addvalue(out);
        } else {
            luaL_error(lua, "invalid use of '%%' in replacement string");
        }
    }
}

/* What a table or function says in place of the match; false: the match stays. */
static bool strings_add_value(lua_State *lua, luaL_Buffer *out, const struct pattern *pattern,
                              const char *at, const char *end)
{
    if (lua_type(lua, STRINGS_REPLACEMENT) == LUA_TTABLE) {
        pattern_push_capture(pattern, 0, at, end);
        lua_gettable(lua, STRINGS_REPLACEMENT);
    } else {
        lua_pushvalue(lua, STRINGS_REPLACEMENT);
        lua_call(lua, pattern_push_captures(pattern, at, end), 1);
    }
    if (!lua_toboolean(lua, -1)) {
        lua_pop(lua, 1);
        return false;
    }
    if (!lua_isstring(lua, -1))
        luaL_error(lua, "invalid replacement value (a %s)", luaL_typename(lua, -1));
    luaL_addvalue(out);
    return true;
}

static void strings_replace(lua_State *lua, luaL_Buffer *out, const struct pattern *pattern,
                            const char *at, const char *end)
{
    bool replaced = true;

    if (lua_isstring(lua, STRINGS_REPLACEMENT))
        strings_add_text(lua, out, pattern, at, end);
    else
        replaced = strings_add_value(lua, out, pattern, at, end);
    if (!replaced)
        luaL_addlstring(out, at, (size_t)(end - at));
}

static int strings_gsub(lua_State *lua)
{
    size_t size, what_size;
    const char *text = luaL_checklstring(lua, 1, &size);
    const char *what = luaL_checklstring(lua, 2, &what_size);
    int type = lua_type(lua, STRINGS_REPLACEMENT);
    lua_Integer most = luaL_optinteger(lua, 4, (lua_Integer)size + 1), count = 0;
    bool anchored = what_size > 0 && *what == '^';
    const char *at = text, *last = NULL;
    struct pattern pattern;
    luaL_Buffer out;

    luaL_argexpected(lua,
                     type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION ||
                         type == LUA_TTABLE,
                     STRINGS_REPLACEMENT, "string/function/table");
    if (type == LUA_TNUMBER)
        lua_tolstring(lua, STRINGS_REPLACEMENT, NULL); /* converts it in place */
    budget_charge_bytes(lua, size);
    luaL_buffinit(lua, &out);
    pattern_init(&pattern, lua, text, size, what + what_size);
    while (count < most) {
        pattern.count = 0;
        const char *end = pattern_match(&pattern, at, what + anchored);

        if (end && end != last) {
            count++;
            strings_replace(lua, &out, &pattern, at, end);
            at = last = end;
        } else if (at < pattern.subject_end) {
            luaL_addchar(&out, *at++);
        } else {
            break;
        }
        if (anchored)
            break;
    }
    luaL_addlstring(&out, at, (size_t)(pattern.subject_end - at));
    luaL_pushresult(&out);
    lua_pushinteger(lua, count);
    return 2;
}

/* --- libraries --- */

void strings_push_library(lua_State *lua)
{
    static const char *const taken[] = {"byte",    "char", "len",    "lower", "pack", "packsize",
                                        "reverse", "sub",  "unpack", "upper", NULL};
    static const luaL_Reg ours[] = {
        {"find", strings_find},   {"gmatch", strings_gmatch}, {"gsub", strings_gsub},
        {"match", strings_match}, {"rep", strings_rep},       {NULL, NULL},
    };

    lua_createtable(lua, 0, 16);
    luaopen_string(lua);
    strings_take(lua, taken);
    lua_getfield(lua, -1, "format");
    lua_pushcclosure(lua, strings_format, 1);
    lua_setfield(lua, -3, "format");
    lua_pop(lua, 1);
    luaL_setfuncs(lua, ours, 0);
}

void strings_push_utf8(lua_State *lua)
{
    static const char *const taken[] = {"char", "charpattern", "codepoint", "codes",
                                        "len",  "offset",      NULL};

    lua_createtable(lua, 0, 8);
    luaopen_utf8(lua);
    strings_take(lua, taken);
    lua_pop(lua, 1);
}
