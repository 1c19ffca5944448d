/*
 * options - the command line of filad(8).
 */
#ifndef FILAD_CONF_OPTIONS_H
#define FILAD_CONF_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"
#include "core/err.h"

enum options_action {
    OPTIONS_RUN,           /* start the broker */
    OPTIONS_TEST,          /* -t */
    OPTIONS_DUMP,          /* -T: test, and print the effective configuration */
    OPTIONS_SIGNAL,        /* -s: `signal` says which */
    OPTIONS_EXECUTE,       /* -x: `command` says what */
    OPTIONS_VERSION,       /* -v */
    OPTIONS_BUILD_VERSION, /* -V: version and how it was configured */
    OPTIONS_HELP,          /* -h */
};

enum options_signal {
    OPTIONS_SIGNAL_NONE,
    OPTIONS_SIGNAL_STOP,
    OPTIONS_SIGNAL_QUIT,
    OPTIONS_SIGNAL_RELOAD,
    OPTIONS_SIGNAL_REOPEN,
};

struct options {
    enum options_action action;
    const char *conf_file; /* -c; NULL: the default place. Strings point into argv. */
    const char *prefix;    /* -p; NULL: the install prefix */
    const char *overlay;   /* -g; NULL: nothing */
    bool quiet;            /* -q: say nothing but errors */
    enum options_signal signal;
    const char *command;     /* the argument of -x, printable */
    const char *signal_name; /* the argument of -s, valid */
};

struct options_row {
    char letter;
    const char *argument; /* its name in the usage text, NULL for a flag */
    const char *doc;
};

/* Every option, for the usage text and the check of the manual page; ended by letter 0. */
extern const struct options_row options_table[];

/* Reads the command line. -1 with a reason for anything that filad(8) does not allow. Not
 * thread-safe (getopt). */
int options_parse(struct options *options, int argc, char **argv, struct err *err)
    __attribute__((warn_unused_result));

/* Makes the paths of -c and -p absolute, for a process that leaves its working directory. The new
 * ones are in static memory: once in a process. -1 when one is too long. */
int options_make_absolute(struct options *options, struct err *err)
    __attribute__((warn_unused_result));

/* Appends the usage text. */
void options_usage(struct buf *out);

#endif
