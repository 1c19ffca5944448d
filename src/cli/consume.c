/* fila consume */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/message.h"
#include "cli/output.h"

#define CONSUME_BATCH 100 /* messages written before they are acked together */

/* One run of the command. */
struct consume {
    struct cli *cli;
    const char *queue;
    uint64_t limit;     /* messages to take; 0: no end */
    int64_t timeout_ms; /* without a message; negative: for ever */
    bool ack;
    const char *nack_reason; /* NULL: ack */
};

static void consume_json(const struct fila_delivery *delivery)
{
    struct output_json json;
    output_json_init(&json, stdout);
    output_object(&json, NULL);
    output_text(&json, "id", delivery->id.data, delivery->id.size);
    output_text(&json, "queue", delivery->queue.data, delivery->queue.size);
    message_headers(&json, delivery);
    output_bytes(&json, "payload", delivery->payload.data, delivery->payload.size);
    output_text(&json, "fairness_key", delivery->fairness_key.data, delivery->fairness_key.size);
    output_unsigned(&json, "weight", delivery->weight);
    message_throttle_keys(&json, delivery);
    output_unsigned(&json, "attempt", delivery->attempt);
    output_unsigned(&json, "enqueued_ms", delivery->enqueued_ms);
    output_unsigned(&json, "leased_ms", delivery->leased_ms);
    output_object_end(&json);
    output_line(&json);
}

/* Writes all; 0 when everything is out of this program. */
static int consume_write(const struct consume *consume, struct fila_delivery *const *deliveries,
                         size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (consume->cli->json) {
            consume_json(deliveries[i]);
        } else {
            fwrite(deliveries[i]->payload.data, 1, deliveries[i]->payload.size, stdout);
            fputc('\n', stdout);
        }
    }
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    fprintf(stderr, "fila: standard output: %s\n", strerror(errno));
    return -1;
}

/* Acks or nacks what was written. A lease that has expired meanwhile is told and not the end. */
static int consume_settle(struct consume *consume, struct fila_delivery *const *deliveries,
                          size_t count)
{
    struct cli *cli = consume->cli;
    struct fila_ack acks[CONSUME_BATCH];
    struct fila_nack nacks[CONSUME_BATCH];
    enum fila_code codes[CONSUME_BATCH];
    int result;

    for (size_t i = 0; i < count; i++) {
        acks[i] = (struct fila_ack){deliveries[i]->queue, deliveries[i]->id};
        nacks[i] = (struct fila_nack){deliveries[i]->queue, deliveries[i]->id,
                                      fila_text(consume->nack_reason)};
    }
    if (consume->nack_reason)
        result = fila_nack_many(cli->client, nacks, count, codes, &cli->error);
    else
        result = fila_ack_many(cli->client, acks, count, codes, &cli->error);
    if (result != 0)
        return cli_failed(cli, "%s in \"%s\"", consume->nack_reason ? "nack" : "ack",
                          consume->queue);
    for (size_t i = 0; i < count; i++) {
        if (codes[i] == FILA_OK)
            continue;
        fprintf(stderr, "fila: %s %s: %s\n", consume->nack_reason ? "nack" : "ack",
                (const char *)deliveries[i]->id.data, fila_code_text(codes[i]));
        if (codes[i] != FILA_MESSAGE_NOT_FOUND)
            result = CLI_REFUSED;
    }
    return result;
}

static int consume_loop(struct consume *consume, struct fila_consumer *consumer)
{
    struct fila_delivery *deliveries[CONSUME_BATCH];
    uint64_t taken = 0;
    int status = CLI_OK;

    while (status == CLI_OK && (consume->limit == 0 || taken < consume->limit)) {
        size_t most = CONSUME_BATCH;
        if (consume->limit && consume->limit - taken < most)
            most = (size_t)(consume->limit - taken);
        int got = fila_receive_many(consumer, consume->timeout_ms, deliveries, most,
                                    &consume->cli->error);
        if (got < 0)
            return cli_failed(consume->cli, "consume from \"%s\"", consume->queue);
        if (got == 0)
            break;
        size_t count = (size_t)got;
        if (consume_write(consume, deliveries, count) != 0)
            status = CLI_REFUSED;
        else if (consume->ack)
            status = consume_settle(consume, deliveries, count);
        for (size_t i = 0; i < count; i++)
            fila_delivery_free(deliveries[i]);
        taken += count;
    }
    return status;
}

static int consume_run(struct cli *cli, const struct args *args)
{
    struct consume consume = {
        .cli = cli,
        .queue = args->words[0],
        .timeout_ms = -1,
        .ack = args_value(args, "no-ack") == NULL,
        .nack_reason = args_value(args, "nack"),
    };
    uint64_t timeout = UINT64_MAX;
    char typed[ARGS_TYPED_SIZE];

    if (!args_number(args, "count", &consume.limit) || !args_number(args, "timeout", &timeout))
        return CLI_USAGE;
    if (args_value(args, "count") && consume.limit == 0)
        return cli_misused("consume: %s must be at least 1", args_typed(args, "count", typed));
    if (!consume.ack && consume.nack_reason)
        return cli_misused("consume: --no-ack and --nack exclude each other");
    if (timeout <= INT64_MAX / 2)
        consume.timeout_ms = (int64_t)timeout;

    int status = cli_connect(cli);
    if (status != CLI_OK)
        return status;
    /* What is beyond the limit stays with the broker, for others. */
    uint32_t limit = consume.limit <= UINT32_MAX ? (uint32_t)consume.limit : 0;
    struct fila_consumer *consumer =
        fila_consume_limited(cli->client, consume.queue, limit, &cli->error);
    if (!consumer)
        return cli_failed(cli, "consume from \"%s\"", consume.queue);
    status = consume_loop(&consume, consumer);
    fila_consumer_free(consumer);
    return status;
}

static const struct args_option consume_options[] = {
    {"count", 'n', "N", "stop after N messages", false},
    {"no-ack", 0, NULL, "leave the messages leased until their visibility timeout", false},
    {"nack", 0, "ERROR", "nack each message with this error instead", false},
    {"timeout", 0, "MS", "stop when no message has come for so long", false},
    {NULL, 0, NULL, NULL, false},
};

const struct args_command cli_consume_commands[] = {
    {"consume", "QUEUE", 1, 1, "Print messages and acknowledge each after it is written",
     consume_options, consume_run},
    {NULL, NULL, 0, 0, NULL, NULL, NULL},
};
