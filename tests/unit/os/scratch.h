/*
 * scratch - a temporary directory for a test, as its cmocka state.
 */
#ifndef FILAD_TESTS_UNIT_OS_SCRATCH_H
#define FILAD_TESTS_UNIT_OS_SCRATCH_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct scratch {
    char dir[32];
    char path[96]; /* of the last scratch_path */
};

static inline int scratch_setup(void **state)
{
    struct scratch *scratch = calloc(1, sizeof(*scratch));
    strcpy(scratch->dir, "/tmp/filad-test-XXXXXX");
    *state = scratch;
    return mkdtemp(scratch->dir) ? 0 : -1;
}

static inline int scratch_remove_one(const char *path, const struct stat *st, int type,
                                     struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline int scratch_teardown(void **state)
{
    struct scratch *scratch = *state;
    int result = nftw(scratch->dir, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(scratch);
    return result;
}

/* The path of `name` in the directory; valid until the next call. */
static inline const char *scratch_path(struct scratch *scratch, const char *name)
{
    snprintf(scratch->path, sizeof(scratch->path), "%s/%s", scratch->dir, name);
    return scratch->path;
}

/* Runs body(argument) in a child; its return value, or 256 + the signal that ended it. */
static inline int scratch_fork(int (*body)(void *argument), void *argument)
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(body(argument));
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status);
}

#endif
