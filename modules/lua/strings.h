/*
 * strings - the string and utf8 libraries of scripts: those functions of Lua that take time in
 * proportion to their arguments, with their bytes charged, and of our own those that could take
 * longer or make more (rep, format, and everything with patterns).
 */
#ifndef FILAD_LUA_STRINGS_H
#define FILAD_LUA_STRINGS_H

#include <lua.h>

/* Push a table of functions. */
void strings_push_library(lua_State *lua);
void strings_push_utf8(lua_State *lua);

/* As luaL_tolstring but that it tells no addresses: pushes the text and returns it. */
const char *strings_describe(lua_State *lua, int index, size_t *size);

/* Calls a function of Lua's libraries after charging for the bytes of its arguments. */
int strings_call_charged(lua_State *lua, lua_CFunction function);

#endif
