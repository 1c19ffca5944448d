#include "arguments.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECONDS_MIN 0.3
#define SECONDS_MAX 3600
#define WORKERS_MAX 32
#define MESSAGES_MAX 10000000

static const char usage_text[] =
    "Usage: fila-bench [OPTION]...\n"
    "\n"
    "Measures the limits of this machine and, right between these, a filad on a temporary store.\n"
    "\n"
    "  --only LIST        run only these rows, for example W2,W2b (their limits run with them) or "
    "L1\n"
    "  --seconds N        seconds of each workload, default 5\n"
    "  --messages N       messages of the workloads that drain a queue, default 100000\n"
    "  --workers N        worker_processes of the broker, default 2\n"
    "  --durability KIND  commit (the default) or interval\n"
    "  --dir DIR          put the temporary stores there; default: TMPDIR, the present directory "
    "or\n"
    "                     /var/tmp, the first that is not held in memory\n"
    "  --filad PATH       the broker; default: filad beside this program\n"
    "  --keep             leave stores, configuration and logs\n"
    "  --json             results as JSON on standard output\n"
    "  --list             name the rows and their targets, run nothing\n"
    "  --help             this text\n";

enum argument {
    ARGUMENT_ONLY = 256,
    ARGUMENT_SECONDS,
    ARGUMENT_MESSAGES,
    ARGUMENT_WORKERS,
    ARGUMENT_DURABILITY,
    ARGUMENT_DIR,
    ARGUMENT_FILAD,
    ARGUMENT_KEEP,
    ARGUMENT_JSON,
    ARGUMENT_LIST,
    ARGUMENT_HELP,
};

static const struct option long_options[] = {
    {"only", required_argument, NULL, ARGUMENT_ONLY},
    {"seconds", required_argument, NULL, ARGUMENT_SECONDS},
    {"messages", required_argument, NULL, ARGUMENT_MESSAGES},
    {"workers", required_argument, NULL, ARGUMENT_WORKERS},
    {"durability", required_argument, NULL, ARGUMENT_DURABILITY},
    {"dir", required_argument, NULL, ARGUMENT_DIR},
    {"filad", required_argument, NULL, ARGUMENT_FILAD},
    {"keep", no_argument, NULL, ARGUMENT_KEEP},
    {"json", no_argument, NULL, ARGUMENT_JSON},
    {"list", no_argument, NULL, ARGUMENT_LIST},
    {"help", no_argument, NULL, ARGUMENT_HELP},
    {NULL, 0, NULL, 0},
};

void arguments_usage(void)
{
    fputs(usage_text, stdout);
}

static int parse_number(const char *name, const char *text, double least, double most,
                        double *value, struct err *err)
{
    char *end;
    errno = 0;
    *value = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0' || !(*value >= least && *value <= most)) {
        return err_set(err, 0, "--%s %s: give a number from %g to %g", name, text, least, most);
    }
    return 0;
}

static int parse_whole(const char *name, const char *text, double least, double most,
                       uint64_t *value, struct err *err)
{
    double number;
    if (parse_number(name, text, least, most, &number, err) != 0) {
        return -1;
    }
    *value = (uint64_t)number;
    if ((double)*value != number) {
        return err_set(err, 0, "--%s %s: give a whole number", name, text);
    }
    return 0;
}

static int parse_messages(struct arguments *arguments, struct err *err)
{
    if (parse_whole("messages", optarg, 1000, MESSAGES_MAX, &arguments->messages, err) != 0) {
        return -1;
    }
    if (arguments->messages % 100 != 0) {
        return err_set(err, 0, "--messages %s: give a multiple of 100", optarg);
    }
    return 0;
}

static int parse_durability(struct arguments *arguments, struct err *err)
{
    if (strcmp(optarg, "commit") != 0 && strcmp(optarg, "interval") != 0) {
        return err_set(err, 0, "--durability %s: it is commit or interval", optarg);
    }
    arguments->durability = optarg;
    return 0;
}

static int parse_one(struct arguments *arguments, int option, char **argv, struct err *err)
{
    uint64_t whole = 0;
    switch (option) {
    case ARGUMENT_ONLY:
        arguments->only = optarg;
        return 0;
    case ARGUMENT_SECONDS:
        return parse_number("seconds", optarg, SECONDS_MIN, SECONDS_MAX, &arguments->seconds, err);
    case ARGUMENT_MESSAGES:
        return parse_messages(arguments, err);
    case ARGUMENT_WORKERS:
        if (parse_whole("workers", optarg, 1, WORKERS_MAX, &whole, err) != 0) {
            return -1;
        }
        arguments->workers = (unsigned)whole;
        return 0;
    case ARGUMENT_DURABILITY:
        return parse_durability(arguments, err);
    case ARGUMENT_DIR:
        arguments->directory = optarg;
        return 0;
    case ARGUMENT_FILAD:
        arguments->filad = optarg;
        return 0;
    case ARGUMENT_KEEP:
        arguments->keep = true;
        return 0;
    case ARGUMENT_JSON:
        arguments->json = true;
        return 0;
    case ARGUMENT_LIST:
        arguments->list = true;
        return 0;
    case ARGUMENT_HELP:
        arguments->help = true;
        return 0;
    case ':':
        return err_set(err, 0, "%s needs an argument", argv[optind - 1]);
    default:
        return err_set(err, 0, "%s: unknown option, see --help", argv[optind - 1]);
    }
}

int arguments_parse(struct arguments *arguments, int argc, char **argv, struct err *err)
{
    *arguments =
        (struct arguments){.durability = "commit", .seconds = 5, .workers = 2, .messages = 100000};
    int option;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
        if (parse_one(arguments, option, argv, err) != 0) {
            return -1;
        }
    }
    if (optind < argc) {
        return err_set(err, 0, "%s: only options are expected, see --help", argv[optind]);
    }
    return 0;
}
