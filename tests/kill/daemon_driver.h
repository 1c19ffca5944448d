/*
 * daemon_driver - the real filad on a temporary store.
 */
#ifndef FILAD_KILL_DAEMON_DRIVER_H
#define FILAD_KILL_DAEMON_DRIVER_H

#include <stdbool.h>
#include <stdio.h>

#include "kill/driver.h"

/* How connections are made: by the tests' own wire client, by libfila, or by turns. */
enum daemon_client { DAEMON_CLIENT_MIXED, DAEMON_CLIENT_WIRE, DAEMON_CLIENT_LIBRARY };

struct daemon_options {
    const char *filad;     /* path of the program; NULL: $FILAD or objs/filad */
    const char *directory; /* where the store's directory is made; NULL: $TMPDIR */
    unsigned workers;
    const char *extra; /* more lines for the configuration; may be NULL */
    enum daemon_client client;
};

struct driver *daemon_driver_create(const struct daemon_options *options, struct err *err);
/* Ends what is left of the broker. `keep`: its directory stays. */
void daemon_driver_destroy(struct driver *driver, bool keep);

/* The directory with store, configuration, log and output. */
const char *daemon_driver_directory(const struct driver *driver);
/* Prints the end of log and output. */
void daemon_driver_print_log(const struct driver *driver, FILE *out);

#endif
