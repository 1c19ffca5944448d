/*
 * sandbox - the environment of a script: the safe parts of Lua's libraries, read-only, and nothing
 * that reaches outside of the state.
 */
#ifndef FILAD_LUA_SANDBOX_H
#define FILAD_LUA_SANDBOX_H

#include <lua.h>

/* Makes the table on top read-only: puts a stand-in in its place that reads from it. */
void sandbox_protect(lua_State *lua);

/* Makes the globals of a new state those of a script. Raises errors. */
void sandbox_open(lua_State *lua);

#endif
