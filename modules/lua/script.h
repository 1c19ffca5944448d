/*
 * script - one script of a queue in one worker: a Lua state of its own with the compiled chunk,
 * made when it is first called and again after a limit was met. Its memory is counted by itself,
 * and nothing another script does is seen in it.
 */
#ifndef FILAD_LUA_SCRIPT_H
#define FILAD_LUA_SCRIPT_H

#include <lua.h>

#include "hook/hook.h"
#include "lua/budget.h"
#include "lua/helpers.h"
#include "lua/message.h"

#define SCRIPT_SIZE_MAX 65536u /* bytes of a source */

struct script {
    enum hook_script which;
    const struct budget_limits *limits; /* outlives the script, as do the services */
    lua_State *lua;                     /* NULL: not made yet, or given up */
    struct budget budget;
    size_t base; /* bytes that the libraries and the compiled chunk take */
    struct message_source source;
    struct helpers helpers;
};

/* Makes no state yet. The address of a script stays. `log` takes what it logs, NULL: nobody does.
 */
void script_init(struct script *script, enum hook_script which, const struct budget_limits *limits,
                 const struct hook_services *services, void (*log)(void *owner, struct str text),
                 void *owner);
/* Gives the state up, and with it the script's globals. */
void script_close(struct script *script);

/* "on_enqueue" or "on_failure". */
const char *script_name(enum hook_script which);

/* Makes the state, compiles the source, runs the chunk and takes its function. -1 with
 * "on_enqueue:3: what is wrong" in `err`; there is no state then. */
int script_load(struct script *script, struct str source, struct err *err)
    __attribute__((warn_unused_result));

/* Call the function of a script that is loaded. -1 with line and reason in `err`; verdict and
 * decision are as before then, and after a limit was met the state is given up. */
int script_on_enqueue(struct script *script, const struct hook_message *message,
                      struct hook_memory *memory, struct hook_verdict *verdict, struct err *err)
    __attribute__((warn_unused_result));
int script_on_failure(struct script *script, const struct hook_failure *failure,
                      struct hook_decision *decision, struct err *err)
    __attribute__((warn_unused_result));

/* After a successful call: gives the state up when the globals hold more than a call may take, and
 * says so. */
bool script_keeps_too_much(struct script *script);

#endif
