#include "lua/pattern.h"

#include <ctype.h>
#include <lauxlib.h>
#include <stdbool.h>
#include <string.h>

#include "lua/budget.h"

#define PATTERN_DEPTH_MAX 200
#define PATTERN_ESCAPE '%'
/* The budget is charged for so many steps at once; one takes a fraction of an instruction's time.
 */
#define PATTERN_STEPS 1024
#define PATTERN_STEPS_PER_INSTRUCTION 16

void pattern_init(struct pattern *pattern, lua_State *lua, const char *subject, size_t size,
                  const char *end)
{
    pattern->lua = lua;
    pattern->subject = subject;
    pattern->subject_end = subject + size;
    pattern->end = end;
    pattern->depth = 0;
    pattern->steps = 0;
    pattern->count = 0;
}

static void pattern_step(struct pattern *pattern, size_t steps)
{
    pattern->steps += (unsigned)steps;
    if (pattern->steps < PATTERN_STEPS)
        return;
    budget_charge(pattern->lua, pattern->steps / PATTERN_STEPS_PER_INSTRUCTION);
    pattern->steps = 0;
}

/* --- one character --- */

static bool pattern_class(unsigned char c, char name)
{
    bool found;

    switch (tolower((unsigned char)name)) {
    case 'a':
        found = isalpha(c) != 0;
        break;
    case 'c':
        found = iscntrl(c) != 0;
        break;
    case 'd':
        found = isdigit(c) != 0;
        break;
    case 'g':
        found = isgraph(c) != 0;
        break;
    case 'l':
        found = islower(c) != 0;
        break;
    case 'p':
        found = ispunct(c) != 0;
        break;
    case 's':
        found = isspace(c) != 0;
        break;
    case 'u':
        found = isupper(c) != 0;
        break;
    case 'w':
        found = isalnum(c) != 0;
        break;
    case 'x':
        found = isxdigit(c) != 0;
        break;
    case 'z': /* of older versions of Lua, which had no zeros in patterns */
        found = c == 0;
        break;
    default:
        return (unsigned char)name == c;
    }
    return isupper((unsigned char)name) ? !found : found;
}

/* Behind the single character class, set or character that begins at `text`. */
static const char *pattern_item_end(struct pattern *pattern, const char *text)
{
    if (*text == PATTERN_ESCAPE) {
        if (text + 1 == pattern->end)
            luaL_error(pattern->lua, "malformed pattern: ends with '%%'");
        return text + 2;
    }
    if (*text++ != '[')
        return text;
    if (text < pattern->end && *text == '^')
        text++;
    /* A bracket in the first place is an ordinary character. */
    for (bool first = true; first || text >= pattern->end || *text != ']'; first = false) {
        if (text >= pattern->end)
            luaL_error(pattern->lua, "malformed pattern: missing ']'");
        text += *text == PATTERN_ESCAPE ? 2 : 1;
    }
    return text + 1;
}

/* `set` begins with its bracket, `last` is its closing one. */
static bool pattern_set(unsigned char c, const char *set, const char *last)
{
    bool found = true;

    if (*++set == '^') {
        found = false;
        set++;
    }
    for (; set < last; set++) {
        if (*set == PATTERN_ESCAPE) {
            if (pattern_class(c, *++set))
                return found;
        } else if (set + 2 < last && set[1] == '-') {
            if ((unsigned char)set[0] <= c && c <= (unsigned char)set[2])
                return found;
            set += 2;
        } else if ((unsigned char)*set == c) {
            return found;
        }
    }
    return !found;
}

static bool pattern_single(const struct pattern *pattern, const char *at, const char *item,
                           const char *item_end)
{
    if (at >= pattern->subject_end)
        return false;
    switch (*item) {
    case '.':
        return true;
    case PATTERN_ESCAPE:
        return pattern_class((unsigned char)*at, item[1]);
    case '[':
        return pattern_set((unsigned char)*at, item, item_end - 1);
    default:
        return *item == *at;
    }
}

/* --- special items --- */

/* %bxy: behind the balanced text, NULL when there is none. */
static const char *pattern_balanced(struct pattern *pattern, const char *at, const char *text)
{
    if (pattern->end - text < 4)
        luaL_error(pattern->lua, "malformed pattern: missing arguments to '%%b'");
    if (at >= pattern->subject_end || *at != text[2])
        return NULL;

    size_t open = 1;
    while (++at < pattern->subject_end) {
        pattern_step(pattern, 1);
        if (*at == text[3]) {
            if (--open == 0)
                return at + 1;
        } else if (*at == text[2]) {
            open++;
        }
    }
    return NULL;
}

/* %f[set] with the set at `set`: whether `at` is where it begins to match. */
static bool pattern_frontier(struct pattern *pattern, const char *at, const char *set,
                             const char *set_end)
{
    char before = at == pattern->subject ? '\0' : at[-1];
    char after = at == pattern->subject_end ? '\0' : *at;

    return !pattern_set((unsigned char)before, set, set_end - 1) &&
           pattern_set((unsigned char)after, set, set_end - 1);
}

/* %1 to %9: behind the text that equals the capture. */
static const char *pattern_back_reference(struct pattern *pattern, const char *at, char digit)
{
    int index = digit - '1';

    if (index < 0 || index >= pattern->count || pattern->captures[index].size == PATTERN_OPEN)
        luaL_error(pattern->lua, "invalid capture index %%%d in pattern", index + 1);

    const struct pattern_capture *capture = &pattern->captures[index];
    size_t size = capture->size < 0 ? 0 : (size_t)capture->size;

    pattern_step(pattern, size / 16);
    if ((size_t)(pattern->subject_end - at) < size || memcmp(capture->start, at, size) != 0)
        return NULL;
    return at + size;
}

static const char *pattern_capture_begin(struct pattern *pattern, const char *at, const char *text,
                                         ptrdiff_t kind)
{
    if (pattern->count == PATTERN_CAPTURES_MAX)
        luaL_error(pattern->lua, "too many captures");
    pattern->captures[pattern->count++] = (struct pattern_capture){at, kind};

    const char *end = pattern_match(pattern, at, text);
    if (!end)
        pattern->count--;
    return end;
}

static const char *pattern_capture_end(struct pattern *pattern, const char *at, const char *text)
{
    int index = pattern->count - 1;

    while (index >= 0 && pattern->captures[index].size != PATTERN_OPEN)
        index--;
    if (index < 0)
        luaL_error(pattern->lua, "invalid pattern capture");
    pattern->captures[index].size = at - pattern->captures[index].start;

    const char *end = pattern_match(pattern, at, text);
    if (!end)
        pattern->captures[index].size = PATTERN_OPEN;
    return end;
}

/* --- repetitions --- */

static const char *pattern_longest(struct pattern *pattern, const char *at, const char *item,
                                   const char *item_end)
{
    size_t cost = 1 + (size_t)(item_end - item) / 8;
    const char *last = at;

    while (pattern_single(pattern, last, item, item_end)) {
        pattern_step(pattern, cost);
        last++;
    }
    for (; last >= at; last--) {
        const char *end = pattern_match(pattern, last, item_end + 1);

        if (end)
            return end;
    }
    return NULL;
}

static const char *pattern_shortest(struct pattern *pattern, const char *at, const char *item,
                                    const char *item_end)
{
    size_t cost = 1 + (size_t)(item_end - item) / 8;

    for (;; at++) {
        const char *end = pattern_match(pattern, at, item_end + 1);

        if (end)
            return end;
        pattern_step(pattern, cost);
        if (!pattern_single(pattern, at, item, item_end))
            return NULL;
    }
}

/* --- the matcher --- */

/* What an item of the pattern leads to. */
enum pattern_step {
    PATTERN_DONE, /* `at` is the result */
    PATTERN_NEXT, /* go on at `at` with `text` */
};

/* A single character with what stands behind it: ? * + - or nothing. */
static enum pattern_step pattern_ordinary(struct pattern *pattern, const char **at,
                                          const char **text)
{
    const char *item = *text, *item_end = pattern_item_end(pattern, item);
    char repetition = item_end < pattern->end ? *item_end : '\0';
    bool matches = pattern_single(pattern, *at, item, item_end);
    const char *end;

    pattern_step(pattern, (size_t)(item_end - item) / 8);
    switch (repetition) {
    case '?':
        if (matches && (end = pattern_match(pattern, *at + 1, item_end + 1)) != NULL) {
            *at = end;
            return PATTERN_DONE;
        }
        *text = item_end + 1;
        return PATTERN_NEXT;
    case '+':
        *at = matches ? pattern_longest(pattern, *at + 1, item, item_end) : NULL;
        return PATTERN_DONE;
    case '*':
        *at = pattern_longest(pattern, *at, item, item_end);
        return PATTERN_DONE;
    case '-':
        *at = pattern_shortest(pattern, *at, item, item_end);
        return PATTERN_DONE;
    default:
        *at = matches ? *at + 1 : NULL;
        *text = item_end;
        return *at ? PATTERN_NEXT : PATTERN_DONE;
    }
}

static enum pattern_step pattern_escaped(struct pattern *pattern, const char **at,
                                         const char **text)
{
    char what = *text + 1 < pattern->end ? (*text)[1] : '\0';

    if (what == 'b') {
        *at = pattern_balanced(pattern, *at, *text);
        *text += 4;
    } else if (what == 'f') {
        const char *set = *text + 2;

        if (set >= pattern->end || *set != '[')
            luaL_error(pattern->lua, "missing '[' after '%%f' in pattern");
        *text = pattern_item_end(pattern, set);
        pattern_step(pattern, (size_t)(*text - set) / 8);
        if (!pattern_frontier(pattern, *at, set, *text))
            *at = NULL;
    } else if (isdigit((unsigned char)what)) {
        *at = pattern_back_reference(pattern, *at, what);
        *text += 2;
    } else {
        return pattern_ordinary(pattern, at, text);
    }
    return *at ? PATTERN_NEXT : PATTERN_DONE;
}

static enum pattern_step pattern_item(struct pattern *pattern, const char **at, const char **text)
{
    bool last = *text + 1 == pattern->end;

    switch (**text) {
    case '(':
        *at = !last && (*text)[1] == ')'
                  ? pattern_capture_begin(pattern, *at, *text + 2, PATTERN_POSITION)
                  : pattern_capture_begin(pattern, *at, *text + 1, PATTERN_OPEN);
        return PATTERN_DONE;
    case ')':
        *at = pattern_capture_end(pattern, *at, *text + 1);
        return PATTERN_DONE;
    case '$':
        if (!last)
            return pattern_ordinary(pattern, at, text);
        if (*at != pattern->subject_end)
            *at = NULL;
        return PATTERN_DONE;
    case PATTERN_ESCAPE:
        return pattern_escaped(pattern, at, text);
    default:
        return pattern_ordinary(pattern, at, text);
    }
}

const char *pattern_match(struct pattern *pattern, const char *at, const char *text)
{
    if (++pattern->depth > PATTERN_DEPTH_MAX)
        luaL_error(pattern->lua, "pattern too complex");
    while (text != pattern->end) {
        pattern_step(pattern, 1);
        if (pattern_item(pattern, &at, &text) == PATTERN_DONE)
            break;
    }
    pattern->depth--;
    return at;
}

/* --- captures --- */

void pattern_push_capture(const struct pattern *pattern, int index, const char *at, const char *end)
{
    if (index >= pattern->count) {
        if (index != 0)
            luaL_error(pattern->lua, "invalid capture index %%%d", index + 1);
        lua_pushlstring(pattern->lua, at, (size_t)(end - at));
        return;
    }

    const struct pattern_capture *capture = &pattern->captures[index];
    if (capture->size == PATTERN_OPEN)
        luaL_error(pattern->lua, "unfinished capture");
    else if (capture->size == PATTERN_POSITION)
        lua_pushinteger(pattern->lua, capture->start - pattern->subject + 1);
    else
        lua_pushlstring(pattern->lua, capture->start, (size_t)capture->size);
}

int pattern_push_captures(const struct pattern *pattern, const char *at, const char *end)
{
    int count = pattern->count == 0 && at ? 1 : pattern->count;

    luaL_checkstack(pattern->lua, count, "too many captures");
    for (int i = 0; i < count; i++)
        pattern_push_capture(pattern, i, at, end);
    return count;
}
