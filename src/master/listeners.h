/*
 * listeners - the listening sockets of a configuration, opened by the master and inherited by its
 * workers.
 */
#ifndef FILAD_MASTER_LISTENERS_H
#define FILAD_MASTER_LISTENERS_H

#include <stddef.h>

#include "conf/conf.h"
#include "core/err.h"

struct listeners {
    size_t count; /* conf->listen_count of its configuration */
    int *fds;     /* in the order of conf->listen; owned */
};

/* Opens a socket for each address of `conf`; with `old` (of `old_conf`, else both NULL) those of an
 * unchanged address are taken over as the same descriptors. -1 with the address in the error,
 * nothing left open that was not before. */
int listeners_open(struct listeners *listeners, const struct conf *conf,
                   const struct listeners *old, const struct conf *old_conf, struct err *err)
    __attribute__((warn_unused_result));

/* Closes the sockets, but for those that `keep` (NULL: none) has too, and removes the files of unix
 * ones. */
void listeners_close(struct listeners *listeners, const struct conf *conf,
                     const struct listeners *keep);

/* Gives the sockets the backlog of the configuration: taken over ones may have another. */
void listeners_set_backlog(const struct listeners *listeners, const struct conf *conf);

/* In a child: closes the descriptors (but for those of `keep`) and removes nothing. */
void listeners_forget(const struct listeners *listeners, const struct listeners *keep);

#endif
