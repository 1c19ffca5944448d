#include "cli/inspect.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/output.h"

void inspect_say_state(unsigned percent, bool quarantined, bool paused, const char *before)
{
    if (paused) {
        printf("%spaused", before);
        before = ", ";
    }
    if (quarantined)
        printf("%squarantined", before);
    else if (percent < 100)
        printf("%scounting %u %%", before, percent);
}

static void inspect_histogram_json(struct output_json *json, const char *name,
                                   const struct fila_histogram *histogram)
{
    output_array(json, name);
    for (size_t i = 0; i < histogram->count; i++) {
        output_object(json, NULL);
        output_unsigned(json, "from", histogram->buckets[i].from);
        output_unsigned(json, "below", histogram->buckets[i].below);
        output_unsigned(json, "count", histogram->buckets[i].count);
        output_object_end(json);
    }
    output_array_end(json);
}

/* Under the names that the broker gives them. */
static void inspect_details_json(struct output_json *json, const struct fila_queue_details *details)
{
    output_object(json, "details");
    for (size_t i = 0; details && i < details->field_count; i++)
        output_unsigned(json, details->fields[i].name, details->queues[0].values[i]);
    output_object_end(json);
    if (!details)
        return;
    inspect_histogram_json(json, "time_in_queue_ms", &details->queues[0].time_in_queue);
    output_array(json, "concurrency_limits");
    for (size_t i = 0; i < details->limit_count; i++) {
        const struct fila_limit *limit = &details->limits[i];
        output_object(json, NULL);
        output_c_text(json, "key", limit->key);
        output_unsigned(json, "limit", limit->limit);
        output_unsigned(json, "in_flight", limit->in_flight);
        output_unsigned(json, "waiting", limit->waiting);
        output_object_end(json);
    }
    output_array_end(json);
}

static void inspect_json(const char *name, const struct fila_queue_stats *stats,
                         const struct fila_queue_details *details)
{
    struct output_json json;
    output_json_init(&json, stdout);
    output_object(&json, NULL);
    output_c_text(&json, "name", name);
    output_unsigned(&json, "depth", stats->depth);
    output_unsigned(&json, "in_flight", stats->in_flight);
    output_unsigned(&json, "active_fairness_keys", stats->active_fairness_keys);
    output_unsigned(&json, "consumers", stats->consumers);
    output_unsigned(&json, "quantum", stats->quantum);
    output_unsigned(&json, "leader_node_id", stats->leader_node_id);
    output_unsigned(&json, "replication_count", stats->replication_count);
    output_unsigned(&json, "counted_percent", stats->counted_percent);
    output_bool(&json, "quarantined", stats->quarantined);
    output_bool(&json, "paused", stats->paused);
    output_array(&json, "fairness_keys");
    for (size_t i = 0; i < stats->key_count; i++) {
        const struct fila_key_stats *key = &stats->keys[i];
        output_object(&json, NULL);
        output_c_text(&json, "key", key->key);
        output_unsigned(&json, "pending", key->pending);
        output_signed(&json, "deficit", key->deficit);
        output_unsigned(&json, "weight", key->weight);
        output_object_end(&json);
    }
    output_array_end(&json);
    output_array(&json, "throttle_keys");
    for (size_t i = 0; i < stats->throttle_count; i++) {
        const struct fila_throttle_stats *throttle = &stats->throttles[i];
        output_object(&json, NULL);
        output_c_text(&json, "key", throttle->key);
        output_double(&json, "tokens", throttle->tokens);
        output_double(&json, "rate_per_second", throttle->rate_per_second);
        output_double(&json, "burst", throttle->burst);
        output_object_end(&json);
    }
    output_array_end(&json);
    inspect_details_json(&json, details);
    output_object_end(&json);
    output_line(&json);
}

static void inspect_keys(const struct fila_queue_stats *stats)
{
    size_t width = 3;
    for (size_t i = 0; i < stats->key_count; i++)
        width = output_safe_widest(width, stats->keys[i].key);
    printf("\n  ");
    output_safe(stdout, "KEY", width);
    printf("  %9s  %9s  %6s\n", "PENDING", "DEFICIT", "WEIGHT");
    for (size_t i = 0; i < stats->key_count; i++) {
        const struct fila_key_stats *key = &stats->keys[i];
        printf("  ");
        output_safe(stdout, key->key, width);
        printf("  %9" PRIu64 "  %9" PRId64 "  %6" PRIu32 "\n", key->pending, key->deficit,
               key->weight);
    }
}

static void inspect_throttles(const struct fila_queue_stats *stats)
{
    size_t width = 3;
    for (size_t i = 0; i < stats->throttle_count; i++)
        width = output_safe_widest(width, stats->throttles[i].key);
    printf("\n  ");
    output_safe(stdout, "KEY", width);
    printf("  %9s  %9s  %9s\n", "TOKENS", "RATE/S", "BURST");
    for (size_t i = 0; i < stats->throttle_count; i++) {
        const struct fila_throttle_stats *throttle = &stats->throttles[i];
        printf("  ");
        output_safe(stdout, throttle->key, width);
        printf("  %9.1f  %9.1f  %9.1f\n", throttle->tokens, throttle->rate_per_second,
               throttle->burst);
    }
}

static void inspect_limits(const struct fila_queue_details *details)
{
    size_t width = 3;
    for (size_t i = 0; i < details->limit_count; i++)
        width = output_safe_widest(width, details->limits[i].key);
    printf("\n  ");
    output_safe(stdout, "KEY", width);
    printf("  %9s  %9s  %9s\n", "LIMIT", "IN_FLIGHT", "WAITING");
    for (size_t i = 0; i < details->limit_count; i++) {
        const struct fila_limit *limit = &details->limits[i];
        printf("  ");
        output_safe(stdout, limit->key, width);
        printf("  %9" PRIu64 "  %9" PRIu64 "  %9" PRIu64 "\n", limit->limit, limit->in_flight,
               limit->waiting);
    }
}

/* A number of the queue by the broker's name for it; false when it does not send it. */
static bool inspect_value(const struct fila_queue_details *details, const char *name,
                          uint64_t *value)
{
    size_t field = fila_queue_details_field(details, name);
    *value = field == SIZE_MAX ? 0 : details->queues[0].values[field];
    return field != SIZE_MAX;
}

static void inspect_number(const struct fila_queue_details *details, const char *name,
                           const char *label)
{
    uint64_t value;
    if (inspect_value(details, name, &value))
        printf("  %-22s%" PRIu64 "\n", label, value);
}

static void inspect_settings(const struct fila_queue_details *details)
{
    uint64_t value;
    if (inspect_value(details, "visibility_timeout_ms", &value))
        printf("  %-22s%" PRIu64 " ms\n", "Visibility timeout:", value);
    if (inspect_value(details, "max_attempts", &value) && value)
        printf("  %-22s%" PRIu64 "\n", "Maximum attempts:", value);
    else
        printf("  %-22s%s\n", "Maximum attempts:", "no limit");
}

static void inspect_waits(const struct fila_queue_details *details)
{
    static const struct {
        const char *name, *label;
    } quantiles[] = {{"time_in_queue_p50_ms", "p50"},
                     {"time_in_queue_p90_ms", "p90"},
                     {"time_in_queue_p99_ms", "p99"},
                     {"time_in_queue_max_ms", "max"}};
    uint64_t count, value;
    if (!inspect_value(details, "time_in_queue_count", &count) || !count)
        return;
    printf("  %-22s", "Time in queue:");
    for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++)
        if (inspect_value(details, quantiles[i].name, &value))
            printf("%s%s %" PRIu64 " ms", i ? ", " : "", quantiles[i].label, value);
    printf("\n");
}

/* All counters that the broker sends, also those of a newer one. */
static void inspect_counters(const struct fila_queue_details *details)
{
    static const char suffix[] = "_total", times[] = "time_";
    char since[32] = "?";
    uint64_t since_ms = 0;
    (void)inspect_value(details, "since_ms", &since_ms);
    time_t seconds = (time_t)(since_ms / 1000);
    struct tm local;
    if (since_ms && localtime_r(&seconds, &local))
        strftime(since, sizeof(since), "%Y-%m-%d %H:%M:%S", &local);
    printf("\n  Since %s:\n", since);
    for (size_t i = 0; i < details->field_count; i++) {
        const struct fila_number *field = &details->fields[i];
        char label[64];
        if (!field->is_counter || strncmp(field->name, times, sizeof(times) - 1) == 0)
            continue;
        size_t size = strlen(field->name), end = sizeof(suffix) - 1;
        if (size > end && strcmp(field->name + size - end, suffix) == 0)
            size -= end;
        snprintf(label, sizeof(label), "%.*s", (int)size, field->name);
        for (char *at = label; *at; at++)
            *at = *at == '_' ? ' ' : *at;
        printf("    ");
        output_safe(stdout, label, 20);
        printf("%" PRIu64 "\n", details->queues[0].values[i]);
    }
}

static void inspect_details(const struct fila_queue_details *details)
{
    inspect_number(details, "ready", "Ready:");
    inspect_number(details, "delayed", "Delayed:");
    inspect_number(details, "held", "Held back:");
    inspect_number(details, "dead_letters", "Dead letters:");
    inspect_settings(details);
    inspect_waits(details);
    inspect_counters(details);
}

static void inspect_table(const char *name, const struct fila_queue_stats *stats,
                          const struct fila_queue_details *details)
{
    printf("Queue: ");
    output_safe(stdout, name, 0);
    printf("\n  %-22s%" PRIu64, "Depth:", stats->depth);
    inspect_say_state(stats->counted_percent, stats->quarantined, stats->paused, ", ");
    printf("\n");
    printf("  %-22s%" PRIu64 "\n", "In-flight:", stats->in_flight);
    printf("  %-22s%" PRIu64 "\n", "Active fairness keys:", stats->active_fairness_keys);
    printf("  %-22s%" PRIu32 "\n", "Active consumers:", stats->consumers);
    printf("  %-22s%" PRIu32 "\n", "Quantum:", stats->quantum);
    if (stats->leader_node_id) {
        printf("  %-22snode %" PRIu64 "\n", "Raft leader:", stats->leader_node_id);
        printf("  %-22s%" PRIu32 "\n", "Replicas:", stats->replication_count);
    }
    if (details)
        inspect_details(details);
    if (stats->key_count)
        inspect_keys(stats);
    if (stats->throttle_count)
        inspect_throttles(stats);
    if (details && details->limit_count)
        inspect_limits(details);
}

int inspect_run(struct cli *cli, const struct args *args)
{
    const char *name = args->words[0];
    int status = cli_connect(cli);
    if (status != CLI_OK)
        return status;
    struct fila_queue_stats *stats = fila_queue_stats(cli->client, name, &cli->error);
    if (!stats)
        return cli_failed(cli, "inspect queue \"%s\"", name);
    struct fila_details_options options = {.queue = name, .histograms = true};
    struct fila_queue_details *details = fila_queue_details(cli->client, &options, &cli->error);
    /* Brokers other than filad do not know the request. */
    if (!details && cli->error.code != FILA_INVALID_REQUEST) {
        fila_queue_stats_free(stats);
        return cli_failed(cli, "inspect queue \"%s\"", name);
    }
    if (details && !details->queue_count) {
        fila_queue_details_free(details);
        details = NULL;
    }
    if (cli->json)
        inspect_json(name, stats, details);
    else
        inspect_table(name, stats, details);
    fila_queue_details_free(details);
    fila_queue_stats_free(stats);
    return CLI_OK;
}
