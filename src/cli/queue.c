/* fila queue create, delete, list */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/inspect.h"
#include "cli/output.h"
#include "cli/script.h"
#include "core/buf.h"
#include "core/err.h"
#include "os/io.h"

static int queue_create(struct cli *cli, const struct args *args)
{
    struct fila_queue_options options = {.on_enqueue = NULL};
    uint64_t max_attempts = 0;
    char *on_enqueue = NULL, *on_failure = NULL;
    const char *name = args->words[0];
    int status = CLI_USAGE;

    if (!args_number(args, "visibility-timeout", &options.visibility_timeout_ms) ||
        !script_attempts_option(args, &max_attempts) ||
        !script_option(args, "on-enqueue", &on_enqueue) ||
        !script_option(args, "on-failure", &on_failure))
        goto out;
    options.on_enqueue = on_enqueue;
    options.on_failure = on_failure;
    options.max_attempts = (uint32_t)max_attempts;
    options.dead_letter_headers = args_value(args, "dead-letter-headers") != NULL;
    status = cli_connect(cli);
    if (status != CLI_OK)
        goto out;
    status = CLI_REFUSED;
    if (fila_queue_create(cli->client, name, &options, &cli->error) != 0) {
        cli_failed(cli, "create queue \"%s\"", name);
        goto out;
    }
    cli_say_queue(cli, "Created", name);
    status = CLI_OK;
out:
    free(on_enqueue);
    free(on_failure);
    return status;
}

static int queue_delete(struct cli *cli, const struct args *args)
{
    const char *name = args->words[0];
    int status = cli_connect(cli);
    if (status != CLI_OK)
        return status;
    if (fila_queue_delete(cli->client, name, &cli->error) != 0)
        return cli_failed(cli, "delete queue \"%s\"", name);
    cli_say_queue(cli, "Deleted", name);
    return CLI_OK;
}

static void queue_list_json(const struct fila_queue_list *list)
{
    struct output_json json;
    output_json_init(&json, stdout);
    output_object(&json, NULL);
    output_array(&json, "queues");
    for (size_t i = 0; i < list->count; i++) {
        const struct fila_queue_info *queue = &list->queues[i];
        output_object(&json, NULL);
        output_c_text(&json, "name", queue->name);
        output_unsigned(&json, "depth", queue->depth);
        output_unsigned(&json, "in_flight", queue->in_flight);
        output_unsigned(&json, "consumers", queue->consumers);
        output_unsigned(&json, "leader_node_id", queue->leader_node_id);
        output_unsigned(&json, "counted_percent", queue->counted_percent);
        output_bool(&json, "quarantined", queue->quarantined);
        output_bool(&json, "paused", queue->paused);
        output_object_end(&json);
    }
    output_array_end(&json);
    output_unsigned(&json, "cluster_node_count", list->cluster_node_count);
    output_object_end(&json);
    output_line(&json);
}

static void queue_list_table(const struct fila_queue_list *list)
{
    bool cluster = list->cluster_node_count > 0;
    size_t width = 4;

    if (list->count == 0) {
        printf("No queues found.\n");
        return;
    }
    for (size_t i = 0; i < list->count; i++)
        width = output_safe_widest(width, list->queues[i].name);
    output_safe(stdout, "NAME", width);
    printf("  %7s  %9s  %9s", "DEPTH", "IN_FLIGHT", "CONSUMERS");
    printf(cluster ? "  %6s\n" : "\n", "LEADER");
    for (size_t i = 0; i < list->count; i++) {
        const struct fila_queue_info *queue = &list->queues[i];
        output_safe(stdout, queue->name, width);
        printf("  %7" PRIu64 "  %9" PRIu64 "  %9" PRIu32, queue->depth, queue->in_flight,
               queue->consumers);
        if (cluster)
            printf("  %6" PRIu64, queue->leader_node_id);
        inspect_say_state(queue->counted_percent, queue->quarantined, queue->paused, "  ");
        printf("\n");
    }
    if (cluster)
        printf("Cluster nodes: %" PRIu32 "\n", list->cluster_node_count);
}

static int queue_list(struct cli *cli, const struct args *args)
{
    (void)args;
    int status = cli_connect(cli);
    if (status != CLI_OK)
        return status;
    struct fila_queue_list *list = fila_queue_list(cli->client, &cli->error);
    if (!list)
        return cli_failed(cli, "list queues");
    if (cli->json)
        queue_list_json(list);
    else
        queue_list_table(list);
    fila_queue_list_free(list);
    return CLI_OK;
}

static const struct args_option queue_create_options[] = {
    {"on-enqueue", 0, "S", "Lua script run for each message; S is source or @FILE", false},
    {"on-failure", 0, "S", "Lua script run for each nack", false},
    {"visibility-timeout", 0, "MS", "how long a delivered message stays leased (the broker's own)",
     false},
    {"max-attempts", 0, "N", "a message that failed N times goes to the dead-letter queue", false},
    {"dead-letter-headers", 0, NULL, "dead letters are delivered with why they are dead", false},
    {NULL, 0, NULL, NULL, false},
};

const struct args_command cli_queue_commands[] = {
    {"queue create", "NAME", 1, 1, "Create a queue and its dead-letter queue", queue_create_options,
     queue_create},
    {"queue delete", "NAME", 1, 1, "Delete a queue and its messages", NULL, queue_delete},
    {"queue list", "", 0, 0, "List all queues", NULL, queue_list},
    {"queue inspect", "NAME", 1, 1, "Show everything that is known of one queue", NULL,
     inspect_run},
    {NULL, NULL, 0, 0, NULL, NULL, NULL},
};
