/* fila ack, nack */
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/output.h"

static void settle_say(const struct cli *cli, const char *done, const char *queue, const char *id,
                       enum fila_code code)
{
    struct output_json json;
    if (cli->json) {
        output_json_init(&json, stdout);
        output_object(&json, NULL);
        output_c_text(&json, "queue", queue);
        output_c_text(&json, "id", id);
        output_c_text(&json, "result", fila_code_text(code));
        output_object_end(&json);
        output_line(&json);
    }
    if (code != FILA_OK) {
        fflush(stdout);
        fprintf(stderr, "fila: %s %s: %s\n", done, id, fila_code_text(code));
    } else if (!cli->json) {
        printf("%sed %s\n", done, id);
    }
}

/* Acks, or nacks when there is a reason. */
static int settle_run(struct cli *cli, const struct args *args, const char *reason)
{
    const char *queue = args->words[0], *verb = reason ? "nack" : "ack";
    size_t count = args->word_count - 1;
    struct fila_ack *acks = calloc(count, sizeof(*acks));
    struct fila_nack *nacks = calloc(count, sizeof(*nacks));
    enum fila_code *codes = calloc(count, sizeof(*codes));
    int status = CLI_REFUSED, result;

    if (!acks || !nacks || !codes) {
        fprintf(stderr, "fila: no memory\n");
        goto out;
    }
    for (size_t i = 0; i < count; i++) {
        acks[i] = (struct fila_ack){fila_text(queue), fila_text(args->words[i + 1])};
        nacks[i] = (struct fila_nack){acks[i].queue, acks[i].id, fila_text(reason)};
    }
    status = cli_connect(cli);
    if (status != CLI_OK)
        goto out;
    status = CLI_REFUSED;
    if (reason)
        result = fila_nack_many(cli->client, nacks, count, codes, &cli->error);
    else
        result = fila_ack_many(cli->client, acks, count, codes, &cli->error);
    if (result != 0) {
        cli_failed(cli, "%s in \"%s\"", verb, queue);
        goto out;
    }
    status = CLI_OK;
    for (size_t i = 0; i < count; i++) {
        settle_say(cli, verb, queue, args->words[i + 1], codes[i]);
        if (codes[i] != FILA_OK)
            status = CLI_REFUSED;
    }
out:
    free(acks);
    free(nacks);
    free(codes);
    return status;
}

static int settle_ack(struct cli *cli, const struct args *args)
{
    return settle_run(cli, args, NULL);
}

static int settle_nack(struct cli *cli, const struct args *args)
{
    const char *reason = args_value(args, "error");
    if (!reason)
        return cli_misused("nack: --error is missing");
    return settle_run(cli, args, reason);
}

static const struct args_option settle_nack_options[] = {
    {"error", 0, "E", "why; the queue's on_failure script sees it", false},
    {NULL, 0, NULL, NULL, false},
};

const struct args_command cli_settle_commands[] = {
    {"ack", "QUEUE ID...", 2, SIZE_MAX, "Acknowledge messages leased by any consumer", NULL,
     settle_ack},
    {"nack", "QUEUE ID...", 2, SIZE_MAX, "Report messages as failed", settle_nack_options,
     settle_nack},
    {NULL, NULL, 0, 0, NULL, NULL, NULL},
};
