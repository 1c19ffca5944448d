/*
 * pattern - matches Lua patterns (manual, 6.4.1) and charges the budget for each step, so that a
 * pattern that tries everything in vain meets the limits like any loop.
 */
#ifndef FILAD_LUA_PATTERN_H
#define FILAD_LUA_PATTERN_H

#include <lua.h>
#include <stddef.h>

#define PATTERN_CAPTURES_MAX 32

struct pattern_capture {
    const char *start;
    ptrdiff_t size; /* or PATTERN_OPEN, PATTERN_POSITION */
};

#define PATTERN_OPEN (-1)     /* its end has not been met yet */
#define PATTERN_POSITION (-2) /* "()": the position itself */

struct pattern {
    lua_State *lua;
    const char *subject, *subject_end;
    const char *end; /* of the pattern */
    int depth;       /* calls of the matcher in each other */
    unsigned steps;  /* until the budget is charged again */
    int count;       /* captures begun */
    struct pattern_capture captures[PATTERN_CAPTURES_MAX];
};

/* The strings outlive it. */
void pattern_init(struct pattern *pattern, lua_State *lua, const char *subject, size_t size,
                  const char *end);
/* The end of the match of `text` (up to pattern->end) that begins at `at`, NULL when there is none.
 * Raises an error when the pattern is malformed. An anchor is the caller's matter. */
const char *pattern_match(struct pattern *pattern, const char *at, const char *text);

/* Pushes all captures of a match, or the whole of it when there are none and `at` is not NULL;
 * returns how many. */
int pattern_push_captures(const struct pattern *pattern, const char *at, const char *end);
/* Pushes capture `index` from 0; 0 is the whole match when there are no captures. */
void pattern_push_capture(const struct pattern *pattern, int index, const char *at,
                          const char *end);

#endif
