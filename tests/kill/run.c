#include "kill/run.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "kill/client.h"
#include "kill/load.h"
#include "kill/policy.h"
#include "os/time.h"

#define PROCESSES_MAX 256
#define NS_PER_MS 1000000u

/* Frequency of each target, in percent. */
static const struct {
    const char *name;
    unsigned percent;
} targets[RUN_TARGETS] = {
    [RUN_WORKER] = {"one worker", 40}, [RUN_WORKERS] = {"several workers", 12},
    [RUN_KEEPER] = {"keeper", 16},     [RUN_MASTER] = {"master", 14},
    [RUN_ALL] = {"everything", 18},
};

/* In how many of 100 cases the next kill does not wait until service is back. */
enum { HASTY_PERCENT = 15 };

struct run {
    struct driver *driver;
    const struct run_options *options;
    struct run_result *result;
    struct journal *journal;
    struct load *load;
    struct journal_queue queues[RUN_QUEUES_MAX];
    char names[RUN_QUEUES_MAX][32];
    uint64_t random;
    uint64_t start_ns;
    struct redriver *redriver; /* with a policy */
    bool hasty;                /* the kill before did not wait */
};

void run_options_default(struct run_options *options)
{
    *options = (struct run_options){.kills = 20,
                                    .seed = 1,
                                    .producers = 4,
                                    .consumers = 4,
                                    .queues = 4,
                                    .rate = 1000,
                                    .backlog = 4000,
                                    .payload_max = 1500,
                                    .visibility_min_ms = 2000,
                                    .visibility_max_ms = 3500,
                                    .pause_max_ms = 1200,
                                    .recovery_limit_ms = 60000,
                                    .answer_limit_ms = 60000,
                                    .count_limit_ms = 20000,
                                    .drain_limit_ms = 90000,
                                    .calm_ms = 1000,
                                    .out = stdout};
}

static uint32_t run_random(struct run *run, uint32_t below)
{
    run->random ^= run->random << 13;
    run->random ^= run->random >> 7;
    run->random ^= run->random << 17;
    return (uint32_t)((run->random * 0x2545f4914f6cdd1du) >> 33) % below;
}

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

static uint64_t elapsed_ns(const struct run *run)
{
    return time_monotonic_ns() - run->start_ns;
}

__attribute__((format(printf, 2, 3))) static void say(const struct run *run, const char *format,
                                                      ...)
{
    if (!run->options->verbose)
        return;
    va_list arguments;
    va_start(arguments, format);
    fprintf(run->options->out, "%9.3f  ", seconds(elapsed_ns(run)));
    vfprintf(run->options->out, format, arguments);
    fputc('\n', run->options->out);
    fflush(run->options->out);
    va_end(arguments);
}

/* ---- before ---- */

static void make_queues(struct run *run)
{
    unsigned span = run->options->visibility_max_ms - run->options->visibility_min_ms;
    for (unsigned q = 0; q < run->options->queues; q++) {
        snprintf(run->names[q], sizeof run->names[q], "kill-%u", q);
        run->queues[q] =
            (struct journal_queue){.name = run->names[q],
                                   .visibility_ms = run->options->visibility_min_ms +
                                                    (span ? run_random(run, span + 1) : 0),
                                   .ordered = q % 2 == 0};
    }
}

static bool create_policy_queue(struct run *run, const struct journal_queue *queue)
{
    struct err err;
    if (policy_create_queue(run->driver, queue, &err) == 0)
        return true;
    journal_violation(run->journal, VIOLATION_SERVICE, "%s", err.text);
    return false;
}

static bool create_queues(struct run *run)
{
    struct err err;
    struct driver_connection *connection = run->driver->ops->connect(run->driver, &err);
    if (!connection) {
        journal_violation(run->journal, VIOLATION_SERVICE, "connect: %s", err.text);
        return false;
    }
    bool good = true;
    for (unsigned q = 0; q < run->options->queues && good; q++) {
        if (run->options->policy) {
            good = create_policy_queue(run, &run->queues[q]);
            continue;
        }
        int code = run->driver->ops->create_queue(connection, run->queues[q].name,
                                                  run->queues[q].visibility_ms);
        good = code == DRIVER_OK || code == DRIVER_QUEUE_EXISTS;
        if (!good)
            journal_violation(run->journal, VIOLATION_SERVICE, "create queue %s: code %d",
                              run->queues[q].name, code);
    }
    run->driver->ops->close(connection, true);
    if (good && run->options->policy && policy_configure(run->driver, &err) != 0) {
        journal_violation(run->journal, VIOLATION_SERVICE, "%s", err.text);
        return false;
    }
    return good;
}

static void make_load(struct run *run)
{
    const struct run_options *options = run->options;
    run->load = load_create(&(struct load_options){.driver = run->driver,
                                                   .journal = run->journal,
                                                   .queues = run->queues,
                                                   .queue_count = options->queues,
                                                   .producers = options->producers,
                                                   .consumers = options->consumers,
                                                   .rate = options->rate,
                                                   .backlog = options->backlog,
                                                   .payload_max = options->payload_max,
                                                   .answer_limit_ms = options->answer_limit_ms,
                                                   .seed = options->seed});
}

/* ---- kills ---- */

static enum run_target pick_target(struct run *run)
{
    uint32_t dice = run_random(run, 100);
    for (unsigned i = 0; i + 1 < RUN_TARGETS; i++) {
        if (dice < targets[i].percent)
            return (enum run_target)i;
        dice -= targets[i].percent;
    }
    return RUN_ALL;
}

/* Fills `victims` from the living processes; their number, 0 when there is nobody of that kind. */
static size_t pick_victims(struct run *run, enum run_target target, struct driver_process *victims)
{
    struct driver_process all[PROCESSES_MAX];
    size_t total = run->driver->ops->processes(run->driver, all, PROCESSES_MAX), count = 0;
    enum driver_role role = target == RUN_KEEPER   ? DRIVER_KEEPER
                            : target == RUN_MASTER ? DRIVER_MASTER
                                                   : DRIVER_WORKER;
    for (size_t i = 0; i < total; i++)
        if (target == RUN_ALL || all[i].role == role)
            victims[count++] = all[i];
    if (target == RUN_WORKER && count > 1) {
        victims[0] = victims[run_random(run, (uint32_t)count)];
        count = 1;
    } else if (target == RUN_WORKERS && count > 2) {
        size_t keep = 2 + run_random(run, (uint32_t)count - 1);
        for (size_t i = 0; i < keep; i++) {
            size_t other = i + run_random(run, (uint32_t)(count - i));
            struct driver_process swap = victims[i];
            victims[i] = victims[other];
            victims[other] = swap;
        }
        count = keep;
    }
    return count;
}

static bool healthy(struct run *run)
{
    struct err err;
    if (run->driver->ops->healthy(run->driver, &err))
        return true;
    journal_violation(run->journal, VIOLATION_SERVICE, "the broker ended by itself: %s", err.text);
    return false;
}

/* Waits until the prober got several confirmations since the kill. */
static bool wait_for_service(struct run *run, const char *after)
{
    uint64_t limit_ns = time_monotonic_ns() + (uint64_t)run->options->recovery_limit_ms * NS_PER_MS;
    unsigned confirmed = 0;
    while (confirmed < 5) {
        load_outage(run->load, &confirmed);
        if (!healthy(run))
            return false;
        if (time_monotonic_ns() > limit_ns) {
            journal_violation(run->journal, VIOLATION_SERVICE,
                              "no service within %u ms after the kill of %s",
                              run->options->recovery_limit_ms, after);
            return false;
        }
        client_sleep(5);
    }
    return true;
}

static void record_outage(struct run *run, enum run_target target)
{
    uint64_t outage = load_outage(run->load, NULL);
    struct run_target_result *result = &run->result->targets[target];
    result->outage_sum_ns += outage;
    if (outage > result->outage_worst_ns)
        result->outage_worst_ns = outage;
    say(run, "back after %.3f s", seconds(outage));
}

static bool kill_once(struct run *run)
{
    enum run_target target = pick_target(run);
    struct driver_process victims[PROCESSES_MAX];
    size_t count = pick_victims(run, target, victims);
    if (count == 0) { /* nobody there: in the middle of a recovery */
        client_sleep(5);
        return healthy(run);
    }
    if (!run->hasty)
        load_outage_begin(run->load);
    run->driver->ops->kill(run->driver, victims, count);
    run->result->kills++;
    run->result->targets[target].kills++;
    say(run, "kill %u: %s (%zu process%s, first pid %d)", run->result->kills, targets[target].name,
        count, count == 1 ? "" : "es", (int)victims[0].pid);
    struct err err;
    if ((target == RUN_MASTER || target == RUN_ALL) &&
        run->driver->ops->start(run->driver, &err) != 0) {
        journal_violation(run->journal, VIOLATION_SERVICE, "start after the kill of %s: %s",
                          targets[target].name, err.text);
        return false;
    }
    run->hasty = run_random(run, 100) < HASTY_PERCENT;
    if (run->hasty) {
        client_sleep(run_random(run, 300));
        return healthy(run);
    }
    if (!wait_for_service(run, targets[target].name))
        return false;
    record_outage(run, target);
    client_sleep(run_random(run, run->options->pause_max_ms + 1));
    return true;
}

static bool kill_all(struct run *run)
{
    uint64_t limit_ns = (uint64_t)run->options->seconds_max * 1000000000u;
    if (!wait_for_service(run, "nobody"))
        return false;
    client_sleep(200);
    while (run->result->kills < run->options->kills) {
        if (limit_ns && elapsed_ns(run) > limit_ns) {
            journal_violation(run->journal, VIOLATION_SERVICE, "only %u of %u kills within %u s",
                              run->result->kills, run->options->kills, run->options->seconds_max);
            return true;
        }
        if (!kill_once(run))
            return false;
    }
    run->hasty = false;
    load_outage_begin(run->load);
    return wait_for_service(run, "the last victim");
}

/* ---- after ---- */

struct rest {
    uint64_t depth, in_flight;
    uint32_t consumers;
};

/* Of one queue; with a policy its dead letters count as its messages. */
static int read_queue(const struct run *run, struct driver_connection *connection, unsigned queue,
                      struct rest *rest)
{
    struct driver_stats stats;
    char name[64];
    int code = run->driver->ops->stats(connection, run->queues[queue].name, &stats);
    *rest = (struct rest){stats.depth, stats.in_flight, stats.consumers};
    if (code != DRIVER_OK || !run->options->policy)
        return code;
    snprintf(name, sizeof name, "%s.dlq", run->queues[queue].name);
    code = run->driver->ops->stats(connection, name, &stats);
    rest->depth += stats.depth;
    rest->in_flight += stats.in_flight;
    return code;
}

/* Statistics of all queues; false without a connection. */
static bool read_stats(struct run *run, struct driver_connection **connection, struct rest *rests)
{
    struct err err;
    if (!*connection)
        *connection = run->driver->ops->connect(run->driver, &err);
    if (!*connection)
        return false;
    for (unsigned q = 0; q < run->options->queues; q++) {
        if (read_queue(run, *connection, q, &rests[q]) != DRIVER_OK) {
            run->driver->ops->close(*connection, false);
            *connection = NULL;
            return false;
        }
    }
    return true;
}

static bool depth_is_right(const struct rest *rest, const struct journal_bounds *bounds)
{
    return rest->depth >= bounds->must && rest->depth <= bounds->may &&
           rest->in_flight <= rest->depth && rest->consumers == 0;
}

/* With no client there, the depth of each queue must be what the journal says. A count that is
 * still being completed after a crash gets some time. */
static void check_depths(struct run *run)
{
    struct journal_bounds bounds[RUN_QUEUES_MAX];
    struct rest rests[RUN_QUEUES_MAX];
    struct driver_connection *connection = NULL;
    uint64_t end_ns = time_monotonic_ns() + (uint64_t)run->options->count_limit_ms * NS_PER_MS;
    bool good = false, read = false;
    journal_bounds(run->journal, bounds);
    while (!good && time_monotonic_ns() < end_ns) {
        good = read = read_stats(run, &connection, rests);
        for (unsigned q = 0; q < run->options->queues && good; q++)
            good = depth_is_right(&rests[q], &bounds[q]);
        if (!good)
            client_sleep(50);
    }
    if (connection)
        run->driver->ops->close(connection, true);
    if (!read)
        journal_violation(run->journal, VIOLATION_SERVICE, "no statistics after the kills");
    for (unsigned q = 0; q < run->options->queues && read; q++)
        if (!depth_is_right(&rests[q], &bounds[q]))
            journal_violation(run->journal, VIOLATION_COUNTER,
                              "queue %s at rest: depth %" PRIu64 " (must be %" PRIu64 " to %" PRIu64
                              "), in flight %" PRIu64 ", consumers %" PRIu32,
                              run->queues[q].name, rests[q].depth, bounds[q].must, bounds[q].may,
                              rests[q].in_flight, rests[q].consumers);
}

static bool all_empty(const struct run *run, const struct rest *rests)
{
    for (unsigned q = 0; q < run->options->queues; q++)
        if (rests[q].depth || rests[q].in_flight)
            return false;
    return true;
}

/* Consumes everything, until all queues are empty and stay so for the longest visibility timeout.
 */
static void drain(struct run *run)
{
    const struct run_options *options = run->options;
    struct rest rests[RUN_QUEUES_MAX] = {{0}};
    struct driver_connection *connection = NULL;
    uint64_t calm_ns = (uint64_t)(options->visibility_max_ms + options->calm_ms) * NS_PER_MS;
    uint64_t end_ns = time_monotonic_ns() + (uint64_t)options->drain_limit_ms * NS_PER_MS;
    uint64_t empty_since_ns = 0;
    say(run, "draining");
    load_start_consumers(run->load, true);
    for (;;) {
        uint64_t now = time_monotonic_ns();
        bool read = read_stats(run, &connection, rests);
        if (!read || !all_empty(run, rests))
            empty_since_ns = 0;
        else if (!empty_since_ns)
            empty_since_ns = now;
        if (empty_since_ns && now - empty_since_ns > calm_ns)
            break;
        if (now > end_ns || !healthy(run)) {
            for (unsigned q = 0; q < options->queues; q++)
                if (rests[q].depth || rests[q].in_flight)
                    journal_violation(run->journal, VIOLATION_COUNTER,
                                      "queue %s cannot be emptied: depth %" PRIu64
                                      ", in flight %" PRIu64,
                                      run->queues[q].name, rests[q].depth, rests[q].in_flight);
            break;
        }
        client_sleep(100);
    }
    if (connection)
        run->driver->ops->close(connection, true);
    load_stop_consumers(run->load);
}

static void print_table(const struct run *run)
{
    FILE *out = run->options->out;
    const struct run_result *result = run->result;
    const struct journal_totals *totals = &result->totals;
    fprintf(out, "%-16s %6s %12s %12s\n", "killed", "times", "mean outage", "worst");
    for (unsigned i = 0; i < RUN_TARGETS; i++) {
        const struct run_target_result *row = &result->targets[i];
        fprintf(out, "%-16s %6u %10.3f s %10.3f s\n", targets[i].name, row->kills,
                row->kills ? seconds(row->outage_sum_ns / row->kills) : 0,
                seconds(row->outage_worst_ns));
    }
    fprintf(out,
            "sent %" PRIu64 ", confirmed %" PRIu64 ", without an answer %" PRIu64
            ", refused %" PRIu64 "\ndelivered %" PRIu64 ", again %" PRIu64 ", unseen %" PRIu64
            ", slowest delivery %.3f s\nacked %" PRIu64 ", nacked %" PRIu64
            ", acks without an answer %" PRIu64 "\n",
            totals->sent, totals->confirmed, totals->doubtful, totals->refused, totals->delivered,
            totals->redelivered, totals->hidden, seconds(totals->worst_delay_ns), totals->acked,
            totals->nacked, totals->ack_doubts);
}

static void print_policy(const struct run *run)
{
    fprintf(run->options->out, "redrives %" PRIu64 ", of %u queues with scripts\n",
            run->result->redrives, run->options->queues);
}

static void print_result(const struct run *run)
{
    FILE *out = run->options->out;
    const struct journal_totals *totals = &run->result->totals;
    print_table(run);
    if (run->options->policy)
        print_policy(run);
    fprintf(out,
            "%u kills in %.0f s, %" PRIu64 " messages confirmed, %" PRIu64 " delivered, %" PRIu64
            " acked: ",
            run->result->kills, seconds(run->result->seconds_ns), totals->confirmed,
            totals->delivered, totals->acked);
    if (totals->violation_count == 0) {
        fprintf(out, "nothing lost\n");
        return;
    }
    fprintf(out, "%" PRIu64 " violations:", totals->violation_count);
    for (unsigned i = 0; i < VIOLATIONS; i++)
        if (totals->violations[i])
            fprintf(out, " %" PRIu64 " %s", totals->violations[i],
                    violation_name((enum violation)i));
    fputc('\n', out);
    journal_report(run->journal, out);
}

static void stop_redrives(struct run *run)
{
    run->result->redrives += redriver_stop(run->redriver);
    run->redriver = NULL;
}

int run(struct driver *driver, const struct run_options *options, struct run_result *result)
{
    struct run run = {.driver = driver,
                      .options = options,
                      .result = result,
                      .random = options->seed * 0x9e3779b97f4a7c15u | 1,
                      .start_ns = time_monotonic_ns()};
    struct err err;
    memset(result, 0, sizeof *result);
    make_queues(&run);
    run.journal = journal_create(&(struct journal_options){.queues = run.queues,
                                                           .queue_count = options->queues,
                                                           .producers = options->producers + 1,
                                                           .policy = options->policy,
                                                           .keys = driver->ops->keys});
    make_load(&run);
    if (driver->ops->start(driver, &err) != 0) {
        journal_violation(run.journal, VIOLATION_SERVICE, "first start: %s", err.text);
    } else if (create_queues(&run)) {
        say(&run, "load starts");
        if (options->policy)
            run.redriver = redriver_start(driver, run.queues, options->queues);
        load_start_consumers(run.load, false);
        load_start_producers(run.load);
        bool served = kill_all(&run);
        say(&run, "load stops");
        load_stop_producers(run.load);
        load_stop_consumers(run.load);
        if (served) {
            stop_redrives(&run);
            check_depths(&run);
            if (options->policy)
                run.redriver = redriver_start(driver, run.queues, options->queues);
            drain(&run);
            stop_redrives(&run);
            journal_finish(run.journal);
            if (driver->ops->stop(driver, &err) != 0)
                journal_violation(run.journal, VIOLATION_SERVICE, "stop: %s", err.text);
        }
    }
    stop_redrives(&run);
    result->seconds_ns = elapsed_ns(&run);
    journal_totals(run.journal, &result->totals);
    print_result(&run);
    load_destroy(run.load);
    journal_destroy(run.journal);
    return result->totals.violation_count ? -1 : 0;
}
