/*
 * priv - from root to the user the workers run as.
 */
#ifndef FILAD_OS_PRIV_H
#define FILAD_OS_PRIV_H

#include <stdbool.h>
#include <sys/types.h>

#include "core/err.h"

#define PRIV_GROUPS_MAX 64

struct priv {
    uid_t uid;
    gid_t gid;
    unsigned group_count; /* supplementary groups; more than fit are left out */
    gid_t groups[PRIV_GROUPS_MAX];
};

/* Whether this process may change its user. */
bool priv_is_root(void);

/* Looks up a user and a group (NULL or "": the user's own) by name. To be done before forking, so
 * that priv_drop asks no name service. */
int priv_lookup(const char *user, const char *group, struct priv *priv, struct err *err)
    __attribute__((warn_unused_result));

/* Becomes that user for good: groups, group, user, and a check that there is no way back. After a
 * failure the process is in between and must end. */
int priv_drop(const struct priv *priv, struct err *err) __attribute__((warn_unused_result));

#endif
