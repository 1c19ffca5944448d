#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "capture.h"
#include "cli/args.h"

static int ran(struct cli *cli, const struct args *args)
{
    (void)cli;
    (void)args;
    return 0;
}

static const struct args_option send_options[] = {
    {"header", 'H', "K=V", "a header", false},
    {"lines", 0, NULL, "lines", false},
    {"number", 'n', "N", "a number", false},
    {NULL, 0, NULL, NULL, false},
};

static const struct args_command first_group[] = {
    {"queue create", "NAME", 1, 1, "Create", NULL, ran},
    {"queue pause", "NAME", 1, 1, "", NULL, NULL},
    {NULL, NULL, 0, 0, NULL, NULL, NULL},
};

static const struct args_command second_group[] = {
    {"send", "QUEUE [TEXT]", 1, 2, "Send", send_options, ran},
    {NULL, NULL, 0, 0, NULL, NULL, NULL},
};

static const struct args_command *const commands[] = {first_group, second_group, NULL};

static int parse(struct args *args, struct capture *capture, int argc, const char *const *argv)
{
    char *copy[16];
    for (int i = 0; i < argc; i++)
        copy[i] = (char *)(uintptr_t)argv[i];
    copy[argc] = NULL;
    capture_begin(capture);
    int status = args_parse(args, commands, argc, copy);
    capture_end(capture);
    return status;
}

#define PARSE(args, capture, ...)                                                                  \
    parse(args, capture, (int)(sizeof((const char *[]){"fila", __VA_ARGS__}) / sizeof(char *)),    \
          (const char *[]){"fila", __VA_ARGS__})

static void finish(struct args *args, struct capture *capture)
{
    args_free(args);
    capture_free(capture);
}

static void test_everything(void **state)
{
    (void)state;
    struct capture capture;
    struct args args;
    uint64_t number = 7;
    assert_int_equal(PARSE(&args, &capture, "--addr", "host:1", "--json", "send", "-H", "a=1",
                           "orders", "--header=b=2", "-n5", "--", "-text"),
                     0);
    assert_string_equal(args.command->words, "send");
    assert_string_equal(args_value(&args, "addr"), "host:1");
    assert_non_null(args_value(&args, "json"));
    assert_null(args_value(&args, "lines"));
    assert_int_equal(args.given_count, 5);
    assert_string_equal(args.given[2].value, "a=1");
    assert_string_equal(args.given[3].value, "b=2");
    assert_string_equal(args_value(&args, "header"), "b=2"); /* the last one */
    assert_true(args_number(&args, "number", &number));
    assert_int_equal(number, 5);
    assert_int_equal(args.word_count, 2);
    assert_string_equal(args.words[0], "orders");
    assert_string_equal(args.words[1], "-text");
    finish(&args, &capture);
}

static void test_negative_numbers(void **state)
{
    (void)state;
    struct capture capture;
    struct args args;
    assert_int_equal(PARSE(&args, &capture, "send", "-H", "a=1", "orders", "-1.5", "-n5"), 0);
    assert_int_equal(args.word_count, 2);
    assert_string_equal(args.words[1], "-1.5");
    assert_string_equal(args_value(&args, "number"), "5");
    finish(&args, &capture);
}

static void test_global_options_behind(void **state)
{
    (void)state;
    struct capture capture;
    struct args args;
    assert_int_equal(PARSE(&args, &capture, "queue", "create", "a", "--addr=x:1", "--json"), 0);
    assert_string_equal(args.command->words, "queue create");
    assert_string_equal(args.words[0], "a");
    assert_string_equal(args_value(&args, "addr"), "x:1");
    finish(&args, &capture);
}

static void test_help(void **state)
{
    (void)state;
    struct capture capture;
    struct args args;
    assert_int_equal(PARSE(&args, &capture, "--help"), 0);
    assert_true(args.help && !args.command);
    finish(&args, &capture);
    assert_int_equal(PARSE(&args, &capture, "send", "-h"), 0);
    assert_true(args.help && args.command);
    finish(&args, &capture);
    assert_int_equal(PARSE(&args, &capture, "queue", "--help"), 0);
    assert_true(args.help && !args.command);
    assert_string_equal(args.group, "queue");
    finish(&args, &capture);
    assert_int_equal(PARSE(&args, &capture, "--json", "--help", "queue"), 0);
    assert_true(args.help && !args.command);
    assert_string_equal(args.group, "queue");
    capture_free(&capture);
    capture_begin(&capture);
    args_help(commands, &args);
    capture_end(&capture);
    assert_non_null(strstr(capture.out, "queue create NAME"));
    assert_null(strstr(capture.out, "send QUEUE"));
    assert_null(strstr(capture.out, "queue pause"));
    finish(&args, &capture);
    assert_int_equal(PARSE(&args, &capture, "--version"), 0);
    assert_true(args.version);
    finish(&args, &capture);
}

/* Each with what standard error says about it. */
static void test_misuse(void **state)
{
    (void)state;
    static const struct {
        const char *argv[6];
        const char *says;
    } cases[] = {
        {{NULL}, "fila: no command given"},
        {{"nonsense"}, "fila: nonsense: no such command"},
        {{"queue"}, "fila: queue: needs a subcommand"},
        {{"queue", "nonsense"}, "fila: queue nonsense: no such command"},
        {{"queue", "create"}, "fila: queue create: an argument is missing"},
        {{"queue", "create", "a", "b"}, "fila: b: one argument too many"},
        {{"queue", "pause", "a"}, "fila: queue pause: not in this build"},
        {{"queue", "create", "a", "-H", "x"}, "fila: -H: no such option"},
        {{"send", "q", "--nonsense"}, "fila: --nonsense: no such option"},
        {{"send", "q", "--lines=1"}, "fila: --lines: takes no value"},
        {{"send", "q", "-H"}, "fila: -H: needs a value"},
        {{"--tls", "send", "q"}, "fila: --tls: not in this build"},
        {{"send", "q", "--api-key", "k"}, "fila: --api-key: not in this build"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *argv[8] = {"fila"};
        struct capture capture;
        struct args args;
        int argc = 1;
        for (; argc < 7 && cases[i].argv[argc - 1]; argc++)
            argv[argc] = cases[i].argv[argc - 1];
        assert_int_equal(parse(&args, &capture, argc, argv), 2);
        if (strncmp(capture.err, cases[i].says, strlen(cases[i].says)) != 0)
            fail_msg("case %zu says %s", i, capture.err);
        assert_string_equal(capture.out, "");
        finish(&args, &capture);
    }
}

static void test_numbers(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "x", "1x", "-1", " 1", "99999999999999999999999"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct capture capture;
        struct args args;
        uint64_t number = 7;
        assert_int_equal(PARSE(&args, &capture, "send", "q", "--number", bad[i]), 0);
        capture_free(&capture);
        capture_begin(&capture);
        assert_false(args_number(&args, "number", &number));
        capture_end(&capture);
        char complaint[128];
        snprintf(complaint, sizeof(complaint), "fila: --number: \"%s\" is not a number", bad[i]);
        assert_non_null(strstr(capture.err, complaint));
        assert_int_equal(number, 7);
        finish(&args, &capture);
    }
    struct capture capture;
    struct args args;
    char typed[ARGS_TYPED_SIZE];
    uint64_t number;
    assert_int_equal(PARSE(&args, &capture, "send", "q", "--number", "1", "-nx"), 0);
    capture_free(&capture);
    capture_begin(&capture);
    assert_false(args_number(&args, "number", &number));
    capture_end(&capture);
    assert_non_null(strstr(capture.err, "fila: -n: \"x\" is not a number\n"));
    assert_string_equal(args_typed(&args, "number", typed), "-n");
    assert_string_equal(args_typed(&args, "lines", typed), "--lines");
    finish(&args, &capture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything),
        cmocka_unit_test(test_negative_numbers),
        cmocka_unit_test(test_global_options_behind),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
