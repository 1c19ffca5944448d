/*
 * run - one run of the kill checker: starts a broker, puts load on it, kills its processes at
 * random moments, then lets everything come to rest and proves what was promised.
 */
#ifndef FILAD_KILL_RUN_H
#define FILAD_KILL_RUN_H

#include <stdint.h>
#include <stdio.h>

#include "kill/driver.h"
#include "kill/journal.h"

#define RUN_QUEUES_MAX 16

enum run_target { RUN_WORKER, RUN_WORKERS, RUN_KEEPER, RUN_MASTER, RUN_ALL, RUN_TARGETS };

struct run_options {
    unsigned kills;
    unsigned seconds_max; /* no more kills after this; reaching it is a failure */
    uint64_t seed;
    unsigned producers, consumers, queues;
    unsigned rate, backlog, payload_max;
    unsigned visibility_min_ms, visibility_max_ms;
    unsigned pause_max_ms;      /* between two kills, from the moment service is back */
    unsigned recovery_limit_ms; /* service must be back within this time */
    unsigned answer_limit_ms;
    unsigned count_limit_ms; /* depths must be right so long after the last client left */
    unsigned drain_limit_ms; /* all queues must be empty so long after that */
    unsigned calm_ms;        /* they must stay empty for the longest visibility timeout and this */
    bool policy;             /* scripts, throttles, dead letters and redrives: kill/policy.h */
    bool verbose;
    FILE *out;
};

struct run_target_result {
    unsigned kills;
    uint64_t outage_sum_ns, outage_worst_ns;
};

struct run_result {
    unsigned kills;
    uint64_t seconds_ns;
    uint64_t redrives; /* answered */
    struct run_target_result targets[RUN_TARGETS];
    struct journal_totals totals;
};

void run_options_default(struct run_options *options);

/* Prints the table, and what went wrong, to options->out. 0 when nothing did. */
int run(struct driver *driver, const struct run_options *options, struct run_result *result);

#endif
