#include "row.h"

#include <string.h>
#include <strings.h>

#include "limits.h"
#include "workload_backlog.h"
#include "workload_consume.h"
#include "workload_enqueue.h"
#include "workload_fairness.h"
#include "workload_latency.h"
#include "workload_overhead.h"
#include "workload_redrive.h"
#include "workload_throttle.h"
#include "workload_through.h"

static const struct enqueue_parameters one_in_flight = {.window = 1, .batch = 1};
static const struct enqueue_parameters hundred_in_flight = {.window = 100, .batch = 1};
static const struct enqueue_parameters batches_in_flight = {.window = 4, .batch = 100};
static const struct enqueue_parameters ten_keys_in = {.window = 100, .batch = 1, .keys = 10};
static const struct enqueue_parameters thousand_keys_in = {.window = 100, .batch = 1, .keys = 1000};
static const struct enqueue_parameters many_keys_in = {.window = 100, .batch = 1, .keys = 100000};

static const struct consume_parameters one_consumer = {.consumers = 1};
static const struct consume_parameters ten_keys_out = {.consumers = 1, .keys = 10};
static const struct consume_parameters thousand_keys_out = {.consumers = 1, .keys = 1000};
static const struct consume_parameters ten_thousand_keys_out = {.consumers = 1, .keys = 10000};
static const struct consume_parameters many_keys_out = {.consumers = 1, .keys = 100000};
static const struct consume_parameters ten_consumers = {.consumers = 10};
static const struct consume_parameters hundred_consumers = {.consumers = 100};

static const struct latency_parameters undisturbed = {.disturbed = false};
static const struct latency_parameters disturbed = {.disturbed = true};

static const struct through_parameters three_and_three = {
    .producers = 3, .consumers = 3, .window = 4, .batch = 100};

static const struct echo_parameters echo_anywhere = {.cores = ECHO_CORES_ANY};
static const struct echo_parameters echo_one_core = {.cores = ECHO_CORES_ONE};
static const struct echo_parameters echo_two_cores = {.cores = ECHO_CORES_TWO};

const struct row row_table[] = {
    {
        .name = "L1",
        .kind = ROW_LIMIT,
        .description = "append 4 KiB and fdatasync",
        .figures = {{"rate", "op/s", -1, ROW_TARGET_NONE, 0}},
        .unit = "syncs",
        .run = limits_run_sync,
    },
    {
        .name = "L2",
        .kind = ROW_LIMIT,
        .description = "raw Berkeley DB, 100 per transaction, no flush",
        .figures = {{"put", "op/s", -1, ROW_TARGET_NONE, 0},
                    {"delete", "op/s", -1, ROW_TARGET_NONE, 0}},
        .unit = "records",
        .run = limits_run_store,
    },
    {
        .name = "L3",
        .kind = ROW_LIMIT,
        .description = "1 KiB echo over loopback TCP, two processes",
        .figures = {{"p50", "ms", -1, ROW_TARGET_NONE, 0}, {"p99", "ms", -1, ROW_TARGET_NONE, 0}},
        .parameters = &echo_anywhere,
        .unit = "round trips",
        .run = limits_run_echo,
    },
    {
        .name = "L3a",
        .kind = ROW_LIMIT,
        .description = "the same, both pinned to one core",
        .figures = {{"p50", "ms", -1, ROW_TARGET_NONE, 0}, {"p99", "ms", -1, ROW_TARGET_NONE, 0}},
        .parameters = &echo_one_core,
        .unit = "round trips",
        .run = limits_run_echo,
    },
    {
        .name = "L3b",
        .kind = ROW_LIMIT,
        .description = "the same, pinned to two cores",
        .figures = {{"p50", "ms", -1, ROW_TARGET_NONE, 0}, {"p99", "ms", -1, ROW_TARGET_NONE, 0}},
        .parameters = &echo_two_cores,
        .unit = "round trips",
        .run = limits_run_echo,
    },
    {
        .name = "W1",
        .description = "enqueue, one in flight",
        .limit = "L1",
        .figures = {{"rate", "msg/s", 0, ROW_TARGET_RATIO_MIN, 0.7}},
        .parameters = &one_in_flight,
        .unit = "messages",
        .run = workload_enqueue_run,
    },
    {
        .name = "W2",
        .description = "enqueue, 100 single-message frames in flight",
        .limit = "L2",
        .figures = {{"rate", "msg/s", 0, ROW_TARGET_RATIO_MIN, 0.4}},
        .parameters = &hundred_in_flight,
        .unit = "messages",
        .run = workload_enqueue_run,
    },
    {
        .name = "W2b",
        .description = "enqueue, frames of 100, 4 in flight",
        .limit = "L2",
        .figures = {{"rate", "msg/s", 0, ROW_TARGET_RATIO_MIN, 0.7}},
        .parameters = &batches_in_flight,
        .unit = "messages",
        .run = workload_enqueue_run,
    },
    {
        .name = "W2-10",
        .description = "W2 with 10 fairness keys",
        .limit = "L2",
        .figures = {{"rate", "msg/s", 0, ROW_TARGET_NONE, 0}},
        .parameters = &ten_keys_in,
        .unit = "messages",
        .run = workload_enqueue_run,
    },
    {
        .name = "W2-1k",
        .description = "W2 with 1,000 fairness keys",
        .limit = "L2",
        .figures = {{"rate", "msg/s", 0, ROW_TARGET_NONE, 0}},
        .parameters = &thousand_keys_in,
        .unit = "messages",
        .run = workload_enqueue_run,
    },
    {
        .name = "W2-100k",
        .description = "W2 with 100,000 fairness keys",
        .limit = "L2",
        .figures = {{"rate", "msg/s", 0, ROW_TARGET_NONE, 0}},
        .parameters = &many_keys_in,
        .unit = "messages",
        .run = workload_enqueue_run,
    },
    {
        .name = "W3",
        .description = "consume and ack a preloaded queue",
        .limit = "L2",
        .figures = {{"rate", "msg/s", 1, ROW_TARGET_RATIO_MIN, 0.5}},
        .parameters = &one_consumer,
        .unit = "messages",
        .run = workload_consume_run,
    },
    {
        .name = "W3-10",
        .description = "W3 with 10 fairness keys",
        .limit = "L2",
        .figures = {{"rate", "msg/s", 1, ROW_TARGET_NONE, 0}},
        .parameters = &ten_keys_out,
        .unit = "messages",
        .run = workload_consume_run,
    },
    {
        .name = "W3-1k",
        .description = "W3 with 1,000 fairness keys",
        .limit = "L2",
        .figures = {{"rate", "msg/s", 1, ROW_TARGET_NONE, 0}},
        .parameters = &thousand_keys_out,
        .unit = "messages",
        .run = workload_consume_run,
    },
    {
        .name = "W3-10k",
        .description = "W3 with 10,000 fairness keys",
        .limit = "L2",
        .figures = {{"rate", "msg/s", 1, ROW_TARGET_NONE, 0}},
        .parameters = &ten_thousand_keys_out,
        .unit = "messages",
        .run = workload_consume_run,
    },
    {
        .name = "W3-100k",
        .description = "W3 with 100,000 fairness keys",
        .limit = "L2",
        .figures = {{"rate", "msg/s", 1, ROW_TARGET_NONE, 0}},
        .parameters = &many_keys_out,
        .unit = "messages",
        .run = workload_consume_run,
    },
    {
        .name = "W4",
        .description = "from produce to delivery, one message at a time",
        .limit = "L3",
        .figures = {{"p50", "ms", 0, ROW_TARGET_RATIO_MAX, 3},
                    {"p99", "ms", 1, ROW_TARGET_VALUE_MAX, 2},
                    {"p99.9", "ms", -1, ROW_TARGET_NONE, 0}},
        .parameters = &undisturbed,
        .unit = "messages",
        .run = workload_latency_run,
    },
    {
        .name = "W4c",
        .description = "W4 while a checkpoint and compaction run",
        .limit = "L3",
        .figures = {{"p50", "ms", 0, ROW_TARGET_NONE, 0},
                    {"p99", "ms", 1, ROW_TARGET_NONE, 0},
                    {"p99.9", "ms", -1, ROW_TARGET_NONE, 0}},
        .parameters = &disturbed,
        .unit = "messages",
        .run = workload_latency_run,
    },
    {
        .name = "W5",
        .description = "3 producers (frames of 100), 3 consumers at once",
        .limit = "L2",
        .seconds = 15,
        .figures = {{"rate", "msg/s", 0, ROW_TARGET_RATIO_MIN, 0.3}},
        .parameters = &three_and_three,
        .unit = "messages",
        .run = workload_through_run,
    },
    {
        .name = "W6",
        .description = "memory, idle and with 1,000,000 messages queued",
        .figures = {{"idle", "MiB", -1, ROW_TARGET_VALUE_MAX, 40},
                    {"more", "MiB", -1, ROW_TARGET_VALUE_MAX, 16},
                    {"each", "B/msg", -1, ROW_TARGET_NONE, 0}},
        .unit = "looks",
        .run = workload_backlog_memory,
    },
    {
        .name = "W7-10",
        .description = "10 consumers of one queue",
        .limit = "L2",
        .figures = {{"rate", "msg/s", 1, ROW_TARGET_NONE, 0}},
        .parameters = &ten_consumers,
        .unit = "messages",
        .run = workload_consume_run,
    },
    {
        .name = "W7-100",
        .description = "100 consumers of one queue",
        .limit = "L2",
        .figures = {{"rate", "msg/s", 1, ROW_TARGET_NONE, 0}},
        .parameters = &hundred_consumers,
        .unit = "messages",
        .run = workload_consume_run,
    },
    {
        .name = "W8",
        .description = "restart after kill -9 with 1,000,000 queued",
        .figures = {{"deliver", "s", -1, ROW_TARGET_VALUE_MAX, 5},
                    {"confirm", "s", -1, ROW_TARGET_VALUE_MAX, 5}},
        .unit = "restarts",
        .run = workload_backlog_restart,
    },
    {
        .name = "W9",
        .description = "shares of 5 fairness keys, weights 1 to 5",
        .figures = {{"off by", "%", -1, ROW_TARGET_VALUE_MAX, 1}},
        .unit = "messages",
        .run = workload_fairness_run,
    },
    {
        .name = "W10",
        .description = "draining 10 fairness keys against one",
        .figures = {{"time more", "%", -1, ROW_TARGET_VALUE_MAX, 5}},
        .unit = "pairs",
        .run = workload_overhead_run_keys,
    },
    {
        .name = "W11",
        .description = "an on_enqueue script that reads a header",
        .figures = {{"cpu", "us/msg", -1, ROW_TARGET_VALUE_MAX, 5},
                    {"time more", "%", -1, ROW_TARGET_NONE, 0}},
        .unit = "pairs",
        .run = workload_overhead_run_script,
    },
    {
        .name = "W12",
        .description = "throttles of 100, 1,000, 10,000 per second",
        .seconds = 9,
        .figures = {{"100 off by", "%", -1, ROW_TARGET_VALUE_MAX, 2},
                    {"1k off by", "%", -1, ROW_TARGET_VALUE_MAX, 2},
                    {"10k off by", "%", -1, ROW_TARGET_VALUE_MAX, 2}},
        .unit = "messages",
        .run = workload_throttle_run,
    },
    {
        .name = "W13",
        .description = "redrive of dead letters",
        .limit = "L2",
        .figures = {{"rate", "msg/s", 1, ROW_TARGET_NONE, 0}},
        .unit = "messages",
        .run = workload_redrive_run,
    },
    {.name = NULL},
};

const struct row *row_find(const char *name, size_t size)
{
    for (const struct row *row = row_table; row->name != NULL; row++) {
        if (strlen(row->name) == size && strncasecmp(row->name, name, size) == 0) {
            return row;
        }
    }
    return NULL;
}

size_t row_figure_count(const struct row *row)
{
    size_t count = 0;
    while (count < ROW_FIGURES && row->figures[count].name != NULL) {
        count++;
    }
    return count;
}
