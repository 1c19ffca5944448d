#include <stdio.h>
#include <unistd.h>

#include "unit/modules/scripted.h"

#include "os/log.h"
#include "os/time.h"

#define ENQUEUE(body) "function on_enqueue(msg) " body " end"
#define FAILURE(body) "function on_failure(msg) " body " end"

static const char *const some_headers[] = {"tenant", "acme", "weight", "3",   "a", "1",
                                           "b",      "2",    "a",      "one", NULL};

/* --- results --- */

static void test_key_weight_and_throttles(void **state)
{
    struct scripted scripted;

    (void)state;
    scripted_start(&scripted, "");
    scripted_headers(&scripted, some_headers);
    scripted_script(&scripted, HOOK_ON_ENQUEUE,
                    ENQUEUE("return {fairness_key = msg.headers.tenant, "
                            "weight = tonumber(msg.headers.weight), "
                            "throttle_keys = {'tenant:' .. msg.headers.tenant, 'all'}, "
                            "delay_ms = 1500}"));
    struct hook_verdict verdict = scripted_enqueue(&scripted);
    assert_false(verdict.failed);
    assert_true(str_equal(verdict.fairness_key, STR("acme")));
    assert_int_equal(verdict.weight, 3);
    assert_int_equal(verdict.throttle_count, 2);
    assert_true(str_equal(verdict.throttle_keys[0], STR("tenant:acme")));
    assert_true(str_equal(verdict.throttle_keys[1], STR("all")));
    assert_int_equal(verdict.delay_ms, 1500);
    assert_null(verdict.rejected.data);
    scripted_stop(&scripted);
}

/* The table of filad-lua(7). `key`, `weight`, `throttles` (joined by blanks), delay and reason are
 * what becomes of `fields`; reason NULL: not rejected; key NULL: the script has failed. */
static const struct {
    const char *fields, *key;
    uint32_t weight;
    const char *throttles;
    uint64_t delay_ms;
    const char *reason;
} results[] = {
    {"", "default", 1, "", 0, NULL},
    {"fairness_key = ''", "", 1, "", 0, NULL},
    {"fairness_key = 42", "42", 1, "", 0, NULL},
    {"fairness_key = 2.5", "2.5", 1, "", 0, NULL},
    {"fairness_key = true", "default", 1, "", 0, NULL},
    {"fairness_key = {}", "default", 1, "", 0, NULL},
    {"fairness_key = print", "default", 1, "", 0, NULL},
    {"fairness_key = '\\xff'", "default", 1, "", 0, NULL},
    {"fairness_key = 'gr\\u{fc}n'", "gr\u00fcn", 1, "", 0, NULL},
    {"fairness_key = ('k'):rep(1025)", NULL, 0, NULL, 0, NULL},
    {"weight = 0", "default", 0, "", 0, NULL},
    {"weight = 7", "default", 7, "", 0, NULL},
    {"weight = 2.9", "default", 2, "", 0, NULL},
    {"weight = '3'", "default", 3, "", 0, NULL},
    {"weight = '3.9'", "default", 3, "", 0, NULL},
    {"weight = '0x10'", "default", 16, "", 0, NULL},
    {"weight = 4294967295", "default", 4294967295u, "", 0, NULL},
    {"weight = 4294967296", "default", 1, "", 0, NULL},
    {"weight = -1", "default", 1, "", 0, NULL},
    {"weight = -0.5", "default", 0, "", 0, NULL},
    {"weight = 0/0", "default", 1, "", 0, NULL},
    {"weight = 1/0", "default", 1, "", 0, NULL},
    {"weight = math.mininteger", "default", 1, "", 0, NULL},
    {"weight = 'not_a_number'", "default", 1, "", 0, NULL},
    {"weight = true", "default", 1, "", 0, NULL},
    {"weight = {}", "default", 1, "", 0, NULL},
    {"throttle_keys = {}", "default", 1, "", 0, NULL},
    {"throttle_keys = {'a', 'b', 'a'}", "default", 1, "a b a", 0, NULL},
    {"throttle_keys = {'a', nil, 'b'}", "default", 1, "a", 0, NULL},
    {"throttle_keys = {'a', true, {}, 5, 'b'}", "default", 1, "a 5 b", 0, NULL},
    {"throttle_keys = {'a', '\\xff', 'b'}", "default", 1, "a b", 0, NULL},
    {"throttle_keys = {x = 'a'}", "default", 1, "", 0, NULL},
    {"throttle_keys = 42", "default", 1, "", 0, NULL},
    {"throttle_keys = 'a'", "default", 1, "", 0, NULL},
    {"throttle_keys = {('k'):rep(1025)}", NULL, 0, NULL, 0, NULL},
    {"throttle_keys = table.pack(('x'):rep(65):byte(1, -1))", NULL, 0, NULL, 0, NULL},
    {"delay_ms = 2500", "default", 1, "", 2500, NULL},
    {"delay_ms = 0.9", "default", 1, "", 0, NULL},
    {"delay_ms = '70'", "default", 1, "", 70, NULL},
    {"delay_ms = -5", "default", 1, "", 0, NULL},
    {"delay_ms = 0/0", "default", 1, "", 0, NULL},
    {"delay_ms = math.huge", "default", 1, "", HOOK_DELAY_MAX_MS, NULL},
    {"delay_ms = 1e300", "default", 1, "", HOOK_DELAY_MAX_MS, NULL},
    {"delay_ms = 'soon'", "default", 1, "", 0, NULL},
    {"delay_ms = {}", "default", 1, "", 0, NULL},
    {"reject = 'too much'", "default", 1, "", 0, "too much"},
    {"reject = ''", "default", 1, "", 0, "rejected"},
    {"reject = true", "default", 1, "", 0, "rejected"},
    {"reject = false", "default", 1, "", 0, NULL},
    {"reject = 404", "default", 1, "", 0, "404"},
    {"reject = '\\xff'", "default", 1, "", 0, "rejected"},
    {"reject = 'no', fairness_key = ('k'):rep(1025)", "default", 1, "", 0, "no"},
    {"reject = {}", NULL, 0, NULL, 0, NULL},
    {"unknown = 1, fairness_key = 'k'", "k", 1, "", 0, NULL},
};

static void test_each_type_of_result(void **state)
{
    struct scripted scripted;

    (void)state;
    log_set_level(LOG_ERROR);
    scripted_start(&scripted, "");
    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
        char source[300], throttles[300] = "";

        (void)snprintf(source, sizeof(source), ENQUEUE("return {%s}"), results[i].fields);
        scripted_close_breaker(&scripted);
        scripted_script(&scripted, HOOK_ON_ENQUEUE, source);
        struct hook_verdict verdict = scripted_enqueue(&scripted);
        for (uint16_t k = 0; k < verdict.throttle_count; k++) {
            size_t used = strlen(throttles);
            (void)snprintf(throttles + used, sizeof(throttles) - used, "%s%.*s", k ? " " : "",
                           STR_PRINT(verdict.throttle_keys[k]));
        }
        if (verdict.failed != (results[i].key == NULL))
            fail_msg("%s: %s", source, verdict.failed ? "failed" : "did not fail");
        if (verdict.failed)
            continue;
        if (!str_equal(verdict.fairness_key, str_from_c(results[i].key)) ||
            verdict.weight != results[i].weight || verdict.delay_ms != results[i].delay_ms ||
            strcmp(throttles, results[i].throttles) != 0)
            fail_msg("%s: %.*s %u [%s] %llu", source, STR_PRINT(verdict.fairness_key),
                     verdict.weight, throttles, (unsigned long long)verdict.delay_ms);
        if ((verdict.rejected.data == NULL) != (results[i].reason == NULL) ||
            (results[i].reason && !str_equal(verdict.rejected, str_from_c(results[i].reason))))
            fail_msg("%s: rejected with %.*s", source, STR_PRINT(verdict.rejected));
    }
    scripted_stop(&scripted);
}

static void test_longest_keys(void **state)
{
    struct scripted scripted;

    (void)state;
    scripted_start(&scripted, "");
    scripted_script(&scripted, HOOK_ON_ENQUEUE,
                    ENQUEUE("local t, k = {}, ('k'):rep(1024) for i = 1, 64 do t[i] = k end "
                            "return {fairness_key = k, throttle_keys = t, reject = nil}"));
    struct hook_verdict verdict = scripted_enqueue(&scripted);
    assert_false(verdict.failed);
    assert_int_equal(verdict.fairness_key.size, 1024);
    assert_int_equal(verdict.throttle_count, 64);
    assert_int_equal(verdict.throttle_keys[63].size, 1024);

    scripted_script(&scripted, HOOK_ON_ENQUEUE, ENQUEUE("return {reject = ('\u00fc'):rep(1000)}"));
    verdict = scripted_enqueue(&scripted);
    assert_int_equal(verdict.rejected.size, HOOK_REASON_MAX);
    scripted_stop(&scripted);
}

static void test_results_that_are_no_table(void **state)
{
    static const char *const values[] = {"",           "return",      "return nil",  "return 1",
                                         "return 'x'", "return true", "return print"};
    struct scripted scripted;

    (void)state;
    log_set_level(LOG_ERROR);
    scripted_start(&scripted, "");
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char source[100];

        (void)snprintf(source, sizeof(source), "%s function on_failure(msg) %s end", "", values[i]);
        scripted_close_breaker(&scripted);
        scripted_script(&scripted, HOOK_ON_FAILURE, source);
        assert_true(scripted_fail(&scripted).failed);
        (void)snprintf(source, sizeof(source), ENQUEUE("%s"), values[i]);
        scripted_close_breaker(&scripted);
        scripted_script(&scripted, HOOK_ON_ENQUEUE, source);
        assert_true(scripted_enqueue(&scripted).failed);
    }
    scripted_stop(&scripted);
}

static void test_decisions(void **state)
{
    static const struct {
        const char *fields;
        enum hook_action action;
        uint64_t delay_ms;
    } cases[] = {
        {"", HOOK_RETRY, 0},
        {"action = 'retry'", HOOK_RETRY, 0},
        {"action = 'dlq'", HOOK_DEAD_LETTER, 0},
        {"action = 'DLQ'", HOOK_RETRY, 0},
        {"action = true", HOOK_RETRY, 0},
        {"action = {}", HOOK_RETRY, 0},
        {"action = 'retry', delay_ms = 250.7", HOOK_RETRY, 250},
        {"action = 'retry', delay_ms = -1", HOOK_RETRY, 0},
        {"delay_ms = '5'", HOOK_RETRY, 5},
        {"action = msg.attempts >= 3 and 'dlq' or 'retry'", HOOK_DEAD_LETTER, 0},
        {"action = msg.error == 'it broke' and 'dlq'", HOOK_DEAD_LETTER, 0},
        {"action = msg.queue == 'orders' and 'dlq'", HOOK_DEAD_LETTER, 0},
        {"action = msg.headers.tenant == 'acme' and 'dlq'", HOOK_DEAD_LETTER, 0},
        {"action = msg.id == '01020304-0506-0708-090a-0b0c0d0e0f10' and 'dlq'", HOOK_DEAD_LETTER,
         0},
        {"action = msg.payload == nil and msg.payload_size == nil and 'dlq'", HOOK_DEAD_LETTER, 0},
    };
    struct scripted scripted;

    (void)state;
    scripted_start(&scripted, "");
    scripted_headers(&scripted, some_headers);
    scripted.failure.attempts = 3;
    for (uint8_t i = 0; i < UUID_SIZE; i++)
        scripted.failure.id.bytes[i] = (uint8_t)(i + 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char source[200];

        (void)snprintf(source, sizeof(source), FAILURE("return {%s}"), cases[i].fields);
        scripted_script(&scripted, HOOK_ON_FAILURE, source);
        struct hook_decision decision = scripted_fail(&scripted);
        if (decision.failed || decision.action != cases[i].action ||
            decision.delay_ms != cases[i].delay_ms)
            fail_msg("%s: %d %d %llu", cases[i].fields, decision.failed, (int)decision.action,
                     (unsigned long long)decision.delay_ms);
    }
    scripted_stop(&scripted);
}

/* --- what scripts see --- */

/* Runs conditions that must hold, in order, in one call each. */
static void assert_each(struct scripted *scripted, const char *const *conditions)
{
    for (; *conditions; conditions++) {
        char source[1000];

        (void)snprintf(source, sizeof(source),
                       ENQUEUE("local h = msg.headers return {fairness_key = "
                               "(function() %s end)() and 'yes' or 'no'}"),
                       *conditions);
        scripted_close_breaker(scripted);
        scripted_script(scripted, HOOK_ON_ENQUEUE, source);
        struct hook_verdict verdict = scripted_enqueue(scripted);
        if (verdict.failed || !str_equal(verdict.fairness_key, STR("yes")))
            fail_msg("%s: %s", *conditions, verdict.failed ? "failed" : "not so");
    }
}

static void test_messages(void **state)
{
    static const char *const conditions[] = {
        "return msg.queue == 'orders' and msg.payload_size == 5",
        "return msg.payload == 'he\\0lo' and msg.payload == 'he\\0lo'",
        "return rawget(msg, 'payload') == nil and #msg.payload == 5 and rawget(msg, 'payload')",
        "return h.tenant == 'acme' and h.a == 'one' and h.nothing == nil and h[1] == nil",
        "return type(h) == 'table' and type(msg) == 'table' and #h == 0",
        "local n, s = 0, '' for k, v in pairs(h) do n = n + 1 s = s .. v end "
        "return n == 4 and #s == 9 and h.tenant == 'acme'",
        "local n = 0 for k in next, h do n = n + 1 end return n == 4",
        "return next(h) ~= nil",
        "return rawget(h, 'tenant') == 'acme'",
        "h.tenant = 'other' return h.tenant == 'other' and h.weight == '3'",
        "h.tenant = nil return h.tenant == nil and h.weight == '3'",
        "rawset(h, 'tenant', 'x') return h.tenant == 'x' and h.b == '2'",
        "setmetatable(h, {__index = function() return 'd' end}) return h.none == 'd' and h.b == "
        "'2'",
        "h[1] = 'x' return #h == 1 and h.b == '2'",
        "local n = {} for k in pairs(msg) do n[#n + 1] = k end table.sort(n) "
        "return table.concat(n, ' ') == 'headers payload_size queue'",
        "msg.queue = 'x' msg.more = 1 return msg.queue == 'x' and msg.more == 1",
        "return msg.headers == h and msg.nothing == nil",
        "return getmetatable(msg) == false and not pcall(setmetatable, msg, nil)",
        "kept = h kept_message = msg return true",
        NULL,
    };
    struct scripted scripted;

    (void)state;
    log_set_level(LOG_ERROR);
    scripted_start(&scripted, "");
    scripted_headers(&scripted, some_headers);
    scripted.message.payload = STR("he\0lo");
    assert_each(&scripted, conditions);
    scripted_stop(&scripted);
}

/* Tables of an earlier message read nothing of a later one, whose frame is not theirs. */
static void test_kept_messages_are_empty(void **state)
{
    struct scripted scripted;

    (void)state;
    scripted_start(&scripted, "");
    scripted_headers(&scripted, some_headers);
    scripted.message.payload = STR("secret");
    scripted_script(&scripted, HOOK_ON_ENQUEUE,
                    "local kept, all function on_enqueue(msg) local k, n = '-', 0 "
                    "if kept then k = tostring(kept.headers.tenant) .. tostring(kept.payload) "
                    "for _ in pairs(kept.headers) do n = n + 1 end kept.headers.x = 1 "
                    "k = k .. n .. tostring(kept.headers.x) end "
                    "if not kept then kept = msg end return {fairness_key = k} end");
    assert_true(str_equal(scripted_enqueue(&scripted).fairness_key, STR("-")));
    assert_true(str_equal(scripted_enqueue(&scripted).fairness_key, STR("nilnil01")));
    assert_true(str_equal(scripted_enqueue(&scripted).fairness_key, STR("nilnil11")));
    scripted_stop(&scripted);
}

/* Headers that a script has let go of are not those of a table that lies where they lay. */
static void test_headers_that_are_gone(void **state)
{
    struct scripted scripted;

    (void)state;
    scripted_start(&scripted, "");
    scripted_headers(&scripted, some_headers);
    scripted_script(&scripted, HOOK_ON_ENQUEUE,
                    ENQUEUE("msg.headers = nil for i = 1, 5000 do local t = {} "
                            "for name in pairs(t) do return {fairness_key = name} end end "
                            "return {fairness_key = 'none'}"));
    for (unsigned i = 0; i < 20; i++)
        assert_true(str_equal(scripted_enqueue(&scripted).fairness_key, STR("none")));
    scripted_stop(&scripted);
}

static void test_payloads_beyond_the_memory(void **state)
{
    static uint8_t payload[3 << 20];
    struct scripted scripted;

    (void)state;
    log_set_level(LOG_ERROR);
    scripted_start(&scripted, "");
    scripted.message.payload = str_of(payload, sizeof(payload));
    scripted_script(&scripted, HOOK_ON_ENQUEUE,
                    ENQUEUE("return {fairness_key = 'size ' .. msg.payload_size}"));
    assert_true(str_equal(scripted_enqueue(&scripted).fairness_key, STR("size 3145728")));
    scripted_script(&scripted, HOOK_ON_ENQUEUE, ENQUEUE("return {weight = #msg.payload}"));
    assert_true(scripted_enqueue(&scripted).failed);
    scripted.message.payload.size = 900 << 10;
    assert_int_equal(scripted_enqueue(&scripted).weight, 900 << 10);
    scripted_stop(&scripted);
}

static void test_fila(void **state)
{
    static const char *const conditions[] = {
        "return fila.get('rate') == '10' and fila.get('none') == nil and fila.get('empty') == ''",
        "return tostring(fila.get('none')) == 'nil' and select('#', fila.get('none')) == 1",
        "return not pcall(fila.get) and not pcall(fila.get, {})",
        "return math.type(fila.now_ms()) == 'integer' and fila.now_ms() > 1600000000000",
        "fila.log('x') fila.log({}) fila.log(nil) return not pcall(fila.log)",
        "local b = fila.helpers.exponential_backoff for i = 1, 100 do "
        "local d = b(1, 1000, 60000) if d < 750 or d > 1250 then return false end "
        "d = b(3, 1000, 60000) if d < 3000 or d > 5000 then return false end "
        "d = b(50, 1000, 60000) if d < 45000 or d > 75000 then return false end end return true",
        "local b = fila.helpers.exponential_backoff "
        "return b(0, 1, 0) == 0 and b(5, -1, 10) == 0 and b(0/0, 0/0, 0/0) == 0 and "
        "b(1e9, 1e300, 1e308) == 366 * 86400000 and math.type(b(1, 100, 1000)) == 'integer'",
        "return fila.helpers.tenant_route(msg, 'tenant').fairness_key == 'acme'",
        "return fila.helpers.tenant_route(msg, 'none').fairness_key == 'default'",
        "return not pcall(fila.helpers.tenant_route, {}, 'x') and "
        "not pcall(fila.helpers.tenant_route, msg)",
        "local k = fila.helpers.rate_limit_keys(msg, {'p:{tenant}', '{none}', '{a}-{b}', 'x', "
        "'{tenant', 'y{b}{'}) return table.concat(k, ' ') == 'p:acme one-2 x {tenant y2{'",
        "h.tenant = '{b}' return fila.helpers.rate_limit_keys(msg, {'{tenant}'})[1] == '{b}'",
        "return #fila.helpers.rate_limit_keys(msg, {}) == 0",
        "return not pcall(fila.helpers.rate_limit_keys, msg, {{}})",
        "local m = fila.helpers.max_retries return m(2, 3).action == 'retry' and "
        "m(3, 3).action == 'dlq' and m(4, 3).action == 'dlq'",
        NULL,
    };
    struct scripted scripted;

    (void)state;
    log_set_level(LOG_ERROR);
    scripted_start(&scripted, "");
    scripted_headers(&scripted, some_headers);
    scripted.config[0][0] = "rate";
    scripted.config[0][1] = "10";
    scripted.config[1][0] = "empty";
    scripted.config[1][1] = "";
    assert_each(&scripted, conditions);
    scripted_stop(&scripted);
}

/* What is ours in place of Lua's gives what the manual of Lua says. */
static void test_library(void **state)
{
    static const char *const conditions[] = {
        "return ('ab'):rep(3) == 'ababab' and ('ab'):rep(2, ',') == 'ab,ab' and ('a'):rep(0) == '' "
        "and ('a'):rep(-1) == '' and (''):rep(5) == '' and ('x'):rep(1, 'y') == 'x'",
        "return ('hello'):find('l') == 3 and select(2, ('hello'):find('ll')) == 4",
        "return ('a.b'):find('.', 1, true) == 2 and ('a.b'):find('%.') == 2 and "
        "('abc'):find('', 4) == 4 and ('abc'):find('', 5) == nil and ('abc'):find('c', -1) == 3 "
        "and ('abc'):find('a', -10) == 1 and ('a\\0b'):find('\\0b', 1, true) == 2",
        "return ('key = value'):match('^(%w+)%s*=%s*(%w+)$') == 'key' and "
        "select(2, ('key = value'):match('^(%w+)%s*=%s*(%w+)$')) == 'value'",
        "return ('2026-11-22'):match('(%d+)-(%d+)-(%d+)') == '2026' and ('abc'):match('()b()') == "
        "2",
        "return ('THE (quick) fox'):find('%((%a+)%)') == 5 and ('f(a(b)c)d'):match('%b()') == "
        "'(a(b)c)' and ('f(a'):match('%b()') == nil",
        "return ('THE (quick) fox'):match('%f[%a]%l+') == 'quick' and ('x'):match('%f[%z]') == ''",
        "return ('abab'):match('(ab)%1') == 'ab' and ('aba'):match('(a)(b)%1') == 'a'",
        "return ('aaab'):match('a-b') == 'aaab' and ('aaa'):match('a?a?a?a?') == 'aaa' and "
        "('aaa'):match('a+') == 'aaa' and ('b'):match('a*') == '' and ('b'):match('a+') == nil",
        "return ('a]b'):match('[]]') == ']' and ('a^b'):match('[%^]') == '^' and "
        "('a-b'):match('[a%-]+') == 'a-' and ('xyz'):match('[^x]+') == 'yz' and "
        "('5'):match('[0-9]') == '5' and ('-'):match('[a-]') == '-' and ('b'):match('[a-c]') == "
        "'b'",
        "return ('$x$'):match('%$$') == '$' and ('a$b'):match('a$b') == 'a$b' and "
        "('ab'):match('^b') == nil and ('a^'):match('a^') == 'a^'",
        "for _, c in ipairs{'%a', '%c', '%d', '%g', '%l', '%p', '%s', '%u', '%w', '%x'} do "
        "local C = c:upper() for i = 0, 255 do local s = string.char(i) "
        "if (s:match(c) == nil) == (s:match(C) == nil) then return false end end end return true",
        "local t = {} for k, v in ('a=1, b=2'):gmatch('(%w+)=(%w+)') do t[#t + 1] = k .. v end "
        "return table.concat(t, ' ') == 'a1 b2'",
        "local t = {} for w in ('one two'):gmatch('%a+') do t[#t + 1] = w end return #t == 2",
        "local n = 0 for w in ('abc'):gmatch('') do n = n + 1 end return n == 4",
        "local t = {} for a in ('abc'):gmatch('%w', 2) do t[#t + 1] = a end return #t == 2",
        "return ('hello world'):gsub('o', '0') == 'hell0 w0rld' and "
        "select(2, ('hello world'):gsub('o', '0')) == 2 and ('abc'):gsub('%w', '%0%0') == 'aabbcc'",
        "return ('hello'):gsub('', '-') == '-h-e-l-l-o-' and ('abc'):gsub('b', '%%') == 'a%c' and "
        "('abc'):gsub('(a)(b)', '%2%1') == 'bac' and ('abc'):gsub('a', 'x', 0) == 'abc'",
        "return ('$name is'):gsub('%$(%w+)', {name = 'Lua'}) == 'Lua is' and "
        "('$x'):gsub('%$(%w+)', {}) == '$x' and ('abc'):gsub('%w', function(c) if c == 'b' then "
        "return 'B' end end) == 'aBc' and ('a1'):gsub('%d', 7) == 'a7' and "
        "('abc'):gsub('^a', '') == 'bc' and ('x'):gsub('()', '%1') == '1x2'",
        "return not pcall(string.gsub, 'a', 'a', '%2') and not pcall(string.gsub, 'a', 'a', '%x') "
        "and not pcall(string.gsub, 'a', 'a', true) and not pcall(string.gsub, 'a', 'a', "
        "function() return {} end)",
        "for _, p in ipairs{'%', '[', '[a', '[^', '[%', '%b', '%bx', '%f', '(', '.)', '(()', '%1', "
        "'[]', '[^]', '[a%]', '%f['} do if pcall(string.find, 'ab', p) then return false end end "
        "return true",
        "return ('%d %s %q %5.2f %%'):format(3, 'x', 'y', 2.5) == '3 x \"y\"  2.50 %' and "
        "('%s %s'):format(nil, true) == 'nil true' and not pcall(string.format, '%d', 'x') and "
        "('%s'):format(setmetatable({}, {__tostring = function() return 'T' end})) == 'T'",
        "return ('abc'):upper() == 'ABC' and ('abc'):sub(2) == 'bc' and ('abc'):byte(-1) == 99 and "
        "('abc'):reverse() == 'cba' and ('abc'):len() == 3 and string.char(97, 98) == 'ab'",
        "return string.unpack('>I2', string.pack('>I2', 258)) == 258 and string.packsize('i4') == "
        "4",
        "return '10' + 5 == 15 and '3' * '4' == 12 and 10 .. '' == '10' and -'2' == -2",
        "return utf8.char(228, 8364) == '\u00e4\u20ac' and utf8.len('\u00e4\u20ac') == 2 and "
        "utf8.codepoint('\u20ac') == 8364 and utf8.offset('\u00e4x', 2) == 3",
        "local n = 0 for p, c in utf8.codes('\u00e4x') do n = n + c end return n == 228 + 120",
        "local n = 0 for _ in ('\u00e4x'):gmatch(utf8.charpattern) do n = n + 1 end return n == 2",
        "local t = {3, 1, 2} table.sort(t) return table.concat(t, ',') == '1,2,3'",
        "local t = {} for i = 1, 500 do t[i] = (i * 7919) % 501 end table.sort(t, function(a, b) "
        "return a > b end) for i = 2, 500 do if t[i - 1] < t[i] then return false end end return "
        "true",
        "local t = {'b', 'a', 'C', ''} table.sort(t) return table.concat(t, ',') == ',C,a,b'",
        "table.sort({}) table.sort({1}) return not pcall(table.sort, {1, 'x'}) and "
        "not pcall(table.sort, {2, 1}, 5)",
        "local t = {1, 2} table.insert(t, 3) table.insert(t, 1, 0) return table.concat(t) == "
        "'0123'",
        "return not pcall(table.insert, {}, 3, 1) and not pcall(table.insert, {}) and "
        "not pcall(table.insert, {}, 1, 2, 3)",
        "local t = {1, 2, 3} return table.remove(t) == 3 and table.remove(t, 1) == 1 and #t == 1 "
        "and "
        "table.remove({}) == nil and table.remove({}, 0) == nil and not pcall(table.remove, {}, 5)",
        "local t = table.move({1, 2, 3}, 1, 3, 2) return table.concat(t) == '1123' and "
        "table.concat(table.move({1, 2, 3}, 2, 3, 1)) == '233' and "
        "table.concat(table.move({1, 2}, 1, 2, 1, {})) == '12' and #table.move({}, 1, 0, 5) == 0",
        "return not pcall(table.move, {}, 1, math.maxinteger, 2) and "
        "not pcall(table.move, {}, math.mininteger, 1, 2)",
        "return select('#', table.unpack({1, nil, 3}, 1, 3)) == 3 and table.unpack({}, 2, 1) == "
        "nil "
        "and select(-1, 1, 2) == 2 and table.pack(1, nil).n == 2",
        "return table.concat({1, 'b', 2.5}, '-') == '1-b-2.5' and table.concat({}) == '' and "
        "table.concat({1, 2, 3}, ',', 2, 3) == '2,3' and not pcall(table.concat, {{}})",
        "return tostring(nil) == 'nil' and tostring(1.5) == '1.5' and tonumber('0x1F') == 31 and "
        "tonumber('z', 36) == 35 and tonumber('x') == nil and tonumber(' 7 ') == 7",
        "local ok, e = pcall(error, {code = 5}) return not ok and e.code == 5",
        "local ok, e = xpcall(function() error('x', 0) end, function(m) return m .. '!' end) "
        "return not ok and e == 'x!'",
        "return select('#', xpcall(function(...) return ... end, print or type, 1, nil, 3)) == 4",
        "return select(2, pcall(function(a, b) return a + b end, 1, 2)) == 3 and pcall(type, 1)",
        "local ok, e = pcall(error) return not ok and e == nil",
        "local C = {} C.__index = C function C.new(n) return setmetatable({n = n}, C) end "
        "function C:get() return self.n end C.__add = function(a, b) return C.new(a.n + b.n) end "
        "C.__eq = function(a, b) return a.n == b.n end return (C.new(1) + C.new(2)):get() == 3 and "
        "C.new(1) == C.new(1) and getmetatable(C.new(1)) == C",
        "local t = setmetatable({}, {__index = {x = 1}}) setmetatable(t, nil) return t.x == nil "
        "and "
        "getmetatable(t) == nil",
        "local n = 0 for k in pairs(setmetatable({}, {__pairs = function() return next, {1, 2} "
        "end})) "
        "do n = n + 1 end return n == 2",
        "local n = 0 for i, v in ipairs{5, 6, nil, 7} do n = n + v end return n == 11",
        "return math.floor(2.5) == 2 and math.max(1, 3) == 3 and math.tointeger(3.0) == 3 and "
        "math.random(5) <= 5",
        "math.randomseed(42) local a = math.random(1e6) math.randomseed(42) "
        "return a == math.random(1e6)",
        "local log = {} do local a <close> = setmetatable({}, {__close = function() log[1] = 1 "
        "end}) "
        "end return log[1] == 1",
        "return _VERSION == 'Lua 5.4' and _G._G == _G and rawequal(h, h) and rawlen({1}) == 1",
        NULL,
    };
    struct scripted scripted;

    (void)state;
    log_set_level(LOG_ERROR);
    scripted_start(&scripted, "");
    scripted_headers(&scripted, some_headers);
    assert_each(&scripted, conditions);
    scripted_stop(&scripted);
}

/* --- states --- */

static void test_chunk_runs_once(void **state)
{
    struct scripted scripted;

    (void)state;
    scripted_start(&scripted, "");
    scripted_script(&scripted, HOOK_ON_ENQUEUE,
                    "n = (n or 0) + 100 " ENQUEUE("n = n + 1 return {weight = n}"));
    for (uint32_t i = 1; i <= 5; i++)
        assert_int_equal(scripted_enqueue(&scripted).weight, 100 + i);
    /* Another version of the script begins anew. */
    scripted.queue.version++;
    assert_int_equal(scripted_enqueue(&scripted).weight, 101);
    /* So does the same queue after it was gone. */
    hook_set_queue_gone(scripted.set, scripted.queue.id);
    assert_int_equal(scripted_enqueue(&scripted).weight, 101);
    /* And a script that was not called for ten minutes. */
    hook_set_tick(scripted.set, time_monotonic_ms() + 599000);
    assert_int_equal(scripted_enqueue(&scripted).weight, 102);
    hook_set_tick(scripted.set, time_monotonic_ms() + 601000);
    assert_int_equal(scripted_enqueue(&scripted).weight, 101);
    scripted_stop(&scripted);
}

static void test_queues_do_not_see_each_other(void **state)
{
    struct hook_queue other = {.id = 2, .version = 1, .name = STR("other")};
    struct scripted scripted;
    struct hook_verdict verdict;

    (void)state;
    scripted_start(&scripted, "");
    scripted_script(&scripted, HOOK_ON_ENQUEUE, "secret = 5 " ENQUEUE("return {weight = secret}"));
    assert_int_equal(scripted_enqueue(&scripted).weight, 5);
    other.scripts[HOOK_ON_ENQUEUE] = str_from_c(ENQUEUE("return {weight = secret or 9}"));
    scripted.message.settings = &other;
    hook_set_on_enqueue(scripted.set, &scripted.message, &scripted.memory, &verdict);
    assert_int_equal(verdict.weight, 9);
    scripted_stop(&scripted);
}

static void test_queue_without_scripts(void **state)
{
    struct scripted scripted;
    struct hook_verdict verdict;
    struct hook_decision decision;

    (void)state;
    scripted_start(&scripted, "");
    verdict = scripted_enqueue(&scripted);
    assert_false(verdict.failed);
    hook_set_on_enqueue(scripted.set, &(struct hook_message){.queue = STR("x")}, &scripted.memory,
                        &verdict);
    assert_true(str_equal(verdict.fairness_key, STR("default")));
    decision = scripted_fail(&scripted);
    assert_int_equal(decision.action, HOOK_RETRY);
    assert_false(decision.failed);
    scripted_stop(&scripted);
}

/* Globals may hold no more than a call may take; a script that goes on gathering begins anew. */
static void test_globals_are_bounded(void **state)
{
    struct scripted scripted;
    uint32_t least = UINT32_MAX, most = 0;

    (void)state;
    log_set_level(LOG_ERROR);
    scripted_start(&scripted, "");
    scripted_script(&scripted, HOOK_ON_ENQUEUE,
                    "kept = {} " ENQUEUE("kept[#kept + 1] = ('x'):rep(10000) .. #kept "
                                         "return {weight = #kept}"));
    for (int i = 0; i < 500; i++) {
        struct hook_verdict verdict = scripted_enqueue(&scripted);
        assert_false(verdict.failed);
        if (verdict.weight < least)
            least = verdict.weight;
        if (verdict.weight > most)
            most = verdict.weight;
    }
    assert_int_equal(least, 1);
    assert_in_range(most, 90, 110);
    scripted_stop(&scripted);
}

/* --- failures --- */

static void test_breaker(void **state)
{
    struct scripted scripted;
    struct hook_verdict verdict;

    (void)state;
    log_set_level(LOG_ERROR);
    scripted_start(&scripted, "lua: {circuit_breaker: {threshold: 3, cooldown: 50ms}}");
    for (int shared = 1; shared >= 0; shared--) {
        static const char *const good[] = {"good", "yes", NULL}, *const bad[] = {"x", "y", NULL};

        scripted.no_breaker = !shared;
        scripted.queue.id++;
        scripted_close_breaker(&scripted);
        scripted_script(&scripted, HOOK_ON_ENQUEUE,
                        "n = 0 " ENQUEUE("n = n + 1 if not msg.headers.good then error('no') end "
                                         "return {weight = n + 10}"));
        /* A success in between begins the count anew. */
        for (uint32_t round = 0; round < 3; round++) {
            scripted_headers(&scripted, bad);
            assert_true(scripted_enqueue(&scripted).failed);
            assert_true(scripted_enqueue(&scripted).failed);
            scripted_headers(&scripted, good);
            assert_int_equal(scripted_enqueue(&scripted).weight, 13 + 3 * round);
        }
        scripted_headers(&scripted, bad);
        uint64_t start = time_monotonic_ms();
        for (int i = 0; i < 3; i++)
            assert_true(scripted_enqueue(&scripted).failed);
        /* Open: the script is not asked, which is no failure. */
        scripted_headers(&scripted, good);
        verdict = scripted_enqueue(&scripted);
        if (time_monotonic_ms() < start + 50) {
            assert_false(verdict.failed);
            assert_int_equal(verdict.weight, 1);
        }
        while (scripted_enqueue(&scripted).weight == 1)
            assert_in_range(time_monotonic_ms() - start, 0, 30000);
        assert_true(time_monotonic_ms() >= start + 50);
        /* Three new failures are needed. */
        scripted_headers(&scripted, bad);
        assert_true(scripted_enqueue(&scripted).failed);
        assert_true(scripted_enqueue(&scripted).failed);
        scripted_headers(&scripted, good);
        assert_true(scripted_enqueue(&scripted).weight > 1);
    }
    scripted_stop(&scripted);
}

/* One breaker for both scripts of a queue. */
static void test_breaker_of_both_scripts(void **state)
{
    struct scripted scripted;
    struct hook_decision decision;

    (void)state;
    log_set_level(LOG_ERROR);
    scripted_start(&scripted, "lua: {circuit_breaker: {cooldown: 1h}}");
    scripted_script(&scripted, HOOK_ON_ENQUEUE, ENQUEUE("error('no')"));
    scripted_script(&scripted, HOOK_ON_FAILURE, FAILURE("return {action = 'dlq'}"));
    assert_int_equal(scripted_fail(&scripted).action, HOOK_DEAD_LETTER);
    for (int i = 0; i < 3; i++)
        assert_true(scripted_enqueue(&scripted).failed);
    decision = scripted_fail(&scripted);
    assert_int_equal(decision.action, HOOK_RETRY);
    assert_false(decision.failed);
    scripted_stop(&scripted);
}

/* A failing script leaves what modules before it have said. */
static void test_failure_leaves_the_verdict(void **state)
{
    struct hook_verdict verdict = {.fairness_key = STR("earlier"), .weight = 7};
    struct hook_memory memory = {NULL};
    _Atomic uint64_t statistics[8] = {0};
    struct scripted scripted;
    void *module;
    struct err err;

    (void)state;
    log_set_level(LOG_ERROR);
    scripted_start(&scripted, "");
    scripted.message.settings = &scripted.queue;
    scripted.services.statistics = statistics;
    assert_int_equal(lua_module.init(scripted.conf->modules[0], scripted.conf, &scripted.services,
                                     &module, &err),
                     0);
    scripted_script(&scripted, HOOK_ON_ENQUEUE,
                    ENQUEUE("return {weight = 3, throttle_keys = {'x'}, "
                            "delay_ms = setmetatable({}, {}), fairness_key = ('x'):rep(2000)}"));
    lua_module.on_enqueue(module, &scripted.message, &memory, &verdict);
    assert_true(verdict.failed);
    assert_true(str_equal(verdict.fairness_key, STR("earlier")));
    assert_int_equal(verdict.weight, 7);
    assert_int_equal(verdict.throttle_count, 0);

    /* One that does not mention a field leaves it too. */
    verdict.failed = false;
    scripted_script(&scripted, HOOK_ON_ENQUEUE, ENQUEUE("return {throttle_keys = {'x'}}"));
    lua_module.on_enqueue(module, &scripted.message, &memory, &verdict);
    assert_false(verdict.failed);
    assert_true(str_equal(verdict.fairness_key, STR("earlier")));
    assert_int_equal(verdict.throttle_count, 1);
    hook_memory_free(&memory);
    assert_int_equal(statistics[0], 2); /* calls, failures, openings of the breaker, left out */
    assert_int_equal(statistics[1], 1);
    assert_int_equal(statistics[2], 0);
    assert_int_equal(statistics[3], 0);
    assert_in_range(statistics[4], 5000, 100000); /* bytes */
    lua_module.exit(module);
    scripted_stop(&scripted);
}

static void test_limits_are_those_configured(void **state)
{
    struct scripted scripted;

    (void)state;
    log_set_level(LOG_ERROR);
    scripted_start(&scripted, "lua: {timeout: 100ms, memory_limit: 4m}");
    scripted_script(&scripted, HOOK_ON_ENQUEUE,
                    ENQUEUE("local n = 0 for i = 1, 300000 do n = n + 1 end "
                            "local s = ('x'):rep(1000):rep(1500) return {weight = n}"));
    assert_int_equal(scripted_enqueue(&scripted).weight, 300000);
    scripted_stop(&scripted);
    scripted_start(&scripted, "");
    scripted_script(&scripted, HOOK_ON_ENQUEUE,
                    ENQUEUE("local n = 0 for i = 1, 200000 do n = n + 1 end return {weight = n}"));
    assert_true(scripted_enqueue(&scripted).failed);
    scripted_script(&scripted, HOOK_ON_ENQUEUE,
                    ENQUEUE("local n = 0 for i = 1, 20000 do n = n + 1 end return {weight = n}"));
    assert_int_equal(scripted_enqueue(&scripted).weight, 20000);
    scripted_stop(&scripted);
}

/* --- checking --- */

static void test_check_script(void **state)
{
    static const struct {
        const char *source, *text;
    } cases[] = {
        {ENQUEUE("return {}"), NULL},
        {"local function helper() end\n" ENQUEUE("return helper()"), NULL},
        {"function on_enqueue(msg)\n  local x = 1\n  y x\nend",
         "on_enqueue:3: syntax error near 'x'"},
        {"function on_enqueue(", "on_enqueue:1: <name> or '...' expected near <eof>"},
        {"x = 1", "on_enqueue: the script defines no function on_enqueue"},
        {"local function on_enqueue() end",
         "on_enqueue: the script defines no function on_enqueue"},
        {"\nerror('no')", "on_enqueue:2: no"},
        {"\nlocal x = nil + 1", "on_enqueue:2: attempt to perform arithmetic on a nil value"},
        {"while true do end", "on_enqueue:1: more than 100000 instructions"},
        {"error('bare', 0)", "on_enqueue: bare"},
        {"local t = {}\nfor i = 1, 1e9 do\nt[i] = i end", "more than 1048576 bytes of memory"},
        {"error({})", "on_enqueue: the error is a table"},
        {"on_enqueue = 'x'", "on_enqueue: the script defines no function on_enqueue"},
        {"\x1bLua", "on_enqueue: attempt to load a binary chunk (mode is 't')"},
        {"x = '\n'", "on_enqueue:1: unfinished string near"},
        {"require 'os'", "on_enqueue:1: attempt to call a nil value (global 'require')"},
    };
    static char long_source[65537 + 1];
    struct scripted scripted;
    struct err err;

    (void)state;
    scripted_start(&scripted, "");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int result =
            hook_set_check_script(scripted.set, HOOK_ON_ENQUEUE, str_from_c(cases[i].source), &err);

        assert_int_equal(result, cases[i].text ? -1 : 0);
        if (cases[i].text && !strstr(err.text, cases[i].text))
            fail_msg("%s: %s", cases[i].source, err.text);
    }
    assert_int_equal(
        hook_set_check_script(scripted.set, HOOK_ON_FAILURE, STR(ENQUEUE("return {}")), &err), -1);
    assert_string_equal(err.text, "on_failure: the script defines no function on_failure");
    assert_int_equal(
        hook_set_check_script(scripted.set, HOOK_ON_FAILURE, STR(FAILURE("return {}")), &err), 0);

    memset(long_source, ' ', 65537);
    memcpy(long_source, ENQUEUE("return {}"), strlen(ENQUEUE("return {}")));
    assert_int_equal(
        hook_set_check_script(scripted.set, HOOK_ON_ENQUEUE, str_of(long_source, 65536), &err), 0);
    assert_int_equal(
        hook_set_check_script(scripted.set, HOOK_ON_ENQUEUE, str_of(long_source, 65537), &err), -1);
    assert_string_equal(err.text, "on_enqueue: longer than 65536 bytes");
    scripted_stop(&scripted);
}

/* --- the log --- */

static size_t count_lines(const char *path, const char *what)
{
    char line[2000];
    size_t count = 0;
    FILE *file = fopen(path, "r");

    assert_non_null(file);
    while (fgets(line, sizeof(line), file))
        count += strstr(line, what) != NULL;
    assert_int_equal(fclose(file), 0);
    return count;
}

static void test_log(void **state)
{
    char path[] = "/tmp/filad-lua-XXXXXX";
    struct scripted scripted;
    struct err err;
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(log_open(path, LOG_INFO, &err), 0);
    scripted_start(&scripted, "lua: {circuit_breaker: {threshold: 1000}}");
    scripted_script(&scripted, HOOK_ON_ENQUEUE,
                    ENQUEUE("for i = 1, 100 do fila.log('hello ' .. i) end return {}"));
    assert_false(scripted_enqueue(&scripted).failed);
    assert_in_range(count_lines(path, "lua: queue orders: hello"), 10, 12);
    scripted_script(&scripted, HOOK_ON_ENQUEUE, ENQUEUE("\n  local x = msg.nothing.more"));
    for (int i = 0; i < 100; i++)
        assert_true(scripted_enqueue(&scripted).failed);
    assert_in_range(count_lines(path, "lua: queue orders: on_enqueue:2: attempt to index a nil"), 5,
                    6);
    scripted_stop(&scripted);
    assert_int_equal(log_open("stderr", LOG_INFO, &err), 0);
    assert_int_equal(unlink(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_weight_and_throttles),
        cmocka_unit_test(test_each_type_of_result),
        cmocka_unit_test(test_longest_keys),
        cmocka_unit_test(test_results_that_are_no_table),
        cmocka_unit_test(test_decisions),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_kept_messages_are_empty),
        cmocka_unit_test(test_headers_that_are_gone),
        cmocka_unit_test(test_payloads_beyond_the_memory),
        cmocka_unit_test(test_fila),
        cmocka_unit_test(test_library),
        cmocka_unit_test(test_chunk_runs_once),
        cmocka_unit_test(test_queues_do_not_see_each_other),
        cmocka_unit_test(test_queue_without_scripts),
        cmocka_unit_test(test_globals_are_bounded),
        cmocka_unit_test(test_breaker),
        cmocka_unit_test(test_breaker_of_both_scripts),
        cmocka_unit_test(test_failure_leaves_the_verdict),
        cmocka_unit_test(test_limits_are_those_configured),
        cmocka_unit_test(test_check_script),
        cmocka_unit_test(test_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
