#include "unit/modules/scripted.h"

#include "os/log.h"
#include "os/time.h"

/*
 * Scripts that mean harm. Each ends within its limits, and afterwards the process is well and a
 * good script works.
 */

enum outcome {
    FAILS,   /* the script is a failed one */
    REFUSED, /* and cannot be a queue's script at all */
    FINE,    /* it returns the key "fine" */
};

#define ENQUEUE(body) "function on_enqueue(msg) " body " end"
#define FINE_RESULT " return {fairness_key = 'fine'} "

static const struct {
    const char *name;
    enum outcome outcome;
    const char *source;
} cases[] = {
    /* endless loops */
    {"a loop", FAILS, ENQUEUE("while true do end")},
    {"a loop in the chunk", REFUSED, "while true do end"},
    {"a loop without instructions in its body", FAILS, ENQUEUE("::a:: goto a")},
    {"a numeric loop", FAILS, ENQUEUE("for i = 1, math.huge do end")},
    {"a loop in pcall in a loop", FAILS,
     ENQUEUE("while true do pcall(function() while true do end end) end")},
    {"pcall of pcall of a loop", FAILS,
     ENQUEUE("local function f() while true do end end "
             "while true do pcall(pcall, pcall, pcall, f) end")},
    {"a loop in the handler of xpcall", FAILS,
     ENQUEUE("xpcall(function() while true do end end, function() while true do end end)")},
    {"a loop in the handler of an ordinary error", FAILS,
     ENQUEUE("xpcall(error, function() while true do end end)")},
    {"a handler that fails", FAILS,
     ENQUEUE("while true do xpcall(error, function() error('x') end) end")},
    {"a handler of a handler", FAILS,
     ENQUEUE("local function f() xpcall(function() while true do end end, f) end "
             "while true do xpcall(f, f) end")},
    {"xpcall with pcall as its handler", FAILS,
     ENQUEUE("while true do xpcall(function() while true do end end, pcall) end")},
    {"recursion", FAILS, ENQUEUE("local function f() return 1 + f() end f()")},
    {"tail calls", FAILS, ENQUEUE("local function f() return f() end f()")},
    {"recursion in pcall", FAILS,
     ENQUEUE("local function f() pcall(f) pcall(f) end while true do f() end")},
    {"mutual recursion through C", FAILS,
     ENQUEUE("local function f(s) return (s:gsub('.', f)) end while true do pcall(f, 'aa') end")},
    {"a loop in a metamethod", FAILS,
     ENQUEUE(
         "local t = setmetatable({}, {__index = function() while true do end end}) return t.x")},
    {"__index that asks itself", FAILS,
     ENQUEUE("local t t = setmetatable({}, {__index = function(_, k) return t[k] end}) "
             "while true do pcall(function() return t.x end) end")},
    {"a loop of __index tables", FAILS,
     ENQUEUE("local m = {} m.__index = setmetatable(m, m) local t = m return t.x.y")},
    {"__close that loops", FAILS,
     ENQUEUE("local x <close> = setmetatable({}, {__close = function() while true do end end}) "
             "error('x')")},
    {"many __close that loop", FAILS,
     ENQUEUE("local m = {__close = function() while true do end end} "
             "local function f(n) local x <close> = setmetatable({}, m) "
             "if n > 0 then return f(n - 1), 1 end while true do end end "
             "while true do pcall(f, 150) end")},
    {"__close that sets up another", FAILS,
     ENQUEUE("local m = {} m.__close = function() local y <close> = setmetatable({}, m) end "
             "local x <close> = setmetatable({}, m) error('x')")},
    {"__eq that loops", FAILS,
     ENQUEUE("local m = {__eq = function() while true do end end} "
             "return setmetatable({}, m) == setmetatable({}, m)")},
    {"__concat that loops", FAILS,
     ENQUEUE("return setmetatable({}, {__concat = function() while true do end end}) .. 'x'")},
    {"__len that loops", FAILS,
     ENQUEUE("return #setmetatable({}, {__len = function() while true do end end})")},
    {"__pairs that loops", FAILS,
     ENQUEUE("for _ in pairs(setmetatable({}, {__pairs = function() while true do end end})) "
             "do end")},
    {"__tostring that loops", FAILS,
     ENQUEUE("return tostring(setmetatable({}, {__tostring = function() while true do end end}))")},
    {"__call chains", FAILS,
     ENQUEUE("local t = {} setmetatable(t, {__call = function(...) return t(...) end}) t()")},
    {"an iterator without end", FAILS, ENQUEUE("for i in function() return 1 end do end")},

    /* errors */
    {"an error whose text loops", FAILS,
     ENQUEUE("error(setmetatable({}, {__tostring = function() while true do end end}))")},
    {"an error whose fields loop", FAILS,
     ENQUEUE("error(setmetatable({}, {__index = function() while true do end end}))")},
    {"an error that is nil", FAILS, ENQUEUE("error()")},
    {"an error that is a function", FAILS, ENQUEUE("error(error)")},
    {"an error that is a long text", FAILS, ENQUEUE("error(('x'):rep(100000))")},
    {"an error with control characters", FAILS, ENQUEUE("error('a\\nb\\27[2J\\0c\\xff')")},
    {"an error that is a number", FAILS, ENQUEUE("error(42)")},
    {"an error in the chunk", REFUSED, "error('no')"},
    {"assert without a message", FAILS, ENQUEUE("assert(false)")},

    /* results */
    {"a result with __index", FINE,
     ENQUEUE("return setmetatable({fairness_key = 'fine'}, "
             "{__index = function() while true do end end})")},
    {"throttle keys with __index", FINE,
     ENQUEUE("return {fairness_key = 'fine', throttle_keys = setmetatable({}, {__index = "
             "function() while true do end end, __len = function() return 1 << 40 end})}")},
    {"a million throttle keys that are none", FAILS,
     ENQUEUE("local t = {} for i = 1, 1000000 do t[i] = true end return {throttle_keys = t}")},
    {"a weight whose text loops", FINE,
     ENQUEUE("return {fairness_key = 'fine', weight = setmetatable({}, {__tostring = function() "
             "while true do end end})}")},

    /* memory */
    {"a table that grows", FAILS, ENQUEUE("local t = {} for i = 1, 1e9 do t[i] = {} end")},
    {"a text that doubles", FAILS, ENQUEUE("local s = 'x' while true do s = s .. s end")},
    {"a text that doubles in pcall", FAILS,
     ENQUEUE("local s = 'x' while true do pcall(function() s = s .. s end) end")},
    {"a long rep", FAILS, ENQUEUE("return ('x'):rep(1 << 40)")},
    {"a rep of all there is", FAILS, ENQUEUE("return ('x'):rep(math.maxinteger)")},
    {"a rep whose size overflows", FAILS, ENQUEUE("return ('xxxx'):rep(1 << 62)")},
    {"a rep of nothing", FINE, ENQUEUE("local s = (''):rep(math.maxinteger)" FINE_RESULT)},
    {"a rep of nothing with separators", FAILS, ENQUEUE("return (''):rep(1 << 50, ',')")},
    {"rep in pcall", FAILS, ENQUEUE("while true do pcall(string.rep, 'x', 1 << 40) end")},
    {"a wide format", FAILS, ENQUEUE("return ('%1000000d'):format(1)")},
    {"a format of a long text", FAILS,
     ENQUEUE("local s = ('x'):rep(100000) while true do local t = ('%s%s%s'):format(s, s, s) end")},
    {"table.concat of the same text", FAILS,
     ENQUEUE("local s, t = ('x'):rep(10000), {} for i = 1, 1000 do t[i] = s end "
             "return table.concat(t)")},
    {"table.concat of made up elements", FAILS,
     ENQUEUE("return table.concat(setmetatable({}, {__index = type}), '', 1, 1 << 50)")},
    {"gsub that makes much of little", FAILS,
     ENQUEUE("return (('x'):rep(10000):gsub('x', ('y'):rep(10000)))")},
    {"a table that is made too large", FAILS,
     ENQUEUE("return table.pack(table.unpack({}, 1, 1e7))")},
    {"unpack of much", FAILS, ENQUEUE("return {table.unpack({}, 1, 1e6)}")},
    {"unpack from end to end", FAILS,
     ENQUEUE("return table.unpack({}, math.mininteger, math.maxinteger)")},
    {"string.byte of much", FAILS,
     ENQUEUE("local s = ('x'):rep(400000) while true do pcall(string.byte, s, 1, -1) end")},
    {"string.pack of much", FAILS, ENQUEUE("return string.pack('c2000000000', '')")},
    {"utf8.char of much", FAILS,
     ENQUEUE("local t = {} for i = 1, 9000 do t[i] = 0x10ffff end "
             "while true do local s = utf8.char(table.unpack(t)) end")},
    {"a deep stack", FAILS,
     ENQUEUE("local function f(...) return f(1, 2, 3, 4, 5, 6, 7, 8, ...) end f()")},
    {"closures", FAILS,
     ENQUEUE("local f for i = 1, 1e9 do local g = f f = function() return g end end")},
    {"memory in the chunk", REFUSED, "t = {} for i = 1, 1e9 do t[i] = {i} end"},

    /* functions in C that take long */
    {"a pattern that tries everything", FAILS,
     ENQUEUE("local s = ('a'):rep(200) return s:find(('a*'):rep(30) .. 'b')")},
    {"the same lazily", FAILS,
     ENQUEUE("local s = ('a'):rep(200) return s:find(('a-'):rep(30) .. 'b')")},
    {"the same with optional items", FAILS,
     ENQUEUE("local s = ('a'):rep(60) return s:match(('a?'):rep(60) .. ('a'):rep(60) .. 'b')")},
    {"the same in pcall", FAILS,
     ENQUEUE("local s = ('a'):rep(200) while true do pcall(s.find, s, ('.-'):rep(20) .. 'b') end")},
    {"the same with gmatch", FAILS,
     ENQUEUE("for w in ('a'):rep(200):gmatch(('a*'):rep(30) .. 'b') do end")},
    {"the same with gsub", FAILS,
     ENQUEUE("return (('a'):rep(200):gsub(('a*'):rep(30) .. 'b', ''))")},
    {"balanced text from every place", FAILS, ENQUEUE("return (('('):rep(200000):find('%b()'))")},
    {"a long set", FAILS,
     ENQUEUE("local p = '[' .. ('x'):rep(100000) .. ']' local s = ('a'):rep(100000) "
             "return s:find(p)")},
    {"back references", FAILS, ENQUEUE("return (('a'):rep(20000):find('(a*)%1%1b'))")},
    {"a deep pattern", FAILS, ENQUEUE("return (('a'):rep(1000):find(('(a'):rep(1000)))")},
    {"many captures", FAILS, ENQUEUE("return (('a'):rep(40):find(('(a)'):rep(40)))")},
    {"gsub with an empty pattern in a loop", FAILS,
     ENQUEUE("local s = ('x'):rep(50000) while true do s:gsub('', '') end")},
    {"plain find of a long text", FAILS,
     ENQUEUE("local s = ('a'):rep(200000) local p = ('a'):rep(100000) .. 'b' "
             "while true do s:find(p, 1, true) end")},
    {"comparing long texts of zeros", FAILS,
     ENQUEUE("local a, b = ('\\0'):rep(150000) .. 'a', ('\\0'):rep(150000) .. 'b' "
             "while true do local c = a < b end")},
    {"sorting long texts of zeros", FAILS,
     ENQUEUE("local a, b, t = ('\\0'):rep(150000) .. 'a', ('\\0'):rep(150000) .. 'b', {} "
             "for i = 1, 1000 do t[i] = i % 2 == 0 and a or b end table.sort(t)")},
    {"hashing long texts", FAILS,
     ENQUEUE("local s, t = ('x'):rep(100000), {} while true do local k = s .. '' t[k] = nil end")},
    {"lower of a long text", FAILS,
     ENQUEUE("local s = ('x'):rep(200000) while true do s:lower() end")},
    {"reverse of a long text", FAILS,
     ENQUEUE("local s = ('x'):rep(200000) while true do s:reverse() end")},
    {"a number of many digits", FAILS,
     ENQUEUE("local s = ('9'):rep(200000) while true do tonumber(s) end")},
    {"arithmetic on many digits", FAILS,
     ENQUEUE("local s = ('9'):rep(200000) while true do local x = s + 1 end")},
    {"sort of made up length", FAILS,
     ENQUEUE("table.sort(setmetatable({}, {__len = function() return 1 << 30 end, "
             "__index = type, __newindex = rawequal}))")},
    {"sort with a comparison that lies", FAILS,
     ENQUEUE("local t = {} for i = 1, 5000 do t[i] = i end "
             "while true do table.sort(t, function() return true end) end")},
    {"sort with a comparison that loops", FAILS,
     ENQUEUE("table.sort({3, 2, 1}, function() while true do end end)")},
    {"table.move of everything", FAILS, ENQUEUE("return table.move({}, 1, 1 << 60, 2)")},
    {"table.insert in front of a made up length", FAILS,
     ENQUEUE("table.insert(setmetatable({}, {__len = function() return 1 << 50 end}), 1, 'x')")},
    {"table.remove from a made up length", FAILS,
     ENQUEUE("table.remove(setmetatable({}, {__len = function() return 1 << 50 end}), 1)")},
    {"next over an emptied table", FAILS,
     ENQUEUE("local t = {} for i = 1, 8000 do t['k' .. i] = 1 end "
             "for i = 1, 8000 do t['k' .. i] = nil end while true do next(t) end")},
    {"a table that is made anew with each insertion", FAILS,
     ENQUEUE("local t = {} for i = 1, 8191 do t[i + 0.5] = i end "
             "local i = 1 while true do t[i + 0.5] = nil t[i + 8191.5] = 1 i = i + 1 end")},
    {"select of much", FAILS,
     ENQUEUE("local t = {} for i = 1, 9000 do t[i] = i end "
             "local function f(...) while true do local x = select(2, ...) end end "
             "f(table.unpack(t))")},
    {"rate_limit_keys without end", FAILS,
     ENQUEUE("fila.helpers.rate_limit_keys(msg, setmetatable({}, {__index = type}))")},
    {"log in a loop", FAILS, ENQUEUE("while true do fila.log('x') end")},
    {"get in a loop", FAILS, ENQUEUE("while true do fila.get('x') end")},

    /* the garbage collector */
    {"__gc", FAILS, ENQUEUE("setmetatable({}, {__gc = function() while true do end end})")},
    {"__gc that is added later", FINE,
     ENQUEUE("local m = {} for i = 1, 100 do setmetatable({}, m) end "
             "m.__gc = function() while true do end end "
             "for i = 1, 100 do setmetatable({}, {}) end" FINE_RESULT)},
    {"weak tables", FAILS, ENQUEUE("setmetatable({}, {__mode = 'k'})")},
    {"garbage", FAILS, ENQUEUE("while true do local t = {{}, {}, {}} end")},
    {"a long chain of tables", FAILS, ENQUEUE("local t = {} while true do t = {t} end")},
    {"a list that is collected again and again", FAILS,
     ENQUEUE("local t = {} for i = 1, 5000 do t[i] = {} end "
             "while true do pcall(string.rep, 'x', 700000) end")},

    /* ways out */
    {"what is not there", FINE,
     ENQUEUE("local absent = {'io', 'os', 'load', 'loadstring', 'loadfile', 'dofile', 'require', "
             "'package', 'debug', 'print', 'collectgarbage', 'coroutine', 'warn', 'rawio'} "
             "for _, name in ipairs(absent) do assert(_G[name] == nil, name) end "
             "assert(string.dump == nil)" FINE_RESULT)},
    {"byte code", REFUSED, "\x1bLuaT"},
    {"the metatable of texts", FINE,
     ENQUEUE("assert(getmetatable('') == false) assert(not pcall(setmetatable, '', {}))"
             "assert(not pcall(function() getmetatable('').__index = nil end))" FINE_RESULT)},
    {"changing a library", FINE,
     ENQUEUE("for _, t in ipairs{string, table, math, utf8, fila, fila.helpers} do "
             "assert(not pcall(function() t.x = 1 end)) assert(not pcall(rawset, t, 'x', 1)) "
             "assert(not pcall(setmetatable, t, {})) assert(getmetatable(t) == false) "
             "assert(not pcall(table.insert, t, 1)) assert(t.x == nil) end" FINE_RESULT)},
    {"a library through pairs", FINE,
     ENQUEUE("for k, v in pairs(string) do assert(string[k] == v) end "
             "local f, t, k = pairs(math) assert(t == math)" FINE_RESULT)},
    {"a library's functions given another table", FINE,
     ENQUEUE("local f = pairs(string) local k, v = f({secret = 1}) assert(string[k] == "
             "v)" FINE_RESULT)},
    {"addresses", FINE,
     ENQUEUE("assert(tostring({}) == 'table' and tostring(print) == 'nil') "
             "assert(tostring(pcall) == 'function') assert(('%s'):format({}) == 'table') "
             "assert(not pcall(string.format, '%p', {})) "
             "assert(not pcall(string.format, '%-20p', 'x')) "
             "assert(tostring(setmetatable({}, {__name = 'n'})) == 'table') "
             "assert(math.randomseed() == nil)" FINE_RESULT)},
    {"getmetatable gives nothing that counts", FINE,
     ENQUEUE("local m = {} local t = setmetatable({}, m) assert(getmetatable(t) == m) "
             "m.__index = function() while true do end end assert(t.x == nil)" FINE_RESULT)},
    {"a protected metatable", FINE,
     ENQUEUE("local t = setmetatable({}, {__metatable = 'no'}) assert(getmetatable(t) == 'no') "
             "assert(not pcall(setmetatable, t, {}))" FINE_RESULT)},
    {"a global called _ENV", FINE, ENQUEUE("local _ENV = {} x = 1 return {fairness_key = 'fine'}")},
    {"globals in place of functions", FINE,
     "pcall = nil error = nil string = nil fila = nil " ENQUEUE(
         "return {fairness_key = ('FINE'):lower()}")},
    {"on_enqueue that replaces itself", FINE, ENQUEUE("on_enqueue = nil" FINE_RESULT)},

    /* texts that are hard to compile */
    {"deep parentheses", REFUSED, NULL},
    {"a chain of concatenations", REFUSED, NULL},
    {"many locals", REFUSED, NULL},
    {"nothing", REFUSED, ""},
    {"another function", REFUSED, "function on_failure() end"},
    {"a number in place of the function", REFUSED, "on_enqueue = 3"},
    {"a table that can be called", REFUSED,
     "on_enqueue = setmetatable({}, {__call = function() return {} end})"},
    {"a function found by __index of the globals", REFUSED,
     "setmetatable(_G, {__index = function() return function() return {} end end})"},
};

#define CASES (sizeof(cases) / sizeof(cases[0]))

/* Those too long to be written down. */
static char *make_source(const char *name)
{
    struct buf text;

    buf_init(&text, 0);
    if (strcmp(name, "deep parentheses") == 0) {
        buf_append_c(&text, "x = ");
        for (int i = 0; i < 1000; i++)
            buf_append_c(&text, "(");
    } else if (strcmp(name, "a chain of concatenations") == 0) {
        buf_append_c(&text, "x = ''");
        for (int i = 0; i < 1000; i++)
            buf_append_c(&text, "..''");
    } else {
        for (int i = 0; i < 300; i++)
            buf_printf(&text, "local a%d ", i);
    }
    buf_append_u8(&text, 0);
    assert_false(text.failed);
    return (char *)text.data;
}

/* Of processor time: a call has 10 ms, and a last instruction may take some. Sanitizers make our
 * part slow. */
#if defined(__SANITIZE_ADDRESS__)
#define CALL_MS 200
#else
#define CALL_MS 60
#endif

static struct hook_verdict enqueue_in_time(struct scripted *scripted, const char *name)
{
    uint64_t start = time_thread_cpu_ns();
    struct hook_verdict verdict = scripted_enqueue(scripted);
    uint64_t ms = (time_thread_cpu_ns() - start) / 1000000;

    if (getenv("LUA_TIMES"))
        print_message("%4llu ms  %s\n", (unsigned long long)ms, name);
    if (ms > CALL_MS)
        fail_msg("%s: took %llu ms", name, (unsigned long long)ms);
    return verdict;
}

static void run_case(struct scripted *scripted, size_t index)
{
    const char *name = cases[index].name;
    char *made = cases[index].source ? NULL : make_source(name);
    const char *source = made ? made : cases[index].source;
    struct err err;
    int checked = hook_set_check_script(scripted->set, HOOK_ON_ENQUEUE, str_from_c(source), &err);

    if ((checked < 0) != (cases[index].outcome == REFUSED))
        fail_msg("%s: the check said %s", name, checked < 0 ? err.text : "nothing");
    scripted_script(scripted, HOOK_ON_ENQUEUE, *source ? source : " ");
    for (int i = 0; i < 4; i++) {
        scripted_close_breaker(scripted);
        struct hook_verdict verdict = enqueue_in_time(scripted, name);

        if (verdict.failed != (cases[index].outcome != FINE))
            fail_msg("%s: %s", name, verdict.failed ? "failed" : "did not fail");
        if (!verdict.failed && !str_equal(verdict.fairness_key, STR("fine")))
            fail_msg("%s: the key is %.*s", name, STR_PRINT(verdict.fairness_key));
        if (verdict.failed)
            assert_true(str_equal(verdict.fairness_key, STR("default")));
    }

    /* The state is given up or still good, and so is the process. */
    scripted_close_breaker(scripted);
    scripted_script(scripted, HOOK_ON_ENQUEUE,
                    ENQUEUE("return {fairness_key = msg.headers.tenant, weight = 2}"));
    struct hook_verdict verdict = scripted_enqueue(scripted);
    assert_false(verdict.failed);
    assert_true(str_equal(verdict.fairness_key, STR("acme")));
    assert_int_equal(verdict.weight, 2);
    free(made);
}

static void test_hostile_scripts(void **state)
{
    static const char *const headers[] = {"tenant", "acme", NULL};
    struct scripted scripted;

    (void)state;
    log_set_level(LOG_ERROR);
    assert_in_range(CASES, 60, 1000);
    scripted_start(&scripted, "lua: {circuit_breaker: {threshold: 1000}}");
    scripted_headers(&scripted, headers);
    for (size_t i = 0; i < CASES; i++)
        run_case(&scripted, i);
    scripted_stop(&scripted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hostile_scripts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
