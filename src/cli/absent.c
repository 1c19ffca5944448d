/* Commands of fila that this build knows by name only. */
#include "cli/cli.h"

const struct args_command cli_absent_commands[] = {
    {"auth create", "", 0, 0, "", NULL, NULL},  {"auth revoke", "", 0, 0, "", NULL, NULL},
    {"auth list", "", 0, 0, "", NULL, NULL},    {"auth acl set", "", 0, 0, "", NULL, NULL},
    {"auth acl get", "", 0, 0, "", NULL, NULL}, {"auth", "", 0, 0, "", NULL, NULL},
    {NULL, NULL, 0, 0, NULL, NULL, NULL},
};
