/* fila redrive, fila queue purge */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/output.h"
#include "core/str.h"

#define PATIENCE_MS (24u * 3600u * 1000u)
#define REDRIVE_STEP 20000u /* messages asked for at a time: about a second */

static bool is_dlq(const char *name)
{
    return str_ends_with(str_from_c(name), STR(".dlq"));
}

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

static int print_count_json(const char *queue, const char *what, uint64_t count)
{
    struct output_json json;
    output_json_init(&json, stdout);
    output_object(&json, NULL);
    output_c_text(&json, "queue", queue);
    output_unsigned(&json, what, count);
    output_object_end(&json);
    output_line(&json);
    return CLI_OK;
}

/* --- redrive --- */

/* What is to be moved: as many as there are now, so that messages which fail again meanwhile do not
 * keep the command at work for ever. UINT64_MAX when the broker cannot say yet. */
static int redrive_target(struct cli *cli, const char *name, uint64_t *left)
{
    struct fila_queue_stats *stats = fila_queue_stats(cli->client, name, &cli->error);
    if (!stats)
        return cli_failed(cli, "redrive \"%s\"", name);
    *left = stats->counted_percent < 100 ? UINT64_MAX : stats->depth - stats->in_flight;
    fila_queue_stats_free(stats);
    return CLI_OK;
}

static void redrive_progress(const struct cli *cli, uint64_t moved, uint64_t target, bool more)
{
    if (cli->json || !isatty(STDERR_FILENO))
        return;
    if (!more)
        fprintf(stderr, "\r\033[K");
    else if (target == UINT64_MAX)
        fprintf(stderr, "\rMoved %" PRIu64, moved);
    else
        fprintf(stderr, "\rMoved %" PRIu64 " of %" PRIu64, moved, target);
}

/* In steps, each with its own answer. */
static int redrive_all(struct cli *cli, const char *name, uint64_t target, uint64_t *total)
{
    uint64_t moved = 0, wanted = 0;
    do {
        uint64_t left = target - *total;
        wanted = left < REDRIVE_STEP ? left : REDRIVE_STEP;
        if (fila_redrive(cli->client, name, wanted ? wanted : 1, &moved, &cli->error) != 0)
            return -1;
        *total += moved;
        if (moved == wanted && *total < target)
            redrive_progress(cli, *total, target, true);
    } while (moved == wanted && *total < target);
    return 0;
}

static int redrive(struct cli *cli, const struct args *args)
{
    const char *name = args->words[0];
    uint64_t target = 0, total = 0;

    if (!args_number(args, "count", &target))
        return CLI_USAGE;
    int status = cli_connect(cli);
    if (status == CLI_OK && !target && is_dlq(name))
        status = redrive_target(cli, name, &target);
    if (status != CLI_OK)
        return status;
    status = redrive_all(cli, name, target, &total);
    redrive_progress(cli, total, target, false);
    if (status != 0 && total)
        fprintf(stderr, "fila: %" PRIu64 " message%s moved before the failure\n", total,
                plural(total));
    if (status != 0)
        return cli_failed(cli, "redrive \"%s\"", name);
    if (cli->json)
        return print_count_json(name, "redriven", total);
    printf("Redrive complete: %" PRIu64 " message%s moved from \"", total, plural(total));
    output_safe(stdout, name, 0);
    printf("\"\n");
    return CLI_OK;
}

/* --- purge --- */

/* Asks a person; scripts have decided already. */
static bool purge_confirmed(const struct args *args)
{
    char answer[16] = "";
    if (args_value(args, "yes") || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return true;
    fprintf(stderr, "Delete all messages of queue \"");
    output_safe(stderr, args->words[0], 0);
    fprintf(stderr, "\" that are not leased? [y/N] ");
    if (!fgets(answer, sizeof(answer), stdin))
        return false;
    return strcmp(answer, "y\n") == 0 || strcmp(answer, "Y\n") == 0 || strcmp(answer, "yes\n") == 0;
}

static int purge(struct cli *cli, const struct args *args)
{
    const char *name = args->words[0];
    uint64_t purged = 0;

    if (!purge_confirmed(args)) {
        fprintf(stderr, "fila: nothing was deleted\n");
        return CLI_REFUSED;
    }
    cli->request_timeout_ms = PATIENCE_MS;
    int status = cli_connect(cli);
    if (status != CLI_OK)
        return status;
    if (fila_queue_purge(cli->client, name, &purged, &cli->error) != 0)
        return cli_failed(cli, "purge queue \"%s\"", name);
    if (cli->json)
        return print_count_json(name, "purged", purged);
    printf("Purged %" PRIu64 " message%s from \"", purged, plural(purged));
    output_safe(stdout, name, 0);
    printf("\"\n");
    return CLI_OK;
}

static const struct args_option redrive_options[] = {
    {"count", 0, "N", "how many messages (0, the default: all)", false},
    {NULL, 0, NULL, NULL, false},
};

static const struct args_option purge_options[] = {
    {"yes", 'y', NULL, "do not ask", false},
    {NULL, 0, NULL, NULL, false},
};

const struct args_command cli_messages_commands[] = {
    {"redrive", "DLQ", 1, 1, "Move messages of a dead-letter queue back", redrive_options, redrive},
    {"queue purge", "NAME", 1, 1, "Delete the messages of a queue that are not leased",
     purge_options, purge},
    {NULL, NULL, 0, 0, NULL, NULL, NULL},
};
