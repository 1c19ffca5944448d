/*
 * tables - the table library of scripts. Like Lua's it works on any value with the right
 * metamethods, so that lengths may be made up; each element is charged.
 */
#ifndef FILAD_LUA_TABLES_H
#define FILAD_LUA_TABLES_H

#include <lua.h>

void tables_push_library(lua_State *lua); /* pushes a table of functions */

#endif
