/*
 * args - the command line, by tables: which words make a command, which options it takes.
 */
#ifndef FILAD_CLI_ARGS_H
#define FILAD_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cli;
struct args;

struct args_option {
    const char *name;  /* without its dashes: "visibility-timeout" */
    char letter;       /* -n; 0: none */
    const char *value; /* what the help calls its value; NULL: a flag */
    const char *help;
    bool absent; /* known, but not in this build */
};

/* A command of one or more words. Its tables are static. */
struct args_command {
    const char *words;     /* "queue create" */
    const char *arguments; /* "NAME", "[PAYLOAD]"; for the help */
    size_t least, most;    /* how many arguments */
    const char *help;
    const struct args_option *options;                    /* ends with a NULL name; NULL: none */
    int (*run)(struct cli *cli, const struct args *args); /* exit status; NULL: not in this build */
};

/* An option as given. */
struct args_given {
    const struct args_option *option;
    const char *value; /* NULL for a flag */
    bool letter;       /* as -n and not as --count */
};

struct args {
    const struct args_command *command; /* NULL: no command was named */
    struct args_given *given;           /* owned; in the order of the command line */
    size_t given_count;
    const char **words; /* owned; the arguments behind the command's words */
    size_t word_count;
    bool help, version;
    const char *group; /* with help: the first word of several commands; or NULL */
};

extern const struct args_option args_global[]; /* options that every command takes */

/* Takes argv apart. Options may stand anywhere, "--" ends them. Returns 0, or the exit status after
 * saying on standard error what is wrong. args_free() in any case. */
int args_parse(struct args *args, const struct args_command *const *commands, int argc,
               char **argv);
void args_free(struct args *args);

/* The value of the last `name` given ("" for a flag), or NULL. */
const char *args_value(const struct args *args, const char *name);

#define ARGS_TYPED_SIZE 64

/* How the last `name` was given: "--count" or "-n". Returns `text`. */
const char *args_typed(const struct args *args, const char *name, char text[ARGS_TYPED_SIZE]);

/* Reads an unsigned number from `name`; false, after a complaint, when it is none. *value stays as
 * it is when the option is not given. */
bool args_number(const struct args *args, const char *name, uint64_t *value);

/* Help on standard output: for the command that was named, else for the group of commands, else for
 * all of it. */
void args_help(const struct args_command *const *commands, const struct args *args);

#endif
