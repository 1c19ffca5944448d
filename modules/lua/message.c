#include "lua/message.h"

#include <lauxlib.h>
#include <stdbool.h>

#include "fibp/framed.h"
#include "fibp/wire.h"
#include "lua/budget.h"

/* Keys of the registry by address. */
static const char message_source_key, message_methods_key, headers_methods_key;

static struct message_source *message_source(lua_State *lua)
{
    lua_rawgetp(lua, LUA_REGISTRYINDEX, &message_source_key);

    struct message_source *source = lua_touserdata(lua, -1);
    lua_pop(lua, 1);
    return source;
}

static void message_push_str(lua_State *lua, struct str text)
{
    lua_pushlstring(lua, text.size ? (const char *)text.data : "", text.size);
}

/* --- headers --- */

static int headers_index(lua_State *lua)
{
    const struct message_source *source = lua_touserdata(lua, lua_upvalueindex(1));
    struct str value;
    size_t size;

    if (lua_type(lua, 2) != LUA_TSTRING || lua_topointer(lua, 1) != source->headers_table)
        return 0;

    const char *name = lua_tolstring(lua, 2, &size);
    budget_charge_bytes(lua, source->headers.size);
    if (!framed_headers_find(source->headers, str_of(name, size), &value))
        return 0;
    message_push_str(lua, value);
    return 1;
}

/* Whether the table is the one that was pushed: when the script has let go of that, another one may
 * lie where it lay. */
static bool headers_are_at(lua_State *lua, int index, const void *table)
{
    if (!table || lua_topointer(lua, index) != table || !lua_getmetatable(lua, index))
        return false;
    lua_rawgetp(lua, LUA_REGISTRYINDEX, &headers_methods_key);

    bool methods = lua_rawequal(lua, -1, -2) != 0;
    lua_pop(lua, 2);
    return methods;
}

void message_fill(lua_State *lua, int index)
{
    struct message_source *source = message_source(lua);
    struct wire_reader reader;
    struct wire_pair pair;
    uint16_t count;

    if (!headers_are_at(lua, index, source->headers_table))
        return;
    index = lua_absindex(lua, index);
    source->headers_table = NULL;
    lua_pushnil(lua);
    lua_setmetatable(lua, index);
    wire_reader_init(&reader, source->headers);
    reader.trusted = true;
    if (!wire_u16(&reader, "headers", &count))
        return;
    while (count-- > 0 && wire_pair_next(&reader, "headers", &pair)) {
        budget_charge(lua, 10 + (pair.key.size + pair.value.size) / 16);
        message_push_str(lua, pair.key);
        message_push_str(lua, pair.value);
        lua_rawset(lua, index);
    }
}

static int headers_newindex(lua_State *lua)
{
    message_fill(lua, 1);
    lua_settop(lua, 3);
    if (lua_getmetatable(lua, 1)) {
        /* One of an earlier call: it has become an ordinary table without headers. */
        lua_pop(lua, 1);
        lua_pushnil(lua);
        lua_setmetatable(lua, 1);
    }
    lua_rawset(lua, 1);
    return 0;
}

static int headers_next(lua_State *lua)
{
    luaL_checktype(lua, 1, LUA_TTABLE);
    lua_settop(lua, 2);
    if (lua_next(lua, 1))
        return 2;
    lua_pushnil(lua);
    return 1;
}

static int headers_pairs(lua_State *lua)
{
    message_fill(lua, 1);
    lua_pushcfunction(lua, headers_next);
    lua_pushvalue(lua, 1);
    lua_pushnil(lua);
    return 3;
}

static void headers_push(lua_State *lua, struct message_source *source, struct str headers,
                         uint16_t count)
{
    lua_newtable(lua);
    if (count == 0)
        return;
    source->headers = headers;
    source->headers_table = lua_topointer(lua, -1);
    lua_rawgetp(lua, LUA_REGISTRYINDEX, &headers_methods_key);
    lua_setmetatable(lua, -2);
}

/* --- messages --- */

/* Asked for what is not in the table: the payload, once. */
static int message_index(lua_State *lua)
{
    const struct message_source *source = lua_touserdata(lua, lua_upvalueindex(1));

    if (lua_type(lua, 2) != LUA_TSTRING || lua_topointer(lua, 1) != source->message_table ||
        !str_equal(str_from_c(lua_tostring(lua, 2)), STR("payload")))
        return 0;
    budget_need(lua, source->payload.size);
    budget_charge_bytes(lua, source->payload.size);
    message_push_str(lua, source->payload);
    lua_pushvalue(lua, -1);
    lua_setfield(lua, 1, "payload");
    return 1;
}

static void message_begin(lua_State *lua, struct message_source *source, int fields)
{
    *source = (struct message_source){.message_table = NULL};
    lua_createtable(lua, 0, fields);
}

static void message_set_queue(lua_State *lua, struct str queue)
{
    message_push_str(lua, queue);
    lua_setfield(lua, -2, "queue");
}

void message_push_enqueued(lua_State *lua, struct message_source *source,
                           const struct hook_message *message)
{
    message_begin(lua, source, 4);
    message_set_queue(lua, message->queue);
    lua_pushinteger(lua, (lua_Integer)message->payload.size);
    lua_setfield(lua, -2, "payload_size");
    headers_push(lua, source, message->headers, message->header_count);
    lua_setfield(lua, -2, "headers");
    source->payload = message->payload;
    source->message_table = lua_topointer(lua, -1);
    lua_rawgetp(lua, LUA_REGISTRYINDEX, &message_methods_key);
    lua_setmetatable(lua, -2);
}

void message_push_failed(lua_State *lua, struct message_source *source,
                         const struct hook_failure *failure)
{
    uint8_t id[UUID_TEXT_SIZE];

    uuid_format(&failure->id, id);
    message_begin(lua, source, 5);
    message_set_queue(lua, failure->queue);
    message_push_str(lua, str_of(id, sizeof(id)));
    lua_setfield(lua, -2, "id");
    lua_pushinteger(lua, failure->attempts);
    lua_setfield(lua, -2, "attempts");
    message_push_str(lua, failure->error);
    lua_setfield(lua, -2, "error");
    headers_push(lua, source, failure->headers, failure->header_count);
    lua_setfield(lua, -2, "headers");
}

/* --- set-up --- */

/* A metatable in the registry whose functions have the source as upvalue. */
static void message_register(lua_State *lua, const void *key, const luaL_Reg *functions,
                             struct message_source *source)
{
    lua_createtable(lua, 0, 4);
    lua_pushlightuserdata(lua, source);
    luaL_setfuncs(lua, functions, 1);
    lua_pushboolean(lua, 0);
    lua_setfield(lua, -2, "__metatable");
    lua_rawsetp(lua, LUA_REGISTRYINDEX, key);
}

void message_open(lua_State *lua, struct message_source *source)
{
    static const luaL_Reg of_headers[] = {
        {"__index", headers_index},
        {"__newindex", headers_newindex},
        {"__pairs", headers_pairs},
        {NULL, NULL},
    };
    static const luaL_Reg of_message[] = {{"__index", message_index}, {NULL, NULL}};

    *source = (struct message_source){.message_table = NULL};
    lua_pushlightuserdata(lua, source);
    lua_rawsetp(lua, LUA_REGISTRYINDEX, &message_source_key);
    message_register(lua, &headers_methods_key, of_headers, source);
    message_register(lua, &message_methods_key, of_message, source);
}
