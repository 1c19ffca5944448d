#include "cli/args.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARGS_USAGE 2 /* exit status */

const struct args_option args_global[] = {
    {"addr", 0, "HOST:PORT", "the broker; also [IPV6]:PORT or unix:PATH (localhost:5555)", false},
    {"json", 0, NULL, "machine-readable output", false},
    {"help", 'h', NULL, "show this help", false},
    {"version", 'V', NULL, "show the version", false},
    {"tls", 0, NULL, "", true},
    {"tls-ca-cert", 0, "FILE", "", true},
    {"tls-cert", 0, "FILE", "", true},
    {"tls-key", 0, "FILE", "", true},
    {"api-key", 0, "KEY", "", true},
    {NULL, 0, NULL, NULL, false},
};

static const struct args_option *option_find(const struct args_option *table, const char *name,
                                             size_t size, char letter)
{
    for (; table && table->name; table++) {
        if (letter ? table->letter == letter
                   : strlen(table->name) == size && memcmp(table->name, name, size) == 0)
            return table;
    }
    return NULL;
}

static const struct args_option *args_option(const struct args *args, const char *name, size_t size,
                                             char letter)
{
    const struct args_option *option = NULL;
    if (args->command)
        option = option_find(args->command->options, name, size, letter);
    return option ? option : option_find(args_global, name, size, letter);
}

static int args_complain(const struct args *args, const char *subject, const char *problem)
{
    const char *words = args->command ? args->command->words : NULL;
    fprintf(stderr, "fila: %s: %s\n", subject, problem);
    fprintf(stderr, "Try 'fila %s%s--help'.\n", words ? words : "", words ? " " : "");
    return ARGS_USAGE;
}

/* How many words of the line spell the command; 0: it is another one. */
static size_t command_match(const struct args_command *command, const char **words, size_t count)
{
    const char *at = command->words;
    size_t matched = 0;
    while (*at) {
        size_t size = strcspn(at, " ");
        if (matched == count || strlen(words[matched]) != size ||
            memcmp(words[matched], at, size) != 0)
            return 0;
        matched++;
        at += size;
        at += *at == ' ';
    }
    return matched;
}

/* Whether the line starts like a command of more words: "queue" alone. */
static bool command_begins(const struct args_command *command, const char *word)
{
    size_t size = strlen(word);
    return strncmp(command->words, word, size) == 0 && command->words[size] == ' ';
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* Finds the command among the words that are no options, before these are looked at: what an option
 * is depends on the command. An option's value can only be told from a word once the command is
 * known, so the global options, which may come first, are stepped over by their table. */
static int args_find_command(struct args *args, const struct args_command *const *commands,
                             int argc, char **argv, int *first)
{
    const char *words[4];
    bool help_before = false;
    size_t count = 0;
    int at = 1;

    for (; at < argc && argv[at][0] == '-' && argv[at][1] != '\0'; at++) {
        if (strcmp(argv[at], "--") == 0) {
            at++;
            break;
        }
        bool is_long = argv[at][1] == '-';
        help_before = help_before || is_help(argv[at]);
        const struct args_option *option =
            is_long ? option_find(args_global, argv[at] + 2, strlen(argv[at] + 2), 0)
                    : option_find(args_global, "", 0, argv[at][1]);
        if (option && option->value)
            at++;
    }
    *first = at < argc ? at : argc;
    for (int i = *first; i < argc && count < sizeof(words) / sizeof(words[0]); i++)
        words[count++] = argv[i];
    if (count == 0)
        return 0;

    size_t best = 0;
    bool begins = false;
    for (size_t i = 0; commands[i]; i++) {
        for (const struct args_command *command = commands[i]; command->words; command++) {
            size_t matched = command_match(command, words, count);
            begins = begins || command_begins(command, words[0]);
            if (matched > best) {
                best = matched;
                args->command = command;
            }
        }
    }
    if (args->command) {
        *first += (int)best;
        return 0;
    }
    if (begins && ((count > 1 && is_help(words[1])) || help_before)) {
        args->help = true;
        args->group = words[0];
        return 0;
    }
    if (begins && count == 1)
        return args_complain(args, words[0], "needs a subcommand");
    char subject[256];
    snprintf(subject, sizeof(subject), begins ? "%s %s" : "%s", words[0], begins ? words[1] : "");
    return args_complain(args, subject, "no such command");
}

/* One option at argv[*at], its value there or in the next word. */
static int args_take_option(struct args *args, int argc, char **argv, int *at)
{
    char *text = argv[*at], subject[128];
    bool is_long = text[1] == '-';
    const char *name = is_long ? text + 2 : text + 1, *value = NULL;
    size_t size = is_long ? strcspn(name, "=") : 1;
    const struct args_option *option = args_option(args, name, size, is_long ? 0 : *name);

    snprintf(subject, sizeof(subject), "%s%.*s", is_long ? "--" : "-", (int)size, name);
    if (!option)
        return args_complain(args, subject, "no such option");
    if (option->absent) {
        fprintf(stderr, "fila: %s: not in this build\n", subject);
        return ARGS_USAGE;
    }
    if (name[size] != '\0')
        value = name + size + (is_long ? 1 : 0);
    if (option->value && !value) {
        if (*at + 1 >= argc)
            return args_complain(args, subject, "needs a value");
        value = argv[++*at];
    } else if (!option->value && value) {
        return args_complain(args, subject, "takes no value");
    }
    args->given[args->given_count++] = (struct args_given){option, value, !is_long};
    return 0;
}

static int args_check(struct args *args)
{
    args->help = args_value(args, "help") != NULL;
    args->version = args_value(args, "version") != NULL;
    if (args->help || args->version)
        return 0;
    if (!args->command) {
        fprintf(stderr, "fila: no command given\nTry 'fila --help'.\n");
        return ARGS_USAGE;
    }
    if (!args->command->run) {
        fprintf(stderr, "fila: %s: not in this build\n", args->command->words);
        return ARGS_USAGE;
    }
    if (args->word_count < args->command->least)
        return args_complain(args, args->command->words, "an argument is missing");
    if (args->word_count > args->command->most)
        return args_complain(args, args->words[args->command->most], "one argument too many");
    return 0;
}

/* No option is called by a digit: a word like this is an argument. */
static bool args_is_negative_number(const char *text)
{
    return text[0] == '-' && text[1] >= '0' && text[1] <= '9';
}

int args_parse(struct args *args, const struct args_command *const *commands, int argc, char **argv)
{
    int first = 1, result = 0;
    bool options_over = false;

    *args = (struct args){.command = NULL};
    args->given = calloc((size_t)argc + 1, sizeof(*args->given));
    args->words = calloc((size_t)argc + 1, sizeof(*args->words));
    if (!args->given || !args->words) {
        fprintf(stderr, "fila: no memory\n");
        return 1;
    }
    /* Words of a command stand together; options in front of them are taken below. */
    result = args_find_command(args, commands, argc, argv, &first);
    if (result != 0 || args->help)
        return result;
    /* A command of this name without its code: its options need not be known. */
    if (args->command && !args->command->run)
        return args_check(args);

    int words_from = first - (args->command ? 1 : 0);
    for (const char *c = args->command ? args->command->words : ""; *c; c++)
        words_from -= *c == ' ';
    for (int i = 1; i < argc && result == 0; i++) {
        if (i == words_from && args->command) {
            i = first - 1;
            continue;
        }
        if (!options_over && strcmp(argv[i], "--") == 0)
            options_over = i >= first;
        else if (!options_over && argv[i][0] == '-' && argv[i][1] != '\0' &&
                 !args_is_negative_number(argv[i]))
            result = args_take_option(args, argc, argv, &i);
        else
            args->words[args->word_count++] = argv[i];
    }
    return result == 0 ? args_check(args) : result;
}

void args_free(struct args *args)
{
    free(args->given);
    free(args->words);
    *args = (struct args){.command = NULL};
}

static const struct args_given *args_given(const struct args *args, const char *name)
{
    for (size_t i = args->given_count; i-- > 0;)
        if (strcmp(args->given[i].option->name, name) == 0)
            return &args->given[i];
    return NULL;
}

const char *args_value(const struct args *args, const char *name)
{
    const struct args_given *given = args_given(args, name);

    if (!given)
        return NULL;
    return given->value ? given->value : "";
}

const char *args_typed(const struct args *args, const char *name, char text[ARGS_TYPED_SIZE])
{
    const struct args_given *given = args_given(args, name);

    if (given && given->letter)
        snprintf(text, ARGS_TYPED_SIZE, "-%c", given->option->letter);
    else
        snprintf(text, ARGS_TYPED_SIZE, "--%s", name);
    return text;
}

bool args_number(const struct args *args, const char *name, uint64_t *value)
{
    const char *text = args_value(args, name);
    char typed[ARGS_TYPED_SIZE], problem[128], *end = NULL;
    if (!text)
        return true;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0) {
        snprintf(problem, sizeof(problem), "\"%.64s\" is not a number%s", text,
                 errno == ERANGE ? " this program can hold" : "");
        args_complain(args, args_typed(args, name, typed), problem);
        return false;
    }
    *value = number;
    return true;
}

static void help_option(const struct args_option *option)
{
    char left[64];
    size_t used = 0;
    if (option->absent)
        return;
    if (option->letter)
        used = (size_t)snprintf(left, sizeof(left), "-%c, ", option->letter);
    snprintf(left + used, sizeof(left) - used, "--%s%s%s", option->name, option->value ? " " : "",
             option->value ? option->value : "");
    printf("  %-28s  %s\n", left, option->help);
}

static void help_options(const char *title, const struct args_option *options)
{
    printf("\n%s:\n", title);
    for (; options->name; options++)
        help_option(options);
}

static void help_command(const struct args_command *command)
{
    bool with_options = command->options && command->options->name;
    printf("usage: fila %s%s%s%s\n\n%s.\n", command->words, with_options ? " [OPTIONS]" : "",
           command->arguments[0] ? " " : "", command->arguments, command->help);
    if (with_options)
        help_options("options", command->options);
    help_options("options of every command", args_global);
}

void args_help(const struct args_command *const *commands, const struct args *args)
{
    const char *group = args->group;
    if (args->command) {
        help_command(args->command);
        return;
    }
    printf("usage: fila [OPTIONS] %s%sCOMMAND ...\n\nClient of the filad message broker.\n\n"
           "commands:\n",
           group ? group : "", group ? " " : "");
    for (size_t i = 0; commands[i]; i++) {
        for (const struct args_command *command = commands[i]; command->words; command++) {
            char left[64];
            if (group && !command_begins(command, group))
                continue;
            snprintf(left, sizeof(left), "%s%s%s", command->words, command->arguments[0] ? " " : "",
                     command->arguments);
            if (command->run)
                printf("  %-28s  %s\n", left, command->help);
        }
    }
    help_options("options", args_global);
    printf("\nThe environment variable FILA_ADDR stands in for --addr.\n"
           "'fila COMMAND --help' shows the options of a command.\n");
}
