/* kill-test - proves by force that a broker keeps its promises. See run.h. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "kill/daemon_driver.h"
#include "kill/memory_driver.h"
#include "kill/policy.h"
#include "kill/run.h"
#include "os/time.h"

struct arguments {
    struct run_options run;
    struct daemon_options daemon;
    const char *memory; /* name of a fault: run against a broker in memory */
    bool keep;
};

enum { OPTION_CLIENT = 256, OPTION_MEMORY, OPTION_KEEP, OPTION_RATE, OPTION_PAUSE, OPTION_POLICY };

static const struct option option_table[] = {
    {"filad", required_argument, NULL, 'f'},
    {"kills", required_argument, NULL, 'n'},
    {"seconds-max", required_argument, NULL, 't'},
    {"seed", required_argument, NULL, 's'},
    {"producers", required_argument, NULL, 'p'},
    {"consumers", required_argument, NULL, 'c'},
    {"queues", required_argument, NULL, 'q'},
    {"workers", required_argument, NULL, 'w'},
    {"dir", required_argument, NULL, 'd'},
    {"rate", required_argument, NULL, OPTION_RATE},
    {"pause", required_argument, NULL, OPTION_PAUSE},
    {"client", required_argument, NULL, OPTION_CLIENT},
    {"memory", required_argument, NULL, OPTION_MEMORY},
    {"policy", no_argument, NULL, OPTION_POLICY},
    {"keep", no_argument, NULL, OPTION_KEEP},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static void usage(FILE *out)
{
    fputs("Usage: kill-test [OPTION]...\n"
          "  -n, --kills=N          how many kills (20)\n"
          "  -t, --seconds-max=S    give up after so long (60 and 20 for each kill)\n"
          "  -s, --seed=X           of all random choices (from the clock)\n"
          "  -p, --producers=P      (4)\n"
          "  -c, --consumers=C      of the queues that share consumers (4)\n"
          "  -q, --queues=Q         at most 16; every other one has a single consumer (4)\n"
          "  -w, --workers=W        processes that serve clients (3)\n"
          "      --rate=R           messages a second of all producers, 0: no limit (1000)\n"
          "      --pause=MS         longest pause between two kills (1200)\n"
          "  -f, --filad=FILE       the broker ($FILAD, else objs/filad)\n"
          "  -d, --dir=DIR          where its store is made ($TMPDIR)\n"
          "      --client=KIND      wire, library or mixed (mixed)\n"
          "      --memory=FAULT     instead of filad a broker in memory: correct, loses, ...\n"
          "      --policy           with scripts, delays, throttles, dead letters and redrives\n"
          "      --keep             keep the store; it is kept anyway when a promise was broken\n"
          "  -v, --verbose          tell of each kill\n",
          out);
}

static bool parse_number(const char *text, unsigned min, unsigned max, unsigned *value)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || number < min || number > max)
        return false;
    *value = (unsigned)number;
    return true;
}

static bool parse_client(const char *text, enum daemon_client *client)
{
    static const char *const names[] = {"mixed", "wire", "library"};
    for (unsigned i = 0; i < 3; i++)
        if (strcmp(text, names[i]) == 0) {
            *client = (enum daemon_client)i;
            return true;
        }
    return false;
}

static bool parse_option(struct arguments *arguments, int option, const char *text)
{
    unsigned number;
    switch (option) {
    case 'n':
        return parse_number(text, 0, 1000000, &arguments->run.kills);
    case 't':
        return parse_number(text, 1, 1000000, &arguments->run.seconds_max);
    case 's':
        if (!parse_number(text, 0, UINT32_MAX, &number))
            return false;
        arguments->run.seed = number;
        return true;
    case 'p':
        return parse_number(text, 1, 64, &arguments->run.producers);
    case 'c':
        return parse_number(text, 1, 64, &arguments->run.consumers);
    case 'q':
        return parse_number(text, 2, RUN_QUEUES_MAX, &arguments->run.queues);
    case 'w':
        return parse_number(text, 1, 64, &arguments->daemon.workers);
    case OPTION_RATE:
        return parse_number(text, 0, 1000000, &arguments->run.rate);
    case OPTION_PAUSE:
        return parse_number(text, 0, 600000, &arguments->run.pause_max_ms);
    case 'f':
        arguments->daemon.filad = text;
        return true;
    case 'd':
        arguments->daemon.directory = text;
        return true;
    case OPTION_CLIENT:
        return parse_client(text, &arguments->daemon.client);
    case OPTION_MEMORY:
        arguments->memory = text;
        return memory_fault_find(text) != MEMORY_FAULTS;
    case OPTION_POLICY:
        arguments->daemon.extra = policy_configuration;
        return arguments->run.policy = true;
    case OPTION_KEEP:
        return arguments->keep = true;
    case 'v':
        return arguments->run.verbose = true;
    default:
        return false;
    }
}

static int parse(struct arguments *arguments, int argc, char **argv)
{
    int option;
    run_options_default(&arguments->run);
    arguments->run.seed = time_wall_ms() % 1000000000u;
    arguments->daemon.workers = 3;
    while ((option = getopt_long(argc, argv, "n:t:s:p:c:q:w:f:d:vh", option_table, NULL)) != -1) {
        if (option == 'h') {
            usage(stdout);
            exit(0);
        }
        if (option == '?' || !parse_option(arguments, option, optarg)) {
            if (option != '?')
                fprintf(stderr, "kill-test: bad value: %s\n", optarg ? optarg : "");
            usage(stderr);
            return -1;
        }
    }
    if (optind < argc) {
        usage(stderr);
        return -1;
    }
    if (!arguments->run.seconds_max)
        arguments->run.seconds_max = 60 + 20 * arguments->run.kills;
    return 0;
}

static int run_daemon(const struct arguments *arguments)
{
    struct err err;
    struct run_result result;
    struct driver *driver = daemon_driver_create(&arguments->daemon, &err);
    if (!driver) {
        fprintf(stderr, "kill-test: %s\n", err.text);
        return 1;
    }
    int status = run(driver, &arguments->run, &result);
    if (status != 0)
        daemon_driver_print_log(driver, stdout);
    if (status != 0 || arguments->keep)
        printf("kept: %s\n", daemon_driver_directory(driver));
    daemon_driver_destroy(driver, status != 0 || arguments->keep);
    return status != 0;
}

static int run_memory(const struct arguments *arguments)
{
    struct run_result result;
    struct driver *driver = memory_driver_create(
        arguments->daemon.workers, memory_fault_find(arguments->memory), arguments->run.seed);
    int status = run(driver, &arguments->run, &result);
    memory_driver_destroy(driver);
    return status != 0;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {.keep = false};
    if (parse(&arguments, argc, argv) != 0)
        return 2;
    printf("seed %llu\n", (unsigned long long)arguments.run.seed);
    fflush(stdout);
    return arguments.memory ? run_memory(&arguments) : run_daemon(&arguments);
}
