/*
 * helpers - the table `fila` of scripts: what they may ask of the broker.
 */
#ifndef FILAD_LUA_HELPERS_H
#define FILAD_LUA_HELPERS_H

#include <lua.h>

#include "core/str.h"
#include "hook/hook.h"

struct helpers {
    const struct hook_services *services;
    uint64_t random; /* state of a generator; never 0 */
    /* Takes a line of fila.log; the text lives during the call. NULL: nobody does. */
    void (*log)(void *owner, struct str text);
    void *owner;
};

/* Sets the global `fila`; `helpers` outlives the state. Raises errors. */
void helpers_open(lua_State *lua, struct helpers *helpers);

#endif
