/*
 * regions - the directory of the environment's region files. It belongs on tmpfs: on a disk file
 * system the kernel writes the whole cache back again and again.
 */
#ifndef FILAD_MASTER_REGIONS_H
#define FILAD_MASTER_REGIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/conf.h"
#include "core/err.h"
#include "os/priv.h"

/* Chooses and makes the directory (mode 0700, of the user that the workers run as): store.regions,
 * or one below the run-time directory where that is tmpfs, or one in /dev/shm, or one beside the
 * data with a warning in the log. store.path must exist. `root`: this process may give files away.
 */
int regions_resolve(const struct conf *conf, const struct priv *priv, bool root, char *path,
                    size_t size, struct err *err) __attribute__((warn_unused_result));

/* Makes it anew when it has been removed meanwhile. */
int regions_ensure(const char *path, const struct priv *priv, struct err *err)
    __attribute__((warn_unused_result));

/* Gives the memory back once no process has the environment open: the next start makes the files
 * anew. The directory goes too, unless the configuration names it. Not `clean`: the pages that
 * store/page_guard.h keeps for the next recovery stay, and the directory with them. */
void regions_remove(const struct conf *conf, const char *path, bool clean);

#endif
