#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "config.h"

/* Output that could not be written is a failure, as long as nothing else went wrong. */
static int main_finish_output(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    if (status == CLI_OK)
        fprintf(stderr, "fila: standard output: %s\n", strerror(errno));
    return status == CLI_OK ? CLI_REFUSED : status;
}

static int main_run(const struct args *args)
{
    struct cli cli = {.error = FILA_ERROR_INIT};

    if (args->help) {
        args_help(cli_commands, args);
        return CLI_OK;
    }
    if (args->version) {
        printf("fila %s\n", FILAD_VERSION);
        return CLI_OK;
    }
    const char *key = getenv("FILA_API_KEY");
    if (key && key[0])
        return cli_misused("FILA_API_KEY: not in this build");
    cli.address = args_value(args, "addr");
    if (!cli.address)
        cli.address = getenv("FILA_ADDR");
    if (cli.address && !cli.address[0])
        cli.address = NULL;
    cli.json = args_value(args, "json") != NULL;

    int status = args->command->run(&cli, args);
    fila_close(cli.client);
    fila_error_clear(&cli.error);
    return status;
}

int main(int argc, char **argv)
{
    struct args args;
    int status = args_parse(&args, cli_commands, argc, argv);
    if (status == CLI_OK)
        status = main_run(&args);
    args_free(&args);
    return main_finish_output(status);
}
