#include "lua/script.h"

#include <errno.h>
#include <lauxlib.h>
#include <string.h>

#include "core/utf8.h"
#include "lua/sandbox.h"
#include "lua/verdict.h"
#include "os/time.h"

/* Compiling takes no instructions, and its memory is not the script's choice but its length. */
static const struct budget_limits script_compile_limits = {.timeout_ms = 100, .memory = 8u << 20};

/* Key of the registry by address: the function that is called. */
static const char script_function_key;

const char *script_name(enum hook_script which)
{
    static const char *const names[HOOK_SCRIPTS] = {
        [HOOK_ON_ENQUEUE] = "on_enqueue",
        [HOOK_ON_FAILURE] = "on_failure",
    };
    return names[which];
}

void script_init(struct script *script, enum hook_script which, const struct budget_limits *limits,
                 const struct hook_services *services, void (*log)(void *owner, struct str text),
                 void *owner)
{
    uint64_t words[2];

    time_entropy(words);
    *script = (struct script){.which = which, .limits = limits};
    script->helpers =
        (struct helpers){.services = services, .random = words[0] | 1, .log = log, .owner = owner};
}

void script_close(struct script *script)
{
    if (script->lua)
        lua_close(script->lua);
    script->lua = NULL;
    script->source = (struct message_source){.message_table = NULL};
}

/* --- errors --- */

/* One line of UTF-8, as an error of ours must be, that begins with the script's name. */
static int script_set_error(struct err *err, const char *name, const char *text)
{
    bool named = strncmp(text, name, strlen(name)) == 0;

    err_set(err, 0, "%s%s%s", named ? "" : name, named ? "" : ": ", text);
    if (!err)
        return -1;
    for (char *at = err->text; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = ' ';
    if (!utf8_valid(str_from_c(err->text)))
        for (char *at = err->text; *at; at++)
            if (*at & 0x80)
                *at = '?';
    return -1;
}

/* The error of a protected call, whose value is on top; it is popped. */
static int script_take_error(struct script *script, int status, struct err *err)
{
    lua_State *lua = script->lua;
    const char *name = script_name(script->which);
    char text[ERR_TEXT_SIZE];

    if (script->budget.breach == BUDGET_KEPT && script->budget.refused && status == LUA_ERRMEM)
        script->budget.breach = BUDGET_MEMORY;
    if (script->budget.breach != BUDGET_KEPT) {
        budget_describe(&script->budget, text, sizeof(text));
        script_set_error(err, name, text);
    } else if (lua_type(lua, -1) == LUA_TSTRING) {
        script_set_error(err, name, lua_tostring(lua, -1));
    } else {
        err_set(err, 0, "%s: the error is a %s", name, luaL_typename(lua, -1));
    }
    lua_settop(lua, 0);
    return -1;
}

/* Runs a C function with `context` in protected mode, under the limits of a call. */
static int script_protect(struct script *script, const struct budget_limits *limits,
                          lua_CFunction function, void *context, struct err *err)
{
    script->budget.limits = limits;
    budget_start(&script->budget);
    lua_pushcfunction(script->lua, function);
    lua_pushlightuserdata(script->lua, context);

    int status = lua_pcall(script->lua, 1, 0, 0);
    budget_stop(&script->budget);
    script->source = (struct message_source){.message_table = NULL};
    if (status == LUA_OK && script->budget.breach == BUDGET_KEPT)
        return 0;

    if (status == LUA_OK)
        lua_pushnil(script->lua);
    script_take_error(script, status, err);
    /* A state that met a limit may be halfway through anything. */
    if (script->budget.breach != BUDGET_KEPT || script->budget.refused)
        script_close(script);
    return -1;
}

/* --- loading --- */

struct script_source {
    struct script *script;
    struct str text;
};

static int script_set_up(lua_State *lua)
{
    struct script *script = lua_touserdata(lua, 1);

    sandbox_open(lua);
    message_open(lua, &script->source);
    helpers_open(lua, &script->helpers);
    return 0;
}

static const char *script_read(lua_State *lua, void *data, size_t *size)
{
    struct str *rest = data;
    const char *piece = (const char *)rest->data;

    budget_check(lua);
    *size = rest->size < 1024 ? rest->size : 1024;
    *rest = str_of(rest->data + *size, rest->size - *size);
    return piece;
}

static int script_compile(lua_State *lua)
{
    struct script_source *source = lua_touserdata(lua, 1);
    struct str rest = source->text;
    const char *name = lua_pushfstring(lua, "=%s", script_name(source->script->which));

    if (lua_load(lua, script_read, &rest, name, "t") != LUA_OK)
        return lua_error(lua);
    lua_rawsetp(lua, LUA_REGISTRYINDEX, &script_function_key);
    return 0;
}

static int script_run_chunk(lua_State *lua)
{
    struct script *script = lua_touserdata(lua, 1);
    const char *name = script_name(script->which);

    lua_rawgetp(lua, LUA_REGISTRYINDEX, &script_function_key);
    lua_call(lua, 0, 0);
    lua_rawgeti(lua, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    lua_pushstring(lua, name);
    if (lua_rawget(lua, -2) != LUA_TFUNCTION)
        luaL_error(lua, "%s: the script defines no function %s", name, name);
    lua_rawsetp(lua, LUA_REGISTRYINDEX, &script_function_key);
    return 0;
}

static int script_fill(struct script *script, struct str source, struct err *err)
{
    struct script_source argument = {script, source};

    if (script_protect(script, &script_compile_limits, script_set_up, script, err) < 0 ||
        script_protect(script, &script_compile_limits, script_compile, &argument, err) < 0)
        return -1;
    lua_gc(script->lua, LUA_GCCOLLECT);
    script->base = script->budget.used;
    return script_protect(script, script->limits, script_run_chunk, script, err);
}

int script_load(struct script *script, struct str source, struct err *err)
{
    const char *name = script_name(script->which);

    if (source.size > SCRIPT_SIZE_MAX)
        return err_set(err, 0, "%s: longer than %u bytes", name, SCRIPT_SIZE_MAX);
    script->lua = budget_open(&script->budget, script->limits);
    if (!script->lua)
        return err_set(err, ENOMEM, "%s: out of memory", name);
    if (script_fill(script, source, err) == 0)
        return 0;
    script_close(script);
    return -1;
}

/* --- calling --- */

struct script_enqueue {
    struct script *script;
    const struct hook_message *message;
    struct hook_memory *memory;
    struct hook_verdict verdict;
};

struct script_failure {
    struct script *script;
    const struct hook_failure *failure;
    struct hook_decision decision;
};

static int script_run_enqueue(lua_State *lua)
{
    struct script_enqueue *call = lua_touserdata(lua, 1);

    lua_rawgetp(lua, LUA_REGISTRYINDEX, &script_function_key);
    message_push_enqueued(lua, &call->script->source, call->message);
    lua_call(lua, 1, 1);
    verdict_read(lua, call->memory, &call->verdict);
    return 0;
}

static int script_run_failure(lua_State *lua)
{
    struct script_failure *call = lua_touserdata(lua, 1);

    lua_rawgetp(lua, LUA_REGISTRYINDEX, &script_function_key);
    message_push_failed(lua, &call->script->source, call->failure);
    lua_call(lua, 1, 1);
    verdict_read_decision(lua, &call->decision);
    return 0;
}

int script_on_enqueue(struct script *script, const struct hook_message *message,
                      struct hook_memory *memory, struct hook_verdict *verdict, struct err *err)
{
    struct script_enqueue call = {script, message, memory, *verdict};

    if (script_protect(script, script->limits, script_run_enqueue, &call, err) < 0)
        return -1;
    *verdict = call.verdict;
    return 0;
}

int script_on_failure(struct script *script, const struct hook_failure *failure,
                      struct hook_decision *decision, struct err *err)
{
    struct script_failure call = {script, failure, *decision};

    if (script_protect(script, script->limits, script_run_failure, &call, err) < 0)
        return -1;
    *decision = call.decision;
    return 0;
}

bool script_keeps_too_much(struct script *script)
{
    size_t most = script->base + script->limits->memory;

    if (script->budget.used <= most)
        return false;
    lua_gc(script->lua, LUA_GCCOLLECT);
    if (script->budget.used <= most)
        return false;
    script_close(script);
    return true;
}
