/* fila config set, get, list */
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/output.h"

/* "key" and "value" of a JSON object; a key that is not set has the value null. */
static void config_json(struct output_json *json, const char *key, const char *value)
{
    output_object(json, NULL);
    output_c_text(json, "key", key);
    if (value[0])
        output_c_text(json, "value", value);
    else
        output_null(json, "value");
    output_object_end(json);
}

static void config_json_line(const char *key, const char *value)
{
    struct output_json json;
    output_json_init(&json, stdout);
    config_json(&json, key, value);
    output_line(&json);
}

static int config_set(struct cli *cli, const struct args *args)
{
    const char *key = args->words[0], *value = args->words[1];
    int status = cli_connect(cli);
    if (status != CLI_OK)
        return status;
    if (fila_config_set(cli->client, key, value, &cli->error) != 0)
        return cli_failed(cli, "set \"%s\"", key);
    if (cli->json) {
        config_json_line(key, value);
        return CLI_OK;
    }
    printf("Set \"");
    output_safe(stdout, key, 0);
    printf("\" = \"");
    output_safe(stdout, value, 0);
    printf("\"\n");
    return CLI_OK;
}

static int config_get(struct cli *cli, const struct args *args)
{
    const char *key = args->words[0];
    char *value = NULL;
    int status = cli_connect(cli);
    if (status != CLI_OK)
        return status;
    if (fila_config_get(cli->client, key, &value, &cli->error) != 0)
        return cli_failed(cli, "get \"%s\"", key);
    if (cli->json) {
        config_json_line(key, value);
    } else {
        output_safe(stdout, key, 0);
        printf(": ");
        output_safe(stdout, value[0] ? value : "(not set)", 0);
        printf("\n");
    }
    free(value);
    return CLI_OK;
}

static void config_list_json(const struct fila_config_list *list)
{
    struct output_json json;
    output_json_init(&json, stdout);
    output_object(&json, NULL);
    output_array(&json, "entries");
    for (size_t i = 0; i < list->count; i++)
        config_json(&json, list->entries[i].key, list->entries[i].value);
    output_array_end(&json);
    output_object_end(&json);
    output_line(&json);
}

static void config_list_table(const struct fila_config_list *list, const char *prefix)
{
    size_t width = 3;
    if (list->count == 0 && prefix[0]) {
        printf("No config entries matching prefix \"");
        output_safe(stdout, prefix, 0);
        printf("\".\n");
        return;
    }
    if (list->count == 0) {
        printf("No config entries found.\n");
        return;
    }
    for (size_t i = 0; i < list->count; i++)
        width = output_safe_widest(width, list->entries[i].key);
    output_safe(stdout, "KEY", width);
    printf("  VALUE\n");
    for (size_t i = 0; i < list->count; i++) {
        output_safe(stdout, list->entries[i].key, width);
        printf("  ");
        output_safe(stdout, list->entries[i].value, 0);
        printf("\n");
    }
}

static int config_list(struct cli *cli, const struct args *args)
{
    const char *prefix = args_value(args, "prefix");
    if (!prefix)
        prefix = "";
    int status = cli_connect(cli);
    if (status != CLI_OK)
        return status;
    struct fila_config_list *list = fila_config_list(cli->client, prefix, &cli->error);
    if (!list)
        return cli_failed(cli, "list the configuration");
    if (cli->json)
        config_list_json(list);
    else
        config_list_table(list, prefix);
    fila_config_list_free(list);
    return CLI_OK;
}

static const struct args_option config_list_options[] = {
    {"prefix", 0, "P", "only keys that begin with P", false},
    {NULL, 0, NULL, NULL, false},
};

const struct args_command cli_config_commands[] = {
    {"config set", "KEY VALUE", 2, 2, "Set a key of the runtime configuration; \"\" removes it",
     NULL, config_set},
    {"config get", "KEY", 1, 1, "Show the value of a key", NULL, config_get},
    {"config list", "", 0, 0, "List keys and values", config_list_options, config_list},
    {NULL, NULL, 0, 0, NULL, NULL, NULL},
};
