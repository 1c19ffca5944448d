/*
 * verdict - reads what a script returned. Tables are read without metamethods. What each wrong type
 * or value means stands in filad-lua(7), "RESULTS".
 */
#ifndef FILAD_LUA_VERDICT_H
#define FILAD_LUA_VERDICT_H

#include <lua.h>

#include "hook/hook.h"

/* Read the result at the top of the stack. A field that is missing leaves the verdict as it is;
 * what makes the script a failed one raises an error. Texts are copied into `memory`. */
void verdict_read(lua_State *lua, struct hook_memory *memory, struct hook_verdict *verdict);
void verdict_read_decision(lua_State *lua, struct hook_decision *decision);

#endif
