#include "conf/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "os/io.h"

const struct options_row options_table[] = {
    {'c', "FILE", "configuration file"},
    {'p', "PREFIX", "directory that relative paths in the configuration are taken from"},
    {'g', "YAML", "mapping laid over the configuration file's, key by key"},
    {'t', NULL, "test the configuration and exit"},
    {'T', NULL, "as -t, and print the effective configuration"},
    {'q', NULL, "say nothing but errors"},
    {'s', "SIGNAL", "tell the running broker: stop, quit, reload, reopen or upgrade"},
    {'x', "COMMAND",
     "have the running broker execute: modules, statistics or MODULE.NAME [ARGUMENT]"},
    {'v', NULL, "show the version"},
    {'V', NULL, "show the version and how it was configured"},
    {'h', NULL, "show this help"},
    {0, NULL, NULL},
};

static const struct option long_options[] = {
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'v'},
    {NULL, 0, NULL, 0},
};

static const struct {
    const char *name;
    enum options_signal signal; /* OPTIONS_SIGNAL_NONE: known, not in this build */
} signals[] = {
    {"stop", OPTIONS_SIGNAL_STOP},     {"quit", OPTIONS_SIGNAL_QUIT},
    {"reload", OPTIONS_SIGNAL_RELOAD}, {"reopen", OPTIONS_SIGNAL_REOPEN},
    {"upgrade", OPTIONS_SIGNAL_NONE},
};

static const struct {
    char letter;
    enum options_action action;
} actions[] = {
    {'t', OPTIONS_TEST},    {'T', OPTIONS_DUMP},    {'s', OPTIONS_SIGNAL},
    {'x', OPTIONS_EXECUTE}, {'v', OPTIONS_VERSION}, {'V', OPTIONS_BUILD_VERSION},
    {'h', OPTIONS_HELP},
};

/* Where the argument of `letter` is kept; NULL for a flag. */
static const char **argument_of(struct options *options, int letter)
{
    switch (letter) {
    case 'c':
        return &options->conf_file;
    case 'p':
        return &options->prefix;
    case 'g':
        return &options->overlay;
    case 's':
        return &options->signal_name;
    case 'x':
        return &options->command;
    default:
        return NULL;
    }
}

static int set_argument(struct options *options, int letter, const char *value, struct err *err)
{
    const char **argument = argument_of(options, letter);
    if (argument == NULL)
        return 0;
    if (*argument != NULL)
        return err_set(err, 0, "option -%c is given twice", letter);
    if (*value == 0 && letter != 'g')
        return err_set(err, 0, "option -%c needs an argument that is not empty", letter);
    *argument = value;
    return 0;
}

/* Of several actions -h, -V and -v win in this order, so that they always answer; -T includes -t;
 * -s and -x go with no test and not with each other. */
static int set_action(struct options *options, enum options_action action, struct err *err)
{
    enum options_action present = options->action;
    bool test = action == OPTIONS_TEST || action == OPTIONS_DUMP;
    bool tested = present == OPTIONS_TEST || present == OPTIONS_DUMP;

    bool tells = action == OPTIONS_SIGNAL || action == OPTIONS_EXECUTE;
    bool told = present == OPTIONS_SIGNAL || present == OPTIONS_EXECUTE;

    if ((tells && tested) || (told && test))
        return err_set(err, 0, "option -%c cannot be combined with -t or -T",
                       action == OPTIONS_EXECUTE || present == OPTIONS_EXECUTE ? 'x' : 's');
    if (tells && told && action != present)
        return err_set(err, 0, "option -s cannot be combined with -x");
    if (action > present)
        options->action = action;
    return 0;
}

static int set_signal(struct options *options, struct err *err)
{
    if (options->signal_name == NULL)
        return 0;
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        if (strcmp(options->signal_name, signals[i].name) != 0)
            continue;
        options->signal = signals[i].signal;
        if (options->signal == OPTIONS_SIGNAL_NONE)
            return err_set(err, 0, "-s %s is not in this build", signals[i].name);
        return 0;
    }
    return err_set(err, 0, "-s needs stop, quit, reload, reopen or upgrade, not `%.80s`",
                   options->signal_name);
}

/* It is sent as a line. */
static int check_command(const struct options *options, struct err *err)
{
    for (const char *byte = options->command; byte != NULL && *byte != 0; byte++)
        if ((unsigned char)*byte < ' ' || *byte == 127)
            return err_set(err, 0, "-x takes no control characters");
    return 0;
}

static int bad_option(int result, char **argv, struct err *err)
{
    if (result == ':')
        return err_set(err, 0, "option -%c needs an argument", optopt);
    if (optopt != 0)
        return err_set(err, 0, "unknown option -%c", optopt);
    return err_set(err, 0, "unknown option %.80s", argv[optind - 1]);
}

int options_parse(struct options *options, int argc, char **argv, struct err *err)
{
    int letter;

    *options = (struct options){.action = OPTIONS_RUN};
    optind = 0; /* makes getopt of glibc and musl start afresh */
    opterr = 0;
    while ((letter = getopt_long(argc, argv, "+:c:p:g:tTqs:x:vVh", long_options, NULL)) != -1) {
        if (letter == '?' || letter == ':')
            return bad_option(letter, argv, err);
        if (letter == 'q')
            options->quiet = true;
        if (set_argument(options, letter, optarg, err) != 0)
            return -1;
        for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
            if (actions[i].letter == letter && set_action(options, actions[i].action, err) != 0)
                return -1;
    }
    if (optind < argc)
        return err_set(err, 0, "unexpected argument `%.80s`", argv[optind]);
    return check_command(options, err) != 0 ? -1 : set_signal(options, err);
}

static int make_absolute(const char **path, char absolute[PATH_MAX], struct err *err)
{
    char directory[PATH_MAX];

    if (*path == NULL || (*path)[0] == '/')
        return 0;
    if (getcwd(directory, sizeof(directory)) == NULL)
        return err_set_errno(err, errno, "the working directory");
    if (io_path_join(absolute, PATH_MAX, directory, *path, err) != 0)
        return -1;
    *path = absolute;
    return 0;
}

int options_make_absolute(struct options *options, struct err *err)
{
    static char conf_file[PATH_MAX], prefix[PATH_MAX];

    if (make_absolute(&options->conf_file, conf_file, err) != 0)
        return -1;
    return make_absolute(&options->prefix, prefix, err);
}

void options_usage(struct buf *out)
{
    buf_append_c(
        out, "usage: filad [-c FILE] [-p PREFIX] [-g YAML] [-t | -T] [-q] [-s SIGNAL | -x COMMAND] "
             "[-v | -V] [-h]\n\n");
    for (const struct options_row *row = options_table; row->letter != 0; row++) {
        const char *argument = row->argument != NULL ? row->argument : "";
        buf_printf(out, "  -%c %-7s %s\n", row->letter, argument, row->doc);
    }
}
