#define _GNU_SOURCE 1

#include "os/priv.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

#define LOOKUP_START 4096
#define LOOKUP_LIMIT (1u << 20) /* bytes; a group with ten thousand members fits */

bool priv_is_root(void)
{
    return geteuid() == 0;
}

/* Looks up one name with a buffer that grows until it is large enough. 0: found, ENOENT: there is
 * no such name, or another errno value. On success *gid (and *uid for a user) are set. */
static int name_lookup(const char *name, bool is_user, uid_t *uid, gid_t *gid)
{
    for (size_t size = LOOKUP_START; size <= LOOKUP_LIMIT; size *= 4) {
        char *buffer = malloc(size);
        if (!buffer)
            return ENOMEM;
        struct passwd user, *found_user = NULL;
        struct group group, *found_group = NULL;
        int failed = is_user ? getpwnam_r(name, &user, buffer, size, &found_user)
                             : getgrnam_r(name, &group, buffer, size, &found_group);
        if (found_user) {
            *uid = user.pw_uid;
            *gid = user.pw_gid;
        } else if (found_group) {
            *gid = group.gr_gid;
        }
        free(buffer);
        if (found_user || found_group)
            return 0;
        if (failed != ERANGE)
            /* The manual lists these, too, for a name that is not there. */
            return failed == 0 || failed == ESRCH || failed == EBADF || failed == EPERM ? ENOENT
                                                                                        : failed;
    }
    return ERANGE;
}

int priv_lookup(const char *user, const char *group, struct priv *priv, struct err *err)
{
    *priv = (struct priv){0};
    int failed = name_lookup(user, true, &priv->uid, &priv->gid);
    if (failed == ENOENT)
        return err_set(err, ENOENT, "there is no user \"%s\"", user);
    if (failed)
        return err_set_errno(err, failed, "look up user \"%s\"", user);
    if (group && group[0]) {
        failed = name_lookup(group, false, NULL, &priv->gid);
        if (failed == ENOENT)
            return err_set(err, ENOENT, "there is no group \"%s\"", group);
        if (failed)
            return err_set_errno(err, failed, "look up group \"%s\"", group);
    }
    int count = PRIV_GROUPS_MAX;
    if (getgrouplist(user, priv->gid, priv->groups, &count) < 0)
        count = PRIV_GROUPS_MAX;
    priv->group_count = (unsigned)count;
    return 0;
}

int priv_drop(const struct priv *priv, struct err *err)
{
    if (setgroups(priv->group_count, priv->groups) != 0)
        return err_set_errno(err, errno, "set supplementary groups");
    if (setresgid(priv->gid, priv->gid, priv->gid) != 0)
        return err_set_errno(err, errno, "change to group %u", priv->gid);
    if (setresuid(priv->uid, priv->uid, priv->uid) != 0)
        return err_set_errno(err, errno, "change to user %u", priv->uid);

    uid_t real_uid, effective_uid, saved_uid;
    gid_t real_gid, effective_gid, saved_gid;
    if (getresuid(&real_uid, &effective_uid, &saved_uid) != 0 ||
        getresgid(&real_gid, &effective_gid, &saved_gid) != 0)
        return err_set_errno(err, errno, "verify user and group");
    bool changed = real_uid == priv->uid && effective_uid == priv->uid && saved_uid == priv->uid &&
                   real_gid == priv->gid && effective_gid == priv->gid && saved_gid == priv->gid;
    if (!changed || (priv->uid != 0 && setuid(0) == 0))
        return err_set(err, EPERM, "user and group did not change to %u and %u", priv->uid,
                       priv->gid);
    return 0;
}
