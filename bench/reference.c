#include "reference.h"

#include <string.h>

#define MIB (1024.0 * 1024.0)

const struct reference reference_table[] = {
    {"enqueue_throughput_1kb", "msg/s", 3096.5, "W1", 0, 1},
    {"enqueue_throughput_1kb_mbps", "MB/s", 3.02, "W1", 0, 1024 / MIB},
    {"e2e_latency_p50_light", "ms", 0.379, "W4", 0, 1},
    {"e2e_latency_p99_light", "ms", 0.511, "W4", 1, 1},
    {"fairness_overhead_pct", "%", 3.50, "W10", 0, 1},
    {"fairness_accuracy_max_deviation", "%", 0.2, "W9", 0, 1},
    {"lua_on_enqueue_overhead_us", "us", 24.6, "W11", 0, 1},
    {"consumer_concurrency_1_throughput", "msg/s", 328, "W3", 0, 1},
    {"consumer_concurrency_10_throughput", "msg/s", 1880, "W7-10", 0, 1},
    {"consumer_concurrency_100_throughput", "msg/s", 1816, "W7-100", 0, 1},
    {"key_cardinality_10_throughput", "msg/s", 2695.8, "W3-10", 0, 1},
    {"key_cardinality_1k_throughput", "msg/s", 1117.3, "W3-1k", 0, 1},
    {"key_cardinality_10k_throughput", "msg/s", 583.2, "W3-10k", 0, 1},
    {"memory_rss_idle", "MB", 162.8, "W6", 0, 1},
    {"memory_per_message_overhead", "B/msg", 99.5, "W6", 2, 1},
    {"compaction_idle_p99", "ms", 0.453, "W4", 1, 1},
    {"compaction_active_p99", "ms", 0.445, "W4c", 1, 1},
    {.name = NULL},
};

static const struct session_entry *find_done(const struct session *session, const char *name)
{
    for (const struct session_entry *entry = session->entries; entry->row != NULL; entry++) {
        if (entry->done && strcmp(entry->row->name, name) == 0) {
            return entry;
        }
    }
    return NULL;
}

bool reference_value(const struct session *session, const struct reference *reference,
                     double *value)
{
    const struct session_entry *entry = find_done(session, reference->row);
    if (entry == NULL) {
        return false;
    }
    *value = entry->figures[reference->figure].value * reference->factor;
    return true;
}
