/* fila enqueue */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/output.h"
#include "core/buf.h"

#define ENQUEUE_READ_SIZE (256u * 1024)

/* One run of the command. */
struct enqueue {
    struct cli *cli;
    const char *queue;
    struct fila_header *headers; /* owned */
    size_t header_count;
    struct fila_message *messages;       /* owned; of the batch under way */
    struct fila_enqueue_result *results; /* owned; as many */
    size_t room;
    uint64_t line; /* of --lines: number of the first line of the batch; 0 without it */
    bool rejected; /* by the queue's script: some message, the others went on */
};

/* -H KEY=VALUE, split at the first '='. */
static int enqueue_headers(struct enqueue *enqueue, const struct args *args)
{
    enqueue->headers = calloc(args->given_count + 1, sizeof(*enqueue->headers));
    if (!enqueue->headers) {
        fprintf(stderr, "fila: no memory\n");
        return CLI_REFUSED;
    }
    for (size_t i = 0; i < args->given_count; i++) {
        const struct args_given *given = &args->given[i];
        if (strcmp(given->option->name, "header") != 0)
            continue;
        const char *equals = strchr(given->value, '=');
        if (!equals || equals == given->value)
            return cli_misused("-H %s: is not KEY=VALUE", given->value);
        struct fila_slice name = {given->value, (size_t)(equals - given->value)};
        enqueue->headers[enqueue->header_count++] =
            (struct fila_header){name, fila_text(equals + 1)};
    }
    return CLI_OK;
}

static int enqueue_grow(struct enqueue *enqueue, size_t count)
{
    if (count <= enqueue->room)
        return 0;
    size_t room = count * 2;
    struct fila_message *messages = realloc(enqueue->messages, room * sizeof(*messages));
    if (messages)
        enqueue->messages = messages;
    struct fila_enqueue_result *results = realloc(enqueue->results, room * sizeof(*results));
    if (results)
        enqueue->results = results;
    if (!messages || !results) {
        fprintf(stderr, "fila: no memory\n");
        return -1;
    }
    enqueue->room = room;
    return 0;
}

static int enqueue_add(struct enqueue *enqueue, size_t count, const void *payload, size_t size)
{
    if (enqueue_grow(enqueue, count + 1) != 0)
        return -1;
    enqueue->messages[count] = (struct fila_message){
        .queue = fila_text(enqueue->queue),
        .headers = enqueue->headers,
        .header_count = enqueue->header_count,
        .payload = {payload, size},
    };
    return 0;
}

static void enqueue_say(const struct enqueue *enqueue, const char *id)
{
    struct output_json json;
    if (!enqueue->cli->json) {
        printf("%s\n", id);
        return;
    }
    output_json_init(&json, stdout);
    output_object(&json, NULL);
    output_c_text(&json, "queue", enqueue->queue);
    output_c_text(&json, "id", id);
    output_object_end(&json);
    output_line(&json);
}

static const char *enqueue_reason(const struct fila_enqueue_result *result)
{
    return result->reason[0] ? result->reason : fila_code_text(result->code);
}

/* For scripts: which of the messages it is that has no id. */
static void enqueue_say_refused(const struct enqueue *enqueue, size_t index)
{
    struct output_json json;
    if (!enqueue->cli->json)
        return;
    output_json_init(&json, stdout);
    output_object(&json, NULL);
    output_c_text(&json, "queue", enqueue->queue);
    if (enqueue->line)
        output_unsigned(&json, "line", enqueue->line + index);
    output_c_text(&json, "result", enqueue_reason(&enqueue->results[index]));
    output_object_end(&json);
    output_line(&json);
}

static void enqueue_complain(const struct enqueue *enqueue, size_t index)
{
    fprintf(stderr, "fila: enqueue ");
    if (enqueue->line)
        fprintf(stderr, "line %" PRIu64 " ", enqueue->line + index);
    fprintf(stderr, "to \"%s\": ", enqueue->queue);
    output_safe(stderr, enqueue_reason(&enqueue->results[index]), 0);
    fprintf(stderr, "\n");
}

/* Sends the batch and prints the ids of what was confirmed, also when a part was refused. What a
 * script rejects is said message by message and is no reason to stop. */
static int enqueue_send(struct enqueue *enqueue, size_t count)
{
    struct cli *cli = enqueue->cli;
    size_t refused = 0, refused_count = 0;

    int result =
        fila_enqueue_many(cli->client, enqueue->messages, count, enqueue->results, &cli->error);
    for (size_t i = 0; i < count; i++) {
        if (enqueue->results[i].code == FILA_OK) {
            enqueue_say(enqueue, enqueue->results[i].id);
            continue;
        }
        if (result == 0)
            enqueue_say_refused(enqueue, i);
        if (result == 0 && enqueue->results[i].code == FILA_FORBIDDEN) {
            enqueue->rejected = true;
            enqueue_complain(enqueue, i);
        } else {
            refused = refused_count++ == 0 ? i : refused;
        }
    }
    fflush(stdout);
    if (result != 0)
        return cli_failed(cli, "enqueue to \"%s\"", enqueue->queue);
    if (refused_count == 0)
        return CLI_OK;
    enqueue_complain(enqueue, refused);
    if (refused_count > 1)
        fprintf(stderr, "fila: enqueue to \"%s\": and %zu more messages\n", enqueue->queue,
                refused_count - 1);
    return CLI_REFUSED;
}

/* Reads a piece of standard input: 1, 0 at its end, -1 after a complaint. */
static int enqueue_read(struct buf *input)
{
    uint8_t *room = buf_reserve(input, ENQUEUE_READ_SIZE);
    if (!room) {
        fprintf(stderr, "fila: standard input: no memory\n");
        return -1;
    }
    ssize_t got;
    do {
        got = read(STDIN_FILENO, room, ENQUEUE_READ_SIZE);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        fprintf(stderr, "fila: standard input: %s\n", strerror(errno));
        return -1;
    }
    input->size += (size_t)got;
    return got > 0;
}

/* No broker takes it: no need to read on. */
static bool enqueue_too_long(size_t size)
{
    if (size <= CLI_MESSAGE_MAX)
        return false;
    fprintf(stderr, "fila: standard input: a message is longer than %u bytes\n", CLI_MESSAGE_MAX);
    return true;
}

static int enqueue_whole_input(struct enqueue *enqueue)
{
    struct buf input;
    int status = CLI_REFUSED, more;

    buf_init(&input, 0);
    while ((more = enqueue_read(&input)) > 0)
        if (enqueue_too_long(input.size))
            goto out;
    if (more == 0 && enqueue_add(enqueue, 0, input.data, input.size) == 0)
        status = enqueue_send(enqueue, 1);
out:
    buf_free(&input);
    return status;
}

/* Collects the complete lines at the front of the input; *used: the bytes they take. At the end of
 * the input a rest without a newline is a line too. -1 without memory. */
static int enqueue_lines(struct enqueue *enqueue, const struct buf *input, bool at_end,
                         size_t *used, size_t *count)
{
    *used = 0;
    *count = 0;
    while (*used < input->size) {
        const uint8_t *line = input->data + *used;
        size_t left = input->size - *used;
        const uint8_t *newline = memchr(line, '\n', left);
        if (!newline && !at_end)
            break;
        size_t size = newline ? (size_t)(newline - line) : left;
        if (enqueue_add(enqueue, *count, line, size) != 0)
            return -1;
        ++*count;
        *used += newline ? size + 1 : size;
    }
    return 0;
}

/* The lines of every read go out as one batch: a slow writer's lines at once, a file's by
 * thousands. */
static int enqueue_each_line(struct enqueue *enqueue)
{
    struct buf input;
    int status = CLI_OK, more;
    size_t used, count;

    buf_init(&input, 0);
    enqueue->line = 1;
    do {
        more = enqueue_read(&input);
        if (more < 0 || enqueue_lines(enqueue, &input, more == 0, &used, &count) != 0) {
            status = CLI_REFUSED;
            break;
        }
        if (count > 0)
            status = enqueue_send(enqueue, count);
        enqueue->line += count;
        buf_consume(&input, used);
        if (enqueue_too_long(input.size))
            status = CLI_REFUSED;
    } while (more > 0 && status == CLI_OK);
    buf_free(&input);
    return status;
}

static int enqueue_run(struct cli *cli, const struct args *args)
{
    struct enqueue enqueue = {.cli = cli, .queue = args->words[0]};
    bool lines = args_value(args, "lines") != NULL;
    const char *payload = args->word_count > 1 ? args->words[1] : NULL;
    int status;

    if (lines && payload)
        return cli_misused("enqueue: --lines reads standard input and takes no PAYLOAD");
    status = enqueue_headers(&enqueue, args);
    if (status != CLI_OK)
        goto out;
    status = cli_connect(cli);
    if (status != CLI_OK)
        goto out;
    status = CLI_REFUSED;
    if (lines)
        status = enqueue_each_line(&enqueue);
    else if (!payload)
        status = enqueue_whole_input(&enqueue);
    else if (enqueue_add(&enqueue, 0, payload, strlen(payload)) == 0)
        status = enqueue_send(&enqueue, 1);
    if (status == CLI_OK && enqueue.rejected)
        status = CLI_REFUSED;
out:
    free(enqueue.headers);
    free(enqueue.messages);
    free(enqueue.results);
    return status;
}

static const struct args_option enqueue_options[] = {
    {"header", 'H', "KEY=VALUE", "a header of the message; may be repeated", false},
    {"lines", 0, NULL, "send each line of standard input as a message", false},
    {NULL, 0, NULL, NULL, false},
};

const struct args_command cli_enqueue_commands[] = {
    {"enqueue", "QUEUE [PAYLOAD]", 1, 2, "Enqueue a message, from standard input without PAYLOAD",
     enqueue_options, enqueue_run},
    {NULL, NULL, 0, 0, NULL, NULL, NULL},
};
