/*
 * message - what a script gets as `msg`: a table whose headers are looked up in the frame when they
 * are asked for, and whose payload is copied only when it is touched. A script that keeps either
 * table sees nothing in it any more once the call is over.
 */
#ifndef FILAD_LUA_MESSAGE_H
#define FILAD_LUA_MESSAGE_H

#include <lua.h>

#include "hook/hook.h"

/* What the tables of the present call read from; zeros when there is none. */
struct message_source {
    const void *message_table, *headers_table; /* by lua_topointer */
    struct str headers;
    struct str payload;
};

/* Prepares a new state; `source` outlives it. */
void message_open(lua_State *lua, struct message_source *source);

/* Push the table and let `source` follow it. Raise errors. */
void message_push_enqueued(lua_State *lua, struct message_source *source,
                           const struct hook_message *message);
void message_push_failed(lua_State *lua, struct message_source *source,
                         const struct hook_failure *failure);

/* Puts all headers into the table at `index` if it is one whose headers are still in the frame, so
 * that functions without regard for metamethods find them. */
void message_fill(lua_State *lua, int index);

#endif
