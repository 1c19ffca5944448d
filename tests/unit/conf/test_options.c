#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include "conf/options.h"

#define ARGUMENTS_MAX 16

static int parse(struct options *options, struct err *err, const char *const *arguments)
{
    char *argv[ARGUMENTS_MAX] = {(char *)(uintptr_t) "filad"};
    int argc = 1;
    for (; *arguments != NULL; arguments++)
        argv[argc++] = (char *)(uintptr_t)*arguments;
    return options_parse(options, argc, argv, err);
}

#define PARSE(...) parse(&options, &err, (const char *const[]){__VA_ARGS__, NULL})

static void test_nothing(void **state)
{
    (void)state;
    struct options options;
    struct err err;
    char *argv[] = {(char *)(uintptr_t) "filad", NULL};
    assert_int_equal(options_parse(&options, 1, argv, &err), 0);
    assert_int_equal(options.action, OPTIONS_RUN);
    assert_null(options.conf_file);
    assert_null(options.prefix);
    assert_null(options.overlay);
    assert_false(options.quiet);
    assert_int_equal(options.signal, OPTIONS_SIGNAL_NONE);
}

static void test_arguments(void **state)
{
    (void)state;
    struct options options;
    struct err err;
    assert_int_equal(PARSE("-c", "a.yaml", "-p/opt", "-g", "daemon: false", "-qt"), 0);
    assert_string_equal(options.conf_file, "a.yaml");
    assert_string_equal(options.prefix, "/opt");
    assert_string_equal(options.overlay, "daemon: false");
    assert_true(options.quiet);
    assert_int_equal(options.action, OPTIONS_TEST);
    assert_int_equal(PARSE("-g", ""), 0);
    assert_string_equal(options.overlay, "");
}

static void test_actions(void **state)
{
    (void)state;
    struct options options;
    struct err err;
    static const struct {
        const char *first, *second;
        enum options_action action;
    } cases[] = {
        {"-t", "-q", OPTIONS_TEST},          {"-T", "-t", OPTIONS_DUMP},
        {"-t", "-T", OPTIONS_DUMP},          {"-v", "-q", OPTIONS_VERSION},
        {"-V", "-v", OPTIONS_BUILD_VERSION}, {"-h", "-t", OPTIONS_HELP},
        {"-t", "--help", OPTIONS_HELP},      {"--version", "-q", OPTIONS_VERSION},
        {"-sstop", "-h", OPTIONS_HELP},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(PARSE(cases[i].first, cases[i].second), 0);
        assert_int_equal(options.action, cases[i].action);
    }
}

static void test_signals(void **state)
{
    (void)state;
    struct options options;
    struct err err;
    static const struct {
        const char *name;
        enum options_signal signal;
    } cases[] = {
        {"stop", OPTIONS_SIGNAL_STOP},
        {"quit", OPTIONS_SIGNAL_QUIT},
        {"reload", OPTIONS_SIGNAL_RELOAD},
        {"reopen", OPTIONS_SIGNAL_REOPEN},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(PARSE("-s", cases[i].name), 0);
        assert_int_equal(options.action, OPTIONS_SIGNAL);
        assert_int_equal(options.signal, cases[i].signal);
        assert_string_equal(options.signal_name, cases[i].name);
    }
}

static void test_mistakes(void **state)
{
    (void)state;
    static const struct {
        const char *arguments[4];
        const char *reason;
    } cases[] = {
        {{"-z"}, "unknown option -z"},
        {{"-tz"}, "unknown option -z"},
        {{"-x"}, "option -x needs an argument"},
        {{"-x", "two\nlines"}, "-x takes no control characters"},
        {{"-t", "-xmodules"}, "option -x cannot be combined with -t or -T"},
        {{"-xmodules", "-T"}, "option -x cannot be combined with -t or -T"},
        {{"-xmodules", "-sstop"}, "option -s cannot be combined with -x"},
        {{"--frobnicate"}, "unknown option --frobnicate"},
        {{"-c"}, "option -c needs an argument"},
        {{"-c", ""}, "option -c needs an argument that is not empty"},
        {{"-ca", "-cb"}, "option -c is given twice"},
        {{"-s", "hup"}, "-s needs stop, quit, reload, reopen or upgrade, not `hup`"},
        {{"-s", "upgrade"}, "-s upgrade is not in this build"},
        {{"-t", "-s", "stop"}, "option -s cannot be combined with -t or -T"},
        {{"-sstop", "-T"}, "option -s cannot be combined with -t or -T"},
        {{"file"}, "unexpected argument `file`"},
        {{"-t", "file", "-q"}, "unexpected argument `file`"},
        {{"--", "-t"}, "unexpected argument `-t`"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct options options;
        struct err err = {0, ""};
        assert_int_equal(parse(&options, &err, cases[i].arguments), -1);
        assert_string_equal(err.text, cases[i].reason);
    }
}

static void test_usage_shows_every_option(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 0);
    options_usage(&out);
    buf_append_u8(&out, 0);
    const char *text = (const char *)out.data;
    for (const struct options_row *row = options_table; row->letter != 0; row++) {
        char line[16];
        (void)snprintf(line, sizeof(line), "\n  -%c ", row->letter);
        assert_non_null(strstr(text, line));
        assert_non_null(strstr(text, row->doc));
        /* The synopsis has it too: "-c FILE", or the letter of a flag. */
        char use[32];
        (void)snprintf(use, sizeof(use), "-%c%s%s", row->letter, row->argument ? " " : "",
                       row->argument ? row->argument : "");
        const char *found = strstr(text, use);
        assert_non_null(found);
        assert_true(found < strchr(text, '\n'));
    }
    buf_free(&out);
}

static void test_paths_become_absolute(void **state)
{
    (void)state;
    struct options options = {.conf_file = "dir/filad.yaml", .prefix = "/opt"};
    struct err err;
    char directory[4096], expected[4200];
    assert_non_null(getcwd(directory, sizeof(directory)));
    (void)snprintf(expected, sizeof(expected), "%s/dir/filad.yaml", directory);
    assert_int_equal(options_make_absolute(&options, &err), 0);
    assert_string_equal(options.conf_file, expected);
    assert_string_equal(options.prefix, "/opt");

    options = (struct options){.prefix = "here"};
    (void)snprintf(expected, sizeof(expected), "%s/here", directory);
    assert_int_equal(options_make_absolute(&options, &err), 0);
    assert_null(options.conf_file);
    assert_string_equal(options.prefix, expected);

    char longest[4097];
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = 0;
    options = (struct options){.conf_file = longest};
    assert_int_equal(options_make_absolute(&options, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_actions),
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_usage_shows_every_option),
        cmocka_unit_test(test_paths_become_absolute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
