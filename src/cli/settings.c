/* fila queue update, pause, resume, settings */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/output.h"
#include "cli/script.h"

static int settings_update(struct cli *cli, const struct args *args)
{
    struct fila_queue_changes changes = {.on_enqueue = NULL};
    uint64_t timeout_ms = 0, attempts = 0;
    uint32_t max_attempts;
    char *on_enqueue = NULL, *on_failure = NULL;
    const char *name = args->words[0];
    bool headers = args_value(args, "dead-letter-headers") != NULL;
    int status = CLI_USAGE;

    if (headers && args_value(args, "no-dead-letter-headers"))
        return cli_misused(
            "queue update: --dead-letter-headers and --no-dead-letter-headers exclude each other");
    if (!args_number(args, "visibility-timeout", &timeout_ms) ||
        !script_attempts_option(args, &attempts) ||
        !script_option(args, "on-enqueue", &on_enqueue) ||
        !script_option(args, "on-failure", &on_failure))
        goto out;
    max_attempts = (uint32_t)attempts;
    changes.on_enqueue = on_enqueue;
    changes.on_failure = on_failure;
    if (args_value(args, "visibility-timeout"))
        changes.visibility_timeout_ms = &timeout_ms;
    if (args_value(args, "max-attempts"))
        changes.max_attempts = &max_attempts;
    if (headers || args_value(args, "no-dead-letter-headers"))
        changes.dead_letter_headers = &headers;
    if (!changes.on_enqueue && !changes.on_failure && !changes.visibility_timeout_ms &&
        !changes.max_attempts && !changes.dead_letter_headers) {
        status = cli_misused("queue update: nothing to change; see 'fila queue update --help'");
        goto out;
    }
    status = cli_connect(cli);
    if (status != CLI_OK)
        goto out;
    status = CLI_OK;
    if (fila_queue_update(cli->client, name, &changes, &cli->error) != 0)
        status = cli_failed(cli, "update queue \"%s\"", name);
    else
        cli_say_queue(cli, "Updated", name);
out:
    free(on_enqueue);
    free(on_failure);
    return status;
}

static int settings_set_paused(struct cli *cli, const char *name, bool paused)
{
    int status = cli_connect(cli);
    if (status != CLI_OK)
        return status;
    if (fila_queue_pause(cli->client, name, paused, &cli->error) != 0)
        return cli_failed(cli, "%s queue \"%s\"", paused ? "pause" : "resume", name);
    cli_say_queue(cli, paused ? "Paused" : "Resumed", name);
    return CLI_OK;
}

static int settings_pause(struct cli *cli, const struct args *args)
{
    return settings_set_paused(cli, args->words[0], true);
}

static int settings_resume(struct cli *cli, const struct args *args)
{
    return settings_set_paused(cli, args->words[0], false);
}

static void settings_show_json(const char *name, const struct fila_queue_settings *settings)
{
    struct output_json json;
    output_json_init(&json, stdout);
    output_object(&json, NULL);
    output_c_text(&json, "queue", name);
    output_unsigned(&json, "visibility_timeout_ms", settings->visibility_timeout_ms);
    output_unsigned(&json, "max_attempts", settings->max_attempts);
    output_bool(&json, "dead_letter_headers", settings->dead_letter_headers);
    output_bool(&json, "paused", settings->paused);
    output_unsigned(&json, "created_ms", settings->created_ms);
    output_unsigned(&json, "version", settings->version);
    output_c_text(&json, "on_enqueue", settings->on_enqueue);
    output_c_text(&json, "on_failure", settings->on_failure);
    output_object_end(&json);
    output_line(&json);
}

/* A script below its name, as it is but for control characters. */
static void settings_show_script(const char *name, const char *source)
{
    if (!source[0])
        return;
    printf("  %s:\n", name);
    while (*source) {
        size_t size = strcspn(source, "\n");
        char *line = strndup(source, size);
        printf("    ");
        output_safe(stdout, line ? line : "", 0);
        printf("\n");
        free(line);
        source += size + (source[size] == '\n');
    }
}

static void settings_show_text(const char *name, const struct fila_queue_settings *settings)
{
    printf("Queue: ");
    output_safe(stdout, name, 0);
    printf("\n  %-22s%" PRIu64 " ms\n", "Visibility timeout:", settings->visibility_timeout_ms);
    if (settings->max_attempts)
        printf("  %-22s%" PRIu32 "\n", "Maximum attempts:", settings->max_attempts);
    else
        printf("  %-22s%s\n", "Maximum attempts:", "no limit");
    printf("  %-22s%s\n", "Dead-letter headers:", settings->dead_letter_headers ? "on" : "off");
    printf("  %-22s%s\n", "Paused:", settings->paused ? "yes" : "no");
    settings_show_script("on_enqueue", settings->on_enqueue);
    settings_show_script("on_failure", settings->on_failure);
}

static int settings_show(struct cli *cli, const struct args *args)
{
    const char *name = args->words[0];
    int status = cli_connect(cli);
    if (status != CLI_OK)
        return status;
    struct fila_queue_settings *settings = fila_queue_settings(cli->client, name, &cli->error);
    if (!settings)
        return cli_failed(cli, "read the settings of queue \"%s\"", name);
    if (cli->json)
        settings_show_json(name, settings);
    else
        settings_show_text(name, settings);
    fila_queue_settings_free(settings);
    return CLI_OK;
}

static const struct args_option settings_update_options[] = {
    {"on-enqueue", 0, "S", "Lua script run for each message; S is source or @FILE, \"\" removes it",
     false},
    {"on-failure", 0, "S", "Lua script run for each nack; the same", false},
    {"visibility-timeout", 0, "MS", "how long a message that is delivered from now on stays leased",
     false},
    {"max-attempts", 0, "N", "a message that failed N times goes to the dead-letter queue; 0: none",
     false},
    {"dead-letter-headers", 0, NULL, "dead letters are delivered with why they are dead", false},
    {"no-dead-letter-headers", 0, NULL, "dead letters are delivered as they were", false},
    {NULL, 0, NULL, NULL, false},
};

const struct args_command cli_settings_commands[] = {
    {"queue update", "NAME", 1, 1, "Change settings of a queue", settings_update_options,
     settings_update},
    {"queue pause", "NAME", 1, 1, "Stop the delivery of a queue; producers go on", NULL,
     settings_pause},
    {"queue resume", "NAME", 1, 1, "Let a paused queue deliver again", NULL, settings_resume},
    {"queue settings", "NAME", 1, 1, "Show the settings of a queue", NULL, settings_show},
    {NULL, NULL, 0, 0, NULL, NULL, NULL},
};
