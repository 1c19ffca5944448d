/*
 * cli - what the commands of fila share: the connection, complaints, exit statuses.
 */
#ifndef FILAD_CLI_CLI_H
#define FILAD_CLI_CLI_H

#include <stdbool.h>

#include "cli/args.h"
#include "fila.h"

enum cli_status {
    CLI_OK = 0,
    CLI_REFUSED = 1, /* the broker or the network said no */
    CLI_USAGE = 2,
};

/* The largest message that any broker can be told to take. */
#define CLI_MESSAGE_MAX (1024u * 1024 * 1024)

struct cli {
    const char *address; /* NULL: the library's default */
    bool json;
    uint64_t request_timeout_ms; /* before cli_connect(); 0: the library's default */
    struct fila *client;         /* after cli_connect() */
    struct fila_error error;     /* for the calls of a command; freed at the end */
};

/* One table for each group of commands; each ends with NULL words. */
extern const struct args_command cli_queue_commands[];
extern const struct args_command cli_enqueue_commands[];
extern const struct args_command cli_consume_commands[];
extern const struct args_command cli_settle_commands[];
extern const struct args_command cli_settings_commands[];
extern const struct args_command cli_config_commands[];
extern const struct args_command cli_messages_commands[];
extern const struct args_command cli_peek_commands[];
extern const struct args_command cli_top_commands[];
extern const struct args_command cli_absent_commands[];

extern const struct args_command *const cli_commands[]; /* ends with NULL */

/* Connects. CLI_OK, or after a complaint CLI_USAGE for an address that is none, else CLI_REFUSED.
 */
int cli_connect(struct cli *cli);

/* What a command has `done` to a queue: "Created queue "q"", or an object with its name. */
void cli_say_queue(const struct cli *cli, const char *done, const char *name);

/* "fila: what: reason" from cli->error on standard error; returns CLI_REFUSED. */
int cli_failed(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A complaint about the command line that the tables cannot make; returns CLI_USAGE. */
int cli_misused(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
