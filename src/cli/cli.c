#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/output.h"

#define CLI_WHAT_SIZE 2048 /* keys of the configuration have up to 1,024 bytes */

const struct args_command *const cli_commands[] = {
    cli_queue_commands,
    cli_settings_commands,
    cli_enqueue_commands,
    cli_consume_commands,
    cli_settle_commands,
    cli_config_commands,
    cli_messages_commands,
    cli_peek_commands,
    cli_top_commands,
    cli_absent_commands,
    NULL,
};

int cli_connect(struct cli *cli)
{
    struct fila_options options;
    fila_options_init(&options);
    options.address = cli->address;
    options.max_message_size = CLI_MESSAGE_MAX; /* the broker has a limit of its own */
    if (cli->request_timeout_ms)
        options.request_timeout_ms = cli->request_timeout_ms;
    cli->client = fila_connect(&options, &cli->error);
    if (cli->client)
        return CLI_OK;
    fprintf(stderr, "fila: %s\n", cli->error.text); /* it names the address */
    return cli->error.code == FILA_USAGE ? CLI_USAGE : CLI_REFUSED;
}

/* Brokers may end "queue not found" with the name that `what` has in quotes: once is enough. */
static void cli_cut_name(struct fila_error *error, const char *what)
{
    char *end = error->code == FILA_QUEUE_NOT_FOUND ? strstr(error->text, ": ") : NULL;
    const char *quote = end ? strchr(what, '"') : NULL;
    size_t size = end ? strlen(end + 2) : 0;

    if (quote && size && strncmp(quote + 1, end + 2, size) == 0 && quote[1 + size] == '"')
        *end = '\0';
}

int cli_failed(struct cli *cli, const char *format, ...)
{
    char what[CLI_WHAT_SIZE];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    cli_cut_name(&cli->error, what);
    /* So that the lines come in the order in which things happened. */
    fflush(stdout);
    fprintf(stderr, "fila: %s: ", what);
    output_safe(stderr, cli->error.text, 0); /* it may be a peer's */
    fputc('\n', stderr);
    return CLI_REFUSED;
}

int cli_misused(const char *format, ...)
{
    va_list args;
    fputs("fila: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return CLI_USAGE;
}

void cli_say_queue(const struct cli *cli, const char *done, const char *name)
{
    struct output_json json;
    if (!cli->json) {
        printf("%s queue \"", done);
        output_safe(stdout, name, 0);
        printf("\"\n");
        return;
    }
    output_json_init(&json, stdout);
    output_object(&json, NULL);
    output_c_text(&json, "queue", name);
    output_object_end(&json);
    output_line(&json);
}
