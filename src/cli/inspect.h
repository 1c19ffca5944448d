/*
 * inspect - fila queue inspect.
 */
#ifndef FILAD_CLI_INSPECT_H
#define FILAD_CLI_INSPECT_H

#include "cli/cli.h"

/* Words for numbers of a queue that are not what they seem, and for one at rest, after `before`. */
void inspect_say_state(unsigned percent, bool quarantined, bool paused, const char *before);

int inspect_run(struct cli *cli, const struct args *args);

#endif
