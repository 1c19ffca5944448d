#include "row.h"

#include <string.h>
#include <strings.h>

#include "limits.h"
#include "workload_consume.h"
#include "workload_enqueue.h"
#include "workload_latency.h"

static const struct enqueue_parameters one_in_flight = {.window = 1, .batch = 1};
static const struct enqueue_parameters hundred_in_flight = {.window = 100, .batch = 1};
static const struct enqueue_parameters batches_in_flight = {.window = 4, .batch = 100};

static const struct echo_parameters echo_anywhere = {.cores = ECHO_CORES_ANY};
static const struct echo_parameters echo_one_core = {.cores = ECHO_CORES_ONE};
static const struct echo_parameters echo_two_cores = {.cores = ECHO_CORES_TWO};

const struct row row_table[] = {
    {
        .name = "L1",
        .description = "append 4 KiB and fdatasync",
        .figures = {{"rate", "op/s", -1, ROW_TARGET_NONE, 0}},
        .unit = "syncs",
        .run = limits_run_sync,
    },
    {
        .name = "L2",
        .description = "raw Berkeley DB, 100 per transaction, no flush",
        .figures = {{"put", "op/s", -1, ROW_TARGET_NONE, 0},
                    {"delete", "op/s", -1, ROW_TARGET_NONE, 0}},
        .unit = "records",
        .run = limits_run_store,
    },
    {
        .name = "L3",
        .description = "1 KiB echo over loopback TCP, two processes",
        .figures = {{"p50", "ms", -1, ROW_TARGET_NONE, 0}, {"p99", "ms", -1, ROW_TARGET_NONE, 0}},
        .parameters = &echo_anywhere,
        .unit = "round trips",
        .run = limits_run_echo,
    },
    {
        .name = "L3a",
        .description = "the same, both pinned to one core",
        .figures = {{"p50", "ms", -1, ROW_TARGET_NONE, 0}, {"p99", "ms", -1, ROW_TARGET_NONE, 0}},
        .parameters = &echo_one_core,
        .unit = "round trips",
        .run = limits_run_echo,
    },
    {
        .name = "L3b",
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
        .name = "W3",
        .description = "consume and ack a preloaded queue",
        .limit = "L2",
        .figures = {{"rate", "msg/s", 1, ROW_TARGET_RATIO_MIN, 0.5}},
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
        .unit = "messages",
        .run = workload_latency_run,
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
