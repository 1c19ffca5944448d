/* Command lines of fila and filad: the input is cut at NUL bytes into arguments. Nothing that is
 * accepted has more arguments than its command takes, and a header has a name. */
#include "fuzz/fuzz.h"

#include <unistd.h>

#include "conf/options.h"

/* For the headers of `fila enqueue`, which are static there. */
#include "cli/enqueue.c"

#define ARGUMENTS_MAX 64

static void check_headers(const struct args *args)
{
    struct enqueue enqueue = {0};
    if (enqueue_headers(&enqueue, args) == CLI_OK)
        for (size_t i = 0; i < enqueue.header_count; i++)
            REQUIRE(enqueue.headers[i].name.size > 0);
    free(enqueue.headers);
}

static void check_fila(int argc, char **argv)
{
    struct args args;
    uint64_t number = 7;
    if (args_parse(&args, cli_commands, argc, argv) == 0 && args.command && !args.help &&
        !args.version) {
        REQUIRE(args.word_count >= args.command->least && args.word_count <= args.command->most);
        REQUIRE(!args_number(&args, "count", &number) || args_value(&args, "count") || number == 7);
        (void)args_number(&args, "visibility-timeout", &number);
        check_headers(&args);
    }
    args_free(&args);
}

static void check_filad(int argc, char **argv)
{
    struct options options;
    struct err err = {0};
    if (options_parse(&options, argc, argv, &err) < 0)
        REQUIRE(err.text[0] != '\0');
    else
        REQUIRE(options.action != OPTIONS_SIGNAL || options.signal_name);
}

/* Complaints go nowhere while the input is tried. */
static void quietly(void (*check)(int, char **), int argc, char **argv)
{
    static FILE *nothing;
    FILE *saved[2] = {stdout, stderr};
    if (!nothing && !(nothing = fopen("/dev/null", "w")))
        abort();
    stdout = stderr = nothing;
    check(argc, argv);
    stdout = saved[0];
    stderr = saved[1];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *argv[ARGUMENTS_MAX + 2], *copy[ARGUMENTS_MAX + 2];
    static char name[] = "fila";
    int argc = 1;

    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    argv[0] = name;
    for (size_t at = 0; at < size && argc <= ARGUMENTS_MAX; at += strlen(text + at) + 1)
        argv[argc++] = text + at;
    argv[argc] = NULL;
    memcpy(copy, argv, sizeof(argv)); /* getopt changes the order */
    quietly(check_fila, argc, argv);
    quietly(check_filad, argc, copy);
    free(text);
    return 0;
}
