/* fila queue peek, fila dlq list */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/message.h"
#include "cli/output.h"
#include "core/str.h"
#include "os/time.h"

#define PEEK_DEFAULT 10u
#define PEEK_PAGE 1000u
#define TEXT_PAYLOAD 60u /* bytes of a payload in a table */
#define JSON_PAYLOAD 65536u

static const char *const state_names[] = {
    [FILA_PEEK_READY] = "ready", [FILA_PEEK_LEASED] = "leased",   [FILA_PEEK_DELAYED] = "delayed",
    [FILA_PEEK_HELD] = "held",   [FILA_PEEK_UNKNOWN] = "unknown",
};

/* "12s", "3m", "5h", "9d" between two times. */
static void print_span(FILE *file, uint64_t from_ms, uint64_t to_ms)
{
    uint64_t seconds = to_ms > from_ms ? (to_ms - from_ms) / 1000 : 0;
    if (seconds < 120)
        fprintf(file, "%" PRIu64 "s", seconds);
    else if (seconds < 7200)
        fprintf(file, "%" PRIu64 "m", seconds / 60);
    else if (seconds < 172800)
        fprintf(file, "%" PRIu64 "h", seconds / 3600);
    else
        fprintf(file, "%" PRIu64 "d", seconds / 86400);
}

/* Bytes of others: text as output_safe shows it, a NUL too. */
static void print_bytes(FILE *file, struct fila_slice bytes)
{
    const char *at = bytes.data;
    for (size_t i = 0; i < bytes.size; i++) {
        char one[2] = {at[i], '\0'};
        if (at[i])
            output_safe(file, one, 0);
        else
            fputs("\\x00", file);
    }
}

static void print_lines(const struct fila_peeked *peeked)
{
    const struct fila_delivery *message = peeked->message;
    uint64_t now_ms = time_wall_ms();
    print_bytes(stdout, message->id);
    printf("  %-7s", state_names[peeked->state]);
    if (peeked->when_ms) {
        printf(" for ");
        print_span(stdout, now_ms, peeked->when_ms);
    }
    printf("  age ");
    print_span(stdout, message->enqueued_ms, now_ms);
    printf("  attempt %" PRIu32 "  weight %" PRIu32, message->attempt, message->weight);
    if (message->fairness_key.size) {
        printf("  key ");
        print_bytes(stdout, message->fairness_key);
    }
    for (size_t i = 0; i < message->throttle_key_count; i++) {
        printf(i ? "," : "  throttle ");
        print_bytes(stdout, message->throttle_keys[i]);
    }
    printf("\n");
    if (peeked->is_dead) {
        printf("    dead-lettered from \"");
        output_safe(stdout, peeked->origin, 0);
        printf("\" ");
        print_span(stdout, peeked->dead_ms, now_ms);
        printf(" ago: ");
        output_safe(stdout, peeked->reason, 0);
        printf("\n");
    }
    for (size_t i = 0; i < message->header_count; i++) {
        printf("    ");
        print_bytes(stdout, message->headers[i].name);
        printf(": ");
        print_bytes(stdout, message->headers[i].value);
        printf("\n");
    }
    if (peeked->headers_cut)
        printf("    ... more headers\n");
    printf("    %" PRIu64 " byte%s", peeked->payload_size, peeked->payload_size == 1 ? "" : "s");
    if (message->payload.size) {
        printf(": ");
        print_bytes(stdout, message->payload);
        if (message->payload.size < peeked->payload_size)
            printf(" ...");
    }
    printf("\n");
}

static void print_json(const struct fila_peeked *peeked)
{
    const struct fila_delivery *message = peeked->message;
    struct output_json json;
    output_json_init(&json, stdout);
    output_object(&json, NULL);
    output_text(&json, "id", message->id.data, message->id.size);
    output_c_text(&json, "state", state_names[peeked->state]);
    output_unsigned(&json, "until_ms", peeked->when_ms);
    message_headers(&json, message);
    output_bool(&json, "headers_cut", peeked->headers_cut);
    output_bytes(&json, "payload", message->payload.data, message->payload.size);
    output_unsigned(&json, "payload_size", peeked->payload_size);
    output_text(&json, "fairness_key", message->fairness_key.data, message->fairness_key.size);
    output_unsigned(&json, "weight", message->weight);
    message_throttle_keys(&json, message);
    output_unsigned(&json, "attempt", message->attempt);
    output_unsigned(&json, "enqueued_ms", message->enqueued_ms);
    if (peeked->is_dead) {
        output_object(&json, "dead_letter");
        output_unsigned(&json, "time_ms", peeked->dead_ms);
        output_c_text(&json, "reason", peeked->reason);
        output_c_text(&json, "origin", peeked->origin);
        output_object_end(&json);
    }
    output_object_end(&json);
    output_line(&json);
}

static int queue_peek(struct cli *cli, const struct args *args)
{
    const char *name = args->words[0];
    uint64_t left = PEEK_DEFAULT;
    struct fila_peek_page *page = NULL;
    struct fila_peek_options options = {.fairness_key = args_value(args, "key"),
                                        .payload_max = cli->json ? JSON_PAYLOAD : TEXT_PAYLOAD};

    if (!args_number(args, "count", &left))
        return CLI_USAGE;
    if (left == 0)
        return cli_misused("queue peek: --count must be at least 1");
    int status = cli_connect(cli);
    while (status == CLI_OK && left > 0 && (!page || page->more)) {
        options.count = left < PEEK_PAGE ? (uint32_t)left : PEEK_PAGE;
        struct fila_peek_page *next =
            fila_queue_peek(cli->client, name, &options, page, &cli->error);
        fila_peek_page_free(page);
        page = next;
        if (!page) {
            status = cli_failed(cli, "peek into queue \"%s\"", name);
            break;
        }
        for (size_t i = 0; i < page->count; i++)
            (cli->json ? print_json : print_lines)(&page->messages[i]);
        left -= page->count;
    }
    fila_peek_page_free(page);
    return status;
}

/* --- dead-letter queues --- */

static bool is_dlq(const char *name)
{
    return str_ends_with(str_from_c(name), STR(".dlq"));
}

static bool has_queue(const struct fila_queue_list *list, const char *name, size_t size)
{
    for (size_t i = 0; i < list->count; i++)
        if (strlen(list->queues[i].name) == size && memcmp(list->queues[i].name, name, size) == 0)
            return true;
    return false;
}

/* The oldest message of a dead-letter queue; NULL when it is empty, or the broker has no peek. */
static struct fila_peek_page *oldest(struct cli *cli, const struct fila_queue_info *queue)
{
    struct fila_peek_options options = {.count = 1};
    if (!queue->depth || queue->quarantined)
        return NULL;
    struct fila_peek_page *page =
        fila_queue_peek(cli->client, queue->name, &options, NULL, &cli->error);
    if (page && page->count)
        return page;
    fila_peek_page_free(page);
    return NULL;
}

static void dlq_json(struct output_json *json, const struct fila_queue_info *queue,
                     size_t parent_size, bool has_parent, const struct fila_peeked *first)
{
    output_object(json, NULL);
    output_c_text(json, "name", queue->name);
    if (has_parent)
        output_text(json, "parent", queue->name, parent_size);
    else
        output_null(json, "parent");
    output_unsigned(json, "depth", queue->depth);
    output_unsigned(json, "in_flight", queue->in_flight);
    if (first && first->is_dead) {
        output_unsigned(json, "oldest_ms", first->dead_ms);
        output_c_text(json, "oldest_reason", first->reason);
    } else if (first) {
        output_unsigned(json, "oldest_ms", first->message->enqueued_ms);
    }
    output_object_end(json);
}

static void dlq_line(const struct fila_queue_info *queue, bool has_parent, size_t width,
                     const struct fila_peeked *first)
{
    output_safe(stdout, queue->name, width);
    printf("  %7" PRIu64 "  %9" PRIu64 "  %s", queue->depth, queue->in_flight,
           has_parent ? "yes" : "no");
    if (first) {
        printf("%*s", has_parent ? 5 : 6, "");
        print_span(stdout, first->is_dead ? first->dead_ms : first->message->enqueued_ms,
                   time_wall_ms());
        printf(" ago");
        if (first->is_dead) {
            printf(": ");
            output_safe(stdout, first->reason, 0);
        }
    }
    printf("\n");
}

static int dlq_list(struct cli *cli, const struct args *args)
{
    struct output_json json;
    size_t width = 4;
    (void)args;
    int status = cli_connect(cli);
    if (status != CLI_OK)
        return status;
    struct fila_queue_list *list = fila_queue_list(cli->client, &cli->error);
    if (!list)
        return cli_failed(cli, "list queues");
    for (size_t i = 0; i < list->count; i++)
        if (is_dlq(list->queues[i].name))
            width = output_safe_widest(width, list->queues[i].name);
    output_json_init(&json, stdout);
    if (cli->json) {
        output_object(&json, NULL);
        output_array(&json, "dead_letter_queues");
    } else {
        output_safe(stdout, "NAME", width);
        printf("  %7s  %9s  %s  %s\n", "DEPTH", "IN_FLIGHT", "PARENT", "OLDEST");
    }
    for (size_t i = 0; i < list->count; i++) {
        const struct fila_queue_info *queue = &list->queues[i];
        size_t parent = strlen(queue->name) - 4;
        if (!is_dlq(queue->name))
            continue;
        struct fila_peek_page *page = oldest(cli, queue);
        const struct fila_peeked *first = page ? page->messages : NULL;
        if (cli->json)
            dlq_json(&json, queue, parent, has_queue(list, queue->name, parent), first);
        else
            dlq_line(queue, has_queue(list, queue->name, parent), width, first);
        fila_peek_page_free(page);
    }
    if (cli->json) {
        output_array_end(&json);
        output_object_end(&json);
        output_line(&json);
    }
    fila_queue_list_free(list);
    return CLI_OK;
}

static const struct args_option peek_options[] = {
    {"count", 'n', "N", "how many messages (10)", false},
    {"key", 'k', "K", "only messages of this fairness key", false},
    {NULL, 0, NULL, NULL, false},
};

const struct args_command cli_peek_commands[] = {
    {"queue peek", "NAME", 1, 1, "Show messages without leasing them", peek_options, queue_peek},
    {"dlq list", "", 0, 0, "List dead-letter queues", NULL, dlq_list},
    {NULL, NULL, 0, 0, NULL, NULL, NULL},
};
