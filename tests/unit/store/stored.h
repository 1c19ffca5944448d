/*
 * stored - an empty environment in a temporary directory, as a test's cmocka state.
 */
#ifndef FILAD_TESTS_STORE_STORED_H
#define FILAD_TESTS_STORE_STORED_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/calls.h"
#include "store/env.h"

struct stored {
    char path[64], regions[80];
    struct env *env;
};

static inline struct env *stored_env(const struct stored *stored, bool recover)
{
    struct err err = {0};
    struct env_options options = {.path = stored->path,
                                  .regions = stored->regions,
                                  .cache_size = 8u << 20,
                                  .recover = recover};
    struct env *env = env_open(&options, &err);
    if (!env)
        fail_msg("%s", err.text);
    return env;
}

static inline int stored_setup(void **state)
{
    static const char *const names[] = {"regions", "log", "queues"};
    char path[96];
    struct stored *stored = calloc(1, sizeof(*stored));
    snprintf(stored->path, sizeof(stored->path), "/tmp/filad-store-XXXXXX");
    if (!mkdtemp(stored->path))
        return -1;
    snprintf(stored->regions, sizeof(stored->regions), "%s/regions", stored->path);
    for (unsigned i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/%s", stored->path, names[i]);
        if (mkdir(path, 0700) != 0)
            return -1;
    }
    stored->env = stored_env(stored, true);
    *state = stored;
    return 0;
}

static inline int stored_teardown(void **state)
{
    struct stored *stored = *state;
    char command[128];
    os_calls_reset();
    if (stored->env)
        (void)env_close(stored->env);
    snprintf(command, sizeof(command), "rm -rf %s", stored->path);
    int status = system(command);
    free(stored);
    return status;
}

#endif
