/*
 * place - where the temporary stores live: a directory on a disk for data, one in memory for what
 * Berkeley DB shares between processes.
 */
#ifndef FILAD_BENCH_PLACE_H
#define FILAD_BENCH_PLACE_H

#include <limits.h>
#include <stdbool.h>

#include "core/err.h"

struct place {
    char data[PATH_MAX - 256]; /* absolute; made by place_open */
    char regions[64];          /* under /dev/shm; empty when that cannot be used */
    char filesystem[128];      /* of `data`: "ext4 on /dev/vda" */
    bool in_memory;            /* `data` is on a file system without a disk: figures say nothing */
};

/* Makes both directories, the first below `directory` (NULL: TMPDIR, the present directory or
 * /var/tmp, the first that is on a disk). */
int place_open(struct place *place, const char *directory, struct err *err)
    __attribute__((warn_unused_result));

/* Makes data/NAME and regions/NAME, empty; what was there before goes. The paths, of PATH_MAX bytes
 * each, are returned. Without /dev/shm both lie beside each other on the disk. */
int place_make(const struct place *place, const char *name, char *data, char *regions,
               struct err *err) __attribute__((warn_unused_result));

/* Removes what place_make made. */
void place_remove(const struct place *place, const char *name);

/* Removes everything, or only what is in memory when `keep`. */
void place_close(struct place *place, bool keep);

#endif
